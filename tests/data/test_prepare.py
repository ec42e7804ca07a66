"""Preparing: what is wrong is said before anything is decoded; what comes out belongs to its id."""

import datetime
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from hypothesis import given, settings
from hypothesis import strategies as st

from ordclust_ray.config import ClusteringConfig, DataConfig, DrcConfig, RankConfig, RunConfig
from ordclust_ray.core.order import RankScale
from ordclust_ray.data.decoded import TooManyBrokenError
from ordclust_ray.data.prepare import Prepared, open_checked, prepare, stratified_split

Png = Callable[[int], bytes]


def configured(folder: Path, columns: dict[str, Any], num_clusters: int = 2, **data: Any) -> DrcConfig:
    """A configuration for a Parquet file of these columns; images are garbage where the columns have none."""
    n = len(next(iter(columns.values())))
    pq.write_table(pa.table({"image": [b"garbage"] * n} | columns), folder / "set.parquet", row_group_size=16)
    return DrcConfig(
        data=DataConfig(path=str(folder / "set.parquet"), image_size=16, **data),
        clustering=ClusteringConfig(num_clusters=num_clusters),
    )


def prepared_from(config: DrcConfig) -> Prepared:
    return prepare(open_checked(config), config)


def ids(rows: ray.data.Dataset) -> list[int]:
    return [row["instance_id"] for row in rows.select_columns(["instance_id"]).take_all()]


def colours(images: np.ndarray) -> list[int]:
    """The numbers of numbered images, checked to be of one colour."""
    assert images.dtype == np.uint8
    assert (images == images[:, :1, :1]).all()
    assert (images[..., 2] == 7).all()
    return (images[:, 0, 0, 0] + 256 * images[:, 0, 0, 1].astype(int)).tolist()


def batch_of(rows: ray.data.Dataset) -> dict[str, np.ndarray]:
    return rows.take_batch(rows.count())


# --- checks before decoding: every image here is garbage -------------------------------------------------------------

SIX = [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]
DAYS = [datetime.datetime(2020, 1, day) for day in range(1, 7)]
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "missing rank": (
        {"rank": [1.0, 2.0, None, 1.0, None, 3.0]},
        {},
        r"column 'rank' has 2 missing or non-numeric ranks; the first is (nan|None) at .*/set.parquet#2",
    ),
    "missing count": (
        {"rank": [1, 2, None, 1, 2, 3]},
        {},
        r"column 'rank' has 1 missing or non-numeric ranks; the first is (nan|None) at .*/set.parquet#2",
    ),
    "rank that is a word": (
        {"rank": ["1", "2", "3", "tall", "2", "tall"]},
        {},
        r"column 'rank' has 2 missing or non-numeric ranks; the first is 'tall' at .*/set.parquet#3",
    ),
    "empty text": (
        {"rank": ["1", "", "3", "4", "2", "3"]},
        {},
        r"column 'rank' has 1 missing or non-numeric ranks; the first is '' at .*/set.parquet#1",
    ),
    "infinite rank": (
        {"rank": [1.0, 2.0, 3.0, math.inf, -math.inf, 3.0]},
        {},
        r"column 'rank' has 2 .*ranks; the first is inf at .*/set.parquet#3",
    ),
    "date": ({"rank": DAYS}, {}, r"column 'rank' has 6 missing or non-numeric ranks; the first is .*2020.* at .*#0"),
    "duration": (
        {"rank": [day - DAYS[0] for day in DAYS]},
        {},
        r"column 'rank' has 6 missing or non-numeric ranks; the first is .* at .*#0",
    ),
    "one single rank": ({"rank": [4] * 6}, {}, r"column 'rank' holds 1 distinct ranks; at least 2 are needed"),
    "no rows": (
        {"image": pa.array([], pa.binary()), "rank": pa.array([], pa.int64())},
        {},
        r"column 'rank' holds 0 distinct ranks; at least 2 are needed",
    ),
    "too few images for k": ({"rank": SIX}, {"num_clusters": 4}, r"there are 6 images; 4 clusters need 8"),
    "too few images": ({"rank": [1, 2, 1]}, {"num_clusters": 1}, r"there are 3 images; 1 clusters need 4"),
    "too many ranks": (
        {"rank": np.arange(1001) / 7},
        {},
        r"column 'rank' holds 1001 distinct ranks, over 1000; --rank.step rounds them",
    ),
    "split without test": (
        {"rank": SIX, "fold": ["train", "val", "train", "Test", "val", "train"]},
        {"split_column": "fold"},
        r"column 'fold' has no 'test'; its values are 'Test', 'train', 'val'",
    ),
    "split without train": (
        {"rank": SIX, "fold": [0, 1, 0, 1, 0, 1]},
        {"split_column": "fold"},
        r"column 'fold' has no 'train'; its values are '0', '1'",
    ),
    "split with gaps and without test": (
        {"rank": SIX, "fold": ["train", None, "train", None, "val", "train"]},
        {"split_column": "fold"},
        r"column 'fold' has no 'test'; its values are .*'train', 'val'.*",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_decoding(case: str, tmp_path: Path) -> None:
    columns, options, message = REFUSED[case]
    ray_was_up = ray.is_initialized()
    with pytest.raises(ValueError, match=rf"\A{message}\Z"):
        open_checked(configured(tmp_path, columns, **options))
    assert ray.is_initialized() == ray_was_up, "no work for Ray before all is checked"


@pytest.mark.parametrize("lowest", [0, -2.5])
def test_geometric_scale_needs_positive_ranks(lowest: float, tmp_path: Path) -> None:
    config = configured(tmp_path, {"rank": [3.0, lowest, 7.0, 3.0]})
    assert open_checked(config).manifest["rank"].min() == lowest
    with pytest.raises(ValueError, match=rf"\A--rank.scale geometric needs ranks above 0; the lowest is {lowest:g}\Z"):
        open_checked(replace(config, rank=RankConfig(scale="geometric")))


@pytest.mark.parametrize(("tolerance", "scale"), [(4.0, "linear"), (1.61, "geometric")])
def test_a_tolerance_over_all_ranks_leaves_nothing_to_compare(
    tolerance: float, scale: RankScale, tmp_path: Path
) -> None:
    config = configured(tmp_path, {"image": [b""] * 10, "rank": [1, 2, 3, 4, 5] * 2})
    message = rf"\A--rank.tolerance is {tolerance:g}: all ranks \(1 to 5\) are similar then[^\n]+\Z"
    with pytest.raises(ValueError, match=message):
        open_checked(replace(config, rank=RankConfig(tolerance=tolerance, scale=scale)))
    open_checked(replace(config, rank=RankConfig(tolerance=0.9 * tolerance, scale=scale)))


def test_what_is_right_passes_without_decoding(tmp_path: Path) -> None:
    columns = {"rank": ["1", "2.50", "1e1", "-3"], "fold": ["train", None, "test", "val"]}
    manifest = open_checked(configured(tmp_path, columns, split_column="fold")).manifest
    assert manifest["rank"].tolist() == [1.0, 2.5, 10.0, -3.0]
    assert manifest["split"].tolist() == ["train", "", "test", ""]
    assert manifest.index.name == "instance_id"
    assert manifest.index.tolist() == [0, 1, 2, 3]


def test_a_thousand_ranks_are_enough(tmp_path: Path) -> None:
    assert open_checked(configured(tmp_path, {"rank": np.arange(1000) / 7})).manifest["rank"].nunique() == 1000


def test_rank_step_rounds(tmp_path: Path) -> None:
    config = configured(tmp_path, {"rank": [0.11, 0.14, 0.26, -0.26, 0.34, 7.0]})
    manifest = open_checked(replace(config, rank=RankConfig(step=0.1))).manifest
    np.testing.assert_allclose(manifest["rank"], [0.1, 0.1, 0.3, -0.3, 0.3, 7.0])
    assert manifest["rank"].nunique() == 4, "0.26 and 0.34 are the same rank, bit for bit"


def test_rank_step_makes_too_many_ranks_few(tmp_path: Path) -> None:
    ranks = np.random.default_rng(0).uniform(1, 10, 1500)
    config = configured(tmp_path, {"rank": ranks})
    manifest = open_checked(replace(config, rank=RankConfig(step=0.5))).manifest
    assert sorted(manifest["rank"].unique()) == np.arange(1, 10.5, 0.5).tolist()
    assert np.abs(manifest["rank"] - ranks).max() <= 0.25


# --- the split -------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    ranks=st.lists(st.integers(0, 5), min_size=1, max_size=80),
    fraction=st.sampled_from([0.01, 0.1, 0.2, 1 / 3, 0.5, 0.77, 0.9]),
    seed=st.integers(0, 2**32 - 1),
)
def test_each_rank_gives_its_share_to_within_one(ranks: list[int], fraction: float, seed: int) -> None:
    theta = pd.Series(ranks, dtype=float)
    split = stratified_split(theta, fraction, seed)
    assert split.index.equals(theta.index)
    assert split.isin(["train", "test"]).all()
    held_out = split == "test"
    for rank in set(ranks):
        of_rank = theta == rank
        assert abs((held_out & of_rank).sum() - fraction * of_rank.sum()) < 1 + 1e-9
    assert abs(held_out.sum() - fraction * len(ranks)) <= 0.5 + 1e-9, "the shares of all ranks together"


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.25])
def test_continuous_ranks_are_held_out_all_along_the_scale(fraction: float) -> None:
    theta = pd.Series(np.random.default_rng(1).normal(size=400))
    held_out = theta.sort_values().index[stratified_split(theta, fraction, 0)[theta.sort_values().index] == "test"]
    places = theta.rank()[held_out].to_numpy()
    assert len(places) == 400 * fraction
    np.testing.assert_allclose(np.diff(places), 1 / fraction, atol=0.01)


def test_split_belongs_to_the_instance_not_to_the_order_of_rows() -> None:
    generator = np.random.default_rng(2)
    theta = pd.Series(generator.integers(0, 4, 200).astype(float), index=generator.permutation(500)[:200])
    split = stratified_split(theta, 0.3, 5)
    shuffled = stratified_split(theta.sample(frac=1, random_state=0), 0.3, 5)
    pd.testing.assert_series_equal(split.sort_index(), shuffled.sort_index())


def test_split_is_seeded() -> None:
    theta = pd.Series(np.repeat([1.0, 2.0, 3.0], 40))
    first = stratified_split(theta, 0.2, 7)
    pd.testing.assert_series_equal(first, stratified_split(theta, 0.2, 7))
    assert 0 < ((first == "test") & (stratified_split(theta, 0.2, 8) == "test")).sum() < 16


# --- the small data set: 103 numbered images, two of them broken, in three files -------------------------------------


@pytest.fixture(scope="module")
def written(small_config: DrcConfig) -> pd.DataFrame:
    """Rank and group of each id, read from the files by another way."""
    files = sorted(Path(small_config.data.path).iterdir())
    return pd.concat([pq.read_table(file, columns=["rank", "kind"]).to_pandas() for file in files], ignore_index=True)


def test_every_instance_is_in_one_place(prepared: Prepared) -> None:
    train, test, broken = ids(prepared.train), ids(prepared.test), prepared.broken.index.tolist()
    assert sorted([*train, *test, *broken]) == list(range(103))
    split = prepared.manifest["split"]
    assert sorted(train) == split.index[split == "train"].tolist()
    assert sorted(test) == split.index[split == "test"].tolist()


def test_broken_images_are_listed(prepared: Prepared, small_config: DrcConfig) -> None:
    assert prepared.broken.index.name == "instance_id"
    assert prepared.broken.index.tolist() == [3, 34]
    folder = small_config.data.path
    assert prepared.broken["source"].tolist() == [f"{folder}/a.parquet#3", f"{folder}/b.parquet#4"]
    assert "cannot identify" in prepared.broken["reason"][3]
    assert prepared.broken["reason"][34] == "empty, not found, or outside of the folder"


def test_manifest_is_what_the_files_say(prepared: Prepared, written: pd.DataFrame) -> None:
    manifest = prepared.manifest
    assert manifest.index.tolist() == [i for i in range(103) if i not in (3, 34)]
    assert manifest["rank"].tolist() == written["rank"].loc[manifest.index].tolist()
    assert manifest["group"].tolist() == written["kind"].loc[manifest.index].tolist()
    sources = [re.split("[/#]", source)[-2:] for source in manifest["source"]]
    starts = {"a.parquet": 0, "b.parquet": 30, "c.parquet": 70}
    assert [starts[file] + int(row) for file, row in sources] == manifest.index.tolist()


def test_every_training_row_has_its_own_image_level_and_group(prepared: Prepared, written: pd.DataFrame) -> None:
    rows = batch_of(prepared.train)
    assert rows["image"].shape == (prepared.train.count(), 16, 16, 3)
    assert colours(rows["image"]) == rows["instance_id"].tolist()
    theirs = written.loc[rows["instance_id"]]
    assert prepared.rank_levels[rows["level"]].tolist() == theirs["rank"].tolist()
    assert [prepared.groups[group] for group in rows["group"]] == theirs["kind"].tolist()


def test_training_rows_have_the_documented_columns(prepared: Prepared) -> None:
    assert set(prepared.train.schema().names) == {"key", "instance_id", "image", "level", "group"}
    assert set(prepared.test.schema().names) == {"key", "instance_id", "image"}


def test_every_test_row_has_its_own_image(prepared: Prepared) -> None:
    rows = batch_of(prepared.test)
    assert colours(rows["image"]) == rows["instance_id"].tolist()


def test_levels_and_groups_are_sorted_and_of_this_data(prepared: Prepared) -> None:
    manifest = prepared.manifest
    of_training = manifest.loc[manifest["split"] == "train", "rank"]
    assert prepared.rank_levels.tolist() == sorted(of_training.unique())
    assert prepared.rank_levels.dtype == np.float64
    assert prepared.groups == ["broad", "odd", "tall"]


def test_who_is_held_out_does_not_depend_on_the_broken(
    prepared: Prepared, written: pd.DataFrame, small_config: DrcConfig
) -> None:
    split = stratified_split(written["rank"], small_config.data.test_fraction, small_config.run.seed)
    manifest = prepared.manifest
    assert manifest["split"].tolist() == split[manifest.index].tolist()
    assert len(manifest) == len(written) - 2


def test_rows_come_in_the_order_of_their_keys(prepared: Prepared) -> None:
    """Shares and pools are cut by place: after a resume they have to hold the same instances."""
    for rows in (prepared.train, prepared.test):
        keys = [row["key"] for row in rows.select_columns(["key"]).take_all()]
        assert keys == sorted(keys)


def test_training_order_is_a_seeded_shuffle(prepared: Prepared, small_config: DrcConfig) -> None:
    order = ids(prepared.train)
    assert abs(np.corrcoef(order, np.arange(len(order)))[0, 1]) < 0.3
    again = prepared_from(small_config)
    assert ids(again.train) == order
    assert sorted(ids(again.test)) == sorted(ids(prepared.test))
    pd.testing.assert_frame_equal(again.manifest, prepared.manifest)


def test_another_seed_is_another_order_and_another_split(prepared: Prepared, small_config: DrcConfig) -> None:
    other = prepared_from(replace(small_config, run=RunConfig(seed=1)))
    first, second = ids(prepared.train), ids(other.train)
    both = set(first) & set(second)
    assert [i for i in first if i in both] != [i for i in second if i in both]
    assert set(first) != set(second)
    assert sorted([*second, *ids(other.test), *other.broken.index]) == list(range(103))


def test_files_and_row_groups_change_nothing(prepared: Prepared, small_config: DrcConfig, tmp_path: Path) -> None:
    table = pa.concat_tables(pq.read_table(file) for file in sorted(Path(small_config.data.path).iterdir()))
    pq.write_table(table, tmp_path / "all.parquet")
    data = replace(small_config.data, path=str(tmp_path / "all.parquet"))
    of_one_file = prepared_from(replace(small_config, data=data))
    assert ids(of_one_file.train) == ids(prepared.train)
    columns = ["rank", "split", "group"]
    pd.testing.assert_frame_equal(of_one_file.manifest[columns], prepared.manifest[columns])


# --- other data sets -------------------------------------------------------------------------------------------------


def test_own_split_and_no_groups(local_ray: None, tmp_path: Path, png: Png) -> None:
    folds = (["train", "test", "val", "train", None] * 8)[:38]
    ranks = [9.0 if i == 1 else 2.0 + i % 3 for i in range(38)]  # only a test image has rank 9
    columns = {"image": [png(i) for i in range(38)], "rank": ranks, "fold": folds}
    prepared = prepared_from(configured(tmp_path, columns, split_column="fold"))
    train = batch_of(prepared.train)
    assert sorted(train["instance_id"]) == [i for i in range(38) if folds[i] == "train"]
    assert sorted(ids(prepared.test)) == [i for i in range(38) if folds[i] == "test"]
    assert prepared.manifest.index.tolist() == [i for i in range(38) if folds[i] in ("train", "test")]
    assert prepared.rank_levels.tolist() == [2.0, 3.0, 4.0]
    assert colours(train["image"]) == train["instance_id"].tolist()
    assert prepared.rank_levels[train["level"]].tolist() == [2.0 + i % 3 for i in train["instance_id"]]
    assert prepared.groups == []
    assert train["group"].tolist() == [-1] * len(train["group"])
    assert prepared.broken.empty
    assert list(prepared.broken.columns) == ["source", "reason"]


def test_an_unknown_group_is_minus_one(local_ray: None, tmp_path: Path, png: Png) -> None:
    kinds = ["oak", None, "ash", "oak"] * 5
    columns = {"image": [png(i) for i in range(20)], "rank": [i % 2 for i in range(20)], "kind": kinds}
    prepared = prepared_from(configured(tmp_path, columns, group_column="kind"))
    rows = batch_of(prepared.train)
    assert prepared.groups == ["ash", "oak"]
    named = [None if group == -1 else prepared.groups[group] for group in rows["group"]]
    assert named == [kinds[i] for i in rows["instance_id"]]


def test_groups_may_be_numbers(local_ray: None, tmp_path: Path, png: Png) -> None:
    columns = {
        "image": [png(i) for i in range(24)],
        "rank": [i % 2 for i in range(24)],
        "kind": [i % 12 for i in range(24)],
    }
    prepared = prepared_from(configured(tmp_path, columns, group_column="kind"))
    rows = batch_of(prepared.train)
    assert [int(prepared.groups[group]) for group in rows["group"]] == [i % 12 for i in rows["instance_id"]]


def test_too_many_broken_images_stop_and_all_are_listed(local_ray: None, tmp_path: Path, png: Png) -> None:
    images: list[bytes | None] = [png(i) for i in range(40)]
    images[5], images[17], images[39] = None, b"garbage", png(39)[:60]
    columns = {"image": images, "rank": [i % 2 for i in range(40)]}
    config = configured(tmp_path, columns, max_broken_fraction=0.05)
    with pytest.raises(
        TooManyBrokenError,
        match=r"\A3 of 40 images are broken, over --data.max-broken-fraction 0.05; "
        r"the first: .*/set.parquet#5 \(empty, not found, or outside of the folder\)\Z",
    ) as caught:
        prepared_from(config)
    broken = caught.value.broken
    assert broken.index.tolist() == [5, 17, 39]
    assert broken.index.name == "instance_id"
    assert broken["source"].tolist() == [f"{tmp_path}/set.parquet#{i}" for i in (5, 17, 39)]
    assert broken["reason"].str.contains("empty|cannot identify|truncated").all()
    allowed = prepared_from(replace(config, data=replace(config.data, max_broken_fraction=3 / 40)))
    assert allowed.broken.index.tolist() == [5, 17, 39]
    assert len(allowed.manifest) == 37


def test_images_over_max_pixels_are_broken(local_ray: None, tmp_path: Path, png: Png) -> None:
    columns = {"image": [png(i) for i in range(8)], "rank": [i % 2 for i in range(8)]}
    with pytest.raises(TooManyBrokenError, match=r"8 of 8 .*\(16 x 16 pixels, more than 255\)") as caught:
        prepared_from(configured(tmp_path, columns, max_pixels=255))
    assert len(caught.value.broken) == 8


def test_training_set_of_one_rank_is_too_small(local_ray: None, tmp_path: Path, png: Png) -> None:
    columns = {"image": [png(i) for i in range(12)], "rank": [1] * 6 + [2] * 6, "fold": ["train"] * 6 + ["test"] * 6}
    with pytest.raises(
        ValueError, match=r"\A6 training images with 1 distinct ranks are too few for 2 clusters[^\n]+\Z"
    ):
        prepared_from(configured(tmp_path, columns, split_column="fold"))


def test_training_set_smaller_than_the_clusters_need(local_ray: None, tmp_path: Path, png: Png) -> None:
    columns = {"image": [png(i) for i in range(12)], "rank": [1, 2] * 6}
    with pytest.raises(
        ValueError, match=r"\A10 training images with 2 distinct ranks are too few for 6 clusters[^\n]+\Z"
    ):
        prepared_from(configured(tmp_path, columns, num_clusters=6))


def test_no_image_to_test_on_is_an_error(local_ray: None, tmp_path: Path, png: Png) -> None:
    columns = {"image": [png(i) for i in range(20)], "rank": [1, 2] * 10}
    with pytest.raises(ValueError, match=r"\A[^\n]*test[^\n]*\Z"):
        prepared_from(configured(tmp_path, columns, test_fraction=0.01))


def test_training_set_smaller_than_the_workers_need(prepared: Prepared, small_config: DrcConfig) -> None:
    workers = replace(small_config.training, num_workers=41, batch_size=100)
    message = r"\A81 training images are too few for --training.num-workers 41\Z"
    with pytest.raises(ValueError, match=message):
        prepared_from(replace(small_config, training=workers))
