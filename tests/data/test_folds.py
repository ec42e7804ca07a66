"""Folds of a protocol in place of a split: one is trained on, or one is held out; and data sets by their names."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ordclust_ray.config import DrcConfig, InputError
from ordclust_ray.data.prepare import TEST, TRAIN, open_checked
from ordclust_ray.data.readers import open_source
from ordclust_ray.datasets.registry import DATASETS
from ordclust_ray.recipes import drc, idfd


def generated(name: str, folder: Path) -> Path:
    generate = DATASETS[name].generate
    assert generate is not None
    generate(folder)
    return folder


def split_of(recipe: DrcConfig, path: Path, **data: Any) -> pd.Series:
    config = replace(recipe, data=replace(recipe.data, path=str(path), **data))
    return open_checked(config).manifest["split"]


def test_one_fold_is_held_out_in_setting_c(tmp_path: Path) -> None:
    path = generated("morph-c", tmp_path)
    folds = DATASETS["morph-c"].read(path, None).rows["fold"]
    for fold in (1, 5):
        split = split_of(drc.morph_c(), path, test_fold=fold)
        assert (split == TEST).equals(folds == fold)
        assert (split == TRAIN).equals(folds != fold)


def test_a_general_recipe_does_not_mix_the_folds_of_a_set(tmp_path: Path) -> None:
    path = generated("morph-c", tmp_path)
    with pytest.raises(InputError, match=r"has folds: give --data\.fold-column fold, with --data\.test-fold or "):
        split_of(drc.small(), path, dataset="morph-c")
    split = split_of(drc.small(), path, dataset="morph-c", fold_column="fold", test_fold=2)
    assert set(split) == {TRAIN, TEST}


def test_one_fold_is_trained_on_in_setting_b(tmp_path: Path) -> None:
    path = generated("morph-b", tmp_path)
    folds = DATASETS["morph-b"].read(path, None).rows["fold"]
    split = split_of(drc.morph_b(), path, train_fold=2)
    assert (split == TRAIN).equals(folds == 2)
    assert (split == TEST).equals(folds != 2)


def test_a_fold_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = generated("morph-c", tmp_path)
    with pytest.raises(InputError, match=r"column 'fold' has to hold fold 6, as --data.test-fold says, and others; it"):
        split_of(drc.morph_c(), path, test_fold=6)


@pytest.mark.parametrize("name", [name for name in drc.RECIPES if drc.RECIPES[name]().data.dataset])
def test_every_recipe_of_a_ranked_set_opens_its_download(name: str, tmp_path: Path) -> None:
    recipe = drc.RECIPES[name]()
    path = generated(recipe.data.dataset, tmp_path)
    manifest = open_checked(replace(recipe, data=replace(recipe.data, path=str(path)))).manifest
    assert np.isfinite(manifest["rank"]).all()
    if recipe.data.split_column or recipe.data.fold_column:
        assert {TRAIN, TEST} <= set(manifest["split"]) <= {TRAIN, TEST, ""}


@pytest.mark.parametrize("name", [name for name in idfd.RECIPES if idfd.RECIPES[name]().data.dataset])
def test_every_recipe_of_a_labelled_set_opens_its_download(name: str, tmp_path: Path) -> None:
    data = idfd.RECIPES[name]().data
    source = open_source(replace(data, path=str(generated(data.dataset, tmp_path))))
    assert source.manifest["label"].nunique() == {"cifar100": 20, "imagenet-dog": 15}.get(name, 10)


def test_another_layout_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    with pytest.raises(InputError, match=r"is not AADB as it comes \(datasetImages_.*; it holds 'a.txt'"):
        open_checked(replace(drc.aadb(), data=replace(drc.aadb().data, path=str(tmp_path))))


def test_lists_mean_nothing_without_a_data_set(tmp_path: Path) -> None:
    config = replace(drc.small(), data=replace(drc.small().data, path=str(tmp_path), lists="index"))
    with pytest.raises(InputError, match=r"--data\.lists is 'index', which means nothing for --data.path"):
        open_checked(config)
