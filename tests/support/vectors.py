"""Vectors: files that tests write from the code, and that must be as the code says ever after.

PACEKEEPER_WRITE_VECTORS=1 writes them anew; the difference then shows in the diff.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
VECTORS: Final = ROOT / "tests" / "vectors"


def check_file(path: Path, content: bytes) -> None:
    """Write content to a file of the repository if asked to; fail if the file then differs from it."""
    if os.environ.get("PACEKEEPER_WRITE_VECTORS"):
        path.write_bytes(content)
    assert path.read_bytes() == content, f"{path.relative_to(ROOT)} drifted: PACEKEEPER_WRITE_VECTORS=1 writes it anew"


def check_json(path: Path, value: object) -> None:
    """As check_file, with a JSON value; bytes are written in hexadecimal."""
    check_file(path, (json.dumps(value, indent=1, default=bytes.hex) + "\n").encode())
