"""Trained models as folders: networks and tables as safetensors, their sizes as JSON. Nothing here is unpickled.

Two systems, two kinds of model: `RankEstimator` of DRC-ORID and `FeatureClusters` of IDFD.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from ordclust_ray.config import DrcConfig, IdfdConfig, InputError
from ordclust_ray.core.feature_clusters import FeatureClusters
from ordclust_ray.core.feature_networks import FeatureNetwork
from ordclust_ray.core.image_comparator import ImageComparator
from ordclust_ray.core.networks import Orid
from ordclust_ray.core.rank_estimator import RankEstimator, RankNetworks
from ordclust_ray.training.checkpoint import read_tensors

MODEL, DESCRIPTION, NETWORKS, TABLES = "model", "model.json", "networks.safetensors", "tables.safetensors"
RANKS, CLUSTERS = DrcConfig.system, IdfdConfig.system
ESTIMATOR_TABLES = (
    "centroids",
    "rank_levels",
    "likelihoods",
    "reference_ids",
    "reference_compared",
    "reference_identity",
)


def describe_model(folder: Path, flag: str = "model") -> dict[str, Any]:
    """What a model's folder says of it: `system`, `image_size`, `max_pixels`, and the sizes of its networks.

    Raises:
        InputError: it is no model's folder.
    """
    try:
        found: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text())
    except (OSError, ValueError):
        found = {}
    if found.get("system") not in (RANKS, CLUSTERS):
        raise InputError(f"--{flag}: {folder} holds no model; give the folder of a finished run")
    return found


def build_orid(config: DrcConfig, weights: Mapping[str, Tensor]) -> Orid:
    """ORID as a run trained it."""
    orid = Orid(config.data.image_size, **asdict(config.model))
    orid.load_state_dict(weights)
    return orid.cpu()


def save_networks(
    folder: Path, networks: RankNetworks, config: DrcConfig, comparator: Mapping[str, Any] | None
) -> None:
    """ORID, and the stronger comparator where there is one, with what is needed to build them again.

    Args:
        folder: made if it is not there.
        networks: to be saved.
        config: of the run that trained ORID.
        comparator: arguments of `ImageComparator`, or None where ORID compares.
    """
    description = {
        "image_size": config.data.image_size,
        "max_pixels": config.data.max_pixels,
        "orid": asdict(config.model),
        "comparator": dict(comparator) if comparator else None,
    }
    _save(folder, RANKS, description, networks)


def load_networks(folder: Path) -> RankNetworks:
    """The inverse of `save_networks`."""
    found = describe_model(folder)
    comparator = ImageComparator(**found["comparator"]) if found["comparator"] else None
    networks = RankNetworks(Orid(found["image_size"], **found["orid"]), comparator)
    networks.load_state_dict(read_tensors(folder / NETWORKS))
    return networks


def save_estimator(folder: Path, estimator: RankEstimator, **comparison: Any) -> None:
    """What an estimator has beside its networks, into the folder of `save_networks`.

    Args:
        folder: of the model.
        estimator: to be saved.
        comparison: how ranks are compared, for who reads the description: `tolerance` and `scale`.
    """
    save_file({name: getattr(estimator, name).contiguous() for name in ESTIMATOR_TABLES}, folder / TABLES)
    settings = {name: getattr(estimator, name) for name in ("references", "grouped", "credible_mass")}
    said = {"estimator": settings, "comparison": comparison, "rank_levels": estimator.rank_levels.tolist()}
    (folder / DESCRIPTION).write_text(json.dumps(describe_model(folder) | said, indent=1))


def load_estimator(folder: Path) -> RankEstimator:
    """The inverse of `save_networks` and `save_estimator`."""
    tables = read_tensors(folder / TABLES)
    settings = describe_model(folder)["estimator"]
    return RankEstimator(load_networks(folder), *(tables[name] for name in ESTIMATOR_TABLES), **settings)


def sizes_of(folder: Path) -> dict[str, int]:
    """Sides of the decoded images that a model takes: `image`, and `compared` for a stronger comparator."""
    found = describe_model(folder)
    comparator = found.get("comparator")
    return {"image": found["image_size"]} | ({"compared": comparator["image_size"]} if comparator else {})


def save_clusters(folder: Path, clusters: FeatureClusters, config: IdfdConfig) -> None:
    """The network and the centroids of IDFD."""
    description = {
        "image_size": config.data.image_size,
        "max_pixels": config.data.max_pixels,
        "network": asdict(config.model),
    }
    _save(folder, CLUSTERS, description, clusters.network)
    save_file({"centroids": clusters.centroids.contiguous()}, folder / TABLES)


def load_clusters(folder: Path) -> FeatureClusters:
    """The inverse of `save_clusters`."""
    found = describe_model(folder)
    network = FeatureNetwork(image_size=found["image_size"], **found["network"])
    network.load_state_dict(read_tensors(folder / NETWORKS))
    return FeatureClusters(network, read_tensors(folder / TABLES)["centroids"])


def _save(folder: Path, system: str, description: Mapping[str, Any], network: nn.Module) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: tensor.contiguous() for key, tensor in network.state_dict().items()}, folder / NETWORKS)
    (folder / DESCRIPTION).write_text(json.dumps({"system": system, **description}, indent=1))
