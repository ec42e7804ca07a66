"""From a source to what IDFD trains on: decoded images with their rows of the bank; labels stay on the driver."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import ray.data
from numpy.typing import NDArray
from ray.data.expressions import col

from ordclust_ray.config import IdfdConfig, InputError
from ordclust_ray.core.random_keys import random_keys
from ordclust_ray.data.decoded import as_text, decoded_images, fingerprint, joined, sort_keys
from ordclust_ray.data.readers import Source, open_source

COLUMNS = ["key", "instance_id", "image", "bank_row"]
SUBSET = 0
"""The seed of `--data.max-images`: runs that differ in their seed see the same images."""


@dataclass(frozen=True)
class Unlabelled:
    """What the stops after `data` work with.

    Attributes:
        train: materialized rows in the order of random keys: `key`, `instance_id`, `image` (S, S, 3) uint8, `bank_row`.
        manifest: by `instance_id`, ascending, a row for each row of the bank: `source`, and `label` where it is known.
        classes: names of the known classes; none where there are no labels.
        labels: (n,) class of each row of the bank, -1 where it is not known.
        num_clusters: k.
        broken: instance_id, source and reason of each image that was left out.
        checksums: of all images' files, by instance id.
    """

    train: ray.data.Dataset
    manifest: pd.DataFrame
    classes: list[str]
    labels: NDArray[np.int64]
    num_clusters: int
    broken: pd.DataFrame
    checksums: NDArray[np.uint32]

    def rows_of(self, instance_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of the bank of some images."""
        return np.searchsorted(self.manifest.index.to_numpy(dtype=np.int64), instance_ids)

    def fingerprint(self) -> str:
        """Of which images there are; the same data give the same one."""
        return fingerprint(self.manifest, [], self.checksums)


def open_unlabelled(config: IdfdConfig) -> Source:
    """Opens the source and checks what can be checked without decoding.

    Raises:
        InputError: no such split, no number of clusters and no labels to count, too few images; one line.
    """
    source = open_source(config.data)
    source.manifest.index.name = "instance_id"
    if "label" in source.manifest:
        source.manifest["label"] = as_text(source.manifest["label"])
    wanted = source.manifest[_of_split(source.manifest, config)]
    images = min(len(wanted), config.data.max_images or len(wanted))
    _require_enough(images, config, _num_clusters(wanted, config))
    return source


def _of_split(manifest: pd.DataFrame, config: IdfdConfig) -> NDArray[np.bool_]:
    """Which of the images are wanted, whatever their number."""
    if not config.data.split:
        return np.ones(len(manifest), dtype=bool)
    split = as_text(manifest["split"])
    if not (split == config.data.split).any():
        found = ", ".join(map(repr, sorted(split.unique())[:5]))
        raise InputError(f"--data.split is {config.data.split!r}; column 'split' holds {found}")
    return (split == config.data.split).to_numpy(copy=True)


def wanted_images(manifest: pd.DataFrame, config: IdfdConfig) -> NDArray[np.bool_]:
    """Which of the images a run has, by instance id: those of its split, and at most so many."""
    wanted, most = _of_split(manifest, config), config.data.max_images
    if most and most < wanted.sum():
        places = np.flatnonzero(wanted)
        wanted[places[np.argsort(random_keys(places, SUBSET), kind="stable")[most:]]] = False
    return wanted


def _require_enough(images: int, config: IdfdConfig, num_clusters: int) -> None:
    workers, negatives = config.training.max_workers, config.bank.negatives
    least = max(2 * num_clusters, 2 * workers, 10)
    if images < least:
        raise InputError(f"there are {images} images; {num_clusters} clusters and {workers} workers need {least}")
    if negatives >= images:
        raise InputError(f"--bank.negatives is {negatives}; it must be 0, which is all, or below the {images} images")


def _num_clusters(manifest: pd.DataFrame, config: IdfdConfig) -> int:
    if config.clustering.num_clusters:
        return config.clustering.num_clusters
    if "label" not in manifest:
        raise InputError(
            "--clustering.num-clusters is 0, as many as there are known classes, and none is known; "
            "give a number of at least 2, or --data.label-column"
        )
    known = len(set(manifest["label"]) - {""})
    if known < 2:
        raise InputError(f"column {config.data.label_column!r} holds {known} distinct classes; at least 2 are needed")
    return known


def prepare_unlabelled(source: Source, config: IdfdConfig) -> Unlabelled:
    """Decodes every chosen image once, leaves out the broken ones, numbers the rows, and shuffles by seeded keys.

    Raises:
        TooManyBrokenError: more than `max_broken_fraction`.
    """
    usable, n = wanted_images(source.manifest, config), len(source.manifest)
    decoded, broken, checksums = decoded_images(source, config.data, None if usable.all() else usable)
    usable[broken.index.to_numpy(dtype=np.int64)] = False
    manifest = source.manifest[usable]
    num_clusters = _num_clusters(manifest, config)
    _require_enough(len(manifest), config, num_clusters)
    classes = sorted(set(manifest["label"]) - {""}, key=_by_number) if "label" in manifest else []
    labels = pd.Index(classes).get_indexer(pd.Index(manifest["label"])) if classes else np.full(len(manifest), -1)
    columns = {"usable": usable, "bank_row": np.cumsum(usable) - 1, "key": sort_keys(n, config.run.seed)}
    rows = joined(decoded, columns).filter(expr=col("usable")).select_columns(COLUMNS).sort("key")
    return Unlabelled(
        rows.materialize(),
        manifest,
        classes,
        labels.astype(np.int64),
        num_clusters,
        broken,
        checksums,
    )


def _by_number(name: str) -> tuple[float, str]:
    """Classes that are numbers in the order of the numbers, others by name.

    >>> sorted(["10", "9", "cat"], key=_by_number)
    ['9', '10', 'cat']
    """
    return (float(name) if name.isdecimal() else float("inf"), name)
