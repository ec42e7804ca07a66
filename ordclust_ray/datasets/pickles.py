"""Python pickles of numbers and arrays, which can run nothing: other files may do anything when they are loaded."""

import codecs
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from ordclust_ray.config.common import InputError

ARRAYS = ("numpy.core.multiarray", "numpy._core.multiarray")
"""Where numpy keeps `_reconstruct`, before version 2 and since."""


class _Arrays(pickle.Unpickler):
    """Admits nothing but what arrays of numbers and bytes are made of."""

    def find_class(self, module: str, name: str) -> Any:
        """See `pickle.Unpickler`."""
        admitted = _admitted()
        if (module, name) not in admitted:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which arrays do not need")
        return admitted[module, name]


def _admitted() -> dict[tuple[str, str], Any]:
    reconstruct: Any = np.empty(0).__reduce__()[0]  # by either spelling this numpy's own, without a warning
    arrays = {(module, "_reconstruct"): reconstruct for module in ARRAYS}
    return {**arrays, ("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype, ("_codecs", "encode"): _latin1}


def _latin1(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes for Python 2."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding!r}, which arrays do not need")
    return codecs.encode(text, "latin1")


def load_arrays(file: Path) -> dict[str, Any]:
    """A dictionary of numbers, bytes, lists and arrays, as Python 2 or 3 pickled it; keys come as text.

    Raises:
        InputError: anything else, named with what it asked for.
    """
    try:
        with file.open("rb") as opened:
            loaded = _Arrays(opened, encoding="bytes").load()
        if not isinstance(loaded, dict):
            raise pickle.UnpicklingError(f"it holds a {type(loaded).__name__}")
        return {as_text(key): value for key, value in loaded.items()}
    except Exception as error:  # a damaged pickle raises anything
        said = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{str(file)!r} is not a pickle of a dictionary of arrays: {said}") from None


def as_text(value: object) -> str:
    """Text that was pickled as bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)
