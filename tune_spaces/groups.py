"""Repulsive clustering of features that are there already: k and alpha."""

from ray import tune

SYSTEM = "features"
PARAMETERS = {
    "clustering.num_clusters": tune.choice([2, 3, 4, 5, 6, 8]),
    "clustering.repulsion": tune.choice([0.0, 0.05, 0.1, 0.2]),
}
METRIC, MODE = "silhouette", "max"
REASON = "a clustering takes seconds, so every combination can be tried; the criterion needs no label"
