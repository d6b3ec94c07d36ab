"""What interrupt controllers have in common: one for each CPU (``LocalController``), one for the devices
(``IoController``), and the window in which every CPU sees its own.

A local controller drives the two pins of its CPU and hands it the commands init and startup. A device's line is
connected to one pin of the controller of the devices; a pin has one source, so that what a stream says of the
pins and what the devices say when they are loaded is the same, whatever their order.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol

from e2kemu.devices.core import Device, Irq, IrqLine, current_cpu


class CpuPins(Protocol):
    """What a CPU offers its interrupt controller (``cpu/interrupts.py``)."""

    def set_interrupt(self, level: bool) -> None:
        """The maskable pin."""

    def set_nmi(self, level: bool) -> None:
        """The non-maskable pin."""

    def init(self) -> None:
        """Back to the state after reset, and stop."""

    def startup(self, vector: int) -> None:
        """Start the stopped CPU at page ``vector``; 0: where it starts after a reset."""


class LocalController(Device):
    """The interrupt controller of one CPU"""

    interrupt = Irq("an interrupt for the CPU")
    nmi = Irq("a non-maskable interrupt for the CPU")

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = self.instance_id = index
        self.init_cpu: Callable[[], None] = lambda: None
        self.start_cpu: Callable[[int], None] = lambda vector: None

    def attach(self, pins: CpuPins) -> None:
        """Connect it to its CPU."""
        self.interrupt.sink, self.nmi.sink = pins.set_interrupt, pins.set_nmi
        self.init_cpu, self.start_cpu = pins.init, pins.startup

    def drive(self, interrupt: bool, nmi: bool, *, anyway: bool = False) -> None:
        """Set both pins; ``anyway``: also tell the CPU what has not changed (it was loaded, too)."""
        for line, level in ((self.interrupt, interrupt), (self.nmi, nmi)):
            if anyway:
                line.level = not level
            line.set(level)

    @abstractmethod
    def inject_nmi(self) -> None:
        """The NMI of the command of that name."""

    @abstractmethod
    def info(self) -> list[str]:
        """Its state in words, for ``info lapic``."""

    @abstractmethod
    def summary(self) -> str:
        """What is pending, in one line, for ``info pic``."""


class IoController(Device):
    """The interrupt controller of the devices"""

    pin_count: ClassVar[int] = 24

    def __init__(self) -> None:
        super().__init__()
        self.levels = 0
        """A bit for each pin: 1 is asserted."""
        self.counts = [0] * self.pin_count
        """Interrupts sent by each pin since the emulator was started (``info irq``)."""
        self.sources: dict[int, str] = {}
        """What is connected to each pin."""

    def connect(self, pin: int, line: IrqLine, what: str) -> None:
        """Connect the line of a device, ``what`` by name. Whom it drove before it goes on driving."""
        assert pin not in self.sources, f"pin {pin} has a source already"
        before = line.sink
        self.sources[pin] = what

        def sink(level: bool) -> None:
            if before is not None:
                before(level)
            self.set_pin(pin, level)

        line.sink = sink

    def set_pin(self, pin: int, level: bool) -> None:
        """A device asserts or releases a pin."""
        bit = 1 << pin
        before = bool(self.levels & bit)
        if level != before:
            self.levels ^= bit
            self.changed(pin, level)

    @abstractmethod
    def changed(self, pin: int, level: bool) -> None:
        """The level of a pin has changed."""

    @abstractmethod
    def info(self) -> list[str]:
        """Its state in words, for ``info pic``."""

    def properties(self) -> dict[str, str]:
        """What ``info qtree`` shows."""
        return {f"pin {pin}": what for pin, what in sorted(self.sources.items())}


class LocalWindow:
    """The place in physical memory where every CPU finds its own controller."""

    def __init__(self, controllers: Sequence[LocalController]) -> None:
        self._controllers = controllers

    def mmio_read(self, offset: int, size: int) -> int:
        """A register of the controller of the CPU that asks."""
        return self._controllers[current_cpu()].mmio_read(offset, size)

    def mmio_write(self, offset: int, size: int, value: int) -> None:
        """Change a register of the controller of the CPU that asks."""
        self._controllers[current_cpu()].mmio_write(offset, size, value)
