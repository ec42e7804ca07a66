"""Where the stronger comparator starts from, and what is left of it when it has been trained."""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ordclust_ray.config import InputError
from ordclust_ray.core.image_comparator import ImageComparator

WEIGHTS, DESCRIPTION = "comparator.safetensors", "comparator.json"
IMAGENET, NONE = "imagenet", "none"
GLOROT = "comparator starts from Glorot's initialisation"


def load_weights(comparator: ImageComparator, source: str) -> str:
    """Gives the backbone its weights; all else keeps Glorot's initialisation.

    Args:
        comparator: new.
        source: "imagenet" for torchvision's, where they fit and can be fetched; "none"; or a file of weights under
            torchvision's names, those of its classifier included or not.

    Returns:
        One line that says what the comparator starts from.

    Raises:
        InputError: a file that is missing, that is no file of weights, or that does not fit.
    """
    if source == NONE:
        return GLOROT
    if source == IMAGENET:
        return _from_imagenet(comparator)
    weights = _read(source)
    if misfit := _misfit(comparator, weights):
        raise InputError(f"--comparator.weights is {source!r}; it must fit {_named(comparator)}: {misfit}")
    comparator.backbone.load_state_dict(_of_backbone(weights), strict=False)
    return f"comparator starts from {source}"


def save_comparator(folder: Path, comparator: ImageComparator, *, scale: str, tolerance: float) -> None:
    """The network, what builds it, and which ranks it calls similar."""
    save_file({name: tensor.contiguous() for name, tensor in comparator.state_dict().items()}, folder / WEIGHTS)
    network = {name: getattr(comparator, name) for name in ("network", "image_size", "width")}
    (folder / DESCRIPTION).write_text(json.dumps({**network, "scale": scale, "tolerance": tolerance}, indent=1))


def describe_comparator(folder: Path) -> dict[str, Any]:
    """What `save_comparator` wrote of the network, `scale` and `tolerance` among it."""
    return json.loads((folder / DESCRIPTION).read_text())


def load_comparator(folder: Path) -> ImageComparator:
    """The network of `save_comparator`, in evaluation mode; nothing is unpickled."""
    found = describe_comparator(folder)
    comparator = ImageComparator(found["network"], found["image_size"], found["width"])
    comparator.load_state_dict(load_file(folder / WEIGHTS))
    return comparator.eval()


def _from_imagenet(comparator: ImageComparator) -> str:
    """Those that torchvision has; whether they fit is known before they are fetched."""
    from torchvision.models import get_model, get_model_weights

    with torch.device("meta"):
        published = get_model(comparator.network).state_dict()
    if _misfit(comparator, published):
        return f"{GLOROT}: ImageNet weights do not fit {_named(comparator)}"
    try:
        weights = get_model_weights(comparator.network)["IMAGENET1K_V1"].get_state_dict(
            progress=False, check_hash=True, weights_only=True
        )
    except (OSError, RuntimeError) as error:
        return f"{GLOROT}: ImageNet weights cannot be fetched ({error})"
    comparator.backbone.load_state_dict(_of_backbone(weights), strict=False)
    return "comparator starts from ImageNet weights"


def _read(source: str) -> dict[str, Tensor]:
    """Tensors of a file, by name."""
    file = Path(source).expanduser()
    if not file.is_file():
        raise InputError(
            f"--comparator.weights is {source!r}; it must be {IMAGENET}, {NONE}, or a file of weights "
            "(.pth, .pt or .safetensors)"
        )
    try:
        found: Any = (
            load_file(file)
            if file.suffix == ".safetensors"
            else torch.load(file, map_location="cpu", weights_only=True)
        )
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, SafetensorError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(tensor, Tensor) for tensor in found.values()):
        raise InputError(f"--comparator.weights is {source!r}; it must hold tensors by their names, and nothing else")
    return found


def _of_backbone(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of a torchvision network without its classifier, under the backbone's names."""
    return {
        name.removeprefix("features."): tensor
        for name, tensor in weights.items()
        if not name.startswith(("fc.", "classifier."))
    }


def _misfit(comparator: ImageComparator, weights: Mapping[str, Tensor]) -> str:
    """What keeps weights from the backbone, in words; empty where they fit. Old files do not count batches."""
    found, own = _of_backbone(weights), comparator.backbone.state_dict()
    for name, tensor in own.items():
        if name not in found and not name.endswith("num_batches_tracked"):
            return f"{name} is missing"
        if name in found and found[name].shape != tensor.shape:
            return f"{name} has the shape {tuple(found[name].shape)} instead of {tuple(tensor.shape)}"
    foreign = sorted(set(found) - set(own))
    return f"it has no {foreign[0]}" if foreign else ""


def _named(comparator: ImageComparator) -> str:
    width = "" if comparator.width == 1 else f" and width {comparator.width:g}"
    return f"{comparator.network} at {comparator.image_size} pixels{width}"
