"""What the user may say about a Linux program: its arguments, environment, sandbox, and what is printed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from e2kemu.linux.sandbox import Sandbox


@dataclass(frozen=True)
class ProcessOptions:
    """One run. ``arguments`` begin with argv[0]; empty: the program's path alone."""

    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    sandbox: Sandbox = field(default_factory=Sandbox)
    prefix: str | None = None
    """``-L``: where interpreters and libraries are looked for first."""
    strace: bool = False
    stats: bool = False
    job_control: bool = False
    """A stop signal stops the emulator too: it is the only thing this process does (``e2kemu-run``)."""
