"""What the jobs after a training do around their work: the run that they go on from, their own folder and record."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

from cli import stop

from ordclust_ray.config import AnalyseConfig, DrcConfig, EstimateConfig, InputError, SelectConfig
from ordclust_ray.finished import RESULTS, FinishedRun, remember_origin
from ordclust_ray.reports.results import RESULTS as TABLE
from ordclust_ray.run import SETTINGS, kept, name_of, opened, recorded, start_ray, write_once
from ordclust_ray.storage import place_of
from ordclust_ray.tracking import Tracker

Config = TypeVar("Config", AnalyseConfig, EstimateConfig, SelectConfig)
Origin = tuple[Path, FinishedRun[DrcConfig]]
"""The folder of the run that was named, and the run of train_drc.py that this is or goes on from."""


def follow(
    config: Config,
    kind: str,
    open_origin: Callable[[Config], Origin],
    run: Callable[[Config, Origin, Tracker, Path], None],
    say: Callable[[Path], None],
    free: Collection[str] = ("path",),
) -> None:
    """Opens the run that is gone on from and a run of its own, works unless that was done, and says the results.

    Args:
        config: all settings.
        kind: of job, the beginning of a name that was not given.
        open_origin: checks what can be checked before anything is begun.
        run: does the work; is told the record and the folder of the results, which it writes.
        say: prints what stands in that folder.
        free: settings that may change while a run goes on.
    """
    name = name_of(config.run, kind)
    try:
        origin = open_origin(config)
        with opened(config.run, name, kept(config, free)) as (folder, tracker):
            output = folder / RESULTS
            if tracker.finished and (output / TABLE).exists():
                print(f"run {name} is finished; its results:")
            else:
                start_ray()
                write_once(folder / SETTINGS, kept(config, free))
                remember_origin(folder, origin[1])
                output.mkdir(exist_ok=True)
                with recorded(tracker, config.flat()):
                    run(config, origin, tracker, output)
            say(output)
            print(f"\nresults: {place_of(config.run, output)}\nMLflow:  {tracker.where()}   (run {name})", flush=True)
    except InputError as error:
        stop(str(error))
    except KeyboardInterrupt:
        stop(f"interrupted; continue with --run.name {name} and the same settings")
