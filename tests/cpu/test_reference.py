"""Translated code against the oracle, programs, self-modifying code."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2kemu.cpu import direct
from e2kemu.cpu.asm import assemble
from e2kemu.cpu.asm_lexer import AsmError
from e2kemu.cpu.decode import check, decode
from e2kemu.cpu.isa import table
from e2kemu.cpu.isa.traps import BY_BIT
from e2kemu.cpu.state import Slot
from e2kemu.cpu.windows import Trap
from tests.cpu.guest import CODE, Guest

VERSION = 4
OPS = [op for op in table.rows() if op.meaning and op.channels[VERSION] and not set(op.sizes) - set("SDB")
       and not op.alias_of and op.fmt.name not in ("ALOPF15", "ALOPF16") and not {"aau", "aaldi"} & set(op.fmt.slots)]
CONDITIONS = ("", "? %pred0", "? ~%pred1", "? %pred2", "? %pcnt0", "? %pred3, %pcnt1")
SCRATCH = 0x20000


def operation(rng: random.Random, channel: int) -> str:
    """The text of a random operation for a channel."""
    op = rng.choice([op for op in OPS if op.in_channel(channel, VERSION)])
    operands = []
    memory = bool(op.load or op.store)
    for index, (slot, letter) in enumerate(zip(op.fmt.slots, op.sizes, strict=True)):
        mark = "d" if letter == "D" else ""
        if letter == "B":
            operands.append(f"%pred{rng.randrange(6)}")
        elif memory and index == 0:
            operands.append(f"%dr{rng.choice((16, 17))}")
        elif memory and index == 1:
            operands.append(str(rng.randrange(0, 64)))
        elif slot == "src1" and rng.random() < 0.2:
            operands.append(str(rng.randrange(32)))
        elif slot == "src2" and rng.random() < 0.3:
            operands.append(str(rng.choice((0, 1, 7, 15, -1, 200, -30000))))
        else:
            kind = rng.choice(("r", "r", "r", "g", "b"))
            number = rng.randrange(8)
            operands.append(f"%{mark}b[{number}]" if kind == "b" else f"%{mark}{kind}{number}")
    if op.store:
        operands = [operands[2], f"[{operands[0]} + {operands[1]}]"]
    elif memory:
        operands = [f"[{operands[0]} + {operands[1]}]", operands[2]]
    if op.family.startswith("merge"):
        operands.append(f"%pred{rng.randrange(4)}")
        condition = ""
    else:
        condition = rng.choice(CONDITIONS)
    return f"{op.name},{channel}{rng.choice(('', ',sm'))} {', '.join(operands)} {condition}"


def program(rng: random.Random) -> bytes:
    """A random legal wide instruction."""
    while True:
        channels = rng.sample(range(6), rng.randrange(1, 6))
        lines = [operation(rng, channel) for channel in sorted(channels)]
        if rng.random() < 0.4:
            lines += ["pass %pred0, @p0", "pass %pred4, @p1",
                      f"{rng.choice(('andp', 'landp', 'movep'))} @p0, ~@p1, @p4", "pass @p4, %pred7"]
        if rng.random() < 0.2:
            lines.append("abn abnf=1, abnt=1")
        if rng.random() < 0.2:
            lines.append("alc alcf=1, alct=1")
        try:
            data = assemble("{\n" + "\n".join(lines) + "\n}", version=VERSION, base=CODE).data
        except AsmError:
            continue
        if check(decode(data, VERSION)) is None:
            return data


def fill(guest: Guest, seed: int, dirty: float) -> None:
    """A random state: small and large numbers, tags with probability ``dirty``."""
    rng = random.Random(seed)
    state = guest.state
    values = (0, 1, 2, 31, 32, 63, 0x7FFFFFFF, 0x80000000, (1 << 63), (1 << 64) - 1)
    for name in [f"r{i}" for i in range(16)] + [f"g{i}" for i in range(8)]:
        state[name] = rng.choice((rng.choice(values), rng.getrandbits(64)))
        state[f"{name}.tag"] = rng.choice((1, 4, 5, 10)) if rng.random() < dirty else 0
    for i in range(32):
        state[f"pred{i}"] = rng.choice((2, 3)) if rng.random() < dirty / 2 else rng.randrange(2)
    state["pfpfr"] = rng.choice((0x1F80, 0x1FA0, 0x1FA0, 0x1FA0, 0x1FA0, rng.getrandbits(32))) & ~(1 << 6)
    state["lsr"] = rng.randrange(4) | rng.randrange(3) << 32 | 1 << 37 | rng.randrange(3) << 48
    base = state.X[Slot.BASE]
    state.R[base + 16], state.R[base + 17] = SCRATCH, SCRATCH + 4096
    guest.ram.mem[SCRATCH : SCRATCH + 8192] = rng.randbytes(8192)


@settings(max_examples=250, deadline=None)
@given(st.integers(0, 1 << 48), st.sampled_from((0.0, 0.0, 0.05, 0.3)))
def test_translated_code_does_what_the_oracle_does(seed: int, dirty: float) -> None:
    code = program(random.Random(seed))
    plain, compiled = Guest("{ setwd wsz=12, nfx=1; setbn rbs=0, rsz=7, rcur=3 }"), Guest(
        "{ setwd wsz=12, nfx=1; setbn rbs=0, rsz=7, rcur=3 }")
    for guest in (plain, compiled):
        assert guest.cpu.step() == "limit"
        guest.space.write_bytes(CODE, code)
        guest.state.pc = CODE
        fill(guest, seed, dirty)
    wide = plain.cpu.reference.fetch(CODE)
    raised = ""
    try:
        direct.execute(plain.cpu.core, wide)
    except Trap as trap:
        raised = BY_BIT[trap.exc].name
    result = compiled.cpu.step()
    assert (result == "fatal") == bool(raised), (raised, compiled.cpu.fatal_message)
    if raised:
        assert compiled.cpu.fatal_reason.split()[0] == raised
    for part in "RTEPSXC":
        assert getattr(plain.state, part).tolist() == getattr(compiled.state, part).tolist(), part
    assert plain.ram.mem[SCRATCH : SCRATCH + 8192] == compiled.ram.mem[SCRATCH : SCRATCH + 8192]
    assert (plain.ram.dirty == compiled.ram.dirty).all()


@pytest.mark.parametrize(("name", "output"), [
    ("alu-small", b"36de24a510e19c08\n"), ("mem-small", b"00000002838c4000\n"), ("call-small", b"89be5361a5bb2d4d\n"),
    ("sieve-small", b"primes below 2000: 303, sum 277050\n")])
def test_programs_print_what_they_must(name: str, output: bytes) -> None:
    guest = Guest()
    guest.load_elf(name)
    assert guest.cpu.run() == "exit"
    assert (guest.output, guest.status) == (output, 0)


def test_the_number_of_wide_instructions_does_not_depend_on_the_kind_of_block() -> None:
    counts = []
    for hook in (False, True):
        guest = Guest()
        guest.load_elf("call-small")
        if hook:
            guest.cpu.on_block(lambda cpu, pc: None)
        assert guest.cpu.run() == "exit"
        counts.append(guest.cpu.executed)
    assert counts[0] == counts[1] > 10_000


def test_a_limit_is_exact_and_execution_goes_on_from_there() -> None:
    whole, parts = Guest(), Guest()
    for guest in (whole, parts):
        guest.load_elf("alu-small")
    assert whole.cpu.run(1000) == "limit"
    for size in (1, 7, 492, 500):
        assert parts.cpu.run(size) == "limit"
    assert whole.state.buffer.tobytes() == parts.state.buffer.tobytes()
    assert whole.cpu.executed == parts.cpu.executed == 1000


def test_code_changed_from_outside_is_translated_again() -> None:
    guest = Guest("{ addd,0 0, 1, %dr0 }\n{ addd,0 0, 2, %dr1 }")
    guest.cpu.run(2)
    assert guest.state["r1"] == 2
    guest.load("{ addd,0 0, 5, %dr1 }\n{ addd,0 0, 6, %dr2 }")
    guest.cpu.run(2)
    assert (guest.state["r1"], guest.state["r2"]) == (5, 6)


def test_a_store_into_the_running_block_takes_effect_at_the_next_wide_instruction() -> None:
    guest = Guest("""
        { ldd,0 [ %dg1 + 0 ], %dr3 }
        { std,2 %dr3, [ %dg2 + 0 ] }
    target:
        { addd,0 0, 1, %dr5 }
        { addd,0 %dr5, 1, %dr5 }""")
    target = guest.symbols["target"]
    other = assemble("{ addd,0 0, 8, %dr5 }", version=4, base=target).data
    assert len(other) == 8
    guest.space.write_bytes(SCRATCH, other)
    guest.state["g1"], guest.state["g2"] = SCRATCH, target
    assert guest.cpu.run(4) == "limit"
    assert guest.state["r5"] == 9


def test_stores_mark_their_pages_dirty() -> None:
    guest = Guest("{ std,2 %dg1, [ %dg0 + 0 ]; stb,5 %g1, [ %dg2 + 0 ] }")
    guest.state["g0"], guest.state["g2"] = SCRATCH, SCRATCH + 0x3FFC
    guest.ram.harvest_dirty()
    assert guest.cpu.step() == "limit"
    assert set(guest.ram.harvest_dirty().nonzero()[0]) == {SCRATCH >> 12, SCRATCH + 0x3FFC >> 12}
