"""Small pictures for generated copies of data sets: brightness tells the rank or class, hue the group."""

import colorsys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

NOISE = 8.0


def picture(level: float, hue: float, height: int, width: int, key: int) -> NDArray[np.uint8]:
    """(height, width, 3) of one colour, with noise.

    Args:
        level: 0 (dark) to 1 (bright).
        hue: 0 to 1, around the circle of colours.
        height: in pixels.
        width: in pixels.
        key: of the noise: the same key gives the same picture.
    """
    colour = 255 * np.array(colorsys.hsv_to_rgb(hue % 1, 0.7, 0.2 + 0.7 * level))
    noise = np.random.default_rng(key).normal(0, NOISE, (height, width, 3))
    return (colour + noise).clip(0, 255).astype(np.uint8)


def class_picture(number: int, classes: int, side: int, key: int) -> NDArray[np.uint8]:
    """A square `picture` of a class, known by brightness and hue."""
    return picture(number / max(classes - 1, 1), number / classes, side, side, key)


def save_picture(file: Path, pixels: NDArray[np.uint8]) -> None:
    """Writes an image file of the kind that its suffix names; folders are made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)
