"""What stands between the workers and the driver: an actor, alone in its file, for it has to start at once."""

from typing import Any


class Board:
    """The actor: the newest step, and the records of the epochs."""

    def __init__(self) -> None:
        self.newest: dict[str, Any] = {}
        self.records: list[dict[str, Any]] = []

    def step(self, newest: dict[str, Any]) -> None:
        """Where training stands."""
        self.newest = newest

    def epoch(self, record: dict[str, Any]) -> None:
        """An epoch that is over."""
        self.records.append(record)

    def read(self, seen: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The newest step, and the records from the `seen`-th on."""
        return self.newest, self.records[seen:]
