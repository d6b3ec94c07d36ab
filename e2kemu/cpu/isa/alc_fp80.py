"""Floating point with 80-bit operands. The last letters name the sizes of the second source and the result
(s 32, d 64, x 80 bits). Facts: the operation tables of the binutils port; which operands are 80 bits wide:
the descriptions of the e2k port of QEMU.
"""

from __future__ import annotations

from e2kemu.cpu.isa import floats
from e2kemu.cpu.isa.alc_fp import COMPARES
from e2kemu.cpu.isa.notation import ALOPF1, ALOPF2, ALOPF7, ALOPF11, row

_FORMS = {0: "ss", 1: "dd", 2: "sx", 3: "dx", 4: "xs", 5: "xd", 7: "xx"}
"""Low digit of cop -> second source and result; the first source is 80 bits."""

for _name, _base, _channels in (("fxadd", 0x40, "0134"), ("fxsub", 0x48, "0134"), ("fxmul", 0x50, "0134"),
                                ("fxdiv", 0x48, "5")):
    for _digit, _form in _FORMS.items():
        row(_name + _form, ALOPF1, _base + _digit, "X" + _form.upper(), _channels, family="fp80",
            meaning=floats.mixed(_name[2:], "x", *_form))
for _digit in range(4):
    row("fxrsub" + _FORMS[_digit], ALOPF1, 0x58 + _digit, "X" + _FORMS[_digit].upper(), "0134", family="fp80",
        meaning=floats.mixed("rsub", "x", *_FORMS[_digit]))


def _step_of(name: str) -> floats.Meaning:
    """The meaning of a later step: fxsqrtu.., fxsqrtt.., fxdivt.. with the formats of the first source and the result."""
    kind, first, result = name[2:-2], name[-2], name[-1]
    if kind == "divt":
        return floats.mixed("div", first, "x", result)
    return floats.middle_step() if kind == "sqrtu" else floats.mixed_root(first)


# The u and t steps of a square root and the t step of a division, after the i step. Channel 5.
# Their register names follow the order of the other operations, not the true sizes.
for _name, _cop, _sizes, _spelled in (
    ("fxsqrtuxx", 0x59, "XXX", ""), ("fxsqrtusx", 0x5A, "SXX", "DSD"), ("fxsqrtudx", 0x5B, "DXX", ""),
    ("fxsqrttxx", 0x5D, "XXX", ""), ("fxsqrttsx", 0x5E, "SXX", "DSD"), ("fxsqrttdx", 0x5F, "DXX", ""),
    ("fxdivtss", 0x60, "SXS", "DSS"), ("fxdivtdd", 0x61, "DXD", ""), ("fxdivtsx", 0x62, "SXX", "DSD"),
    ("fxdivtdx", 0x63, "DXX", ""),
):
    row(_name, ALOPF1, _cop, _sizes, "5", spelled=_spelled, family="fp80", meaning=_step_of(_name))
for _name, _cop, _sizes in (("fxsqrtisx", 0x52, "SX"), ("fxsqrtidx", 0x53, "DX"), ("fxsqrtixx", 0x57, "XX")):
    row(_name, ALOPF2, _cop, _sizes, "5", opce=0xC0, family="fp80", meaning=floats.extended(_name[-2]))

for _name, _cop, _opce, _sizes, _since in (
    ("fxtoid", 0x3D, 0xC1, "XD", 1), ("fxtoidtr", 0x3D, 0xC3, "XD", 2), ("fxtofd", 0x3D, 0xC6, "XD", 1),
    ("fdtofx", 0x3D, 0xC7, "DX", 1), ("fstofx", 0x3E, 0xC7, "SX", 1),
    ("fxtois", 0x3F, 0xC1, "XS", 1), ("fxtoistr", 0x3F, 0xC3, "XS", 2), ("fxtofs", 0x3F, 0xC7, "XS", 1),
):
    row(_name, ALOPF2, _cop, _sizes, "0134", since=_since, opce=_opce, family="fp80", meaning=floats.conversion(_name))

for _cop, _size in ((0x28, "s"), (0x29, "d"), (0x2B, "x")):
    for _code, _relation in enumerate(COMPARES):
        row(f"fxcmp{_relation}{_size}b", ALOPF7, _cop, f"X{_size.upper()}B", "0134", cmpopce=_code, nops=4,
            spelled="SS" if _size == "s" else "", family="fp80", meaning=floats.mixed_compared(_relation, _size))
    for _lo, _relation in ((0xC7, "od"), (0xC3, "ud")):
        row(f"fxcmp{_relation}{_size}f", ALOPF11, _cop, f"X{_size.upper()}S", "0134", opc2=0x01, ales_lo=_lo,
            family="fp80", meaning=floats.mixed_order(_size))

row("fxscalesx", ALOPF11, 0x27, "XSX", "14", since=4, opc2=0x01, ales_lo=0xC0, family="fp80", meaning=floats.scaled("x"))
