"""What a test needs from its machine: a test that cannot run says so, and fails where everything must be there.

With REQUIRE_ALL=1 in the environment, as the full suite sets it, a missing requirement is a failure, not a skip.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
from pathlib import Path
from typing import Any

import pytest


def require(name: str) -> Any:
    """Import and return a module, or skip the test (or the test module, if called at its top) and say why."""
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        missing(f"needs the Python package {name}")
    return importlib.import_module(name)


def require_executable(name: str) -> str:
    """Return the path of an executable, or skip and say why."""
    path = shutil.which(name)
    if path is None:
        missing(f"needs the executable {name}")
    assert path is not None
    return path


def require_path(path: Path, what: str) -> None:
    """Go on only if a path exists, or skip and say what is missing."""
    if not path.exists():
        missing(f"needs {what}, which puts {path} there")


def require_root() -> None:
    """Go on only as root, or skip and say why."""
    if os.geteuid() != 0:
        missing("needs root")


def missing(why: str) -> None:
    """Skip the test and say why, or fail it where everything must be there."""
    if os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(f"{why}, and REQUIRE_ALL=1 says that everything must be there", pytrace=False)
    pytest.skip(f"SKIPPED ALOUD: {why}", allow_module_level=True)
