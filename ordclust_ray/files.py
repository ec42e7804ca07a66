"""Files that others may read, or a killed process leave."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_whole(file: Path, values: Mapping[str, Any]) -> None:
    """As JSON, whole or not at all."""
    new = file.with_suffix(".new")
    new.write_text(json.dumps(values, indent=1))
    new.replace(file)
