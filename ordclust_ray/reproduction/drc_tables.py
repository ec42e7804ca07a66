"""The tables and curves of the DRC-ORID paper (Lee & Kim, ICLR 2021) as plans."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product

from ordclust_ray.reproduction.cells import DrcCell
from ordclust_ray.reproduction.curves import Curves
from ordclust_ray.reproduction.matching import NAME as CLUSTER
from ordclust_ray.reproduction.tables import Cells, Column, Published, Source, Table, numbers, table

AGE_MEASURES = ("MAE", "CS (%)")
MEASURES = {"MAE": ("MAE", 1.0), "CS (%)": ("CS", 100.0), "Accuracy (%)": ("accuracy", 100.0)}
"""Of ours, by heading, and the factor to the paper's unit."""
MORPH_A = "MORPH II (setting A)"
AGES, SCORES = "vgg16", "efficientnet-b4"
"""Comparators of ages, and of aesthetic scores."""
VANILLA, VGG = DrcCell("morph-a", 2), DrcCell("morph-a", 2, comparator=AGES)
FOLDS = {"A": (0,), "B": (1, 2), "C": (1, 2, 3, 4, 5), "D": (0,)}
"""Of the settings of MORPH II; 0 where there are none."""
STARRED = (
    "*: pre-trained on IMDB-WIKI, by the paper's caption; ours start from ImageNet's weights. Settings B and C: means "
    "over 2 and 5 runs."
)
FROZEN = (
    "The paper trains its VGG16 comparator on each of the clusterings; ours is the comparator of table 6, trained on "
    "the run's frozen order features."
)
ARBITRARY = (
    "Training images. Clusters have no order: ours are numbered so that they agree with the paper's as well as can be. "
    "NMI is computed from the paper's counts. Its 44,107 images of setting C are four of five folds of 55,134; ours "
    "are those of the run that is tested on fold 1, and in setting B of the run that is trained on S1."
)
REPULSIONS = (0.0, 0.05, 0.1, 0.2, 0.5)
TABLE_1 = """
DRFs (Shen et al., 2018)     | 2.91 82.9  2.98 -     -    -     2.17 91.3
MO-CNN* (Tan et al., 2017)   | 2.52 85.0  2.70 -     -    -     -    -
MV (Pan et al., 2018)        | -    -     -    -     2.80 87.0  2.41 90.0
MV* (Pan et al., 2018)       | -    -     -    -     2.79 -     2.16 -
BridgeNet* (Li et al., 2019) | 2.38 91.0  2.63 86.0  -    -     -    -
AVDL* (Wen et al., 2020)     | 2.37 -     2.53 -     -    -     1.94 -
OL* (Lim et al., 2020)       | 2.41 91.7  2.75 88.2  2.68 88.8  2.22 93.3
Proposed-Vanilla (k = 2)     | 3.36 80.1  3.32 80.1  3.40 79.7  2.99 84.9
Proposed-VGG (k = 1)*        | 2.35 92.4  2.64 88.9  2.64 89.0  2.22 93.3
Proposed-VGG (k = 2)*        | 2.26 93.8  2.51 89.7  2.58 89.5  2.16 93.5
"""
TABLE_3 = """
Frank & Hall (2001)          | 41.36 0.99
Cardoso & da Costa (2007)    | 41.31 0.95
Palermo et al. (2012)        | 44.92 0.93
RED-SVM (Lin & Li, 2012)     | 35.92 0.96
ORCNN (Niu et al., 2016)     | 44.67 0.81
CNNPOR (Liu et al., 2018)    | 50.12 0.82
GP-DNNOR (Liu et al., 2019)  | 46.60 0.76
Proposed (k = 4)             | 44.72 0.80
"""
TABLE_13 = """
1   | 897 196  -     3507 63    -     8    33008 4   0  46   -
2   | 209 3152 -     26   3404  -     8427 1065  115 50 1384 -
NMI | -   -    0.48  -    -     0.90  -    -     -   -  -    0.74
"""
TABLE_14 = """
MV (Pan et al., 2018)              | 4.49 4.52 4.44 4.40  69.9 70.1 70.3 69.6
OL-supervised (Lim et al., 2020)   | 4.23 4.18 4.19 4.18  73.2 73.4 73.4 74.0
OL-unsupervised (Lim et al., 2020) | -    4.16 4.17 4.16  -    74.0 73.9 74.0
Proposed                           | 4.15 4.01 4.02 4.05  74.0 74.8 74.8 74.6
"""


def morph(setting: str, cell: DrcCell) -> Cells:
    """A run of setting A on another setting of MORPH II: all the runs that its protocol means."""
    recipe = f"morph-{setting.lower()}"
    return tuple(replace(cell, recipe=recipe, fold=fold) for fold in FOLDS[setting])


def ages() -> Table:
    """Table 1."""
    runs = {
        "Proposed-Vanilla (k = 2)": VANILLA,
        "Proposed-VGG (k = 1)*": replace(VGG, num_clusters=1),
        "Proposed-VGG (k = 2)*": VGG,
    }

    def source(row: str, column: Column) -> Source | None:
        setting, measure = column
        return Source(morph(setting[-1], runs[row]), *MEASURES[measure]) if row in runs else None

    published = numbers(_columns([f"Setting {letter}" for letter in "ABCD"], AGE_MEASURES), TABLE_1)
    return table("Table 1: age estimation on MORPH II", published, source, STARRED)


def scores() -> Table:
    """Table 2."""
    runs = {f"Proposed (k = {k})": DrcCell("aadb", k, comparator=SCORES) for k in (1, 8)}
    columns = _columns(["AADB"], ["Reg-Net (Kong et al., 2016)", "ASM (Lee & Kim, 2019)", *runs])
    return table(
        "Table 2: aesthetic score regression on AADB",
        numbers(columns, "MAE | 0.1268 0.1141 0.1109 0.1056"),
        lambda row, column: Source((runs[column[1]],), "MAE") if column[1] in runs else None,
    )


def decades() -> Table:
    """Table 3."""
    columns = _columns(["HCI"], ["Accuracy (%)", "MAE (decade)"])
    return _measured_by_row(
        "Table 3: classification of the HCI data set",
        numbers(columns, TABLE_3),
        {"Proposed (k = 4)": DrcCell("hci", 4)},
    )


def with_and_without_repulsion() -> Table:
    """Table 8."""
    runs = {
        "Proposed without repulsive term": replace(VGG, repulsion=0.0),
        "Proposed with repulsive term": VGG,
    }
    text = "Proposed without repulsive term | 2.47 90.7\nProposed with repulsive term | 2.26 93.8"
    published = numbers(_columns([MORPH_A], AGE_MEASURES), text)
    return _measured_by_row("Table 8: clustering without and with the repulsive term (k = 2)", published, runs)


def numbers_of_clusters_of_faces() -> Table:
    """Table 9."""
    return _measured_by_k(
        "Table 9: age estimation according to k", MORPH_A, (2, 3, 4), "Proposed | 2.26 2.32 2.43 93.8 92.7 91.4", VGG
    )


def numbers_of_clusters_of_photographs() -> Table:
    """Table 10."""
    runs = {f"k = {k}": DrcCell("aadb", k, comparator=SCORES) for k in (4, 6, 8, 10)}
    return table(
        "Table 10: aesthetic score regression (MAE) according to k",
        numbers(_columns(["AADB"], runs), "Proposed | 0.1073 0.1059 0.1056 0.1060"),
        lambda row, column: Source((runs[column[1]],), "MAE"),
    )


def other_features() -> Table:
    """Table 11."""
    text = "Order | 2.42 91.5\nWhole | 2.59 90.7\nIdentity (proposed) | 2.26 93.8"
    tested = replace(VANILLA, features=True)

    def source(row: str, column: Column) -> Source:
        measure, factor = MEASURES[column[1]]
        return Source((tested,), f"{row.split()[0].lower()}: {measure}", factor)

    published = numbers(_columns([MORPH_A], AGE_MEASURES), text)
    return table("Table 11: age estimation with clusters of other features (k = 2)", published, source, FROZEN)


def decomposition() -> Table:
    """Table 12, turned, so that its columns are the data sets."""
    kinds = {"Order feature": "order", "Identity feature": "identity"}
    text = "Order feature | 81.4 75.4\nIdentity feature | 43.2 40.8\nRandom guess | 33.3 33.3"
    columns = _columns([MORPH_A, "MORPH II (setting B)"], ["Accuracy (%)"])

    def source(row: str, column: Column) -> Source | None:
        tested = morph(column[0][-2], replace(VANILLA, features=True))
        return Source(tested, f"accuracy from {kinds[row]}", 100.0) if row in kinds else None

    title = "Table 12: accuracy of comparators by what they compare"
    return table(title, numbers(columns, text), source, "Setting B: the mean of 2 runs.")


def cluster_sizes() -> Table:
    """Table 13, and the NMI that follows from it."""
    groups = {
        "Setting A": ["Male", "Female"],
        "Setting B": ["Caucasian", "African"],
        "Setting C": ["Caucasian", "African", "Hispanic", "Asian", "Others"],
    }
    ours = {"Male": "male", "Female": "female", "Others": "other"}
    columns = [(setting, group) for setting, names in groups.items() for group in [*names, "all groups"]]

    def source(row: str, column: Column) -> Source | None:
        setting, group = column
        if (row == "NMI") != (group == "all groups"):
            return None
        measure = "NMI" if row == "NMI" else CLUSTER.format(row, ours.get(group, group))
        return Source(morph(setting[-1], VANILLA)[:1], measure)

    title = "Table 13: clusters of settings A, B and C of MORPH II (k = 2)"
    return table(title, numbers(columns, TABLE_13), source, ARBITRARY)


def balanced_faces() -> Table:
    """Table 14."""
    cell = DrcCell("balanced", 2, comparator=AGES)
    return _measured_by_k("Table 14: age estimation on the balanced data set", "Balanced", (1, 2, 3, 6), TABLE_14, cell)


def repulsion_over_epochs() -> Curves:
    """Figure 10."""
    return Curves(
        "Figure 10: clusters without and with the repulsive term (MORPH II, setting B, k = 2)",
        "epoch",
        {"NMI": "nmi", "CA": "centroid_affinity"},
        {f"alpha = {repulsion:g}": _repelled(repulsion) for repulsion in (0.0, 0.1)},
        note="In the paper, NMI with alpha = 0.1 ends 0.13 above that with 0, and its CA falls to almost -1.",
    )


def repulsions_over_epochs() -> Curves:
    """Figure 13."""
    return Curves(
        "Figure 13: NMI at different alphas (MORPH II, setting B, k = 2)",
        "epoch",
        {"NMI": "nmi"},
        {f"alpha = {repulsion:g}": _repelled(repulsion) for repulsion in REPULSIONS},
        note="The paper's text does not list its alphas, and names no setting; these are ours, on figure 10's.",
    )


def _repelled(repulsion: float) -> Cells:
    return morph("B", replace(VANILLA, repulsion=repulsion))[:1]


def _measured_by_row(title: str, published: Published, runs: Mapping[str, DrcCell]) -> Table:
    """A table with a run a row, and a measure a column."""

    def source(row: str, column: Column) -> Source | None:
        measure = column[1].replace(" (decade)", "")
        return Source((runs[row],), *MEASURES[measure]) if row in runs else None

    return table(title, published, source)


def _measured_by_k(title: str, dataset: str, by: Sequence[int], text: str, cell: DrcCell) -> Table:
    """A table of a data set of ages with a run for each k, of MAE and then of CS."""
    headings = {f"k = {k}": replace(cell, num_clusters=k) for k in by}

    def source(row: str, column: Column) -> Source | None:
        _, measure, k = column
        return Source((headings[k],), *MEASURES[measure]) if row == "Proposed" else None

    return table(title, numbers(_columns([dataset], AGE_MEASURES, headings), text), source)


def _columns(*levels: Sequence[str] | Mapping[str, DrcCell]) -> list[Column]:
    return list(product(*levels))


PLANS: dict[str, Table | Curves] = {
    "drc-table-1": ages(),
    "drc-table-2": scores(),
    "drc-table-3": decades(),
    "drc-table-8": with_and_without_repulsion(),
    "drc-table-9": numbers_of_clusters_of_faces(),
    "drc-table-10": numbers_of_clusters_of_photographs(),
    "drc-table-11": other_features(),
    "drc-table-12": decomposition(),
    "drc-table-13": cluster_sizes(),
    "drc-table-14": balanced_faces(),
    "drc-figure-10": repulsion_over_epochs(),
    "drc-figure-13": repulsions_over_epochs(),
}
"""By their names on the command line."""
