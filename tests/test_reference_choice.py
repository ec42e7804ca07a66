"""References of a run: who is chosen, who is absent, and an estimator over a Ray Dataset that knows them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Trained

from ordclust_ray.config import InputError, ReferencesConfig
from ordclust_ray.data.decoded import only
from ordclust_ray.data.prepare import Prepared
from ordclust_ray.models import load_estimator, save_networks
from ordclust_ray.references import Comparison, add_references, choose_candidates, list_candidates

LEVELS = np.array([1.0, 2.5, 4.0])
MEMBERS = pd.DataFrame(
    {
        "cluster": [0, 0, 0, 0, 2, 2],
        "rank": [1.0, 1.0, 1.0, 4.0, 2.5, 2.5],
        "similarity": [0.5, 0.9, 0.7, 0.1, 0.3, 0.3],
    },
    index=pd.Index([10, 11, 12, 13, 15, 14], name="instance_id"),
)


def test_choice_by_hand() -> None:
    """Two of each: the most typical first, equals by their id; cluster 1 has nobody."""
    chosen = choose_candidates(MEMBERS, 3, LEVELS, limit=2)
    nobody = [-1, -1]
    assert chosen.tolist() == [
        [[11, 12], nobody, [13, -1]],
        [nobody, nobody, nobody],
        [nobody, [14, 15], nobody],
    ]
    assert choose_candidates(MEMBERS, 3, LEVELS, limit=1000).shape == (3, 3, 3)  # no larger than needed


def test_lists_by_hand() -> None:
    listed, absent = list_candidates(choose_candidates(MEMBERS, 3, LEVELS, limit=2), MEMBERS, LEVELS)
    assert listed["instance_id"].tolist() == [11, 12, 13, 14, 15]
    assert listed["place"].tolist() == [0, 1, 0, 0, 1]
    assert listed["similarity"].tolist() == [0.9, 0.7, 0.1, 0.3, 0.3]
    assert listed["rank"].tolist() == [1.0, 1.0, 4.0, 2.5, 2.5]
    found = sorted(zip(absent["cluster"], absent["rank"], strict=True))
    assert found == [(0, 2.5), (1, 1.0), (1, 2.5), (1, 4.0), (2, 1.0), (2, 4.0)]


@pytest.fixture
def members(trained: Trained, prepared: Prepared) -> pd.DataFrame:
    return trained.assignments.join(prepared.manifest["rank"])


def test_an_estimator_over_a_data_set(
    trained: Trained, prepared: Prepared, members: pd.DataFrame, tmp_path: Path
) -> None:
    """What actors encode is what this process encodes; what is written is what is returned."""
    levels = prepared.rank_levels
    save_networks(tmp_path, trained.estimator.networks, trained.config, comparator=None)
    candidates = choose_candidates(members, 3, levels, limit=50)
    wanted = np.isin(np.arange(103), candidates)
    rules = ReferencesConfig(references=2, credible_mass=0.5)
    centroids = trained.estimator.centroids.double().numpy()
    comparison = Comparison(levels, trained.config.rank.tolerance, trained.config.rank.scale, rules)
    found = add_references(only(prepared.train, wanted), tmp_path, candidates, centroids, comparison)
    for name, tensor in trained.estimator.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)
    loaded = load_estimator(tmp_path)
    assert (loaded.references, loaded.credible_mass) == (2, 0.5)
    images = torch.from_numpy(np.array(prepared.test.take_batch(8)["image"]))
    with torch.inference_mode():
        torch.testing.assert_close(loaded.estimate(images).posteriors, found.estimate(images).posteriors)


def test_a_reference_that_is_gone_is_named(
    trained: Trained, prepared: Prepared, members: pd.DataFrame, tmp_path: Path
) -> None:
    save_networks(tmp_path, trained.estimator.networks, trained.config, comparator=None)
    candidates = choose_candidates(members, 3, prepared.rank_levels, limit=1)
    wanted = np.isin(np.arange(103), candidates)
    gone = int(np.flatnonzero(wanted)[2])
    wanted[gone] = False
    comparison = Comparison(prepared.rank_levels, 0.0, "linear", ReferencesConfig())
    centroids = trained.estimator.centroids.double().numpy()
    with pytest.raises(InputError, match=f"image {gone}, a reference, is not among the images"):
        add_references(only(prepared.train, wanted), tmp_path, candidates, centroids, comparison)
