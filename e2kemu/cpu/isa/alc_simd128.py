"""Packed operations on the 128-bit registers of v5 and later (``qp...``).

The last letter is the size of an element: b 8, h 16, w 32, d 64 bits; s and d 32 and 64 bits of floats.
Meanings of the integer operations: ``packed`` and ``packed_moves``, mostly those of the 64-bit twins; of the others
``floats_packed``.
Facts: the operation tables of the binutils port.
"""

from __future__ import annotations

from e2kemu.cpu.isa.alc_fp import COMPARES
from e2kemu.cpu.isa.alc_simd64 import FIRST, SECOND
from e2kemu.cpu.isa.floats_packed import packed
from e2kemu.cpu.isa.notation import ALOPF11, ALOPF12, ALOPF21, row
from e2kemu.cpu.isa.packed_moves import meaning_of


def _ext(name: str, cop: int, channels: str, sizes: str = "PPP", *, lo: int = 0xC0, since: int = 5,
         until: int = 7, family: str = "packed128") -> None:
    row(name, ALOPF11, cop, sizes, channels, since=since, until=until, opc2=0x02, ales_lo=lo, family=family,
        meaning=packed(name, sizes) if family == "fp-packed128" else meaning_of(name))


# --- integers -----------------------------------------------------------------------------------------

for _cop, _name in enumerate(("qpsrlw", "qpsrlh", "qpsraw", "qpsrah", "qpsllw", "qpsllh", "qpsrld", "qpslld")):
    _ext(_name, _cop, "0134", "PDP")
for _cop, _name in enumerate(("qpand", "qpandn", "qpor", "qpxor"), 0x08):
    _ext(_name, _cop, "0134")
for _cop, _name in enumerate(("qpminuw", "qpminsw", "qpmaxuw", "qpmaxsw"), 0x0C):
    _ext(_name, _cop, "03")
for _cop, _name in enumerate(("qpcmpeqd", "qphaddh", "qphaddw", "qphaddsh", "qpcmpgtd", "qphsubh", "qphsubw", "qphsubsh"), 0x18):
    _ext(_name, _cop, "03")
_ext("qpsrad", 0x25, "0134", "PDP", since=6)
_ext("qpsrcw", 0x26, "0134", "PDP")
_ext("qpsrcd", 0x27, "0134", "PDP")
for _lo, _name, _sizes in ((0xC0, "qpchecks", "SSS"), (0xC1, "qpcheckd", "DDD"), (0xC2, "qpcheckq", "PPP")):
    _ext(_name, 0x33, "03", _sizes, lo=_lo, since=6)
_ext("qpmsk2sgnb", 0x34, "0134", "PSP")
for _cop, _name in enumerate(("qpsignb", "qpsignh", "qpsignw"), 0x38):
    _ext(_name, _cop, "03")
_ext("qppackdl", 0x3D, "0134", "DDP")
for _cop, _name in enumerate((
    "qpminub", "qpminsh", "qpmaxub", "qpmaxsh", "qpminsb", "qpminuh", "qpmaxsb", "qpmaxuh",
    "qpaddb", "qpaddh", "qpaddsb", "qpaddsh", "qpaddusb", "qpaddush", "qpaddw", "qpaddd",
    "qpsubb", "qpsubh", "qpsubsb", "qpsubsh", "qpsubusb", "qpsubush", "qpsubw", "qpsubd",
    "qpcmpeqb", "qpcmpeqh", "qpcmpeqw", "qpcmpgtb", "qpcmpgth", "qpcmpgtw", "qpavgusb", "qpavgush",
), 0x40):
    _ext(_name, _cop, "03")
for _cop, _name, _sizes in (
    (0x48, "qpacksshb", "PPP"), (0x49, "qpackushb", "PPP"), (0x4A, "qpacksswh", "PPP"), (0x4B, "qpackuswh", "PPP"),
    (0x58, "qpmulhh", "PPP"), (0x59, "qpmullh", "PPP"), (0x5A, "qpmaddh", "PPP"), (0x5B, "qpmulhuh", "PPP"),
    (0x5C, "qpsadbw", "PPP"), (0x5D, "qpmulubhh", "DPP"), (0x5E, "qpmullw", "PPP"), (0x68, "qpmaddubsh", "PPP"),
    (0x69, "qpmulhrsh", "PPP"), (0x6A, "qphminposuh", "PPD"), (0x6B, "qpmpsadbh", "PSP"),
):
    _ext(_name, _cop, "14", _sizes)
_ext("qpmrgp", 0x60, "0134", since=6, family="merge")

for _lo, _byte in ((0xC0, 0x00), (0xC2, 0x7F), (0xC4, 0x80), (0xC6, 0xFF)):
    _name = f"qpcext_{_byte:#04x}"
    row(_name, ALOPF12, 0x35, "DP", "0134", since=6, opc2=0x02, ales_lo=_lo, opce=0xC0, family="packed128",
        meaning=meaning_of(_name))
for _cop, _name, _sizes in ((0x3C, "qpsgn2mskb", "PS"), (0x3E, "qpswitchw", "PP"), (0x3F, "qpswitchd", "PP")):
    row(_name, ALOPF12, _cop, _sizes, "0134", since=5, opc2=0x02, ales_lo=0xC0, opce=0xC0, family="packed128",
        meaning=meaning_of(_name))
for _cop, _name in ((0x0D, "qppermb"), (0x4D, "qpshufb"), (0x6D, "qpmerge")):
    row(_name, ALOPF21, _cop, "PPPP", "0134", since=5, opc2=0x17, family="packed128", pack_code=_name == "qppermb",
        meaning=meaning_of(_name))

# --- floats -------------------------------------------------------------------------------------------

_FLOAT = "fp-packed128"

for _cop, _name, _sizes, _channels in (
    (0x6E, "qpfstoifs", "DPP", "0134"), (0x6F, "qpfdtoifd", "DPP", "0134"),
    (0x70, "qpfadds", "PPP", "012345"), (0x71, "qpfaddd", "PPP", "012345"),
    (0x72, "qpfsubs", "PPP", "012345"), (0x73, "qpfsubd", "PPP", "012345"),
    (0x74, "qpfmins", "PPP", "0134"), (0x75, "qpfmind", "PPP", "0134"),
    (0x76, "qpfmaxs", "PPP", "0134"), (0x77, "qpfmaxd", "PPP", "0134"),
    (0x78, "qpfmuls", "PPP", "012345"), (0x79, "qpfmuld", "PPP", "012345"),
    (0x7C, "qpfhadds", "PPP", "012345"), (0x7D, "qpfhsubs", "PPP", "012345"),
    (0x7E, "qpfaddsubs", "PPP", "012345"), (0x7F, "qpfaddsubd", "PPP", "012345"),
):
    _ext(_name, _cop, _channels, _sizes, family=_FLOAT)
for _code, _relation in enumerate(COMPARES):
    for _step, _size in enumerate("sd"):
        _ext(f"qpfcmp{_relation}{_size}", 0x7A + _step, "0134", lo=0xC0 + _code, family=_FLOAT)

for _opce, _name, _sizes, _family in (
    (0xC8, "qpfstois", "PP", _FLOAT), (0xCA, "qpfstoistr", "PP", _FLOAT), (0xCC, "qpistofs", "PP", "packed128"),
    (0xD8, "qpfstoid", "DP", _FLOAT), (0xDA, "qpfstoidtr", "DP", _FLOAT), (0xDC, "qpistofd", "DP", "packed128"),
    (0xDE, "qpfstofd", "DP", _FLOAT), (0xE8, "qpfdtois", "PD", _FLOAT), (0xEA, "qpfdtoistr", "PD", _FLOAT),
    (0xEC, "qpidtofs", "PD", "packed128"), (0xEE, "qpfdtofs", "PD", _FLOAT), (0xF8, "qpfdtoid", "PP", _FLOAT),
    (0xFA, "qpfdtoidtr", "PP", _FLOAT), (0xFC, "qpidtofd", "PP", "packed128"),
):
    row(_name, ALOPF12, 0x6D, _sizes, "0134", since=5, opc2=0x02, ales_lo=0xC0, opce=_opce, family=_family,
        meaning=packed(_name, _sizes))

_BOTH_SIZES = ("add", "sub", "mul", "addsub")
"""Operations that 128-bit registers have for s and d elements; the others are for s only."""

for _first, _base, _ in FIRST:
    for _second, _offset, _more, _ in SECOND:
        _sizes = "sd" if _first in _BOTH_SIZES and _second in (*_BOTH_SIZES, "rsub") else "s"
        for _size in _sizes:
            row(f"qpf{_first}_{_second}{_size}", ALOPF21, _base + _offset + (_size == "d"), "PPPP", "012345", since=5,
                opc2=0x16 + _more, family=_FLOAT, meaning=packed(f"qpf{_first}_{_second}{_size}", "PPPP"))

for _cop, _name in enumerate(("qpfma", "qpfms", "qpfnma", "qpfnms", "qpfmas", "qpfmsa")):
    for _step, _size in enumerate("sd"):
        row(_name + _size, ALOPF21, 0x08 + 2 * _cop + _step, "PPPP", "012345", since=6, opc2=0x03, family=_FLOAT,
            meaning=packed(_name + _size, "PPPP"))
