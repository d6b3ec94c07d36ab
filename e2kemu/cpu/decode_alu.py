"""ALS, ALES and CDS -> ``insn.AluInsn``: the operations of the arithmetic-logic channels.

Part of ``decode``. ``Bad`` is a syllable without meaning; who knows the offset makes a DecodeError of it.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, lru_cache
from typing import NamedTuple

from e2kemu.cpu.bundle import Bundle, DecodeError, layout
from e2kemu.cpu.insn import Aau, AluInsn, Guard, Kind, Operand
from e2kemu.cpu.isa import formats as f
from e2kemu.cpu.isa.notation import Op
from e2kemu.cpu.isa.table import lookup

CACHE = 1 << 16
"""Entries of each cache of decoded syllables."""


class Bad(Exception):
    """A syllable without meaning, before its offset is known."""

    def __init__(self, syllable: str, problem: str) -> None:
        super().__init__(syllable, problem)
        self.syllable, self.problem = syllable, problem


# --- operand bytes ------------------------------------------------------------------------------


def _registers() -> list[Operand | None]:
    table: list[Operand | None] = [None] * 256
    for code in range(256):
        if code < 0x80:
            table[code] = Operand(Kind.B, code, code)
        elif code < 0xC0:
            table[code] = Operand(Kind.R, code - 0x80, code)
        elif code >= 0xE0:
            table[code] = Operand(Kind.G, code - 0xE0, code)
    return table


_REGISTER = _registers()
_SRC1 = [op or Operand(Kind.IMM, code - 0xC0, code) for code, op in enumerate(_REGISTER)]
_SRC2 = [
    op or (Operand(Kind.IMM, code - 0xC0, code) if code < 0xD0 else None) for code, op in enumerate(_REGISTER)
]
DESTINATIONS = list(_REGISTER)
for _code, _kind, _value in (
    (0xCD, Kind.TST, 0),
    (0xCE, Kind.TC, 0),
    (0xCF, Kind.TCD, 0),
    (0xD1, Kind.CTPR, 1),
    (0xD2, Kind.CTPR, 2),
    (0xD3, Kind.CTPR, 3),
    (0xDE, Kind.EMPTY_LO, 0),
    (0xDF, Kind.EMPTY, 0),
):
    DESTINATIONS[_code] = Operand(_kind, _value, _code)


def _lts(n: int, middle: tuple[int, ...]) -> int:
    if n >= len(middle):
        raise Bad("src2", f"the literal is in LTS{n}, but the wide instruction has {min(len(middle), 4)} LTS")
    return middle[-1 - n]


def _literal(code: int, middle: tuple[int, ...]) -> Operand:
    """The literal that operand byte 0xd0..0xdf names."""
    if code in (0xD0, 0xD1):
        return Operand(Kind.LIT16, _lts(code & 1, middle) & 0xFFFF, code)
    if code in (0xD4, 0xD5):
        return Operand(Kind.LIT16, _lts(code & 1, middle) >> 16, code)
    if 0xD8 <= code < 0xDC:
        return Operand(Kind.LIT32, _lts(code & 3, middle), code)
    if 0xDC <= code < 0xDF:
        low = _lts(code & 3, middle)
        return Operand(Kind.LIT64, _lts((code & 3) + 1, middle) << 32 | low, code)
    raise Bad("src2", f"operand code {code:#x} is reserved")


def _register(code: int, slot: str) -> Operand:
    operand = _REGISTER[code]
    if operand is None:
        raise Bad(slot, f"operand code {code:#x} is no register")
    return operand


def _dst(code: int) -> Operand:
    operand = DESTINATIONS[code]
    if operand is None:
        raise Bad("dst", f"destination code {code:#x} is reserved")
    return operand


def _pack_code(code: int, middle: tuple[int, ...]) -> Operand:
    """src3 of a pack-code operation of v7, which may be a 32-bit literal."""
    if code in (0xC0, 0xD0, 0xDC):
        return Operand(Kind.IMM, 0, code)
    if 0xD8 <= code < 0xDC:
        return _literal(code, middle)
    return _register(code, "src3")


# --- ALS ----------------------------------------------------------------------------------------


class Conditions(NamedTuple):
    """What the CDS words say, by channel."""

    guards: tuple[tuple[Guard, ...], ...]
    merge: tuple[tuple[Guard, ...], ...]
    increment: tuple[tuple[Guard, ...] | None, ...]
    rpc: Guard | None
    masks: int  # channels that some half-word names
    reserved: tuple[str, ...]


NO_CONDITIONS = Conditions(((),) * 6, ((),) * 6, (None,) * 6, None, 0, ())


@lru_cache(maxsize=CACHE)
def conditions_of(cds: tuple[int, ...]) -> Conditions:
    guards: list[tuple[Guard, ...]] = [()] * 6
    merge: list[tuple[Guard, ...]] = [()] * 6
    increment: list[tuple[Guard, ...] | None] = [None] * 6
    rpc, masks, reserved = None, 0, []
    for number, word in enumerate(cds):
        for half, where in ((word & 0xFFFF, "low"), (word >> 16, "high")):
            if not half:
                continue
            opc, am, mask, neg, code = (f.CDS[name].of(half) for name in ("opc", "am", "mask", "neg", "pred"))
            if code < 0x40:
                if mask or am:
                    raise Bad(f"CDS{number}", f"{where} half: predicate code {code:#x} is reserved")
                reserved.append(f"CDS{number} {where} half: {half:#06x} has no effect")
                continue
            is_pcnt, base = code < 0x60, 3 * (opc & 1)
            table = guards if opc < 2 else merge
            for i in range(3):
                if mask >> i & 1:
                    table[base + i] += (Guard(code & 0x1F, is_pcnt, bool(neg >> i & 1)),)
                    masks |= 1 << base + i
            if am:
                condition = Guard(code & 0x1F, is_pcnt, bool(neg >> 2 & 1))
                if opc < 2:
                    increment[base + 2] = (increment[base + 2] or ()) + (condition,)
                elif opc == 2:
                    rpc = condition
                else:
                    reserved.append(f"CDS{number} {where} half: bit 13 of MRGC1")
    return Conditions(tuple(guards), tuple(merge), tuple(increment), rpc, masks, tuple(reserved))


class _Plan(NamedTuple):
    """How to read the operand bytes of a row: which slots it has, and for the others the bits to shift."""

    array: bool
    src1: bool
    src2: bool
    src3: bool
    src4: bool
    dst: bool
    pred: bool
    sreg_shift: int  # -1: no state register
    imm8_shift: int  # -1: no literal of 8 bits; 0 in ALES, 16 in ALS (icalld: the window base)
    merges: bool


@cache
def _plan(op: Op) -> _Plan:
    slots, name = op.fmt.slots, op.fmt.name
    sreg_shift = -1 if "sreg" not in slots else 16 if name == "ALOPF16" else 0
    imm8_shift = 0 if op.imm8 else 16 if name == "ALOPF12" and op.opce is None else -1
    return _Plan(
        name in ("ALOPF10", "ALOPF19", "ALOPF20"),
        "src1" in slots,
        "src2" in slots,
        "src3" in slots,
        "src4" in slots,
        "dst" in slots,
        "pred" in slots,
        sreg_shift,
        imm8_shift,
        op.merges,
    )


def _aau(als: int, middle: tuple[int, ...], literal: bool) -> Aau:
    opce1 = als >> 8 & 0xFFFF
    lt = f.AAU["lt"].of(opce1)
    if lt and (literal or lt <= len(middle)):
        return Aau(opce1, _lts(lt - 1, middle), lt - 1)
    return Aau(opce1)


def _operation(
    op: Op,
    version: int,
    channel: int,
    als: int,
    ales: int | None,
    mas: int,
    conditions: Conditions,
    middle: tuple[int, ...],
) -> AluInsn:
    plan, lo = _plan(op), (ales or 0) & 0xFF
    src1 = src2 = src3 = src4 = dst = aau = pred = sreg = imm8 = increment = None
    if plan.array:
        aau = _aau(als, middle, op.mas_code is None)
        if op.fmt.name == "ALOPF10":
            src4 = _register(als & 0xFF, "src4")
        else:
            dst = _dst(als & 0xFF)
        increment = conditions.increment[channel]
    else:
        if plan.src1:
            src1 = _SRC1[als >> 16 & 0xFF]
        if plan.src2:
            src2 = _SRC2[als >> 8 & 0xFF] or _literal(als >> 8 & 0xFF, middle)
        if plan.src3:
            src3 = _pack_code(lo, middle) if version >= 7 and op.pack_code else _register(lo, "src3")
        if plan.src4:
            src4 = _register(als & 0xFF, "src4")
        if plan.dst:
            dst = _dst(als & 0xFF)
        if plan.pred:
            pred = als & 0x1F
        if plan.sreg_shift >= 0:
            sreg = als >> plan.sreg_shift & 0xFF
        if plan.imm8_shift >= 0:
            imm8 = als >> plan.imm8_shift & 0xFF if plan.imm8_shift else lo
    return AluInsn(
        channel,
        op,
        bool(als >> 31),
        src1,
        src2,
        src3,
        src4,
        dst,
        pred,
        sreg,
        imm8,
        aau,
        mas,
        conditions.guards[channel],
        conditions.merge[channel] if plan.merges else (),
        increment,
    )


_operations: dict[tuple[object, ...], AluInsn] = {}

_PARTNERS = {"01/34": {0: 1, 3: 4}, "02/35": {0: 2, 3: 5}, "25": {2: 5}}


_SHIFTS = {"src1": 16, "src2": 8, "src4": 0, "dst": 0}


EMPTY, EMPTY_LO = 0xDF, 0xDE


def next_register(code: int) -> int:
    """The operand byte of the second channel of a quad operation: the next register, %empty.hi behind
    %empty.lo, another byte as it is; -1 behind the last register."""
    if code < 0x80:
        return code + 1 & 0x7F
    if code in (0xBF, 0xFF):
        return -1
    return code + 1 if code < 0xC0 or code >= 0xE0 or code == EMPTY_LO else code


def _second_als(op: Op, als: int) -> int:
    """The ALS of the second channel of a quad operation with this one in the first; -1: there is none."""
    for slot in op.paired_slots:
        shift = _SHIFTS[slot]
        code = als >> shift & 0xFF
        following = next_register(code)
        if following < 0:
            return -1
        als += following - code << shift
    return als


def _decoded(
    version: int, channel: int, als: int, ales: int | None, mas: int, cds: tuple[int, ...], middle: tuple[int, ...]
) -> AluInsn:
    op = lookup(version, channel, als, ales, mas)
    if op is None:
        codes = f"cop {als >> 24 & 0x7F:#x}" + ("" if ales is None else f", ALES {ales:#06x}")
        raise Bad("cop", f"instruction set v{version} has no operation with {codes} in channel {channel}")
    conditions = conditions_of(cds) if cds else NO_CONDITIONS
    return _operation(op, version, channel, als, ales, mas, conditions, middle)


def alu_insns(
    bundle: Bundle, version: int, offset: int, address: int, mas: dict[int, int]
) -> tuple[AluInsn, ...]:
    """The operations of all channels. Raises DecodeError."""
    found: list[AluInsn] = []
    swallowed = 0
    cds, middle = bundle.cds, bundle.middle[-4:]
    if len(_operations) > CACHE:
        _operations.clear()
    for channel, als in enumerate(bundle.als):
        if als is None or swallowed >> channel & 1:
            continue
        ales = bundle.ales[channel]
        modifier = mas.get(channel, 0) if mas else 0
        key = (version, channel, als, ales, modifier, cds, middle)
        insn = _operations.get(key)
        if insn is None:
            try:
                insn = _decoded(version, channel, als, ales, modifier, cds, middle)
            except Bad as bad:
                place = layout(bundle.hs, version).als[channel]
                raise DecodeError(
                    f"ALS{channel} {bad.syllable}", bad.problem, offset=offset + 4 * place, address=address
                ) from None
            _operations[key] = insn
        if insn.op.pair:
            partner = _PARTNERS[insn.op.pair].get(channel)
            if partner is not None and (
                version >= 7
                or (bundle.als[partner] == _second_als(insn.op, als) and bundle.ales[partner] == ales)
            ):
                if version < 7:
                    swallowed |= 1 << partner
                insn = _paired(insn, partner)
        found.append(insn)
    return tuple(found)


@lru_cache(maxsize=CACHE)
def _paired(insn: AluInsn, partner: int) -> AluInsn:
    return replace(insn, pair_channel=partner)
