"""Decoding: encoded bytes -> a uint8 square, or the reason why not."""

import contextlib
import re
import warnings
from collections.abc import Iterator, Mapping
from io import BytesIO
from zlib import crc32

import numpy as np
from PIL import Image, ImageOps

CHANNELS = 3
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
"""Formats whose header tells the size before anything is decoded, and that start no other program."""


class BrokenImageError(ValueError):
    """An image that cannot be used; the message is the reason."""


def decode(encoded: bytes, size: int, max_pixels: int) -> np.ndarray:
    """Decodes an image of one of `FORMATS`, upright, to RGB of size x size pixels.

    The pixels are counted from the header before anything is decoded.

    Args:
        encoded: the file's bytes.
        size: side of the result in pixels; the aspect ratio is not kept.
        max_pixels: width x height above which an image is refused.

    Returns:
        (size, size, 3) uint8.

    Raises:
        BrokenImageError: empty, unknown, truncated or too large.
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


@contextlib.contextmanager
def _opened(encoded: bytes, max_pixels: int) -> Iterator[Image.Image]:
    """The image before any pixel is decoded; whatever goes wrong is a BrokenImageError."""
    if not encoded:
        raise BrokenImageError("empty, not found, or outside of the folder")
    Image.MAX_IMAGE_PIXELS = None  # ours decides: it is checked below, before any pixel is decoded
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(BytesIO(encoded), formats=FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise BrokenImageError(f"{width} x {height} pixels, more than {max_pixels}")
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
