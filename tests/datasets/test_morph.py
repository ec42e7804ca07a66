"""MORPH II in its four settings: a generated copy, damaged ones, and lists in the form in which they are published."""

from pathlib import Path

import pandas as pd
import pytest
from listings import names, reasons, refused, sizes

from ordclust_ray.datasets import morph
from ordclust_ray.datasets.listing import DataSet

A, B, C, D = morph.SETS
CSV = "morph_2008_nonCommercial.csv"
GENDERS = 3 * ["female", "male", "male", "male"]
AGES = [20.0, 30.0, 40.0, 50.0]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Persons 100001 to 100012 are Caucasians, 12 Africans follow, then 2 Asians, 2 Hispanics and 2 others."""
    A.generate(tmp_path / "copy")  # type: ignore[misc]
    return tmp_path / "copy"


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def write(file: Path, lines: list[str]) -> None:
    """With the line ends of the published lists."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes("".join(f"{line}\r\n" for line in lines).encode())


def test_what_file_names_and_the_csv_say(copy: Path) -> None:
    rows = D.read(copy, None).rows
    assert list(rows.columns) == ["source", "rank", "gender", "race", "person", "split"]
    assert rows.index.name == "instance_id"
    assert rows.index.tolist() == list(range(120))
    assert rows["source"][0] == str(copy / "Album2" / "100001_00F20.JPG")
    assert rows["person"].tolist() == [str(100_001 + i // 4) for i in range(120)]
    assert rows["rank"].dtype == float
    assert rows["rank"][:16].tolist() == AGES * 3 + [30.0, 40.0, 50.0, 20.0]  # each third person begins an age later
    assert rows["gender"][::4].tolist() == GENDERS * 2 + ["female", "male"] * 3
    races = ["Caucasian"] * 12 + ["African"] * 12 + ["Asian"] * 2 + ["Hispanic"] * 2 + ["other"] * 2
    assert rows["race"][::4].tolist() == races


def test_setting_a_is_of_caucasians(copy: Path) -> None:
    found = A.read(copy, None)
    assert names(found)[:2] == ["100001_00F20.JPG", "100001_01F30.JPG"]
    assert set(found.rows["race"]) == {"Caucasian"}
    assert found.rows["split"].value_counts().to_dict() == {"train": 38, "test": 10}  # of 48, 38.4 and 9.6 wanted
    assert (found.rows.groupby(["split", "rank"]).size() >= 2).all()
    assert len(found.rows.groupby(["split", "rank"])) == 8
    assert any("48 images of Caucasians" in note and "5,492" in note for note in found.notes)


def test_more_caucasians_are_drawn_by_their_names(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(morph, "IMAGES_OF_A", 20)
    found = A.read(copy, None)
    assert len(set(names(found))) == 20
    assert found.rows["split"].value_counts().to_dict() == {"train": 16, "test": 4}
    assert any("20 of 48 images of Caucasians were drawn (seed 0)" in note for note in found.notes)
    assert len(found.left_out) == 0


def test_setting_b_has_the_same_proportions_in_each_subset(copy: Path) -> None:
    found = B.read(copy, None)
    assert len(found.rows) == 96
    assert "split" not in found.rows
    cells = found.rows.groupby(["fold", "race", "gender"]).size()
    races, genders = ("African", "Caucasian"), ("female", "male")
    assert cells.index.tolist() == [(fold, race, gender) for fold in (1, 2, 3) for race in races for gender in genders]
    assert cells.tolist() == [4, 12, 4, 12] * 3
    assert any("36 African male (of 36; wanted: 7,875)" in note for note in found.notes)


def test_setting_b_draws_where_a_cell_has_more(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(morph, "IMAGES_OF_B", {"female": 6, "male": 18})
    rows = B.read(copy, None).rows
    assert rows.groupby(["race", "gender"]).size().tolist() == [6, 18, 6, 18]
    assert rows.groupby("fold").size().tolist() == [16, 16, 16]


def test_setting_c_has_each_person_in_one_fold(copy: Path) -> None:
    rows = C.read(copy, None).rows
    assert "split" not in rows
    assert rows.groupby("fold").size().to_dict() == {1: 24, 2: 24, 3: 24, 4: 24, 5: 24}
    assert len(rows.groupby(["person", "fold"])) == 30
    assert (rows.groupby("person").size() == 4).all()


def test_setting_d_is_split_by_images(copy: Path) -> None:
    rows = D.read(copy, None).rows
    assert rows["split"].value_counts().to_dict() == {"train": 96, "test": 24}
    assert len(rows.groupby(["person", "split"])) > 30


@pytest.mark.parametrize("data", morph.SETS, ids=lambda data: data.name)
def test_images_are_read(copy: Path, data: DataSet) -> None:
    assert sizes(data.read(copy, None)) == [(24, 24), (24, 24)]


def test_ids_and_draws_do_not_depend_on_where_a_copy_lies(copy: Path, tmp_path: Path) -> None:
    (copy / "Album2").rename(copy / "photos")
    moved = copy.rename(tmp_path / "moved")
    A.generate(copy)  # type: ignore[misc]
    for data in morph.SETS:
        one, other = data.read(copy, None), data.read(moved.parent / "moved", None)
        assert names(one) == names(other)
        pd.testing.assert_frame_equal(one.rows.drop(columns="source"), other.rows.drop(columns="source"))


def test_what_is_no_image_goes_unnoticed(copy: Path) -> None:
    before = D.read(copy, None).rows
    (copy / "Album2" / "notes.txt").write_text("no image")
    (copy / "Album2" / "._100001_00F20.JPG").write_text("what macOS leaves behind")
    pd.testing.assert_frame_equal(before, D.read(copy, None).rows)


def test_what_is_no_instance_is_named(copy: Path) -> None:
    album = copy / "Album2"
    (album / "100001_00F20.JPG").unlink()
    (album / "group.jpg").touch()
    (album / "999999_00M20.JPG").touch()
    (copy / "Album3").mkdir()
    (copy / "Album3" / "100002_00M20.JPG").touch()
    change(copy / CSV, ",W,M,,20,0,,Album2/100003_00M20.JPG", ",X,M,,20,0,,Album2/100003_00M20.JPG")
    found = D.read(copy, None)
    assert reasons(found) == {
        "100001_00F20.JPG": f"listed in {CSV}, but missing",
        "group.jpg": "its name is not {person}_{number}{M|F}{age}.JPG",
        "999999_00M20.JPG": f"not listed in {CSV}, which has to give its race",
        "100002_00M20.JPG": f"listed twice, first as {album / '100002_00M20.JPG'}",
        "100003_00M20.JPG": "unknown race 'X'; it must be one of A, B, H, O, W",
    }
    assert len(found.rows) == 118
    with (copy / CSV).open("a") as table:
        table.write("100004,0,01/01/1950,01/01/1970,W,M,,20,0,,Album1/100004_00M30.JPG\n")
    said = D.read(copy, None).left_out.set_index("source")["reason"]["100004_00M30.JPG"]
    assert said == f"listed twice, first as row 13 of {CSV}"
    assert str(copy / "Album2" / "100002_00M20.JPG") in set(found.rows["source"])


def test_file_names_stand_against_the_csv(copy: Path) -> None:
    change(copy / CSV, "W,F,,20,0,,Album2/100001_00F20.JPG", "W,M,,21,0,,Album2/100001_00F20.JPG")
    change(copy / CSV, "W,F,,30,0,,Album2/100001_01F30.JPG", "W,F,,31,0,,Album2/100001_01F30.JPG")
    found = D.read(copy, None)
    assert found.rows[["rank", "gender"]].to_numpy()[0].tolist() == [20.0, "female"]
    assert any(note.endswith("file names, which stand: 2.") for note in found.notes)


def test_columns_of_the_csv_in_capitals_and_another_order(copy: Path) -> None:
    table = pd.read_csv(copy / CSV, dtype=str)[["photo", "gender", "race", "age"]]
    table["photo"] = table["photo"].str.replace("/", "\\").str.lower()
    table.columns = table.columns.str.upper()
    table.to_csv(copy / CSV, index=False, encoding="utf-8-sig")  # as Excel writes it
    assert len(D.read(copy, None).rows) == 120


def test_a_wrong_folder_is_refused(tmp_path: Path, copy: Path) -> None:
    assert "there is no" in refused(A, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "is not MORPH II as it comes" in refused(A, tmp_path / "empty")
    assert "it is a file" in refused(A, copy / CSV)
    (copy / "MORPH_Album2_EYECOORDS.csv").write_text("1,2,3,4\n")  # lies beside the real one
    assert len(C.read(copy, None).rows) == 120
    (copy / "MORPH_Album2_EYECOORDS.csv").unlink()
    (copy / "more.csv").write_text((copy / CSV).read_text())
    assert f"holds 2 CSV files, 'more.csv', '{CSV}'" in refused(C, copy)
    (copy / "more.csv").unlink()
    (copy / CSV).write_text("id_num,photo,gender,age\n1,Album2/100001_00F20.JPG,F,20\n")
    assert "has no column 'race'; its columns are 'id_num', 'photo', 'gender', 'age'" in refused(D, copy)
    (copy / CSV).write_text("photo,race,gender,age\n")
    assert "holds no image that can be used" in refused(D, copy)
    (copy / CSV).unlink()
    assert "holds 0 CSV files; it needs one, which gives the race" in refused(B, copy)


def test_published_lists_of_setting_a(copy: Path, tmp_path: Path) -> None:
    head = ",race,gender,age,filename,database"
    folder = tmp_path / "index" / "MORPH_SettingA"
    train = [
        "722,0,1,20,100002_00M20.JPG,morph",
        "5,0,0,30,100001_01F30.JPG,morph",
        "6,0,0,99,100001_00F20.JPG,morph",  # another age
        "7,0,0,20,123456_00F20.JPG,morph",
    ]
    write(folder / "SettingA_fold0_train.txt", [head, *train])
    write(folder / "SettingA_fold0_test.txt", [head, "1,0,1,30,100002_01M30.JPG,morph", train[0]])
    write(folder / "SettingA_fold1_test.txt", [head, "1,0,1,40,100002_02M40.JPG,morph"])
    (copy / CSV).unlink()  # the lists give the race
    for lists in (folder, folder.parent):
        found = A.read(copy, lists)
        assert names(found) == ["100001_00F20.JPG", "100001_01F30.JPG", "100002_00M20.JPG", "100002_01M30.JPG"]
        assert found.rows["split"].tolist() == ["train", "train", "train", "test"]
        assert found.rows["rank"].tolist() == [20.0, 30.0, 20.0, 30.0]
        assert found.rows["gender"].tolist() == ["female", "female", "male", "male"]
        assert set(found.rows["race"]) == {"Caucasian"}
        assert reasons(found) == {
            "100002_00M20.JPG": "listed twice, first as row 1 of SettingA_fold0_train.txt",
            "123456_00F20.JPG": "listed in SettingA_fold0_train.txt, but missing",
        }
        assert any(note.endswith("which stand: 1.") for note in found.notes)


def test_published_lists_of_setting_b(copy: Path, tmp_path: Path) -> None:
    """Genders are numbered the other way round here: 1 is female."""
    head = "race gender age filename database"
    write(tmp_path / "SettingB_fold0.txt", [head, "1 0 30 100014_01M30.JPG morph", "0 1 20 100001_00F20.JPG morph"])
    write(tmp_path / "SettingB_fold1.txt", [head, "0 0 20 100002_00M20.JPG morph", "2 0 30 100002_01M30.JPG morph"])
    write(tmp_path / "SettingB_fold2.txt", [head, "1 0 20 100013_00F20.JPG morph"])  # the file name says female
    found = B.read(copy, tmp_path)
    columns = found.rows[["person", "race", "gender", "rank", "fold"]]
    assert columns.to_numpy().tolist() == [
        ["100001", "Caucasian", "female", 20.0, 1],
        ["100002", "Caucasian", "male", 20.0, 2],
        ["100013", "African", "female", 20.0, 3],
        ["100014", "African", "male", 30.0, 1],
    ]
    assert reasons(found) == {"100002_01M30.JPG": "unknown race '2'; it must be one of 0, 1"}
    assert any(note.endswith("which stand: 1.") for note in found.notes)


def test_published_list_of_setting_c(copy: Path, tmp_path: Path) -> None:
    """Person 100003 has two images in fold 4 and one in fold 2, person 100004 one in each of two folds."""
    listed = ["100001_00F20 0 20", "100001_01F30 0 30", "100013_00F20 4 20", "100002_00M20 7 20"]
    strays = ["100003_00M20 1 20", "100003_01M30 3 30", "100003_02M40 3 40", "100004_00M30 2 30", "100004_01M40 1 40"]
    lines = [f"morph\t{name}.JPG\t{fold}\t{age}" for name, fold, age in map(str.split, listed + strays)]
    write(tmp_path / "MORPH_SettingC" / "SettingC.txt", ["database\tfilename\tfold\tage", *lines])
    found = C.read(copy, tmp_path)
    assert found.rows[["person", "fold", "race"]].to_numpy().tolist() == [
        ["100001", 1, "Caucasian"],
        ["100001", 1, "Caucasian"],
        ["100003", 4, "Caucasian"],
        ["100003", 4, "Caucasian"],
        ["100004", 2, "Caucasian"],
        ["100013", 5, "African"],
    ]
    assert reasons(found) == {
        "100002_00M20.JPG": "unknown fold '7'; it must be one of 0, 1, 2, 3, 4",
        "100003_00M20.JPG": "person 100003 is in fold 4, and may be in one only",
        "100004_00M30.JPG": "person 100004 is in fold 2, and may be in one only",
    }
    assert any("2 persons in several folds; 2 of their images are left out" in note for note in found.notes)
    (copy / CSV).unlink()
    assert "which gives the race" in refused(C, copy, tmp_path)


def test_published_list_of_setting_d(copy: Path, tmp_path: Path) -> None:
    lines = ["100013_00F20.JPG\t0\t20\tmorph", "100001_00F20.JPG\t4\t20\tmorph", "100001_01F30.JPG\t0\t30\tmorph"]
    write(tmp_path / "SettingD.txt", ["filename\tfold\tage\tdatabase", *lines])
    found = D.read(copy, tmp_path)
    assert list(found.rows.columns) == ["source", "rank", "gender", "race", "person", "split"]
    assert names(found) == ["100001_00F20.JPG", "100001_01F30.JPG", "100013_00F20.JPG"]
    assert found.rows["split"].tolist() == ["train", "test", "test"]
    assert found.rows["race"].tolist() == ["Caucasian", "Caucasian", "African"]


def test_wrong_lists_are_refused(copy: Path, tmp_path: Path) -> None:
    assert "there is no folder" in refused(A, copy, tmp_path / "nowhere")
    assert "does not hold the published list 'SettingA_fold0_train.txt'" in refused(A, copy, copy)
    write(tmp_path / "SettingC.txt", ["filename\tfold"])
    assert "holds no image that can be used" in refused(C, copy, tmp_path)
    for fold in range(3):
        write(tmp_path / f"SettingB_fold{fold}.txt", ["race gender age filename database"])
    assert "holds no image that can be used" in refused(B, copy, tmp_path)
    write(tmp_path / "SettingD.txt", ["filename age", "100001_00F20.JPG 20"])
    assert "SettingD.txt' has no column 'filename'; its columns are 'filename age'" in refused(D, copy, tmp_path)
    write(tmp_path / "SettingD.txt", ["filename\tfold", "100001_00F20.JPG\t1\t2\t3"])
    assert "SettingD.txt' is not a table" in refused(D, copy, tmp_path)
    write(tmp_path / "SettingD.txt", ["filename\tfold"])
    assert "holds no image that can be used" in refused(D, copy, tmp_path)
    (tmp_path / "SettingD.txt").write_bytes(b"")
    assert "SettingD.txt' is not a table" in refused(D, copy, tmp_path)
    write(tmp_path / "SettingD.txt", ["filename\tfold", "000001_00F20.JPG\t1"])
    assert "'000001_00F20.JPG' was left out: listed in SettingD.txt, but missing" in refused(D, copy, tmp_path)
