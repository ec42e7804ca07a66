"""The job that prepares data sets: killed and started again, what it says, and that a training reads what it wrote."""

import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import job
import mlflow
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ordclust_ray.config import DataConfig, InputError, UnlabelledConfig
from ordclust_ray.data.prepare import open_checked
from ordclust_ray.data.readers import open_source
from ordclust_ray.datasets.archives import unpacked
from ordclust_ray.datasets.listing import left_out
from ordclust_ray.datasets.registry import DATASETS
from ordclust_ray.recipes import drc
from ordclust_ray.reports.data_card import as_markdown, by_part, counts, data_card, persons_in_several

IMAGES = 9_000


def command(*line: object) -> list[str]:
    return [sys.executable, "jobs/prepare_data.py", *map(str, line)]


def prepared(tmp_path: Path, *line: object) -> subprocess.CompletedProcess[str]:
    storage = ("--run.storage", tmp_path / "runs")
    return subprocess.run(
        command(*line, *storage), capture_output=True, text=True, env=job.environment(), cwd=job.ROOT, check=False
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """9,000 images of two classes, five files of Parquet; one is broken."""
    folder = tmp_path_factory.mktemp("images")
    for split in ("train", "test"):
        for shade in (60, 190):
            (folder / split / str(shade)).mkdir(parents=True)
            for number in range(IMAGES // 4):
                image = Image.new("L", (8, 8), shade)
                image.putpixel((number % 8, number // 8 % 8), number % 251)
                image.putpixel((7, 7), number // 64)
                image.save(folder / split / str(shade) / f"{number:04}.png")
    (folder / "train" / "60" / "0007.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def after_kill(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int], str]:
    """Where it was killed and finished; the files that were there then, and when they were written; what it said."""
    tmp_path = tmp_path_factory.mktemp("killed")
    output = tmp_path / "out"
    line = ("folder", "--source", folder, "--output", output, "--run.storage", tmp_path / "runs")
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command(*line), stdout=log, stderr=log, env=job.environment(), cwd=job.ROOT)
        while process.poll() is None and not list(output.glob("part-*.parquet")):
            time.sleep(0.002)
        process.kill()
        process.wait()
    there = {file.name: file.stat().st_mtime_ns for file in output.glob("part-*.parquet")}
    done = prepared(tmp_path, "folder", "--source", folder, "--output", output)
    assert done.returncode == 0, done.stderr
    return tmp_path, there, done.stdout


def test_killed_and_started_again_it_writes_the_rest(after_kill: tuple[Path, dict[str, int], str]) -> None:
    tmp_path, there, _ = after_kill
    files = sorted((tmp_path / "out").glob("part-*.parquet"))
    assert there
    assert len(files) == 5
    assert {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in there} == there
    ids = pd.concat([pq.read_table(file, columns=["instance_id"]).to_pandas() for file in files])["instance_id"]
    assert ids.tolist() == list(range(IMAGES))


def test_the_card_counts(after_kill: tuple[Path, dict[str, int], str]) -> None:
    tmp_path, _, said = after_kill
    card = json.loads((tmp_path / "out" / "data_card.json").read_text())
    assert card["images"] == IMAGES - 1
    assert card["parts"] == {"train": 4499, "test": 4500}
    assert card["counts"]["label"]["60"] == {"all": 4499, "train": 2249, "test": 2250}
    assert sum(card["left_out"].values()) == 1
    assert "no image" not in said
    assert "8,999 images." in said
    listed = pd.read_csv(tmp_path / "out" / "left_out.csv")
    assert listed["source"].tolist() == [str(p) for p in [Path(listed["source"][0])]]
    assert listed["source"][0].endswith("train/60/0007.png")
    assert card["identical"]["across"] > 0  # the same pictures are in both splits


def test_it_is_in_mlflow(after_kill: tuple[Path, dict[str, int], str]) -> None:
    tmp_path, _, _ = after_kill
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("data")
    assert experiment is not None
    run = next(run for run in client.search_runs([experiment.experiment_id]) if run.info.status == "FINISHED")
    assert run.data.metrics["images"] == IMAGES - 1
    assert run.data.metrics["left_out"] == 1
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert files == {"data_card.json", "data_card.md", "identical.csv", "left_out.csv"}


def test_too_many_left_out_are_an_error(tmp_path: Path) -> None:
    generate = DATASETS["aadb"].generate
    assert generate is not None
    generate(tmp_path / "aadb")
    image = next((tmp_path / "aadb").rglob("*.jpg"))
    image.unlink()
    done = prepared(tmp_path, "aadb", "--source", tmp_path / "aadb", "--output", tmp_path / "out")
    assert done.returncode == 2
    assert "over --max-broken-fraction 0.01; the first: " in done.stderr
    assert image.name in done.stderr
    assert "missing" in pd.read_csv(tmp_path / "out" / "left_out.csv")["reason"][0]
    again = prepared(
        tmp_path, "aadb", "--source", tmp_path / "aadb", "--output", tmp_path / "out", "--max-broken-fraction", 0.5
    )
    assert again.returncode == 0, again.stderr


def test_images_that_were_mended_are_read_anew(tmp_path: Path) -> None:
    generate = DATASETS["aadb"].generate
    assert generate is not None
    for name in ("aadb", "other"):
        generate(tmp_path / name)
    line = ("aadb", "--source", tmp_path / "aadb", "--output", tmp_path / "out")
    image = next((tmp_path / "aadb").rglob("*.jpg"))
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    broken = prepared(tmp_path, *line)
    assert broken.returncode == 2
    assert f"over --max-broken-fraction 0.01; the first: {image}" in broken.stderr
    image.write_bytes(whole)
    mended = prepared(tmp_path, *line)
    assert mended.returncode == 0, mended.stderr
    assert json.loads((tmp_path / "out" / "data_card.json").read_text())["left_out"] == {}
    assert "there is nothing to do" in prepared(tmp_path, *line).stdout
    other = prepared(tmp_path, "aadb", "--source", tmp_path / "other", "--output", tmp_path / "out")
    assert other.returncode == 2
    assert f"already, not {{'data set': 'aadb', 'source': '{tmp_path / 'other'}'" in other.stderr


def test_an_archive_is_prepared_and_read_as_its_download_is(tmp_path: Path) -> None:
    generate = DATASETS["morph-c"].generate
    assert generate is not None
    generate(tmp_path / "morph")
    archive = shutil.make_archive(str(tmp_path / "morph"), "gztar", tmp_path / "morph")
    output = tmp_path / "prepared"
    done = prepared(tmp_path, "morph-c", "--source", archive, "--output", output)
    assert done.returncode == 0, done.stderr
    assert [file.name for file in output.glob(".unpacked*")] == []
    other = prepared(tmp_path, "morph-d", "--source", archive, "--output", output)
    assert other.returncode == 2
    assert "already, not {'data set': 'morph-d'" in other.stderr
    assert "Use estimates of age for research only." in (output / "data_card.md").read_text()
    recipe = drc.morph_c()
    known = [
        open_checked(replace(recipe, data=replace(recipe.data, path=str(path)))).manifest.drop(columns="source")
        for path in (tmp_path / "morph", output)
    ]
    pd.testing.assert_frame_equal(known[0], known[1], check_dtype=False)
    with pytest.raises(InputError, match=r"has folds: give --data\.fold-column fold"):
        open_source(DataConfig(path=str(output)))


def test_a_set_that_cannot_be_fetched_says_so(tmp_path: Path) -> None:
    done = prepared(tmp_path, "aadb", "--source", tmp_path / "a", "--output", tmp_path / "out", "--download", True)
    assert done.returncode == 2
    assert "error: --download: AADB cannot be fetched freely; its source: " in done.stderr


def test_another_archive_is_unpacked_anew(tmp_path: Path) -> None:
    for name in ("wrong", "right"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.txt").touch()
        shutil.make_archive(str(tmp_path / name), "zip", tmp_path / name)
    (tmp_path / "out").mkdir()
    with pytest.raises(KeyError), unpacked(tmp_path / "wrong.zip", tmp_path / "out"):
        raise KeyError
    with unpacked(tmp_path / "right.zip", tmp_path / "out") as folder:
        assert [file.name for file in folder.iterdir()] == ["right.txt"]
    assert list((tmp_path / "out").iterdir()) == []


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    archive = tmp_path / "set.tar.gz"
    archive.write_bytes(b"no archive")
    (tmp_path / "out").mkdir()
    with (
        pytest.raises(InputError, match=r"set\.tar\.gz' cannot be unpacked: "),
        unpacked(archive, tmp_path / "out"),
    ):
        pass


def test_an_unfinished_folder_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "part-00000.parquet").touch()
    (tmp_path / "_job.json").touch()
    with pytest.raises(InputError, match=r"was not prepared to its end; run the same prepare_data\.py again"):
        open_source(UnlabelledConfig(path=str(tmp_path)))


def test_tables_of_the_card_have_the_parts_in_order() -> None:
    rows = pd.DataFrame({"gender": ["f", "f", "m"], "fold": [3, 2, 1]})
    card = {
        **dict.fromkeys(("title", "source", "licence", "rank_unit"), ""),
        **{"images": 3, "notes": [], "left_out": {}, "verified": [], "identical": {"images": 0, "across": 0}},
        **{"parts": counts(rows["fold"]), "counts": {"gender": by_part(rows, "gender", "fold")}},
    }
    assert "|  | all | 1 | 2 | 3 |\n| --- | --: | --: | --: | --: |\n| f | 2 | 0 | 1 | 1 |" in as_markdown(card)


def test_counts_come_in_the_order_of_use() -> None:
    rows = pd.DataFrame({"split": ["test", "train", "validation", "train"], "rank": [10.0, 9.0, 9.0, 0.5]})
    assert list(counts(rows["split"]).items()) == [("train", 2), ("validation", 1), ("test", 1)]
    assert by_part(rows, "rank", "split") == {
        "0.5": {"all": 1, "train": 1},
        "9": {"all": 2, "train": 1, "validation": 1},
        "10": {"all": 1, "test": 1},
    }


def test_persons_in_both_parts_are_counted() -> None:
    """Person 1 has images to train and to test, 2 to train only, 3 to validate and to test; two images name no one."""
    persons = ["1", "1", "1", "2", "2", "3", "3", "", ""]
    splits = ["train", "train", "test", "train", "train", "validation", "test", "train", "test"]
    rows = pd.DataFrame({"person": persons, "split": splits})
    assert persons_in_several(rows) == ["1 persons are in both train and test; the person of 2 images is not known."]
    assert persons_in_several(rows[rows["person"] != "1"]) == []
    assert persons_in_several(rows[["split"]]) == persons_in_several(rows[["person"]]) == []
    folds = pd.DataFrame({"person": ["1", "1", "2", "2", "3"], "fold": [1, 2, 3, 3, 1]})
    assert persons_in_several(folds) == ["1 persons are in more than one fold."]


@pytest.mark.parametrize("name", ["morph-a", "morph-b", "morph-c", "morph-d", "balanced"])
def test_the_card_says_where_persons_are_in_both_parts(name: str, tmp_path: Path) -> None:
    """Settings A, B, D and the balanced set are split by image, C by person."""
    dataset = DATASETS[name]
    assert dataset.generate is not None
    dataset.generate(tmp_path)
    listing = dataset.read(tmp_path, None)
    found = pd.DataFrame({"error": "", "checksum": range(len(listing.rows))}, index=listing.rows.index)
    notes = [note for note in data_card(dataset, listing, found, {})["notes"] if " persons are in " in note]
    part = "split" if "split" in listing.rows else "fold"
    known = listing.rows[listing.rows["person"] != ""]
    several = sum(len(set(parts)) > 1 for _, parts in known.groupby("person")[part])
    where = "both train and test" if part == "split" else "more than one fold"
    unknown = "; the person of 144 images is not known" if name == "balanced" else ""
    assert notes == ([] if name == "morph-c" else [f"{several} persons are in {where}{unknown}."])
    assert (several == 0) == (name == "morph-c")


def test_the_card_counts_doubled_images_together(tmp_path: Path) -> None:
    """`left_out.csv` says of each where it stood first."""
    (tmp_path / "0.png").touch()
    listing = DATASETS["folder"].read(tmp_path, None)
    out = [(str(i), f"listed twice, first as row {i} of a.txt") for i in range(3)] + [("x", "gone, but missing")]
    doubled = replace(listing, left_out=left_out(out))
    card = data_card(DATASETS["folder"], doubled, pd.DataFrame({"error": [""], "checksum": [1]}), {})
    assert card["left_out"] == {"listed twice": 3, "gone, but missing": 1}
