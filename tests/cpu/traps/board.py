"""A guest with a trap table, and a device that drives the pins of its CPU: what the tests of traps stand on."""

from __future__ import annotations

from e2kemu.memory.space import MmioRegion
from tests.cpu.guest import Guest

TABLE, DEVICE, DATA = 0x20000, 0x1_0000_0000, 0x400000
ACK, RAISE, NMI, STOP = 0, 8, 16, 24
"""Offsets in the device: lower the maskable pin, raise it, pulse the other one, end ``run``."""
ACCELS = ("jit", "interp", "reference")
IE, SGE, UIE, NMIE, UNMIE = 2, 4, 16, 32, 64


class Board(Guest):
    """A guest that is privileged, with ``handler`` as entry 0 of its trap table; %dg31 is the address of the device,
    %dg30 that of a page of data. ``eager``: regions are translated at the first visit."""

    def __init__(self, text: str, handler: str, *, accel: str = "jit", model: str = "e8c", psr: int = 1 | SGE,
                 eager: bool = True) -> None:
        super().__init__(text, model, accel=accel)
        self.written: list[tuple[int, int]] = []
        self.space.map(DEVICE, MmioRegion(self, 4096), "pins")
        self.put(handler, TABLE)
        state = self.state
        state["oscud.lo"], state["oscud.hi"] = TABLE, 0x10000 << 32
        state["g31"], state["g30"], state["psr"] = DEVICE, DATA, psr
        if self.cpu.translator is not None and accel == "jit":
            self.cpu.translator.eager, self.cpu.translator.level = eager, 0

    def put(self, text: str, base: int) -> None:
        """Assemble ``text`` there; pc stays."""
        pc = self.state.pc
        self.load(text, base)
        self.state.pc = pc

    def mmio_read(self, offset: int, size: int) -> int:
        """Nothing to read."""
        return 0

    def mmio_write(self, offset: int, size: int, value: int) -> None:
        """The guest drives a pin, or says something."""
        pins = self.cpu.interrupts
        self.written.append((offset, value))
        if offset == ACK:
            pins.set_interrupt(False)
        elif offset == RAISE:
            pins.set_interrupt(True)
        elif offset == NMI:
            pins.pulse_nmi()
        elif offset == STOP:
            self.cpu.request_exit()

    def said(self, offset: int) -> list[int]:
        """What the guest has written to an offset."""
        return [value for where, value in self.written if where == offset]
