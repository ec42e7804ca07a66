"""Ranks of a data set at several k and seeds, by ORID's own comparator and by a stronger one, beside the baselines.

`python benchmarks/rank_tables.py RECIPE PATH [--k 1 2 4] [--seeds 0 1 2] [--storage FOLDER]`: each cell is
`train_drc.py RECIPE`, `train_comparator.py small`, `select_references.py` and `estimate_ranks.py`; what is finished is
read, so that an interrupted table goes on. `--drc-flags "..."` go to `train_drc.py`, `--flags "..."` to
`train_comparator.py`.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).parent.parent / "jobs"))

import estimate_ranks
import select_references
import train_comparator
import train_drc

from ordclust_ray.recipes.drc import RECIPES

SHOWN = ("MAE", "CS", "accuracy", "comparisons right")


def run(job: Callable[[list[str]], None], name: str, storage: Path, *arguments: str) -> dict[str, dict[str, float]]:
    """Runs a job, or reads what it left, and returns its measures."""
    job([*arguments, "--run.name", name, "--run.storage", str(storage)])
    return json.loads((storage / name / "results" / "results.json").read_text())["measures"]


def cell(options: argparse.Namespace, k: int, seed: int) -> dict[str, float]:
    """Measures of both comparators and of the baselines, by method and measure."""
    storage, name = options.storage.expanduser().absolute(), f"{options.recipe}-k{k}-seed{seed}"
    limit = str(RECIPES[options.recipe]().rank.cumulative_score_at)
    drc = ["--data.path", str(options.path), "--clustering.num-clusters", str(k), "--run.seed", str(seed)]
    drc += shlex.split(options.drc_flags)
    trained = run(train_drc.main, name, storage, options.recipe, *drc)
    compared = ["small", "--drc", name, "--run.seed", str(seed), *shlex.split(options.flags)]
    run(train_comparator.main, f"{name}-compared", storage, *compared)
    run(select_references.main, f"{name}-references", storage, "--model", f"{name}-compared")
    found = {"NMI above lowest rank": {"": trained["DRC-ORID"].get("NMI above lowest rank", float("nan"))}}
    for kind, model in (("ORID", name), ("stronger", f"{name}-references")):
        wanted = ["--model", model, "--cumulative-score-at", limit]
        measures = run(estimate_ranks.main, f"{name}-{kind}-estimates", storage, *wanted)
        rules = [method for method in measures if not method.startswith(("k-NN", "median"))]
        found |= {f"{kind}: {method}": measures[method] for method in rules}
        found |= {method: measures[method] for method in measures if method not in rules}
    return {
        f"{method} {measure}".strip(): value
        for method, values in found.items()
        for measure, value in values.items()
        if not measure or measure.startswith(SHOWN)
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("path", type=Path)
    parser.add_argument("--k", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--storage", type=Path, default=Path("~/ordclust_runs"))
    parser.add_argument("--drc-flags", default="")
    parser.add_argument("--flags", default="")
    options = parser.parse_args(arguments)
    rows = [{"k": k, **cell(options, k, seed)} for k in options.k for seed in options.seeds]
    table = pd.DataFrame(rows).groupby("k")
    mean, spread = (part.T.map("{:.3f}".format) for part in (table.mean(), table.std()))
    print(f"mean ± standard deviation over seeds {options.seeds}\n{(mean + ' ± ' + spread).to_string()}")


if __name__ == "__main__":
    main()
