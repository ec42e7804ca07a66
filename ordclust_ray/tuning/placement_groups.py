"""Placement groups of trials that train: gone when their trial is over, whatever Ray's own helpers can see.

A trial that is stopped early dies with its controller of Ray Train, which alone would have given the workers'
placement group back. Ray's helper that looks after it asks the dashboard, and waits forever where that is off, or where
another Ray on the machine answers; the next trial then waits for resources that nobody uses.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import ray
from ray import PlacementGroupID
from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.util.placement_group import PlacementGroup, get_current_placement_group, remove_placement_group
from ray.util.state import get_actor

NAME = "placement_groups_of_trials"
ANSWERS_WITHIN_S = 10
LOOKS_FOR_S = 60.0
"""A trial's processes are gone, and no more of its groups come, so long after its end."""


class Register:
    """An actor that knows which groups the trials of a sweep have."""

    def __init__(self) -> None:
        self._groups: dict[str, list[PlacementGroup]] = {}

    def note(self, trial_id: str, group: PlacementGroup) -> None:
        """Workers of a trial began in a group."""
        self._groups.setdefault(trial_id, []).append(group)

    def of(self, trial_ids: list[str]) -> list[PlacementGroup]:
        """The groups of some trials."""
        return [group for trial_id in trial_ids for group in self._groups.get(trial_id, [])]


@contextlib.contextmanager
def register() -> Iterator[None]:
    """Trials find a register by its name meanwhile; at the end no group is left, noted or not."""
    before = {group.id for group in groups_of_this_job()}
    actor = ray.remote(num_cpus=0)(Register).options(name=NAME).remote()
    complaint = ray.get(ray.remote(num_cpus=0)(complain).remote(actor._actor_id.hex()))
    if complaint:
        print(
            f"note: Ray's dashboard cannot be asked about this cluster ({complaint}); its helpers for trials that are "
            "stopped early say so at length, and sweeps of others would hang. This one gives everything back itself",
            flush=True,
        )
    try:
        yield
    finally:
        release([group for group in groups_of_this_job() if group.id not in before])
        ray.kill(actor)


def groups_of_this_job() -> list[PlacementGroup]:
    """Those that are there; the last bytes of a group's id are the id of its job."""
    job, table = ray.get_runtime_context().get_job_id(), ray.util.placement_group_table()
    here = [name for name, group in table.items() if name.endswith(job) and group["state"] != "REMOVED"]
    return [PlacementGroup(PlacementGroupID.from_hex(name)) for name in here]


def complain(actor_id: str) -> str:
    """Why Ray's own helper would not see an actor from where it runs; empty where it would."""
    try:
        return "" if get_actor(actor_id, timeout=ANSWERS_WITHIN_S) else "it does not know this sweep"
    except Exception as error:  # of several libraries
        return " ".join(str(error).split())[:200]


def noted(loop: Callable[[dict[str, Any]], str], trial_id: str) -> Callable[[dict[str, Any]], str]:
    """A loop of Ray Train's workers that begins by noting their group."""

    def begin(loop_config: dict[str, Any]) -> str:
        group = get_current_placement_group()
        if group is not None and ray.train.get_context().get_world_rank() == 0:
            ray.get(ray.get_actor(NAME).note.remote(trial_id, group))
        return loop(loop_config)

    return begin


@dataclass
class Release(Callback):
    """Gives back what ended trials still hold. Told by Ray Tune, in the driver, which pickles it."""

    ended: dict[str, float] = field(default_factory=dict)
    """When each trial ended that is looked after."""

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """By itself, or stopped."""
        self.ended[trial.trial_id] = time.time()

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """It raised."""
        self.ended[trial.trial_id] = time.time()

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Looks after the trials that ended lately: a controller that is about to die may still ask for one more."""
        now = time.time()
        self.ended = {trial_id: ended for trial_id, ended in self.ended.items() if now - ended < LOOKS_FOR_S}
        if self.ended:
            release(ray.get(ray.get_actor(NAME).of.remote(list(self.ended))))


def release(groups: list[PlacementGroup]) -> None:
    """Removes those that are still there."""
    for group in groups:
        if ray.util.placement_group_table(group).get("state", "REMOVED") != "REMOVED":
            remove_placement_group(group)
