"""What a job's driver holds while it runs: Ray, the run's folder and settings, and the run's record."""

import atexit
import contextlib
import gc
import json
import logging
import secrets
import time
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import ray
import ray.data
from filelock import FileLock, Timeout

from ordclust_ray.config import DIGITS, MACHINES, InputError, JobConfig, RunConfig, without_secrets
from ordclust_ray.files import write_whole
from ordclust_ray.preflight import make_storage
from ordclust_ray.storage import pull, push
from ordclust_ray.tracking import Tracker, resolve_uri

SETTINGS, DATA = "config.json", "data.json"


def start_ray() -> None:
    """Joins the cluster that the environment names, else starts a local one, once; only warnings show."""
    if ray.is_initialized():
        return
    ray.init(logging_level=logging.WARNING)
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    logging.getLogger("ray.train").setLevel(logging.WARNING)
    atexit.register(_collect_garbage_once_more)


def _collect_garbage_once_more() -> None:
    """Before Ray's own end, which was registered earlier.

    A collection in one of Ray's threads that met a reference to an object while Ray shuts down would end the process
    with status 1, however well the run went.
    """
    gc.collect()
    gc.disable()


def name_of(run: RunConfig, kind: str) -> str:
    """The given one, else the kind of run, the time, and four characters of chance."""
    return run.name or f"{kind}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


@contextlib.contextmanager
def opened(run: RunConfig, name: str, settings: Mapping[str, Any]) -> Iterator[tuple[Path, Tracker]]:
    """The folder and the record of a run, new or known; nobody else has them meanwhile.

    Args:
        run: where runs are kept and recorded.
        name: of this one.
        settings: by dotted name; a run keeps those that it was started with.

    Raises:
        InputError: storage that cannot be used, other settings, another process that holds the run.
    """
    make_storage(run)
    with only_driver(run.storage_path / name):
        folder, uri = pull(run, name), resolve_uri(run.tracking_uri, run.storage_path)
        refuse_other_settings(settings, folder)
        try:
            yield folder, Tracker(uri, run.experiment, name, folder, begun=partial(push, run, name))
        except BaseException:
            with contextlib.suppress(InputError):  # a bucket that is away does not hide what happened
                push(run, name)
            raise
        push(run, name)


@contextlib.contextmanager
def only_driver(folder: Path) -> Iterator[None]:
    """Holds the run's folder; the system lets go of it when the process ends, however it does.

    Raises:
        InputError: another process holds it.
    """
    folder.mkdir(exist_ok=True)
    try:
        held = FileLock(folder / ".lock").acquire(timeout=0)
    except Timeout:
        raise InputError(f"run {folder.name!r} is held by another process just now; name it differently") from None
    with held:
        yield


@contextlib.contextmanager
def recorded(tracker: Tracker, parameters: Mapping[str, Any]) -> Iterator[None]:
    """In MLflow the run is RUNNING, and then FINISHED, or FAILED where the block raises."""
    tracker.start(parameters)
    try:
        yield
    except BaseException:
        with contextlib.suppress(Exception):  # a store that is down does not hide what happened
            tracker.finish("FAILED")
        raise
    tracker.finish()


def refuse_other_settings(settings: Mapping[str, Any], folder: Path) -> None:
    """A run of a known name goes on, which makes sense only with the settings that it had.

    Raises:
        InputError: names each that differs.
    """
    file = folder / SETTINGS
    if file.exists():
        earlier = json.loads(file.read_text())
        changed = [
            f"--{key.replace('_', '-')} was {earlier.get(key)!r}"
            for key, now in settings.items()
            if earlier.get(key) != now
        ]
        if changed:
            raise InputError(
                f"run {folder.name!r} was started with other settings: {', '.join(changed)}; name it differently"
            )


def kept(config: JobConfig, free: Collection[str] = MACHINES) -> dict[str, Any]:
    """The settings that a run keeps, secrets left out. Data may move, `refuse_other_data` knows them."""
    moving = {"run.name", "run.storage", "run.tracking_uri", "data.path", "data.lists", *free}
    found = {key: value for key, value in config.flat().items() if key not in moving}
    return {"system": config.system, **{key: _public(value) for key, value in found.items()}}


def _public(value: Any) -> Any:
    return without_secrets(value) if isinstance(value, str) else value


def refuse_other_data(folder: Path, *, path: str, images: int, fingerprint: str, what: str) -> None:
    """Checkpoints belong to given instances, and nobody may move among them; where they lie may change.

    Args:
        folder: of the run.
        path: where the images are now.
        images: usable ones.
        fingerprint: of what the run depends on.
        what: that is, in words.

    Raises:
        InputError: the run was started with others.
    """
    file, now = folder / DATA, {"images": images, "sha256": fingerprint}
    if file.exists() and (earlier := json.loads(file.read_text())) | now != earlier:
        raise InputError(
            f"run {folder.name!r} was started with other {what} ({earlier['images']} usable "
            f"then, {images} now); name it differently"
        )
    absolute = path if path == DIGITS else str(Path(path).expanduser().absolute())
    write_whole(file, {**now, "path": absolute})


def trained_on(folder: Path) -> str:
    """Where the images of a run lay, in words; empty where it did not come as far as to read them."""
    file = folder / DATA
    return f", on the images of {json.loads(file.read_text())['path']}" if file.exists() else ""


def write_once(file: Path, values: Mapping[str, Any]) -> None:
    """As `write_whole`, unless the file is there."""
    if not file.exists():
        write_whole(file, values)
