"""Trials of IDFD: decoded once, judged by criteria that need no label."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import ray
from ray.train import UserCallback

from ordclust_ray.assignment import build_clusters
from ordclust_ray.config import IdfdConfig
from ordclust_ray.data.readers import Source
from ordclust_ray.data.unlabelled import Unlabelled, open_unlabelled, prepare_unlabelled
from ordclust_ray.models import save_clusters
from ordclust_ray.progress import Silent
from ordclust_ray.training.checkpoint import restore_training
from ordclust_ray.training.idfd_worker import IdfdJob, train_idfd
from ordclust_ray.tuning.space import CLUSTERS
from ordclust_ray.tuning.trained import fit_trial
from ordclust_ray.tuning.validation import BankCriteria


@dataclass(frozen=True)
class IdfdTrials:
    """See `trained.Trials`.

    Attributes:
        config: settings of all trials.
        prepared: the images.
        labels: reference to the classes of the bank's rows, only for reports.
        metric: of the sweep.
        use_gpu: whether the workers train on GPUs.
    """

    METRICS: ClassVar[dict[str, str]] = CLUSTERS
    LABELLED: ClassVar[dict[str, str]] = {"acc": "max", "nmi": "max", "ari": "max"}
    config: IdfdConfig
    prepared: Unlabelled
    labels: ray.ObjectRef
    metric: str
    use_gpu: bool

    @staticmethod
    def source(config: IdfdConfig) -> Source:
        """See `trained.Trials`."""
        return open_unlabelled(config)

    @staticmethod
    def least_epochs(config: IdfdConfig) -> int:
        """See `trained.Trials`."""
        return config.clustering.every

    @classmethod
    def open(cls, config: IdfdConfig, source: Source, metric: str, use_gpu: bool) -> "IdfdTrials":
        """Decodes the images.

        Raises:
            InputError: data that cannot be used.
        """
        prepared = prepare_unlabelled(source, config)
        return cls(config, prepared, ray.put(prepared.labels), metric, use_gpu)

    @property
    def labelled(self) -> bool:
        """Whether classes are known."""
        return bool(self.prepared.classes)

    def data(self) -> dict[str, Any]:
        """See `trained.Trials`."""
        return {
            "path": self.config.data.path,
            "images": len(self.prepared.manifest),
            "fingerprint": self.prepared.fingerprint(),
            "what": "images",
        }

    def shared(self) -> "IdfdTrials":
        """See `trained.Trials`."""
        rows = self.prepared
        light = replace(rows, manifest=rows.manifest[:0], broken=rows.broken[:0], labels=rows.labels[:0])
        return replace(self, prepared=replace(light, checksums=rows.checksums[:0]))

    def fit(self, config: IdfdConfig, trial_id: str, folder: Path, callbacks: Sequence[UserCallback]) -> Path:
        """See `trained.Trials`."""
        reported = replace(config.training, checkpoint_every=config.clustering.every)  # a report comes with each
        trained = replace(config, training=reported)
        k = config.clustering.num_clusters or self.prepared.num_clusters
        job = IdfdJob(trained, self.prepared.train.count(), k, self.labels, Silent(), BankCriteria(self.metric))
        return fit_trial(train_idfd, job, self.prepared.train, trained, trial_id, folder, self.use_gpu, callbacks)

    def save_model(self, config: IdfdConfig, checkpoint: Path, model: Path) -> None:
        """See `trained.Trials`."""
        state, _, centroids = restore_training(checkpoint, "cpu")
        assert centroids is not None, "the last epoch ends with a clustering"
        save_clusters(model, build_clusters(config, state["modules"], centroids), config)
