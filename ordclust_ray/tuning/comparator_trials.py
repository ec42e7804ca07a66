"""Trials of the stronger comparator on the clusters of a finished run: judged by the error of ranks."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import ray
import torch
from numpy.typing import NDArray
from ray.train import UserCallback

from ordclust_ray.config import ComparatorTrialConfig, DrcConfig, RankConfig, ValidationConfig
from ordclust_ray.core.image_comparator import ImageComparator
from ordclust_ray.core.rank_estimator import RankNetworks
from ordclust_ray.data.decoded import collected, decoded_stream, fingerprint, only
from ordclust_ray.data.prepare import TEST, TRAIN, Prepared
from ordclust_ray.data.readers import Source
from ordclust_ray.estimation import encode
from ordclust_ray.files import read_table
from ordclust_ray.finished import FinishedRun, find_run, open_again, open_run, prepare_again
from ordclust_ray.models import MODEL, load_networks, save_networks
from ordclust_ray.progress import Silent
from ordclust_ray.references import Comparison, add_references, choose_candidates
from ordclust_ray.training.checkpoint import restore_training
from ordclust_ray.training.comparator_weights import load_weights
from ordclust_ray.training.comparator_worker import ComparatorJob, train_comparator
from ordclust_ray.training.drc_orid import Problem
from ordclust_ray.tuning.drc_trials import without_rows, without_validation
from ordclust_ray.tuning.trained import fit_trial
from ordclust_ray.tuning.validation import ComparatorValidation, HeldOut


@dataclass(frozen=True)
class ComparatorTrials:
    """See `trained.Trials`.

    Attributes:
        config: settings of all trials.
        drc: the run whose clusters are used.
        prepared: its images in the comparator's size; `train` without the validation part.
        measure: what a trial is judged by, but for the settings of its ranks.
        use_gpu: whether the workers train on GPUs.
    """

    METRICS: ClassVar[dict[str, str]] = {"MAE": "min", "CS": "max", "accuracy": "max"}
    LABELLED: ClassVar[dict[str, str]] = {}
    labelled: ClassVar = False
    config: ComparatorTrialConfig
    drc: FinishedRun[DrcConfig]
    prepared: Prepared
    measure: ComparatorValidation
    use_gpu: bool

    @staticmethod
    def source(config: ComparatorTrialConfig) -> FinishedRun[DrcConfig]:
        """See `trained.Trials`."""
        return open_run(find_run(config.drc, "drc", config.run), DrcConfig, "drc", config.path)

    @staticmethod
    def least_epochs(config: ComparatorTrialConfig) -> int:
        """See `trained.Trials`."""
        return 1

    @classmethod
    def open(
        cls,
        config: ComparatorTrialConfig,
        drc: FinishedRun[DrcConfig],
        metric: str,
        use_gpu: bool,
        validation: ValidationConfig,
    ) -> "ComparatorTrials":
        """Decodes the training images of the run, and keeps a part of them for validation.

        ORID and its clusters have seen that part; comparators and references have not.

        Raises:
            InputError: other images than the run had.
        """
        known = drc.assignments()
        prepared = prepare_again(drc, config.comparator.image_size, known[["cluster"]])
        prepared = replace(prepared, manifest=prepared.manifest.join(known[["cluster"]]))
        train = known[known["split"] == TRAIN]
        split = without_validation(train["rank"], validation, config.run.seed)
        own = {name: np.zeros(len(prepared.checksums), dtype=bool) for name in (TRAIN, TEST)}
        for name, chosen in own.items():
            chosen[split.index[split == name]] = True
        measure = judge(config, drc, prepared, train[split == TRAIN], own[TEST])
        fitted = replace(prepared, train=only(prepared.train, own[TRAIN]).sort("key").materialize())
        return cls(config, drc, fitted, measure, use_gpu)

    @property
    def rank(self) -> RankConfig:
        """How ranks are compared, where that is not searched."""
        return self._rank(self.config)

    def data(self) -> dict[str, Any]:
        """See `trained.Trials`."""
        return {
            "path": self.drc.config.data.path,
            "images": len(self.prepared.manifest),
            "fingerprint": fingerprint(self.prepared.manifest, ["rank", "split", "cluster"], self.prepared.checksums),
            "what": "images, ranks, split or clusters",
        }

    def shared(self) -> "ComparatorTrials":
        """See `trained.Trials`."""
        return replace(self, prepared=without_rows(self.prepared))

    def fit(
        self, config: ComparatorTrialConfig, trial_id: str, folder: Path, callbacks: Sequence[UserCallback]
    ) -> Path:
        """See `trained.Trials`."""
        compared, rank = config.comparator, self._rank(config)
        torch.manual_seed(config.run.seed)
        network = ImageComparator(compared.network, compared.image_size, compared.width)
        load_weights(network, compared.weights)
        problem = Problem.of(self.prepared.train.count(), self.prepared.rank_levels, rank, num_groups=0)
        data, measure = self.drc.config.data, replace(self.measure, rank=rank)
        pool_images = max(2, int(data.pool_images * (data.image_size / compared.image_size) ** 2))
        job = ComparatorJob(config, problem, pool_images, ray.put(network.state_dict()), Silent(), measure)
        return fit_trial(train_comparator, job, self.prepared.train, config, trial_id, folder, self.use_gpu, callbacks)

    def _rank(self, config: ComparatorTrialConfig) -> RankConfig:
        rules = {name: getattr(config, name) for name in ("references", "candidates", "credible_mass")}
        return replace(config.rank.resolved(self.drc.config.rank), **rules)

    def save_model(self, config: ComparatorTrialConfig, checkpoint: Path, model: Path) -> None:
        """See `trained.Trials`."""
        compared, measure, rank = asdict(config.comparator), self.measure, self._rank(config)
        del compared["weights"]
        network = ImageComparator(**compared)
        network.load_state_dict(restore_training(checkpoint, "cpu")[0]["network"])
        orid = load_networks(self.drc.results / MODEL).orid
        save_networks(model, RankNetworks(orid, network), self.drc.config, comparator=compared)
        sizes = {"image": self.drc.config.data.image_size, "compared": compared["image_size"]}
        images = decoded(open_again(self.drc), self.drc.config, sizes, measure.instance_ids)
        comparison = Comparison(measure.rank_levels, rank.tolerance, rank.scale, rank)
        add_references(images, model, measure.candidates, measure.centroids, comparison)


def judge(
    config: ComparatorTrialConfig,
    drc: FinishedRun[DrcConfig],
    prepared: Prepared,
    members: pd.DataFrame,
    held_out: NDArray[np.bool_],
) -> ComparatorValidation:
    """What trials are judged by; what ORID says of the images is found out once.

    Args:
        config: settings of all trials.
        drc: the run.
        prepared: its images.
        members: training images without the validation part, with `cluster`, `similarity`, `rank`.
        held_out: the validation part, by instance id.
    """
    centroids = np.stack(read_table(drc.results / "centroids.parquet")["centroid"].to_pylist())
    candidates = choose_candidates(members, len(centroids), prepared.rank_levels, config.candidates)
    references = np.unique(candidates[candidates >= 0])
    model, source, size = drc.results / MODEL, open_again(drc), {"image": drc.config.data.image_size}
    wanted = np.union1d(references, np.flatnonzero(held_out))
    encoded = encode(decoded(source, drc.config, size, wanted), model, len(wanted))
    chosen = np.isin(np.arange(len(held_out)), wanted)
    images = collected(only(prepared.train, chosen).sort("instance_id"))
    of_references, of_held_out = (np.isin(wanted, ids) for ids in (references, np.flatnonzero(held_out)))
    ranks = prepared.manifest["rank"][wanted[of_held_out]].to_numpy()
    return ComparatorValidation(
        HeldOut(ray.put(images["image"][of_held_out]), ranks),
        (encoded["identity"][of_held_out], encoded["order"][of_held_out]),
        candidates,
        references,
        ray.put(images["image"][of_references]),
        encoded["identity"][of_references],
        centroids,
        prepared.rank_levels,
        drc.config.rank,
        ray.put(load_networks(model).orid),
    )


def decoded(
    source: Source, config: DrcConfig, sizes: dict[str, int], instance_ids: NDArray[np.int64]
) -> ray.data.Dataset:
    """Some images of a run, anew."""
    chosen = np.isin(np.arange(len(source.manifest)), instance_ids)
    return decoded_stream(source, sizes, config.data.max_pixels, chosen)
