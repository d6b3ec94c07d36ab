"""Packed operations on 64-bit registers: integers of 8, 16, 32, 64 bits, floats of 32 and 64 bits.

The last letter is the size of an element: b 8, h 16, w 32, d 64 bits; s and d 32 and 64 bits of floats.
Meanings of the integer operations: ``packed`` and ``packed_moves``, of the others ``floats_packed``.
Facts: the operation tables of the binutils port.
"""

from __future__ import annotations

from e2kemu.cpu.isa.alc_fp import ALL_SINCE_4, COMPARES
from e2kemu.cpu.isa.floats_packed import packed
from e2kemu.cpu.isa.notation import ALOPF2, ALOPF11, ALOPF12, ALOPF17, ALOPF21, Channels, row
from e2kemu.cpu.isa.packed_moves import meaning_of, plog

EXPLICIT_ALES = "in channels 2 and 5 the ALES word must be there"
"""Note of operations whose ALES2 or ALES5 is the default and yet must be stored."""


def _ext(name: str, cop: int, channels: Channels, sizes: str = "DDD", *, opc2: int = 0x01, since: int = 1,
         family: str = "packed64") -> None:
    row(name, ALOPF11, cop, sizes, channels, since=since, opc2=opc2, ales_lo=0xC0, family=family, meaning=meaning_of(name))


# --- integers, channels 0 and 3 ---------------------------------------------------------------------

for _cop, _name in enumerate((
    "pminub", "pminsh", "pmaxub", "pmaxsh", None, None, None, None,
    "paddb", "paddh", "paddsb", "paddsh", "paddusb", "paddush", "paddw", "paddd",
    "psubb", "psubh", "psubsb", "psubsh", "psubusb", "psubush", "psubw", "psubd",
    "pcmpeqb", "pcmpeqh", "pcmpeqw", "pcmpgtb", "pcmpgth", "pcmpgtw", "pavgusb", "pavgush",
)):
    if _name:
        _ext(_name, _cop, "03")
for _cop, _name in ((0x04, "pminsb"), (0x05, "pminuh"), (0x06, "pmaxsb"), (0x07, "pmaxuh"),
                    (0x4D, "pcmpeqd"), (0x4F, "pcmpgtd")):
    _ext(_name, _cop, "03", since=3)
for _cop, _name in (
    (0x10, "psrlw"), (0x11, "psrlh"), (0x12, "psraw"), (0x13, "psrah"), (0x14, "psllw"), (0x15, "psllh"),
    (0x20, "pminuw"), (0x21, "pminsw"), (0x22, "pmaxuw"), (0x23, "pmaxsw"),
    (0x29, "phaddh"), (0x2A, "phaddw"), (0x2B, "phaddsh"), (0x2D, "phsubh"), (0x2E, "phsubw"), (0x2F, "phsubsh"),
    (0x30, "psignb"), (0x31, "psignh"), (0x32, "psignw"),
):
    _ext(_name, _cop, "03", opc2=0x02, since=3)

# --- integers, channels 1 and 4 ---------------------------------------------------------------------

for _cop, _name in (
    (0x00, "punpckhbh"), (0x01, "punpcklbh"), (0x02, "punpckhhw"), (0x03, "punpcklhw"), (0x04, "punpckhwd"),
    (0x05, "punpcklwd"), (0x06, "pmovmskps"), (0x07, "pmovmskpd"), (0x08, "packsshb"), (0x09, "packushb"),
    (0x0A, "packsswh"), (0x0B, "pmovmskb"), (0x10, "psrlw"), (0x11, "psrlh"), (0x12, "psraw"), (0x13, "psrah"),
    (0x14, "psllw"), (0x15, "psllh"), (0x18, "pmulhh"), (0x19, "pmullh"), (0x1A, "pmaddh"), (0x1B, "pmulhuh"),
    (0x1C, "psadbw"), (0x4C, "psrld"), (0x4E, "pslld"),
):
    _ext(_name, _cop, "14")
_ext("pmulubhh", 0x1D, "14", since=2)
for _cop, _name in ((0x68, "pmaddubsh"), (0x69, "pmulhrsh"), (0x6A, "phminposuh"), (0x6B, "packuswh")):
    _ext(_name, _cop, "14", since=3)
_ext("pmullw", 0x26, "14", since=5)
_ext("mpsadbh", 0x58, "14", since=3)

# With an 8-bit literal in ALES.
for _cop, _name, _sizes in ((0x0C, "psrlqh", "DDD"), (0x0D, "psrlql", "DDD"), (0x0E, "psllqh", "DDD"),
                            (0x0F, "psllql", "DDD"), (0x16, "pshufw", "DDD"), (0x1E, "pextrh", "DDS"),
                            (0x1F, "pinsh", "DDD")):
    row(_name, ALOPF11, _cop, _sizes, "14", opc2=0x01, imm8=True, family="packed64", meaning=meaning_of(_name))
row("pshufh", ALOPF12, 0x17, "DD", "14", opc2=0x01, opce=0xC0, imm8=True, family="packed64", meaning=meaning_of("pshufh"))

# --- integers, four channels --------------------------------------------------------------------------

_ext("psrcw", 0x16, "0134", opc2=0x02, since=5)
_ext("psrcd", 0x17, "0134", opc2=0x02, since=5)
_ext("pmrgp", 0x40, "0134", since=6, family="merge")
for _cop, _name in ((0x48, "pandd"), (0x49, "pandnd"), (0x4A, "pord"), (0x4B, "pxord")):
    _ext(_name, _cop, "0134")
for _cop, _name in ((0x4D, "pshufb"), (0x6D, "pmerge")):
    row(_name, ALOPF21, _cop, "DDDD", "0134", since=2, opc2=0x0F, family="packed64", meaning=meaning_of(_name))
for _cop, _name, _sizes in ((0x66, "popcnts", "SS"), (0x67, "popcntd", "DD")):
    row(_name, ALOPF2, _cop, _sizes, "14", since=2, opce=0xC0, family="packed64", meaning=meaning_of(_name))
row("pistofs", ALOPF2, 0x3D, "DD", "0134", opce=0xCC, family="packed64", meaning=packed("pistofs", "DD"))

# Compares into a predicate: "ap" all elements, "op" any of them.
for _step, _quantity in ((0, "op"), (8, "ap")):
    for _code, (_relation, _size) in enumerate((r, s) for r in ("eq", "gt") for s in "bhwd"):
        for _prefix, _cop, _sizes, _family in (("p", 0x28, "DDB", "packed64"), ("qp", 0x2C, "PPB", "packed128")):
            _name = f"{_prefix}cmp{_relation}{_size}{_quantity}"
            row(_name, ALOPF17, _cop, _sizes, "03", since=6, opc2=0x02, ales_lo=0xC0 + _step + _code, nops=2,
                family=_family, meaning=meaning_of(_name))

# Any function of three bits, by its truth table.
PLOG_NAMES = {0x80: "and", 0x96: "xor", 0xD8: "sel3", 0xE8: "mjr", 0xFE: "or"}
"""Truth tables that have a name besides their number."""

# The vendor's syntax has 64-bit names for the 128-bit registers of qplog.
for _prefix, _opc2, _family, _sizes, _channels in (
    ("plog", 0x10, "packed64", "DDDD", "0134"),
    ("qplog", 0x12, "packed128", "PPPP", {5: "0134", 7: "012345"}),
):
    for _table in range(256):
        _name, _meaning = f"{_prefix}_{_table:#04x}", plog(_table)
        _others = [f"{_prefix}_{_table}"] + ([f"{_prefix}_{PLOG_NAMES[_table]}"] if _table in PLOG_NAMES else [])
        for _alias in (None, *_others):
            row(_alias or _name, ALOPF21, _table & 0x7F, _sizes, _channels, since=5, opc2=_opc2 + (_table >> 7),
                spelled="DDDD", family=_family, pack_code=_prefix == "qplog", alias_of=_name if _alias else "",
                meaning=_meaning)

# --- floats -------------------------------------------------------------------------------------------

for _cop, _name, _since, _everywhere in (
    (0x30, "pfadds", 1, True), (0x31, "pfaddd", 1, True), (0x32, "pfsubs", 1, True), (0x33, "pfsubd", 1, True),
    (0x34, "pfmins", 1, False), (0x35, "pfmind", 1, False), (0x36, "pfmaxs", 1, False), (0x37, "pfmaxd", 1, False),
    (0x38, "pfmuls", 1, True), (0x39, "pfmuld", 1, False),
    (0x6E, "pfstoifs", 3, False), (0x6F, "pfdtoifd", 3, False),
    (0x72, "pfhadds", 3, True), (0x73, "pfhsubs", 3, True), (0x77, "pfaddsubs", 3, True),
):
    row(_name, ALOPF11, _cop, "DDD", ALL_SINCE_4 if _everywhere else "0134", since=_since, opc2=0x01, ales_lo=0xC0,
        family="fp-packed64", note=EXPLICIT_ALES if _everywhere else "", meaning=packed(_name, "DDD"))
for _cop, _name, _sizes in ((0x4A, "pfdivs", "SSS"), (0x4B, "pfdivd", "DDD"), (0x53, "pfsqrttd", "DDD")):
    row(_name, ALOPF11, _cop, _sizes, "5", opc2=0x01, ales_lo=0xC0, family="fp-packed64", meaning=packed(_name, _sizes))
row("pfsqrts", ALOPF12, 0x4E, "SS", "5", opc2=0x01, ales_lo=0xC0, opce=0xC0, family="fp-packed64", meaning=packed("pfsqrts", "SS"))
for _code, _relation in enumerate(COMPARES):
    for _step, _size in enumerate("sd"):
        row(f"pfcmp{_relation}{_size}", ALOPF11, 0x3A + _step, "DDD", "0134", opc2=0x01, ales_lo=0xC0 + _code,
            family="fp-packed64", meaning=packed(f"pfcmp{_relation}{_size}", "DDD"))
for _name, _cop, _opce, _sizes in (
    ("pfstois", 0x3D, 0xC8, "DD"), ("pfstoistr", 0x3D, 0xCA, "DD"), ("pfstofd", 0x3E, 0xCE, "SD"),
    ("pfdtois", 0x3F, 0xC8, "DS"), ("pfdtoistr", 0x3F, 0xCA, "DS"), ("pfdtofs", 0x3F, 0xCE, "DS"),
):
    row(_name, ALOPF2, _cop, _sizes, "0134", opce=_opce, family="fp-packed64", meaning=packed(_name, _sizes))

FIRST = (("add", 0x00, "sd"), ("sub", 0x02, "sd"), ("hadd", 0x04, "s"), ("hsub", 0x06, "s"), ("mul", 0x08, "sd"),
         ("addsub", 0x0E, "s"))
"""First operation of a combined one, its part of cop, and its sizes in 64-bit registers."""

SECOND = (("add", 0x00, 0, "sd"), ("sub", 0x20, 0, "sd"), ("rsub", 0x20, 1, "sd"), ("hadd", 0x40, 0, "s"),
          ("hsub", 0x60, 0, "s"), ("addsub", 0x60, 1, "s"))
"""Second operation, its part of cop, what it adds to opc2, and its sizes."""

_SINCE_2 = ("add", "sub", "rsub")


def _combined_since(first: str, second: str) -> int:
    if first in ("add", "sub", "mul") and second in _SINCE_2:
        return 1 if first == "mul" else 2
    return 3


for _first, _base, _sizes in FIRST:
    for _second, _offset, _more, _second_sizes in SECOND:
        for _size in (s for s in _sizes if s in _second_sizes):
            row(f"pf{_first}_{_second}{_size}", ALOPF21, _base + _offset + (_size == "d"), "DDDD", ALL_SINCE_4,
                since=_combined_since(_first, _second), opc2=0x0E + _more, family="fp-packed64",
                meaning=packed(f"pf{_first}_{_second}{_size}", "DDDD"))
    if _first in ("add", "sub"):
        for _step, _size in enumerate("sd"):
            row(f"pf{_first}_mul{_size}", ALOPF21, _base + _step, "DDDD", "0134", until=1, opc2=0x0F,
                family="fp-packed64", meaning=packed(f"pf{_first}_mul{_size}", "DDDD"))
