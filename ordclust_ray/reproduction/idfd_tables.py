"""The tables and curves of the IDFD paper (Tao, Takagi & Nakata, ICLR 2021) as plans."""

from dataclasses import replace
from itertools import product

from ordclust_ray.reproduction.cells import AUGMENTATIONS, IdfdCell
from ordclust_ray.reproduction.curves import Curves, Points
from ordclust_ray.reproduction.tables import Column, Source, Table, numbers, table

RECIPES = {
    "CIFAR-10": "cifar10",
    "CIFAR-100": "cifar100",
    "STL-10": "stl10",
    "ImageNet-10": "imagenet10",
    "ImageNet-Dog": "imagenet-dog",
}
MEASURES = ("ACC", "NMI", "ARI")
ORIGINAL, TUNED = IdfdCell("cifar10", "id-original"), IdfdCell("cifar10", "id-tuned")
ORTHOGONAL, DECORRELATED = IdfdCell("cifar10", "idfo"), IdfdCell("cifar10")
INSTANCE_TEMPERATURES = (0.07, 0.2, 0.5, 0.8, 1.0, 2.0, 5.0, 10.0)
DECORRELATION_TEMPERATURES = (0.1, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 10.0)
AT_THE_END = "The paper gives the best values of each method; ours are those after the last epoch."
FLIPS = "The paper lists random flips, which its code lacks: here all runs have them but those that remove them."
TABLE_1 = """
AE           | 31.4 23.9 16.9  16.5 10.0  4.8  30.3 25.0 16.1  31.7 21.0 15.2  18.5 10.4  7.3
DEC          | 30.1 25.7 16.1  18.5 13.6  5.0  35.9 27.6 18.6  38.1 28.2 20.3  19.5 12.2  7.9
DAC          | 52.2 39.6 30.6  23.8 18.5  8.8  47.0 36.6 25.7  52.7 39.4 30.2  27.5 21.9 11.1
DCCM         | 62.3 49.6 40.8  32.7 28.5 17.3  48.2 37.6 26.2  71.0 60.8 55.5  38.3 32.1 18.2
ID(original) | 44.0 30.9 22.1  26.7 22.1 10.8  51.4 36.2 28.5  63.2 47.8 42.0  36.5 24.8 17.2
IIC          | 61.7 51.1 41.1  25.7 22.5 11.7  59.6 49.6 39.7  -    -    -     -    -    -
SCAN         | 88.3 79.7 77.2  50.7 48.6 33.3  80.9 69.8 64.6  -    -    -     -    -    -
ID(tuned)    | 77.6 68.2 61.6  40.9 39.2 24.3  72.6 64.0 52.6  93.7 86.7 86.5  47.6 47.0 33.5
IDFO         | 82.8 71.4 67.9  42.5 43.2 24.4  75.6 63.6 56.9  94.2 87.1 87.6  61.2 57.9 41.4
IDFD         | 81.5 71.1 66.3  42.5 42.6 26.4  75.6 64.3 57.5  95.4 89.8 90.1  59.1 54.6 41.3
"""
TABLE_2 = """
ID(tuned) | 26.8 15.0  8.9  39.3 31.6 20.9  77.6 68.2 61.6  80.2 71.1 64.6
IDFD      | 42.0 32.7 23.2  56.8 46.7 36.5  81.5 71.1 66.3  82.7 73.4 68.4
"""
TABLE_4 = """
ID W/O DA    | 18.7  9.5  4.1  14.8 10.7  3.2  19.6  9.0  3.7  23.6 14.1  6.2  12.7  4.6  1.9
IDFD W/O DA  | 23.6 12.1  6.0  16.2 11.6  4.4  24.8 17.6  8.3  37.2 23.8 15.6  15.5  5.5  2.5
ID With DA   | 76.6 65.7 58.3  36.7 35.7 21.9  57.1 49.0 36.8  85.8 79.1 70.5  29.4 16.0 28.5
IDFD With DA | 81.5 71.1 66.3  42.5 42.6 26.4  75.6 64.3 57.5  95.4 89.8 90.1  59.1 54.6 41.3
"""


def methods() -> Table:
    """Table 1."""
    runs = {"ID(original)": ORIGINAL, "ID(tuned)": TUNED, "IDFO": ORTHOGONAL, "IDFD": DECORRELATED}
    return _over_data_sets("Table 1: clustering results (%)", TABLE_1, runs, AT_THE_END)


def networks() -> Table:
    """Table 2."""
    runs = {"ID(tuned)": TUNED, "IDFD": DECORRELATED}
    columns = list(product(["CIFAR-10"], ["ConvNet", "VGG16", "ResNet18", "ResNet34"], MEASURES))

    def source(row: str, column: Column) -> Source:
        _, network, measure = column
        return _share(_with_network(runs[row], network), measure)

    return table("Table 2: clustering results (%) on various networks", numbers(columns, TABLE_2), source, AT_THE_END)


def augmentation() -> Table:
    """Table 4."""
    runs = {
        "ID W/O DA": replace(TUNED, without=AUGMENTATIONS),
        "IDFD W/O DA": replace(DECORRELATED, without=AUGMENTATIONS),
        "ID With DA": TUNED,
        "IDFD With DA": DECORRELATED,
    }
    title = "Table 4: clustering results (%) with or without data augmentation"
    note = f"{AT_THE_END} ID is ID(tuned), of which the paper has other values in table 1."
    return _over_data_sets(title, TABLE_4, runs, note)


def learning_process() -> Curves:
    """Figure 2."""
    return Curves(
        "Figure 2: ACC over the learning process (CIFAR-10)",
        "epoch",
        {"ACC": "acc"},
        {"ID(tuned)": (TUNED,), "IDFO": (ORTHOGONAL,), "IDFD": (DECORRELATED,)},
    )


def instance_temperatures() -> Curves:
    """Figure 3; tau = 0.07 is ID(original), and 1 is ID(tuned)."""
    own = {0.07: ORIGINAL, 1.0: TUNED}
    runs: Points = {tau: (own.get(tau, replace(TUNED, instance_temperature=tau)),) for tau in INSTANCE_TEMPERATURES}
    title = "Figure 3: ACC of ID at various tau, the mean of the last quarter of the epochs (CIFAR-10)"
    return Curves(title, "tau", {"ACC": "acc"}, {"ID": runs}, last_quarter=True)


def decorrelation_temperatures() -> Curves:
    """Figure 4."""
    runs: Points = {
        tau2: (replace(DECORRELATED, decorrelation_temperature=tau2),) for tau2 in DECORRELATION_TEMPERATURES
    }
    title = "Figure 4: ACC of IDFD at various tau2, the mean of the last quarter of the epochs (CIFAR-10)"
    return Curves(title, "tau2", {"ACC": "acc"}, {"IDFD": runs}, last_quarter=True)


def removed_augmentations() -> Curves:
    """Figure 11."""
    removed = {"none": (), **{name: (name,) for name in AUGMENTATIONS}, "all": AUGMENTATIONS}
    runs: Points = {name: (replace(DECORRELATED, flip=True, without=gone),) for name, gone in removed.items()}
    title = "Figure 11: effect of each technique of data augmentation on IDFD (CIFAR-10)"
    return Curves(title, "removed", {name: name.lower() for name in MEASURES}, {"IDFD": runs}, note=FLIPS)


def _over_data_sets(title: str, text: str, runs: dict[str, IdfdCell], note: str) -> Table:
    """A table of the five data sets, with a run a row."""

    def source(row: str, column: Column) -> Source | None:
        dataset, measure = column
        return _share(replace(runs[row], recipe=RECIPES[dataset]), measure) if row in runs else None

    return table(title, numbers(list(product(RECIPES, MEASURES)), text), source, note)


def _with_network(cell: IdfdCell, heading: str) -> IdfdCell:
    """The cell with the network of this heading."""
    cells = {
        "ConvNet": replace(cell, network="convnet"),
        "VGG16": replace(cell, network="vgg16"),
        "ResNet18": replace(cell, network="resnet18"),
        "ResNet34": replace(cell, network="resnet34"),
    }
    return cells[heading]


def _share(cell: IdfdCell, measure: str) -> Source:
    return Source((cell,), measure.lower(), 100.0)


PLANS: dict[str, Table | Curves] = {
    "idfd-table-1": methods(),
    "idfd-table-2": networks(),
    "idfd-table-4": augmentation(),
    "idfd-figure-2": learning_process(),
    "idfd-figure-3": instance_temperatures(),
    "idfd-figure-4": decorrelation_temperatures(),
    "idfd-figure-11": removed_augmentations(),
}
"""By their names on the command line."""
