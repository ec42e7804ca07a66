"""Trials of DRC-ORID: decoded once, judged by the error of ranks on a part of the training images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import ray
from ray.train import UserCallback

from ordclust_ray.config import DrcConfig, RankConfig, ValidationConfig
from ordclust_ray.core.random_keys import another_seed
from ordclust_ray.data.decoded import collected
from ordclust_ray.data.prepare import TRAIN, Prepared, open_checked, prepare, stratified_split
from ordclust_ray.data.readers import Source
from ordclust_ray.progress import Silent
from ordclust_ray.references import save_trained
from ordclust_ray.training.checkpoint import restore
from ordclust_ray.training.drc_orid import Problem
from ordclust_ray.training.orid_worker import TrainJob, train_orid
from ordclust_ray.tuning.space import CLUSTERS
from ordclust_ray.tuning.trained import fit_trial
from ordclust_ray.tuning.validation import HeldOut, OridValidation

VALIDATION = 2
"""Tells the seed of the validation part from that of the held-out images."""


@dataclass(frozen=True)
class DrcTrials:
    """See `trained.Trials`.

    Attributes:
        config: settings of all trials.
        prepared: images to train on; `test` is the validation part.
        measure: what a trial is judged by.
        use_gpu: whether the workers train on GPUs.
    """

    METRICS: ClassVar[dict[str, str]] = {"MAE": "min", "CS": "max", "accuracy": "max", **CLUSTERS}
    LABELLED: ClassVar[dict[str, str]] = {"nmi": "max"}
    config: DrcConfig
    prepared: Prepared
    measure: OridValidation
    use_gpu: bool

    @staticmethod
    def source(config: DrcConfig) -> Source:
        """See `trained.Trials`."""
        return open_checked(config)

    @staticmethod
    def least_epochs(config: DrcConfig) -> int:
        """See `trained.Trials`."""
        return config.training.warmup_epochs + config.training.epochs_per_round

    @classmethod
    def open(
        cls, config: DrcConfig, source: Source, metric: str, use_gpu: bool, validation: ValidationConfig
    ) -> "DrcTrials":
        """Decodes the training images, and keeps a part of them for validation.

        Raises:
            InputError: data that cannot be used.
        """
        source.manifest["split"] = validation_split(source.manifest, config, validation)
        prepared = prepare(source, config)
        images = collected(prepared.test)
        held_out = HeldOut(ray.put(images["image"]), prepared.manifest["rank"][images["instance_id"]].to_numpy())
        return cls(config, prepared, OridValidation(held_out, prepared.rank_levels, metric), use_gpu)

    @property
    def labelled(self) -> bool:
        """Whether groups are known."""
        return bool(self.prepared.groups)

    @property
    def rank(self) -> RankConfig:
        """How ranks are compared, where that is not searched."""
        return self.config.rank

    def data(self) -> dict[str, Any]:
        """See `trained.Trials`."""
        return {
            "path": self.config.data.path,
            "images": len(self.prepared.manifest),
            "fingerprint": self.prepared.fingerprint(),
            "what": "images, ranks or split",
        }

    def shared(self) -> "DrcTrials":
        """See `trained.Trials`."""
        return replace(self, prepared=without_rows(self.prepared))

    def fit(self, config: DrcConfig, trial_id: str, folder: Path, callbacks: Sequence[UserCallback]) -> Path:
        """See `trained.Trials`."""
        prepared = self.prepared
        problem = Problem.of(prepared.train.count(), prepared.rank_levels, config.rank, len(prepared.groups))
        job = TrainJob(config, problem, Silent(), self.measure)
        return fit_trial(train_orid, job, prepared.train, config, trial_id, folder, self.use_gpu, callbacks)

    def save_model(self, config: DrcConfig, checkpoint: Path, model: Path) -> None:
        """See `trained.Trials`."""
        save_trained(model, config, restore(checkpoint), self.prepared)


def validation_split(manifest: pd.DataFrame, config: DrcConfig, validation: ValidationConfig) -> pd.Series:
    """Parts "train" and "test" of the training images; held-out images are in neither, and not even decoded.

    Args:
        manifest: from `open_checked`.
        config: says which images are held out, where the manifest does not.
        validation: how many of the others are.
    """
    seed, split = config.run.seed, manifest.get("split")
    if split is None:
        split = stratified_split(manifest["rank"], config.data.test_fraction, seed)
    train = manifest["rank"][split == TRAIN]
    return without_validation(train, validation, seed).reindex(manifest.index, fill_value="")


def without_validation(ranks: pd.Series, validation: ValidationConfig, seed: int) -> pd.Series:
    """Parts of training images: "train", and "test" for the validation part.

    Args:
        ranks: of the training images, by instance_id.
        validation: how large the part is.
        seed: of the sweep.
    """
    fraction = min(validation.validation_fraction, validation.validation_images / max(len(ranks), 1))
    return stratified_split(ranks, fraction, another_seed(seed, VALIDATION))


def without_rows(prepared: Prepared) -> Prepared:
    """The images and the ranks that there are, without the tables of all images."""
    return replace(
        prepared, manifest=prepared.manifest[:0], broken=prepared.broken[:0], checksums=prepared.checksums[:0]
    )
