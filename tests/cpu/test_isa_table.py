"""The table of operations against the vendor's tables."""

from __future__ import annotations

from collections import Counter

from e2kemu.cpu.isa.cu import CS0_OPS, cs0_op
from e2kemu.cpu.isa.notation import VERSIONS, Op
from e2kemu.cpu.isa.table import by_name, index, lookup, rows
from tests.cpu.vectors import table

Key = tuple[str | int | None, ...]


def number(text: str) -> int | None:
    return int(text, 16) if text.startswith("0x") else None


def golden() -> dict[Key, tuple[dict[str, str], tuple[str, ...]]]:
    """Row of the vendor's table -> its record and channels of v1..v7; the table of v7 has the last word."""
    found = {}
    for name in ("opcodes.csv", "opcodes_v7.csv"):
        for record in table(name):
            codes = [number(record[column]) for column in ("cop", "opce", "cmpopce", "opc2", "ales_lo")]
            if record["name"] == "pshufh":
                codes[4] = None  # the 8-bit literal
            if record["name"] == "icalld":
                codes[1] = None  # the window base
            channels = [record[f"alc_v{version}"] for version in range(1, 7)]
            channels.append(record.get("alc_v7", channels[-1]))
            key = (record["name"], record["format"], *codes)
            found[key] = (record, tuple(channels))
    return found


def key_of(op: Op) -> Key:
    return (op.name, op.fmt.name, op.cop, op.opce, op.cmpopce, op.opc2, op.ales_lo)


def test_the_rows_are_exactly_those_of_the_vendor() -> None:
    ours, theirs = {key_of(op) for op in rows()}, set(golden())
    assert len(ours) == len(rows()) == 2577
    assert ours == theirs


def test_channels_agree_in_every_version() -> None:
    theirs = golden()
    compared = 0
    for op in rows():
        assert op.channels[1:] == theirs[key_of(op)][1], op
        compared += 1
    assert compared == 2577


def test_sizes_pairs_and_accesses_agree() -> None:
    theirs = golden()
    for op in rows():
        record = theirs[key_of(op)][0]
        letters = "".join(op.syntax_sizes.values())
        assert letters.startswith(record["sizes"]), op  # theirs leaves out src3 of the partial ones
        assert len(letters) == len(
            [slot for slot in op.fmt.slots if slot not in ("pred", "aau", "aaldi", "sreg")]
        ), op
        assert op.pair == record["alc_pair"], op
        assert op.mas == bool(record["mas"]), op
        assert op.alias_of or not op.load or record["load"], op
        assert op.alias_of or not op.store or record["store"], op
        if record["implicit_nops"]:
            assert op.nops == int(record["implicit_nops"]), op


def test_an_alias_has_the_codes_of_its_row() -> None:
    aliases = [op for op in rows() if op.alias_of]
    assert len(aliases) >= 520
    for op in aliases:
        assert any(
            (row.fmt.name, row.cop, row.opc2) == (op.fmt.name, op.cop, op.opc2)
            for row in by_name(op.alias_of)
        ), op


def test_every_row_is_found_by_its_own_codes_in_every_channel() -> None:
    found: Counter[int] = Counter()
    for op in rows():
        if op.alias_of:
            continue
        for version in VERSIONS:
            for channel in map(int, op.channels[version]):
                free = 0x80  # a register
                first = free if op.opce is None or op.fmt.name == "ALOPF16" else op.opce
                second = op.opce if op.fmt.name == "ALOPF16" and op.opce is not None else free
                als = op.cop << 24 | first << 16 | second << 8 | (op.cmpopce or 0) << 5
                ales = (
                    (op.opc2 or 0) << 8 | (0xC0 if op.ales_lo is None else op.ales_lo)
                    if op.fmt.long
                    else None
                )
                assert lookup(version, channel, als, ales, op.mas_code or 0) is op, (op, version, channel)
                found[version] += 1
    assert min(found.values()) >= 2482


def test_no_code_of_a_channel_is_left_to_chance() -> None:
    """Rows of one key differ in a fixed code, so that at most one of equal rank matches."""
    for version in VERSIONS:
        for ops in index(version).values():
            codes = [(op.ales_lo, op.opce, op.cmpopce, op.mas_code) for op in ops]
            assert len(set(codes)) == len(codes), ops


def test_control_operations_are_found_by_their_codes() -> None:
    for op in CS0_OPS:
        if op.name in ("icall", "hcall"):
            continue  # an ibranch word, told apart by CS1
        for ctpr in op.ctprs:
            assert cs0_op(ctpr, op.opc, op.type or 0) is op
    assert cs0_op(1, 1, 0) is None
    assert cs0_op(1, 3, 2) is None
