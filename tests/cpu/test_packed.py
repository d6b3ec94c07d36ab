"""Packed integer operations: golden vectors through the oracle and the translated source; models of our own."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2kemu.cpu.decode import decode
from e2kemu.cpu.direct import execute
from e2kemu.cpu.encode import encode
from e2kemu.cpu.insn import AluInsn, Guard, Kind, Operand, Wide
from e2kemu.cpu.isa import table
from e2kemu.cpu.isa.notation import Op
from e2kemu.cpu.isa.traps import EXC_DIAG_OPERAND
from e2kemu.cpu.values import PyValues
from e2kemu.cpu.windows import Trap
from tests.cpu.guest import CODE, Guest
from tests.cpu.vectors import lines

M64 = (1 << 64) - 1
BEFORE, BEFORE_EXT = 0x0123_4567_89AB_CDEF, 0xFEDC_BA98_7654_3210
MARKS = 0x4000_0000_4000_0000
WIDTH = {"S": 32, "D": 64, "P": 128, "B": 1}
SOURCES, RESULT = ("src1", "src2", "src3"), Operand(Kind.R, 4)


@dataclass(frozen=True)
class Case:
    """One operation on numbers; ``extra`` is its literal, or the condition of a merge."""

    op: Op
    cpu: str
    alc: int
    extra: int | None
    sources: tuple[int, ...]
    result: int


@cache
def cases() -> list[Case]:
    """All golden vectors."""
    found = []
    for line in lines("packed.jsonl"):
        (op, *_) = table.by_name(line["op"])
        assert line["sz"] == op.sizes
        for alc, extra, *numbers, result in line["cases"]:
            # some names have other codes in other channels
            (row,) = (row for row in table.by_name(op.name) if row.in_channel(alc, 6))
            found.append(Case(row, line["cpu"], alc, extra, tuple(int(n, 16) for n in numbers), int(result, 16)))
    return found


def described() -> list[Op]:
    """The operations under test: with a meaning from the packed modules, or carry-less."""
    return [
        op
        for op in table.rows()
        if op.meaning
        and not op.alias_of
        and (op.meaning.__module__.endswith((".packed", ".packed_moves")) or op.name in ("clmull", "clmulh"))
    ]


def instruction(case: Case, **more: Any) -> AluInsn:
    """The operation from %r1 %r2 %r3 to %r4 or %pred0; a merge looks at %pred1."""
    op = case.op
    slots = [slot for slot in op.fmt.slots if slot in SOURCES]
    operands = {slot: Operand(Kind.R, SOURCES.index(slot) + 1) for slot in slots}
    target = {"pred": 0} if "pred" in op.fmt.slots else {"dst": RESULT}
    merge = (Guard(1),) if op.merges else ()
    imm8 = case.extra if op.imm8 else None
    return AluInsn(case.alc, op, imm8=imm8, merge=merge, **operands, **target, **more)  # type: ignore[arg-type]


def data_of(guest: Guest, *insns: AluInsn) -> bytes:
    """The bytes of one wide instruction."""
    return encode(Wide(guest.cpu.model.version, 0, alu=insns))


def prepare(guest: Guest, case: Case) -> None:
    """Registers of a case; %r4 with its extension and %pred0 have something in them."""
    state = guest.state
    state.pc = CODE
    slots = [slot for slot in case.op.fmt.slots if slot in SOURCES]
    for slot, number in zip(slots, case.sources, strict=True):
        register = f"r{SOURCES.index(slot) + 1}"
        state[register], state[f"{register}.ext"] = number & M64, number >> 64
    state["r4"], state["r4.ext"], state["pred0"] = BEFORE, BEFORE_EXT, 0
    if case.op.merges:
        state["pred1"] = case.extra or 0


def expected(case: Case) -> tuple[int, int, int]:
    """%r4, its extension and %pred0 afterwards."""
    if case.op.sizes[-1] == "B":
        return BEFORE, BEFORE_EXT, case.result
    if case.op.sizes[-1] == "P":
        return case.result & M64, case.result >> 64, 0
    kept = BEFORE & 0xFFFF_FFFF_0000_0000 if case.op.sizes[-1] == "S" else 0
    return kept | case.result, BEFORE_EXT, 0


def found(guest: Guest) -> tuple[int, int, int]:
    state = guest.state
    return state["r4"], state["r4.ext"], state["pred0"]


def by_code(chosen: list[Case]) -> Iterator[tuple[Guest, list[Case], bytes]]:
    """Cases that are the same instruction, with a CPU that has it at CODE."""
    guests: dict[str, Guest] = {}
    groups: dict[tuple[Any, ...], list[Case]] = {}
    for case in chosen:
        literal = case.extra if case.op.imm8 else None
        groups.setdefault((case.op.name, case.cpu, case.alc, literal), []).append(case)
    for (_, cpu, *_), same in groups.items():
        guest = guests.setdefault(cpu, Guest(model=cpu))
        data = data_of(guest, instruction(same[0]))
        guest.space.write_bytes(CODE, data)
        yield guest, same, data


class Plain(PyValues):
    """PyValues with the condition of a merge."""

    def __init__(self, bits: int, condition: int) -> None:
        self.bits, self.condition = bits, condition

    def merge_condition(self) -> int:
        return self.condition


def meaning(op: Op, *sources: int, extra: int | None = None) -> int:
    """What the meaning says, straight."""
    arguments = [*sources, extra] if op.imm8 else list(sources)
    assert op.meaning
    return int(op.meaning(Plain({"S": 32, "P": 128}.get(op.sizes[0], 64), extra or 0), *arguments))


# --- golden vectors -------------------------------------------------------------------------------------


def test_every_described_operation_has_eight_vectors() -> None:
    """The 512 logic tables have six and the exhaustive test below; what v7 adds has cases in tests/guest."""
    count: dict[str, int] = {}
    for case in cases():
        count[case.op.name] = count.get(case.op.name, 0) + 1
    names = {op.name for op in described() if any(op.channels[:7])}
    assert len(names) >= 730
    assert [name for name in names if count.get(name, 0) < (6 if "plog" in name else 8)] == []


def test_the_oracle_gives_the_golden_results() -> None:
    done = 0
    for guest, same, data in by_code(cases()):
        wide = decode(data, guest.cpu.model.version, CODE)
        for case in same:
            prepare(guest, case)
            execute(guest.cpu.core, wide)
            assert found(guest) == expected(case), case
            done += 1
    assert done >= 5800


def test_translated_source_gives_the_golden_results() -> None:
    done = 0
    for guest, same, _ in by_code(cases()):
        for case in same:
            prepare(guest, case)
            assert guest.cpu.run(1) == "limit", guest.cpu.fatal_message
            assert found(guest) == expected(case), case
            done += 1
    assert done >= 5800


def some_cases(step: int) -> list[Case]:
    """A few cases, of every kind of operation, without the many logic tables."""
    chosen = [case for case in cases() if "plog" not in case.op.name][::step]
    return chosen + [case for case in cases() if "plog" in case.op.name][:: 20 * step]


def test_a_guard_that_is_false_leaves_register_extension_and_predicate() -> None:
    for case in some_cases(9):
        guest = Guest(model=case.cpu)
        guest.space.write_bytes(CODE, data_of(guest, instruction(case, guards=(Guard(2),))))
        for holds in (0, 1):
            prepare(guest, case)
            guest.state["pred2"] = holds
            assert guest.cpu.run(1) == "limit", guest.cpu.fatal_message
            assert found(guest) == (expected(case) if holds else (BEFORE, BEFORE_EXT, 0)), case


def test_a_diagnostic_operand_traps_or_marks_every_half_of_the_result() -> None:
    for case in some_cases(17):
        if case.op.merges:
            continue
        guest = Guest(model=case.cpu)
        for sm in (False, True):
            insn = instruction(case, sm=sm)
            data = data_of(guest, insn)
            for slot in (slot for slot in SOURCES if getattr(insn, slot)):
                guest.space.write_bytes(CODE, data)
                guest.cpu.invalidate(CODE, len(data))
                prepare(guest, case)
                guest.state[f"r{SOURCES.index(slot) + 1}.tag"] = 5
                if not sm:
                    wide = decode(data, guest.cpu.model.version, CODE)
                    with pytest.raises(Trap) as caught:
                        execute(guest.cpu.core, wide)
                    assert caught.value.exc == EXC_DIAG_OPERAND
                    assert guest.cpu.run(1) == "fatal"
                    assert guest.cpu.fatal_reason.startswith("exc_diag_operand"), case
                    assert found(guest) == (BEFORE, BEFORE_EXT, 0)
                    continue
                low, high, pred = expected(case)
                marks = MARKS & 0xFFFF_FFFF if case.op.sizes[-1] == "S" else MARKS
                if case.op.sizes[-1] == "B":
                    want, tag = (low, high, pred | 2), 0
                else:
                    want = (low | marks, high | MARKS if case.op.sizes[-1] == "P" else high, pred)
                    tag = 1 if case.op.sizes[-1] == "S" else 5
                assert guest.cpu.run(1) == "limit", guest.cpu.fatal_message
                assert found(guest) == want, case
                assert guest.state["r4.tag"] == tag, case


def test_of_two_writers_the_higher_channel_wins_with_both_halves() -> None:
    first = Case(table.by_name("qpand")[0], "e8c2", 0, None, (3 << 64 | 5, 6 << 64 | 12), 2 << 64 | 4)
    second = replace(instruction(first), op=table.by_name("qpor")[0], channel=3, guards=(Guard(2),))
    guest = Guest(model="e8c2")
    guest.space.write_bytes(CODE, data_of(guest, instruction(first), second))
    for holds, low, high in ((0, 4, 2), (1, 13, 7)):
        prepare(guest, first)
        guest.state["pred2"] = holds
        assert guest.cpu.run(1) == "limit", guest.cpu.fatal_message
        assert found(guest) == (low, high, 0)


def test_a_loop_exchanges_and_adds_registers_of_128_bits() -> None:
    """One wide instruction exchanges two of them, the next adds a third to one."""
    guest = Guest(
        """
        loop:
        {
            qpor,0 %qpr1, %qpr1, %qpr2
            qpor,1 %qpr2, %qpr2, %qpr1
        }
        {
            qpaddd,0 %qpr1, %qpr3, %qpr1
            ibranch loop
        }
        """,
        "e8c2",
    )
    state = guest.state
    for register, (low, high) in {"r1": (1, 2), "r2": (100, 200), "r3": (M64, 10)}.items():
        state[register], state[f"{register}.ext"] = low, high
    assert guest.cpu.run(2 * 5) == "limit", guest.cpu.fatal_message
    # five exchanges; 3 additions went to what was in %r2, 2 to what was in %r1
    assert (state["r1"], state["r1.ext"]) == (97, 230)
    assert (state["r2"], state["r2.ext"]) == (M64, 22)


def test_a_pack_code_literal_is_refused_by_name() -> None:
    guest = Guest(model="e8c2")
    op = table.by_name("qppermb")[0]
    code = Operand(Kind.LIT32, 0x1234)
    insn = AluInsn(0, op, dst=RESULT, src1=Operand(Kind.R, 1), src2=Operand(Kind.R, 2), src3=code)
    with pytest.raises(Trap, match="qppermb"):
        execute(guest.cpu.core, Wide(7, 16, CODE, alu=(insn,)))


# --- memory -----------------------------------------------------------------------------------------------

DATA = 0x40000


def one(guest: Guest, text: str) -> str:
    """Assemble and execute one wide instruction."""
    guest.load(f"{{ {text} }}")
    guest.cpu.invalidate(CODE, 64)
    return guest.cpu.run(1)


@pytest.mark.parametrize("offset", [0, 1, 8, 13])
def test_ldqp_and_stqp_move_sixteen_bytes(offset: int) -> None:
    guest, data = Guest(model="e8c2"), bytes(range(0x80, 0x90))
    state = guest.state
    guest.space.write_bytes(DATA + offset, data)
    state["r1"], state["r2"] = DATA, offset
    assert one(guest, "ldqp,0 %dr1, %dr2, %qpr4") == "limit", guest.cpu.fatal_message
    assert state["r4"] | state["r4.ext"] << 64 == int.from_bytes(data, "little")
    state["r1"] = DATA + 0x100
    assert one(guest, "stqp,2 %qpr4, %dr1, %dr2") == "limit", guest.cpu.fatal_message
    assert guest.space.read_bytes(DATA + 0x100 + offset - 1, 18) == b"\0" + data + b"\0"


@given(mask=st.integers(0, 0xFFFF), value=st.binary(min_size=16, max_size=16))
@settings(max_examples=25, deadline=None)
def test_stmqp_stores_the_bytes_of_its_mask(mask: int, value: bytes) -> None:
    guest = Guest(model="e8c2")
    state = guest.state
    old = bytes(range(16))
    guest.space.write_bytes(DATA, old)
    state["r1"], state["r2"] = DATA, mask
    state["r4"], state["r4.ext"] = (int.from_bytes(half, "little") for half in (value[:8], value[8:]))
    assert one(guest, "stmqp,2 %qpr4, %dr1, %dr2") == "limit", guest.cpu.fatal_message
    want = bytes(value[i] if mask >> i & 1 else old[i] for i in range(16))
    assert guest.space.read_bytes(DATA, 16) == want


def test_a_speculative_ldqp_from_nowhere_is_diagnostic_in_both_halves() -> None:
    guest = Guest(model="e8c2")
    guest.state["r1"], guest.state["r2"] = 0x7FFF_0000_0000, 0
    assert one(guest, "ldqp,0,sm %dr1, %dr2, %qpr4") == "limit", guest.cpu.fatal_message
    assert (guest.state["r4"], guest.state["r4.ext"], guest.state["r4.tag"]) == (0x4AFA_FAFA_4AFA_FAFA,) * 2 + (5,)


# --- models of our own ---------------------------------------------------------------------------------------

BITS = {"b": 8, "h": 16, "w": 32, "d": 64}
Array = Any
Model = Callable[[Array, Array], Array]


def array(number: int, bits: int, size: int, signed: bool) -> Array:
    kind = {8: "1", 16: "2", 32: "4", 64: "8"}[size]
    return np.frombuffer(number.to_bytes(bits // 8, "little"), dtype=f"<{'i' if signed else 'u'}{kind}")


def wide(a: Array) -> Array:
    """The elements as numbers without limit."""
    return a.astype(object)


def saturated(size: int, signed: bool, model: Model) -> Model:
    """``model`` with results that stop at the limits."""
    low, high = (-(1 << size - 1), (1 << size - 1) - 1) if signed else (0, (1 << size) - 1)
    return lambda x, y: np.clip(model(x, y), low, high)


def models() -> dict[str, tuple[int, bool, Model]]:
    """64-bit mnemonic -> bits of an element, signed, the result as numbers (taken modulo the width)."""
    found: dict[str, tuple[int, bool, Model]] = {}
    for letter, size in BITS.items():
        found[f"padd{letter}"] = (size, False, lambda x, y: x + y)
        found[f"psub{letter}"] = (size, False, lambda x, y: x - y)
        found[f"pcmpeq{letter}"] = (size, True, lambda x, y: -(x == y).astype(int))
        found[f"pcmpgt{letter}"] = (size, True, lambda x, y: -(x > y).astype(int))
        if letter in "bhw":
            for code, signed in (("u", False), ("s", True)):
                found[f"pmin{code}{letter}"] = (size, signed, np.minimum)
                found[f"pmax{code}{letter}"] = (size, signed, np.maximum)
            found[f"psign{letter}"] = (size, True, lambda x, y: x * np.sign(y))
        if letter in "bh":
            for code, signed in (("us", False), ("s", True)):
                found[f"padd{code}{letter}"] = (size, signed, saturated(size, signed, lambda x, y: x + y))
                found[f"psub{code}{letter}"] = (size, signed, saturated(size, signed, lambda x, y: x - y))
            found[f"pavgus{letter}"] = (size, False, lambda x, y: (x + y + 1) // 2)
    found["pmulhh"] = (16, True, lambda x, y: x * y // 65536)
    found["pmulhuh"] = (16, False, lambda x, y: x * y // 65536)
    found["pmullh"] = (16, True, lambda x, y: x * y)
    found["pmullw"] = (32, True, lambda x, y: x * y)
    found["pmulhrsh"] = (16, True, lambda x, y: (x * y + 0x4000) // 0x8000)
    return found


MODELS = models()
EDGES = st.sampled_from([0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, M64, 1 << 63])
HALVES = st.one_of(EDGES, st.integers(0, M64), st.integers(0, 255).map(lambda byte: byte * 0x0101_0101_0101_0101))
NUMBERS = st.tuples(HALVES, HALVES).map(lambda halves: halves[0] << 64 | halves[1])


@given(st.sampled_from(sorted(MODELS)), st.booleans(), NUMBERS, NUMBERS)
@settings(max_examples=600, deadline=None)
def test_elements_compute_as_in_a_model(name: str, twin: bool, a: int, b: int) -> None:
    (op, *_) = table.by_name("q" + name if twin else name)
    bits = 128 if twin else 64
    a, b = a & (1 << bits) - 1, b & (1 << bits) - 1
    size, signed, model = MODELS[name]
    numbers = model(*(wide(array(x, bits, size, signed)) for x in (a, b)))
    want = sum((int(n) & (1 << size) - 1) << index * size for index, n in enumerate(numbers))
    assert meaning(op, a, b) == want


@given(
    st.sampled_from([f"ps{way}{letter}" for way in ("ll", "rl", "ra", "rc") for letter in "hwd"]),
    NUMBERS,
    st.one_of(st.integers(0, 70), st.integers(0, M64)),
)
@settings(max_examples=400, deadline=None)
def test_shifts_of_elements_as_in_a_model(name: str, number: int, count: int) -> None:
    size = BITS[name[-1]]
    for op, bits in [(op, 128 if op.name[0] == "q" else 64) for n in (name, "q" + name) for op in table.by_name(n)]:
        a = number & (1 << bits) - 1
        want = 0
        for index, lane in enumerate(wide(array(a, bits, size, name[2:4] == "ra"))):
            n = min(count, size)
            turned = lane << size - count % size | lane >> count % size
            result = {"ll": lane << n, "rl": lane >> n, "ra": lane >> n, "rc": turned}[name[2:4]]
            want |= (int(result) & (1 << size) - 1) << index * size
        assert meaning(op, a, count) == want, op.name


@given(st.sampled_from([(code, *size) for code in "su" for size in (("hb", 16), ("wh", 32))]), NUMBERS, NUMBERS)
@settings(max_examples=200, deadline=None)
def test_packing_saturates_as_in_a_model(case: tuple[str, str, int], a: int, b: int) -> None:
    code, letters, size = case
    half = size // 2
    low, high = (-(1 << half - 1), (1 << half - 1) - 1) if code == "s" else (0, (1 << half) - 1)
    for prefix, bits in (("", 64), ("q", 128)):
        (op,) = table.by_name(f"{prefix}pack{code}s{letters}")
        x, y = a & (1 << bits) - 1, b & (1 << bits) - 1
        row = [*wide(array(y, bits, size, True)), *wide(array(x, bits, size, True))]
        want = sum((min(max(int(n), low), high) & (1 << half) - 1) << index * half for index, n in enumerate(row))
        assert meaning(op, x, y) == want


def test_every_logic_table_is_right_for_every_combination_of_bits() -> None:
    for index in range(256):
        for name, bits in ((f"plog_{index:#04x}", 64), (f"qplog_{index:#04x}", 128)):
            (op,) = table.by_name(name)
            a, b, c = (sum(1 << bit for bit in range(bits) if bit >> way & 1) for way in (2, 1, 0))
            want = sum(1 << bit for bit in range(bits) if index >> (bit & 7) & 1)
            assert meaning(op, a, b, c) == want, name


def test_byte_shuffles_agree_with_a_byte_by_byte_model() -> None:
    seed = 20261123
    print(f"seed {seed}")
    chance = random.Random(seed)
    (pshufb,), (qppermb,) = table.by_name("pshufb"), table.by_name("qppermb")

    def altered(byte: int, invert: int, reverse: int, sign: int) -> int:
        byte = int(f"{byte:08b}"[::-1], 2) if reverse else byte
        byte = (0xFF if byte & 0x80 else 0) if sign else byte
        return byte ^ 0xFF if invert else byte

    for d in range(256):
        a, b = chance.getrandbits(128), chance.getrandbits(128)
        pool = (b & M64).to_bytes(8, "little") + (a & M64).to_bytes(8, "little")
        constant = {2: 0x7F, 4: 0x80, 6: 0xFF}.get(d >> 4 & 7, 0)
        byte = constant if d & 0x80 else altered(pool[d & 15], d & 0x10, d & 0x20, d & 0x40)
        assert meaning(pshufb, a & M64, b & M64, d * 0x0101_0101_0101_0101) == byte * 0x0101_0101_0101_0101
        source = (a if d & 0x10 else b).to_bytes(16, "little")
        byte = altered(source[d & 15], d & 0x20, d & 0x40, d & 0x80)
        everywhere = (1 << 128) // 0xFF
        assert meaning(qppermb, a, b, d * everywhere) == byte * everywhere


@given(a=st.integers(0, M64), b=st.integers(0, M64))
@settings(max_examples=50, deadline=None)
def test_carry_less_products_are_sums_of_shifts(a: int, b: int) -> None:
    product = 0
    for bit in range(64):
        product ^= a << bit if b >> bit & 1 else 0
    low, high = (table.by_name(name)[0] for name in ("clmull", "clmulh"))
    assert (meaning(low, a, b), meaning(high, a, b)) == (product & M64, product >> 64)
