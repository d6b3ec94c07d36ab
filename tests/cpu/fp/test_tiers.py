"""Random wide instructions of floating point: channels, guards, speculation, tags, any masks; every executor alike."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from e2kemu.cpu.direct import execute
from e2kemu.cpu.insn import AluInsn, Guard, Kind, Operand
from e2kemu.cpu.isa.traps import BY_BIT
from e2kemu.cpu.windows import Trap
from tests.cpu.fp.cases import described, load
from tests.cpu.guest import CODE, Guest

VERSION = 6
OPS = {channel: [op for op in described() if op.in_channel(channel, VERSION)] for channel in range(6)}
SPECIAL = (0, 1 << 63, 0x3FF0 << 48, 0x7FF0 << 48, 0xFFF0 << 48, 0x7FF8 << 48, 0x7FF4 << 48, 1, 0x000F << 48,
           0x7FEF_FFFF_FFFF_FFFF, 0x3F80_0000_3F80_0000, 0x7F80_0000_FFC0_0000, 0x0000_0001_7F7F_FFFF, 0xC000 << 48,
           1 << 62)
EXPONENTS = (0, 0x3FFF, 0x7FFF, 0xBFFE, 1, 0x4000)


def wide(rng: random.Random) -> list[AluInsn]:
    """Up to four operations whose encodings fit into one wide instruction."""
    insns = []
    for channel in sorted(rng.sample(range(6), rng.randrange(1, 5))):
        op = rng.choice(OPS[channel])
        operands = {slot: Operand(Kind.R, rng.randrange(8)) for slot in op.fmt.slots if slot.startswith("src")}
        predicate, register = rng.randrange(4), Operand(Kind.R, rng.randrange(8, 16))
        target = {"pred": predicate} if "pred" in op.fmt.slots else {"dst": register}
        guards = (Guard(rng.randrange(6), negated=rng.random() < 0.5),) if rng.random() < 0.4 else ()
        insns.append(AluInsn(channel, op, sm=rng.random() < 0.4, guards=guards, **operands, **target))  # type: ignore[arg-type]
    return insns


def fill(guest: Guest, rng: random.Random, dirty: float, masks: int) -> None:
    state = guest.state
    for index in range(16):
        state[f"r{index}"] = rng.choice((rng.choice(SPECIAL), rng.getrandbits(64)))
        state[f"r{index}.ext"] = rng.choice((rng.choice(EXPONENTS), rng.getrandbits(64)))
        state[f"r{index}.tag"] = rng.choice((1, 4, 5, 10)) if rng.random() < dirty else 0
    for index in range(8):
        state[f"pred{index}"] = rng.choice((2, 3)) if rng.random() < dirty / 2 else rng.randrange(2)
    state["pfpfr"] = masks << 7 | rng.randrange(8) << 13 | rng.choice((0, 0x20, rng.randrange(64)))
    state["fpcr"] = masks | 1 << 6 | rng.randrange(16) << 8
    state["fpsr"] = rng.choice((0, rng.randrange(64)))
    state.pc = CODE


@given(st.integers(0, 1 << 48), st.sampled_from((0.0, 0.0, 0.1)), st.sampled_from((63, 63, 31, 0, 59)))
@settings(max_examples=120, deadline=None)
def test_every_executor_leaves_the_same_state(seed: int, dirty: float, masks: int) -> None:
    rng = random.Random(seed)
    insns = wide(rng)
    guests = [Guest(model="e16c") for _ in range(3)]
    for guest in guests:
        load(guest, *insns)
        fill(guest, random.Random(seed), dirty, masks)
    plain, translated, native = guests
    assert native.cpu.translator is not None
    native.cpu.translator.eager, native.cpu.translator.level = True, 0
    raised = ""
    try:
        execute(plain.cpu.core, plain.cpu.reference.fetch(CODE))
    except Trap as trap:
        raised = BY_BIT[trap.exc].name
    for guest in (translated, native):
        assert (guest.cpu.step() == "fatal") == bool(raised), (raised, guest.cpu.fatal_message)
        if raised:
            assert guest.cpu.fatal_reason.split()[0] == raised
        for part in "RTEPSXC":
            assert getattr(plain.state, part).tolist() == getattr(guest.state, part).tolist(), part
