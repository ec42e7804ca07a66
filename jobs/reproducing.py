"""Cells of the papers' tables as runs of the jobs: each is found again by its name, and goes on where it stopped."""

import json
from dataclasses import replace
from pathlib import Path

import analyse
import estimate_ranks
import numpy as np
import select_references
import train_comparator
import train_drc
import train_idfd
import training
from following import follow

from ordclust_ray.config import AnalyseConfig, DrcConfig, EstimateConfig, ReproduceConfig, RunConfig, SelectConfig
from ordclust_ray.data.prepare import TRAIN, open_checked
from ordclust_ray.data.unlabelled import open_unlabelled
from ordclust_ray.files import read_table
from ordclust_ray.reports.results import Results
from ordclust_ray.reproduction.cells import Cell, DrcCell, IdfdCell, Measured
from ordclust_ray.reproduction.local import CLASS_MEASURES
from ordclust_ray.reproduction.measures import cluster_measures, of_analysis, of_ranks
from ordclust_ray.reproduction.results import digest
from ordclust_ray.reproduction.settings import ANALYSIS_EPOCHS, comparator_config, drc_config, idfd_config


class JobsEngine:
    """Measures cells by training jobs, and what follows them.

    Args:
        options: of the reproduction.
    """

    def __init__(self, options: ReproduceConfig) -> None:
        self.options = options

    def measure(self, cell: Cell) -> Measured:
        """Runs what was not run yet, and reads back what the runs measured."""
        return self._drc(cell) if isinstance(cell, DrcCell) else self._idfd(cell)

    def name_of(self, cell: Cell) -> str:
        """Of its run: other data, lists or settings make another one."""
        return f"{cell.name}-{digest(cell, self.options)}"

    def _run(self, name: str, seed: int) -> RunConfig:
        return replace(self.options.run, name=name, seed=seed)

    def _results(self, name: str) -> Path:
        return self.options.run.storage_path / name / "results"

    def _idfd(self, cell: IdfdCell) -> Measured:
        name = self.name_of(cell)
        config = replace(idfd_config(cell, self.options), run=self._run(name, cell.seed))
        training.train(cell.recipe, config, open_unlabelled, train_idfd.run)
        history = json.loads((self._results(name) / "history.json").read_text())
        return Measured({name: history[-1][name] for name in CLASS_MEASURES}, history)

    def _drc(self, cell: DrcCell) -> Measured:
        base = self.name_of(cell.base)
        config = replace(drc_config(cell, self.options), run=self._run(base, cell.seed))
        training.train(cell.recipe, config, open_checked, train_drc.run)
        compared = self._compared(cell, base) if cell.comparator else base
        measures = self._estimated(compared, cell.seed, config) | self._clusters(base)
        if cell.features:
            measures |= self._features(base, cell.seed, config)
        return Measured(measures, json.loads((self._results(base) / "history.json").read_text()))

    def _compared(self, cell: DrcCell, base: str) -> str:
        """Trains the comparator on the run's clusters, and chooses references; the name of that run."""
        name = self.name_of(replace(cell, features=False))
        config = replace(comparator_config(cell, self.options), drc=base, run=self._run(name, cell.seed))
        training.train(cell.comparator, config, train_comparator.open_drc, train_comparator.run, train_comparator.FREE)
        select = SelectConfig(model=name, run=self._run(f"{name}-references", cell.seed))
        follow(select, "references", select_references.open_compared, select_references.run, select_references.say)
        return select.run.name

    def _estimated(self, model: str, seed: int, drc: DrcConfig) -> dict[str, float]:
        limit, run = drc.rank.cumulative_score_at, self._run(f"{model}-estimates", seed)
        config = EstimateConfig(model=model, cumulative_score_at=limit, run=run)
        follow(config, "estimates", estimate_ranks.open_model, estimate_ranks.run, estimate_ranks.say)
        return of_ranks(Results.read(self._results(run.name)).measures["MAP"], limit)

    def _clusters(self, base: str) -> dict[str, float]:
        assigned = read_table(self._results(base) / "assignments.parquet").to_pandas()
        centroids = np.stack(read_table(self._results(base) / "centroids.parquet")["centroid"].to_pylist())
        return cluster_measures(assigned[assigned["split"] == TRAIN]["cluster"].astype(int), assigned, centroids)

    def _features(self, base: str, seed: int, drc: DrcConfig) -> dict[str, float]:
        run = self._run(f"{base}-analysis", seed)
        epochs = ANALYSIS_EPOCHS[self.options.scale]
        config = AnalyseConfig(drc=base, without_repulsion=False, comparator_epochs=epochs, run=run)
        follow(config, "analysis", analyse.open_drc, analyse.run, analyse.say, analyse.FREE)
        return of_analysis(Results.read(self._results(run.name)).measures, drc.rank.cumulative_score_at)
