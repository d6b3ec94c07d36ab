"""Section "globalstate": the run state the source had before migration stopped it.

    be32 size            strlen + 1
    32 bytes runstate    NUL-padded name
    u8 has_vm_was_suspended, u8 vm_was_suspended
    66 zero bytes        104 bytes in all, always last in the stream

The destination goes to that state at the end. Of an older machine type the section is optional: "running" and
"paused" are not sent, and a destination that gets none starts its guest. A source before 8.2 used 100 bytes for
the name; its suspended bytes are then zero, which means the same.
"""

from __future__ import annotations

from typing import Any

from e2kemu.errors import StreamError
from e2kemu.migration.stream import shown
from e2kemu.wire import Reader, Writer

NAME_BYTES = 32
UNUSED_BYTES = 66

RUN_STATES = frozenset(
    {
        "debug",
        "guest-panicked",
        "internal-error",
        "io-error",
        "paused",
        "postmigrate",
        "prelaunch",
        "running",
        "shutdown",
        "suspended",
        "watchdog",
    }
)
"""Run states in which a machine can be migrated."""


class GlobalState:
    """SaveHandler of the section. ``run_state`` is what is sent, or what was received."""

    idstr = "globalstate"
    instance_id = 0
    version = 1
    minimum_version = 1

    def __init__(self, run_state: str = "", *, optional: bool = False) -> None:
        self.run_state = run_state
        self._optional = optional

    def is_needed(self) -> bool:
        return not self._optional or self.run_state not in ("", "running", "paused")

    def save(self, w: Writer) -> None:
        name = self.run_state.encode()
        w.be32(len(name) + 1)
        w.raw(name.ljust(NAME_BYTES, b"\0"))
        w.be8(1)
        w.be8(0)
        w.raw(bytes(UNUSED_BYTES))

    def load(self, r: Reader, version: int) -> None:
        size = r.be32()
        raw = r.raw(NAME_BYTES)
        r.skip(2 + UNUSED_BYTES)
        name = raw.split(b"\0")[0].decode("utf-8", "backslashreplace")
        if not 1 <= size <= NAME_BYTES + 2 + UNUSED_BYTES or name not in RUN_STATES:
            raise StreamError(f"unknown run state '{shown(name)}'", section=self.idstr, offset=r.position)
        self.run_state = name

    def vmdesc(self) -> dict[str, Any]:
        return {
            "name": self.idstr,
            "instance_id": 0,
            "vmsd_name": self.idstr,
            "version": 1,
            "fields": [
                {"name": "size", "type": "uint32", "size": 4},
                {"name": "runstate", "type": "buffer", "size": NAME_BYTES},
                {"name": "has_vm_was_suspended", "type": "uint8", "size": 1},
                {"name": "vm_was_suspended", "type": "uint8", "size": 1},
                {"name": "unused", "type": "buffer", "size": UNUSED_BYTES},
            ],
        }
