"""e2kemu: an Elbrus 2000 (e2k) computer that live-migrates.

``from e2kemu import Machine`` is the Python face (see ``e2kemu.api``).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from e2kemu.version import __version__

if TYPE_CHECKING:
    from e2kemu.api import Machine

__all__ = ["Machine", "__version__"]


def __getattr__(name: str) -> Any:
    # on demand: the assembler and the other small tools do without a machine and start faster
    if name == "Machine":
        return importlib.import_module("e2kemu.api").Machine
    raise AttributeError(f"module 'e2kemu' has no attribute {name!r}")
