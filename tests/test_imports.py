"""Imports run downwards only, as README's "Where things are" draws it, and each library has its one place."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "ordclust_ray"
LAYERS = [
    {"kernels"},
    {"core"},
    {"config", "files", "processes"},
    {"storage"},
    {"machines"},
    {"recipes", "data", "datasets", "clustering", "board", "progress", "preflight", "figures", "actors"},
    {"training"},
    {"models"},
    {"estimation", "assignment", "serving"},
    {"references", "predictions", "preparation"},
    {"reports", "tracking"},
    {"run"},
    {"finished"},
    {"reproduction", "tuning"},
]
ONLY_IN = {"mlflow": {"tracking.py"}, "tyro": set(), "matplotlib": {"figures", "reports"}}


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "ordclust_ray":
                yield from (f"ordclust_ray.{alias.name}" for alias in node.names)
            else:
                yield node.module


def layer_of(name: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if name in names)


FILES = [file for file in sorted(PACKAGE.rglob("*.py")) if file != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_run_downwards(file: Path) -> None:
    own = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for module in imports(file):
        parts = module.split(".")
        assert parts[0] != "jobs", f"{file} imports {module}"
        if parts[0] == "ordclust_ray" and parts[1] != own:
            assert layer_of(parts[1]) <= layer_of(own), f"{file} imports {module}, which stands above it"


@pytest.mark.parametrize("file", sorted((PACKAGE / "core").glob("*.py")), ids=lambda file: file.name)
def test_core_is_mathematics_alone(file: Path) -> None:
    forbidden = {"ray", "mlflow", "torch.distributed", "pathlib", "os", "ordclust_ray.config"}
    assert not forbidden & set(imports(file))
    assert "ray" not in {module.split(".")[0] for module in imports(file)}


@pytest.mark.parametrize("library", sorted(ONLY_IN))
def test_a_library_has_one_place(library: str) -> None:
    users = {
        file.relative_to(PACKAGE).parts[0]
        for file in FILES
        if library in {module.split(".")[0] for module in imports(file)}
    }
    assert users == ONLY_IN[library]


def test_training_knows_no_ray_but_in_its_bindings() -> None:
    files = [file for file in FILES if file.parent.name == "training"]
    users = {file.name for file in files if "ray" in {module.split(".")[0] for module in imports(file)}}
    assert users == {
        "fit.py",
        "notices.py",
        "shard_data.py",
        "shares.py",
        "worker.py",
        "orid_worker.py",
        "idfd_worker.py",
        "comparator_worker.py",
    }
