"""Spaces are read from files, and checked against the settings before anything is tried."""

from pathlib import Path

import numpy as np
import pytest
from ray import tune

from ordclust_ray.config import ComparatorTrialConfig, FeatureTrialConfig, InputError, JobConfig
from ordclust_ray.recipes import comparator, drc, idfd
from ordclust_ray.tuning.space import CLUSTERS, read_space, require_settings, tolerances_alike, with_values

OURS = Path(__file__).parent.parent.parent / "tune_spaces"
SYSTEMS, METRICS = ("drc-orid", "comparator", "idfd", "features"), {"MAE": "min", **CLUSTERS}
OWN = """
from ray import tune
SYSTEM = "drc-orid"
PARAMETERS = {parameters}
METRIC, MODE = "MAE", "min"
REASON = "mine"
"""


def own(folder: Path, parameters: str) -> str:
    file = folder / "own.py"
    file.write_text(OWN.format(parameters=parameters))
    return str(file)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("drc", drc.coffee()),
        ("drc_groups", drc.coffee()),
        ("drc_losses", drc.paper()),
        ("idfd", idfd.small()),
        ("rank", ComparatorTrialConfig(**vars(comparator.small()))),
        ("groups", FeatureTrialConfig()),
    ],
)
def test_ours_search_settings_of_the_recipes(name: str, config: JobConfig) -> None:
    space = read_space(name, OURS, SYSTEMS)
    require_settings(space, config, METRICS)
    assert (space.name, space.system) == (name, config.system)
    assert space.reason
    assert "\n" not in space.reason


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    space = read_space(own(tmp_path, '{"clustering.num_clusters": tune.choice([2, 3])}'), OURS, SYSTEMS)
    require_settings(space, drc.digits(), METRICS)
    assert (space.name, space.metric, space.mode, space.reason) == ("own", "MAE", "min", "mine")
    assert space.grid() == {"clustering.num_clusters": tune.grid_search([2, 3])}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ('{"clustering.k": tune.choice([2])}', "space own: there is no setting 'clustering.k'; they are data.path, "),
        ('{"clustering.num_clusters": tune.choice([0, 2])}', "space own: --clustering.num-clusters is 0; it must be"),
        ('{"clustering.repulsion": tune.uniform(-1, 1)}', "space own: --clustering.repulsion is -1; it must be"),
        ('{"clustering.num_clusters": tune.randint(0, 4)}', "space own: --clustering.num-clusters is 0; it must be"),
        ('{"clustering.num_clusters": 3}', "own.py' is 3; it must be a distribution of ray.tune"),
        ('{"data.image_size": tune.choice([16])}', "space own: 'data.image_size' cannot be searched; all trials of a"),
        (
            '{"run.name": tune.choice(["a"])}',
            "space own: 'run.name' cannot be searched; all trials of a sweep share it",
        ),
        (
            '{"training.num_workers": tune.choice([4])}',
            "space own: 'training.num_workers' cannot be searched; all trials",
        ),
        ('{"run.seed": tune.choice([4])}', "space own: 'run.seed' cannot be searched; all trials of a sweep share it"),
        (
            '{"training.learning_rate": tune.choice(["adam"])}',
            "'training.learning_rate' is 'adam'; it must be of type float",
        ),
        ('{"clustering.num_clusters": tune.uniform(2, 6)}', "'clustering.num_clusters' is 2.0; it must be of type int"),
        ('{"rank.scale": tune.choice(["geo"])}', "'rank.scale' is 'geo'; it must be one of 'linear', 'geometric'"),
        ('{"training.flip": tune.choice([1])}', "'training.flip' is 1; it must be of type bool"),
        (
            '{"rank.tolerance": tune.sample_from(lambda _: 1)}',
            "is Function; it must be a distribution of ray.tune: choice",
        ),
        ("{}", "must be a dictionary of at least one distribution"),
        ("tune.nosuch()", "cannot be read: AttributeError: "),
    ],
)
def test_mistakes_are_one_line(parameters: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        require_settings(read_space(own(tmp_path, parameters), OURS, SYSTEMS), drc.digits(), METRICS)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_what_a_file_lacks_is_named(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("PARAMETERS = {}")
    with pytest.raises(InputError, match="has no SYSTEM; it must define SYSTEM, PARAMETERS, METRIC, MODE, REASON"):
        read_space(str(tmp_path / "own.py"), OURS, SYSTEMS)
    with pytest.raises(InputError, match="there is no space 'nosuch'; it must be one of drc, "):
        read_space("nosuch", OURS, SYSTEMS)


def test_a_system_or_a_metric_that_there_is_not_is_named(tmp_path: Path) -> None:
    file = own(tmp_path, '{"clustering.num_clusters": tune.choice([2, 3])}')
    with pytest.raises(InputError, match=r"SYSTEM of space .*own\.py' is 'drc-orid'; it must be one of idfd, features"):
        read_space(file, OURS, ("idfd", "features"))
    with pytest.raises(InputError, match="METRIC of space own is 'MAE'; it must be one of silhouette, acc"):
        require_settings(read_space(file, OURS, SYSTEMS), drc.digits(), {"silhouette": "max", "acc": "max"})


def test_the_end_of_the_metric_is_checked(tmp_path: Path) -> None:
    file = own(tmp_path, '{"clustering.num_clusters": tune.choice([2, 3])}')
    Path(file).write_text(Path(file).read_text().replace('"min"', '"max"'))
    with pytest.raises(InputError, match="MODE of space own is 'max'; MAE is best at its lowest"):
        require_settings(read_space(file, OURS, SYSTEMS), drc.digits(), METRICS)


def test_tolerances_that_differ_in_name_alone(tmp_path: Path) -> None:
    space = read_space(own(tmp_path, '{"rank.tolerance": tune.choice([0.0, 0.1, 1.0])}'), OURS, SYSTEMS)
    assert tolerances_alike(space, np.arange(5.0), "linear") == [[0.0, 0.1]]
    assert tolerances_alike(space, np.arange(20.0, 60.0), "geometric") == []
    assert tolerances_alike(space, np.array([0.0, 0.1, 0.5, 2.0]), "linear") == []
    none = read_space(own(tmp_path, '{"rank.tolerance": tune.uniform(0.0, 1.0)}'), OURS, SYSTEMS)
    assert tolerances_alike(none, np.arange(5.0), "linear") == []


def test_a_grid_is_of_choices_alone(tmp_path: Path) -> None:
    space = read_space(own(tmp_path, '{"rank.tolerance": tune.uniform(0, 1)}'), OURS, SYSTEMS)
    with pytest.raises(InputError, match=r"grid needs tune\.choice for every setting; 'rank.tolerance' is "):
        space.grid()


def test_values_take_the_place_of_settings() -> None:
    found = with_values(drc.digits(), {"clustering.num_clusters": 5, "run.seed": 3})
    assert (found.clustering.num_clusters, found.run.seed) == (5, 3)
    assert with_values(found, {"clustering.num_clusters": drc.digits().clustering.num_clusters, "run.seed": 0}) == (
        drc.digits()
    )
