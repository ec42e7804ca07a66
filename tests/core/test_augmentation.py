"""The augmentation of whole batches against torchvision's transforms of single images."""

from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.transforms.v2 as v2
import torchvision.transforms.v2.functional as TF
from jaxtyping import TypeCheckError
from scipy import stats
from sklearn.datasets import load_sample_image
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from ordclust_ray.core.augmentation import (
    augment,
    colour_jitter,
    random_boxes,
    random_flags,
    random_grey,
    random_jitter,
    resized_crop,
    to_float,
    to_grey,
)

SIZE = 32
OFF: dict[str, Any] = {"min_crop": 1.0, "jitter": 0.0, "grey": 0.0, "flip": False}
LEAST_P = 1e-4  # of some 60 comparisons; seeds are fixed: a test that passes, passes always
Function = Callable[[Tensor], Tensor]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(seed: int, count: int, size: int = SIZE) -> Tensor:
    return torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=seeded(seed))


def per_image(function: Callable[..., Tensor], images: Tensor, *arguments: Any) -> Tensor:
    return torch.stack([function(image, *rest) for image, *rest in zip(images, *arguments, strict=True)])


def assert_alike(found: Any, expected: Any) -> None:
    assert stats.ks_2samp(np.asarray(found), np.asarray(expected), method="asymp").pvalue > LEAST_P


@pytest.fixture(scope="module")
def photo() -> Tensor:
    """China's summer palace: roofs on the left, trees on the right, sky above."""
    pixels = torch.from_numpy(load_sample_image("china.jpg").copy()).permute(2, 0, 1)
    return TF.resize(pixels[:, :, :427], [SIZE, SIZE], antialias=True).permute(1, 2, 0)


def test_to_float_is_that_of_torchvision() -> None:
    images = noise(0, 4)
    expected = per_image(lambda image: TF.to_dtype(image.permute(2, 0, 1), torch.float32, scale=True), images)
    torch.testing.assert_close(to_float(images), expected, rtol=0, atol=1e-7)
    assert to_float(images).is_contiguous()


@pytest.mark.parametrize(("size", "min_crop"), [(32, 0.2), (32, 0.9), (9, 0.2)])
def test_boxes_are_distributed_like_those_of_torchvision(size: int, min_crop: float) -> None:
    """At 0.9, boxes often do not fit ten times, and the whole image is taken."""
    n, image = 20_000, torch.zeros(3, size, size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        boxes = [v2.RandomResizedCrop.get_params(image, [min_crop, 1.0], [3 / 4, 4 / 3]) for _ in range(n)]
    expected, found = torch.tensor(boxes), random_boxes(n, size, seeded(2), min_crop=min_crop)
    for statistic in (
        lambda top, left, height, width: height * width,
        lambda top, left, height, width: width / height,
        lambda top, left, height, width: top / (size - height).clamp(min=1),
        lambda top, left, height, width: left / (size - width).clamp(min=1),
        lambda top, left, height, width: top - left,
    ):
        assert_alike(statistic(*found.unbind(1)), statistic(*expected.unbind(1)))
    whole = [int((box[:, 2:] == size).all(dim=1).sum()) for box in (found, expected)]
    assert stats.fisher_exact([whole, [n - count for count in whole]]).pvalue > LEAST_P


def test_boxes_reach_all_edges_and_none_goes_beyond() -> None:
    top, left, height, width = random_boxes(20_000, 8, seeded(0), min_crop=0.2).unbind(1)
    assert int(top.min()) == int(left.min()) == 0
    assert int((top + height).max()) == int((left + width).max()) == 8
    part = height == 5
    assert set(top[part].tolist()) == set(range(4))
    assert stats.chisquare(top[part].bincount()).pvalue > LEAST_P


@pytest.mark.parametrize("size", [16, 32, 64])
@pytest.mark.parametrize("antialias", [True, False])
def test_resized_crop_is_that_of_torchvision(size: int, antialias: bool) -> None:
    images, boxes = to_float(noise(3, 100, size)), random_boxes(100, size, seeded(4), min_crop=0.05)
    boxes[0] = torch.tensor([0, 0, size, size])
    boxes[1] = torch.tensor([size - 1, 3, 1, 1])
    boxes[2] = torch.tensor([2, 0, 1, size])
    flipped = random_flags(100, seeded(5), probability=0.5)

    def crop(image: Tensor, box: Tensor) -> Tensor:
        return TF.resized_crop(image, *box.tolist(), size=[size, size], antialias=antialias)

    expected = per_image(crop, images, boxes)
    torch.testing.assert_close(resized_crop(images, boxes), expected, rtol=0, atol=1e-5)
    expected[flipped] = TF.horizontal_flip(expected[flipped])
    torch.testing.assert_close(resized_crop(images, boxes, flipped), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_colour_jitter_is_that_of_torchvision_in_each_order(order: tuple[int, ...]) -> None:
    """Strong factors, so that much is clamped on the way."""
    images = to_float(noise(6, 50))
    factors = 2 * torch.rand(50, 3, generator=seeded(7))
    factors[0] = 0
    operations = (TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation)

    def adjust(image: Tensor, row: Tensor) -> Tensor:
        for operation in order:
            image = operations[operation](image, float(row[operation]))
        return image

    found = colour_jitter(images, factors, torch.tensor(order).repeat(50, 1))
    torch.testing.assert_close(found, per_image(adjust, images, factors), rtol=0, atol=1e-5)


def test_each_image_has_its_own_order() -> None:
    images, factors = to_float(noise(8, 6)), torch.tensor([[0.6, 1.4, 1.3]]).repeat(6, 1)
    orders = torch.tensor(list(permutations(range(3))))
    together = colour_jitter(images, factors, orders)
    for i in range(6):
        one = slice(i, i + 1)
        torch.testing.assert_close(together[one], colour_jitter(images[one], factors[one], orders[one]))


@pytest.mark.parametrize(("strength", "lowest"), [(0.4, 0.6), (1.5, 0.0)])
def test_factors_are_uniform_and_orders_equally_frequent(strength: float, lowest: float) -> None:
    factors, order = random_jitter(6000, seeded(9), strength=strength)
    for column in factors.unbind(1):
        assert stats.kstest(column, stats.uniform(lowest, 1 + strength - lowest).cdf).pvalue > LEAST_P
    places = order.argsort(dim=1)
    assert stats.spearmanr(factors, places[:, :2]).statistic[:3] - np.eye(3, 5) == pytest.approx(0, abs=0.05)
    found, counts = order.unique(dim=0, return_counts=True)
    assert found.tolist() == [list(row) for row in permutations(range(3))]
    assert stats.chisquare(counts).pvalue > LEAST_P


def test_grey_images_are_those_of_torchvision_and_the_others_untouched() -> None:
    images = to_float(noise(10, 2000, 4))
    found = random_grey(images, seeded(11), probability=0.2)
    grey = (found.amax(dim=1) == found.amin(dim=1)).all(dim=(1, 2))
    assert stats.binomtest(int(grey.sum()), 2000, 0.2).pvalue > LEAST_P
    expected = TF.rgb_to_grayscale(images[grey], num_output_channels=3)
    torch.testing.assert_close(found[grey], expected, rtol=0, atol=1e-6)
    assert torch.equal(found[~grey], images[~grey])


STATISTICS: dict[str, Function] = {
    "brightness": lambda images: images.mean(dim=(1, 2, 3)),
    "contrast": lambda images: to_grey(images).std(dim=(1, 2, 3)),
    "saturation": lambda images: (images.amax(dim=1) - images.amin(dim=1)).mean(dim=(1, 2)),
    "left to right": lambda images: (images[..., SIZE // 2 :] - images[..., : SIZE // 2]).mean(dim=(1, 2, 3)),
    "top to bottom": lambda images: (images[..., SIZE // 2 :, :] - images[..., : SIZE // 2, :]).mean(dim=(1, 2, 3)),
    "sharpness": lambda images: images.diff(dim=3).abs().mean(dim=(1, 2, 3)),
    "one pixel": lambda images: images[:, 1, 20, 5],
    "a corner": lambda images: images[:, 0, 0, 0],
}


@pytest.mark.parametrize("flip", [False, True])
def test_the_whole_is_distributed_like_torchvision(photo: Tensor, flip: bool) -> None:
    n = 3000
    transforms = [v2.RandomResizedCrop(SIZE, scale=(0.2, 1.0)), v2.ColorJitter(0.4, 0.4, 0.4), v2.RandomGrayscale(0.2)]
    transform = v2.Compose([*transforms, *([v2.RandomHorizontalFlip()] if flip else [])])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(12)
        image = to_float(photo.unsqueeze(0))[0]
        expected = torch.stack([transform(image) for _ in range(n)])
    found = augment(photo.repeat(n, 1, 1, 1), seeded(13), flip=flip)
    for statistic in STATISTICS.values():
        assert_alike(statistic(found), statistic(expected))
    for power in (1, 2):  # the mean and the mean square of each pixel
        x, y = found**power, expected**power
        z = (x.mean(dim=0) - y.mean(dim=0)) / ((x.var(dim=0) + y.var(dim=0)) / n).sqrt()
        assert float(z.abs().max()) < 4.5  # among 3072 pixels
        assert float(z.square().mean()) < 3


def test_nothing_is_left_when_all_is_off() -> None:
    images, generator = noise(14, 8), seeded(0)
    before = generator.get_state()
    assert torch.equal(augment(images, generator, **OFF), to_float(images))
    assert torch.equal(generator.get_state(), before)


def test_flip_alone_mirrors_half_of_the_images_exactly() -> None:
    images = noise(15, 2000, 4)
    found, plain = augment(images, seeded(16), **OFF | {"flip": True}), to_float(images)
    flipped = (found == plain.flip(3)).flatten(1).all(dim=1)
    assert torch.equal(found[~flipped], plain[~flipped])
    assert stats.binomtest(int(flipped.sum()), 2000, 0.5).pvalue > LEAST_P


def test_grey_alone_changes_nothing_but_colours() -> None:
    images = noise(17, 4000, 4)
    found, plain = augment(images, seeded(18), **OFF | {"grey": 0.2}), to_float(images)
    changed = (found != plain).flatten(1).any(dim=1)
    assert stats.binomtest(int(changed.sum()), 4000, 0.2).pvalue > LEAST_P
    torch.testing.assert_close(found[changed], to_grey(plain[changed]).expand(-1, 3, -1, -1))


def test_crop_alone_keeps_a_constant_image_and_jitter_alone_keeps_the_place() -> None:
    flat = torch.tensor([10, 200, 90], dtype=torch.uint8).expand(200, SIZE, SIZE, 3)
    cropped = augment(flat, seeded(19), **OFF | {"min_crop": 0.2})
    torch.testing.assert_close(cropped, to_float(flat), rtol=0, atol=1e-6)
    dots = torch.full((200, SIZE, SIZE, 3), 50, dtype=torch.uint8)
    dots[:, 3, 7] = 150
    jittered = to_grey(augment(dots, seeded(20), **OFF | {"jitter": 0.4}))
    assert (jittered.flatten(1).argmax(dim=1) == 3 * SIZE + 7).all()
    assert len(jittered[:, 0, 0, 0].unique()) > 150


def test_jitter_alone_scales_an_image_of_one_grey_by_its_brightness() -> None:
    found = augment(torch.full((4000, 2, 2, 3), 100, dtype=torch.uint8), seeded(29), **OFF | {"jitter": 0.4})
    assert stats.kstest(found[:, 1, 1, 1] * 255 / 100, stats.uniform(0.6, 0.8).cdf).pvalue > LEAST_P


def test_a_seed_stands_for_one_result() -> None:
    images = noise(21, 16)
    first, same, other = (augment(images, seeded(seed), flip=True) for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert (first != other).flatten(1).any(dim=1).all()
    generator = seeded(0)
    assert torch.equal(augment(images, generator, flip=True), first)
    assert not torch.equal(augment(images, generator, flip=True), first)


def test_all_randomness_comes_from_the_generator() -> None:
    before = torch.random.get_rng_state()
    augment(noise(22, 4), seeded(0), flip=True)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_equal_images_get_different_augmentations(photo: Tensor) -> None:
    found = augment(photo.repeat(64, 1, 1, 1), seeded(23))
    assert len(found.flatten(1).unique(dim=0)) == 64


@pytest.mark.parametrize("switches", [{}, {"flip": True}, OFF, {"jitter": 3.0}])
def test_the_input_stays_and_the_output_is_in_the_unit_interval(switches: dict[str, Any]) -> None:
    images = noise(24, 200)
    images[:100] = 255 * (images[:100] > 127)
    before = images.clone()
    found = augment(images, seeded(25), **switches)
    assert torch.equal(images, before)
    assert found.dtype == torch.float32
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1


def test_the_blocks_do_not_change_their_input() -> None:
    images = to_float(noise(26, 20))
    before = images.clone()
    resized_crop(images, random_boxes(20, SIZE, seeded(0), min_crop=0.2))
    colour_jitter(images, *random_jitter(20, seeded(0), strength=0.4))
    random_grey(images, seeded(0), probability=0.5)
    assert torch.equal(images, before)


def test_autocast_changes_nothing() -> None:
    images = noise(27, 8)
    plain = augment(images, seeded(28), flip=True)
    with torch.autocast("cpu", torch.bfloat16):
        found = augment(images, seeded(28), flip=True)
    assert torch.equal(found, plain)


def test_no_shape_or_branch_depends_on_pixels_or_random_numbers() -> None:
    """Fake tensors have no values: what would wait for a GPU fails on them."""
    with FakeTensorMode():
        images = torch.zeros(8, SIZE, SIZE, 3, dtype=torch.uint8)
        assert augment(images, seeded(0), flip=True).shape == (8, 3, SIZE, SIZE)
        assert augment(images, seeded(0), **OFF | {"flip": True}).shape == (8, 3, SIZE, SIZE)


@pytest.mark.parametrize(
    "images", [torch.zeros(2, 8, 8, 3), torch.zeros(2, 3, 8, 8).byte(), torch.zeros(2, 8, 9, 3).byte()]
)
def test_other_types_and_shapes_are_refused(images: Tensor) -> None:
    with pytest.raises(TypeCheckError):
        augment(images, seeded(0))
