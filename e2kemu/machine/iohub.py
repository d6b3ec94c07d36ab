"""The south bridge of a board: makes the IOHUB's functions and what hangs on them, and maps them.

The functions' windows are where firmware leaves them (``machine/boards.py``); a guest may move them, therefore
they are not mapped themselves: the whole PCI gap is, below everything that has a fixed place in it.
"""

from __future__ import annotations

from collections.abc import Callable

from e2kemu.chardev import Chardev
from e2kemu.devices.core import Device, IrqLine
from e2kemu.devices.escc import Escc
from e2kemu.devices.iohub import (
    ADDRESS_PORT,
    I2cSpi,
    ParallelSerial,
    PciHost,
    PciMemory,
    PciPorts,
    Spmc,
)
from e2kemu.devices.iohub_timer import IohubTimer
from e2kemu.devices.pci import PciFunction
from e2kemu.devices.rtc import Cy14b101p
from e2kemu.devices.spi import SpiBuffer, SpiMaster
from e2kemu.devices.spi_flash import SpiFlash
from e2kemu.devices.system_timer import SystemTimer
from e2kemu.devices.virtio_rng import VirtioRng
from e2kemu.machine.boards import ESCC_A, ESCC_B, Board
from e2kemu.machine.icount import IcountClock
from e2kemu.machine.interrupts import (
    PIN_ESCC,
    PIN_RNG,
    PIN_RTC,
    PIN_SCI,
    PIN_SPI,
    PIN_TIMER,
    PIN_WATCHDOG,
    Connect,
)
from e2kemu.machine.machine import Machine
from e2kemu.machine.watchdog import request_reset, watchdog_expired
from e2kemu.memory.space import MmioRegion

DEVICE = 2 << 3
"""Device 2 of the bus behind the bridge has the functions."""

SPI_FUNCTION, SPMC_FUNCTION, SERIAL_FUNCTION = 0, 1, 2
SERIAL_IRQ, SPI_IRQ, SCI_IRQ = 3, 7, 1
"""Interrupt controller inputs that the functions name: those of the public Linux sources."""

CHIP_FLASH, CHIP_CLOCK = 0, 1
"""Chip selects, as on the real boards."""


def add_iohub(machine: Machine, board: Board, add: Callable[[Device, int], None], connect: Connect) -> None:
    """Make and map everything; ``add(device, base)`` maps a device of fixed place, ``connect`` its line to a pin."""
    clock, space = machine.clock, machine.space
    host = PciHost()
    reset = I2cSpi(lambda: request_reset(machine))
    rng = VirtioRng(space)
    timer = (SystemTimer if board.interrupts else IohubTimer)(clock, lambda: watchdog_expired(machine, reset))
    add(timer, board.timer_base)
    add(rng, board.rng_base)
    add(host, board.pci_config_base)
    space.map(board.ports_base + ADDRESS_PORT, MmioRegion(PciPorts(host), PciPorts.size, 4), "iohub-pci-ports")
    gap = MmioRegion(PciMemory(host, board.pci_memory_base), board.pci_memory_size, 8)
    space.map(board.pci_memory_base, gap, "iohub-pci-memory", -1)

    escc = Escc(_serial(machine, ESCC_A), _serial(machine, ESCC_B))
    master = SpiMaster()
    buffer = SpiBuffer(master)
    flash = SpiFlash(next(block for block in machine.ram_blocks if block.idstr == board.rom_name))
    rtc = Cy14b101p(clock, clock.date) if isinstance(clock, IcountClock) else Cy14b101p(clock)
    master.chips.update({CHIP_FLASH: flash, CHIP_CLOCK: rtc})
    serial = ParallelSerial()
    serial.add_window(1, 0x40, board.escc_base, escc)
    reset.add_window(0, SpiMaster.size, board.spi_base, master)
    reset.add_window(1, SpiBuffer.size, board.spi_buffer_base, buffer)
    power = Spmc(clock, lambda: machine.shutdown(0, guest=True, reason="guest-shutdown"))
    _connect(reset, PIN_SPI if board.interrupts else SPI_IRQ, master.irq)
    _connect(power, SCI_IRQ, power.sci)
    _connect(serial, SERIAL_IRQ, escc.irq)
    host.add(DEVICE | SPI_FUNCTION, reset)
    host.add(DEVICE | SPMC_FUNCTION, power)
    host.add(DEVICE | SERIAL_FUNCTION, serial)
    for pin, line, what in (
        (PIN_SCI, power.sci, "iohub-spmc"), (PIN_TIMER, timer.irq, timer.name), (PIN_ESCC, escc.irq, "escc"),
        (PIN_RTC, rtc.irq, rtc.name), (PIN_WATCHDOG, timer.wd_irq, "watchdog"), (PIN_RNG, rng.irq, rng.name),
        (PIN_SPI, master.irq, "iohub-spi"),
    ):  # fmt: skip
        connect(pin, line, what)

    def resumed(event: str, data: object) -> None:
        if event == "RESUME" and reset.wanted:
            request_reset(machine)

    machine.listeners.append(resumed)
    for device in (host.bridge, reset, power, serial, escc, master, buffer, flash, rtc):
        device.reset()
        machine.devices.append(device)


def _connect(function: PciFunction, number: int, line: IrqLine) -> None:
    """The function names input ``number`` and shows the level of ``line`` in its status."""
    function.irq_line = number
    line.sink = function.set_irq


def _serial(machine: Machine, port: int) -> Chardev | None:
    """The character device of ``-serial`` for that channel."""
    index = machine.config.board.serial_ports.index(port)
    return machine.config.serials[index] if index < len(machine.config.serials) else None
