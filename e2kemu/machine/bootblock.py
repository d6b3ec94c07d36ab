"""The boot block of Linux for e2k (4 KiB): what the boot loader of a real machine tells a kernel.

Public headers of Linux and of Embox (bootinfo.h) have its layout; numbers in it are little endian. Images for such
machines begin with a header of 64 KiB that has a boot block at 0x100: the loader fills it in and passes its address
(Linux), or the kernel knows where it lies (Embox).

| offset | type | field |
|---|---|---|
| 0x00 0x02 | u16 u8 | signature 0x8086 or 0xe200, IDR.mdl |
| 0x07 | u8 | number of banks of RAM |
| 0x08 0x10 | u64 | kernel base, size |
| 0x18 0x20 | u64 | ramdisk base, size |
| 0x28 0x2a 0x2c 0x2e | u16 | CPUs, flags of the machine, busy areas, nodes |
| 0x30 0x38 | u64 | MP table, serial port (Am85C30) |
| 0x40 0x48 0x50 | u64 u64 u8[6] | map of nodes, serial number, MAC address |
| 0x58 | char[128] | command line, or KERNEL_ARGS_STRING_EX |
| 0xd8 | 8 x 4 x {u64, u64} | banks of each node: address, size |
| 0x520 | char[16] | name of the board |
| 0x538 0x540 | char[8] char[128] | E2KBIOS, version of the boot loader |
| 0x5c0 0x5c1 0x5c2 | u8 | board, chipset (2 IOHUB), CPU type |
| 0x5c3 | char[512] | longer command line |
| 0xf5c 0xffe | u8 u16 | version 1, 0xaa55 |
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from e2kemu.errors import OptionError

SIZE = 0x1000
IN_IMAGE = 0x100
"""Offset of the boot block in an image with a header."""

HEADER_SIZE = 0x10000
"""The kernel follows the header."""

X86_SIGNATURE, ROM_SIGNATURE = 0x8086, 0xE200
MARKER = b"\x55\xaa"
MARKER_AT = 0xFFE
SHORT_LINE, LONG_LINE = 127, 511
"""Characters of a command line that fit."""

LONG_LINE_MARK = b"KERNEL_ARGS_STRING_EX"
CHIPSET_IOHUB = 2
MSI_FLAG = 0x20
SERIAL_NUMBER = 0x2026
BOARDS = {"e2s": (70, "MBE2S-PC"), "e8c": (80, "E8C"), "e1cp": (52, "MBE1C-PC")}
"""Number and name of the board of CPU models whose board has a public number; others have 0 and the model's name."""


@dataclass(frozen=True)
class BootBlock:
    """What is told. ``kernel`` and ``ramdisk`` are address and size."""

    mdl: int
    cpu: str
    cpus: int
    banks: Sequence[tuple[int, int]]
    kernel: tuple[int, int]
    ramdisk: tuple[int, int]
    mp_table: int
    serial_base: int
    mac: bytes
    append: str

    def fields(self) -> list[tuple[int, bytes]]:
        """(offset, bytes) of everything that is told. Raises OptionError for a command line that does not fit."""
        line = self.append.encode()
        if len(line) > LONG_LINE:
            raise OptionError(f"-append: {len(line)} bytes are too many for this kernel, {LONG_LINE} fit")
        short, long = (line, b"") if len(line) <= SHORT_LINE else (LONG_LINE_MARK, line)
        board, name = BOARDS.get(self.cpu, (0, self.cpu.upper()))
        banks = b"".join(struct.pack("<QQ", *bank) for bank in self.banks).ljust(64, b"\0")
        return [
            (0x02, bytes((self.mdl,))),
            (0x07, bytes((len(self.banks),))),
            (0x08, struct.pack("<4Q", *self.kernel, *self.ramdisk)),
            (0x28, struct.pack("<4H", self.cpus, MSI_FLAG, 0, 1)),
            (0x30, struct.pack("<4Q6s", self.mp_table, self.serial_base, 1, SERIAL_NUMBER, self.mac)),
            (0x58, short.ljust(SHORT_LINE + 1, b"\0")),
            (0xD8, banks),
            (0x520, name.encode()[:15].ljust(16, b"\0")),
            (0x538, b"E2KBIOS\0"),
            (0x540, b"e2kemu".ljust(128, b"\0")),
            (0x5C0, bytes((board, CHIPSET_IOHUB, self.mdl))),
            (0x5C3, long.ljust(LONG_LINE + 1, b"\0")),
        ]

    def block(self) -> bytes:
        """A whole boot block, as a boot ROM makes it."""
        data = bytearray(SIZE)
        for offset, field in self.fields():
            data[offset : offset + len(field)] = field
        struct.pack_into("<H", data, 0, ROM_SIGNATURE)
        data[0xF5C] = 1
        data[MARKER_AT:] = MARKER
        return bytes(data)


def has_boot_block(data: bytes) -> bool:
    """Whether an image begins with a header that has a boot block."""
    block = data[IN_IMAGE : IN_IMAGE + SIZE]
    return block[:2] == X86_SIGNATURE.to_bytes(2, "little") and block[MARKER_AT:] == MARKER
