"""Cells run in this process: for small networks and sets, where starting processes would take longer than they do."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from ordclust_ray.config import ImagesConfig, ReproduceConfig
from ordclust_ray.data.decoded import broken_images, collected, decoded_stream, require_few_broken, sort_keys
from ordclust_ray.data.prepare import divide, open_checked
from ordclust_ray.data.readers import Source
from ordclust_ray.data.unlabelled import open_unlabelled, wanted_images
from ordclust_ray.reproduction.cells import Cell, DrcCell, IdfdCell, Measured
from ordclust_ray.reproduction.local_drc import LocalDrc
from ordclust_ray.reproduction.settings import ANALYSIS_EPOCHS, comparator_config, drc_config, idfd_config
from ordclust_ray.training.idfd import IdfdTrainer
from ordclust_ray.training.idfd_run import Idfd, ImagesInMemory

CLASS_MEASURES = ("acc", "nmi", "ari")


@dataclass(frozen=True)
class Pixels:
    """Decoded images of a source.

    Attributes:
        rows: (N, S, S, 3) uint8, those that were asked for, by instance id.
        place: (n,) row of each instance id, -1 where it was not asked for or is broken.
    """

    rows: Tensor
    place: NDArray[np.int64]

    @classmethod
    def decode(cls, source: Source, config: ImagesConfig, size: int, chosen: NDArray[np.bool_] | None) -> "Pixels":
        """Reads them with Ray Data.

        Raises:
            TooManyBrokenError: more than `max_broken_fraction`.
        """
        stream = decoded_stream(source, {"image": size}, config.max_pixels, chosen)
        rows = collected(stream)
        ids, errors, images = (rows[name] for name in ("instance_id", "error", "image"))
        wrong = errors != ""
        broken = broken_images(pd.DataFrame({"instance_id": ids[wrong], "error": errors[wrong]}), source.manifest)
        require_few_broken(broken, len(ids), config)
        order = np.argsort(ids)
        order = order[~wrong[order]]
        place = np.full(len(source.manifest), -1, dtype=np.int64)
        place[ids[order]] = np.arange(len(order))
        return cls(torch.from_numpy(images[order]), place)

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Of each instance id."""
        return self.place >= 0

    def of(self, instance_ids: NDArray[np.int64]) -> Tensor:
        """The images of some instances, in their order."""
        return self.rows[torch.from_numpy(self.place[instance_ids])]


class LocalEngine:
    """Measures cells, one after another; keeps the decoded images of a set and a trained network for the next one.

    Args:
        options: of the reproduction.
    """

    def __init__(self, options: ReproduceConfig) -> None:
        self.options = options
        self._decoded: tuple[str, dict[tuple[object, ...], Pixels]] = "", {}
        self._run: tuple[DrcCell, LocalDrc] | None = None

    @cached_property
    def device(self) -> torch.device:
        """That trains."""
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def measure(self, cell: Cell) -> Measured:
        """Trains what the cell needs, and measures it."""
        return self._drc(cell) if isinstance(cell, DrcCell) else self._idfd(cell)

    def _pixels(
        self, source: Source, config: ImagesConfig, size: int, chosen: NDArray[np.bool_] | None = None
    ) -> Pixels:
        home = f"{config.dataset} {config.path}"
        if self._decoded[0] != home:
            self._decoded = home, {}
        kept, key = self._decoded[1], (size, None if chosen is None else chosen.tobytes())
        if key not in kept:
            kept[key] = Pixels.decode(source, config, size, chosen)
        return kept[key]

    def _idfd(self, cell: IdfdCell) -> Measured:
        config = idfd_config(cell, self.options)
        source = open_unlabelled(config)
        wanted = wanted_images(source.manifest, config)
        pixels = self._pixels(source, config.data, config.data.image_size, wanted)
        ids = np.flatnonzero(wanted & pixels.usable)
        labels, classes = pd.factorize(source.manifest["label"].iloc[ids], sort=True)
        order = np.argsort(sort_keys(len(wanted), config.run.seed)[ids])  # that Ray's rows have
        torch.manual_seed(config.run.seed)
        data = ImagesInMemory(pixels.of(ids[order]).to(self.device), torch.from_numpy(order).to(self.device))
        trainer = IdfdTrainer(config, len(ids), self.device)
        model = Idfd(config, len(classes), labels.astype(np.int64), data, trainer)
        for _ in range(config.training.epochs):
            model.run_epoch()
        return Measured({name: model.history[-1][name] for name in CLASS_MEASURES}, model.history)

    def _drc(self, cell: DrcCell) -> Measured:
        config = drc_config(cell, self.options)
        source = open_checked(config)
        if self._run is None or self._run[0] != cell.base:
            pixels = self._pixels(source, config.data, config.data.image_size)
            divided = divide(source.manifest, source.manifest.index[~pixels.usable], config)
            self._run = cell.base, LocalDrc(config, divided, pixels.of, self.device)
        run = self._run[1]
        compared = run.compared
        if cell.comparator:
            settings = comparator_config(cell, self.options)
            size = settings.comparator.image_size
            compared = run.trained_comparator(settings, self._pixels(source, config.data, size).of)
        measures = run.measures(compared)
        if cell.features:
            measures |= run.feature_measures(ANALYSIS_EPOCHS[self.options.scale])
        return Measured(measures, run.model.history)
