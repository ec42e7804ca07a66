"""DRC-ORID: how many groups, and how strongly they repel each other; few enough choices for a grid."""

from ray import tune

SYSTEM = "drc-orid"
PARAMETERS = {
    "clustering.num_clusters": tune.choice([1, 2, 3, 4, 6]),
    "clustering.repulsion": tune.choice([0.0, 0.05, 0.1, 0.2]),
}
METRIC, MODE = "MAE", "min"
REASON = "k and alpha decide the groups (tables 8 and 9 of the paper)"
