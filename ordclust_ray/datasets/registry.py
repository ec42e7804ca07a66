"""All data sets by name."""

from pathlib import Path

from ordclust_ray.config.common import InputError
from ordclust_ray.datasets.ages import SETS as RANKED
from ordclust_ray.datasets.listing import DataSet, Listing
from ordclust_ray.datasets.photographs import SETS as PHOTOGRAPHS

DATASETS: dict[str, DataSet] = {found.name: found for found in (*RANKED, *PHOTOGRAPHS)}


def dataset(name: str) -> DataSet:
    """The data set of that name.

    Raises:
        InputError: there is none.
    """
    if name not in DATASETS:
        raise InputError(f"there is no data set {name!r}; it must be one of {', '.join(DATASETS)}")
    return DATASETS[name]


def list_instances(name: str, source: Path, lists: Path | None) -> Listing:
    """What a data set holds.

    Args:
        name: of the data set.
        source: the folder or file as it was downloaded.
        lists: published lists of its protocol.

    Raises:
        InputError: an unknown name, or a source that is not what the set looks like; one line.
    """
    return dataset(name).read(source, lists)
