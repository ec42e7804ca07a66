"""Where the comparator starts from: torchvision's weights, files of weights, or neither."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import get_model, get_model_weights

from ordclust_ray.config import InputError
from ordclust_ray.core.image_comparator import ImageComparator
from ordclust_ray.training.comparator_weights import load_comparator, load_weights, save_comparator


def resnet18(seed: int) -> nn.Module:
    """torchvision's, with weights that nobody published."""
    torch.manual_seed(seed)
    return get_model("resnet18")


def same_backbone(comparator: ImageComparator, published: nn.Module) -> bool:
    expected = published.state_dict()
    return all(torch.equal(tensor, expected[name]) for name, tensor in comparator.backbone.state_dict().items())


@pytest.mark.parametrize("name", ["weights.pth", "weights.pt", "weights.safetensors"])
def test_a_file_of_torchvision_s_names_is_loaded(name: str, tmp_path: Path) -> None:
    published, file, comparator = resnet18(1), tmp_path / name, ImageComparator("resnet18", 96)
    head = comparator.comparator.state_dict()["layers.3.weight"].clone()
    if file.suffix == ".safetensors":
        save_file(published.state_dict(), file)
    else:
        torch.save(published.state_dict(), file)
    assert not same_backbone(comparator, published)
    assert load_weights(comparator, str(file)) == f"comparator starts from {file}"
    assert same_backbone(comparator, published)
    assert torch.equal(comparator.comparator.state_dict()["layers.3.weight"], head)


def test_names_of_vgg_begin_with_features(tmp_path: Path) -> None:
    comparator, other = ImageComparator("vgg16", 32, 0.1), ImageComparator("vgg16", 64, 0.1)
    published = {f"features.{name}": tensor for name, tensor in other.backbone.state_dict().items()}
    torch.save(published | {"classifier.0.weight": torch.zeros(3)}, tmp_path / "vgg.pth")
    load_weights(comparator, str(tmp_path / "vgg.pth"))
    for mine, theirs in zip(comparator.backbone.parameters(), other.backbone.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_file_that_does_not_fit_changes_nothing_and_says_why(tmp_path: Path) -> None:
    weights, file = resnet18(1).state_dict(), str(tmp_path / "weights.pth")
    torch.save(weights, file)
    small = ImageComparator("resnet18", 32)
    before = {name: tensor.clone() for name, tensor in small.state_dict().items()}
    shape = r"conv1.weight has the shape \(64, 3, 7, 7\) instead of \(64, 3, 3, 3\)"
    message = rf"--comparator.weights is '{file}'; it must fit resnet18 at 32 pixels: {shape}"
    with pytest.raises(InputError, match=rf"\A{message}\Z"):
        load_weights(small, file)
    assert all(torch.equal(tensor, before[name]) for name, tensor in small.state_dict().items())
    torch.save({name: tensor for name, tensor in weights.items() if name != "bn1.bias"}, file)
    with pytest.raises(InputError, match=r"resnet18 at 96 pixels: bn1.bias is missing\Z"):
        load_weights(ImageComparator("resnet18", 96), file)
    torch.save(weights | {"layer5.weight": torch.zeros(1)}, file)
    with pytest.raises(InputError, match=r"resnet18 at 96 pixels: it has no layer5.weight\Z"):
        load_weights(ImageComparator("resnet18", 96), file)


def test_what_is_no_file_of_weights_is_refused(tmp_path: Path) -> None:
    comparator = ImageComparator("resnet18", 16, 0.1)
    with pytest.raises(InputError, match=r"\A--comparator.weights is 'imagnet'; it must be imagenet, none, or a file"):
        load_weights(comparator, "imagnet")
    for name in ("weights.pth", "weights.safetensors"):
        file = tmp_path / name
        for content in (b"", b"no weights at all"):
            file.write_bytes(content)
            with pytest.raises(InputError, match="it must hold tensors by their names, and nothing else"):
                load_weights(comparator, str(file))
    torch.save({"state_dict": {}}, tmp_path / "nested.pth")
    with pytest.raises(InputError, match="it must hold tensors by their names, and nothing else"):
        load_weights(comparator, str(tmp_path / "nested.pth"))


def test_code_in_a_file_does_not_run(tmp_path: Path) -> None:
    class Malicious:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "owned"),)

    torch.save({"conv1.weight": Malicious()}, tmp_path / "weights.pth")
    with pytest.raises(InputError, match="it must hold tensors by their names, and nothing else"):
        load_weights(ImageComparator("resnet18", 16, 0.1), str(tmp_path / "weights.pth"))
    assert not (tmp_path / "owned").exists()


def test_imagenet_weights_where_torch_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's folder of downloads holds a file of that name already."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    published, folder = resnet18(2), tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(published.state_dict(), folder / Path(get_model_weights("resnet18")["IMAGENET1K_V1"].url).name)
    comparator = ImageComparator("resnet18", 96)
    assert load_weights(comparator, "imagenet") == "comparator starts from ImageNet weights"
    assert same_backbone(comparator, published)


def test_imagenet_weights_where_there_is_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there
    line = load_weights(ImageComparator("resnet18", 96), "imagenet")
    assert line.startswith("comparator starts from Glorot's initialisation: ImageNet weights cannot be fetched (")


@pytest.mark.parametrize(
    ("network", "size", "width", "named"),
    [
        ("resnet18", 32, 1.0, "resnet18 at 32 pixels"),
        ("resnet18", 96, 0.5, "resnet18 at 96 pixels and width 0.5"),
        ("vgg16", 16, 1.0, "vgg16 at 16 pixels"),
    ],
)
def test_imagenet_weights_that_do_not_fit_are_not_fetched(network: str, size: int, width: float, named: str) -> None:
    line = load_weights(ImageComparator(network, size, width), "imagenet")
    assert line == f"comparator starts from Glorot's initialisation: ImageNet weights do not fit {named}"


def test_none_is_glorot_s_initialisation() -> None:
    comparator = ImageComparator("resnet18", 32)
    assert load_weights(comparator, "none") == "comparator starts from Glorot's initialisation"
    weight = comparator.backbone.state_dict()["layer4.1.conv2.weight"]
    assert weight.std().item() == pytest.approx((2 / (512 * 9 + 512 * 9)) ** 0.5, rel=0.01)


def test_a_saved_comparator_comes_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    comparator = ImageComparator("vgg16", 20, 0.1).eval()
    save_comparator(tmp_path, comparator, scale="geometric", tolerance=0.1)
    expected = {"network": "vgg16", "image_size": 20, "width": 0.1, "scale": "geometric", "tolerance": 0.1}
    assert json.loads((tmp_path / "comparator.json").read_text()) == expected
    found, images = load_comparator(tmp_path), torch.randint(0, 256, (4, 20, 20, 3), dtype=torch.uint8)
    assert not found.training
    assert torch.equal(found(images)[0], comparator(images)[0])
