"""Machines that are taken away with notice: a checkpoint in the middle of the epoch, before the deadline.

Ray Train knows of the notice when the machine is drained (`ray drain-node`), and starts the workers anew after it.
"""

from collections.abc import Callable

import ray.train

from ordclust_ray.training.epochs import Begun

STEPS_BETWEEN_LOOKS = 32
"""All workers have to look at the same steps, as they then agree on what they saw, which takes milliseconds."""


class Notices:
    """Looks now and then whether a machine is going to be taken away, and then saves, once for each machine.

    Args:
        save: checkpoints the epoch as far as it has come, in every worker.
    """

    def __init__(self, save: Callable[[Begun], None]) -> None:
        self._save, self._steps, self._known = save, 0, set[str]()

    def look(self, begun: Begun) -> None:
        """After each step but the epoch's last one."""
        self._steps += 1
        if self._steps % STEPS_BETWEEN_LOOKS:
            return
        notice = ray.train.get_preemption_info()
        leaving = set(notice.preempted_node_ids) if notice else set[str]()
        if leaving - self._known:
            self._known |= leaving
            self._save(begun)
