"""Downloads of sets that may be fetched freely, by torchvision."""

import socket
from http.client import HTTPException
from pathlib import Path
from tarfile import TarError
from typing import Any

from ordclust_ray.config.common import InputError

SILENCE = 60.0  # seconds without a byte, after which the network has failed


def download(name: str, folder: Path, **options: Any) -> None:
    """Fetches a set into a folder, unpacked and checked: torchvision opens no file of another checksum than published.

    Args:
        name: of torchvision's class.
        folder: made where it is not there.
        options: of the class.

    Raises:
        InputError: it cannot be fetched, or is not what was published; one line.
    """
    from torchvision import datasets  # seconds, which those who have the set need not wait

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE)  # torchvision gives none: a network that swallows all would hold us for ever
    try:
        getattr(datasets, name)(root=str(folder), download=True, **options)
    except (OSError, RuntimeError, HTTPException, TarError, EOFError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{name} cannot be downloaded into {str(folder)!r}: {reason}") from None
    finally:
        socket.setdefaulttimeout(before)
