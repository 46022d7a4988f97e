"""The garbage collector of a process that replays: it looks less often, and not at what stays.

A replay makes hundreds of small objects for each entry and hardly ever a cycle among them; with Python's defaults the
collector walks the replayed state again and again and takes a tenth of the time.
"""

from __future__ import annotations

import gc
from typing import Final

_THRESHOLDS: Final = (50_000, 20, 50)  # allocations before a look at the youngest, and how many of those per older look


def settle() -> None:
    """Call once, when a long-running process has built what it keeps: it is not looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
