"""Command lines of the jobs: a recipe, and flags that change its settings. Errors are one line."""

import contextlib
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NoReturn, TypeVar

import tyro

from ordclust_ray.config import InputError, JobConfig, without_secrets

Config = TypeVar("Config")


RECIPE = "--recipe"
OF_SWEEPS = {"references", "candidates", "credible_mass"}
"""Settings of a sweep's comparators that their training has no use for."""


def parse(recipes: Mapping[str, Callable[[], Config]], default: str, arguments: list[str]) -> tuple[str, Config]:
    """`[RECIPE] [--section.setting value ...]` -> the recipe's name and the whole configuration.

    In the place of a recipe, `--recipe FILE` takes the settings that a sweep found best, where the job has recipes.

    A wrong recipe, name, type or value ends the process with status 2 and one line that says what is allowed.
    """
    name, flags = default, arguments
    if arguments and arguments[0].partition("=")[0] == RECIPE:
        file, flags = _recipe_file(arguments)
        name, given = file.stem, partial(read_recipe, file, type(recipes[default]()))
        given.__doc__ = f"The settings of {file}."
        recipes = {**recipes, name: given}
    elif arguments and not arguments[0].startswith("-"):
        name, flags = arguments[0], arguments[1:]
    if name not in recipes:
        stop(f"there is no recipe {name!r}; it must be one of {', '.join(recipes)}")
    try:
        config = recipes[name]()
    except InputError as error:
        stop(str(error))
    texts = (f"  {key}: {recipe.__doc__}" for key, recipe in recipes.items())
    description = "Recipes, given first:\n\n" + "\n\n".join(texts) + f"\n\nBelow: the settings of `{name}`."
    if len(recipes) == 1:
        description = str(recipes[name].__doc__)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint), _wide_terminal(flags):
            parsed = tyro.cli(
                type(config),
                default=config,
                args=flags,
                description=description,
                config=(tyro.conf.FlagConversionOff,),
            )
    except SystemExit as ended:
        if not ended.code:  # --help
            raise
        text = _in_one_line(complaint.getvalue())
        unknown = re.fullmatch(r"Unrecognized options: (\w+); --help lists all", text)
        stop(f"recipe {unknown[1]!r} has to come first, and alone" if unknown and unknown[1] in recipes else text)
    except ValueError as error:
        stop(str(error))
    return name, parsed


def _recipe_file(arguments: list[str]) -> tuple[Path, list[str]]:
    """The file of `--recipe FILE ...` or `--recipe=FILE ...`, and the other arguments."""
    flag, equals, value = arguments[0].partition("=")
    rest = arguments[1:]
    if not equals:
        value, rest = (rest[0], rest[1:]) if rest else ("", [])
    if not value:
        stop(f"{flag} needs a file of settings, best.json of a sweep for one")
    return Path(value).expanduser(), rest


def read_recipe(file: Path, kind: type[Config]) -> Config:
    """All settings, from a file that a sweep wrote.

    Args:
        file: JSON, `{"system": ..., "section.setting": value, ...}`; settings that are not there have their defaults.
        kind: of settings.

    Raises:
        InputError: no such file, settings of another job, or one that is not known or not allowed.
    """
    if not issubclass(kind, JobConfig):
        raise InputError(f"{RECIPE} is for jobs that train once; a sweep takes a named recipe, and flags")
    try:
        values = json.loads(file.read_text())
        system = values.pop("system", "")
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{RECIPE} {file} cannot be read: {error}") from None
    if system != kind.system:
        raise InputError(f"{RECIPE} {file} holds settings of {system or 'nothing known'}; this job's are {kind.system}")
    unknown = sorted(set(values) - set(kind().flat()))
    if unknown and set(unknown) - OF_SWEEPS:
        raise InputError(f"{RECIPE} {file}: there is no setting {unknown[0]!r}")
    try:
        return kind.from_flat(values)
    except TypeError as error:  # a text where a number belongs
        raise InputError(f"{RECIPE} {file} cannot be used: {error}") from None


def stop(message: str) -> NoReturn:
    """Ends the process with one line and status 2: the user can mend it. Secrets are left out."""
    print(f"error: {without_secrets(message)}", file=sys.stderr)
    sys.exit(2)


@contextlib.contextmanager
def _wide_terminal(flags: list[str]) -> Iterator[None]:
    """tyro breaks what it says at the width of the terminal, values included."""
    width = os.environ.get("COLUMNS")
    if not {"-h", "--help"} & set(flags):
        os.environ["COLUMNS"] = "10000"
    try:
        yield
    finally:
        if width is None:
            os.environ.pop("COLUMNS", None)
        else:
            os.environ["COLUMNS"] = width


def _in_one_line(box: str) -> str:
    """What tyro says in its box, without the box and its title."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", box)
    inside = [line.strip(" │|") for line in plain.splitlines()[1:]]
    text = " ".join(line for line in inside if not re.fullmatch(r"[╰╯─+-]*", line))
    text = re.sub(r"\s*[─-]{3,}\s*", " ", re.sub(r"\s+", " ", text))
    text = re.sub(r"\s*For full helptext.*$", "", text).strip()
    text = re.sub(r"^Error parsing [\w.]+: (?=--)", "", text)
    return f"{text}; --help lists all" if text.startswith("Unrecognized") and "Perhaps" not in text else text
