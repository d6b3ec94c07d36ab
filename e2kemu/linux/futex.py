"""Futexes: who sleeps on a word of memory, and how he is woken. The key of a sleeper is ("futex", address)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from e2kemu.linux.kernel import Kernel
    from e2kemu.linux.task import Task

FUTEX_WAIT_BITSET = 9
FUTEX_WOKEN = 2
"""``Task.progress`` of a sleeper that was woken: its call returns 0 when it is executed again."""


def wake(kernel: Kernel, address: int, count: int, bitset: int = 0xFFFFFFFF) -> int:
    """Wake up to ``count`` tasks that wait for one of the bits of ``bitset``; how many."""

    def accept(one: Task) -> bool:
        call = one.call
        if call is not None and call.registers[1] & 0x7F == FUTEX_WAIT_BITSET and not call.registers[5] & bitset:
            return False
        one.progress = FUTEX_WOKEN
        return True

    return kernel.wake(("futex", address), max(count, 0), accept)
