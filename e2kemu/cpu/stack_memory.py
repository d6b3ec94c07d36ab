"""Where the hardware's stacks lie: guest memory as the CPU itself accesses it when registers spill and fill."""

from __future__ import annotations

from typing import TYPE_CHECKING

from e2kemu.cpu.rights import READ, WRITE

if TYPE_CHECKING:
    from e2kemu.cpu.guest_memory import GuestMemory

PAGE = 12
PAGE_MASK = (1 << PAGE) - 1


class Stacks:
    """The memory that windows and chain entries are spilled to: virtual addresses, with the hardware's privilege."""

    def __init__(self, memory: GuestMemory) -> None:
        self._memory = memory

    def _ram(self, address: int, size: int, access: int) -> int:
        """Where the bytes are in the RAM at address 0, all in a page; -1 when they are not so plain. Raises Trap."""
        memory = self._memory
        if (address & PAGE_MASK) + size > PAGE_MASK + 1 or memory.present is not None:
            return -1
        if memory.paging:
            address = memory.translate(address, access, 1)
        return address if address + size <= memory.ram_limit else -1

    def read_bytes(self, address: int, size: int) -> bytes:
        """``size`` bytes. Raises Trap."""
        memory, at = self._memory, self._ram(address, size, READ)
        if at >= 0:
            return bytes(memory.ram[1][at : at + size])
        return b"".join([memory.space.read_bytes(physical, count)
                         for physical, count in memory.pieces(address, size, READ, privileged=1)])

    def write_bytes(self, address: int, data: bytes) -> None:
        """Store ``data``; nothing when some of it cannot be stored. Raises Trap."""
        memory, at = self._memory, self._ram(address, len(data), WRITE)
        if at >= 0 and not memory.code_map[at >> PAGE]:
            memory.ram[1][at : at + len(data)] = data
            memory.dirty[at >> PAGE] = 1
            return
        at = 0
        for physical, count in memory.pieces(address, len(data), WRITE, privileged=1):
            memory.space.write_bytes(physical, data[at : at + count])
            at += count
