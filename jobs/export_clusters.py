"""Groups of a run as tables, a page and folders of images: `python jobs/export_clusters.py --run RUN --output OUT`."""

import gc
import sys
from pathlib import Path

from cli import parse, stop

from ordclust_ray.config import ExportConfig

RECIPES = {"default": ExportConfig}

if __name__ == "__main__":
    parse(RECIPES, "default", sys.argv[1:])  # --help, or a mistake, does not wait for the libraries below

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ordclust_ray.config import DIGITS, DrcConfig, IdfdConfig, InputError
from ordclust_ray.data.readers import Source, open_source, refuse_among_images
from ordclust_ray.finished import FinishedRun, find_run, open_run, system_of
from ordclust_ray.reports.export import (
    GONE,
    copy_images,
    find_again,
    link_images,
    require_files,
    typical_first,
    write_tables,
    written_whole,
)
from ordclust_ray.reports.export_page import Groups, Thumbnails, write_page
from ordclust_ray.reports.results import Results
from ordclust_ray.run import start_ray

KINDS: dict[str, type[DrcConfig | IdfdConfig]] = {kind.system: kind for kind in (DrcConfig, IdfdConfig)}
Run = FinishedRun[DrcConfig | IdfdConfig]


def main(arguments: list[str]) -> None:
    _, config = parse(RECIPES, "default", arguments)
    output = Path(config.output).expanduser().absolute()
    try:
        config.require()
        run, then = find(config)
        source = open_images(run)
        refuse_among_images(output, run.config.data.path)
        with written_whole(output) as folder:
            export(config, run, then, source, folder)
    except InputError as error:
        stop(str(error))
    except KeyboardInterrupt:
        stop("interrupted")
    print(f"tables and images are in {output}; the page: {output / 'index.html'}")


def find(config: ExportConfig) -> tuple[Run, str]:
    """The run, and where its images were when its results were written."""
    folder = find_run(config.run, "run", config.record)
    system = system_of(folder)
    if system not in KINDS:
        known = " or ".join(KINDS)
        raise InputError(f"--run: run {folder.name!r} is of {system or 'an unknown kind'}; it must be of {known}")
    then = open_run(folder, KINDS[system], "run").config.data.path
    moved = config.path if config.path in ("", DIGITS) else str(Path(config.path).expanduser().absolute())
    return open_run(folder, KINDS[system], "run", moved), then


def open_images(run: Run) -> Source:
    """Where they are now; the reader's message names another flag."""
    try:
        return open_source(run.config.data)
    except InputError as error:
        raise InputError(f"the images of run {run.folder.name!r}: {error}; --path may say where they are now") from None


def export(config: ExportConfig, run: Run, then: str, source: Source, folder: Path) -> None:
    """All of it, into a folder."""
    rows, now = typical_first(run.assignments()), run.config.data.path
    ids = find_again(rows["source"], then, source, now)
    rows["source"] = np.where(ids == GONE, rows["source"], source.manifest["source"].to_numpy()[ids])
    if config.images == "links":
        require_files(rows)
    start_ray()
    write_tables(rows, folder)
    groups = Groups(rows, len(Results.read(run.results).cluster_sizes))
    shown = groups.shown
    places = dict(zip(shown["instance_id"].tolist(), ids[shown.index].tolist(), strict=True))
    thumbnails = Thumbnails.decode(places, source, run.config.data.max_pixels)
    write_page(groups, thumbnails, run.folder.name, settings_of(run, groups), folder)
    print(f"{len(rows)} images in {groups.num_clusters} clusters; {(ids == GONE).sum()} of them are gone", flush=True)
    if config.images != "none":
        write_images(config, rows, ids, source, Path(now), folder)


def settings_of(run: Run, groups: Groups) -> dict[str, object]:
    """What the page says of the run."""
    return {
        "system": run.config.system,
        "clusters": groups.num_clusters,
        "images": f"{len(groups.rows):,}",
        "images in": run.config.data.path,
        "run": run.folder,
    }


def write_images(
    config: ExportConfig, rows: pd.DataFrame, ids: NDArray[np.int64], source: Source, home: Path, folder: Path
) -> None:
    """Links or copies; what could not be written is counted, and listed in `not_written.csv`."""
    chosen = (rows["place"] < (config.images_per_cluster or np.inf)).to_numpy()
    wanted = rows[chosen]
    if config.images == "links":
        failed = link_images(wanted, home, folder)
    else:
        failed = copy_images(wanted, ids[chosen], source, folder)
    print(f"{len(wanted) - len(failed)} {config.images} were written, {len(failed)} could not be", flush=True)
    if len(failed):
        failed.merge(wanted[["instance_id", "source"]]).to_csv(folder / "not_written.csv", index=False)
        print(f"not_written.csv lists them; the first: {failed['reason'].iloc[0]}")


if __name__ == "__main__":
    gc.freeze()
    main(sys.argv[1:])
