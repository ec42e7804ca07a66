"""ImageNet-10 and ImageNet-Dog: the classes of ImageNet's train part that DAC (Chang et al. 2017) chose."""

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from ordclust_ray.config.common import InputError
from ordclust_ray.datasets.chosen import because, choose
from ordclust_ray.datasets.generated_files import generate_imagenet
from ordclust_ray.datasets.layouts import refuse_lists
from ordclust_ray.datasets.listing import TRAIN, DataSet, Listing, require_layout
from ordclust_ray.datasets.stored import FileImages

TEN = {
    "n02056570": "king penguin",
    "n02085936": "Maltese dog",
    "n02128757": "snow leopard",
    "n02690373": "airliner",
    "n02692877": "airship",
    "n03095699": "container ship",
    "n04254680": "soccer ball",
    "n04285008": "sports car",
    "n04467665": "trailer truck",
    "n07747607": "orange",
}
DOGS = {
    "n02085936": "Maltese dog",
    "n02086646": "Blenheim spaniel",
    "n02088238": "basset",
    "n02091467": "Norwegian elkhound",
    "n02097130": "giant schnauzer",
    "n02099601": "golden retriever",
    "n02101388": "Brittany spaniel",
    "n02101556": "clumber",
    "n02102177": "Welsh springer spaniel",
    "n02105056": "groenendael",
    "n02105412": "kelpie",
    "n02105855": "Shetland sheepdog",
    "n02107142": "Doberman",
    "n02110958": "pug",
    "n02112137": "chow",
}
PARTS = ("", "train", "Data/CLS-LOC/train", "CLS-LOC/train", "ILSVRC/Data/CLS-LOC/train")
SUFFIXES = {".jpeg", ".jpg"}
LAYOUT = "train/n02085936/n02085936_*.JPEG and so on, or ILSVRC/Data/CLS-LOC/train, or the folder of those folders"
SIDE = 96


def _read(source: Path, lists: Path | None, classes: Mapping[str, str], title: str) -> Listing:
    """Lists the images of the classes, by class and file name."""
    refuse_lists(lists, title)
    source = source.absolute()
    homes = [source / part for part in PARTS]
    found = [home for home in homes if any((home / synset).is_dir() for synset in classes)]
    require_layout(source, exists=bool(found), layout=LAYOUT, title=title)
    home = found[0]
    files = [_files(home, synset, title) for synset in sorted(classes)]
    labels = np.repeat([classes[synset] for synset in sorted(classes)], [len(paths) for paths in files])
    rows = pd.DataFrame({"source": [path for paths in files for path in paths], "label": labels, "split": TRAIN})
    other = ~rows["source"].str.lower().str.endswith(tuple(SUFFIXES))
    return choose(rows, FileImages((str(home),)), [because(other, "not a JPEG file by its name")])


def _files(home: Path, synset: str, title: str) -> list[str]:
    folder = home / synset
    if not folder.is_dir():
        raise InputError(f"{str(home)!r} lacks the folder {synset!r}, a class of {title}")
    if not folder.resolve().is_relative_to(home.resolve()):
        raise InputError(f"{str(folder)!r} is a link that leads out of {str(home)!r}; give the folder that it leads to")
    paths = sorted(found.path for found in os.scandir(folder) if not found.name.startswith("."))
    if not paths:
        raise InputError(f"{str(folder)!r}, a class of {title}, is empty")
    return paths


IMAGENET_10 = DataSet(
    name="imagenet10",
    title="ImageNet-10",
    read=partial(_read, classes=TEN, title="ImageNet-10"),
    layout=LAYOUT,
    published={"images": 13_000},
    source="https://image-net.org (ILSVRC 2012); classes by DAC, Chang et al. 2017",
    licence="ImageNet's terms of access: research and education that are not commercial",
    image_size=SIDE,
    home="imagenet",
    generate=partial(generate_imagenet, synsets=tuple(TEN)),
)
IMAGENET_DOG = replace(
    IMAGENET_10,
    name="imagenet-dog",
    title="ImageNet-Dog",
    read=partial(_read, classes=DOGS, title="ImageNet-Dog"),
    published={"images": 19_500},
    generate=partial(generate_imagenet, synsets=tuple(DOGS)),
)
