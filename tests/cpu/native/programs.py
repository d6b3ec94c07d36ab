"""Random straight-line programs, executed by the oracle and by a tier, from many states."""

from __future__ import annotations

import random

from e2kemu.cpu import direct
from e2kemu.cpu.isa.traps import BY_BIT
from e2kemu.cpu.windows import Trap
from tests.cpu.guest import CODE, Guest
from tests.cpu.test_reference import SCRATCH, fill, program

WINDOW = "{ setwd wsz=12, nfx=1; setbn rbs=0, rsz=7, rcur=3 }"
BEHIND = b"\xff" * 64
"""No wide instruction: translation ends there."""


class Tiers:
    """One program of ``length`` wide instructions in two guests: the oracle's and the tier's."""

    def __init__(self, seed: int, length: int) -> None:
        rng = random.Random(seed)
        self.seed, self.length = seed, length
        self.code = b"".join(program(rng) for _ in range(length)) + BEHIND
        self.plain, self.tier = Guest(WINDOW), Guest(WINDOW)
        for guest in (self.plain, self.tier):
            assert guest.cpu.step() == "limit"
            guest.space.write_bytes(CODE, self.code)
        self.window = bytes(self.plain.state.buffer)
        self.wides = []
        at = CODE
        for _ in range(length):
            self.wides.append(self.plain.cpu.reference.fetch(at))
            at += self.wides[-1].size

    def compare(self, state: int, dirty: float) -> int:
        """Execute from random state ``state``, with tags of probability ``dirty``; the wide instructions executed."""
        for guest in (self.plain, self.tier):
            guest.state.buffer[:] = memoryview(self.window)
            guest.state.pc = CODE
            fill(guest, state, dirty)
        raised, done = "", 0
        by_address = {wide.address: wide for wide in self.wides}
        for _ in range(self.length):
            try:
                direct.execute(self.plain.cpu.core, by_address[self.plain.state.pc])
            except Trap as trap:
                raised = BY_BIT[trap.exc].name
                break
            done += 1
        before = self.tier.cpu.executed
        result = self.tier.cpu.run(self.length)
        told = f"program {self.seed}, state {state}, tags {dirty}, {done} wide instructions"
        assert (result == "fatal") == bool(raised), (told, raised, self.tier.cpu.fatal_message)
        if raised:
            assert self.tier.cpu.fatal_reason.split()[0] == raised, told
        else:
            assert self.tier.cpu.executed - before == done, told
        for part in "RTEPSXC":
            ours, theirs = (getattr(guest.state, part).tolist() for guest in (self.tier, self.plain))
            assert ours == theirs, f"{told}: {part} " + ", ".join(
                f"[{index}] {a:#x} for {b:#x}" for index, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
        assert self.plain.ram.mem[SCRATCH : SCRATCH + 8192] == self.tier.ram.mem[SCRATCH : SCRATCH + 8192], told
        return done
