"""Pages as a browser shows them: Chromium, and the servers of pages."""

import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import job
import psutil
import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


def browse(address: str, profile: Path, *flags: str) -> str:
    """What Chromium says of a page."""
    quiet = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking"
    line = [str(CHROMIUM), *quiet.split(), *flags, f"--user-data-dir={profile}", address]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def drawn(address: str, profile: Path) -> str:
    """What Chromium makes of a page, once its scripts have run."""
    offline = ("--disable-quic", "--disable-component-update", "--disable-sync")
    return browse(address, profile, *offline, "--window-size=1400,1000", "--virtual-time-budget=20000", "--dump-dom")


def answer(address: str) -> str:
    """The page, once the server is there."""
    for _ in range(120):
        try:
            with urllib.request.urlopen(address, timeout=5) as page:
                return page.read().decode()
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"no answer from {address}")


@contextmanager
def serving(command: Sequence[str], address: str, folder: Path) -> Iterator[str]:
    """The address of a server, from its first answer until it is killed with its children.

    Args:
        command: that runs it.
        address: where it will answer.
        folder: where it is run.
    """
    server = subprocess.Popen(command, cwd=folder, env=job.environment(), stderr=subprocess.DEVNULL)
    try:
        answer(address)
        yield address
    finally:
        for process in [*psutil.Process(server.pid).children(recursive=True), server]:
            with suppress(psutil.NoSuchProcess):  # one that ended by itself meanwhile
                process.kill()
        server.wait()


@contextmanager
def mlflow_server(uri: str, folder: Path, port: int = 0) -> Iterator[str]:
    """The address of MLflow's pages of a store, on a port (0: a free one); run in a folder."""
    with socket.create_server(("127.0.0.1", port)) as free:
        port = free.getsockname()[1]
    store = ("mlflow", "server", "--backend-store-uri", uri)
    command = [*store, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with serving(command, f"http://127.0.0.1:{port}/", folder) as address:
        yield address
