"""AFAD and UTKFace: generated copies, damaged ones, and lists of later work."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from listings import reasons, refused, sizes

from ordclust_ray.datasets.faces import AFAD, UTKFACE, UTKFACE_21_TO_60

NO_RACE = "its name lacks the age, the gender or the race: [age]_[gender]_[race]_[date&time]"


@pytest.fixture
def afad(tmp_path: Path) -> Path:
    AFAD.generate(tmp_path / "afad")  # type: ignore[misc]
    return tmp_path / "afad"


@pytest.fixture
def utkface(tmp_path: Path) -> Path:
    UTKFACE.generate(tmp_path / "utkface")  # type: ignore[misc]
    return tmp_path / "utkface"


def test_afad_by_its_folders(afad: Path) -> None:
    found = AFAD.read(afad, None)
    rows = found.rows
    assert list(rows.columns) == ["source", "rank", "gender", "split"]
    assert rows.index.tolist() == list(range(96))
    assert rows["source"][0] == str(afad / "AFAD-Full" / "20" / "111" / "100000-0.jpg")
    assert rows["rank"].tolist() == [20.0] * 24 + [30.0] * 24 + [40.0] * 24 + [50.0] * 24
    assert rows["gender"].tolist() == (["male"] * 12 + ["female"] * 12) * 4
    assert rows["split"].value_counts().to_dict() == {"train": 77, "test": 19}  # 76.8 and 19.2 wanted
    assert rows.groupby(["split", "rank"]).size().min() >= 2
    assert len(found.left_out) == 0
    assert "drawn" in found.notes[0]
    assert sizes(found) == [(24, 24)] * 2


def test_afad_by_its_own_folder_is_the_same(afad: Path, tmp_path: Path) -> None:
    above, own = AFAD.read(afad, None).rows, AFAD.read(afad / "AFAD-Full", None).rows
    pd.testing.assert_frame_equal(above, own)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "AFAD-Full").symlink_to(afad / "AFAD-Full")
    linked = AFAD.read(tmp_path / "linked", None)
    pd.testing.assert_frame_equal(above.drop(columns="source"), linked.rows.drop(columns="source"))
    assert sizes(linked) == [(24, 24)] * 2


def test_afad_names_what_is_no_instance(afad: Path) -> None:
    home = afad / "AFAD-Full"
    for path in ("20/113/a.jpg", "20/113/b.JPG", "7/111/young.jpg", "20/loose.jpg", "20/111/deeper/c.png"):
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).touch()
    for path in ("20/111/Thumbs.db", "20/111/.hidden.jpg", "README.md"):
        (home / path).touch()
    found = AFAD.read(afad, None)
    assert len(found.rows) == 96
    assert reasons(found) == {
        "a.jpg": "unknown gender '113'; it must be one of 111, 112",
        "b.JPG": "unknown gender '113'; it must be one of 111, 112",
        "young.jpg": "unknown age '7'; it must be from 15 to 75",
        "loose.jpg": "not in a folder {age}/{111|112}",
        "c.png": "not in a folder {age}/{111|112}",
    }


@pytest.mark.parametrize("kind", ["Full", "Lite"])
def test_afad_is_compared_with_its_own_list(afad: Path, kind: str) -> None:
    """A path a line, from the folder of the list on; what is no image of it plays no part."""
    home = (afad / "AFAD-Full").rename(afad / f"AFAD-{kind}")
    paths = sorted(str(file.relative_to(home)) for file in home.rglob("*.jpg"))
    lines = ["./15/111/1-0.jpg", *(f"./{path}" for path in paths), "./20/111/Thumbs.db", "", "50/112/2-1.jpg"]
    (home / f"AFAD-{kind}.txt").write_text("\r\n".join(lines))
    (home / paths[0]).unlink()
    found = AFAD.read(afad, None)
    assert len(found.rows) == 95
    assert found.left_out["source"].tolist() == ["15/111/1-0.jpg", paths[0], "50/112/2-1.jpg"]
    assert set(found.left_out["reason"]) == {f"listed in AFAD-{kind}.txt, but missing"}


def test_afad_refuses_what_is_not_afad(afad: Path, utkface: Path, tmp_path: Path) -> None:
    assert "there is no" in refused(AFAD, tmp_path / "nowhere")
    assert "is not AFAD as it comes" in refused(AFAD, utkface)
    assert "AFAD has no published lists" in refused(AFAD, afad, tmp_path)
    (tmp_path / "hollow" / "20" / "111").mkdir(parents=True)
    assert "holds no image that can be used" in refused(AFAD, tmp_path / "hollow")


def test_utkface_by_its_file_names(utkface: Path) -> None:
    found = UTKFACE.read(utkface, None)
    rows = found.rows
    assert list(rows.columns) == ["source", "rank", "gender", "race", "split"]
    assert rows.index.tolist() == list(range(80))
    assert rows["source"][1] == str(utkface / "UTKFace" / "20_0_0_20170101000000001.jpg.chip.jpg")
    assert rows["rank"].tolist() == [20.0] * 20 + [30.0] * 20 + [40.0] * 20 + [50.0] * 20
    assert rows["gender"].tolist() == (["male"] * 10 + ["female"] * 10) * 4
    assert rows["race"].tolist()[:10:2] == ["White", "Black", "Asian", "Indian", "other"]
    assert rows["split"].value_counts().to_dict() == {"train": 64, "test": 16}
    assert rows.groupby(["split", "rank"]).size().min() >= 2
    assert sizes(found) == [(24, 24)] * 2


def test_utkface_from_21_to_60(utkface: Path) -> None:
    found = UTKFACE_21_TO_60.read(utkface, None)
    assert found.rows["rank"].tolist() == [30.0] * 20 + [40.0] * 20 + [50.0] * 20
    assert found.rows["split"].value_counts().to_dict() == {"train": 48, "test": 12}
    assert found.rows.groupby(["split", "rank"]).size().min() >= 2
    assert len(found.left_out) == 0
    assert found.notes[0] == "20 images of other ages are not of it."


def test_utkface_in_parts_and_uncropped(utkface: Path) -> None:
    """The split goes by what images have in common under all their names."""
    before = UTKFACE.read(utkface, None).rows
    for number, file in enumerate(sorted((utkface / "UTKFace").iterdir())):
        new = utkface / f"part{1 + number // 30}" / file.name.replace(".jpg.chip.jpg", ".jpg")
        new.parent.mkdir(exist_ok=True)
        file.rename(new)
    after = UTKFACE.read(utkface, None).rows
    pd.testing.assert_frame_equal(before.drop(columns="source"), after.drop(columns="source"))
    assert after["source"][79] == str(utkface / "part3" / "50_1_4_20170101000000079.jpg")
    assert len(UTKFACE.read(utkface / "part3", None).rows) == 20


def test_utkface_with_its_folder_again_in_another_is_read_once(utkface: Path) -> None:
    """Kaggle's archive: UTKFace/, crop_part1/ with some of the images, and both once more in a folder beside them."""
    own = UTKFACE.read(utkface, None)
    part = utkface / "crop_part1"
    part.mkdir()
    for file in sorted((utkface / "UTKFace").iterdir())[:10]:
        shutil.copy(file, part)
    again = utkface / "utkface_aligned_cropped"
    for name in ("UTKFace", "crop_part1"):
        shutil.copytree(utkface / name, again / name)
    found = UTKFACE.read(utkface, None)
    pd.testing.assert_frame_equal(found.rows, own.rows)
    assert found.left_out.empty
    assert found.notes == [*own.notes, "100 images beside the folder 'UTKFace' were passed over."]
    shutil.rmtree(utkface / "UTKFace")
    found = UTKFACE_21_TO_60.read(utkface, None)
    assert len(found.rows) == 60
    assert found.rows["source"].str.startswith(str(again / "UTKFace")).all()
    assert found.notes[-1] == "20 images beside the folder 'utkface_aligned_cropped/UTKFace' were passed over."
    assert len(UTKFACE.read(part, None).rows) == 10


def test_utkface_names_what_is_no_instance(utkface: Path) -> None:
    """The first four are of the real set, and two of them have all that is needed."""
    home = utkface / "UTKFace"
    odd = [
        "61_1_20170109142408075.jpg.chip.jpg",
        "39_1_20170116174525125.jpg.chip.jpg",
        "24_0_1_20170116220224657 .jpg.chip.jpg",
        "55_0_0_20170116232725357jpg.chip.jpg",
        "30_3_1_20170101000000000.jpg.chip.jpg",
        "30_1_7_20170101000000000.jpg.chip.jpg",
        "117_1_1_20170101000000000.jpg.chip.jpg",
        "portrait.jpg",
    ]
    for name in odd:
        (home / name).touch()
    (home / "part1").mkdir()
    (home / "part1" / "20_0_0_20170101000000000.jpg").touch()
    found = UTKFACE.read(utkface, None)
    assert reasons(found) == {
        odd[0]: NO_RACE,
        odd[1]: NO_RACE,
        odd[4]: "unknown gender '3'; it must be one of 0, 1",
        odd[5]: "unknown race '7'; it must be one of 0, 1, 2, 3, 4",
        odd[6]: "unknown age '117'; it must be from 0 to 116",
        odd[7]: NO_RACE,
        "20_0_0_20170101000000000.jpg": f"listed twice, first as {home / '20_0_0_20170101000000000.jpg.chip.jpg'}",
    }
    assert len(found.rows) == 82
    assert {odd[2], odd[3]} <= {Path(source).name for source in found.rows["source"]}


def test_utkface_refuses_what_is_not_utkface(utkface: Path, afad: Path) -> None:
    assert "is not UTKFace as it comes" in refused(UTKFACE, afad)
    assert "UTKFace has no published lists" in refused(UTKFACE, utkface, afad)


def test_lists_of_utkface(utkface: Path, tmp_path: Path) -> None:
    """Ages are counted from 21 there; the file names stand."""
    name = "{}.jpg.chip.jpg".format
    train = ["36_0_1_20170117163203851", "40_0_1_20170101000000042", "30_0_0_20170101000000020"]
    odd = "39_1_20170116174525125"
    (utkface / "UTKFace" / name(odd)).touch()
    lists = tmp_path / "train-test-csv"
    lists.mkdir()
    (lists / "utk_train.csv").write_text(",file,age\n" + "".join(f"1,{name(image)},9\n" for image in [*train, odd]))
    test = ["30_0_0_20170101000000021", train[2]]
    (lists / "utk_test.csv").write_text(",file,age\n" + "".join(f"1,{name(image)},9\n" for image in test))
    (lists / "afad_train.csv").write_text("file,path,age,gender\n100000-0.jpg,20/111/100000-0.jpg,0,male\n")
    found = UTKFACE_21_TO_60.read(utkface, lists)
    names = [name(image) for image in (train[2], test[0], train[1])]
    assert [Path(source).name for source in found.rows["source"]] == names
    assert found.rows["rank"].tolist() == [30.0, 30.0, 40.0]
    assert found.rows["split"].tolist() == ["train", "test", "train"]
    assert reasons(found) == {
        name(train[0]): "listed in utk_train.csv, but missing",
        name(train[2]): "listed twice, first as row 3 of utk_train.csv",
        name(odd): NO_RACE,
    }


def test_lists_of_utkface_with_paths_and_a_third_part(utkface: Path, tmp_path: Path) -> None:
    for part, key in (("train", 20), ("valid", 21), ("test", 22)):
        image = f"UTKFace/30_0_{(key - 20) // 2}_{20170101000000000 + key}.jpg"
        (tmp_path / f"my_{part}.csv").write_text(f"path,age\n{image},30\n")
    found = UTKFACE_21_TO_60.read(utkface, tmp_path)
    assert found.rows["split"].tolist() == ["train", "validation", "test"]


def test_other_ages_in_lists_of_utkface_are_left_out(utkface: Path, tmp_path: Path) -> None:
    (utkface / "UTKFace" / "61_0_0_20170101000000080.jpg.chip.jpg").touch()
    train = ["20_0_0_20170101000000000.jpg", "30_0_0_20170101000000020.jpg", "61_0_0_20170101000000080.jpg"]
    (tmp_path / "utk_train.csv").write_text("\n".join(["file", *train]))
    (tmp_path / "utk_test.csv").write_text("file\n50_0_0_20170101000000060.jpg")
    found = UTKFACE_21_TO_60.read(utkface, tmp_path)
    assert found.rows["rank"].tolist() == [30.0, 50.0]
    assert reasons(found) == {
        "20_0_0_20170101000000000.jpg.chip.jpg": "unknown age '20'; it must be from 21 to 60",
        "61_0_0_20170101000000080.jpg.chip.jpg": "unknown age '61'; it must be from 21 to 60",
    }


def test_utkface_may_be_a_link(utkface: Path, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "UTKFace").symlink_to(utkface / "UTKFace")
    linked, own = UTKFACE.read(tmp_path / "links", None), UTKFACE.read(utkface, None)
    pd.testing.assert_frame_equal(linked.rows.drop(columns="source"), own.rows.drop(columns="source"))
    assert sizes(linked) == [(24, 24)] * 2


def test_wrong_lists_of_utkface_are_refused(utkface: Path, tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    told = refused(UTKFACE_21_TO_60, utkface, tmp_path / "lists")
    assert "holds 0 lists '*train*.csv' of UTKFace; it must hold one" in told
    for part in ("train", "test"):
        (tmp_path / "lists" / f"utk_{part}.csv").write_text("image,age\n")
    told = refused(UTKFACE_21_TO_60, utkface, tmp_path / "lists")
    assert "has no column 'file' or 'filename' or 'path'; its columns are 'image', 'age'" in told
    for part in ("train", "test"):
        (tmp_path / "lists" / f"utk_{part}.csv").write_text("file,age\n")
    assert "holds no image that can be used" in refused(UTKFACE_21_TO_60, utkface, tmp_path / "lists")
