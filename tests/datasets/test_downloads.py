"""Downloads by torchvision: from this machine, and without a network."""

import hashlib
import pickle
import socket
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from ordclust_ray.config.common import InputError
from ordclust_ray.datasets.cifar import CIFAR10, CIFAR100
from ordclust_ray.datasets.listing import DataSet
from ordclust_ray.datasets.mnist import FASHION_MNIST
from ordclust_ray.datasets.stl10 import STL10

NOBODY = "http://127.0.0.1:9/"
"""Where no one answers, at once."""
FILES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.mark.parametrize(
    ("data", "name", "address"),
    [
        (CIFAR10, "CIFAR10", {"url": f"{NOBODY}cifar-10-python.tar.gz"}),
        (CIFAR100, "CIFAR100", {"url": f"{NOBODY}cifar-100-python.tar.gz"}),
        (STL10, "STL10", {"url": f"{NOBODY}stl10_binary.tar.gz"}),
        (FASHION_MNIST, "FashionMNIST", {"mirrors": [NOBODY]}),
    ],
    ids=lambda value: value.name if isinstance(value, DataSet) else "",
)
def test_without_a_network_it_says_so_in_a_line(
    data: DataSet, name: str, address: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision import datasets

    for attribute, value in address.items():
        monkeypatch.setattr(getattr(datasets, name), attribute, value)
    assert data.download is not None
    with pytest.raises(InputError) as error:
        data.download(tmp_path)
    said = str(error.value)
    assert said.startswith(f"{name} cannot be downloaded into '{tmp_path}': ")
    assert "Connection refused" in said
    assert "\n" not in said
    assert socket.getdefaulttimeout() is None


@pytest.fixture
def served() -> Iterator[Callable[[Path], str]]:
    """Serves a folder to this machine."""
    servers: list[ThreadingHTTPServer] = []

    def serve(folder: Path) -> str:
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))))
        Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


def as_published(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A generated CIFAR-10, with keys as torchvision reads them, whose checksums are taken for the published ones."""
    from torchvision import datasets

    CIFAR10.generate(folder)  # type: ignore[misc]
    home = folder / "cifar-10-batches-py"
    for file in home.iterdir():
        fields = pickle.loads(file.read_bytes())
        file.write_bytes(pickle.dumps({key.decode(): value for key, value in fields.items()}, protocol=4))
    sums = [[name, hashlib.md5((home / name).read_bytes()).hexdigest()] for name in FILES]
    monkeypatch.setattr(datasets.CIFAR10, "train_list", sums[:5])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", sums[5:6])
    monkeypatch.setattr(datasets.CIFAR10, "meta", {**datasets.CIFAR10.meta, "md5": sums[6][1]})
    return home


def test_a_download_is_unpacked_and_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: Callable[[Path], str]
) -> None:
    from torchvision import datasets

    ten = as_published(tmp_path, monkeypatch)
    packed = tmp_path / "packed.tar.gz"
    with tarfile.open(packed, "w:gz") as archive:
        archive.add(ten, ten.name)
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{served(tmp_path)}/{packed.name}")
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", hashlib.md5(packed.read_bytes()).hexdigest())
    assert CIFAR10.download is not None
    CIFAR10.download(tmp_path / "new")
    listing = CIFAR10.read(tmp_path / "new", None)
    assert len(listing.rows) == 70
    assert listing.verified == FILES

    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", "0" * 32)
    with pytest.raises(InputError, match=r"CIFAR10 cannot be downloaded into .*: File not found or corrupted"):
        CIFAR10.download(tmp_path / "other")
