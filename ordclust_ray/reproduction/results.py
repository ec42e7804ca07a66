"""What cells measured, kept as files: a cell of the same settings is not run again, whichever table asks for it."""

import hashlib
import json
from pathlib import Path

from ordclust_ray.config import MACHINES, ReproduceConfig
from ordclust_ray.files import write_whole
from ordclust_ray.reproduction.cells import Cell, Measured
from ordclust_ray.reproduction.cost import trained_of

FOLDER = "reproduction"


def digest(cell: Cell, options: ReproduceConfig) -> str:
    """Of all settings of its trainings, the data among them, but those of the machines and of the record."""
    settings = [
        {key: value for key, value in config.flat().items() if not key.startswith("run.") and key not in MACHINES}
        for config in trained_of(cell, options)
    ]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


class Store:
    """Measurements in the folder of all runs.

    Args:
        options: of the reproduction.
    """

    def __init__(self, options: ReproduceConfig) -> None:
        self._options = options
        self._folder = options.run.storage_path / FOLDER / options.scale

    def _file(self, cell: Cell) -> Path:
        return self._folder / f"{cell.name}-{digest(cell, self._options)}.json"

    def __contains__(self, cell: Cell) -> bool:
        return self._file(cell).exists()

    def get(self, cell: Cell) -> Measured:
        """What was measured."""
        return Measured(**json.loads(self._file(cell).read_text()))

    def put(self, cell: Cell, measured: Measured) -> None:
        """Keeps it."""
        file = self._file(cell)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, measured.as_json())
