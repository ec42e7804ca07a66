"""The stronger comparator: its learning rate, which ranks it calls similar, and the number of references."""

from ray import tune

SYSTEM = "comparator"
PARAMETERS = {
    "training.learning_rate": tune.loguniform(1e-4, 3e-3),
    "rank.tolerance": tune.choice([0.0, 0.1, 1.0]),  # 0.1: of logarithms of ages, 1: of whole ranks
    "references": tune.choice([1, 3, 10, 30]),
}
METRIC, MODE = "MAE", "min"
REASON = "they decide what a comparator learns and hears at the end (section 3.4); its network costs far more to vary"
