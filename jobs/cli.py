"""Command lines of the jobs: a recipe, and flags that change its settings. Errors are one line."""

import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import NoReturn, TypeVar

import tyro

Config = TypeVar("Config")


def parse(recipes: Mapping[str, Callable[[], Config]], default: str, arguments: list[str]) -> tuple[str, Config]:
    """`[RECIPE] [--section.setting value ...]` -> the recipe's name and the whole configuration.

    A wrong recipe, name, type or value ends the process with status 2 and one line that says what is allowed.
    """
    name, flags = default, arguments
    if arguments and not arguments[0].startswith("-"):
        name, flags = arguments[0], arguments[1:]
    if name not in recipes:
        stop(f"there is no recipe {name!r}; it must be one of {', '.join(recipes)}")
    config = recipes[name]()
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


def stop(message: str) -> NoReturn:
    """Ends the process with one line and status 2: the user can mend it."""
    print(f"error: {message}", file=sys.stderr)
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
