"""DRC-ORID: how many groups, how strongly they repel each other, and which ranks are similar."""

from ray import tune

SYSTEM = "drc-orid"
PARAMETERS = {
    "clustering.num_clusters": tune.choice([1, 2, 3, 4, 6]),
    "clustering.repulsion": tune.choice([0.0, 0.05, 0.1, 0.2]),
    "rank.tolerance": tune.choice([0.0, 0.1, 1.0]),  # 0.1: of logarithms of ages, 1: of whole ranks
}
METRIC, MODE = "MAE", "min"
REASON = "k and alpha decide the groups (tables 8 and 9 of the paper); the tolerance which pairs teach the order (4)"
