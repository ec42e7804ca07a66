"""Checksums (md5) that the authors, or torchvision, publish of a set's files."""

from collections.abc import Collection, Mapping
from hashlib import md5
from pathlib import Path

RETINA = (
    "bd4c0672f1bba3e3a89f0e4e876791e4",
    "afda852cc34dcda56f86ad2b2457dbcc",
    "e48e916a24454daf90583d4e6efb1a18",
    "eae7e3b6f3fcbda4ae613ebdcbe35348",
)
"""Of retinamnist.npz with images of 28, 64, 128 and 224 pixels: MedMNIST 3, `medmnist/info.py`."""
CHUNK = 2**22


def of_torchvision(name: str) -> dict[str, str]:
    """Checksums by the names of files.

    Args:
        name: of torchvision's class: CIFAR10, CIFAR100, STL10, FashionMNIST.
    """
    from torchvision import datasets  # seconds, which those who read other sets need not wait

    known = getattr(datasets, name)
    if hasattr(known, "resources"):
        return dict(known.resources)
    files = dict([*known.train_list, *known.test_list])
    meta = getattr(known, "meta", None)
    return files | ({meta["filename"]: meta["md5"]} if meta else {})


def compare(folder: Path, published: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Compares files with what was published.

    Args:
        folder: that holds the files; those which are not there are passed over.
        published: checksums by the names of files.

    Returns:
        Names of the files that are the published ones, and a note on each that is not.
    """
    there = [name for name in published if (folder / name).is_file()]
    return _sorted_out({name: checksum(folder / name) == published[name] for name in there})


def compare_one(file: Path, published: Collection[str]) -> tuple[list[str], list[str]]:
    """The same for one file, which may be any of several published ones."""
    return _sorted_out({file.name: checksum(file) in published})


def checksum(file: Path) -> str:
    """The md5 of a file, as hexadecimal digits; it names known files and keeps no secrets."""
    digest = md5(usedforsecurity=False)
    with file.open("rb") as opened:
        while chunk := opened.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _sorted_out(published: Mapping[str, bool]) -> tuple[list[str], list[str]]:
    verified = [name for name, same in published.items() if same]
    return verified, [f"{name} differs from the published file" for name, same in published.items() if not same]
