"""What a run needs in order to continue, as files: tensors by safetensors or `weights_only`, the rest as JSON.

Rank 0 writes the networks and the history, every rank the assignments, or the bank, of its shard. All are keyed by
instance id or by row of the bank, so another number of workers can go on from them. Nothing here is unpickled.
"""

import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ordclust_ray.config import InputError
from ordclust_ray.training.epochs import Begun

SAFE = "safetensors"
BEGUN = "begun"
TRAINING, CLUSTERS, HISTORY = "training.pt", "clusters.safetensors", "history.json"


def save_training(
    folder: Path,
    state: dict[str, Any],
    history: list[dict[str, Any]],
    centroids: Tensor | None,
    begun: dict[str, Any] | None = None,
) -> None:
    """Rank 0's part: networks and optimisers, a record an epoch, centroids if there are clusters, an epoch's begin."""
    torch.save(state | ({BEGUN: begun} if begun else {}), folder / TRAINING)
    (folder / HISTORY).write_text(json.dumps(history))
    if centroids is not None:
        save_file({"centroids": centroids.cpu()}, folder / CLUSTERS)


def save_shard(folder: Path, rank: int, columns: dict[str, Tensor]) -> None:
    """One worker's part: `instance_ids`, and columns along them such as `assignments`."""
    save_file({name: column.cpu().contiguous() for name, column in columns.items()}, _shard_file(folder, rank))


def _shard_file(folder: Path, rank: int) -> Path:
    return folder / f"shard-{rank:05d}.safetensors"


@dataclass(frozen=True)
class Restored:
    """A checkpoint read back.

    Attributes:
        state: of the trainer.
        history: one record an epoch.
        centroids: (K, D) float64, or None without clusters.
        shards: columns of all shards, concatenated and in the order of the instance ids.
    """

    state: dict[str, Any]
    history: list[dict[str, Any]]
    centroids: Tensor | None
    shards: dict[str, Tensor]

    def assignments_of(self, instance_ids: Tensor) -> Tensor:
        """The cluster of each of these instances.

        Raises:
            ValueError: one of them is not in the checkpoint.
        """
        known, wanted = self.shards["instance_ids"], instance_ids.cpu()
        rows = torch.searchsorted(known, wanted).clamp(max=len(known) - 1)
        strangers = wanted[known[rows] != wanted]
        if len(strangers):
            raise ValueError(f"{len(strangers)} instances are not in the checkpoint; the first is {int(strangers[0])}")
        return self.shards["assignments"][rows].to(instance_ids.device)


def restore(folder: Path, device: torch.device | str = "cpu") -> Restored:
    """Reads a checkpoint, written by any number of workers."""
    shards = [read_tensors(file) for file in sorted(folder.glob("shard-*.safetensors"))]
    columns = {name: torch.cat([shard[name] for shard in shards]) for name in shards[0]}
    order = torch.argsort(columns["instance_ids"])
    return Restored(*restore_training(folder, device), {name: column[order] for name, column in columns.items()})


def save_bank(folder: Path, first: int, rows: Tensor) -> None:
    """One worker's rows of the bank, of which the first has this number."""
    save_file({"rows": rows.cpu().contiguous()}, folder / f"bank-{first:012d}.{SAFE}")


def load_bank(folder: Path, first: int, end: int) -> Tensor:
    """Rows `first` to `end` of the bank, whichever workers wrote them; no others are read.

    Raises:
        ValueError: some of them are not there.
    """
    parts, read = [], first
    for file in sorted(folder.glob(f"bank-*.{SAFE}")):
        start = int(file.stem.removeprefix("bank-"))
        with safe_open(file, "pt") as opened:
            rows = opened.get_slice("rows")
            low, high = max(first - start, 0), min(end - start, rows.get_shape()[0])
            if low < high and start + low == read:
                parts.append(rows[low:high])
                read = start + high
    if read < end:
        raise ValueError(f"the checkpoint {folder} lacks row {read} of the bank")
    return torch.cat(parts)


def restore_training(
    folder: Path, device: torch.device | str
) -> tuple[dict[str, Any], list[dict[str, Any]], Tensor | None]:
    """Rank 0's part of a checkpoint: the trainer's state, one record an epoch, centroids where there are clusters."""
    clusters = folder / CLUSTERS
    return (
        _state(folder / TRAINING, device),
        json.loads((folder / HISTORY).read_text()),
        read_tensors(clusters)["centroids"].to(device) if clusters.exists() else None,
    )


def begun_in(state: dict[str, Any]) -> Begun:
    """What a checkpoint's state has of the epoch after its last one: nothing, mostly."""
    return Begun(**state.get(BEGUN, {}))


def _state(file: Path, device: torch.device | str) -> dict[str, Any]:
    """Tensors, numbers, containers of them; raises InputError, which names the file, where it holds anything else."""
    try:
        return dict(torch.load(file, map_location=device, weights_only=True))
    except (pickle.UnpicklingError, EOFError, RuntimeError):
        raise InputError(
            f"{file} holds more than tensors and numbers, or is damaged; nothing of it is loaded"
        ) from None


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Tensors by name, of a file of safetensors.

    Raises:
        InputError: it is no such file.
    """
    try:
        return dict(load_file(file))
    except (OSError, SafetensorError) as error:
        raise InputError(f"{file} is no file of safetensors: {error}") from None
