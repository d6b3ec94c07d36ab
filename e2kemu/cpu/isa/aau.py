"""The array access unit: its registers, and the ALC operations that store, load and access through it.

The array operand is ALS[23:8] (``formats.AAU``). ``aaurw`` and ``aaurr`` have the bits of the array
stores and loads; the memory access specifier 0x3f selects them. Facts: register codes of the binutils
port; the index of a register is in the field ``d`` (aad, aadr, aaldi, aalda) or ``ind`` (the others,
seen in the words of ``aaurrd,5 %aasti1`` and ``aaurw,2 %r4, %aaincr1``; of aabf it is inferred from the
number of registers).
"""

from __future__ import annotations

from dataclasses import dataclass

from e2kemu.cpu.isa.formats import AAU, MAS_AAU
from e2kemu.cpu.isa.notation import ALOPF10, ALOPF19, ALOPF20, row


@dataclass(frozen=True)
class AauFamily:
    """Registers ``name``0 .. ``name``(count-1) of one code; ``index`` is the field with the number (None: one register)."""

    name: str
    code: int
    count: int
    index: str | None

    def opce1(self, number: int) -> int:
        """ALS[23:8] that names register ``number``."""
        return AAU["code"].put(self.code) | (AAU[self.index].put(number) if self.index else 0)


FAMILIES = (
    AauFamily("%aad", 0x00, 32, "d"),
    AauFamily("%aasti", 0x01, 16, "ind"),
    AauFamily("%aaind", 0x02, 16, "ind"),
    AauFamily("%aaincr", 0x03, 16, "ind"),
    AauFamily("%aaldi", 0x04, 32, "d"),
    AauFamily("%aalda", 0x05, 32, "d"),
    AauFamily("%aafstr", 0x08, 1, None),
    AauFamily("%aaldv", 0x09, 1, None),
    AauFamily("%aaldm", 0x0A, 1, None),
    AauFamily("%aabf", 0x0C, 16, "ind"),
    AauFamily("%aadr", 0x10, 32, "d"),
    AauFamily("%aasti_tag", 0x11, 1, None),
    AauFamily("%aaind_tag", 0x12, 1, None),
    AauFamily("%aaincr_tag", 0x13, 1, None),
    AauFamily("%aasr", 0x1B, 1, None),
)

REGISTERS: dict[str, int] = {
    family.name + (str(number) if family.index else ""): family.opce1(number)
    for family in FAMILIES for number in range(family.count)
}
"""Register name -> ALS[23:8]."""

NAMES: dict[int, str] = {opce1: name for name, opce1 in REGISTERS.items()}
"""ALS[23:8] -> register name."""

_PAIRS = {1: "25", 7: "2"}

for _code, _letter, _size in ((0x1C, "b", "S"), (0x1D, "h", "S"), (0x1E, "w", "S"), (0x1F, "d", "D")):
    row(f"staa{_letter}", ALOPF10, _code, _size, "25", opc2=0x01, ales_lo=0xC0, mas=True,
        store=1 << _code - 0x1C, family="aau")
    row(f"ldaa{_letter}", ALOPF19, _code + 0x40, _size, "25", opc2=0x01, ales_lo=0xC0, mas=True,
        load=1 << _code - 0x1C, family="aau")
row("staaqp", ALOPF10, 0x20, "P", "25", since=5, opc2=0x02, ales_lo=0xC0, mas=True, store=16, family="aau")
row("ldaaqp", ALOPF19, 0x60, "P", "25", since=5, opc2=0x02, ales_lo=0xC0, mas=True, load=16, family="aau")
row("staaq", ALOPF10, 0x3F, "Q", _PAIRS, opc2=0x01, ales_lo=0xC0, mas=True, store=16, pair="25", family="aau")
row("ldaaq", ALOPF19, 0x7F, "Q", _PAIRS, opc2=0x01, ales_lo=0xC0, mas=True, load=16, pair="25", family="aau")

row("aaurws", ALOPF10, 0x1E, "S", "25", opc2=0x01, ales_lo=0xC0, mas_code=MAS_AAU, family="aau")
row("aaurw", ALOPF10, 0x1E, "S", "25", opc2=0x01, ales_lo=0xC0, mas_code=MAS_AAU, family="aau", alias_of="aaurws")
row("aaurwd", ALOPF10, 0x1F, "D", "25", opc2=0x01, ales_lo=0xC0, mas_code=MAS_AAU, family="aau")
row("aaurwq", ALOPF10, 0x3F, "Q", _PAIRS, opc2=0x01, ales_lo=0xC0, mas_code=MAS_AAU, pair="25", family="aau")
row("aaurr", ALOPF20, 0x5E, "S", "25", opc2=0x01, ales_lo=0xC0, mas_code=MAS_AAU, family="aau")
row("aaurrd", ALOPF20, 0x5F, "D", "25", opc2=0x01, ales_lo=0xC0, mas_code=MAS_AAU, family="aau")
row("aaurrq", ALOPF20, 0x7F, "Q", _PAIRS, opc2=0x01, ales_lo=0xC0, mas_code=MAS_AAU, pair="25", family="aau")

MOVA = {1: "movab", 2: "movah", 3: "movaw", 4: "movad", 5: "movaq", 7: "movaqp"}
"""AAS opc -> name of the array read. 0 and 6 are reserved."""

MOVA_BYTES = {1: 1, 2: 2, 3: 4, 4: 8, 5: 8, 7: 16}
"""AAS opc -> bytes read by the channel (movaq takes two channels)."""
