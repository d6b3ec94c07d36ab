"""Starting fast: what the commands do around their imports."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collector() -> Iterator[None]:
    """For the imports of a command. They make hundreds of thousands of objects that stay for good: looking for garbage
    among them is a sixth of the time they take, and again at each full collection afterwards."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was:
            gc.enable()
