"""AADB and Historical Color Images: generated copies and damaged ones."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from listings import reasons, refused, sizes

from ordclust_ray.datasets.candidates import places_in_draw
from ordclust_ray.datasets.rated import AADB, HCI

LABELS = "imgListFiles_label"
TRAIN_LIST = "imgListTrainRegression_score.txt"
TEST_LIST = "imgListTestNewRegression_score.txt"
DECADES = ["1930s", "1940s", "1950s", "1960s", "1970s"]


@pytest.fixture
def aadb(tmp_path: Path) -> Path:
    AADB.generate(tmp_path / "AADB")  # type: ignore[misc]
    return tmp_path / "AADB"


@pytest.fixture
def hci(tmp_path: Path) -> Path:
    """The folder of decades."""
    HCI.generate(tmp_path / "hci")  # type: ignore[misc]
    return tmp_path / "hci" / "HistoricalColor-ECCV2012" / "data" / "imgs" / "decade_database"


def write(file: Path, *lines: str) -> None:
    file.write_text("".join(f"{line}\n" for line in lines))


def test_aadb_by_its_lists(aadb: Path) -> None:
    """The generated scores are 0.102, 0.302, ..., in steps of 0.01 they are 0.1, 0.3, ..."""
    found = AADB.read(aadb, None)
    rows = found.rows
    assert list(rows.columns) == ["source", "rank", "split"]
    assert rows.index.tolist() == list(range(90))
    counts = rows.groupby(["split", "rank"]).size().to_dict()
    wanted = {"train": 12, "validation": 2, "test": 4}
    assert counts == {(split, rank): n for split, n in wanted.items() for rank in (0.1, 0.3, 0.5, 0.7, 0.9)}
    in_test = rows["source"].str.startswith(str(aadb / "AADB_newtest_originalSize"))
    assert (in_test == (rows["split"] == "test")).all()
    assert rows["source"].is_monotonic_increasing
    assert len(found.left_out) == 0
    assert sizes(found) == [(24, 24)] * 2


def test_scores_are_rounded_to_hundredths(aadb: Path) -> None:
    image = (aadb / LABELS / TEST_LIST).read_text().split()[0]
    for score, rank in (("0.2949", 0.29), ("0", 0.0), ("1", 1.0), ("0.5699999", 0.57), ("5e-1", 0.5)):
        write(aadb / LABELS / TEST_LIST, f"{image} {score}")
        rows = AADB.read(aadb, None).rows
        assert rows.loc[rows["split"] == "test", "rank"].tolist() == [rank]
    assert all(rank == round(rank * 100) / 100 for rank in rows["rank"])


def test_aadb_from_the_folder_above_and_with_warped_images(aadb: Path) -> None:
    pd.testing.assert_frame_equal(AADB.read(aadb, None).rows, AADB.read(aadb.parent, None).rows)
    original = aadb / "datasetImages_originalSize"
    (aadb / "datasetImages_warp256").mkdir()
    moved = sorted(original.iterdir())[0]
    moved.rename(aadb / "datasetImages_warp256" / moved.name)
    both = sorted(original.iterdir())[0]
    (aadb / "datasetImages_warp256" / both.name).touch()
    sources = set(AADB.read(aadb, None).rows["source"])
    assert str(aadb / "datasetImages_warp256" / moved.name) in sources
    assert str(both) in sources
    assert len(sources) == 90


def test_aadb_names_what_is_no_instance(aadb: Path) -> None:
    images = [line.split()[0] for line in (aadb / LABELS / TRAIN_LIST).read_text().splitlines()[:6]]
    write(
        aadb / LABELS / TRAIN_LIST,
        f"{images[0]} 0.5 ",
        "",
        f"{images[0]} 0.7",
        f"{images[1]} 1.2",
        f"{images[2]} good",
        f"{images[3]} nan",
        images[4],
        "absent.jpg 0.5",
    )
    write(aadb / LABELS / TEST_LIST, f"{images[5]} 0.25", f"{images[0]} 0.25")
    found = AADB.read(aadb, None)
    assert found.rows["split"].value_counts().to_dict() == {"train": 1, "test": 1, "validation": 10}
    wrong = "unknown score {!r}; it must be a number from 0 to 1".format
    assert sorted(found.left_out.itertuples(index=False, name=None)) == sorted(
        [
            (images[0], f"listed twice, first as row 1 of {TRAIN_LIST}"),
            (images[0], f"listed twice, first as row 1 of {TRAIN_LIST}"),
            (str(aadb / "datasetImages_originalSize" / images[1]), wrong("1.2")),
            (str(aadb / "datasetImages_originalSize" / images[2]), wrong("good")),
            (str(aadb / "datasetImages_originalSize" / images[3]), wrong("nan")),
            (str(aadb / "datasetImages_originalSize" / images[4]), wrong("")),
            ("absent.jpg", f"listed in {TRAIN_LIST}, but missing"),
        ]
    )


def test_aadb_refuses_what_is_not_aadb(aadb: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "is not AADB as it comes" in refused(AADB, tmp_path / "empty")
    assert "AADB has no published lists" in refused(AADB, aadb, tmp_path)
    for text in ("", "one.jpg\ntwo.jpg\n"):
        (aadb / LABELS / TRAIN_LIST).write_text(text)
        assert f"{TRAIN_LIST}' is not a list of images and scores" in refused(AADB, aadb)
    (aadb / LABELS / TRAIN_LIST).write_bytes(b"caf\xe9.jpg 0.5\n")
    assert f"{TRAIN_LIST}' is not a list of images and scores" in refused(AADB, aadb)
    (aadb / LABELS / TRAIN_LIST).unlink()
    assert f"lacks '{LABELS}/{TRAIN_LIST}' of AADB" in refused(AADB, aadb)


def test_hci_by_its_folders(hci: Path) -> None:
    found = HCI.read(hci.parents[3], None)
    rows = found.rows
    assert list(rows.columns) == ["source", "rank", "label", "split"]
    assert rows["source"][0] == str(hci / "1930s" / "1930s_000.jpg")
    assert rows["rank"].tolist() == [float(1 + i // 20) for i in range(100)]
    assert rows["label"].tolist() == [DECADES[i // 20] for i in range(100)]
    counts = rows.groupby(["label", "split"]).size().to_dict()  # 20 / 265 of 5 and 50 are 0.4 and 3.8
    wanted = {"train": 15, "validation": 1, "test": 4}
    assert counts == {(label, split): n for label in DECADES for split, n in wanted.items()}
    assert sizes(found) == [(24, 24)] * 2


def test_hci_as_it_is_published(tmp_path: Path) -> None:
    for decade in DECADES:
        (tmp_path / decade).mkdir()
        for number in range(265):
            (tmp_path / decade / f"{number}.jpg").touch()
    rows = HCI.read(tmp_path, None).rows
    counts = rows.groupby(["label", "split"]).size().to_dict()
    wanted = {"train": 210, "validation": 5, "test": 50}
    assert counts == {(label, split): n for label in DECADES for split, n in wanted.items()}
    assert rows["split"].value_counts().to_dict() == HCI.published


def test_hci_from_any_folder_above_is_the_same(hci: Path) -> None:
    """Images beside the decades' folders play no part."""
    here = HCI.read(hci, None).rows
    (hci.parent / "figure.jpg").touch()
    (hci.parent / "others").mkdir()
    (hci.parent / "others" / "figure.jpg").touch()
    pd.testing.assert_frame_equal(here, HCI.read(hci.parents[2], None).rows)


def test_hci_names_an_unknown_decade(hci: Path) -> None:
    (hci / "1980s").mkdir()
    (hci / "1980s" / "late.jpg").touch()
    found = HCI.read(hci, None)
    assert reasons(found) == {"late.jpg": f"unknown decade '1980s'; it must be one of {', '.join(DECADES)}"}
    assert len(found.rows) == 100


def test_hci_refuses_what_is_not_hci(hci: Path, aadb: Path) -> None:
    assert "is not HCI as it comes" in refused(HCI, aadb)
    assert "is not HCI as it comes" in refused(HCI, hci / "1930s")
    assert "HCI has no published lists" in refused(HCI, hci, aadb)
    for file in sorted((hci / "1950s").iterdir())[3:]:
        file.unlink()
    rows = HCI.read(hci, None).rows
    assert sorted(rows.loc[rows["label"] == "1950s", "split"]) == ["test", "train", "validation"]
    next((hci / "1950s").iterdir()).unlink()
    assert "has 2 images of the 1950s; at least 3 are needed" in refused(HCI, hci)
    shutil.rmtree(hci / "1950s")
    assert refused(HCI, hci) == f"'{hci}' has 0 images of the 1950s; at least 3 are needed"


def test_a_draw_is_a_shuffle_whatever_the_order() -> None:
    names = [f"image {i}" for i in range(50)]
    places = places_in_draw(names)
    assert sorted(places.tolist()) == list(range(50))
    assert places.tolist() != list(range(50))
    assert places_in_draw(names[::-1]).tolist() == places[::-1].tolist()
    assert places_in_draw([]).tolist() == []
