"""Decoding: encoded bytes -> a uint8 square, or the reason why not."""

import contextlib
import re
import time
import warnings
from collections.abc import Iterator, Mapping
from io import BytesIO
from zlib import crc32

import numpy as np
from PIL import Image, ImageOps

CHANNELS = 3
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
"""Formats whose header tells the size before anything is decoded, and that start no other program."""
JPEG_2000 = (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
"""How its files begin. A hundred bytes of it can ask for 1.7 kB of memory a pixel, which no limit of ours sees."""
MOST_SIDE = 65_535
"""Pixels, as in JPEG. A row costs memory however narrow it is."""
BYTES_A_PIXEL, BYTES_BESIDE = 8, 2**24
"""Of an encoded image at most: four channels of 16 bits, and what it says beside."""
MOST_SECONDS = 10.0
"""Of a thread's own time, which does not depend on what else the machine does."""
BYTES_A_READ = 8_192
"""So few, that even of scans of 10 bytes each, of a progressive JPEG, not many lie between two looks at the clock."""


class BrokenImageError(ValueError):
    """An image that cannot be used; the message is the reason."""


class _Timed(BytesIO):
    """An image's bytes, of which there are no more once its time is up.

    A thread cannot be stopped. But Pillow reads while it decodes: JPEG, PNG, GIF, BMP and PPM a little at a time, the
    other formats' headers too; only their pixels are decoded in one go.
    """

    def __init__(self, encoded: bytes) -> None:
        super().__init__(encoded)
        self._end = time.thread_time() + MOST_SECONDS

    def read(self, size: int | None = -1) -> bytes:
        """See `io.BytesIO`."""
        if time.thread_time() > self._end:
            raise BrokenImageError(f"takes more than {MOST_SECONDS:g} s to decode")
        return super().read(size)


def decode(encoded: bytes, size: int, max_pixels: int) -> np.ndarray:
    """Decodes an image of one of `FORMATS`, upright, to RGB of size x size pixels.

    The pixels are counted from the header before anything is decoded. Bytes and time are limited too.

    Args:
        encoded: the file's bytes.
        size: side of the result in pixels; the aspect ratio is not kept.
        max_pixels: width x height above which an image is refused.

    Returns:
        (size, size, 3) uint8.

    Raises:
        BrokenImageError: empty, unknown, truncated, too large or too slow.
    """
    with _opened(encoded, max_pixels) as image:
        image.draft("RGB", (size, size))  # JPEG: decode at a fraction of the size
        upright = ImageOps.exif_transpose(image)
        return np.asarray(
            _eight_bit(upright, image.format).convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
        )


def require_whole(encoded: bytes, max_pixels: int) -> None:
    """Raises BrokenImageError where `decode` would; the quickest way to know."""
    with _opened(encoded, max_pixels) as image:
        image.draft("L", (1, 1))  # JPEG: all of the file is read, an eighth of the pixels computed
        image.load()
        _eight_bit(image, image.format)


def format_and_size(encoded: bytes) -> tuple[str, tuple[int, int]]:
    """One of `FORMATS`, width and height, by the header.

    Raises:
        BrokenImageError: empty or unknown.
    """
    with _opened(encoded, MOST_SIDE**2) as image:
        return str(image.format), image.size


@contextlib.contextmanager
def _opened(encoded: bytes, max_pixels: int) -> Iterator[Image.Image]:
    """The image before any pixel is decoded; whatever goes wrong is a BrokenImageError."""
    if not encoded:
        raise BrokenImageError("empty, not found, or outside of the folder")
    most = BYTES_A_PIXEL * max_pixels + BYTES_BESIDE
    if len(encoded) > most:
        raise BrokenImageError(f"{len(encoded)} bytes, more than {most}")
    if encoded.startswith(JPEG_2000):
        raise BrokenImageError("JPEG 2000, whose memory cannot be limited; convert it to PNG or TIFF")
    Image.MAX_IMAGE_PIXELS = None  # ours decides: it is checked below, before any pixel is decoded
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(_Timed(encoded), formats=FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise BrokenImageError(f"{width} x {height} pixels, more than {max_pixels}")
            if max(width, height) > MOST_SIDE:
                raise BrokenImageError(f"{width} x {height} pixels, a side of more than {MOST_SIDE}")
            image.decodermaxblock = BYTES_A_READ
            yield image
    except BrokenImageError:
        raise
    except Exception as error:  # decoders raise anything on damaged bytes
        said = re.sub(r" <.* at 0x\w+>", "", str(error))
        raise BrokenImageError(f"{type(error).__name__}: {said[:200]}") from error


def _eight_bit(image: Image.Image, form: str | None) -> Image.Image:
    """16-bit greys would be clipped at 255 by a plain conversion; 32-bit and float pixels have no range to go by."""
    if not image.mode.startswith(("I", "F")):
        return image
    if not image.mode.startswith("I;16") and form != "PPM":  # Pillow holds 16 bits of a PGM in 32
        raise BrokenImageError("32-bit pixels, of no known range; 8 or 16 bits a channel are")
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))


def as_png(pixels: np.ndarray) -> bytes:
    """A PNG file of uint8 pixels, (H, W) or (H, W, 3)."""
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def decode_batch(batch: dict[str, np.ndarray], sizes: Mapping[str, int], max_pixels: int) -> dict[str, np.ndarray]:
    """Ray Data's map: `instance_id`, `encoded` -> `instance_id`, images, `error` (empty where all is well), `crc`.

    Args:
        batch: of encoded images.
        sizes: side of the decoded images by the name of their column. A broken image is black in all of them.
        max_pixels: larger images count as broken.
    """
    n = len(batch["encoded"])
    images = {name: np.zeros((n, size, size, CHANNELS), dtype=np.uint8) for name, size in sizes.items()}
    errors = [""] * n
    for i, encoded in enumerate(batch["encoded"]):
        try:
            for name, size in sizes.items():
                images[name][i] = decode(encoded, size, max_pixels)
        except BrokenImageError as error:
            errors[i] = str(error)
    checksums = np.array([crc32(encoded) for encoded in batch["encoded"]], dtype=np.uint32)
    return {
        "instance_id": batch["instance_id"],
        **images,
        "error": np.array(errors, dtype=object),
        "crc": checksums,
    }
