"""Rules that make a wide instruction illegal although every syllable of it can be decoded.

Facts: the encoding reference (pairs 3.1, CTPR 4, PLS 5) and the public tests of the e2k port of QEMU it names
(loads and stores of one wide instruction: decode/store-load-group).
"""

from __future__ import annotations

from e2kemu.cpu.insn import Kind, Wide
from e2kemu.cpu.isa.aau import MOVA, MOVA_BYTES
from e2kemu.cpu.isa.cu import CS0_OPS, CS1_OPS
from e2kemu.cpu.isa.plu import CLP_ARGUMENTS, CLP_NAMES, elp_name

_SINCE = {op.name: op.since for op in (*CS0_OPS, *CS1_OPS)}
MAX_SYSTEM_ENTRY = 0x1F
_CONDITION_TYPES = frozenset((*range(10), 14, 15))


def check(wide: Wide) -> str | None:
    """Why ``wide`` raises exc_illegal_opcode, or None when it is a legal wide instruction."""
    if wide.reserved:
        return wide.reserved[0]
    return _versions(wide) or _predicates(wide) or _channels(wide) or _control(wide) or _arrays(wide)


def _versions(wide: Wide) -> str | None:
    """Operations of the control unit that this instruction set does not have yet (or no more)."""
    version, stub = wide.version, wide.stub
    names = [op.name for op in wide.cs1] + ([wide.cs0.name] if wide.cs0 else [])
    for name in names:
        if _SINCE[name] > version:
            return f"{name} needs instruction set v{_SINCE[name]}, this is v{version}"
    if stub is not None:
        if stub.abgc_condition and version < 6:
            return f"abgc needs instruction set v6, this is v{version}"
        if stub.ctp_call and version < 7:
            return f"ctp_call needs instruction set v7, this is v{version}"
        if stub.srp and stub.crp and version < 3:
            return f"slrp needs instruction set v3, this is v{version}"
        if (stub.abgi or stub.abgd) and version >= 6:
            return f"abg exists up to instruction set v5, this is v{version}"
    return None


def _predicates(wide: Wide) -> str | None:
    written: set[int] = set()
    for number, elp in enumerate(wide.elps):
        if elp is not None and elp_name(elp.source) is None:
            return f"@p{number}: source code {elp.source:#x} is reserved"
    for number, clp in enumerate(wide.clps):
        if clp is None:
            continue
        if clp.opc not in CLP_NAMES:
            return f"PLS{number}: opc {clp.opc} is reserved"
        for argument in (clp.arg0, clp.arg1):
            if argument not in CLP_ARGUMENTS[number]:
                return f"PLS{number}: @p{argument} is not defined yet"
        if clp.dst is not None:
            if clp.dst in written:
                return f"two logical operations write %pred{clp.dst}"
            written.add(clp.dst)
    return None


def _channels(wide: Wide) -> str | None:
    busy = {insn.channel for insn in wide.alu}
    for insn in wide.alu:
        if insn.op.pair and insn.pair_channel is None:
            return f"{insn.op.name}: the two channels of the pair do not agree"
        if insn.pair_channel in busy:
            return f"{insn.op.name}: channel {insn.pair_channel} belongs to the pair"
        if insn.dst is not None and insn.dst.kind is Kind.CTPR:
            if not insn.op.name.startswith(("movt", "getpl", "puttc", "gettc", "gettst")):
                return f"{insn.op.name} cannot write %ctpr{insn.dst.value}"
            if insn.channel != 0:
                return f"{insn.op.name}: only channel 0 writes %ctpr"
    return _memory_pairs(wide)


def _memory_pairs(wide: Wide) -> str | None:
    """A load in channel 0 excludes a store in 5, a load in 3 a store in 2."""
    loads: set[int | None] = set()
    stores: set[int | None] = set()
    for insn in wide.alu:
        if insn.op.load:
            loads |= {insn.channel, insn.pair_channel}
        if insn.op.store:
            stores |= {insn.channel, insn.pair_channel}
    for load, store in ((0, 5), (3, 2)):
        if load in loads and store in stores:
            return f"a load in channel {load} and a store in channel {store} exclude each other"
    return None


def _control(wide: Wide) -> str | None:
    stub, cs0 = wide.stub, wide.cs0
    if stub is not None:
        kind = stub.condition.type
        if kind not in _CONDITION_TYPES and not (kind == 11 and wide.version >= 7):
            return f"SS: condition type {kind} is reserved"
        if stub.aa and stub.sf2:
            return "SS: SF2 has no array channels"
    if cs0 is not None and cs0.name == "ibranch" and (stub is None or stub.condition.type == 0):
        return "ibranch without a condition in SS"
    if cs0 is not None and cs0.name == "sdisp" and cs0.param > MAX_SYSTEM_ENTRY:
        return f"sdisp: entry {cs0.param:#x} is more than {MAX_SYSTEM_ENTRY:#x}"
    if any(op.name == "call" for op in wide.cs1) and (stub is None or not stub.ctop):
        return "call without a %ctpr in SS"
    if any(op.name in ("icall", "hcall") for op in wide.cs1) and cs0 is None:
        return f"{wide.cs1[0].name} without CS0"
    return None


def _arrays(wide: Wide) -> str | None:
    for mova in wide.movas:
        if mova.opc not in MOVA:
            return f"AAS{2 + mova.channel}: opc {mova.opc} is reserved"
        if mova.ind % MOVA_BYTES[mova.opc]:
            return f"{MOVA[mova.opc]},{mova.channel}: ind {mova.ind} is not a multiple of its size"
    return None
