"""The trap cellar: records of accesses that were not done, in physical memory at %trap_point.

A record is three double words: address, data (of a store), condition. %trap_count counts the double words; software
sets it to 0 when it has taken them. Layout of the condition: semantics reference, section 8.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from e2kemu import trace
from e2kemu.trace import Log

if TYPE_CHECKING:
    from e2kemu.cpu.mmu.unit import Mmu

RECORD = 3
"""Double words of a record."""

RECORDS = 21
"""Records that find room: up to v3 the cellar has 64 double words."""

TRAP_POINT, TRAP_COUNT = 5, 6
"""Numbers of the registers."""


class Cellar:
    """The trap cellar of an MMU."""

    def __init__(self, mmu: Mmu) -> None:
        self._mmu = mmu

    @property
    def point(self) -> int:
        """Physical address of the first record."""
        return self._mmu.read_register(TRAP_POINT)

    @property
    def count(self) -> int:
        """Double words recorded."""
        return self._mmu.read_register(TRAP_COUNT)

    @property
    def is_full(self) -> bool:
        """No record finds room any more."""
        return self.count > RECORD * (RECORDS - 1)

    def record(self, address: int, data: int, condition: int) -> bool:
        """Append a record; False when there is no room for it."""
        if self.is_full:
            return False
        place = self.point + 8 * self.count
        for index, word in enumerate((address, data, condition)):
            self._mmu.space.write(place + 8 * index, 8, word)
        self._mmu.write_register(TRAP_COUNT, self.count + RECORD)
        if trace.mask & Log.MMU:
            trace.log(f"MMU: trap cellar: {address:#x} {data:#x} {condition:#x}")
        return True

    def records(self) -> list[tuple[int, int, int]]:
        """What is recorded: (address, data, condition)."""
        words = [self._mmu.space.read(self.point + 8 * index, 8) for index in range(self.count)]
        return [(words[i], words[i + 1], words[i + 2]) for i in range(0, len(words) - 2, RECORD)]
