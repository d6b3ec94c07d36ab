"""Loads and stores of the arithmetic-logic channels.

Address = src1 + src2. Narrow loads extend with zeros to 64 bits. Memory is little endian. Loads issue in
channels 0, 2, 3, 5, stores in 2 and 5. Accesses relative to x86 segments (CS..SS, GS), to CUD and GD
("segment") take base and size from the state registers of that name, array pointers ("pointer") from a pair of
registers with the tags 15 and 12. Object descriptors of the first instruction sets are declared without a meaning.
Facts: the operation tables of the binutils port, the format of pointers from the kernel's headers.
"""

from __future__ import annotations

from typing import Any

from e2kemu.cpu.isa.lanes import halves, split
from e2kemu.cpu.isa.notation import ALOPF1, ALOPF3, ALOPF11, ALOPF13, alu, row

V = Any
_LOADS = "0235"
_LOAD_PAIRS = {1: "0235", 7: "03"}
_STORE_PAIRS = {1: "25", 7: "2"}
_SIZES = (("b", 1), ("h", 2), ("w", 4), ("d", 8))
_SEGMENTS = ("cs", "ds", "es", "fs", "gs", "ss")


def _load(size: int) -> Any:
    def load(v: V, a: V, b: V) -> V:
        return v.load(v.add(a, b, 64), size)

    load.__doc__ = f"Load {size} bytes, extended with zeros."
    return load


def _store(size: int) -> Any:
    def store(v: V, a: V, b: V, value: V) -> None:
        v.store(v.add(a, b, 64), size, value)

    store.__doc__ = f"Store the low {size} bytes."
    return store


for _code, (_letter, _bytes) in enumerate(_SIZES):
    row(f"ld{_letter}", ALOPF1, 0x64 + _code, "DDD", _LOADS, mas=True, load=_bytes, meaning=_load(_bytes))
    row(f"st{_letter}", ALOPF3, 0x24 + _code, "DDD" if _bytes == 8 else "DDS", "25", mas=True, store=_bytes,
        meaning=_store(_bytes))

# MMU registers are reached by ldd and std with MAS 0x47; these are the assembler's other names.
row("mmurr", ALOPF1, 0x67, "DDD", "25", mas=True, load=8, alias_of="ldd")
row("mmurw", ALOPF3, 0x27, "DDD", "2", mas=True, store=8, alias_of="std")


@alu("ldq", ALOPF11, 0x41, "DDQ", {5: "0235", 7: "03"}, opc2=0x01, ales_lo=0xC0, pair="02/35", mas=True, load=16)
def ldq(v: V, a: V, b: V) -> tuple[V, V]:
    """Load two double words into an even register and the next one."""
    address = v.add(a, b, 64)
    return v.load(address, 8), v.load(v.add(address, v.const(8, 64), 64), 8)


@alu("stq", ALOPF13, 0x01, "DDQ", {5: "25", 7: "2"}, opc2=0x01, ales_lo=0xC0, pair="25", mas=True, store=16)
def stq(v: V, a: V, b: V, low: V, high: V) -> None:
    """Store two double words from an even register and the next one."""
    address = v.add(a, b, 64)
    v.store(address, 8, low)
    v.store(v.add(address, v.const(8, 64), 64), 8, high)



@alu("ldqp", ALOPF11, 0x61, "DDP", _LOADS, since=5, opc2=0x02, ales_lo=0xC0, mas=True, load=16)
def ldqp(v: V, a: V, b: V) -> tuple[V, V]:
    """Load 16 bytes into a 128-bit register."""
    return ldq(v, a, b)


@alu("stqp", ALOPF13, 0x21, "DDP", "25", since=5, opc2=0x02, ales_lo=0xC0, mas=True, store=16)
def stqp(v: V, a: V, b: V, value: V) -> None:
    """Store the 16 bytes of a 128-bit register."""
    stq(v, a, b, *halves(v, value))


@alu("stmqp", ALOPF13, 0x11, "DDP", "25", since=5, opc2=0x02, ales_lo=0xC0, mas=True, store=16)
def stmqp(v: V, a: V, b: V, value: V) -> None:
    """Store those bytes of a 128-bit register at src1 whose bits in src2 are 1 (bit 0: the lowest byte)."""
    for index, byte in enumerate(split(v, value, 8, 128)):
        chosen = v.trunc(v.lshr(b, v.const(index, 64), 64), 1)
        v.store_if(chosen, v.add(a, v.const(index, 64), 64), 1, byte)


# The trap handler's own load and store: they repeat an access out of the trap cellar.

@alu("ldrd", ALOPF11, 0x5B, "DDD", _LOADS, opc2=0x01, ales_lo=0xC0, load=8, family="record")
def ldrd(v: V, a: V, b: V) -> V:
    """Load at src1 as the record src2 of an access says: its index is added, its format is the size."""
    return v.load(v.add(a, b, 64), 8)


@alu("strd", ALOPF13, 0x1B, "DDD", "25", opc2=0x01, ales_lo=0xC0, mas=True, store=8, family="record")
def strd(v: V, a: V, b: V, value: V) -> None:
    """Store at src1 as the record src2 of an access says."""
    v.store(v.add(a, b, 64), 8, value)


row("ldrqp", ALOPF11, 0x6B, "DDP", _LOADS, since=5, opc2=0x02, ales_lo=0xC0, mas=True, load=16, family="record", meaning=ldqp)
row("strqp", ALOPF13, 0x2B, "DDP", "25", since=5, opc2=0x02, ales_lo=0xC0, mas=True, store=16, family="record", meaning=stqp)


def _segment(name: str, fmt: Any, cop: int, sizes: str, channels: Any, meaning: Any, *, opc2: int | None = None,
             since: int = 1, pair: str = "", load: int = 0, store: int = 0) -> None:
    """An access at an offset (src1 + src2) into a segment."""
    row(name, fmt, cop, sizes, channels, since=since, opc2=opc2, ales_lo=None if opc2 is None else 0xC0, pair=pair,
        mas=True, load=load, store=store, family="segment", meaning=meaning)


# x86 segments
for _index, _name in enumerate(_SEGMENTS):
    for _code, (_letter, _bytes) in enumerate(_SIZES):
        _segment(f"ld{_name}{_letter}", ALOPF1, 0x68 + 4 * _index + _code, "SSD", _LOADS, _load(_bytes), load=_bytes)
        _segment(f"st{_name}{_letter}", ALOPF3, 0x28 + 4 * _index + _code, "SSD" if _bytes == 8 else "SSS", "25",
                 _store(_bytes), store=_bytes)
    _width = "SS" if _name == "es" else "DD"
    _segment(f"ld{_name}q", ALOPF11, 0x42 + _index, f"{_width}Q", _LOAD_PAIRS, ldq, opc2=0x01, pair="02/35", load=16)
    _segment(f"st{_name}q", ALOPF13, 0x02 + _index, "SSQ", _STORE_PAIRS, stq, opc2=0x01, pair="25", store=16)
    _segment(f"ld{_name}qp", ALOPF11, 0x62 + _index, f"{_width}P", _LOADS, ldqp, since=5, opc2=0x02, load=16)
    _segment(f"st{_name}mqp", ALOPF13, 0x12 + _index, f"{_width}P", "25", stmqp, since=5, opc2=0x02, store=16)
    _segment(f"st{_name}qp", ALOPF13, 0x22 + _index, f"{_width}P", "25", stqp, since=5, opc2=0x02, store=16)

# CUD and GD
for _name, _first, _quad, _long in (("cud", 0x60, 0x78, 0x68), ("gd", 0x64, 0x79, 0x69)):
    for _code, (_letter, _bytes) in enumerate(_SIZES):
        _segment(f"ld{_name}{_letter}", ALOPF11, _first + _code, "SSD", _LOADS, _load(_bytes), opc2=0x01, load=_bytes)
    _segment(f"ld{_name}q", ALOPF11, _quad, "SSQ", _LOAD_PAIRS, ldq, opc2=0x01, pair="02/35", load=16)
    _segment(f"ld{_name}qp", ALOPF11, _long, "SSP", _LOADS, ldqp, since=5, opc2=0x02, load=16)
for _code, (_letter, _bytes) in enumerate(_SIZES):
    _segment(f"stgd{_letter}", ALOPF13, 0x24 + _code, "SSD" if _bytes == 8 else "SSS", "25", _store(_bytes), opc2=0x01,
             store=_bytes)
_segment("stgdq", ALOPF13, 0x39, "SSQ", _STORE_PAIRS, stq, opc2=0x01, pair="25", store=16)
_segment("stgdmqp", ALOPF13, 0x19, "SSP", "25", stmqp, since=5, opc2=0x02, store=16)
_segment("stgdqp", ALOPF13, 0x29, "SSP", "25", stqp, since=5, opc2=0x02, store=16)

# Array pointers: base 47:0 and rights 60:59 in the even register, current offset 31:0 and size 63:32 in the odd one
for _code, (_letter, _bytes) in enumerate(_SIZES):
    row(f"ldap{_letter}", ALOPF11, 0x68 + _code, "QSD", _LOADS, opc2=0x01, ales_lo=0xC0, mas=True, load=_bytes,
        family="pointer", meaning=_load(_bytes))
    row(f"stap{_letter}", ALOPF13, 0x28 + _code, "QSD" if _bytes == 8 else "QSS", "25", opc2=0x01, ales_lo=0xC0, mas=True,
        store=_bytes, family="pointer", meaning=_store(_bytes))
row("ldapq", ALOPF11, 0x7A, "QSQ", _LOAD_PAIRS, opc2=0x01, ales_lo=0xC0, pair="02/35", mas=True, load=16, family="pointer",
    meaning=ldq)
row("stapq", ALOPF13, 0x3A, "QSQ", _STORE_PAIRS, opc2=0x01, ales_lo=0xC0, pair="25", mas=True, store=16, family="pointer",
    meaning=stq)
row("ldapqp", ALOPF11, 0x6A, "QSP", _LOADS, since=5, opc2=0x02, ales_lo=0xC0, mas=True, load=16, family="pointer",
    meaning=ldqp)
row("stapmqp", ALOPF13, 0x1A, "QSP", "25", since=5, opc2=0x02, ales_lo=0xC0, mas=True, store=16, family="pointer",
    meaning=stmqp)
row("stapqp", ALOPF13, 0x2A, "QSP", "25", since=5, opc2=0x02, ales_lo=0xC0, mas=True, store=16, family="pointer",
    meaning=stqp)

# Object descriptors of the first two instruction sets
for _index, _rights in enumerate("rwp"):
    for _code, (_letter, _bytes) in enumerate(_SIZES):
        row(f"ldod{_rights}{_letter}", ALOPF11, 0x6C + 4 * _index + _code, "QSD", _LOADS, until=2, opc2=0x01, ales_lo=0xC0,
            mas=True, load=_bytes)
        row(f"stod{_rights}{_letter}", ALOPF13, 0x2C + 4 * _index + _code, "QSD" if _bytes == 8 else "QSS", "25", until=2,
            opc2=0x01, ales_lo=0xC0, mas=True, store=_bytes)
    row(f"ldod{_rights}q", ALOPF11, 0x7B + _index, "QSQ", _LOADS, until=2, opc2=0x01, ales_lo=0xC0, pair="02/35", mas=True,
        load=16)
    row(f"stod{_rights}q", ALOPF13, 0x3B + _index, "QSQ", "25", until=2, opc2=0x01, ales_lo=0xC0, pair="25", mas=True,
        store=16)
