"""Machine types: the map of each, as a versioned table.

A stream is bound to the versioned name, so a table never changes once it is released: another map is
another version. docs/machine.md describes the map in words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from e2kemu.errors import OptionError

GIB = 1 << 30
MIB = 1 << 20

ESCC_A, ESCC_B = -1, -2
"""In ``serial_ports``: a channel of the Am85C30."""


@dataclass(frozen=True)
class Board:
    """One machine type; all addresses are physical, all sizes bytes."""

    name: str
    description: str
    alias: str = ""
    is_default: bool = False

    default_cpu: str = "e8c"
    default_ram: int = 256 * MIB
    min_ram: int = 32 * MIB
    max_ram: int = 512 * GIB
    max_cpus: int = 1

    ram_name: str = "elbrus.ram"
    ram_low_size: int = 2 * GIB
    ram_high_base: int = 0x4_0000_0000
    rom_name: str = "elbrus.rom"
    rom_base: int = 0x1_0000_0000
    rom_size: int = 16 * MIB
    ports_base: int = 0x1_0100_0000
    sic_base: int = 0x1_1000_0000
    timer_base: int = 0x8130_0000
    virtio_base: int = 0x8130_1000
    virtio_slots: int = 8
    bootinfo_base: int = 0x00FF_0000

    serial_ports: tuple[int, ...] = (0x3F8, 0x2F8, 0x3E8, 0x2E8)
    """Where each serial line of ``-serial`` is: a port of the I/O window with a 16550A, or ESCC_A, ESCC_B."""
    exit_port: int = 0xF4
    idle_port: int = 0xF8

    iohub: bool = False
    """The south bridge is there: PCI, ESCC, SPI with clock and flash, watchdog, reset, power (``machine/iohub.py``)."""
    pci_config_base: int = 0x2_0000_0000
    pci_memory_base: int = 0x8000_0000
    pci_memory_size: int = 0x7EC0_0000
    escc_base: int = 0x8120_0040
    spi_base: int = 0x8120_0080
    spi_buffer_base: int = 0x8120_00C0
    rng_base: int = 0x8130_2000

    interrupts: bool = False
    """Interrupt controllers are there, and every device's line is connected (``machine/interrupts.py``)."""
    local_base: int = 0xFEE0_0000
    """Each CPU's own controller, as itself sees it: local APIC, or CEPIC."""
    io_base: int = 0xFEC0_0000
    """The controller of the devices: IO-APIC, or IO-EPIC."""

    legacy_models: tuple[str, ...] = ("e1cp",)
    """CPU models whose PCI configuration space and I/O ports are at other addresses, as well."""
    legacy_config_base: int = 0xFF_1000_0000
    legacy_ports_base: int = 0xFF_2000_0000

    process: bool = False
    """No computer but a Linux process (``e2kemu.linux``): RAM, a CPU, no devices."""

    compat: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Properties of the object "migration" that differ from the newest machine type's (``migration/compat.py``)."""


BEFORE_FOOTERS = MappingProxyType(
    {
        "send-configuration": "off",
        "send-section-footer": "off",
        "store-global-state": "off",
        "send-switchover-start": "off",
    }
)
"""What QEMU's machine types up to 2.3 say."""


BOARDS: tuple[Board, ...] = (
    Board(
        "elbrus-2.0",
        "Elbrus computer, up to 16 CPUs, with interrupt controllers and the IOHUB, 2026",
        alias="elbrus",
        is_default=True,
        max_cpus=16,
        iohub=True,
        interrupts=True,
        serial_ports=(0x3F8, 0x2F8, ESCC_A, ESCC_B),
    ),
    Board(
        "elbrus-1.1",
        "Elbrus computer with one CPU and the IOHUB, 2026",
        iohub=True,
        serial_ports=(0x3F8, 0x2F8, ESCC_A, ESCC_B),
    ),
    Board("elbrus-1.0", "Elbrus computer with one CPU, 2026"),
    Board(
        "elbrus-0.1",
        "Elbrus computer with one CPU, compatibility: streams without footers, configuration, global state",
        compat=BEFORE_FOOTERS,
    ),
    Board("linux-user-1.0", "Linux process: -kernel program, -append arguments, 2026", alias="linux-user",
          default_ram=GIB, max_ram=256 * GIB, process=True, ram_name="linux.ram"),
)
"""All machine types, newest first."""

DEFAULT = next(board for board in BOARDS if board.is_default)


def find_board(name: str) -> Board:
    """The board of that name or alias. Raises OptionError when there is none."""
    for board in BOARDS:
        if name in (board.name, board.alias):
            return board
    raise OptionError(f"unsupported machine type: \"{name}\" (use -machine help to list supported machines)")


def help_text() -> str:
    """What ``-M help`` prints."""
    lines = ["Supported machines are:"]
    for board in BOARDS:
        if board.alias:
            lines.append(f"{board.alias:<20s} {board.description} (alias of {board.name})")
        default = " (default)" if board.is_default else ""
        lines.append(f"{board.name:<20s} {board.description}{default}")
    return "\n".join(lines) + "\n"
