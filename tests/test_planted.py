"""DRC-ORID finds a planted structure: groups by identity, ranks by order, centroids that repel."""

import pytest

from benchmarks.planted import measure, planted_config, planted_images, train


@pytest.fixture(scope="module")
def measures() -> dict[float, dict[str, float]]:
    planted, held_out = planted_images(900, 2), planted_images(400, 3)
    return {
        repulsion: measure(train(planted, planted_config(1, repulsion=repulsion, rounds=2)), planted, held_out)
        for repulsion in (0.1, 0.0)
    }


def test_groups_are_found_where_other_features_fail(measures: dict[float, dict[str, float]]) -> None:
    found = measures[0.1]
    assert found["NMI DRC-ORID"] >= 0.8
    for other in ("pixels", "order features", "whole features"):
        assert found[f"NMI {other}"] < 0.6


def test_ranks_are_estimated_far_better_than_by_the_median(measures: dict[float, dict[str, float]]) -> None:
    assert measures[0.1]["MAE"] < measures[0.1]["MAE median"] / 3


def test_repulsion_drives_centroids_apart(measures: dict[float, dict[str, float]]) -> None:
    assert measures[0.1]["CA"] < measures[0.0]["CA"]
