"""IDFD: both temperatures, the weight of decorrelation and the learning rate."""

from ray import tune

SYSTEM = "idfd"
PARAMETERS = {
    "loss.variant": tune.choice(["id-tuned", "idfo", "idfd"]),
    "loss.instance_temperature": tune.loguniform(0.07, 10.0),
    "loss.decorrelation_temperature": tune.loguniform(0.1, 10.0),
    "loss.decorrelation_weight": tune.loguniform(0.1, 10.0),
    "training.learning_rate": tune.loguniform(3e-3, 0.3),
}
METRIC, MODE = "nearest_same_cluster", "max"
REASON = "figures 3 and 4 of the paper vary the temperatures; the criterion needs no label"
