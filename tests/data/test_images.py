"""Decoding, against pixels made here: every kind of image people have, and every way a file can be broken."""

import re
import struct
import time
import zlib
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import EpsImagePlugin, Image

from ordclust_ray.data.images import BrokenImageError, decode, decode_batch

MANY = 50_000_000
RED, BLUE = (255, 0, 0), (0, 0, 255)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def random_pixels(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def smooth(size: int = 64) -> NDArray[np.uint8]:
    """Colours that change slowly, which JPEG keeps to within a few units."""
    ramp = np.linspace(20, 230, size)
    return np.stack(np.broadcast_arrays(ramp[:, None], ramp[None, :], np.full((1, 1), 90.0)), axis=-1).astype(np.uint8)


def difference(left: NDArray[Any], right: NDArray[Any]) -> float:
    return float(np.abs(left.astype(float) - right.astype(float)).max())


def header_only_png(width: int, height: int, bits: int = 8, data: bytes = b"") -> bytes:
    """A grey PNG whose header claims a size; the pixels are `data`."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def test_png_of_the_right_size_keeps_every_pixel() -> None:
    pixels = random_pixels(16, 16, 3)
    decoded = decode(encoded(Image.fromarray(pixels), "PNG"), 16, MANY)
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, pixels)


def test_jpeg() -> None:
    decoded = decode(encoded(Image.fromarray(smooth()), "JPEG", quality=95), 64, MANY)
    assert difference(decoded, smooth()) <= 6


def test_grey_becomes_three_equal_channels() -> None:
    pixels = random_pixels(16, 16)
    decoded = decode(encoded(Image.fromarray(pixels), "PNG"), 16, MANY)
    np.testing.assert_array_equal(decoded, np.stack([pixels] * 3, axis=-1))


def test_one_bit() -> None:
    image = Image.fromarray(random_pixels(16, 16)).point(lambda value: 255 * (value > 127), "1")
    decoded = decode(encoded(image, "PNG"), 16, MANY)
    np.testing.assert_array_equal(decoded[..., 0], np.where(random_pixels(16, 16) > 127, 255, 0))


@pytest.mark.parametrize("form", ["PNG", "GIF"])
def test_palette(form: str) -> None:
    decoded = decode(encoded(left_red_right_blue_palette(), form), 16, MANY)
    np.testing.assert_array_equal(decoded[:, :8], np.broadcast_to(RED, (16, 8, 3)))
    np.testing.assert_array_equal(decoded[:, 8:], np.broadcast_to(BLUE, (16, 8, 3)))


@pytest.mark.parametrize("transparency", [0, b"\x80\xff"], ids=["one colour", "alpha a colour"])
def test_palette_with_alpha(transparency: int | bytes) -> None:
    decoded = decode(encoded(left_red_right_blue_palette(), "PNG", transparency=transparency), 16, MANY)
    np.testing.assert_array_equal(decoded[:, 8:], np.broadcast_to(BLUE, (16, 8, 3)))


def left_red_right_blue_palette() -> Image.Image:
    image = Image.new("P", (16, 16))
    image.putpalette([*RED, *BLUE])
    image.paste(1, (8, 0, 16, 16))
    return image


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_opaque_pixels_of_images_with_alpha_keep_their_colour(mode: str) -> None:
    image = Image.fromarray(random_pixels(16, 16)).convert(mode)
    decoded = decode(encoded(image, "PNG"), 16, MANY)
    np.testing.assert_array_equal(decoded[..., 1], random_pixels(16, 16))


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_not_clipped(form: str) -> None:
    steps = np.arange(256, dtype=np.uint16).reshape(16, 16)
    decoded = decode(encoded(Image.fromarray(steps * 256 + 17), form), 16, MANY)
    np.testing.assert_array_equal(decoded[..., 0], steps)


@pytest.mark.parametrize(
    "pixels",
    [
        pytest.param(np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16), id="float"),
        pytest.param(np.arange(256, dtype=np.int32).reshape(16, 16), id="whole numbers"),
    ],
)
def test_pixels_of_no_known_range_are_broken_not_clipped(pixels: NDArray[Any]) -> None:
    with pytest.raises(BrokenImageError, match="32-bit pixels, of no known range"):
        decode(encoded(Image.fromarray(pixels), "TIFF"), 16, MANY)


def test_cmyk_jpeg() -> None:
    image = Image.new("CMYK", (32, 32), (0, 255, 255, 0))  # no cyan, full magenta and yellow: red
    image.paste((255, 255, 0, 0), (16, 0, 32, 32))  # cyan and magenta: blue
    decoded = decode(encoded(image, "JPEG", quality=95), 32, MANY)
    assert difference(decoded[:, :14], np.array(RED)) <= 6
    assert difference(decoded[:, 18:], np.array(BLUE)) <= 6


# What a camera stores for an upright picture u, by the definition in the EXIF standard:
# orientation 6, for example: row 0 of the file is the right side of the picture, column 0 its top.
STORED: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    1: lambda u: u,
    2: lambda u: u[:, ::-1],
    3: lambda u: u[::-1, ::-1],
    4: lambda u: u[::-1],
    5: lambda u: u.T,
    6: lambda u: u.T[::-1],
    7: lambda u: u.T[::-1, ::-1],
    8: lambda u: u.T[:, ::-1],
}


@pytest.mark.parametrize("orientation", STORED)
def test_rotated_jpeg_comes_out_upright(orientation: int) -> None:
    upright = np.array([[20, 90], [160, 230]], dtype=np.uint8).repeat(16, axis=0).repeat(16, axis=1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    decoded = decode(encoded(stored, "JPEG", quality=95, exif=exif), 32, MANY)
    assert difference(decoded[..., 0], upright) <= 4


def test_damaged_exif_does_not_break_an_image() -> None:
    exif = Image.Exif()
    exif[0x0112] = 1
    image = encoded(Image.new("RGB", (16, 16), RED), "JPEG", exif=exif.tobytes()[:-6])
    assert difference(decode(image, 16, MANY), np.array(RED)) <= 2


def test_large_jpeg_is_reduced_not_cropped() -> None:
    image = Image.new("L", (600, 400), 30)
    image.paste(220, (300, 0, 600, 400))
    decoded = decode(encoded(image, "JPEG"), 16, MANY)
    assert difference(decoded[:, :7], np.array(30)) <= 12
    assert difference(decoded[:, 9:], np.array(220)) <= 12


def test_any_shape_becomes_the_square() -> None:
    image = Image.new("RGB", (40, 10), RED)
    image.paste(BLUE, (0, 5, 40, 10))
    decoded = decode(encoded(image, "PNG"), 32, MANY)
    assert decoded.shape == (32, 32, 3)
    np.testing.assert_array_equal(decoded[:8], np.broadcast_to(RED, (8, 32, 3)))
    np.testing.assert_array_equal(decoded[-8:], np.broadcast_to(BLUE, (8, 32, 3)))


@pytest.mark.parametrize("size", [16, 32, 64, 128])
def test_every_size(size: int) -> None:
    assert decode(encoded(Image.fromarray(smooth()), "WEBP"), size, MANY).shape == (size, size, 3)


def test_empty() -> None:
    with pytest.raises(BrokenImageError, match=r"^empty, not found, or outside of the folder$"):
        decode(b"", 16, MANY)


def test_garbage_is_named_the_same_each_time() -> None:
    reasons = []
    for _ in range(2):
        with pytest.raises(BrokenImageError, match="cannot identify image") as caught:
            decode(b"no image at all " * 20, 16, MANY)
        reasons.append(str(caught.value))
    assert reasons[0] == reasons[1]
    assert "0x" not in reasons[0], "an address of a Python object says nothing to a reader"


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_truncated(form: str, kept: float) -> None:
    whole = encoded(Image.fromarray(random_pixels(64, 64, 3)), form)
    with pytest.raises(BrokenImageError, match=r"^\w+: \w+"):
        decode(whole[: int(len(whole) * kept)], 64, MANY)


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_truncated_says_so(form: str) -> None:
    whole = encoded(Image.fromarray(random_pixels(64, 64, 3)), form)
    with pytest.raises(BrokenImageError, match="truncated"):
        decode(whole[: len(whole) // 2], 64, MANY)


def test_png_with_damaged_pixels() -> None:
    whole = bytearray(encoded(Image.fromarray(random_pixels(64, 64, 3)), "PNG"))
    whole[len(whole) // 2] ^= 0xFF
    with pytest.raises(BrokenImageError, match=r"\w+Error: \w+"):
        decode(bytes(whole), 64, MANY)


def test_bomb_is_refused_from_its_header() -> None:
    bomb = header_only_png(60_000, 60_000, data=b"\0" * 1000)
    start = time.perf_counter()
    with pytest.raises(BrokenImageError, match=r"3600000000 pixels|60000 x 60000"):
        decode(bomb, 16, MANY)
    assert time.perf_counter() - start < 0.5


def test_bomb_that_would_decode_is_refused_from_its_header() -> None:
    bomb = header_only_png(8000, 8000, bits=1, data=bytes(1001 * 8000))  # 8 kB of file, 64 million pixels
    assert len(bomb) < 20_000
    start = time.perf_counter()
    with pytest.raises(BrokenImageError, match=r"^8000 x 8000 pixels, more than 50000000$"):
        decode(bomb, 16, MANY)
    assert time.perf_counter() - start < 0.1


def test_bomb_inside_an_icon_is_refused_unread() -> None:
    bomb = header_only_png(60_000, 60_000)  # without pixels: "truncated" would mean that it was decoded
    header = struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(bomb), 22)  # an icon of 16 x 16
    with pytest.raises(BrokenImageError, match=r"pixels|cannot identify"):
        decode(header + bomb, 16, MANY)


def test_no_program_is_run_for_postscript(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *arguments: started.append(arguments))
    with pytest.raises(BrokenImageError):
        decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\nshowpage\n%%EOF\n", 16, MANY)
    assert not started


def test_max_pixels_is_exact() -> None:
    image = encoded(Image.new("RGB", (20, 10), RED), "PNG")
    np.testing.assert_array_equal(decode(image, 16, 200), np.broadcast_to(RED, (16, 16, 3)))
    with pytest.raises(BrokenImageError, match=r"^20 x 10 pixels, more than 199$"):
        decode(image, 16, 199)


def test_only_max_pixels_decides_how_large_is_too_large() -> None:
    # Pillow has a limit of its own, 89 (warning) and 179 (error) million pixels. This file has no pixels: truncated.
    with pytest.raises(BrokenImageError) as caught:
        decode(header_only_png(10_000, 9_000), 16, 100_000_000)
    assert "DecompressionBomb" not in str(caught.value)


def test_reason_is_one_line() -> None:
    for damaged in (b"", b"garbage", header_only_png(60_000, 60_000), header_only_png(16, 16)):
        with pytest.raises(BrokenImageError) as caught:
            decode(damaged, 16, MANY)
        assert re.fullmatch(r"[^\n]+", str(caught.value))


def test_batch_keeps_every_row_in_place() -> None:
    good = [random_pixels(16, 16, 3), 255 - random_pixels(16, 16, 3)]
    files = [
        encoded(Image.fromarray(good[0]), "PNG"),
        b"",
        b"garbage",
        encoded(Image.fromarray(good[1]), "PNG"),
        encoded(Image.new("RGB", (17, 16)), "PNG"),
    ]
    batch = {"instance_id": np.array([7, 3, 11, 0, 2]), "encoded": np.array(files, dtype=object)}
    decoded = decode_batch(batch, {"image": 16, "compared": 20}, max_pixels=256)
    assert set(decoded) == {"instance_id", "image", "compared", "error", "crc"}
    assert decoded["compared"].shape == (5, 20, 20, 3)
    assert decoded["compared"].any(axis=(1, 2, 3)).tolist() == decoded["image"].any(axis=(1, 2, 3)).tolist()
    assert decoded["crc"].tolist() == [zlib.crc32(file) for file in files]
    assert decoded["instance_id"].tolist() == [7, 3, 11, 0, 2]
    assert decoded["image"].shape == (5, 16, 16, 3)
    assert decoded["image"].dtype == np.uint8
    np.testing.assert_array_equal(decoded["image"][[0, 3]], good)
    assert not decoded["image"][[1, 2, 4]].any()
    assert [bool(error) for error in decoded["error"]] == [False, True, True, False, True]
    assert decoded["error"][1] == "empty, not found, or outside of the folder"
    assert decoded["error"][4] == "17 x 16 pixels, more than 256"
