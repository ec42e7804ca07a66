"""Cells: the runs that a number of a table is made of. Tables share them, and a cell is run once."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

AUGMENTATIONS = ("crop", "jitter", "grey", "flip")


@dataclass(frozen=True)
class DrcCell:
    """A run of DRC-ORID, and what follows it.

    Attributes:
        recipe: of `recipes.drc`: the data set, its protocol and the schedule.
        num_clusters: k.
        repulsion: alpha.
        comparator: recipe of `recipes.comparator` that is trained on the run's clusters; empty: ORID's own compares.
        fold: of a set with folds, in place of the recipe's: the one that is trained on in MORPH's setting B, that is
            tested on in C.
        features: the run's features are tested too (tables 11 and 12).
        seed: of everything random.
    """

    recipe: str
    num_clusters: int
    repulsion: float = 0.1
    comparator: str = ""
    fold: int = 0
    features: bool = False
    seed: int = 0

    @property
    def base(self) -> "DrcCell":
        """The run of DRC-ORID alone."""
        return replace(self, comparator="", features=False)

    @property
    def name(self) -> str:
        """Of the cell, as a run is named."""
        parts = [self.recipe, f"k{self.num_clusters}", f"alpha{self.repulsion:g}" if self.repulsion != 0.1 else ""]
        parts += [f"fold{self.fold}" if self.fold else "", self.comparator, "features" if self.features else ""]
        return "-".join(part for part in [*parts, f"seed{self.seed}"] if part)


@dataclass(frozen=True)
class IdfdCell:
    """A run of IDFD.

    Attributes:
        recipe: of `recipes.idfd`: the data set and the schedule.
        variant: of the losses, "idfd" for one.
        network: that is trained.
        flip: random flips are on, which the paper lists and the recipes of its sets lack.
        without: augmentations that are turned off, of `AUGMENTATIONS`.
        instance_temperature: tau; 0: the variant's own.
        decorrelation_temperature: tau2.
        seed: of everything random.
    """

    recipe: str
    variant: Literal["id-original", "id-tuned", "idfo", "idfd", "ae", "ae-fd"] = "idfd"
    network: Literal["resnet18", "resnet34", "vgg16", "convnet"] = "resnet18"
    flip: bool = False
    without: tuple[str, ...] = ()
    instance_temperature: float = 0.0
    decorrelation_temperature: float = 2.0
    seed: int = 0

    @property
    def base(self) -> "IdfdCell":
        """The cell itself: nothing follows its training."""
        return self

    @property
    def name(self) -> str:
        """Of the cell, as a run is named."""
        parts = [self.recipe, self.network, self.variant, "flip" if self.flip else ""]
        parts += [f"no-{name}" for name in self.without]
        parts += [f"tau{self.instance_temperature:g}" if self.instance_temperature else ""]
        parts += [f"tau2-{self.decorrelation_temperature:g}" if self.decorrelation_temperature != 2 else ""]
        return "-".join(part for part in [*parts, f"seed{self.seed}"] if part)


Cell = DrcCell | IdfdCell


@dataclass(frozen=True)
class Measured:
    """What a cell's run achieved.

    Attributes:
        measures: by name: of DRC-ORID "MAE", "CS", "accuracy" (shares), "NMI", "CA", "cluster J of GROUP" (training
            images), with `features` "order: MAE" and so on for clusters of order, whole and identity features, and
            "accuracy from order", "accuracy from identity"; of IDFD "acc", "nmi", "ari" (shares) at the end.
        history: a record an epoch, with "epoch" and, where there was a clustering, of DRC-ORID "nmi" and
            "centroid_affinity", of IDFD "acc", "nmi", "ari".
    """

    measures: dict[str, float]
    history: list[dict[str, Any]]

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)
