"""The locked versions against the advisories that SECURITY.md lists, which needs no database."""

import re
from pathlib import Path

import pytest
from packaging.version import Version

ROOT = Path(__file__).parent.parent
ROW = re.compile(r"^\| ([a-z0-9-]+) \| ([0-9.]+) \| ((?:CVE|GHSA)-.+?) \|", re.MULTILINE)
LOCKED = re.compile(r"^([a-z0-9._-]+)==([^ ;\n]+)", re.MULTILINE)


def locked() -> dict[str, list[Version]]:
    """All versions of each package: there may be one a version of Python."""
    found: dict[str, list[Version]] = {}
    for name, version in LOCKED.findall((ROOT / "requirements.lock").read_text()):
        found.setdefault(name, []).append(Version(version))
    return found


TABLE = {name: (Version(safe), said) for name, safe, said in ROW.findall((ROOT / "SECURITY.md").read_text())}


def test_the_table_is_read() -> None:
    assert {"ray", "torch", "mlflow", "pillow", "pyarrow", "jinja2"} <= set(TABLE)


@pytest.mark.parametrize("package", TABLE)
def test_no_locked_version_has_a_known_hole(package: str) -> None:
    safe, advisories = TABLE[package]
    versions = locked()[package]
    assert versions, f"{package} is not in requirements.lock"
    assert min(versions) >= safe, f"{package} {min(versions)} has {advisories}; {safe} is the first without"


def test_what_is_tested_exists() -> None:
    """Of SECURITY.md's own words: the tests that it names are there."""
    text = (ROOT / "SECURITY.md").read_text()
    names = {Path(name).name for name in re.findall(r"`((?:tests/)?[\w/]*test_\w+\.py)`", text)}
    assert names <= {file.name for file in (ROOT / "tests").rglob("test_*.py")}
    assert len(names) > 5
