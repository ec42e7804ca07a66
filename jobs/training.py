"""What the training jobs do around training: the run's folder and record, Ray, and one line for whatever goes wrong."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

from cli import stop

from ordclust_ray.config import MACHINES, ComparatorConfig, DrcConfig, IdfdConfig, InputError
from ordclust_ray.data.decoded import TooManyBrokenError
from ordclust_ray.preflight import preflight
from ordclust_ray.reports.results import RESULTS, Results
from ordclust_ray.run import kept, name_of, opened, start_ray, trained_on
from ordclust_ray.storage import place_of
from ordclust_ray.tracking import Tracker
from ordclust_ray.training.fit import TrainingStopped

Config = TypeVar("Config", DrcConfig, IdfdConfig, ComparatorConfig)
Source = TypeVar("Source")


def train(
    recipe: str,
    config: Config,
    open_source: Callable[[Config], Source],
    run: Callable[[str, Config, Source, Tracker, Path, bool], Results],
    free: Collection[str] = MACHINES,
) -> None:
    """Opens the source and the run, trains unless that was done, and says the results.

    Args:
        recipe: its name.
        config: all settings.
        open_source: opens what the job starts from, and checks what can be checked before Ray has work to do.
        run: from the source to the results, which it writes; is told the record, the folder and whether there are GPUs.
        free: settings that may change while a run goes on.
    """
    name = name_of(config.run, recipe)
    try:
        source = open_source(config)
        with opened(config.run, name, kept(config, free)) as (folder, tracker):
            if tracker.finished and (folder / "results" / RESULTS).exists():
                print(f"run {name} is finished{trained_on(folder)}; its results:")
                results = Results.read(folder / "results")
            else:
                start_ray()
                path = "" if isinstance(config, ComparatorConfig) else config.data.path
                lines, use_gpu = preflight(config.training, config.run, path)
                print("\n".join(lines), flush=True)
                if not use_gpu and (config.training.compile or config.training.precision == "bfloat16"):
                    print("note: compiling and bfloat16 are meant for GPUs, of which there is none", flush=True)
                results = run(recipe, config, source, tracker, folder, use_gpu)
            print(f"\n{results.table()}\n\nresults: {place_of(config.run, folder / 'results')}")
            print(f"MLflow:  {tracker.where()}   (run {name})", flush=True)
    except TooManyBrokenError as error:
        broken = config.run.storage_path / name / "broken_images.csv"
        error.broken.to_csv(broken)
        stop(f"{error}; all of them in {broken}")
    except InputError as error:
        stop(str(error))
    except (TrainingStopped, KeyboardInterrupt) as error:
        stop(f"{str(error) or 'interrupted'}; continue with --run.name {name} and the same settings")
