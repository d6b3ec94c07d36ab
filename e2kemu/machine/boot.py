"""What is put into RAM before a machine starts: kernel, ramdisk, boot information, boot block, MP table.

Everything is read and checked before anything is made, so that a wrong file leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from e2kemu.cpu.isa.models import MODELS
from e2kemu.devices.lt_timer import FREQUENCY
from e2kemu.errors import ImageError
from e2kemu.loader import Segment, read_file
from e2kemu.machine import bootblock, mptable
from e2kemu.machine.boards import Board
from e2kemu.machine.bootblock import BootBlock
from e2kemu.machine.bootinfo import SIZE as BOOTINFO_SIZE
from e2kemu.machine.bootinfo import LoadedImage, bootinfo
from e2kemu.machine.config import MachineConfig
from e2kemu.machine.interrupts import (
    PIN_ESCC,
    PIN_RTC,
    PIN_SCI,
    PIN_SPI,
    PIN_TIMER,
    PIN_WATCHDOG,
    has_epic,
)
from e2kemu.machine.kernel import Kernel, Start, read_kernel
from e2kemu.machine.mptable import ISA, Interrupt, MpConfig, mp_table
from e2kemu.machine.nics import default_mac

BOOTINFO_MOVED = 0x00FE_D000
"""The boot information block, where a kernel has its own header in its usual place."""

MP_TABLE_BASE, BOOTBLOCK_BASE = 0x00FE_E000, 0x00FE_F000
PAGE = 0x1000
IOHUB_BUS, IOHUB_DEVICE = 1, 2 << 3
"""Where the functions of the south bridge are."""


@dataclass(frozen=True)
class Boot:
    """``images`` go into RAM at every reset; ``bootinfo_base`` is where the firmware finds what it must know."""

    images: tuple[Segment, ...]
    bootinfo_base: int


def prepare_boot(config: MachineConfig, board: Board, banks: Sequence[tuple[int, int]]) -> Boot:
    """Read the kernel and the ramdisk, make the tables. Raises ImageError or OptionError, one line."""
    kernel = None if config.kernel is None else read_kernel(config.kernel)
    if kernel is not None and kernel.start != Start.PLAIN and not board.interrupts:
        raise ImageError(f"could not load kernel '{config.kernel}': machine '{board.name}' has no boot block, which"
                         " such a kernel needs; machine 'elbrus-2.0' has")
    base = board.bootinfo_base if kernel is None or kernel.start != Start.ENTRY else BOOTINFO_MOVED
    tables = [(base, BOOTINFO_SIZE, "the boot information block")]
    if board.interrupts:
        tables.append((MP_TABLE_BASE, mptable.SIZE, "the MP table"))
        tables.append((BOOTBLOCK_BASE, bootblock.SIZE, "the boot block"))
    if kernel is not None:
        kernel.image.check_fits(banks, tables)
    ramdisk = None if config.initrd is None else _ramdisk(config.initrd, banks[0], kernel)
    images = [] if kernel is None else list(kernel.image.segments)
    images += [] if ramdisk is None else [ramdisk]
    if board.interrupts:
        images += _boot_block(config, board, banks, kernel, ramdisk)
        images.append(Segment(MP_TABLE_BASE, mptable.SIZE, mp_table(_mp_config(config, board), MP_TABLE_BASE)))
    info = _bootinfo(config, board, banks, kernel, ramdisk)
    return Boot((*images, Segment(base, BOOTINFO_SIZE, info)), base)


def _ramdisk(path: str, bank: tuple[int, int], kernel: Kernel | None) -> Segment:
    """At the end of low RAM."""
    data = read_file(path, "initrd")
    address = bank[0] + bank[1] - len(data) & -PAGE
    lowest = kernel.image.end if kernel is not None else 0
    if not data:
        raise ImageError(f"could not load initrd '{path}': the file is empty")
    if address < max(lowest, BOOTBLOCK_BASE + 2 * PAGE):
        raise ImageError(f"could not load initrd '{path}': {len(data)} bytes are too many for the RAM behind the"
                         " kernel")
    return Segment(address, len(data), data)


def _place(segment: Segment | None) -> tuple[int, int]:
    return (0, 0) if segment is None else (segment.address, segment.size)


def _boot_block(config: MachineConfig, board: Board, banks: Sequence[tuple[int, int]], kernel: Kernel | None,
                ramdisk: Segment | None) -> list[Segment]:
    mac = config.nics[0].mac if config.nics else None
    # our own command line, which such a kernel never sees, may be longer
    fits = (kernel is not None and kernel.start != Start.PLAIN) or len(config.append.encode()) <= bootblock.LONG_LINE
    block = BootBlock(
        mdl=MODELS[config.cpu_model].mdl,
        cpu=config.cpu_model,
        cpus=config.smp,
        banks=banks,
        kernel=(0, 0) if kernel is None else (kernel.base, kernel.image.end - kernel.base),
        ramdisk=_place(ramdisk),
        mp_table=MP_TABLE_BASE,
        serial_base=board.escc_base,
        mac=mac or default_mac(0),
        append=config.append if fits else "",
    )
    if kernel is not None and kernel.block is not None:
        return [Segment(kernel.block + offset, len(data), data) for offset, data in block.fields()]
    return [Segment(BOOTBLOCK_BASE, bootblock.SIZE, block.block())]


def _mp_config(config: MachineConfig, board: Board) -> MpConfig:
    return MpConfig(
        cpus=config.smp,
        epic=has_epic(MODELS[config.cpu_model]),
        local_base=board.local_base,
        io_base=board.io_base,
        io_id=board.max_cpus,
        timer_base=board.timer_base,
        spi_base=board.spi_base,
        spi_data=board.spi_buffer_base,
        spi_pin=PIN_SPI,
        pci_memory=(board.pci_memory_base, board.pci_memory_size),
        interrupts=(
            Interrupt(ISA, 0, PIN_TIMER, level=False),
            Interrupt(IOHUB_BUS, IOHUB_DEVICE | 1, PIN_SCI),
            Interrupt(IOHUB_BUS, IOHUB_DEVICE | 2, PIN_ESCC),
            Interrupt(ISA, PIN_RTC, PIN_RTC),
            Interrupt(IOHUB_BUS, IOHUB_DEVICE, PIN_WATCHDOG),
            Interrupt(IOHUB_BUS, IOHUB_DEVICE, PIN_SPI),
        ),
    )


def _bootinfo(config: MachineConfig, board: Board, banks: Sequence[tuple[int, int]], kernel: Kernel | None,
              ramdisk: Segment | None) -> bytes:
    image = None if kernel is None else kernel.image
    own = kernel.block if kernel is not None and kernel.block is not None else BOOTBLOCK_BASE
    return bootinfo(
        mdl=MODELS[config.cpu_model].mdl,
        cpus=config.smp,
        kernel=LoadedImage(image.base, image.end - image.base, image.entry) if image else None,
        ramdisk=_place(ramdisk),
        serial_base=board.ports_base + board.serial_ports[0],
        timer_base=board.timer_base,
        timer_frequency=FREQUENCY,
        banks=list(banks),
        machine=board.name,
        cpu=config.cpu_model,
        append=config.append,
        boot_block=own if board.interrupts else 0,
        mp_table=MP_TABLE_BASE if board.interrupts else 0,
        trap_table=kernel.base if kernel is not None and kernel.start != Start.PLAIN else 0,
        start=int(kernel.start) if kernel is not None else 0,
    )
