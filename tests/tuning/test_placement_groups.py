"""A sweep gives back what its trials hold, and nothing else."""

import pytest
import ray
from ray.util.placement_group import placement_group, remove_placement_group

from ordclust_ray.tuning.placement_groups import groups_of_this_job, register


def test_groups_that_were_never_noted_are_given_back_too(local_ray: None, capsys: pytest.CaptureFixture[str]) -> None:
    older = placement_group([{"CPU": 0.1}])
    ray.get(older.ready())
    try:
        with register():
            newer = placement_group([{"CPU": 0.1}])
            ray.get(newer.ready())
            waits = placement_group([{"CPU": 1000}])
            assert {older.id, newer.id, waits.id} <= {group.id for group in groups_of_this_job()}
        left = {group.id for group in groups_of_this_job()}
        assert older.id in left
        assert not {newer.id, waits.id} & left
    finally:
        remove_placement_group(older)
