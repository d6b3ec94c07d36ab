"""Fuzz of the decoder, the disassembler, the encoder and the source printer with bytes and wide instructions.

Two kinds of input: random or damaged bytes, which must give a wide instruction or a DecodeError that says
where; and wide instructions put together from random syllables that mean something, which must also survive
being encoded and decoded, and being printed as source and assembled.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from functools import cache

from e2kemu.cpu.asm import assemble
from e2kemu.cpu.bundle import DecodeError, build, join
from e2kemu.cpu.check import check
from e2kemu.cpu.decode import decode
from e2kemu.cpu.disasm import disassemble
from e2kemu.cpu.disasm_source import STYLE, same_meaning, source_at
from e2kemu.cpu.encode import encode
from e2kemu.cpu.explain import explain
from e2kemu.cpu.insn import Wide
from e2kemu.cpu.isa import table
from e2kemu.cpu.isa.formats import PLS
from e2kemu.cpu.isa.notation import VERSIONS, Op
from e2kemu.cpu.isa.plu import CLP_ARGUMENTS
from e2kemu.cpu.listing import pieces, wides
from e2kemu.errors import ImageError
from tests.fuzz.loop import main

LITERALS = (0, 1, 0xFFFF_FFFF, 0x8000_0000, 0x7FFF, 0x8000, 0x1234_5678)


@cache
def rows(version: int, channel: int) -> tuple[Op, ...]:
    """What may issue there."""
    return tuple(op for op in table.rows() if not op.alias_of and op.in_channel(channel, version))


def _register(choose: random.Random) -> int:
    return choose.choice((choose.randrange(0x80), 0x80 + choose.randrange(0x40), 0xE0 + choose.randrange(0x20)))


def _source(choose: random.Random) -> int:
    return choose.choice((_register(choose), 0xC0 + choose.randrange(16)))


def _literal(choose: random.Random) -> int:
    return choose.choice((0xD0, 0xD1, 0xD4, 0xD5, 0xD8, 0xD9, 0xDA, 0xDB, 0xDC, 0xDD, 0xDE))


def operation(choose: random.Random, op: Op) -> tuple[int, int | None]:
    """Random ALS and ALES of a row."""
    slots = op.fmt.slots
    src1 = _source(choose) if op.opce is None or op.fmt.name == "ALOPF16" else op.opce
    src2 = _literal(choose) if choose.random() < 0.3 and "src2" in slots else _source(choose)
    dst = _register(choose)
    if op.fmt.name == "ALOPF16":
        src1, src2 = 0x83, op.opce or 0xC0
    elif op.fmt.name == "ALOPF15":
        dst = 0x83
    elif op.cmpopce is not None:
        dst = op.cmpopce << 5 | choose.randrange(32)
    elif "pred" in slots:
        dst = choose.randrange(32)
    if op.fmt.name == "ALOPF8":
        src1 = 0xC0
    als = choose.randrange(2) << 31 | op.cop << 24 | src1 << 16 | src2 << 8 | dst
    if not op.fmt.long:
        return als, None
    low = op.ales_lo if op.ales_lo is not None else choose.randrange(256) if op.imm8 else _register(choose)
    return als, (op.opc2 or 0) << 8 | low


def _stub(choose: random.Random) -> int:
    condition = choose.choice((0, 1, 2, 3, 4, 5, 6, 7, 14, 15)) << 5 | choose.randrange(32)
    flags = choose.getrandbits(32) & 0xC00F0000 | choose.choice((0, 0, 1 << 29, 1 << 28, 3 << 21))
    return flags | choose.randrange(4) << 10 | condition


def _conditions(choose: random.Random, present: int) -> int:
    """A CDS word for channels of the mask ``present``."""
    halves = 0
    for shift in (16, 0):
        cluster = choose.randrange(2)
        mask = present >> 3 * cluster & choose.randrange(8)
        if mask:
            code = choose.choice((0x40, 0x60)) + choose.randrange(32)
            halves |= (cluster << 14 | mask << 10 | choose.randrange(8) << 7 | code) << shift
    return halves


def _logic(choose: random.Random) -> list[int]:
    """PLS words."""
    words = []
    for number in range(choose.choice((0, 0, 0, 1, 2, 3))):
        arguments = sorted(CLP_ARGUMENTS[number])
        values = {
            "opc": choose.choice((0, 1, 3)),
            "neg0": choose.randrange(2),
            "arg0": choose.choice(arguments),
            "neg1": choose.randrange(2),
            "arg1": choose.choice(arguments),
            "vdst": choose.randrange(2),
            "pdst": number * 10 + choose.randrange(10),
        }
        if number < 2:
            values |= {elp: choose.choice((0x40, 0x44, 0x60 + choose.randrange(32))) for elp in ("elp0", "elp1")}
        words.append(sum(PLS[name].put(value) for name, value in values.items()))
    return words


def random_bundle(choose: random.Random, version: int) -> bytes:
    """Random syllables that mostly mean something. Raises ImageError when they do not fit."""
    als: list[int | None] = [None] * 6
    ales: list[int | None] = [None] * 6
    for channel in range(6):
        if als[channel] is None and choose.random() < 0.35:
            op = choose.choice(rows(version, channel))
            word, extension = operation(choose, op)
            als[channel], ales[channel] = word, extension
            for pair in op.pair.split("/") if op.pair and version < 7 else ():
                if pair[0] == str(channel):
                    second = int(pair[1])
                    step = sum({"src1": 1 << 16, "src2": 1 << 8, "src4": 1, "dst": 1}[s] for s in op.paired_slots)
                    als[second], ales[second] = word + step & 0xFFFF_FFFF, extension
    for channel in (2, 5):
        if version < 4 and ales[channel] is not None:
            ales[channel] = 0x01C0
    cs1 = None
    if choose.random() < 0.4:
        cs1 = choose.choice(
            (
                choose.randrange(1 << 28) & 0x0C7F_FFFF & ~(3 << 23),
                4 << 28 | choose.randrange(1 << 28) & 0x0C7C_0000,
                3 << 28 | choose.randrange(1 << 7),
                5 << 28 | choose.randrange(1 << 7),
                6 << 28 | choose.randrange(1 << 28),
                7 << 28 | choose.randrange(4),
                2 << 28 | choose.randrange(1 << 8),
            )
        )
    present = sum(1 << channel for channel in range(6) if als[channel] is not None)
    ss = _stub(choose) if choose.random() < 0.4 else None
    if cs1 is not None and cs1 >> 28 == 5:
        ss = (ss or _stub(choose)) | 0x400
    return join(
        build(
            version,
            nop=choose.choice((0, 0, choose.randrange(8))),
            loop_mode=choose.random() < 0.1,
            set_mark=choose.random() < 0.05,
            ss=ss,
            als=als,
            ales=ales,
            cs0=choose.getrandbits(32) if choose.random() < 0.3 else None,
            cs1=cs1,
            lts=[choose.choice((choose.getrandbits(32), *LITERALS)) for _ in range(choose.choice((0, 2, 4, 4)))],
            pls=_logic(choose),
            cds=[_conditions(choose, present) for _ in range(choose.choice((0, 0, 0, 1, 2)))],
        )
    )


def whole(wide: Wide, data: bytes, seen: Counter[str]) -> None:
    """A wide instruction survives encoding and decoding, printing and parsing."""
    version, address = wide.version, wide.address
    text = disassemble(wide)
    assert all(line == line.strip() and line.isprintable() for line in text), text
    legal = check(wide) is None
    seen["legal" if legal else "illegal"] += 1
    if not wide.reserved:
        try:
            again = encode(wide)
        except ImageError as error:
            raise AssertionError(f"v{version} {data.hex()}: {error}") from None
        assert same_meaning(decode(again, version, address), wide), (version, data.hex(), again.hex())
    size, lines = source_at(data, version, address)
    assert size == wide.size
    back = assemble("\n".join([STYLE, *lines, ""]), version=version, base=address).data
    assert same_meaning(decode(back, version, address), wide), (version, data.hex(), lines)
    seen["as words" if lines[-1].startswith(".word") else "as text"] += 1
    if legal and lines[-1].startswith(".word"):
        seen["legal as words"] += 1


def bundle_case(choose: random.Random, seen: Counter[str]) -> None:
    """One wide instruction of meaningful syllables."""
    version, address = choose.choice(VERSIONS), choose.randrange(1 << 40) & ~7
    try:
        data = random_bundle(choose, version)
        wide = decode(data, version, address)
    except ImageError:
        seen["refused"] += 1
        return
    whole(wide, data, seen)


def bytes_case(choose: random.Random, seen: Counter[str]) -> None:
    """Random bytes, or a wide instruction with some bits changed."""
    version = choose.choice(VERSIONS)
    data = choose.randbytes(choose.randrange(100))
    if choose.random() < 0.7:
        try:
            raw = bytearray(random_bundle(choose, version))
        except ImageError:
            raw = bytearray(data)
        for _ in range(choose.randrange(1, 4) if raw else 0):
            raw[choose.randrange(len(raw))] ^= 1 << choose.randrange(8)
        data = bytes(raw[: choose.choice((len(raw), choose.randrange(len(raw) + 1)))])
    covered = 0
    for piece in pieces(data, version, 0x1000):
        assert piece.text or not piece.error or "offset 0x" in piece.error, piece
        assert piece.offset == covered
        covered += piece.size
        seen["pieces with error" if piece.error else "pieces"] += 1
    assert covered == len(data), (version, data.hex())
    for wide in wides(data, version):
        if isinstance(wide, DecodeError):
            assert 0 <= wide.offset <= len(data)
        else:
            whole(wide.at(0), data[wide.address : wide.address + wide.size], seen)
    try:
        explain(data, version)
    except ImageError as error:
        assert "\n" not in str(error)  # noqa: PT017


def case(choose: random.Random, seen: Counter[str]) -> None:
    """Either."""
    (bundle_case if choose.random() < 0.6 else bytes_case)(choose, seen)


if __name__ == "__main__":
    sys.exit(main(case, __doc__ or ""))
