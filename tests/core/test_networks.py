"""The networks against tables 4-7: sizes worked out row by row, shapes, and what goes where."""

import pytest
import torch
from torch import Tensor, nn

from ordclust_ray.core.image_sizes import IMAGE_SIZES
from ordclust_ray.core.networks import (
    Comparator,
    Decoder,
    Discriminator,
    Encoder,
    Orid,
    initialise,
    parameter_count,
    scaled,
    to_uint8,
    to_unit_range,
)

# Rows of the tables at 64 x 64 pixels: kernel, channels in, channels out, side of the output.
TABLE_4 = [
    (4, 3, 64, 32),
    (4, 64, 64, 32),
    (3, 64, 128, 16),
    (3, 128, 128, 16),
    (3, 128, 256, 8),
    (3, 256, 256, 8),
    (3, 256, 512, 4),
    (3, 512, 512, 4),
    (3, 512, 512, 2),
    (3, 512, 512, 2),
    (2, 512, 1024, 1),
]
TABLE_5 = [
    (2, 1024, 1024, 2),
    (3, 1024, 512, 4),
    (4, 512, 512, 8),
    (4, 512, 256, 16),
    (4, 256, 128, 32),
    (4, 128, 3, 64),
]
TABLE_7 = [(5, 3, 64, 32), (5, 64, 128, 16), (5, 128, 128, 8)]


@pytest.fixture(scope="module")
def paper() -> Orid:
    """The paper's network, in evaluation mode."""
    torch.manual_seed(0)
    return Orid().eval()


@pytest.fixture
def small() -> Orid:
    torch.manual_seed(1)
    return Orid(image_size=16, width=0.25, order_dim=6, identity_dim=10)


def images_of(n: int, size: int, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def normalised_rows(rows: list[tuple[int, int, int, int]]) -> int:
    """Weights without bias, and the scale and shift of batch normalisation."""
    return sum(kernel * kernel * inner * outer + 2 * outer for kernel, inner, outer, _ in rows)


def leaves(module: nn.Module) -> list[str]:
    return [type(m).__name__ for m in module.modules() if not list(m.children())]


def shapes(layers: nn.Sequential, inputs: Tensor, kinds: tuple[type, ...] = (nn.Sequential,)) -> list[tuple[int, ...]]:
    """Outputs (without the batch) of the stages, which are the layers of these kinds."""
    found = []
    with torch.no_grad():
        for layer in layers.eval():
            inputs = layer(inputs)
            if isinstance(layer, kinds):
                found.append(tuple(inputs.shape[1:]))
    return found


def test_encoder_parameters(paper: Orid) -> None:
    by_hand = normalised_rows(TABLE_4)
    # 3,200 + 65,664 + 73,984 + 147,712 + 295,424 + 590,336 + 1,180,672 + 3 x 2,360,320 + 2,099,200
    assert by_hand == 11_537_152
    assert parameter_count(paper.encoder) == by_hand


def test_decoder_parameters(paper: Orid) -> None:
    by_hand = normalised_rows(TABLE_5[:-1]) + 4 * 4 * 128 * 3 + 3  # the last row has a bias and no normalisation
    # 4,196,352 + 4,719,616 + 4,195,328 + 2,097,664 + 524,544 + 6,147
    assert by_hand == 15_739_651
    assert parameter_count(paper.decoder) == by_hand


def test_comparator_parameters(paper: Orid) -> None:
    first, second, last = 256 * 256 + 2 * 256, 256 * 256 + 2 * 256, 256 * 3 + 3
    assert first + second + last == 132_867
    assert parameter_count(paper.comparator) == 132_867


def test_discriminator_parameters() -> None:
    by_hand = normalised_rows(TABLE_7) + 8 * 8 * 128 + 1
    # 4,928 + 205,056 + 409,856 + 8,193
    assert by_hand == 628_033
    assert parameter_count(Discriminator(64, 1.0)) == by_hand


def test_encoder_stages(paper: Orid) -> None:
    expected = [(channels, side, side) for _, _, channels, side in TABLE_4]
    assert shapes(paper.encoder, images_of(2, 64)) == expected


def test_decoder_stages(paper: Orid) -> None:
    expected = [(channels, side, side) for _, _, channels, side in TABLE_5]
    assert shapes(paper.decoder, torch.zeros(2, 1024), (nn.Sequential, nn.Tanh)) == expected


def test_discriminator_stages() -> None:
    expected: list[tuple[int, ...]] = [(channels, side, side) for _, _, channels, side in TABLE_7]
    discriminator = Discriminator(64, 1.0)
    found = shapes(discriminator.layers, images_of(2, 64), (nn.Sequential, nn.Flatten))
    assert found == [*expected, (8192,)]


def test_encoder_layers(paper: Orid) -> None:
    """Table 4: convolution, normalisation, LeakyReLU in every row; the padding goes before the even kernel."""
    row = ["Conv2d", "BatchNorm2d", "LeakyReLU"]
    assert leaves(paper.encoder) == [*row, "ZeroPad2d", *row * 10, "Flatten"]


def test_decoder_layers(paper: Orid) -> None:
    """Table 5: dropout between normalisation and LeakyReLU in the first two rows only."""
    row = ["ConvTranspose2d", "BatchNorm2d", "LeakyReLU"]
    first = ["ConvTranspose2d", "BatchNorm2d", "Dropout", "LeakyReLU"]
    assert leaves(paper.decoder) == ["Unflatten", *first * 2, *row * 3, "ConvTranspose2d", "Tanh"]


def test_comparator_layers(paper: Orid) -> None:
    row = ["Linear", "BatchNorm1d", "LeakyReLU"]
    assert leaves(paper.comparator) == [*row * 2, "Dropout", "Linear"]


def test_discriminator_layers() -> None:
    row = ["Conv2d", "BatchNorm2d", "LeakyReLU"]
    assert leaves(Discriminator(64, 1.0)) == [*row, "Dropout", *row * 2, "Dropout", "Flatten", "Linear"]


def test_dropout_rates_and_slopes(paper: Orid) -> None:
    networks = {"decoder": paper.decoder, "comparator": paper.comparator, "discriminator": Discriminator(64, 1.0)}
    rates = {name: [m.p for m in net.modules() if isinstance(m, nn.Dropout)] for name, net in networks.items()}
    assert rates == {"decoder": [0.3, 0.3], "comparator": [0.5], "discriminator": [0.5, 0.3]}
    for network in (paper, networks["discriminator"]):
        assert {m.negative_slope for m in network.modules() if isinstance(m, nn.LeakyReLU)} == {0.2}


@pytest.mark.parametrize("size", IMAGE_SIZES)
def test_shapes_at_every_image_size(size: int) -> None:
    encoder, decoder = Encoder(size, 0.125, 20).eval(), Decoder(size, 0.125, 20).eval()
    with torch.no_grad():
        h = encoder(images_of(2, size))
        decoded = decoder(h)
        judged = Discriminator(size, 0.125).eval()(decoded)
    assert h.shape == (2, 20)
    assert decoded.shape == (2, 3, size, size)
    assert decoded.abs().max() <= 1
    assert judged.shape == (2,)


@pytest.mark.parametrize(("size", "stages"), [(16, 3), (32, 4), (64, 5), (128, 6)])
def test_every_size_halves_to_one_pixel(size: int, stages: int) -> None:
    encoder, decoder = Encoder(size, 0.125, 16), Decoder(size, 0.125, 16)
    sides = [shape[1] for shape in shapes(encoder, images_of(2, size))]
    halved = [size >> i for i in range(1, stages + 1)]
    assert sides == [side for side in halved for _ in range(2)] + [1]
    sides = [shape[1] for shape in shapes(decoder, torch.zeros(2, 16), (nn.Sequential, nn.Tanh))]
    assert sides == [2 << i for i in range(stages + 1)]


def test_even_kernel_keeps_the_size_with_more_padding_on_the_right_and_below() -> None:
    """A 4 x 4 kernel with 1 at its place (1, 1) then maps every pixel onto itself."""
    encoder = Encoder(16, 1.0, 8)
    pad, same = encoder[1], next(encoder[2].children())
    assert isinstance(same, nn.Conv2d)
    image = torch.rand(1, 64, 8, 8)
    with torch.no_grad():
        same.weight.zero_()
        same.weight[range(64), range(64), 1, 1] = 1.0
        torch.testing.assert_close(same(pad(image)), image)


@pytest.mark.parametrize(
    ("channels", "width", "expected"), [(512, 1.0, 512), (64, 0.5, 32), (64, 0.1, 8), (512, 0.3, 152), (128, 2.0, 256)]
)
def test_scaled_channels(channels: int, width: float, expected: int) -> None:
    assert scaled(channels, width) == expected


def test_width_scales_inner_channels_only() -> None:
    orid = Orid(image_size=16, width=0.25, order_dim=6, identity_dim=10)
    convolutions = [m for m in orid.encoder.modules() if isinstance(m, nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [16, 16, 32, 32, 128, 128, 16]
    deconvolutions = [m for m in orid.decoder.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert [(d.in_channels, d.out_channels) for d in deconvolutions] == [(16, 256), (256, 128), (128, 32), (32, 3)]


@pytest.mark.parametrize("size", [8, 63, 256])
def test_image_size_that_is_not_supported_is_an_error(size: int) -> None:
    with pytest.raises(ValueError, match=f"image size is {size}; it must be one of 16, 32, 64, 128"):
        Orid(image_size=size)


@torch.no_grad()
def test_identity_features_have_unit_norm_and_order_features_are_as_they_are(paper: Orid) -> None:
    images = images_of(5, 64)
    h = paper.encoder(images)
    order, identity = paper.features(images)
    assert (order.shape, identity.shape) == ((5, 128), (5, 896))
    torch.testing.assert_close(order, h[:, :128])
    torch.testing.assert_close(identity.norm(dim=1), torch.ones(5))
    norm = (h[:, 128:] ** 2).sum(dim=1).sqrt()
    assert ((norm - 1).abs() > 0.1).all()  # or the next line would say nothing
    torch.testing.assert_close(identity * norm[:, None], h[:, 128:])


def test_split_by_hand(small: Orid) -> None:
    h = torch.tensor([[9.0, -1.0, 0.0, 5.0, 2.0, 7.0, 3.0, 0.0, 0.0, -4.0, *[0.0] * 6]])
    order, identity = small.split(h)
    assert order.tolist() == [[9.0, -1.0, 0.0, 5.0, 2.0, 7.0]]
    torch.testing.assert_close(identity, torch.tensor([[0.6, 0.0, 0.0, -0.8, *[0.0] * 6]]))


@torch.no_grad()
def test_decoder_gets_the_features_before_normalisation(small: Orid) -> None:
    images = images_of(4, 16)
    _, decoded, _ = small.eval()(images)
    h = small.encoder(images)
    torch.testing.assert_close(decoded, small.decoder(h))
    assert (decoded - small.decoder(torch.cat(small.split(h), dim=1))).abs().max() > 1e-3


@torch.no_grad()
def test_first_half_of_a_batch_is_compared_with_the_second(small: Orid) -> None:
    images = images_of(6, 16)
    identity, decoded, logits = small.eval()(images)
    order, expected_identity = small.features(images)
    assert (identity.shape, decoded.shape, logits.shape) == ((6, 10), (6, 3, 16, 16), (3, 3))
    torch.testing.assert_close(identity, expected_identity)
    for pair in range(3):
        x, y = order[pair : pair + 1], order[pair + 3 : pair + 4]
        torch.testing.assert_close(logits[pair : pair + 1], small.comparator(x, y))
        assert (logits[pair] - small.comparator(y, x)[0]).abs().max() > 1e-4


@torch.no_grad()
def test_comparator_reads_x_before_y() -> None:
    torch.manual_seed(2)
    comparator = Comparator(order_dim=4, hidden=8).eval()
    x, y = torch.randn(5, 4), torch.randn(5, 4)
    torch.testing.assert_close(comparator(x, y), comparator.layers(torch.cat([x, y], dim=1)))
    first = next(m for m in comparator.modules() if isinstance(m, nn.Linear))
    first.weight[:, 4:] = 0.0  # deaf to the second half of its input
    torch.testing.assert_close(comparator(x, y), comparator(x, -y))
    assert (comparator(x, y) - comparator(-x, y)).abs().max() > 1e-4


@torch.no_grad()
def test_image_is_judged_by_itself_in_evaluation(small: Orid) -> None:
    images = images_of(4, 16)
    _, together = small.eval().features(images)
    alone = torch.cat([small.features(images[i : i + 1])[1] for i in range(4)])
    torch.testing.assert_close(together, alone)


def test_initial_weights_are_glorot_normal(paper: Orid) -> None:
    """Standard deviation sqrt(2 / (fan in + fan out)), where a fan is kernel area times channels."""
    checked = 0
    for module in paper.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear) and module.weight.numel() >= 30_000:
            inner, outer, *kernel = module.weight.shape
            expected = (2 / ((inner + outer) * torch.Size(kernel).numel())) ** 0.5
            weight = module.weight.detach()
            assert float(weight.std()) == pytest.approx(expected, rel=0.02)
            assert abs(float(weight.mean())) < 5 * expected / weight.numel() ** 0.5
            beyond = float((weight.abs() > 2 * expected).float().mean())
            assert beyond == pytest.approx(0.0455, rel=0.15)  # of a normal distribution; of a uniform one nothing
            checked += 1
    assert checked == 10 + 5 + 2


def test_initial_biases_are_zero_and_normalisation_is_the_identity(small: Orid) -> None:
    discriminator = Discriminator(16, 0.25).apply(initialise)
    for network in (small, discriminator):
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                assert not parameter.any(), name
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                assert (module.weight == 1).all()


def test_unit_range_by_hand() -> None:
    images = torch.zeros(1, 2, 2, 3, dtype=torch.uint8)
    images[0, 0, 1] = torch.tensor([255, 51, 102], dtype=torch.uint8)
    unit = to_unit_range(images)
    assert unit.shape == (1, 3, 2, 2)
    torch.testing.assert_close(unit[0, :, 0, 1], torch.tensor([1.0, -0.6, -0.2]))
    torch.testing.assert_close(unit[0, :, 1, 0], -torch.ones(3))


def test_uint8_is_the_inverse_of_the_unit_range() -> None:
    images = torch.arange(256, dtype=torch.uint8).repeat(3).view(1, 16, 16, 3)
    assert torch.equal(to_uint8(to_unit_range(images)), images)


def test_uint8_clamps_what_is_out_of_range() -> None:
    assert to_uint8(torch.tensor([-1.5, 1.5, 0.0]).view(1, 3, 1, 1)).flatten().tolist() == [0, 255, 128]


def test_parameter_count_counts_trained_parameters_not_statistics() -> None:
    assert parameter_count(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))) == 3 * 4 + 4 + 4 + 4
