"""Bytes -> ``insn.Wide``: what the syllables of a wide instruction mean.

``decode`` is total: every byte string gives a ``Wide`` or a ``DecodeError`` that names the syllable,
the field and the offset. It refuses what has no meaning (an unknown operation code, an operand code
that is reserved, a literal that is not there); bits that are set but belong to no field are listed in
``Wide.reserved``. Rules that make a decodable wide instruction illegal are in ``check`` (module ``check``,
also found here).

Syllables repeat a lot in programs, so each kind is decoded once per value and remembered; the caches
are bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from e2kemu.cpu.bundle import Bundle, DecodeError, aas_indices, layout, split
from e2kemu.cpu.check import check
from e2kemu.cpu.decode_alu import (
    CACHE,
    DESTINATIONS,
    NO_CONDITIONS,
    Bad,
    Conditions,
    alu_insns,
    conditions_of,
)
from e2kemu.cpu.insn import (
    AluInsn,
    Apb,
    Clp,
    Condition,
    Cs0,
    Cs1,
    Elp,
    Fapb,
    Guard,
    Mova,
    Stub,
    Wide,
)
from e2kemu.cpu.isa import formats as f
from e2kemu.cpu.isa.cu import CALL_KINDS, cs0_op

__all__ = ["DecodeError", "check", "decode", "decode_apb"]


# --- SS, CS0, CS1, PLS, AAS -----------------------------------------------------------------------


@lru_cache(maxsize=CACHE)
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


@lru_cache(maxsize=CACHE)
def _cs0(word: int, call: str) -> Cs0:
    ctpr, opc, param = f.CS0["ctpr"].of(word), f.CS0["opc"].of(word), f.CS0["param"].of(word)
    op = cs0_op(ctpr, opc, param & 7)
    if op is None:
        raise Bad(
            "CS0",
            f"opc {opc} with ctpr {ctpr} is reserved"
            if opc != 3
            else f"type {param & 7} of opc 3 with ctpr {ctpr} is reserved",
        )
    if op.name == "ibranch" and call in ("icall", "hcall"):
        return Cs0(call, disp=8 * _signed(param, 28) if call == "icall" else 0, param=param)
    return Cs0(op.name, ctpr, 8 * _signed(param, 28) if op.kind == "branch" else 0, param)


@lru_cache(maxsize=CACHE)
def _cs1(word: int, lts0: int | None, channels: int) -> tuple[tuple[Cs1, ...], tuple[str, ...]]:
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
                raise Bad("CS1", "setwd takes its fields from LTS0, which is not there")
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
            raise Bad("CS1", f"ctopc {f.CS1_CALL['ctopc'].of(word)} of call is reserved")
        known |= f.CS1_CALL["ctopc"].mask
        found.append(Cs1(name, fields(f.CS1_CALL, word, "wbs")))
    elif opc == 6:
        known |= f.CS1_MAS.known
        names = [f"alc{channel}" for channel in (0, 2, 3, 5) if not channels >> channel & 1]
        stray = {name: f.CS1_MAS[name].of(word) for name in names if f.CS1_MAS[name].of(word)}
        if stray:
            found.append(Cs1("mas", stray))
    elif opc == 7:
        known |= f.CS1_FLUSH.known
        found += [Cs1(field.name) for field in f.CS1_FLUSH if field.of(word)]
    elif opc == 8:
        found.append(Cs1("vfbg", fields(f.CS1_VFBG, word, "umask", "dmask", "chkm4")))
    else:
        raise Bad("CS1", f"opc {opc} is reserved")
    unknown = word & ~known
    return tuple(found), ((f"CS1: bits {unknown:#x}",) if unknown else ())


_NO_MAS: dict[int, int] = {}


@lru_cache(maxsize=CACHE)
def _mas(word: int) -> dict[int, int]:
    """Channel -> memory access specifier of a CS1 MAS word."""
    return {channel: f.CS1_MAS[f"alc{channel}"].of(word) for channel in (0, 2, 3, 5)}


@lru_cache(maxsize=CACHE)
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
        operand = DESTINATIONS[code]
        if operand is None:
            raise Bad(f"AAS{channel >> 1}", f"destination code {code:#x} of channel {channel} is reserved")
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
    except Bad as bad:
        raise DecodeError(
            bad.syllable, bad.problem, offset=offset + _place(bundle, version, bad.syllable), address=address
        ) from None


_UNUSED = {"ALOPF8": (0xFF0000, 0xC00000), "ALOPF17": (0xE0, 0)}
"""Format -> bits of ALS without a field, and their value."""


def _stray_conditions(
    conditions: Conditions, hs: int, alu: tuple[AluInsn, ...], stub: Stub | None
) -> Iterator[str]:
    """Conditions for what is not there."""
    stray = conditions.masks & ~(hs >> 26)
    if stray:
        names = " ".join(f"ALC{n}" for n in range(6) if stray >> n & 1)
        yield f"CDS: a condition for {names}, without operation"
    for insn in alu:
        if conditions.merge[insn.channel] and not insn.op.merges:
            yield f"CDS: {insn.op.name} in ALC{insn.channel} does not merge"
    for channel in (2, 5):
        if conditions.increment[channel] and not any(
            insn.increment for insn in alu if insn.channel == channel
        ):
            yield f"CDS: ALC{channel} increments no address"
    if conditions.rpc and not (stub and (stub.srp or stub.crp)):
        yield "CDS: a condition of crp, srp or slrp, which is not there"


def _wide(bundle: Bundle, version: int, address: int, offset: int) -> Wide:
    hs, cds = bundle.hs, bundle.cds
    reserved: tuple[str, ...] = ()
    conditions = NO_CONDITIONS
    if cds:
        conditions = conditions_of(cds)
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
        cs1, more = _cs1(bundle.cs1, bundle.middle[-1] if bundle.middle else None, hs >> 26)
        reserved += more
    if bundle.cs0 is not None:
        cs0 = _cs0(bundle.cs0, cs1[0].name if cs1 else "")
    elps: tuple[Elp | None, ...] = ()
    clps: tuple[Clp | None, ...] = ()
    if bundle.pls:
        elps, clps, more = _pls(bundle.pls)
        reserved += more
    alu = alu_insns(bundle, version, offset, address, mas)
    if cds:
        reserved += (*conditions.reserved, *_stray_conditions(conditions, hs, alu, stub))
        for insn in alu:
            partner = insn.pair_channel
            if partner is not None and version < 7 and set(conditions.guards[partner]) != set(insn.guards):
                reserved += (f"CDS: channels {insn.channel} and {partner} of {insn.op.name} differ in conditions",)
    for insn in alu:
        unused = _UNUSED.get(insn.op.fmt.name)
        if unused is not None:
            mask, expected = unused
            found = (bundle.als[insn.channel] or 0) & mask
            if found != expected:
                reserved += (f"ALS{insn.channel}: {found:#x} in bits that {insn.op.name} does not use",)
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
