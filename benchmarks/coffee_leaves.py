"""Severity of coffee leaves at several k and seeds, beside the baselines: the README's table.

`python benchmarks/coffee_leaves.py PATH_TO_PARQUET [--k 1 4] [--seeds 0 1 2] [--storage FOLDER]`; a run that is
interrupted goes on where it stopped. More flags go to the job.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd

JOB = Path(__file__).parent.parent / "jobs" / "train_drc.py"


def measures(path: str, k: int, seed: int, storage: Path, flags: list[str]) -> dict[str, float]:
    """Trains one cell of the table, and reads what the run wrote."""
    name = f"coffee-k{k}-seed{seed}"
    settings = {
        "data.path": path,
        "clustering.num-clusters": k,
        "run.seed": seed,
        "run.storage": storage,
        "run.name": name,
    }
    arguments = [text for key, value in settings.items() for text in (f"--{key}", str(value))]
    subprocess.run([sys.executable, str(JOB), "coffee", *arguments, *flags], check=True)
    found = json.loads((storage / name / "results" / "results.json").read_text())["measures"]
    return {f"{method}, {measure}": value for method, values in found.items() for measure, value in values.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path")
    parser.add_argument("--k", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--storage", type=Path, default=Path("~/ordclust_runs"))
    options, flags = parser.parse_known_args()
    storage = options.storage.expanduser().absolute()
    rows = [{"k": k, **measures(options.path, k, seed, storage, flags)} for k in options.k for seed in options.seeds]
    table = pd.DataFrame(rows).groupby("k")
    mean, spread = (part.T.map("{:.3f}".format) for part in (table.mean(), table.std()))
    print(f"mean ± standard deviation over seeds {options.seeds}\n{(mean + ' ± ' + spread).to_string()}")


if __name__ == "__main__":
    main()
