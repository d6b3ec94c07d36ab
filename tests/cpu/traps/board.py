"""A guest with a trap table, and a device that drives the pins of its CPU: what the tests of traps stand on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from e2kemu.cpu.exec import Cpu
from e2kemu.cpu.isa.models import MODELS
from e2kemu.cpu.isa.registers import GLOBALS
from e2kemu.cpu.state import Slot
from e2kemu.memory.space import MmioRegion
from e2kemu.wire import BytesReader, Writer
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

    def image(self) -> tuple[bytes, bytes, list[tuple[int, int]], int]:
        """What must be the same in every tier: registers, RAM that was written, what was said, what was counted.

        Where the window lies in its file is nobody's business, and what is not live in it neither.
        """
        state = self.state
        x = state.X
        bottom, end = x[Slot.BOTTOM], x[Slot.BASE] + state.window_size
        parts = [bytes(view[bottom:end]) for view in (state.R, state.E, state.T)]
        parts += [bytes(view[:GLOBALS]) for view in (state.R, state.E, state.T)]
        parts += [bytes(state.S), bytes(state.P), bytes(state.A), bytes(state.C[: 4 * x[Slot.CHAIN]])]
        parts += [bytes(memoryview(bytes([end - bottom & 255, x[Slot.CHAIN], x[Slot.TIRS], x[Slot.STEPPING]]))),
                  x[Slot.PC].to_bytes(8, "little")]
        pages = self.ram.dirty.nonzero()[0].tolist()
        return (b"".join(parts), b"".join(self.ram.read(page << 12, 4096) for page in pages), self.written,
                self.cpu.executed)


def alike(text: str, handler: str, steps: int, setup: Callable[[Board], None] | None = None, *, end: str = "limit",
          **options: Any) -> Board:
    """Run the same in every tier: they must end alike. The board of the reference tier."""
    boards = [Board(text, handler, accel=accel, **options) for accel in ACCELS]
    for board in boards:
        if setup is not None:
            setup(board)
        assert board.cpu.run(steps) == end, board.cpu.fatal_message
    images = [board.image() for board in boards]
    for name, board, image in zip(ACCELS, boards, images, strict=True):
        assert image[2] == images[-1][2], name
        assert image[3] == images[-1][3], name
        assert board.state.pc == boards[-1].state.pc, name
        assert image[:2] == images[-1][:2], name
        assert board.cpu.fatal_message == boards[-1].cpu.fatal_message
    return boards[-1]


def moved(board: Board, index: int = 0) -> Cpu:
    """The CPU's state in another one, through its section."""
    w = Writer()
    board.cpu.section().save(w)
    cpu = Cpu(index, MODELS[board.cpu.model.name], board.space, accel="interp")
    cpu.reset()
    cpu.section().load(BytesReader(w.getvalue()), 1)
    return cpu
