"""Settings of the preparation of a data set."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from ordclust_ray.config.common import ImagesConfig, InputError, JobConfig, RunConfig, check


@dataclass(frozen=True)
class PrepareConfig(JobConfig):
    """All settings of `jobs/prepare_data.py`."""

    system: ClassVar[str] = "data"

    source: str = ""
    """The data set as it was downloaded: a folder, an archive or a folder of archives, which are unpacked within
    the output for as long as they are read."""
    output: str = ""
    """A folder for Parquet files and data card; on a cluster one that all machines share. An interrupted preparation
    goes on there."""
    lists: str = ""
    """Published lists of the set's protocol, a folder. Empty: splits that have to be drawn are drawn with one seed."""
    download: bool = False
    """Fetch the set into `source` first, where it may be fetched freely."""
    image_size: int = 0
    """Resize images to squares of this side in pixels, as PNG. 0: as they are."""
    max_pixels: int = ImagesConfig.max_pixels
    """Larger images count as broken (decompression bombs), unread."""
    max_broken_fraction: float = ImagesConfig.max_broken_fraction
    """More missing, unknown, doubled and broken images than this are an error; all of them are listed."""
    run: RunConfig = field(default_factory=lambda: RunConfig(experiment="data"))

    def require(self) -> None:
        """Raises InputError where a setting that has no default was not given."""
        for name in ("source", "output"):
            if not getattr(self, name):
                raise InputError(f"--{name} is missing; --source and --output have to be given")

    @property
    def source_path(self) -> Path:
        """`source` as an absolute path."""
        return Path(self.source).expanduser().absolute()

    @property
    def output_path(self) -> Path:
        """`output` as an absolute path."""
        return Path(self.output).expanduser().absolute()

    @property
    def lists_path(self) -> Path | None:
        """`lists` as an absolute path, where there are some."""
        return Path(self.lists).expanduser().absolute() if self.lists else None

    def __post_init__(self) -> None:
        check("image-size", self.image_size, 0, 4096)
        check("max-pixels", self.max_pixels, 1)
        check("max-broken-fraction", self.max_broken_fraction, 0, 1)
