"""All data sets by name, and where their downloads are looked for."""

from pathlib import Path

import pytest
from listings import refused

from ordclust_ray.config import ImagesConfig, ReproduceConfig
from ordclust_ray.datasets.registry import DATASETS
from ordclust_ray.reproduction.settings import path_of

SHARED = {
    "morph2": {"morph-a", "morph-b", "morph-c", "morph-d"},
    "utkface": {"utkface", "utkface-21-60"},
    "imagenet": {"imagenet10", "imagenet-dog"},
}


def test_settings_of_one_download_share_its_folder() -> None:
    homes = {name: data.home for name, data in DATASETS.items() if data.home}
    assert {home: {name for name in homes if homes[name] == home} for home in homes.values()} == SHARED


@pytest.mark.parametrize(("home", "name"), [(home, name) for home in SHARED for name in sorted(SHARED[home])])
def test_a_set_is_in_its_own_folder_or_else_in_its_download(home: str, name: str, tmp_path: Path) -> None:
    data, options = ImagesConfig(dataset=name), ReproduceConfig(data=str(tmp_path))
    own = str(tmp_path / name)
    assert path_of(name, data, options) == own
    (tmp_path / home).mkdir()
    assert path_of(name, data, options) == str(tmp_path / home)
    (tmp_path / name).mkdir(exist_ok=True)
    assert path_of(name, data, options) == own


@pytest.mark.parametrize("name", sorted(set(DATASETS) - {"digits"}))
def test_an_empty_folder_is_refused_in_a_line(name: str, tmp_path: Path) -> None:
    """The digits alone come with scikit-learn, whatever is given."""
    assert refused(DATASETS[name], tmp_path).startswith(f"'{tmp_path}' ")


def test_a_set_that_shares_no_download_is_in_its_own_folder(tmp_path: Path) -> None:
    assert path_of("afad", ImagesConfig(dataset="afad"), ReproduceConfig(data=str(tmp_path))) == str(tmp_path / "afad")
    assert path_of("x", ImagesConfig(path="images"), ReproduceConfig(data=str(tmp_path))) == "images"
