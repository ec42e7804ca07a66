"""Images that were made to cost memory or time: each is decoded quickly, or refused with the reason."""

import struct
import time
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ordclust_ray.data import images
from ordclust_ray.data.images import BrokenImageError, decode, decode_batch, format_and_size, require_whole

MANY = 50_000_000


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(before_pixels: bytes = b"", width: int = 8, height: int = 8) -> bytes:
    """A black grey image, with chunks before its pixels."""
    pixels = zlib.compress(bytes((width + 1) * height))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + before_pixels + chunk(b"IDAT", pixels) + chunk(b"IEND")


def jpeg_of_scans(scans: int, side: int = 2_000) -> bytes:
    """A progressive JPEG whose last scan, of a few bytes, comes again and again: each goes over all pixels."""
    whole = encoded(Image.new("L", (side, side)), "JPEG", progressive=True)
    return whole[:-2] + whole[whole.rindex(b"\xff\xda") : -2] * scans + whole[-2:]


def gif_of_frames(frames: int) -> bytes:
    whole = encoded(Image.new("P", (8, 8)), "GIF")
    start = 13 + 3 * 2 ** ((whole[10] & 7) + 1)
    return whole[:start] + whole[start:-1] * frames + whole[-1:]


def tiff_of_tags(tags: int, size: int) -> bytes:
    """A grey image, and tags that all claim the same bytes."""
    own = encoded(Image.new("L", (8, 8)), "TIFF")
    (first,) = struct.unpack_from("<I", own, 4)
    (count,) = struct.unpack_from("<H", own, first)
    entries = own[first + 2 : first + 2 + 12 * count]
    more = b"".join(struct.pack("<HHII", 40_000 + tag, 7, size, 0) for tag in range(tags))
    directory = struct.pack("<H", count + tags) + entries + more + bytes(4)
    return own[:4] + struct.pack("<I", len(own) + size) + own[8:] + bytes(size) + directory


def bmp_of_lines(width: int, lines: int) -> bytes:
    """Run-length encoded; each line is a pixel and "end of line"."""
    data = b"\1\1\0\0" * lines
    info = struct.pack("<IiiHHIIiiII", 40, width, lines, 1, 8, 1, len(data), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 1078 + len(data), 0, 0, 1078) + info + bytes(1024) + data


def jpeg_2000() -> bytes:
    """64 bytes that claim 7000 x 7000 pixels in blocks of one pixel each, which takes 80 GB."""
    sizes = struct.pack(">HIIIIIIIIH", 0, 7000, 7000, 0, 0, 7000, 7000, 0, 0, 1) + bytes((7, 1, 1))
    style = bytes((1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0))
    parts = [(b"\xff\x51", sizes), (b"\xff\x52", style)]
    return b"\xff\x4f" + b"".join(kind + struct.pack(">H", len(part) + 2) + part for kind, part in parts)


@pytest.fixture
def half_a_second(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The same clock with less on it, so that tests need not wait for the real ten seconds."""
    monkeypatch.setattr(images, "MOST_SECONDS", 0.5)
    start = time.thread_time()
    yield
    assert time.thread_time() - start < 6, "the clock was not looked at often enough"


SLOW = {
    "scans of a progressive JPEG": lambda: jpeg_of_scans(3_000),
    "chunks of a PNG": lambda: png(chunk(b"abCd") * 600_000),
    "colour profiles of a PNG": lambda: png(chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(2**20))) * 2_000),
    "pixels of a PPM in words": lambda: b"P3 2000 1000 255\n" + b"1 " * 6_000_000,
}


@pytest.mark.parametrize("kind", SLOW)
def test_what_takes_too_long_is_broken(kind: str, half_a_second: None) -> None:
    with pytest.raises(BrokenImageError, match=r"^takes more than 0.5 s to decode$"):
        decode(SLOW[kind](), 16, MANY)


def test_checking_alone_is_limited_too(half_a_second: None) -> None:
    with pytest.raises(BrokenImageError, match="takes more than"):
        require_whole(jpeg_of_scans(3_000), MANY)


def test_one_slow_image_does_not_cost_the_others_of_its_batch(half_a_second: None) -> None:
    files = [png(), jpeg_of_scans(3_000), png()]
    batch = {"instance_id": np.arange(3), "encoded": np.array(files, dtype=object)}
    assert decode_batch(batch, {"image": 8}, MANY)["error"].tolist() == ["", "takes more than 0.5 s to decode", ""]


def test_waiting_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MOST_SECONDS", 0.05)
    timed = images._Timed(b"bytes")
    time.sleep(0.1)
    assert timed.read() == b"bytes"


QUICK: dict[str, Callable[[], bytes]] = {
    "ordinary progressive JPEG": lambda: jpeg_of_scans(0, 64),
    "GIF of 100,000 frames, the first of which counts": lambda: gif_of_frames(100_000),
    "TIFF of tags that claim the same 2 MB": lambda: tiff_of_tags(20_000, 2_000_000),
    "lines of a BMP": lambda: bmp_of_lines(60_000, 10),
    "PNG with EXIF of 10 MB": lambda: png(chunk(b"eXIf", b"II*\0\x08\0\0\0" + bytes(10_000_000))),
}


@pytest.mark.parametrize("kind", QUICK)
def test_what_only_looks_slow_is_decoded(kind: str) -> None:
    hostile, start = QUICK[kind](), time.thread_time()
    assert not decode(hostile, 16, MANY).any()
    assert time.thread_time() - start < 2


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "text of a PNG that unpacks to 100 MB": (
        lambda: png(chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**20 - 9))) * 100),
        "^ValueError: Too much memory used in text chunks",
    ),
    "a text of a PNG that unpacks to 50 MB": (
        lambda: png(chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000)))),
        "^ValueError: Decompressed data too large",
    ),
    "an image a pixel wide": (
        lambda: png(width=1, height=70_000),
        "^1 x 70000 pixels, a side of more than 65535$",
    ),
    "JPEG 2000": (jpeg_2000, "^JPEG 2000, whose memory cannot be limited; convert it to PNG or TIFF$"),
    "JPEG 2000 in a box": (lambda: b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100), "^JPEG 2000, whose memory"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_costs_too_much_is_broken(kind: str) -> None:
    make, reason = REFUSED[kind]
    hostile, start = make(), time.thread_time()
    with pytest.raises(BrokenImageError, match=reason):
        decode(hostile, 16, MANY)
    assert time.thread_time() - start < 1


def test_bytes_are_limited_by_the_pixels_that_are_allowed() -> None:
    image, most = png(), images.BYTES_A_PIXEL * 64 + images.BYTES_BESIDE
    assert not decode(image + bytes(most - len(image)), 16, 64).any()
    with pytest.raises(BrokenImageError, match=rf"^{most + 1} bytes, more than {most}$"):
        decode(image + bytes(most + 1 - len(image)), 16, 64)


def test_the_header_alone_says_format_and_size() -> None:
    assert format_and_size(encoded(Image.new("L", (30, 20)), "WEBP")) == ("WEBP", (30, 20))
    assert format_and_size(png(width=9_000, height=8_000)) == ("PNG", (9_000, 8_000))
    for broken in (b"", b"garbage"):
        with pytest.raises(BrokenImageError):
            format_and_size(broken)
