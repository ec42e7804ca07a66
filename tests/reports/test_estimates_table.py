"""Measures of estimates, worked by hand on files as the job writes them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ordclust_ray.config import EstimateConfig
from ordclust_ray.core.order import Order
from ordclust_ray.reports.estimates_table import comparison_accuracy, evaluate, neighbours, parts, true_orders

LEVELS = np.array([1.0, 2.0, 3.0])
HELD_OUT = pd.DataFrame(
    {
        "instance_id": [0, 1, 2, 3],
        "rank": [1.0, 2.0, 3.0, 2.0],
        "group": ["a", "b", "a", "b"],
        "estimate": [1.0, 3.0, 1.0, np.nan],
        "consistency": [1.0, 2.0, 3.0, np.nan],
        "mean": [1.5, 2.5, 2.5, np.nan],
        "nearest": [3.0, 3.0, 3.0, np.nan],
        "interval_low": [1.0, 3.0, 1.0, np.nan],
        "interval_high": [2.0, 3.0, 3.0, np.nan],
        "entropy": [0.1, 0.2, 0.6, np.nan],
        "cluster": [0, 1, 1, -1],
        "orders": [[1, 2, 2], [0, 0, 2], [0, 0, 0], None],
        "references": [[7, 8, 9], [7, 8, -1], [7, 8, 9], None],
        "error": ["", "", "", "cut off"],
    }
)
G, S, L = Order.GREATER, Order.SIMILAR, Order.LESS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    HELD_OUT.to_parquet(tmp_path / "part.parquet", index=False)
    return tmp_path


def scalars() -> pd.DataFrame:
    return HELD_OUT.drop(columns=["orders", "references"]).set_index("instance_id")


def test_comparisons_by_hand(folder: Path) -> None:
    """True orders: SLL, GS(-), GGS. Of greater 3 of 3 are right, of similar 1 of 3, of less 2 of 2."""
    found = comparison_accuracy(folder, LEVELS, {"tolerance": 0.0, "scale": "linear"})
    assert (G, S, L) == (0, 1, 2)
    assert found == pytest.approx((3 / 3 + 1 / 3 + 2 / 2) / 3)


def test_measures_by_hand(folder: Path) -> None:
    """The broken image counts nowhere; the median of the training ranks 1, 2, 2, 3 is 2."""
    features = {
        "instance_id": np.arange(8),
        "identity": np.array([[0.0], [1], [2], [9], [0], [1], [2], [50]]),
        "order": np.array([[0.0], [0], [0], [9], [0], [5], [9], [50]]),
        "error": np.array([""] * 8, dtype=object),
    }
    train = pd.Series([1.0, 2.0, 2.0, 3.0], index=[4, 5, 6, 7])
    config = EstimateConfig(cumulative_score_at=1.0, neighbours=1)
    found = evaluate(config, folder, scalars(), train, features, {"tolerance": 0.0, "scale": "linear"})
    measures = found.measures
    assert measures["MAP"]["MAE"] == pytest.approx(1.0)
    assert measures["MAP"]["CS at 1"] == pytest.approx(2 / 3)
    assert measures["MAP"]["accuracy"] == pytest.approx(1 / 3)
    assert measures["MAP"]["in the interval"] == pytest.approx(2 / 3)
    assert measures["MAP"]["interval length"] == pytest.approx(1.0)
    assert measures["MAP"]["entropy"] == pytest.approx(0.3)
    assert measures["max. consistency"]["MAE"] == 0
    assert measures["posterior mean"]["MAE"] == pytest.approx(0.5)
    assert measures["nearest reference"]["MAE"] == pytest.approx(1.0)
    assert measures["median"]["MAE"] == pytest.approx(2 / 3)
    assert measures["k-NN on identity"]["MAE"] == pytest.approx(1 / 3)  # 1, 2, 2
    assert measures["k-NN on order"]["MAE"] == pytest.approx(1.0)  # all as image 4: 1, 1, 1
    assert found.note == "held-out: 3 images, and 1 broken"


def test_neighbours_give_a_level() -> None:
    features = {
        "instance_id": np.arange(5),
        "identity": np.eye(5)[[0, 1, 1, 1, 0]],
        "order": np.zeros((5, 1)),
        "error": np.array([""] * 5, dtype=object),
    }
    train = pd.Series([1.0, 2.0, 2.0], index=[1, 2, 3])
    found = neighbours(features, pd.Index([0, 4]), train, LEVELS, k=3)
    assert found["identity"].tolist() == [2.0, 2.0]  # the mean is 5/3


def test_parts_by_hand() -> None:
    found = parts(scalars(), limit=1.0)
    assert found["rank"]["images"].tolist() == [1, 1, 1]
    assert found["rank"]["bias"].tolist() == [0.0, 1.0, -2.0]
    assert found["cluster"].loc[1, "MAE"] == 1.5
    assert found["group"].loc["a", "accuracy"] == 0.5
    assert found["group"].loc["b", "images"] == 1


def test_a_rank_that_is_no_level_has_its_own_order() -> None:
    """Rank 2 between the levels 1 and 3: greater than the one, less than the other."""
    assert true_orders(np.array([2.0]), np.array([1.0, 3.0]), 0.0, "linear").tolist() == [[G, L]]
    assert true_orders(np.array([2.0]), np.array([1.0, 3.0]), 0.5, "geometric").tolist() == [[G, S]]
