"""What a run achieved, beside what anybody gets for nothing: a table for people, JSON, and numbers for MLflow."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ordclust_ray.core import metrics

RESULTS = "results.json"


@dataclass(frozen=True)
class Results:
    """Measures by method: `{"DRC-ORID": {"MAE": ...}, "median": {...}, ...}`; a missing one was not measured.

    The first method is ours. A note says what else a reader has to know.
    """

    measures: dict[str, dict[str, float]]
    cluster_sizes: Sequence[int]
    note: str = ""

    def write(self, folder: Path) -> None:
        """As `results.json` in a folder."""
        (folder / RESULTS).write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, folder: Path) -> "Results":
        """The inverse of `write`."""
        return cls(**json.loads((folder / RESULTS).read_text()))

    def flat(self) -> dict[str, float]:
        """`{"MAE": ..., "median.MAE": ...}`, for MLflow; ours have no prefix."""
        ours = next(iter(self.measures))
        return {
            f"{'' if method == ours else method + '.'}{name}".replace(" ", "_"): value
            for method, values in self.measures.items()
            for name, value in values.items()
        }

    def table(self, decimals: int = 3) -> str:
        """Methods across, measures down, for a terminal."""
        frame = pd.DataFrame(self.measures).map(lambda value: "-" if np.isnan(value) else f"{value:.{decimals}f}")
        sizes = ", ".join(map(str, self.cluster_sizes))
        return f"{frame.to_string()}\ncluster sizes: {sizes}" + (f"\n{self.note}" if self.note else "")


def rank_measures(estimates: NDArray[np.float64], truth: NDArray[np.float64], limit: float) -> dict[str, float]:
    """MAE, CS up to a limit, and accuracy of estimated ranks."""
    return {
        "MAE": metrics.mean_absolute_error(estimates, truth),
        f"CS at {limit:g}": metrics.cumulative_score(estimates, truth, limit),
        "accuracy": metrics.accuracy(estimates, truth),
    }
