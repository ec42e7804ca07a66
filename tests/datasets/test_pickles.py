"""Pickles of arrays, as Python 2 and 3 wrote them, and pickles that ask for more."""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ordclust_ray.config.common import InputError
from ordclust_ray.datasets.pickles import load_arrays


class Malicious:
    def __init__(self, call: Any, *arguments: Any) -> None:
        self.made = (call, arguments)

    def __reduce__(self) -> Any:
        return self.made


def refused(file: Path) -> str:
    with pytest.raises(InputError) as error:
        load_arrays(file)
    said = str(error.value)
    assert "\n" not in said
    assert said.startswith(f"'{file}' is not a pickle of a dictionary of arrays: ")
    return said.removeprefix(f"'{file}' is not a pickle of a dictionary of arrays: ")


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_arrays_of_numbers_come_back(tmp_path: Path, protocol: int) -> None:
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    kept = {b"data": array, b"labels": [1, 2], "names": [b"a", b"b"], b"floats": array.T / 7}
    (tmp_path / "file").write_bytes(pickle.dumps(kept, protocol=protocol))
    fields = load_arrays(tmp_path / "file")
    assert list(fields) == ["data", "labels", "names", "floats"]
    np.testing.assert_array_equal(fields["data"], array)
    np.testing.assert_array_equal(fields["floats"], array.T / 7)
    assert (fields["labels"], fields["names"]) == ([1, 2], [b"a", b"b"])


def test_numpy_may_be_spelt_as_before_version_2(tmp_path: Path) -> None:
    content = pickle.dumps({b"data": np.arange(3)}, protocol=2)
    assert b"numpy._core.multiarray" in content
    (tmp_path / "file").write_bytes(content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert load_arrays(tmp_path / "file")["data"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    ("call", "asked_for"),
    [(os.system, f"{os.system.__module__}.system"), (eval, ".eval"), (np.load, "numpy.load"), (getattr, ".getattr")],
    ids=["system", "eval", "load", "getattr"],
)
def test_what_asks_for_more_is_refused_unrun(tmp_path: Path, call: Any, asked_for: str, protocol: int) -> None:
    trace = tmp_path / "trace"
    content = pickle.dumps({b"data": [np.arange(3), Malicious(call, f"touch {trace}")]}, protocol=protocol)
    (tmp_path / "file").write_bytes(content)
    assert refused(tmp_path / "file").endswith(f"{asked_for}, which arrays do not need")
    assert not trace.exists()


def test_an_array_of_objects_may_not_hold_more_either(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    array = np.array([Malicious(os.system, f"touch {trace}")], dtype=object)
    (tmp_path / "file").write_bytes(pickle.dumps({b"data": array}, protocol=2))
    assert refused(tmp_path / "file").endswith("system, which arrays do not need")
    assert not trace.exists()


def test_a_pickle_may_not_look_for_codecs(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.")
    assert refused(tmp_path / "file") == "it asks for the encoding 'rot13', which arrays do not need"


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "Ran out of input"), (b"a page that says 404", ""), (pickle.dumps([1, 2]), "it holds a list")],
    ids=["empty", "a page", "a list"],
)
def test_what_is_no_such_pickle_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "file").write_bytes(content)
    assert said in refused(tmp_path / "file")
