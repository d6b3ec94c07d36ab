"""SPI flash: the boot ROM's chip, 16 MiB, in the command set of the S25FL family (S25FL128P).

What it holds is the RAM block of the boot ROM: what is programmed here is read at the ROM's addresses, and travels
with that block. Commands (opcode, address bytes): 06 write enable, 04 write disable, 05 read status,
01 write status, 03 read (3), 0b fast read (3, one dummy byte), 02 page program (3), d8 erase 64 KiB (3), c7 erase all,
9f identification, b9 deep power-down, ab release and signature. Source: the data sheet's command table.

Programming can only clear bits, inside one page of 256 bytes (addresses wrap there). Programming and erasing take no
time. Status: 1 write enabled, 4:2 protected upper part (1: 1/64 .. 7: all, doubling), 7 status register protected.
"""

from __future__ import annotations

from typing import ClassVar

from e2kemu import trace
from e2kemu.devices import vmstate as vm
from e2kemu.devices.core import Device, Reg
from e2kemu.memory.ram import RAMBlock

WRITE_STATUS, PROGRAM, READ, WRITE_DISABLE, READ_STATUS, WRITE_ENABLE, FAST_READ = 1, 2, 3, 4, 5, 6, 0x0B
IDENTIFY, SIGNATURE, POWER_DOWN, ERASE_ALL, ERASE_SECTOR = 0x9F, 0xAB, 0xB9, 0xC7, 0xD8
IDENTITY = bytes((0x01, 0x20, 0x18, 0x03, 0x01))
"""Spansion, 128 Mbit, sectors of 64 KiB."""
ELECTRONIC_SIGNATURE = 0x17
PAGE, SECTOR = 256, 1 << 16
ENABLED, PROTECTED_SHIFT, STATUS_KEPT = 2, 2, 0x9C


class SpiFlash(Device):
    """SPI flash (S25FL128P) that holds the boot ROM"""

    name = "s25fl128p"

    status = Reg("u8", doc="1 write enabled, 4:2 protected part, 7 this register is protected")
    asleep = Reg("u8", doc="1: deep power-down")

    vmstate: ClassVar[vm.VMState] = vm.VMState("s25fl128p", 1, [status, asleep], post_load="_post_load")

    def __init__(self, block: RAMBlock) -> None:
        """``block`` is the memory: its size, a power of two, is the chip's."""
        super().__init__()
        self._block = block

    def reset(self) -> None:
        """Protection bits are kept without power."""
        kept = self.status & STATUS_KEPT
        super().reset()
        self.status = kept

    def properties(self) -> dict[str, str]:
        return {"memory": self._block.idstr, "size": f"{self._block.size:#x}", "status": f"{self.status:#x}"}

    def _post_load(self, version: int) -> None:
        if self.status & ~(STATUS_KEPT | ENABLED) or self.asleep > 1:
            raise ValueError(f"status {self.status:#x}, asleep {self.asleep}")

    def transfer(self, command: bytes, data: bytes, read: int) -> bytes:
        """One selection of the chip."""
        opcode, rest = command[0], command[1:] + data
        if self.asleep and opcode != SIGNATURE:
            return bytes(read)
        if opcode == READ_STATUS:
            return bytes((self.status,)) * read
        if opcode == IDENTIFY:
            return (IDENTITY + bytes(read))[:read]
        if opcode == SIGNATURE:
            self.asleep = 0
            return bytes((ELECTRONIC_SIGNATURE,)) * read
        if opcode in (READ, FAST_READ):
            return self._read(rest[:3], read)
        if opcode in (WRITE_ENABLE, WRITE_DISABLE):
            self.status = self.status & ~ENABLED | (ENABLED if opcode == WRITE_ENABLE else 0)
        elif opcode == POWER_DOWN:
            self.asleep = 1
        elif opcode in (WRITE_STATUS, PROGRAM, ERASE_SECTOR, ERASE_ALL):
            self._change(opcode, rest)
        else:
            trace.guest_error(f"{self.name}: command {opcode:#04x} is not known")
        return bytes(read)

    def _address(self, raw: bytes) -> int:
        return int.from_bytes(raw.ljust(3, b"\0"), "big") % self._block.size

    def _read(self, raw: bytes, count: int) -> bytes:
        start = self._address(raw)
        first = self._block.read(start, min(count, self._block.size - start))
        return first + (self._block.read(0, count - len(first)) if len(first) < count else b"")

    def _first_protected(self) -> int:
        """Addresses from here on cannot be changed."""
        part = self.status >> PROTECTED_SHIFT & 7
        return self._block.size - (self._block.size >> 7 - part) if part else self._block.size

    def _change(self, opcode: int, rest: bytes) -> None:
        if not self.status & ENABLED:
            trace.guest_error(f"{self.name}: command {opcode:#04x} without write enable")
            return
        self.status &= ~ENABLED
        if opcode == WRITE_STATUS:
            self.status = rest[0] & STATUS_KEPT if rest else self.status
            return
        protected = self._first_protected()
        start = 0 if opcode == ERASE_ALL else self._address(rest[:3])
        size = {ERASE_ALL: self._block.size, ERASE_SECTOR: SECTOR, PROGRAM: PAGE}[opcode]
        base = start & ~(size - 1)
        if base + size > protected:
            trace.guest_error(f"{self.name}: {start:#x} is protected")
        elif opcode == PROGRAM:
            self._program(base, start - base, rest[3:])
        else:
            for at in range(base, base + size, SECTOR):
                self._erase(at)

    def _erase(self, base: int) -> None:
        blank = b"\xff" * SECTOR
        if self._block.read(base, SECTOR) != blank:
            self._block.write(base, blank)

    def _program(self, base: int, at: int, data: bytes) -> None:
        page = bytearray(self._block.read(base, PAGE))
        for number, byte in enumerate(data[-PAGE:], start=max(0, len(data) - PAGE)):
            page[(at + number) % PAGE] &= byte
        self._block.write(base, page)
