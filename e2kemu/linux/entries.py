"""The ways into the kernel: ``sdisp`` entries, and the calls of the fast ones.

Facts: trap table of Linux for e2k (entry N at N * 0x800).
"""

from __future__ import annotations

ENTRIES: dict[int, int] = {1: 4, 3: 8, 4: 8}
"""Entry -> bytes of a pointer and of a long in its arguments."""

FAST_ENTRIES: dict[int, int] = {5: 4, 6: 8}
"""The same of the fast entries, which have their own numbers."""

FAST = 1 << 32
"""Added to the number of a call that only a fast entry has."""

FAST_CALLS = {0: "gettimeofday", 1: "clock_gettime", 2: "getcpu"}
"""Number at a fast entry -> name of the call."""

ARGUMENTS = 9
"""Registers that a call reads: the number and eight arguments."""
