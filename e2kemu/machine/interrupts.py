"""The interrupt controllers of a board: made by the CPU model (APIC up to instruction set v5, EPIC from v6 on), mapped,
and connected to CPUs and devices.

The pins of the controller of the devices are the same for both kinds. 2, 3, 8 and 15 are those of the tables that
boot loaders for IOHUB boards pass to Linux; the others are chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from e2kemu.cpu.isa.models import CpuModel
from e2kemu.devices.cepic import Cepic, EpicBus
from e2kemu.devices.core import Device, IrqLine
from e2kemu.devices.ioapic import IoApic
from e2kemu.devices.ioepic import IoEpic, Prepic
from e2kemu.devices.lapic import ApicBus, LocalApic
from e2kemu.devices.pic import IoController, LocalController, LocalWindow
from e2kemu.machine.boards import Board
from e2kemu.machine.machine import Machine
from e2kemu.memory.space import MmioRegion

PIN_SCI, PIN_TIMER, PIN_ESCC, PIN_RTC, PIN_WATCHDOG, PIN_RNG, PIN_SPI = 1, 2, 3, 6, 8, 12, 15
PINS_SERIAL = (4, 5, 7, 9)
"""The 16550As, in their order."""

PIN_VIRTIO = 16
"""That of virtio-mmio slot 0; the others follow."""

PREPIC_OFFSET = 0x8000
"""Of PREPIC in the system registers of the node."""

Connect = Callable[[int, IrqLine, str], None]
"""Connect a device's line to a pin: number, line, what it is."""


def not_connected(pin: int, line: IrqLine, what: str) -> None:
    """What boards without interrupt controllers do with a line."""


def has_epic(model: CpuModel) -> bool:
    """Whether CPUs of that model have EPIC, not APIC."""
    return model.version >= 6


def add_interrupts(machine: Machine, board: Board, model: CpuModel, add: Callable[[Device, int, int], None],
                   on_watchdog: Callable[[], None]) -> Connect:
    """Make and map the controllers for all CPUs of the machine; ``add(device, base, priority)`` maps a device of fixed
    place. Returns how lines are connected. ``on_watchdog()`` is called when a CPU's own watchdog has run out."""
    count, clock = machine.config.smp, machine.clock
    io: IoController
    locals_: Sequence[LocalController]
    if has_epic(model):
        epics = EpicBus()
        io = IoEpic(epics)
        add(Prepic(), board.sic_base + PREPIC_OFFSET, 1)
        locals_ = [Cepic(index, clock, epics) for index in range(count)]
    else:
        apics = ApicBus()
        io = IoApic(apics, number=board.max_cpus)
        locals_ = [LocalApic(index, clock, apics, on_watchdog) for index in range(count)]
    add(io, board.io_base, 0)
    first = locals_[0]
    machine.space.map(board.local_base, MmioRegion(LocalWindow(locals_), first.size, first.max_access), first.name)
    for local in locals_:
        local.base = board.local_base
        machine.devices.append(local)
    return io.connect


def attach_cpus(machine: Machine) -> None:
    """Connect the local controllers to the CPUs, which are made after the devices."""
    locals_ = [device for device in machine.devices if isinstance(device, LocalController)]
    for local, cpu in zip(locals_, machine.cpus, strict=False):
        local.attach(cpu.interrupts)


def inject_nmi(machine: Machine) -> bool:
    """One non-maskable interrupt for every CPU; False: the machine has no controllers that could."""
    locals_ = [device for device in machine.devices if isinstance(device, LocalController)]
    for local in locals_:
        local.inject_nmi()
    return bool(locals_)
