"""The host's processes that are a guest's: the emulator that began it and what descends from it.

Only these can a guest send signals to, whatever else the host runs in the same process group. A process whose parent
has ended before it is lost from sight.
"""

from __future__ import annotations

import os
from contextlib import suppress


def members(root: int) -> dict[int, int]:
    """Process id -> process group of ``root`` and all its descendants that live."""
    parents: dict[int, int] = {}
    groups: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError, ValueError, IndexError), open(f"/proc/{name}/stat", "rb") as stat:
                fields = stat.read().rpartition(b")")[2].split()
                parents[int(name)], groups[int(name)] = int(fields[1]), int(fields[2])
    return {pid: group for pid, group in groups.items() if _descends(pid, root, parents)}


def _descends(pid: int, root: int, parents: dict[int, int]) -> bool:
    while pid != root:
        pid = parents.get(pid, 0)
        if not pid:
            return False
    return True
