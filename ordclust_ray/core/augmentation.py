"""The augmentation of IDFD (Tao, Takagi & Nakata 2021): random resized crops, flips, colour jitter, random grey.

Each image has its own random numbers, with torchvision's distributions, but a batch is one tensor throughout: no
loop over images, no copy to the host. Called inside of `torch.compile` it works, but generators break the graph.

Legend: B images of the minibatch, of S x S pixels.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

TRIES = 10  # boxes that are drawn before the whole image is taken instead
MAX_ASPECT = 4 / 3
CONTRAST, SATURATION = 1, 2  # columns of the factors of `colour_jitter`; brightness is 0


def augment(
    images: UInt8[Tensor, "B S S 3"],
    generator: torch.Generator,
    *,
    min_crop: float = 0.2,
    jitter: float = 0.4,
    grey: float = 0.2,
    flip: bool = False,
) -> Float[Tensor, "B 3 S S"]:
    """Crops each image at random, flips it, jitters its colours and makes some grey, in this order.

    What is off draws no random numbers.

    Args:
        images: pixels in [0, 255].
        generator: source of all randomness, on the images' device.
        min_crop: least share of the area that a crop keeps; 1 is off.
        jitter: strength of brightness, contrast and saturation; 0 is off.
        grey: probability of a grey image; 0 is off.
        flip: mirrors half of the images, left to right.

    Returns:
        float32 in [0, 1], under autocast too.
    """
    count, size, pixels = len(images), images.shape[1], to_float(images)
    with torch.autocast(images.device.type, enabled=False):  # bfloat16 would round the pixels' weights
        flipped = random_flags(count, generator, probability=0.5) if flip else None
        if min_crop < 1:
            pixels = resized_crop(pixels, random_boxes(count, size, generator, min_crop=min_crop), flipped)
        elif flipped is not None:
            pixels = torch.where(per_image(flipped), pixels.flip(3), pixels)
        if jitter > 0:
            pixels = colour_jitter(pixels, *random_jitter(count, generator, strength=jitter))
        return random_grey(pixels, generator, probability=grey) if grey > 0 else pixels


def to_float(images: UInt8[Tensor, "B S S 3"]) -> Float[Tensor, "B 3 S S"]:
    """[0, 255] -> [0, 1], with the channels first: images without augmentation."""
    return images.permute(0, 3, 1, 2).contiguous() / 255


def random_boxes(count: int, size: int, generator: torch.Generator, *, min_crop: float) -> Int64[Tensor, "B 4"]:
    """Top, left, height and width of a crop for each image.

    Areas are uniform, aspects log-uniform, both before rounding; the first of `TRIES` boxes that fits is put anywhere
    in the image.
    """
    share, tilt = torch.rand(2, count, TRIES, generator=generator, device=generator.device)
    area = size**2 * (min_crop + (1 - min_crop) * share)
    aspect = torch.exp(math.log(MAX_ASPECT) * (2 * tilt - 1))
    sides = torch.stack([area / aspect, area * aspect]).sqrt_().round_()
    sides = F.pad(sides, (0, 1), value=size)  # the whole image, a last try that always fits
    fits = ((sides > 0) & (sides <= size)).all(dim=0)
    first = fits.byte().argmax(dim=1)  # the first of equals
    sides = sides.gather(2, first.expand(2, count).unsqueeze(2)).squeeze(2)
    corners = torch.rand(2, count, generator=generator, device=generator.device).mul_(size + 1 - sides).floor_()
    return torch.cat([corners, sides]).T.long()


def resized_crop(
    images: Float[Tensor, "B 3 S S"], boxes: Int64[Tensor, "B 4"], flipped: Bool[Tensor, "B"] | None = None
) -> Float[Tensor, "B 3 S S"]:
    """Enlarges each image's box (top, left, height, width) to the whole image, bilinearly, and mirrors some.

    Enlarging is linear in the rows and in the columns: two products of matrices, among which mirroring is free.
    """
    top, left, height, width = boxes.unbind(1)
    rows = bilinear_weights(top, height, images.shape[2])
    columns = bilinear_weights(left, width, images.shape[3], flipped)
    crops = torch.einsum("byi,bcij,bxj->bcyx", rows, images, columns)
    return crops.clamp_(0, 1)  # TF32, where it is on, rounds weights so that their sum is not 1


def bilinear_weights(
    starts: Int64[Tensor, "B"], lengths: Int64[Tensor, "B"], size: int, flipped: Bool[Tensor, "B"] | None = None
) -> Float[Tensor, "B S S"]:
    """Weights of a line's pixels (last axis) in each pixel of its enlarged part; backwards where it is flipped."""
    line = torch.arange(size, device=starts.device)
    centres = (line + 0.5) * (lengths.unsqueeze(1) / size) - 0.5
    last = lengths.unsqueeze(1) - 1
    centres = starts.unsqueeze(1) + centres.clamp_(min=0).minimum(last)  # pixels beyond the crop are not looked at
    if flipped is not None:
        centres = torch.where(flipped.unsqueeze(1), centres.flip(1), centres)
    return (centres.unsqueeze(2) - line).abs_().neg_().add_(1).clamp_(min=0)


def random_jitter(
    count: int, generator: torch.Generator, *, strength: float
) -> tuple[Float[Tensor, "B 3"], Int64[Tensor, "B 3"]]:
    """Factors and order for `colour_jitter`: uniform around 1, and any of the six orders."""
    factors, keys = torch.rand(2, count, 3, generator=generator, device=generator.device)
    lowest = max(0.0, 1 - strength)
    return lowest + (1 + strength - lowest) * factors, keys.argsort(dim=1)


def colour_jitter(
    images: Float[Tensor, "B 3 S S"], factors: Float[Tensor, "B 3"], order: Int64[Tensor, "B 3"]
) -> Float[Tensor, "B 3 S S"]:
    """Changes brightness, contrast and saturation, in each image's own order.

    All three go from an anchor through the image: black, the image's mean grey, each pixel's grey. So one formula
    takes the steps of all images, whichever they are.

    Args:
        images: pixels in [0, 1], to which each step clamps.
        factors: of brightness, contrast and saturation; 1 changes nothing, 0 leaves the anchor.
        order: which factor comes first, second, third.
    """
    for operation in order.unbind(1):
        factor = factors.gather(1, operation.unsqueeze(1))
        grey = to_grey(images)
        mean = grey.mean(dim=(1, 2, 3), keepdim=True)
        anchor = per_image(operation == CONTRAST) * mean + per_image(operation == SATURATION) * grey
        images = torch.lerp(anchor, images, per_image(factor)).clamp_(0, 1)
    return images


def random_grey(
    images: Float[Tensor, "B 3 S S"], generator: torch.Generator, *, probability: float
) -> Float[Tensor, "B 3 S S"]:
    """Takes the colours from some images."""
    chosen = random_flags(len(images), generator, probability=probability)
    return torch.lerp(images, to_grey(images), per_image(chosen).float())  # exact at 0 and 1; faster than torch.where


def to_grey(images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B 1 S S"]:
    """Luma of ITU-R 601, with the digits that torchvision uses."""
    red, green, blue = images.split(1, dim=1)
    return (0.2989 * red).add_(green, alpha=0.587).add_(blue, alpha=0.114)


def random_flags(count: int, generator: torch.Generator, *, probability: float) -> Bool[Tensor, "B"]:
    """True with a probability, for each image."""
    return torch.rand(count, generator=generator, device=generator.device) < probability


def per_image(values: Tensor) -> Tensor:
    """One value for each image, in the shape that goes with (B, 3, S, S)."""
    return values.view(-1, 1, 1, 1)
