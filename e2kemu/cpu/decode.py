"""Bytes -> ``insn.Wide``: what the syllables of a wide instruction mean.

``decode`` is total: every byte string gives a ``Wide`` or a ``DecodeError`` that names the syllable,
the field and the offset. It refuses what has no meaning (an unknown operation code, an operand code
that is reserved, a literal that is not there); bits that are set but belong to no field are listed in
``Wide.reserved``. Rules that make a decodable wide instruction illegal are in ``check``.

Syllables repeat a lot in programs, so each kind is decoded once per value and remembered; the caches
are bounded.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from e2kemu.cpu.bundle import Bundle, DecodeError, aas_indices, layout, split
from e2kemu.cpu.insn import (
    Aau,
    AluInsn,
    Apb,
    Clp,
    Condition,
    Cs0,
    Cs1,
    Elp,
    Fapb,
    Guard,
    Kind,
    Mova,
    Operand,
    Stub,
    Wide,
)
from e2kemu.cpu.isa import formats as f
from e2kemu.cpu.isa.cu import CALL_KINDS, cs0_op
from e2kemu.cpu.isa.notation import Op
from e2kemu.cpu.isa.table import lookup

__all__ = ["DecodeError", "check", "decode", "decode_apb"]

_CACHE = 1 << 16  # entries; a bundle's worth of syllables each, so some 100 MB at the very most


class _Bad(Exception):
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
_DST = list(_REGISTER)
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
    _DST[_code] = Operand(_kind, _value, _code)


def _lts(n: int, middle: tuple[int, ...]) -> int:
    if n >= len(middle):
        raise _Bad(
            "src2", f"the literal is in LTS{n}, but the wide instruction has {min(len(middle), 4)} LTS"
        )
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
    raise _Bad("src2", f"operand code {code:#x} is reserved")


def _src2(code: int, middle: tuple[int, ...]) -> Operand:
    return _SRC2[code] or _literal(code, middle)


def _register(code: int, slot: str) -> Operand:
    operand = _REGISTER[code]
    if operand is None:
        raise _Bad(slot, f"operand code {code:#x} is no register")
    return operand


def _dst(code: int) -> Operand:
    operand = _DST[code]
    if operand is None:
        raise _Bad("dst", f"destination code {code:#x} is reserved")
    return operand


def _pack_code(op: Op, code: int, middle: tuple[int, ...], version: int) -> Operand:
    """src3; the pack-code operations of v7 take a 32-bit literal there."""
    if version >= 7 and op.note.startswith("pack code"):
        if code in (0xC0, 0xD0, 0xDC):
            return Operand(Kind.IMM, 0, code)
        if 0xD8 <= code < 0xDC:
            return _literal(code, middle)
    return _register(code, "src3")


# --- ALS ----------------------------------------------------------------------------------------


class _Conditions(NamedTuple):
    """What the CDS words say, by channel."""

    guards: tuple[tuple[Guard, ...], ...]
    merge: tuple[tuple[Guard, ...], ...]
    increment: tuple[tuple[Guard, ...] | None, ...]
    rpc: Guard | None
    masks: int  # channels that some half-word names
    reserved: tuple[str, ...]


_NO_CONDITIONS = _Conditions(((),) * 6, ((),) * 6, (None,) * 6, None, 0, ())


@lru_cache(maxsize=_CACHE)
def _conditions(cds: tuple[int, ...]) -> _Conditions:
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
                    raise _Bad(f"CDS{number}", f"{where} half: predicate code {code:#x} is reserved")
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
    return _Conditions(tuple(guards), tuple(merge), tuple(increment), rpc, masks, tuple(reserved))


def _plain(op: Op, middle: tuple[int, ...], als: int, lo: int, version: int) -> dict[str, Operand | None]:
    slots = op.fmt.slots
    return {
        "src1": _SRC1[als >> 16 & 0xFF] if "src1" in slots else None,
        "src2": _src2(als >> 8 & 0xFF, middle) if "src2" in slots else None,
        "src3": _pack_code(op, lo, middle, version) if "src3" in slots else None,
        "src4": _register(als & 0xFF, "src4") if "src4" in slots else None,
        "dst": _dst(als & 0xFF) if "dst" in slots else None,
    }


def _aau(als: int, middle: tuple[int, ...], literal: bool) -> Aau:
    opce1 = als >> 8 & 0xFFFF
    lt = f.AAU["lt"].of(opce1)
    if lt and (literal or lt <= len(middle)):
        return Aau(opce1, _lts(lt - 1, middle), lt - 1)
    return Aau(opce1)


def _operation(
    version: int,
    channel: int,
    als: int,
    ales: int | None,
    mas: int,
    cds: tuple[int, ...],
    middle: tuple[int, ...],
) -> AluInsn:
    op = lookup(version, channel, als, ales, mas)
    if op is None:
        codes = f"cop {als >> 24 & 0x7F:#x}" + ("" if ales is None else f", ALES {ales:#06x}")
        raise _Bad("cop", f"instruction set v{version} has no operation with {codes} in channel {channel}")
    conditions = _conditions(cds) if cds else _NO_CONDITIONS
    lo, name = (ales or 0) & 0xFF, op.fmt.name
    aau = pred = sreg = imm8 = None
    increment = None
    if name in ("ALOPF10", "ALOPF19", "ALOPF20"):
        aau = _aau(als, middle, op.mas_code is None)
        slots: dict[str, Operand | None] = (
            {"src4": _register(als & 0xFF, "src4")} if name == "ALOPF10" else {"dst": _dst(als & 0xFF)}
        )
        increment = conditions.increment[channel]
    else:
        slots = _plain(op, middle, als, lo, version)
        if "pred" in op.fmt.slots:
            pred = als & 0x1F
        if "sreg" in op.fmt.slots:
            sreg = als >> 16 & 0xFF if name == "ALOPF16" else als & 0xFF
        if op.imm8:
            imm8 = lo
        elif name == "ALOPF12" and op.opce is None:
            imm8 = als >> 16 & 0xFF  # icalld: the window base
    return AluInsn(
        channel,
        op,
        bool(als >> 31),
        slots.get("src1"),
        slots.get("src2"),
        slots.get("src3"),
        slots.get("src4"),
        slots.get("dst"),
        pred,
        sreg,
        imm8,
        aau,
        mas,
        conditions.guards[channel],
        conditions.merge[channel],
        increment,
    )


_operations: dict[tuple[object, ...], AluInsn] = {}

_PARTNERS = {"01/34": {0: 1, 3: 4}, "02/35": {0: 2, 3: 5}, "25": {2: 5}}


def _second_half(op: Op, als: int) -> int:
    """The ALS of the second channel of a quad operation: registers of Q operands are the next ones.

    The address operands of quad loads and stores are repeated as they are.
    """
    sizes = dict(
        zip((slot for slot in op.fmt.slots if slot not in ("pred", "aau", "aaldi")), op.sizes, strict=False)
    )
    step = 0
    memory = bool(op.load or op.store or op.mas)
    for slot, shift in (("src1", 16), ("src2", 8), ("src4", 0), ("dst", 0)):
        if sizes.get(slot) == "Q" and not (memory and slot in ("src1", "src2")):
            step += 1 << shift
    return als + step


def _alu(bundle: Bundle, version: int, offset: int, address: int, mas: dict[int, int]) -> tuple[AluInsn, ...]:
    found: list[AluInsn] = []
    swallowed = 0
    cds, middle = bundle.cds, bundle.middle[-4:]
    if len(_operations) > _CACHE:
        _operations.clear()
    for channel, als in enumerate(bundle.als):
        if als is None or swallowed >> channel & 1:
            continue
        ales = bundle.ales[channel]
        modifier = mas.get(channel, 0)
        key = (version, channel, als, ales, modifier, cds, middle)
        insn = _operations.get(key)
        if insn is None:
            try:
                insn = _operation(version, channel, als, ales, modifier, cds, middle)
            except _Bad as bad:
                place = layout(bundle.hs, version).als[channel]
                raise DecodeError(
                    f"ALS{channel} {bad.syllable}", bad.problem, offset=offset + 4 * place, address=address
                ) from None
            _operations[key] = insn
        if insn.op.pair:
            partner = _PARTNERS[insn.op.pair].get(channel)
            if partner is not None and (
                version >= 7
                or (bundle.als[partner] == _second_half(insn.op, als) and bundle.ales[partner] == ales)
            ):
                if version < 7:
                    swallowed |= 1 << partner
                insn = _paired(insn, partner)
        found.append(insn)
    return tuple(found)


@lru_cache(maxsize=_CACHE)
def _paired(insn: AluInsn, partner: int) -> AluInsn:
    fields = {name: getattr(insn, name) for name in AluInsn.__slots__}
    return AluInsn(**{**fields, "pair_channel": partner})


# --- SS, CS0, CS1, PLS, AAS -----------------------------------------------------------------------


@lru_cache(maxsize=_CACHE)
def _stub(word: int, rpc: Guard | None) -> tuple[Stub, tuple[str, ...]]:
    sf2 = bool(word >> 20 & 1)
    syllable = f.SS2 if sf2 else f.SS1

    def get(name: str) -> int:
        return syllable[name].of(word)

    unknown = syllable.unknown_bits(word)
    reserved = (f"SS: bits {unknown:#x}",) if unknown else ()
    condition = Condition(get("ctcond"), get("psrc"))
    if sf2:
        return Stub(
            sf2=True,
            ipd=get("ipd"),
            srp=bool(get("srp")),
            crp=bool(get("crp")),
            ctop=get("ctop"),
            condition=condition,
            rpc=rpc,
            ts_opc=get("ts_hi") << 1 | get("ts_lo"),
            ctp_call=bool(get("ctp_call")),
            abgc=get("abgc"),
            abgc_condition=get("abgc_cond"),
        ), reserved
    flags = {
        name: bool(get(name))
        for name in (
            "eap",
            "bap",
            "srp",
            "vfdi",
            "crp",
            "abgi",
            "abgd",
            "abnf",
            "abnt",
            "abpf",
            "abpt",
            "alcf",
            "alct",
        )
    }
    return Stub(
        ipd=get("ipd"), aa=get("aa"), ctop=get("ctop"), condition=condition, rpc=rpc, **flags
    ), reserved


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> bits - 1 else value


@lru_cache(maxsize=_CACHE)
def _cs0(word: int, call: str) -> Cs0:
    ctpr, opc, param = f.CS0["ctpr"].of(word), f.CS0["opc"].of(word), f.CS0["param"].of(word)
    op = cs0_op(ctpr, opc, param & 7)
    if op is None:
        raise _Bad(
            "CS0",
            f"opc {opc} with ctpr {ctpr} is reserved"
            if opc != 3
            else f"type {param & 7} of opc 3 with ctpr {ctpr} is reserved",
        )
    if op.name == "ibranch" and call in ("icall", "hcall"):
        return Cs0(call, param=param)
    return Cs0(op.name, ctpr, 8 * _signed(param, 28) if op.kind == "branch" else 0, param)


@lru_cache(maxsize=_CACHE)
def _cs1(word: int, lts0: int | None) -> tuple[tuple[Cs1, ...], tuple[str, ...]]:
    opc, known = f.CS1["opc"].of(word), 0xF0000000
    found: list[Cs1] = []

    def fields(syllable: f.Syllable, source: int, *names: str) -> dict[str, int]:
        nonlocal known
        if source is word:
            for name in names:
                known |= syllable[name].mask
        return {name: syllable[name].of(source) for name in names}

    if opc in (0, 1, 4):
        known |= sum(f.CS1_SETR[name].mask for name in ("setbp", "setbn"))
        if opc != 4:
            if lts0 is None:
                raise _Bad("CS1", "setwd takes its fields from LTS0, which is not there")
            if opc == 1:
                found.append(Cs1("vfrpsz", {"rpsz": f.LTS0_SETWD["rpsz"].of(lts0)}))
            found.append(
                Cs1("setwd", {name: f.LTS0_SETWD[name].of(lts0) for name in ("wsz", "nfx", "dbl", "mcn")})
            )
            known |= f.CS1_SETR["settr"].mask
            if f.CS1_SETR["settr"].of(word):
                found.append(Cs1("settr", {"type": f.LTS0_SETWD["type"].of(lts0)}))
        if f.CS1_SETR["setbn"].of(word):
            found.append(Cs1("setbn", fields(f.CS1_SETR, word, "rbs", "rsz", "rcur")))
        if f.CS1_SETR["setbp"].of(word):
            found.append(Cs1("setbp", fields(f.CS1_SETR, word, "psz")))
    elif opc == 2:
        known |= f.CS1_SETEI["sft"].mask
        found.append(
            Cs1("setsft") if f.CS1_SETEI["sft"].of(word) else Cs1("setei", fields(f.CS1_SETEI, word, "eir"))
        )
    elif opc == 3:
        found.append(Cs1("wait", fields(f.CS1_WAIT, word, *(field.name for field in f.CS1_WAIT))))
    elif opc == 5:
        name = CALL_KINDS.get(f.CS1_CALL["ctopc"].of(word))
        if name is None:
            raise _Bad("CS1", f"ctopc {f.CS1_CALL['ctopc'].of(word)} of call is reserved")
        known |= f.CS1_CALL["ctopc"].mask
        found.append(Cs1(name, fields(f.CS1_CALL, word, "wbs")))
    elif opc == 6:
        found.append(Cs1("mas", fields(f.CS1_MAS, word, "alc0", "alc2", "alc3", "alc5")))
    elif opc == 7:
        known |= f.CS1_FLUSH.known
        found += [Cs1(field.name) for field in f.CS1_FLUSH if field.of(word)]
    elif opc == 8:
        found.append(Cs1("vfbg", fields(f.CS1_VFBG, word, "umask", "dmask", "chkm4")))
    else:
        raise _Bad("CS1", f"opc {opc} is reserved")
    unknown = word & ~known
    return tuple(found), ((f"CS1: bits {unknown:#x}",) if unknown else ())


_NO_MAS: dict[int, int] = {}


@lru_cache(maxsize=_CACHE)
def _mas(word: int) -> dict[int, int]:
    """Channel -> memory access specifier of a CS1 MAS word."""
    return {channel: f.CS1_MAS[f"alc{channel}"].of(word) for channel in (0, 2, 3, 5)}


@lru_cache(maxsize=_CACHE)
def _pls(words: tuple[int, ...]) -> tuple[tuple[Elp | None, ...], tuple[Clp | None, ...], tuple[str, ...]]:
    elps: list[Elp | None] = []
    clps: list[Clp | None] = []
    reserved: tuple[str, ...] = ()
    for number, word in enumerate(words):
        if number < 2:
            elps += (Elp(f.PLS["elp0"].of(word)), Elp(f.PLS["elp1"].of(word)))
            unknown = word & ~f.PLS.known
        else:
            unknown = word >> 16 << 16
        if unknown:
            reserved += (f"PLS{number}: bits {unknown:#x}",)
        opc, arg0, neg0, arg1, neg1, pdst = (
            f.PLS[name].of(word) for name in ("opc", "arg0", "neg0", "arg1", "neg1", "pdst")
        )
        clps.append(Clp(opc, arg0, bool(neg0), arg1, bool(neg1), pdst if f.PLS["vdst"].of(word) else None))
    return tuple(elps), tuple(clps), reserved


def _movas(bundle: Bundle, aa: int) -> tuple[Mova, ...]:
    found = []
    for channel in range(4):
        half = bundle.aas[2 + channel]
        if not aa >> channel & 1 or half is None:
            continue
        pair = bundle.aas[channel >> 1] or 0
        code = f.AAS_DST["odd" if channel & 1 else "even"].of(pair)
        operand = _DST[code]
        if operand is None:
            raise _Bad(f"AAS{channel >> 1}", f"destination code {code:#x} of channel {channel} is reserved")
        opc, area, ind, am, be = (f.AAS[name].of(half) for name in ("opc", "area", "ind", "am", "be"))
        found.append(Mova(channel, opc, area, ind, bool(am), bool(be), operand))
    return tuple(found)


# --- the whole ------------------------------------------------------------------------------------


def _place(bundle: Bundle, version: int, syllable: str) -> int:
    """Byte offset of a syllable in its wide instruction, for messages."""
    where = layout(bundle.hs, version)
    kind, digits = syllable[:3], syllable[3:4]
    if kind == "CDS":
        return 4 * where.cds[int(digits)]
    if kind == "PLS":
        return 4 * where.pls[int(digits)]
    if kind == "AAS":
        index = aas_indices(f.SS1["aa"].of(bundle.ss or 0)).index(int(digits)) + len(where.ales)
        return 4 * where.halves + 4 * (index // 2) + (2 if index % 2 == 0 else 0)
    return 4 * {"SS": where.ss, "CS0": where.cs0, "CS1": where.cs1}.get(syllable, 0)


def decode(data: bytes | bytearray | memoryview, version: int, address: int = 0, offset: int = 0) -> Wide:
    """Decode the wide instruction at ``offset`` of ``data`` (at ``address`` in the guest) for ``version``.

    Raises DecodeError when the bytes are no wide instruction of that instruction set.
    """
    bundle = split(data, version, address, offset)
    try:
        return _wide(bundle, version, address, offset)
    except _Bad as bad:
        raise DecodeError(
            bad.syllable, bad.problem, offset=offset + _place(bundle, version, bad.syllable), address=address
        ) from None


def _wide(bundle: Bundle, version: int, address: int, offset: int) -> Wide:
    hs, cds = bundle.hs, bundle.cds
    reserved: tuple[str, ...] = ()
    conditions = _NO_CONDITIONS
    if cds:
        conditions = _conditions(cds)
        reserved = conditions.reserved
        stray = conditions.masks & ~(hs >> 26)
        if stray:
            names = " ".join(f"ALC{n}" for n in range(6) if stray >> n & 1)
            reserved += (f"CDS: a condition for {names}, without operation",)
    stub = cs0 = None
    movas: tuple[Mova, ...] = ()
    if bundle.ss is not None:
        stub, more = _stub(bundle.ss, conditions.rpc)
        reserved += more
        if stub.aa:
            movas = _movas(bundle, stub.aa)
    cs1: tuple[Cs1, ...] = ()
    mas = _NO_MAS
    if bundle.cs1 is not None:
        if bundle.cs1 >> 28 == 6:
            mas = _mas(bundle.cs1)
        cs1, more = _cs1(bundle.cs1, bundle.middle[-1] if bundle.middle else None)
        reserved += more
    if bundle.cs0 is not None:
        cs0 = _cs0(bundle.cs0, cs1[0].name if cs1 else "")
    elps: tuple[Elp | None, ...] = ()
    clps: tuple[Clp | None, ...] = ()
    if bundle.pls:
        elps, clps, more = _pls(bundle.pls)
        reserved += more
    alu = _alu(bundle, version, offset, address, mas)
    if hs & 0x800:
        reserved += ("HS: bit 11",)
    stray = (hs >> 20 & 0x3F) & ~(hs >> 26)
    if stray:
        reserved += ("HS: an ALES without ALS, mask " + hex(stray),)
    return Wide(
        version,
        8 * (1 + (hs >> 4 & 7)),
        address,
        hs >> 7 & 7,
        bool(hs >> 10 & 1),
        bool(hs >> 13 & 1),
        alu,
        stub,
        cs0,
        cs1,
        elps,
        clps,
        movas,
        reserved,
    )


def decode_apb(data: bytes | bytearray | memoryview, address: int = 0, offset: int = 0) -> Apb:
    """Decode a 16-byte instruction of the array prefetch program; DecodeError when bytes are missing."""
    if len(data) - offset < 16:
        raise DecodeError(
            "APS0",
            f"{max(len(data) - offset, 0)} bytes are no array prefetch instruction of 16",
            offset=offset,
            address=address,
        )
    halves = []
    for start in (offset, offset + 8):
        aps = int.from_bytes(data[start : start + 4], "little")
        numbers = {
            name: f.APS[name].of(aps) for name in ("dcd", "fmt", "mrng", "d", "incr", "ind", "asz", "abs")
        }
        halves.append(
            Fapb(
                bool(f.APS["ct"].of(aps)),
                bool(f.APS["si"].of(aps)),
                **numbers,
                disp=int.from_bytes(data[start + 4 : start + 8], "little"),
            )
        )
    return Apb(halves[0], halves[1], address)


def check(wide: Wide) -> str | None:
    """Why the wide instruction is illegal, or None. See ``check.py``; kept here for callers of decode."""
    from e2kemu.cpu.check import check as rules

    return rules(wide)
