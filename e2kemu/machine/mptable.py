"""The MP table: how boot loaders of e2k tell a kernel of its CPUs, interrupt controllers, timer and pins.

Intel's multiprocessor specification in the form of the public headers of Linux and Embox for e2k (mpspec.h): the
pointer has a 64-bit address (24 bytes), processors are 20 bytes long, addresses have 64 bits; entries of this version
(4) follow each other at multiples of 4. One page: the pointer at its start, the table behind it.

| entry | fields |
|---|---|
| 0 processor | id, version, flags (1 usable, 2 boots); frequency of the CEPIC timer |
| 1 bus | number, name |
| 2 I/O APIC, 11 IO-EPIC | id, version, address |
| 3 interrupt | kind (4 fixed pin), flags (1 high, 4 edge, 0xc level), bus, device << 3 + function, controller, pin |
| 4 local interrupt | the same for LINT0, LINT1 |
| 5 timer | type 1 (LT), version, address |
| 6 I2C/SPI | channels, pin, revision, address of control and data |
| 7 I/O link | IOHUB of node 0, buses, its controller, PCI memory |
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from e2kemu.devices.local_timer import FREQUENCY

SIZE = 0x1000
POINTER_SIZE, HEADER_SIZE = 24, 44
SPECIFICATION = 4
PCI, ISA = 0, 0x1F
"""Numbers of the buses: the first of the PCI buses, and the one of what is on no bus."""

FIXED, EDGE_HIGH, LEVEL_HIGH = 4, 0x5, 0xD
ALL_APICS = 0xFF


@dataclass(frozen=True)
class Interrupt:
    """One pin: the bus of its source, the source there (device << 3 | function, or the pin), its trigger."""

    bus: int
    source: int
    pin: int
    level: bool = True


@dataclass(frozen=True)
class MpConfig:
    """What the table tells."""

    cpus: int
    epic: bool
    local_base: int
    io_base: int
    io_id: int
    timer_base: int
    spi_base: int
    spi_data: int
    spi_pin: int
    pci_memory: tuple[int, int]
    interrupts: tuple[Interrupt, ...]


def _entries(config: MpConfig) -> Iterator[bytes]:
    for cpu in range(config.cpus):
        flags = 1 | (0 if cpu else 2)
        version = 1 if config.epic else 0x10
        yield struct.pack("<4B4I", 0, cpu, version, flags, 0, 0, FREQUENCY if config.epic else 0, 0)
    for bus, name in ((PCI, b"PCI   "), (PCI + 1, b"PCI   "), (ISA, b"ISA   ")):
        yield struct.pack("<2B6s", 1, bus, name)
    if config.epic:
        yield struct.pack("<2B2H2xQ", 11, 2, 0, 0, config.io_base)
    else:
        yield struct.pack("<4B4xQ", 2, config.io_id, 0x11, 1, config.io_base)
    yield struct.pack("<2BHI2i4h2Q", 7, 1, 0x10, 0, 0, 0, PCI, PCI + 1, 0 if config.epic else config.io_id, 0,
                      config.pci_memory[0], sum(config.pci_memory) - 1)
    yield struct.pack("<4B4xQ", 5, 1, 1, 0, config.timer_base)
    yield struct.pack("<4B4x2Q", 6, 1, config.spi_pin, 2, config.spi_base, config.spi_data)
    for interrupt in config.interrupts:
        flags = LEVEL_HIGH if interrupt.level else EDGE_HIGH
        io_id = 0 if config.epic else config.io_id
        yield struct.pack("<2BH4B", 3, FIXED, flags, interrupt.bus, interrupt.source, io_id, interrupt.pin)
    for kind, lint in ((3, 0), (1, 1)):
        yield struct.pack("<2BH4B", 4, kind, 0x5, PCI, 0, ALL_APICS, lint)


def _summed(data: bytearray, start: int, size: int, at: int) -> None:
    """Make the bytes of a range add up to 0 by the one at ``at``."""
    data[at] = -sum(data[start : start + size]) & 0xFF


def mp_table(config: MpConfig, address: int) -> bytes:
    """The page at ``address``."""
    entries = list(_entries(config))
    body = b"".join(entries)
    header = bytearray(struct.pack("<4sHBB8s12sIHHIHBB", b"PCMP", HEADER_SIZE + len(body), SPECIFICATION, 0,
                                   b"E2KEMU  ", b"ELBRUS      ", 0, 0, len(entries), config.local_base, 0, 0, 0))
    table = header + body
    _summed(table, 0, len(table), 7)
    pointer = bytearray(struct.pack("<4s4xQ8B", b"_MP_", address + POINTER_SIZE, 1, SPECIFICATION, 0, 0, 0, 0, 0, 0))
    _summed(pointer, 0, 16, 4)             # software that knows 16 bytes adds up those
    _summed(pointer, 0, POINTER_SIZE, 18)
    page = bytes(pointer) + bytes(table)
    assert len(page) <= SIZE
    return page.ljust(SIZE, b"\0")
