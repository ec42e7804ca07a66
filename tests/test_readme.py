"""Every command in the README is run, as it stands there or with flags that make it short."""

import json
import os
import re
import shlex
import subprocess
import time
import urllib.request
from pathlib import Path

import job
import pandas as pd
import psutil
import pytest
from PIL import Image

from benchmarks.planted import planted_images

README = (job.ROOT / "README.md").read_text()
COMMANDS = [
    line for block in re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL) for line in block.strip().splitlines()
]
SHORT = " ".join(job.SMALL[:-1]) + " 1"
COFFEE = job.ROOT.parent / "shared" / "data" / "coffee_leaf.parquet"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of its own: runs go to ~/ordclust_runs."""
    return tmp_path_factory.mktemp("home")


def shell(command: str, home: Path, **extra: str) -> str:
    env = job.environment(HOME=str(home), **extra)
    done = subprocess.run(command, shell=True, cwd=job.ROOT, env=env, capture_output=True, text=True, timeout=290)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def command(start: str) -> str:
    (found,) = [line for line in COMMANDS if line.startswith(start)]
    return found


def test_every_command_is_known_here() -> None:
    known = ("make run", "make test", "python jobs/train_drc.py", "export RAY_AUTH_MODE", "ray ", "mlflow ui")
    assert [line for line in COMMANDS if not line.startswith(known)] == []


def test_make_targets_are_what_this_suite_and_the_next_test_run() -> None:
    plans = {
        target: shell(f"make --no-print-directory --dry-run --always-make {target}", Path.home())
        for target in ("run", "test")
    }
    assert command("make run") == "make run"
    assert plans["run"].splitlines()[-1] == ".venv/bin/python jobs/train_drc.py"
    assert command("make test") == "make test"
    assert plans["test"].splitlines()[-1] == ".venv/bin/python -m pytest"


def test_default_run_reaches_its_targets(home: Path) -> None:
    """What `make run` starts, whole: MAE <= 0.25 where the median has 2.5, centroids that repel, within 3 minutes."""
    output = shell("python jobs/train_drc.py --run.name default", home)
    folder = home / "ordclust_runs" / "default" / "results"
    results = json.loads((folder / "results.json").read_text())["measures"]
    assert results["DRC-ORID"]["MAE"] <= 0.25
    assert results["DRC-ORID"]["CA"] < 0
    assert 2.4 < results["median"]["MAE"] < 2.6
    assert f"results: {folder}" in output


def test_parquet(home: Path) -> None:
    if not COFFEE.exists():
        pytest.skip(f"{COFFEE} is not on this machine")
    output = shell(f"{command('python jobs/train_drc.py coffee')} {SHORT} --data.image-size 16", home)
    assert re.search(r"NMI above lowest rank +0\.", output)


def test_folder_of_images(home: Path) -> None:
    """With groups, a split of its own and a truncated file; in a terminal, where a bar is drawn."""
    planted = planted_images(120, seed=3)
    folder = home / "my_images"
    folder.mkdir()
    rows = []
    for i, image in enumerate(planted.images):
        Image.fromarray(image).save(folder / f"{i}.png")
        rows.append((f"{i}.png", planted.ranks[i], "abc"[planted.groups[i]], "test" if i % 4 == 0 else "train"))
    pd.DataFrame(rows, columns=["file", "age", "kind", "part"]).to_csv(folder / "ages.csv", index=False)
    whole = (folder / "7.png").read_bytes()
    (folder / "7.png").write_bytes(whole[: len(whole) // 2])
    own = command("python jobs/train_drc.py paper").replace("my_images", shlex.quote(str(folder)))
    own += f" --data.group-column kind --data.split-column part --data.image-size 16 --run.name own {SHORT}"
    output = job.in_terminal(own, job.environment(HOME=str(home)))
    assert "119 images, 89 to train on, 1 broken" in output
    assert re.search(r"training 100%\|█+\| epoch 6/6", output)
    assert "k-means on pixels" in output
    broken = pd.read_csv(home / "ordclust_runs" / "own" / "results" / "broken_images.csv")
    assert broken["source"].tolist() == [str(folder / "7.png")]
    assert "truncated" in broken["reason"][0]


def test_help(home: Path) -> None:
    text = shell(command("python jobs/train_drc.py --help"), home)
    for words in ("--data.rank-column", "coffee", "--clustering.repulsion"):
        assert words in text


def test_cluster(home: Path) -> None:
    if any("raylet" in process.name() for process in psutil.process_iter()):
        pytest.skip("another Ray runs on this machine, and `ray stop` would end it")
    name, mode = command("export RAY_AUTH_MODE").removeprefix("export ").split("=")
    env = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    env |= {"PATH": job.environment()["PATH"], "HOME": str(home), name: mode}
    (home / ".ray" / "auth_token").unlink(missing_ok=True)
    submit = command("ray job submit")
    lines = [command("ray get-auth-token"), command("ray start"), f"{submit} digits {SHORT}", command("ray stop")]
    for line in lines:
        done = subprocess.run(line, shell=True, cwd=job.ROOT, env=env, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stdout + done.stderr
        if line.startswith(submit):
            assert "succeeded" in done.stdout + done.stderr
            assert re.search(r"MAE +0\.", done.stdout)


def test_mlflow_page_answers(home: Path) -> None:
    line = command("mlflow ui").replace("$HOME", str(home)) + " --port 5197"
    server = subprocess.Popen(shlex.split(line), cwd=home, env=job.environment(), stderr=subprocess.DEVNULL)
    try:
        assert "MLflow" in answer("http://127.0.0.1:5197/")
    finally:
        for process in [*psutil.Process(server.pid).children(recursive=True), server]:
            process.kill()
        server.wait()


def answer(address: str) -> str:
    """The page, once the server is there."""
    for _ in range(120):
        try:
            with urllib.request.urlopen(address, timeout=5) as page:
                return page.read().decode()
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"no answer from {address}")
