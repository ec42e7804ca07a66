"""What every job asks of the sets, on their generated copies."""

import pickle
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from ordclust_ray.datasets.listing import DataSet
from ordclust_ray.datasets.photographs import SETS


@pytest.mark.parametrize("data", SETS, ids=lambda data: data.name)
def test_each_set_is_whole_on_its_generated_copy(data: DataSet, tmp_path: Path) -> None:
    """Its columns, numbered rows, no source twice, images that decode."""
    assert data.generate is not None
    data.generate(tmp_path / "a")
    data.generate(tmp_path / "b")
    listing, again = data.read(tmp_path / "a", None), data.read(tmp_path / "b", None)
    columns = [name for name in listing.rows if name != "source"]
    assert listing.rows[columns].equals(again.rows[columns])
    assert set(listing.rows) >= {"source", "split", *data.groups, *(["rank"] if data.rank_unit else ["label"])}
    assert listing.rows.index.tolist() == list(range(len(listing.rows)))
    assert not listing.rows.isna().any().any()
    assert listing.rows["source"].is_unique
    kinds = listing.rows["label" if "label" in listing.rows else "rank"]
    assert listing.rows.groupby([kinds, "split"]).size().min() >= 2
    store = pickle.loads(pickle.dumps(listing.images))
    encoded = list(store.read(listing.rows.index.to_numpy(), listing.rows["source"].tolist()))
    assert len(encoded) == len(listing.rows)
    for image in encoded[:: max(1, len(encoded) // 20)]:
        Image.open(BytesIO(image), formats=["PNG", "JPEG"]).load()
