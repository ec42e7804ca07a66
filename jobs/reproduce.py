"""A table or figure of the papers, ours beside theirs: `python jobs/reproduce.py TABLE`; `list` says what there is."""

import gc
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

from cli import parse, stop

from ordclust_ray.config import InputError, ReproduceConfig
from ordclust_ray.reproduction.plans import TABLES, Plan


def recipe(plan: Plan) -> Callable[[], ReproduceConfig]:
    """What a table is reproduced with."""
    make = partial(ReproduceConfig)
    make.__doc__ = plan.title
    return make


LIST = "list"
RECIPES = {LIST: ReproduceConfig, **{name: recipe(plan) for name, plan in TABLES.items()}}

if __name__ == "__main__":
    parse(RECIPES, LIST, sys.argv[1:])  # --help, or a mistake, does not wait for the libraries below

from reproducing import JobsEngine

from ordclust_ray.config import MACHINES, ComparatorConfig, DrcConfig
from ordclust_ray.data.prepare import open_checked
from ordclust_ray.data.unlabelled import open_unlabelled
from ordclust_ray.figures.reproduction import measured_curves
from ordclust_ray.reproduction.cells import Cell, IdfdCell, Measured
from ordclust_ray.reproduction.cost import overview, trained_of
from ordclust_ray.reproduction.curves import Curves, points
from ordclust_ray.reproduction.local import LocalEngine
from ordclust_ray.reproduction.plans import cells_of, substituted
from ordclust_ray.reproduction.results import Store
from ordclust_ray.reproduction.smoke import generate_copies
from ordclust_ray.reproduction.tables import as_text, compare
from ordclust_ray.run import SETTINGS, kept, opened, recorded, start_ray, write_once

FREE = {*MACHINES, "data", "lists", "path", "seeds", "steps"}


def main(arguments: list[str]) -> None:
    name, config = parse(RECIPES, LIST, arguments)
    try:
        if name == LIST:
            refuse(
                config,
                ("scale", "recipe", "path", "epochs", "images"),
                "means nothing to the list, which is of scale full",
            )
            print(overview(TABLES, config))
        else:
            run(name, substituted(TABLES[name], config.recipe) if config.recipe else TABLES[name], config)
    except InputError as error:
        stop(str(error))
    except KeyboardInterrupt:
        stop("interrupted; the same command goes on")


def run(name: str, plan: Plan, config: ReproduceConfig) -> None:
    """Runs every cell that was not run yet, says the table or draws the figure, and leaves both."""
    require_meant(plan, config)
    config.run.require_folder("tables")
    usual = "-".join(part for part in (name, config.scale, config.recipe) if part)
    named = replace(config.run, name=config.run.name or usual)
    with opened(named, named.name, kept(config, FREE)) as (folder, tracker):
        write_once(folder / SETTINGS, kept(config, FREE))
        output = folder / "results"
        output.mkdir(exist_ok=True)
        with recorded(tracker, {"table": name, **config.flat()}):
            results = measure_all(plan, config)
            say(plan, results, output)
            tracker.artifacts(output)
        print(f"\nresults: {output}\nMLflow:  {tracker.where()}   (run {named.name})", flush=True)


def require_meant(plan: Plan, config: ReproduceConfig) -> None:
    """Raises InputError for a setting that this table at this scale would not heed."""
    if config.scale == "small" and any(isinstance(cell, IdfdCell) for cell in cells_of(plan)):
        return
    refuse(config, ("epochs", "images"), "is for tables of IDFD at --scale small alone")


def refuse(config: ReproduceConfig, names: Iterable[str], why: str) -> None:
    """Raises InputError for a setting that is not as it is by default."""
    for name in names:
        if (value := getattr(config, name)) != getattr(ReproduceConfig, name):
            raise InputError(f"--{name} is {value}, which {why}")


def measure_all(plan: Plan, config: ReproduceConfig) -> dict[Cell, Measured]:
    """Of every cell and seed; those that were measured before are read."""
    by_set = sorted(cells_of(plan), key=lambda cell: cell.recipe)  # an engine keeps the images of one
    cells = [replace(cell, seed=seed) for seed in config.seeds for cell in by_set]
    if config.scale == "smoke":
        config = generate_copies(config, cells)
    store = Store(config)
    waiting = [cell for cell in cells if cell not in store]
    print(f"{len(cells) - len(waiting)} of {len(cells)} runs were measured before", flush=True)
    require_sets(waiting, config)
    engine = JobsEngine(config) if config.scale == "full" else LocalEngine(config)
    for number, cell in enumerate(cells, start=1):
        if cell not in store:
            start_ray()
            print(f"run {number} of {len(cells)}: {cell.name}", flush=True)
            store.put(cell, engine.measure(cell))
    return {cell: store.get(cell) for cell in cells}


def require_sets(cells: list[Cell], config: ReproduceConfig) -> None:
    """Raises InputError, which names all data sets that cannot be read, before days of training."""
    firsts = [trained_of(cell, config)[0] for cell in cells]
    wrong = []
    for first in {first.data.path: first for first in firsts if not isinstance(first, ComparatorConfig)}.values():
        try:
            if isinstance(first, DrcConfig):
                open_checked(first)
            else:
                open_unlabelled(first)
        except InputError as error:
            wrong.append(str(error))
    if wrong:
        raise InputError("; ".join(wrong))


def say(plan: Plan, results: dict[Cell, Measured], output: Path) -> None:
    """Prints the table, or a figure's points, and writes them."""
    if isinstance(plan, Curves):
        found = points(plan, results)
        measured_curves(found, title=plan.title, x=plan.x).savefig(output / "figure.png", dpi=120)
        found.to_csv(output / "points.csv", index=False)
        text = f"{plan.title}\n{found.to_string(index=False)}\n{plan.note}"
    else:
        numbers = compare(plan, results)
        numbers.assign(column=numbers["column"].map(" ".join)).to_csv(output / "table.csv", index=False)
        text = as_text(plan, results)
    (output / "table.txt").write_text(text + "\n")
    print(f"\n{text}")


if __name__ == "__main__":
    gc.freeze()
    main(sys.argv[1:])
