"""One program in both executors: the oracle and the reference tier must leave the same state."""

from __future__ import annotations

from collections.abc import Callable

from e2kemu.cpu import direct
from e2kemu.cpu.isa.traps import BY_BIT
from e2kemu.cpu.windows import Trap
from tests.cpu.guest import Guest

PARTS = "RTEPSXCA"
Setup = Callable[[Guest], None]


def oracle(guest: Guest, steps: int) -> str:
    """``steps`` wide instructions straight away; the name of the exception that ended them, or ""."""
    for _ in range(steps):
        try:
            direct.execute(guest.cpu.core, guest.cpu.reference.fetch(guest.state.pc))
        except Trap as trap:
            return BY_BIT[trap.exc].name
    return ""


def reference(guest: Guest, steps: int) -> str:
    """The same with translated blocks."""
    guest.cpu.translator = None
    result = guest.cpu.run(steps)
    assert result in ("limit", "fatal"), result
    return guest.cpu.fatal_reason.split()[0] if result == "fatal" else ""


def both(text: str, steps: int, setup: Setup | None = None, *, model: str = "e8c") -> tuple[Guest, str]:
    """Run ``text`` in both; the guest and the exception it ended with (or "")."""
    pair = Guest(text, model), Guest(text, model)
    for guest in pair:
        if setup:
            setup(guest)
    ends = oracle(pair[0], steps), reference(pair[1], steps)
    assert ends[0] == ends[1], ends
    for part in PARTS:
        assert getattr(pair[0].state, part).tolist() == getattr(pair[1].state, part).tolist(), part
    plain, compiled = (guest.ram for guest in pair)
    assert (plain.dirty == compiled.dirty).all()
    for page in plain.dirty.nonzero()[0].tolist():
        assert plain.read(page << 12, 4096) == compiled.read(page << 12, 4096), hex(page << 12)
    return pair[1], ends[0]


class Pair:
    """One wide instruction, executed many times from states of the caller's making."""

    def __init__(self, text: str, model: str = "e8c") -> None:
        self.guests = Guest(text, model), Guest(text, model)
        self.start = self.guests[0].state.pc
        self.wide = self.guests[0].cpu.reference.fetch(self.start)

    def run(self, **registers: int) -> tuple[Guest, str]:
        """Execute it with these registers (``r1_tag=5`` is ``r1.tag``); the guest and the exception, or ""."""
        for guest in self.guests:
            guest.state.reset()
            guest.give_stacks()
            guest.state.pc = self.start
            for name, value in registers.items():
                guest.state[name.replace("_", ".")] = value
        plain, compiled = self.guests
        try:
            direct.execute(plain.cpu.core, self.wide)
            first = ""
        except Trap as trap:
            first = BY_BIT[trap.exc].name
        assert first == reference(compiled, 1), first
        for part in PARTS:
            assert getattr(plain.state, part).tolist() == getattr(compiled.state, part).tolist(), part
        return compiled, first
