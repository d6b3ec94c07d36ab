"""The seed of random tests that look at the same cases each day, and at others when they are told to.

``python -m tests.fuzz.tiers`` and the other modules of ``tests/fuzz`` look at new ones without end.
"""

from __future__ import annotations

import os


def chosen_seed() -> int:
    """``E2KEMU_SEED`` of the environment, or the one that is always taken; printed."""
    seed = int(os.environ.get("E2KEMU_SEED", "20261123"))
    print(f"E2KEMU_SEED={seed}")
    return seed
