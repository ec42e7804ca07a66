"""What the workers of Ray Train do before they train, whichever system it is."""

import logging
import os

import ray
import ray.train
import ray.train.torch
import torch

from ordclust_ray.config import WorkersConfig


def begin(training: WorkersConfig, seed: int) -> torch.device:
    """Threads, seeds and a quiet log; returns the device that this worker trains on."""
    for chatty in ("", "ray.data"):  # "": Ray Train names some of its loggers after files
        logging.getLogger(chatty).setLevel(logging.ERROR)
    torch.set_num_threads(training.threads_per_worker or own_cores(ray.train.get_context().get_local_world_size()))
    torch.manual_seed(seed)
    torch.backends.cudnn.benchmark = True  # an epoch has few sizes of batches
    return ray.train.torch.get_device()


def own_cores(workers_here: int) -> int:
    """A worker's part of the machine's cores: of those that Ray counts, which are fewer in a container."""
    here = ray.get_runtime_context().get_node_id()
    (counted,) = [node["Resources"].get("CPU", 1) for node in ray.nodes() if node["NodeID"] == here]
    return max(1, min(os.cpu_count() or 1, int(counted)) // workers_here)


def distributed(network: torch.nn.Module) -> torch.nn.Module:
    """The network, with gradients that are the mean of those of all workers."""
    return ray.train.torch.prepare_model(network, move_to_device=False)
