"""Who a process is and what it may use: ids, limits, scheduling, and the small settings of prctl and personality.

None of it reaches the host: a guest sees the ids of the user who runs the emulator and may change them only to what an
unprivileged process may. All of it migrates (``save``, ``load``) and is copied by fork (``clone``).
"""

from __future__ import annotations

import copy
import os
import resource
from dataclasses import asdict, dataclass, field
from typing import Any

from e2kemu.errors import StateError
from e2kemu.linux.constants import RESOURCES, RLIM_INFINITY

_HOST_LIMITS = ("RLIMIT_FSIZE", "RLIMIT_CORE", "RLIMIT_NPROC", "RLIMIT_MEMLOCK")


def _limits() -> dict[str, list[int]]:
    limits = {name: [RLIM_INFINITY, RLIM_INFINITY] for name in RESOURCES}
    for name in _HOST_LIMITS:
        limits[name] = [value & RLIM_INFINITY for value in resource.getrlimit(getattr(resource, name))]
    limits["RLIMIT_STACK"][0] = 8 << 20
    limits["RLIMIT_NOFILE"] = [1024, 4096]
    limits["RLIMIT_SIGPENDING"] = [4096, 4096]
    limits["RLIMIT_MSGQUEUE"] = [819200, 819200]
    for name in ("RLIMIT_NICE", "RLIMIT_RTPRIO"):
        limits[name] = [0, 0]
    return limits


@dataclass
class Identity:
    """The settings; ids are real, effective, saved and file system ones, in this order."""

    uids: list[int] = field(default_factory=lambda: [*os.getresuid(), os.geteuid()])
    gids: list[int] = field(default_factory=lambda: [*os.getresgid(), os.getegid()])
    groups: list[int] = field(default_factory=os.getgroups)
    sid: int = 0
    """Session; 0: the process' own."""
    limits: dict[str, list[int]] = field(default_factory=_limits)
    """RLIMIT_* -> [soft, hard]."""
    personality: int = 0
    nice: int = field(default_factory=lambda: os.getpriority(os.PRIO_PROCESS, 0))
    ioprio: int = 0
    policy: int = 0
    priority: int = 0
    dumpable: int = 1
    keepcaps: int = 0
    no_new_privs: int = 0
    death_signal: int = 0
    subreaper: int = 0
    thp_disable: int = 0
    timer_slack: int = 50_000
    mce_kill: int = 2
    """What a broken page of memory does: PR_MCE_KILL_LATE, _EARLY, _DEFAULT."""

    def clone(self) -> Identity:
        """What a child process gets."""
        child = copy.deepcopy(self)
        child.death_signal = 0
        return child

    def save(self) -> dict[str, Any]:
        """As JSON-able data."""
        return asdict(self)

    def load(self, values: dict[str, Any]) -> None:
        """Take over what ``save`` gave. Raises StateError for a field of the wrong kind."""
        for name, value in values.items():
            if name not in self.__dataclass_fields__ or type(value) is not type(getattr(self, name)):
                raise StateError(f"saved process has a wrong '{name}'")
            setattr(self, name, value)
