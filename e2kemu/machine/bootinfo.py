"""The boot information block: what firmware is told about its machine (4 KiB, little endian).

| offset | type | field |
|---|---|---|
| 0x00 | u16 | signature 0xe200 |
| 0x02 | u8 | IDR.mdl of the CPU model |
| 0x03 | u8 | number of CPUs |
| 0x04 | u32 | size of the block |
| 0x08 0x10 | u64 | ramdisk base, size (0: none) |
| 0x18 0x20 0x28 | u64 | kernel base, size, entry (0: none) |
| 0x30 | u64 | address of the first serial port |
| 0x38 | u64 | address of the LT timer |
| 0x40 | u64 | number of banks of RAM |
| 0x48 | 4 x {u64, u64} | address and size of each bank |
| 0x88 | u64 | frequency of the LT timer, Hz |
| 0x90 | char[32] | machine type |
| 0xb0 | char[32] | CPU model |
| 0xd0 0xd8 | u64 | boot block of Linux, MP table (0: there is none) |
| 0xe0 0xe8 | u64 u32 | trap table of the kernel; how it starts (``kernel.Start``) |
| 0x100 | char[0xf00] | text of -append, NUL-terminated |
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from e2kemu.errors import OptionError

SIZE = 0x1000
SIGNATURE = 0xE200
ARGUMENTS = 0x100
MAX_BANKS = 4
MAX_ARGUMENTS = SIZE - ARGUMENTS - 1
"""Bytes of ``-append``, without the NUL."""


@dataclass(frozen=True)
class LoadedImage:
    """Where a kernel lies in RAM, and where it starts."""

    base: int
    size: int
    entry: int


def bootinfo(
    *,
    mdl: int,
    cpus: int,
    kernel: LoadedImage | None,
    serial_base: int,
    timer_base: int,
    timer_frequency: int,
    banks: list[tuple[int, int]],
    machine: str,
    cpu: str,
    append: str,
    ramdisk: tuple[int, int] = (0, 0),
    boot_block: int = 0,
    mp_table: int = 0,
    trap_table: int = 0,
    start: int = 0,
) -> bytes:
    """The block. Raises OptionError when ``append`` is too long or has a NUL in it."""
    arguments = append.encode()
    if len(arguments) > MAX_ARGUMENTS:
        raise OptionError(f"-append: {len(arguments)} bytes are too many, {MAX_ARGUMENTS} fit")
    if b"\0" in arguments:
        raise OptionError("-append: the text contains a NUL character")
    image = kernel or LoadedImage(0, 0, 0)
    block = bytearray(SIZE)
    struct.pack_into("<HBBI", block, 0, SIGNATURE, mdl, cpus, SIZE)
    struct.pack_into("<5Q", block, 0x08, *ramdisk, image.base, image.size, image.entry)
    struct.pack_into("<3Q", block, 0x30, serial_base, timer_base, len(banks))
    for index, (address, size) in enumerate(banks[:MAX_BANKS]):
        struct.pack_into("<2Q", block, 0x48 + 16 * index, address, size)
    struct.pack_into("<Q32s32s", block, 0x88, timer_frequency, machine.encode(), cpu.encode())
    struct.pack_into("<3QI", block, 0xD0, boot_block, mp_table, trap_table, start)
    block[ARGUMENTS : ARGUMENTS + len(arguments)] = arguments
    return bytes(block)
