"""A data set as it was downloaded -> Parquet and a data card: `prepare_data.py NAME --source PATH --output PATH`."""

import gc
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from cli import parse, stop

from ordclust_ray.config import InputError, PrepareConfig
from ordclust_ray.datasets.listing import DataSet
from ordclust_ray.datasets.registry import DATASETS


def recipe(dataset: DataSet) -> Callable[[], PrepareConfig]:
    """What a data set is prepared with."""
    make = partial(PrepareConfig, image_size=dataset.image_size)
    make.__doc__ = f"{dataset.title}: {dataset.layout}"
    return make


RECIPES = {name: recipe(dataset) for name, dataset in DATASETS.items()}
DEFAULT = "digits"
LIST = "\n".join(f"{name:16} {made.__doc__}" for name, made in RECIPES.items())

if __name__ == "__main__":
    if sys.argv[1:] in ([], ["list"]):
        print(LIST)
        sys.exit()
    parse(RECIPES, DEFAULT, sys.argv[1:])  # --help, or a mistake, does not wait for the libraries below

import pandas as pd
from tqdm import tqdm

from ordclust_ray.data.readers import CARD, refuse_among_images
from ordclust_ray.datasets.archives import from_archive, unpacked
from ordclust_ray.datasets.listing import Listing
from ordclust_ray.preparation import IDENTICAL, LEFT_OUT, forget_broken, prepare_files, read_back
from ordclust_ray.reports.data_card import data_card, write_card
from ordclust_ray.run import kept, name_of, only_driver, opened, recorded, start_ray
from ordclust_ray.tracking import Tracker

CARD_FILES = (CARD, "data_card.md", LEFT_OUT, IDENTICAL)
ASKED = ("source", "image_size", "max_pixels", "lists")
FREE = ("source", "lists", "download", "max_broken_fraction")


def main(arguments: list[str]) -> None:
    name, config = parse(RECIPES, DEFAULT, arguments)
    dataset, run_name = DATASETS[name], name_of(config.run, f"prepare-{name}")
    try:
        config.require()
        config.output_path.mkdir(parents=True, exist_ok=True)
        with only_driver(config.output_path), opened(config.run, run_name, kept(config, FREE)) as (_, tracker):
            if (config.output_path / CARD).exists():
                require_same(name, config)
            else:
                with recorded(tracker, config.flat() | {"dataset": name}):
                    run(dataset, config, tracker)
            said = (config.output_path / "data_card.md").read_text()
            print(f"\n{said}\n{config.output}: part-*.parquet, {', '.join(CARD_FILES)}\nMLflow:  {tracker.where()}")
    except InputError as error:
        stop(str(error))
    except KeyboardInterrupt:
        stop("interrupted; the same command goes on")


def settings_of(config: PrepareConfig) -> dict[str, Any]:
    """As the card keeps them: the source wherever the command is given."""
    return config.flat() | {"source": str(config.source_path)}


def require_same(name: str, config: PrepareConfig) -> None:
    """Raises InputError where the folder holds something else than what is asked for."""
    card = json.loads((config.output_path / CARD).read_text())
    settings = settings_of(config)
    asked = {"data set": name, **{setting: settings[setting] for setting in ASKED}}
    there = {"data set": card["name"], **{setting: card["settings"][setting] for setting in ASKED}}
    if asked != there:
        raise InputError(f"--output {config.output!r} holds {there} already, not {asked}; name another folder")
    print(f"{config.output} was prepared on {card['prepared']}; there is nothing to do")


def run(dataset: DataSet, config: PrepareConfig, tracker: Tracker) -> None:
    """Lists, reads, checks, writes, and leaves a data card in the folder and in MLflow."""
    if config.download:
        fetch(dataset, config.source_path)
    with unpacked(config.source_path, config.output_path) as source:
        refuse_among_images(config.output_path, str(source))
        print(f"{dataset.title}: listing {source}", flush=True)
        listing = from_archive(dataset.read(source, config.lists_path), source, config.source_path)
        print(f"{len(listing.rows):,} images, {len(listing.left_out)} left out", flush=True)
        require_few(listing.left_out, len(listing.rows), config)
        start_ray()
        with tqdm(total=len(listing.rows), unit="image", mininterval=1) as bar:
            for done in prepare_files(listing, dataset.rank_unit, config):
                bar.update(done - bar.n)
    found = read_back(config.output_path, len(listing.rows))
    everything = pd.concat([listing.left_out, broken(listing, found)], ignore_index=True)
    try:
        require_few(everything, len(listing.rows), config)
    except InputError:
        forget_broken(config.output_path)
        raise
    card = data_card(dataset, listing, found, settings_of(config))
    write_card(card, everything, config.output_path)
    same = {f"identical.{name}": count for name, count in card["identical"].items()}
    tracker.metrics({"images": card["images"], "left_out": len(everything), **same})
    for file in CARD_FILES:
        tracker.artifact(config.output_path / file)


def fetch(dataset: DataSet, folder: Path) -> None:
    """Downloads the set, where that is allowed."""
    if dataset.download is None:
        raise InputError(f"--download: {dataset.title} cannot be fetched freely; its source: {dataset.source}")
    folder.mkdir(parents=True, exist_ok=True)
    dataset.download(folder)


def broken(listing: Listing, found: pd.DataFrame) -> pd.DataFrame:
    """`source` and `reason` of the images that could not be decoded."""
    errors = found["error"][found["error"] != ""]
    return pd.DataFrame({"source": listing.rows["source"][errors.index], "reason": errors})


def require_few(left_out: pd.DataFrame, images: int, config: PrepareConfig) -> None:
    """Raises InputError where more than the settings allow is missing, unknown, doubled or broken."""
    if images and len(left_out) <= config.max_broken_fraction * images:
        return
    if left_out.empty:
        raise InputError(f"--source {config.source!r} holds no images")
    left_out.to_csv(config.output_path / LEFT_OUT, index=False)
    raise InputError(
        f"{len(left_out)} images cannot be used beside {images} of the list, over --max-broken-fraction "
        f"{config.max_broken_fraction:g}; the first: {left_out['source'].iloc[0]} ({left_out['reason'].iloc[0]}); "
        f"all of them in {config.output_path / LEFT_OUT}"
    )


if __name__ == "__main__":
    gc.freeze()
    main(sys.argv[1:])
