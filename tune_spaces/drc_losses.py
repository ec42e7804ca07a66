"""DRC-ORID: the length of the identity feature, and the weights of the losses."""

from ray import tune

SYSTEM = "drc-orid"
PARAMETERS = {
    "model.identity_dim": tune.choice([96, 192, 384, 896]),
    "loss.reconstruction_weight": tune.loguniform(1.0, 20.0),
    "loss.clustering_weight": tune.loguniform(0.01, 1.0),
    "loss.adversarial_weight": tune.loguniform(0.1, 10.0),
}
METRIC, MODE = "MAE", "min"
REASON = "they decide what is left to the identity feature, and how tight its groups are (24)"
