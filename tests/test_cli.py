"""Command lines: right ones give the whole configuration; wrong ones end with status 2 and one line that helps."""

import json
import os
import re
import subprocess
import sys
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import NamedTuple

import pytest
from cli import parse

from ordclust_ray.config import DrcConfig
from ordclust_ray.recipes.drc import RECIPES
from ordclust_ray.recipes.idfd import RECIPES as IDFD_RECIPES

JOBS = Path(__file__).parents[1] / "jobs"


def arguments(line: str) -> list[str]:
    return line.split()


def parsed(line: str) -> DrcConfig:
    return parse(RECIPES, "digits", arguments(line))[1]


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def written(folder: Path, **values: object) -> str:
    """A recipe file."""
    (folder / "best.json").write_text(json.dumps(values))
    return str(folder / "best.json")


# --- right -----------------------------------------------------------------------------------------------------------


def test_nothing_gives_the_default_recipe() -> None:
    assert parse(RECIPES, "digits", []) == ("digits", RECIPES["digits"]())


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_by_name(recipe: str) -> None:
    assert parse(RECIPES, "digits", [recipe]) == (recipe, RECIPES[recipe]())


def test_flags_change_the_recipe_and_nothing_else() -> None:
    line = "coffee --training.flip False --rank.scale geometric --rank.tolerance 1e-1 --run.name x-1 --data.path a/b"
    name, config = parse(RECIPES, "digits", arguments(line))
    changes = {
        "training.flip": False,
        "rank.scale": "geometric",
        "rank.tolerance": 0.1,
        "run.name": "x-1",
        "data.path": "a/b",
    }
    assert name == "coffee"
    assert config.flat() == RECIPES["coffee"]().flat() | changes


def test_a_recipe_from_a_file(tmp_path: Path) -> None:
    wanted = RECIPES["coffee"]().flat() | {"clustering.num_clusters": 3, "training.learning_rate": 3e-4}
    file = written(tmp_path, system="drc-orid", **wanted)
    for line in (["--recipe", file], [f"--recipe={file}"]):
        assert parse(RECIPES, "digits", line)[1].flat() == wanted
    name, config = parse(RECIPES, "digits", ["--recipe", file, "--clustering.num-clusters", "4"])
    assert name == "best"
    assert config.flat() == wanted | {"clustering.num_clusters": 4}


def test_settings_that_a_file_does_not_name_have_their_defaults(tmp_path: Path) -> None:
    file = written(tmp_path, **{"system": "drc-orid", "rank.tolerance": 0.1})
    assert parse(RECIPES, "digits", ["--recipe", file])[1].flat() == DrcConfig().flat() | {"rank.tolerance": 0.1}


@pytest.mark.parametrize(("text", "value"), [("True", True), ("False", False)])
def test_booleans(text: str, value: bool) -> None:
    assert parsed(f"--training.flip {text} --training.compile={text}").training.flip is value
    assert parsed(f"--training.compile {text}").training.compile is value


def test_every_setting_can_be_given_by_its_flag_and_by_its_flat_name() -> None:
    wanted = RECIPES["paper"]().flat() | {
        "run.seed": 4294967295,
        "run.name": "a.b_c-d",
        "data.path": "a folder/of images",
        "data.group_column": "the group",
        "training.learning_rate": 3e-05,
        "training.precision": "bfloat16",
        "training.compile": True,
        "rank.scale": "geometric",
    }
    for spelled in (flag, "--{}".format):
        line = [text for name, value in wanted.items() for text in (spelled(name), str(value))]
        assert parse(RECIPES, "digits", line)[1].flat() == wanted


def test_help_shows_the_recipes_and_exactly_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed("coffee --help")
    assert ended.value.code == 0
    output, error = capsys.readouterr()
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", " ", output).split())
    assert error == ""
    for name, recipe in RECIPES.items():
        assert f"{name}: {recipe.__doc__}" in text
    assert "settings of `coffee`" in text
    assert set(re.findall(r"--[a-z]+\.[a-z-]+", text)) == set(map(flag, DrcConfig().flat()))


@pytest.mark.parametrize("ask", ["--help", "-h"])
def test_help_fits_the_terminal(ask: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit) as ended:
        parsed(ask)
    assert ended.value.code == 0
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 120


# --- wrong -----------------------------------------------------------------------------------------------------------

WRONG = {
    "recipe": ("digit", ["'digit'", "digits, coffee, retina, small, paper, morph-a"]),
    "empty recipe": (" ", ["digits, coffee, retina, small, paper, morph-a"]),
    "flag, with a suggestion": ("--training.batchsize 3", ["--training.batchsize", "--training.batch-size"]),
    "flag of another section": ("--rank.seed 3", ["--rank.seed", "--run.seed"]),
    "negated flag": ("--training.no-flip", ["--training.no-flip", "--training.flip {True,False}"]),
    "flag like none": ("--nonsense 3", ["--nonsense", "--help"]),
    "short flag": ("-n 3", ["-n", "--help"]),
    "word for a number": ("--training.batch-size many", ["--training.batch-size", "'many'", "INT"]),
    "fraction for a count": ("--clustering.num-clusters 2.5", ["--clustering.num-clusters", "'2.5'", "INT"]),
    "word for a real number": ("--rank.tolerance wide", ["--rank.tolerance", "'wide'", "FLOAT"]),
    "choice": ("--training.precision half", ["'half'", "--training.precision", "'float32'", "'bfloat16'"]),
    "scale": ("--rank.scale log", ["'log'", "--rank.scale", "'linear'", "'geometric'"]),
    "boolean": ("--training.flip maybe", ["'maybe'", "--training.flip", "'True'", "'False'"]),
    "below the range": ("--training.batch-size 1", ["--training.batch-size is 1; it must be at least 2"]),
    "negative": ("--rank.tolerance -1", ["--rank.tolerance is -1; it must be at least 0"]),
    "above the range": ("--data.test-fraction 2", ["--data.test-fraction is 2; it must be from 0.01 to 0.9"]),
    "not a number": ("--model.width nan", ["--model.width is nan; it must be from 0.01 to 4"]),
    "one of several": ("--data.image-size 65", ["--data.image-size is 65; it must be one of 16, 32, 64, 128"]),
    "two settings together": (
        "--training.num-workers 40",
        ["--training.batch-size is 64; 40 workers need at least 2 each"],
    ),
    "name of a run": ("--run.name a/b", ["--run.name is 'a/b'; it may hold letters, digits"]),
    "missing value": ("--training.batch-size", ["--training.batch-size", "Expected 1 value"]),
    "missing value before a flag": ("--run.name --run.seed 3", ["--run.name"]),
    "boolean without a value": ("--training.flip", ["--training.flip", "Expected 1 value"]),
    "extra word": ("digits extra", ["extra", "--help"]),
    "recipe after flags": ("--training.flip False coffee", ["recipe 'coffee' has to come first, and alone"]),
    "name that is taken": ("--run.name mlflow.db", ["--run.name is 'mlflow.db'", "are taken"]),
    "address for a folder": ("--run.storage ftp://b/runs", ["--run.storage is 'ftp://b/runs'; it must be a folder"]),
    "experiment": ("--run.experiment a/b", ["--run.experiment is 'a/b'; it must not hold"]),
    "two mistakes": ("--training.batch-size many --rank.scale log", ["--rank.scale", "'log'"]),
}


def complaint(line: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The text of the one line on stderr with which this command line ends."""
    with pytest.raises(SystemExit) as ended:
        parse(RECIPES, "digits", line)
    output, error = capsys.readouterr()
    assert ended.value.code == 2
    assert output == ""
    assert re.fullmatch(r"error: [^\n]+\n", error), error
    return error


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_input_is_one_line_that_helps(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    line, expected = WRONG[kind]
    error = complaint(line.split() or [""], capsys)
    assert [text for text in expected if text not in error] == [], error


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize(
    "line", ["--training.batch-size 1", "--rank.scale log", "--training.batchsize 3", "--nonsense"]
)
def test_nothing_is_left_of_tyros_box(
    line: str, encoding: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", TextIOWrapper(BytesIO(), encoding=encoding))  # by which tyro chooses its lines
    error = complaint(line.split(), capsys)
    assert not re.search(r"-{3}|[│╭╮╰╯─+]|\x1b|Error parsing", error), error
    if "batch-size" in line:
        assert error == "error: --training.batch-size is 1; it must be at least 2\n"


def test_long_value_is_named_as_it_was_given(capsys: pytest.CaptureFixture[str]) -> None:
    value = "/data/" + "abcdefghij" * 12
    assert repr(value) in complaint(["--run.seed", value], capsys)


def test_nothing_is_said_twice(capsys: pytest.CaptureFixture[str]) -> None:
    assert complaint(["--nonsense"], capsys).lower().count("unrecognized options") == 1
    assert complaint(["--rank.scale", "log"], capsys).lower().count("invalid choice") == 1


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("cifar", ["there is no recipe 'cifar'", "cifar10, cifar100, stl10, imagenet10, imagenet-dog"]),
        ("cifar10 --loss.variant dec", ["--loss.variant", "'dec'", "'id-original'", "'idfd'"]),
        ("--model.network alexnet", ["--model.network", "'resnet18'", "'convnet'"]),
        ("--augmentation.min-crop 2", ["--augmentation.min-crop is 2; it must be from 0.01 to 1"]),
    ],
)
def test_wrong_input_of_the_other_training_job(
    line: str, expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(IDFD_RECIPES, "digits", line.split())
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert re.fullmatch(r"error: [^\n]+\n", error), error
    assert [text for text in expected if text not in error] == [], error


# --- the job ---------------------------------------------------------------------------------------------------------

RUN_JOBS = """
import contextlib, io, json, sys
from cli import parse
from ordclust_ray.recipes.drc import RECIPES
for arguments in (["nosuch"], ["--training.batch-size", "1"]):
    with contextlib.suppress(SystemExit), contextlib.redirect_stderr(io.StringIO()):
        parse(RECIPES, "digits", arguments)
parsing_imported_ray = "ray" in sys.modules
import ray, train_drc
ends = []
for arguments in json.loads(sys.argv[1]):
    errors, status = io.StringIO(), 0
    with contextlib.redirect_stderr(errors):
        try:
            train_drc.main(arguments)
        except SystemExit as ended:
            status = ended.code
    ends.append([status, errors.getvalue()])
print(json.dumps([parsing_imported_ray, ends, ray.is_initialized()]))
"""


class Ended(NamedTuple):
    """How the job ended, each time it was called with something wrong, in one process."""

    parsing_imported_ray: bool
    errors: dict[str, str]
    statuses: dict[str, int]
    ray_started: bool


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    folder = tmp_path_factory.mktemp("job")
    (folder / "ragged").mkdir()
    (folder / "ragged" / "ranks.csv").write_text("image,rank\na.png,1\nb.png,2,3\n")
    (folder / "ranked").mkdir()
    (folder / "ranked" / "ranks.csv").write_text("image,rank\na.png,1\nb.png,tall\n")
    (folder / "odd" / "ranks.csv").mkdir(parents=True)
    calls = {
        "recipe": ["nosuch"],
        "flag": ["--training.batchsize", "3"],
        "range": ["--rank.step", "-1"],
        "path": ["--run.name", "a", "--data.path", str(folder / "nowhere")],
        "column": ["--run.name", "b", "--data.path", str(folder / "ranked"), "--data.rank-column", "age"],
        "rank": ["--run.name", "c", "--data.path", str(folder / "ranked")],
        "csv": ["--run.name", "d", "--data.path", str(folder / "ragged")],
        "group": ["--run.name", "e", "--data.group-column", "kind"],
        "csv that is a folder": ["--run.name", "f", "--data.path", str(folder / "odd")],
        "store": ["--run.name", "g", "--run.tracking-uri", "nonsense://x"],
        "first": ["--run.name", "again", "--data.path", str(folder / "mistyped")],
        "second": ["--run.name", "again", "--data.path", str(folder / "ranked")],
    }
    lines = [[*line, "--run.storage", str(folder / "runs")] for line in calls.values()]
    command = [sys.executable, "-c", RUN_JOBS, json.dumps(lines)]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"}  # for which tyro draws its box of other characters
    done = subprocess.run(command, cwd=JOBS, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    parsing_imported_ray, ends, ray_started = json.loads(done.stdout.splitlines()[-1])
    statuses = {name: status for name, (status, _) in zip(calls, ends, strict=True)}
    errors = {name: error for name, (_, error) in zip(calls, ends, strict=True)}
    return Ended(parsing_imported_ray, errors, statuses, ray_started)


def test_wrong_input_starts_no_ray(ended: Ended) -> None:
    assert not ended.parsing_imported_ray
    assert not ended.ray_started


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("recipe", r"there is no recipe 'nosuch'; it must be one of digits, coffee, retina, small, paper, morph-a, .*"),
        ("flag", r"[^│─]*--training.batchsize[^│─]* --training.batch-size INT [^│─]*"),
        ("range", r"--rank.step is -1; it must be at least 0"),
        ("path", r"--data.path is '.*/nowhere'; there is no such file or folder"),
        ("column", r".*/ranks.csv has no column 'age'; its columns are 'image', 'rank'"),
        ("rank", r"column 'rank' has 1 missing or non-numeric ranks; the first is 'tall' at .*/b.png"),
        ("group", r"digits has no column 'kind'; its columns are 'rank', 'label'"),
        ("csv that is a folder", r".*/odd/ranks.csv is not a CSV file: .*"),
        ("store", r"MLflow's store nonsense://x cannot be used: .*"),
        ("csv", r".*/ranks.csv.*[Ee]xpected 2 fields in line 3, saw 3.*"),
    ],
)
def test_job_ends_with_status_2_and_one_line(call: str, expected: str, ended: Ended) -> None:
    assert ended.statuses[call] == 2
    assert re.fullmatch(rf"error: {expected}\n", ended.errors[call]), ended.errors[call]


def test_a_run_that_never_began_does_not_take_its_name(ended: Ended) -> None:
    assert "mistyped" in ended.errors["first"]
    assert "column 'rank' has 1 missing" in ended.errors["second"], ended.errors["second"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"system": "idfd"}, "best.json holds settings of idfd; this job's are drc-orid"),
        ({}, "best.json holds settings of nothing known; this job's are drc-orid"),
        ({"system": "drc-orid", "rank.k": 3}, "best.json: there is no setting 'rank.k'"),
        ({"system": "drc-orid", "rank.tolerance": -1}, "error: --rank.tolerance is -1; it must be at least 0"),
        ({"system": "drc-orid", "rank.tolerance": "much"}, "best.json cannot be used: "),
        (None, "best.json cannot be read: "),
    ],
)
def test_a_recipe_file_that_is_none(
    values: dict[str, object] | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(tmp_path / "best.json") if values is None else written(tmp_path, **values)
    with pytest.raises(SystemExit) as ended:
        parse(RECIPES, "digits", ["--recipe", file])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_a_recipe_flag_without_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(RECIPES, "digits", ["--recipe"])
    assert capsys.readouterr().err == "error: --recipe needs a file of settings, best.json of a sweep for one\n"
