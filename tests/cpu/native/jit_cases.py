"""One wide instruction of any kind in the oracle and in a tier, from random states; the tier may use all it has."""

from __future__ import annotations

import random
from collections import Counter

from e2kemu.cpu import direct
from e2kemu.cpu.disasm import disassemble
from e2kemu.cpu.insn import Wide
from e2kemu.cpu.isa.traps import BY_BIT
from e2kemu.cpu.windows import Trap
from tests.cpu.guest import CODE, Guest
from tests.cpu.native.interp_cases import PARTS, SCRATCH, SCRATCH_BYTES, prepare, tame

BEHIND = b"\xff" * 64


class Pairs:
    """An oracle and a CPU with ``accel``; "jit" translates everything it meets."""

    def __init__(self, model: str, accel: str) -> None:
        self.plain, self.tier = Guest(model=model, accel="reference"), Guest(model=model, accel=accel)
        self.outcomes: Counter[str] = Counter()
        if accel == "jit":
            assert self.tier.cpu.translator is not None
            self.tier.cpu.translator.eager, self.tier.cpu.translator.level = True, 0

    def load(self, data: bytes) -> None:
        """Code for both."""
        for guest in (self.plain, self.tier):
            guest.space.write_bytes(CODE, data + BEHIND)

    def compare(self, wide: Wide, seed: int, dirty: float | None) -> None:
        """Execute ``wide`` from random state ``seed`` (``dirty`` None: a tame one): both end in the same state."""
        for guest in (self.plain, self.tier):
            rng = random.Random(seed)
            prepare(guest.state, rng, dirty or 0.0)
            if dirty is None:
                tame(guest.state, rng)
            guest.state.pc = wide.address
            guest.ram.mem[SCRATCH : SCRATCH + SCRATCH_BYTES] = rng.randbytes(SCRATCH_BYTES)
            guest.ram.harvest_dirty()
        told = f"seed {seed}, tags {dirty}: {'; '.join(disassemble(wide))}"
        raised = ""
        try:
            direct.execute(self.plain.cpu.core, wide)
        except Trap as trap:
            raised = BY_BIT[trap.exc].name
        result = self.tier.cpu.run(1)
        assert (result == "fatal") == bool(raised), (told, raised, self.tier.cpu.fatal_message)
        if raised:
            assert self.tier.cpu.fatal_reason.split()[0] == raised, told
        self.outcomes[raised or "done"] += 1
        for part in PARTS:
            ours, theirs = (getattr(guest.state, part).tolist() for guest in (self.tier, self.plain))
            assert ours == theirs, f"{told}: {part} " + ", ".join(
                f"[{index}] {a:#x} for {b:#x}" for index, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
        for page in (self.tier.ram.dirty | self.plain.ram.dirty).nonzero()[0].tolist():
            one = slice(page << 12, page + 1 << 12)
            assert self.tier.ram.mem[one] == self.plain.ram.mem[one], f"{told}: memory at {page << 12:#x}"
