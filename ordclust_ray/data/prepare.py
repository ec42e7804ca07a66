"""From a source to the two sets that a run needs: decoded images with rank levels, train and test."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import ray.data
from numpy.typing import NDArray
from ray.data.expressions import col

from ordclust_ray.config import DataConfig, DrcConfig, InputError
from ordclust_ray.core.order import similar_levels
from ordclust_ray.core.random_keys import random_keys
from ordclust_ray.data.decoded import as_text, decoded_images, fingerprint, joined, sort_keys
from ordclust_ray.data.readers import Source, open_source

MAX_LEVELS = 1000
TRAIN, TEST = "train", "test"
TEST_COLUMNS = ["key", "instance_id", "image"]


@dataclass(frozen=True)
class Prepared:
    """What the stops after `data` work with.

    Attributes:
        train: materialized rows in the order of random keys: `key`, `instance_id`, `image` (S, S, 3) uint8, `level`
            (index into `rank_levels`), `group` (index into `groups`, -1 where there is none).
        test: the held-out images, in such an order too: `key`, `instance_id`, `image`.
        manifest: by `instance_id`: `source`, `rank`, `split`, and `group` where the data has it.
        rank_levels: the distinct ranks of the training images, ascending.
        groups: names of the known groups.
        broken: instance_id, source and reason of each image that was left out.
        checksums: of all images' files, by instance id.
    """

    train: ray.data.Dataset
    test: ray.data.Dataset
    manifest: pd.DataFrame
    rank_levels: NDArray[np.float64]
    groups: list[str]
    broken: pd.DataFrame
    checksums: NDArray[np.uint32]

    def fingerprint(self) -> str:
        """Of who is in which split with which rank and image; the same data give the same one."""
        return fingerprint(self.manifest, ["rank", "split"], self.checksums)


def open_checked(config: DrcConfig) -> Source:
    """Opens the source and checks what can be checked without decoding: all of it, before Ray has work to do.

    Raises:
        InputError: ranks that are missing or no numbers, one single rank, too few images; one line.
    """
    source = open_source(config.data)
    manifest = source.manifest
    manifest.index.name = "instance_id"
    manifest["rank"] = _numeric_ranks(manifest, config)
    if config.data.fold_column:
        manifest["split"] = _split_of_folds(manifest["split"], config.data)
    elif config.data.split_column:
        manifest["split"] = _named_split(as_text(manifest["split"]), config.data.split_column)
    if config.data.group_column:
        manifest["group"] = as_text(manifest["group"])
    distinct = manifest["rank"].nunique()
    if distinct < 2:
        raise InputError(f"column {config.data.rank_column!r} holds {distinct} distinct ranks; at least 2 are needed")
    if distinct > MAX_LEVELS:
        raise InputError(
            f"column {config.data.rank_column!r} holds {distinct} distinct ranks, over {MAX_LEVELS}; "
            "--rank.step rounds them"
        )
    if config.rank.scale == "geometric" and manifest["rank"].min() <= 0:
        raise InputError(f"--rank.scale geometric needs ranks above 0; the lowest is {manifest['rank'].min():g}")
    levels = np.unique(manifest["rank"])
    if (similar_levels(levels, config.rank.tolerance, config.rank.scale)[1] == len(levels)).all():
        raise InputError(
            f"--rank.tolerance is {config.rank.tolerance:g}: all ranks ({levels[0]:g} to {levels[-1]:g}) are similar "
            "then, and none can be told from another"
        )
    least = max(2 * config.clustering.num_clusters, 4)
    if len(manifest) < least:
        raise InputError(f"there are {len(manifest)} images; {config.clustering.num_clusters} clusters need {least}")
    return source


def _numeric_ranks(manifest: pd.DataFrame, config: DrcConfig) -> pd.Series:
    ranks = pd.to_numeric(manifest["rank"], errors="coerce").astype(float)
    if manifest["rank"].dtype.kind in "mM":
        ranks[:] = np.nan  # dates and durations: pandas would count nanoseconds
    bad = manifest[~np.isfinite(ranks)]
    if len(bad):
        rank, where = bad["rank"].iloc[0], bad["source"].iloc[0]
        shown = rank.item() if isinstance(rank, np.generic) else rank
        raise InputError(
            f"column {config.data.rank_column!r} has {len(bad)} missing or non-numeric ranks; "
            f"the first is {shown!r} at {where}"
        )
    step = config.rank.step
    return (ranks / step).round() * step if step else ranks


def _named_split(split: pd.Series, column: str) -> pd.Series:
    for name in (TRAIN, TEST):
        if not (split == name).any():
            found = ", ".join(map(repr, sorted(split.unique())[:5]))
            raise InputError(f"column {column!r} has no {name!r}; its values are {found}")
    return split.where(split.isin([TRAIN, TEST]), "")


def _split_of_folds(folds: pd.Series, data: DataConfig) -> pd.Series:
    fold = data.train_fold or data.test_fold
    own, others = (TRAIN, TEST) if data.train_fold else (TEST, TRAIN)
    known = folds.dropna()
    if not (known == fold).any() or (known == fold).all():
        found = ", ".join(map(repr, sorted(known.unique())[:10]))
        raise InputError(
            f"column {data.fold_column!r} has to hold fold {fold}, as --data.{own}-fold says, and others; "
            f"it holds {found}"
        )
    return folds.eq(fold).map({True: own, False: others}).where(folds.notna(), "")


def prepare(
    source: Source,
    config: DrcConfig,
    image_size: int | None = None,
    more_columns: Mapping[str, NDArray] | None = None,
) -> Prepared:
    """Decodes every image once, leaves out the broken ones, splits, and shuffles by seeded keys.

    Args:
        source: from `open_checked`.
        config: the run's settings.
        image_size: another side of the decoded images than the settings'.
        more_columns: of the training rows; arrays over all instance ids.

    Raises:
        TooManyBrokenError: more than `max_broken_fraction`.
        InputError: what is left of the training set is too small.
    """
    data = replace(config.data, image_size=image_size or config.data.image_size)
    unused = (source.manifest["split"] == "").to_numpy() if "split" in source.manifest else np.zeros(0, dtype=bool)
    decoded, broken, checksums = decoded_images(source, data, ~unused if unused.any() else None)
    divided = divide(source.manifest, broken.index, config)
    more = dict(more_columns or {})
    rows = joined(decoded, divided.columns | more)
    # The sort comes last: an operator after it would pass blocks on in the order in which they are done.
    train_rows = rows.filter(expr=col(TRAIN)).select_columns([*TEST_COLUMNS, "level", "group", *more]).sort("key")
    test_rows = rows.filter(expr=col(TEST)).select_columns(TEST_COLUMNS).sort("key")
    return Prepared(
        train_rows.materialize(),
        test_rows.materialize(),
        divided.manifest,
        divided.rank_levels,
        divided.groups,
        broken,
        checksums,
    )


@dataclass(frozen=True)
class Divided:
    """Who is in which part, with which rank and group.

    Attributes:
        manifest: as `Prepared` has it.
        rank_levels: as `Prepared` has them.
        groups: as `Prepared` has them.
        columns: arrays over all instance ids: `train` and `test` (bool), `level`, `group`, `key`.
    """

    manifest: pd.DataFrame
    rank_levels: NDArray[np.float64]
    groups: list[str]
    columns: dict[str, NDArray]


def divide(everyone: pd.DataFrame, broken: pd.Index, config: DrcConfig) -> Divided:
    """Training and held-out images, by the settings.

    Args:
        everyone: manifest from `open_checked`; gets a seeded `split` where it has none.
        broken: instance ids of those that are left out.
        config: the run's settings.

    Raises:
        InputError: a part that is too small.
    """
    seed = config.run.seed
    if "split" not in everyone:  # before the broken ones are left out: who is held out does not depend on them
        everyone["split"] = stratified_split(everyone["rank"], config.data.test_fraction, seed)
    manifest = everyone.drop(broken)
    manifest = manifest[manifest["split"] != ""]
    train = manifest[manifest["split"] == TRAIN]
    if len(train) < 2 * config.clustering.num_clusters or train["rank"].nunique() < 2:
        raise InputError(
            f"{len(train)} training images with {train['rank'].nunique()} distinct ranks are too few for "
            f"{config.clustering.num_clusters} clusters; {2 * config.clustering.num_clusters} images and 2 ranks are"
        )
    workers = config.training.max_workers
    if len(train) < 2 * workers:
        raise InputError(f"{len(train)} training images are too few for --training.num-workers {workers}")
    if len(train) == len(manifest):
        raise InputError(f"no image is left to test on; --data.test-fraction is {config.data.test_fraction:g}")
    rank_levels = np.unique(train["rank"].to_numpy())
    groups = sorted(set(manifest["group"]) - {""}) if "group" in manifest else []
    return Divided(manifest, rank_levels, groups, _small_columns(len(everyone), manifest, rank_levels, groups, seed))


def stratified_split(ranks: pd.Series, test_fraction: float, seed: int) -> pd.Series:
    """Every so-many-th instance in the order of (rank, random key) is held out.

    Each rank gives its share to within one instance, however many instances or ranks there are.

    Args:
        ranks: theta by instance_id.
        test_fraction: share that is held out, in (0, 1).
        seed: of the order within a rank.

    Returns:
        "train" or "test" by instance_id.
    """
    keys = random_keys(ranks.index.to_numpy(dtype=np.int64), seed)
    order = np.lexsort((keys, ranks.to_numpy()))
    place = np.arange(len(ranks))
    held_out = np.floor((place + 1) * test_fraction + 0.5) > np.floor(place * test_fraction + 0.5)
    split = np.empty(len(ranks), dtype=object)
    split[order] = np.where(held_out, TEST, TRAIN)
    return pd.Series(split, index=ranks.index)


def _small_columns(
    n: int, manifest: pd.DataFrame, rank_levels: NDArray[np.float64], groups: list[str], seed: int
) -> dict[str, NDArray]:
    """Arrays over all instance ids, to be joined to decoded rows wherever those are."""
    ids = manifest.index.to_numpy(dtype=np.int64)
    columns: dict[str, NDArray] = {name: np.zeros(n, dtype=bool) for name in (TRAIN, TEST)}
    for name in (TRAIN, TEST):
        columns[name][ids[manifest["split"] == name]] = True
    columns["level"] = np.zeros(n, dtype=np.int64)
    columns["level"][ids] = np.searchsorted(rank_levels, manifest["rank"].to_numpy())
    columns["group"] = np.full(n, -1, dtype=np.int64)
    if groups:
        columns["group"][ids] = group_codes(manifest["group"], groups)
    columns["key"] = sort_keys(n, seed)
    return columns


def group_codes(column: pd.Series, groups: list[str]) -> NDArray[np.int64]:
    """The place of each instance's group among the groups, -1 where it has none."""
    return pd.Index(groups).get_indexer(pd.Index(column)).astype(np.int64)
