"""What a guest program may reach of the host: ``-L``/``--root``, ``--read-only``, ``--deny-net``.

The object only states the rules; path and socket calls ask it. ``root`` is the host directory that is the guest's "/"
(``-L prefix`` is the same but falls back to the host's file where the prefix has none, as for an interpreter).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sandbox:
    """Rules of one run."""

    root: str | None = None
    """Host directory that every guest path, absolute or by links and "..", stays under (None: the host's "/")."""
    read_only: bool = False
    """No call may change a file system: it fails with EROFS."""
    deny_net: bool = False
    """socket() of any family but AF_UNIX fails with EACCES, and AF_UNIX only within ``root``."""
