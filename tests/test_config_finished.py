"""Settings of the jobs that work with finished runs: limits, and what a mistake says."""

import subprocess
import sys
from typing import Any

import job
import pytest

from ordclust_ray.config import EstimateConfig, InputError, PredictConfig, RankConfig, SelectConfig


@pytest.mark.parametrize(
    ("config", "values", "message"),
    [
        (SelectConfig, {"references": 0}, "--references is 0; it must be at least 1"),
        (SelectConfig, {"candidates": 0}, "--candidates is 0; it must be at least 1"),
        (SelectConfig, {"references": 3, "candidates": 2}, "--candidates is 2; it must be at least --references, 3"),
        (RankConfig, {"references": 60}, "--rank.candidates is 50; it must be at least --rank.references, 60"),
        (SelectConfig, {"credible_mass": 1.5}, "--credible-mass is 1.5; it must be from 0.01 to 1"),
        (EstimateConfig, {"cumulative_score_at": -1.0}, "--cumulative-score-at is -1; it must be at least 0"),
        (EstimateConfig, {"neighbours": 0}, "--neighbours is 0; it must be at least 1"),
        (EstimateConfig, {"baseline_images": 0}, "--baseline-images is 0; it must be at least 1"),
        (PredictConfig, {"max_pixels": 0}, "--max-pixels is 0; it must be at least 1"),
    ],
)
def test_mistakes_name_the_flag(config: Any, values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as raised:
        config(**values)
    assert str(raised.value) == message


def test_predict_needs_three_things() -> None:
    with pytest.raises(InputError, match="--path is missing; --model, --path and --output have to be given"):
        PredictConfig(model="a", output="b").require()


@pytest.mark.parametrize("script", ["select_references.py", "estimate_ranks.py", "predict.py"])
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "error: --model is missing; "),
        (
            ["--model", "no-body", "--path", "x", "--output", "y"],
            "error: --model is 'no-body'; it must be the folder of",
        ),
    ],
)
def test_a_missing_model_is_one_line(script: str, flags: list[str], message: str, tmp_path: Any) -> None:
    known = flags if script == "predict.py" else [flag for flag in flags if flag not in ("--output", "y")]
    command = [sys.executable, str(job.ROOT / "jobs" / script), *known]
    done = subprocess.run(command, env=job.environment(HOME=str(tmp_path)), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []  # nothing is begun
