"""The networks of IDFD against torchvision's, and what their first layers do at each size of the images."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models
from torchvision.transforms.functional import normalize

from ordclust_ray.core.feature_networks import NETWORKS, FeatureNetwork, ImageDecoder, decoder_sides
from ordclust_ray.core.networks import parameter_count

NARROW = 0.125
PUBLISHED = {"resnet18": models.resnet18, "resnet34": models.resnet34, "vgg16": models.vgg16_bn}
STAGES = (nn.Conv2d, nn.MaxPool2d, nn.Sequential)


def build(network: str = "convnet", size: int = 28, feature_dim: int = 10, width: float = NARROW) -> FeatureNetwork:
    torch.manual_seed(0)
    return FeatureNetwork(network, size, feature_dim, width)


def images_of(n: int, size: int, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def settle(module: nn.Module, *inputs: Tensor) -> None:
    """Gives batch normalisation statistics that are not its first ones, then ends the training."""
    with torch.no_grad():
        module.train()(*inputs)
    module.eval()


def sides(network: FeatureNetwork, size: int, kinds: tuple[type, ...]) -> list[int]:
    """Sides of the maps that each layer of these kinds puts out."""
    maps, found = images_of(1, size), []
    with torch.no_grad():
        for layer in network.eval().backbone:
            maps = layer(maps)
            if isinstance(layer, kinds):
                found.append(maps.shape[2])
    return found


def on_meta(network: str, size: int, width: float = 1.0) -> FeatureNetwork:
    with torch.device("meta"):
        return FeatureNetwork(network, size, 128, width)


def published(network: str) -> Any:
    """Torchvision's, without memory for its weights, and without its classifier."""
    with torch.device("meta"):
        whole = PUBLISHED[network](weights=None)
    if network == "vgg16":
        return whole.features
    del whole.fc
    return whole


@pytest.mark.parametrize("size", [16, 17, 28, 31, 32, 33, 64, 65, 96, 255])
@pytest.mark.parametrize("network", NETWORKS)
def test_features_are_unit_rows(network: str, size: int) -> None:
    features = build(network, size)(images_of(3, size))
    assert features.shape == (3, 10)
    assert features.dtype == torch.float32
    torch.testing.assert_close(features.norm(dim=1), torch.ones(3))


@pytest.mark.parametrize(
    ("network", "by_hand"), [("resnet18", 11_176_512), ("resnet34", 21_284_672), ("vgg16", 14_723_136)]
)
def test_parameters_are_torchvisions_and_one_layer(network: str, by_hand: int) -> None:
    ours = on_meta(network, 224)
    assert parameter_count(published(network)) == by_hand
    assert parameter_count(ours.backbone) == by_hand
    assert parameter_count(ours) == by_hand + 512 * 128 + 128
    small = by_hand if network == "vgg16" else by_hand - 3 * 64 * (7 * 7 - 3 * 3)
    assert parameter_count(on_meta(network, 32).backbone) == small


def test_convnet_parameters() -> None:
    rows = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256)]
    by_hand = sum(9 * inner * outer + 2 * outer for inner, outer in rows)
    assert parameter_count(on_meta("convnet", 28)) == by_hand + 256 * 128 + 128


@pytest.mark.parametrize("network", NETWORKS)
def test_half_the_width_is_a_quarter_of_the_parameters(network: str) -> None:
    whole, half = (parameter_count(on_meta(network, 32, width).backbone) for width in (1.0, 0.5))
    assert 0.25 < half / whole < 0.255


@pytest.mark.parametrize("network", ["resnet18", "resnet34"])
@torch.no_grad()
def test_resnet_is_torchvisions_at_224_pixels(network: str) -> None:
    ours = FeatureNetwork(network, 224, 7)
    settle(ours, images_of(2, 224))
    theirs = PUBLISHED[network](num_classes=7)
    head = {f"fc.{name}": value for name, value in ours.head.state_dict().items()}
    theirs.load_state_dict(ours.backbone.state_dict() | head)
    preset = models.ResNet18_Weights.IMAGENET1K_V1.transforms()
    images = images_of(1, 224, seed=1)
    expected = theirs.eval()(normalize(images, preset.mean, preset.std))
    torch.testing.assert_close(ours(images), expected / expected.norm(dim=1, keepdim=True))


@torch.no_grad()
def test_vgg_has_torchvisions_convolutions() -> None:
    ours = FeatureNetwork("vgg16", 64)
    settle(ours, images_of(2, 64))
    theirs = published("vgg16")
    theirs.load_state_dict(ours.backbone.state_dict(), assign=True)
    images = images_of(1, 64, seed=1)
    torch.testing.assert_close(ours.backbone(images), theirs.eval()(images))


@pytest.mark.parametrize("network", PUBLISHED)
def test_published_weights_have_the_names_of_the_backbone(network: str) -> None:
    theirs, ours = published(network).state_dict(), on_meta(network, 224).backbone.state_dict()
    assert {name: value.shape for name, value in theirs.items()} == {name: value.shape for name, value in ours.items()}


def test_state_is_the_layers_alone() -> None:
    assert {name.split(".")[0] for name in build().state_dict()} == {"backbone", "head"}


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (16, [16, 16, 8, 4, 2]),  # the stem, then the four stages
        (28, [28, 28, 14, 7, 4]),
        (32, [32, 32, 16, 8, 4]),
        (33, [17, 17, 9, 5, 3]),
        (64, [32, 32, 16, 8, 4]),
        (65, [33, 17, 17, 9, 5, 3]),  # with the pooling after the stem
        (96, [48, 24, 24, 12, 6, 3]),
        (224, [112, 56, 56, 28, 14, 7]),
    ],
)
def test_stages_of_resnet(size: int, expected: list[int]) -> None:
    assert sides(build("resnet18", size), size, STAGES) == expected
    assert sides(build("convnet", size), size, STAGES)[0] == expected[0]


@pytest.mark.parametrize(("size", "stride", "kernel"), [(32, 1, 3), (33, 2, 3), (64, 2, 3), (65, 2, 7)])
@pytest.mark.parametrize("network", ["resnet18", "convnet"])
def test_stem(network: str, size: int, stride: int, kernel: int) -> None:
    first, *others = build(network, size).backbone.modules()
    conv = next(layer for layer in others if isinstance(layer, nn.Conv2d))
    assert conv.stride == (stride, stride)
    assert conv.kernel_size == (kernel, kernel)
    assert isinstance(first, nn.Sequential)
    assert isinstance(first[3], nn.MaxPool2d) == (size > 64)


@pytest.mark.parametrize(
    ("size", "expected"), [(16, [8, 4, 2, 1]), (28, [14, 7, 3, 1]), (31, [15, 7, 3, 1]), (32, [16, 8, 4, 2, 1])]
)
def test_poolings_of_vgg(size: int, expected: list[int]) -> None:
    assert sides(build("vgg16", size), size, (nn.MaxPool2d,)) == expected


def test_stages_of_convnet() -> None:
    assert sides(build("convnet", 28), 28, STAGES) == [28, 28, 14, 14, 14, 7, 7, 7]


@pytest.mark.parametrize("size", [16, 28, 65])
@pytest.mark.parametrize("network", NETWORKS)
def test_gradient_reaches_every_weight_of_every_kernel(network: str, size: int) -> None:
    model = build(network, size)
    (model(images_of(8, size)) * torch.randn(8, 10)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        if parameter.ndim == 4:
            assert (parameter.grad.abs().amax(dim=(0, 1)) > 0).all(), name
        elif network != "vgg16" or not name.endswith("bias"):  # which batch normalisation takes away again
            assert (parameter.grad != 0).any(), name


@pytest.mark.parametrize("network", NETWORKS)
def test_a_last_minibatch_of_one_image_trains(network: str) -> None:
    model = build(network, 16)
    model(images_of(1, 16))[0, 0].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("network", NETWORKS)
def test_start_is_hes(network: str) -> None:
    for name, module in build(network, width=0.5).backbone.named_modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * math.prod(module.kernel_size)
            assert module.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.1), name
            assert module.bias is None or not module.bias.any()
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all()
            assert not module.bias.any()


@pytest.mark.parametrize("network", NETWORKS)
@torch.no_grad()
def test_bfloat16(network: str) -> None:
    model = build(network)
    images = images_of(8, 28)
    settle(model, images)
    with torch.autocast("cpu", torch.bfloat16):
        features = model(images)
    assert features.dtype == torch.float32
    torch.testing.assert_close(features.norm(dim=1), torch.ones(8))
    assert (features * model(images)).sum(dim=1).min() > 0.99


@pytest.mark.parametrize("network", NETWORKS)
@torch.no_grad()
def test_channels_last(network: str) -> None:
    model = build(network)
    images = images_of(8, 28)
    settle(model, images)
    expected = model(images)
    model.to(memory_format=torch.channels_last)
    images = images.contiguous(memory_format=torch.channels_last)
    assert model.backbone(images).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(model(images), expected)


@pytest.mark.parametrize("network", NETWORKS)
@torch.no_grad()
def test_exported_network_takes_another_batch_size(network: str) -> None:
    model = build(network, 16)
    settle(model, images_of(8, 16))
    batch = {0: torch.export.Dim("n", min=1)}
    program = torch.export.export(model, (images_of(3, 16),), dynamic_shapes=(batch,)).module()
    for n in (1, 5):
        torch.testing.assert_close(program(images_of(n, 16)), model(images_of(n, 16)))


@pytest.mark.parametrize(("size", "doublings"), [(16, 2), (17, 3), (28, 3), (32, 3), (64, 4), (96, 5), (256, 6)])
def test_decoded_images(size: int, doublings: int) -> None:
    torch.manual_seed(0)
    decoder = ImageDecoder(size, 10, NARROW)
    images = decoder(F.normalize(torch.randn(3, 10), dim=1))
    assert images.shape == (3, 3, size, size)
    assert len([m for m in decoder.modules() if isinstance(m, nn.ConvTranspose2d)]) == doublings
    assert images.min() > 0
    assert images.max() < 1
    assert images.std() > 0.01


def test_layers_of_the_decoder() -> None:
    torch.manual_seed(0)
    decoder = ImageDecoder(256, 10, 1.0)
    layers = [m for m in decoder.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert [m.in_channels for m in layers] == [256, 128, 64, 32, 32, 32]
    assert layers[-1].out_channels == 3
    for layer in layers:
        fan_out = layer.in_channels * 4 * 4  # as torch counts it, for whom the weights are those of a convolution back
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.1)


def test_decoder_sides_double() -> None:
    for size in range(16, 257):
        sides_of_maps = decoder_sides(size)
        assert sides_of_maps[0] in (3, 4)
        assert sides_of_maps[-1] == size
        assert all(after in (2 * before - 1, 2 * before) for before, after in pairwise(sides_of_maps))


@torch.no_grad()
def test_decoder_under_bfloat16_channels_last_and_export() -> None:
    torch.manual_seed(0)
    decoder, features = ImageDecoder(28, 10, NARROW), torch.randn(8, 10)
    settle(decoder, features)
    expected = decoder(features)
    batch = {0: torch.export.Dim("n", min=1)}
    program = torch.export.export(decoder, (features,), dynamic_shapes=(batch,)).module()
    torch.testing.assert_close(program(features[:1]), expected[:1])
    torch.testing.assert_close(decoder.to(memory_format=torch.channels_last)(features), expected)
    with torch.autocast("cpu", torch.bfloat16):
        images = decoder(features)
    assert images.dtype == torch.float32
    torch.testing.assert_close(images, expected, atol=0.02, rtol=0)


def test_autoencoder_learns_ten_images_by_heart() -> None:
    images = images_of(10, 16)
    encoder, decoder = build("convnet", 16, 16, 0.25), ImageDecoder(16, 16, 0.25)
    optimiser = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=3e-3)
    for _ in range(120):
        loss = F.mse_loss(decoder(encoder(images)), images)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.1 / 12  # 1 / 12, the variance of a uniform number, is what a grey image gets


def test_unknown_network() -> None:
    message = r"\Anetwork is 'alexnet'; it must be one of resnet18, resnet34, vgg16, convnet\Z"
    with pytest.raises(ValueError, match=message):
        FeatureNetwork("alexnet")


def test_too_small_images_and_features() -> None:
    for make in (lambda size, dim: FeatureNetwork("convnet", size, dim), ImageDecoder):
        with pytest.raises(ValueError, match=r"\Aimage size is 15; it must be at least 16\Z"):
            make(15, 8)
        with pytest.raises(ValueError, match=r"\Afeature dim is 1; it must be at least 2\Z"):
            make(16, 1)
