"""Sides of the square images that the networks are made for, in pixels."""

IMAGE_SIZES = (16, 32, 64, 128)
