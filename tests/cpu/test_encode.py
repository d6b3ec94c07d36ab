"""Meaning -> bytes: the encoder against the golden vectors and the decoder, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2kemu.cpu.decode import decode
from e2kemu.cpu.encode import EncodeError, Literals, encode
from e2kemu.cpu.insn import AluInsn, Condition, Cs0, Cs1, Guard, Kind, Operand, Stub, Wide
from e2kemu.cpu.isa import table
from e2kemu.cpu.isa.notation import Op
from tests.cpu.vectors import disassembled

ADDD = table.by_name("addd")[0]
LDD = table.by_name("ldd")[0]
R1 = Operand(Kind.R, 1)


def same_order(insn: AluInsn) -> AluInsn:
    """Conditions of an operation have no order of their own."""
    return replace(insn, guards=tuple(sorted(insn.guards, key=lambda g: (g.index, g.is_pcnt, g.negated))))


def meaning(wide: Wide, codes: bool = True) -> Wide:
    """``wide`` without what is the encoder's choice: its size and, unless ``codes``, the literals' slots."""

    def bare(operand: Operand | None) -> Operand | None:
        return operand if operand is None or codes else replace(operand, code=None)

    alu = tuple(
        replace(
            same_order(i),
            src1=bare(i.src1),
            src2=bare(i.src2),
            src3=bare(i.src3),
            src4=bare(i.src4),
            dst=bare(i.dst),
        )
        for i in wide.alu
    )
    return replace(wide, size=0, alu=alu, reserved=())


def test_every_golden_vector_keeps_its_meaning_and_most_their_bytes() -> None:
    total = equal = 0
    for vector in disassembled():
        if vector["kind"] == "apb":
            continue
        wide = decode(vector["data"], vector["iset"], vector.get("addr", 0))
        data = encode(wide)
        equal += data == vector["data"]
        again = decode(data, vector["iset"], vector.get("addr", 0))
        assert meaning(again) == meaning(wide), vector
        total += 1
    assert total >= 20546
    assert equal >= 16000


def usable_rows() -> list[tuple[int, int, Op]]:
    """(version, channel, row) of everything that can issue and whose operands are plain registers."""
    return [
        (version, int(channel), op)
        for op in table.rows()
        if not op.alias_of
        and "aau" not in op.fmt.slots
        and "aaldi" not in op.fmt.slots
        and op.name != "icalld"
        for version in range(2, 8)
        for channel in op.channels[version]
        if not op.pair or any(pair[0] == channel for pair in op.pair.split("/"))
    ]


ROWS = usable_rows()
registers = st.one_of(
    st.builds(Operand, st.just(Kind.R), st.integers(0, 62)),
    st.builds(Operand, st.just(Kind.G), st.integers(0, 30)),
    st.builds(Operand, st.just(Kind.B), st.integers(0, 126)),
)
literals = st.one_of(
    st.builds(Operand, st.just(Kind.IMM), st.integers(0, 15)),
    st.builds(Operand, st.just(Kind.LIT16), st.integers(0, 0xFFFF)),
    st.builds(Operand, st.just(Kind.LIT32), st.integers(0, 0xFFFF_FFFF)),
    st.builds(Operand, st.just(Kind.LIT64), st.integers(0, (1 << 64) - 1)),
)
guards = st.lists(
    st.builds(Guard, st.integers(0, 31), st.booleans(), st.booleans()),
    max_size=2,
    unique_by=lambda g: (g.index, g.is_pcnt),
).map(tuple)


@st.composite
def one_operation(draw: st.DrawFn) -> tuple[int, AluInsn]:
    """A random operation of the table with random operands, in a channel that takes it."""
    version, channel, op = draw(st.sampled_from(ROWS))
    second = next((int(p[1]) for p in op.pair.split("/") if op.pair and p[0] == str(channel)), None)
    values: dict[str, object] = {}
    for slot in op.fmt.slots:
        if slot == "src2":
            values[slot] = draw(registers | literals if "Q" not in op.sizes else registers)
        elif slot == "pred":
            values[slot] = draw(st.integers(0, 31))
        elif slot == "sreg":
            values[slot] = 0x83
        elif slot == "src1":
            values[slot] = draw(
                registers
                if "Q" in op.sizes
                else registers | st.builds(Operand, st.just(Kind.IMM), st.integers(0, 31))
            )
        else:
            values[slot] = draw(registers)
    if op.imm8:
        values["imm8"] = draw(st.integers(0, 0xFF))
    merge = draw(guards.filter(lambda g: len(g) == 1)) if op.merges else ()
    return version, AluInsn(
        channel, op, sm=draw(st.booleans()), guards=draw(guards), merge=merge, pair_channel=second,
        mas=draw(st.integers(0, 0x3E)) if op.mas and channel in (0, 2, 3, 5) else op.mas_code or 0, **values)  # type: ignore[arg-type]  # fmt: skip


@given(one_operation(), st.integers(0, 7), st.booleans())
@settings(max_examples=400, deadline=None)
def test_a_random_operation_survives_encode_and_decode(
    case: tuple[int, AluInsn], nop: int, loop_mode: bool
) -> None:
    version, insn = case
    wide = Wide(version, 0, nop=nop, loop_mode=loop_mode, alu=(insn,))
    again = decode(encode(wide), version)
    assert again.nop == nop
    assert again.loop_mode == loop_mode
    (found,) = meaning(again, codes=False).alu
    expected = same_order(insn)
    assert replace(found, op=insn.op) == expected
    assert (found.op.cop, found.op.fmt.slots) == (insn.op.cop, insn.op.fmt.slots)


def test_the_random_rows_are_most_of_the_table() -> None:
    assert len({op.name for _, _, op in ROWS}) >= 1700


@given(st.lists(st.tuples(literals.filter(lambda o: o.kind is not Kind.IMM)), min_size=1, max_size=6))
@settings(max_examples=200, deadline=None)
def test_literals_that_are_placed_read_back(operands: list[tuple[Operand]]) -> None:
    alu = tuple(AluInsn(n, ADDD, src1=R1, src2=operand, dst=R1) for n, (operand,) in enumerate(operands))
    wide = Wide(4, 0, alu=alu)
    try:
        data = encode(wide)
    except EncodeError as error:
        assert "do not fit" in str(error)  # noqa: PT017
        needed = {operand.value >> 32 * part & 0xFFFF_FFFF for (operand,) in operands for part in range(2)}
        assert len(needed) > 2
        return
    assert [replace(i.src2 or R1, code=None) for i in decode(data, 4).alu] == [
        operand for (operand,) in operands
    ]


def test_equal_literals_share_their_place() -> None:
    alu = tuple(
        AluInsn(n, ADDD, src1=R1, src2=Operand(Kind.LIT64, 0x1122334455667788), dst=R1) for n in range(6)
    )
    assert len(encode(Wide(4, 0, alu=alu))) == 40


def test_a_literal_may_lie_within_another() -> None:
    found = Literals()
    codes = found.solve(
        [Operand(Kind.LIT32, 0xFFFF_FFFF), Operand(Kind.LIT64, 0x1_FFFF_FFFF), Operand(Kind.LIT16, 0)]
    )
    assert codes == [0xD8, 0xDC, 0xD5]
    assert found.words() == [0xFFFF_FFFF, 1]


REFUSED = [
    (
        "four LTS words",
        Wide(
            4,
            0,
            alu=tuple(
                AluInsn(n, ADDD, src1=R1, src2=Operand(Kind.LIT64, 0x0101010101010101 * (n + 1)), dst=R1)
                for n in range(3)
            ),
        ),
    ),
    ("two operations in channel 1", Wide(4, 0, alu=(AluInsn(1, ADDD, src1=R1, src2=R1, dst=R1),) * 2)),
    (
        "mas and call cannot be in one",
        Wide(
            4,
            0,
            cs1=(Cs1("call", {"wbs": 4}),),
            stub=Stub(ctop=1, condition=Condition(1)),
            alu=(AluInsn(0, LDD, src1=R1, src2=R1, dst=R1, mas=7),),
        ),
    ),
    (
        "there is room for 6",
        Wide(
            4,
            0,
            alu=tuple(
                AluInsn(n, ADDD, src1=R1, src2=R1, dst=R1, guards=(Guard(2 * n), Guard(2 * n + 1)))
                for n in range(4)
            ),
        ),
    ),
    (
        "setwd and wait cannot be in one",
        Wide(4, 0, cs1=(Cs1("wait", {"all_c": 1}), Cs1("setwd", {"wsz": 8, "nfx": 1}))),
    ),
    ("is not a multiple of 8", Wide(4, 0, cs0=Cs0("disp", 1, 12))),
    (
        "the first format of SS",
        Wide(
            5,
            0,
            stub=Stub(sf2=True),
            movas=decode(bytes.fromhex("11100000003000c001400200 00005140".replace(" ", "")), 5).movas,
        ),
    ),
    ("does not fit in wsz", Wide(4, 0, cs1=(Cs1("setwd", {"wsz": 200}),))),
]


@pytest.mark.parametrize(("reason", "wide"), REFUSED, ids=[reason for reason, _ in REFUSED])
def test_what_has_no_encoding_is_refused_with_its_reason(reason: str, wide: Wide) -> None:
    with pytest.raises(EncodeError, match=reason):
        encode(wide)
