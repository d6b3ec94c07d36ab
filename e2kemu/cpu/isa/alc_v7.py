"""Operations that v7 adds. Few have a public meaning (docs/semantics.md says where from); the names of the others
suggest AES (aes), Kuznyechik (kuz), Magma (mgm), Stribog (sbg), bfloat16 (bf) and table lookups (tbl).

``qpsbgltr`` follows the vendor's table (one source, src1 byte 0xc0); the codes with a source there are the
two operations of another public table.
Facts: the public mirror of the vendor's binutils 2.39 and the tables of e2k-decodetree.
"""

from __future__ import annotations

from e2kemu.cpu.isa.notation import ALOPF11, ALOPF12, ALOPF21, row
from e2kemu.cpu.isa.packed import MEANINGS
from e2kemu.cpu.isa.packed_moves import meaning_of

_FOUR = "0134"

for _name, _cop, _opc2, _channels in (
    ("qpmgme", 0x27, 0x01, "0"),
    ("qpaesltr", 0x30, 0x02, "1"), ("qpaesiltr", 0x31, 0x02, "1"), ("qpaesebgn", 0x34, 0x02, "2"),
    ("qpaesdbgn", 0x35, 0x02, "2"), ("qpkuzebgn", 0x36, 0x02, "2"),
    ("qpidotsbwss", 0x18, 0x03, _FOUR), ("qpidotsbwus", 0x19, 0x03, _FOUR), ("qpidotsbwuu", 0x1A, 0x03, _FOUR),
    ("qpidotshwss", 0x1C, 0x03, _FOUR), ("qpbfdots", 0x20, 0x03, _FOUR),
):
    row(_name, ALOPF21, _cop, "PPPP", _channels, since=7, opc2=_opc2, family="packed128", meaning=MEANINGS.get(_name))

for _digit in range(8):
    row(f"qptbl_0x{_digit}", ALOPF21, 0x28 + _digit, "PPPP", _FOUR, since=7, opc2=0x03, family="packed128")
    row(f"qptbl_{_digit}", ALOPF21, 0x28 + _digit, "PPPP", _FOUR, since=7, opc2=0x03, family="packed128",
        alias_of=f"qptbl_0x{_digit}")

row("qpinss", ALOPF21, 0x2C, "PSPP", _FOUR, since=7, opc2=0x17, family="packed128", pack_code=True)
row("qpinsd", ALOPF21, 0x2D, "PDPP", _FOUR, since=7, opc2=0x17, family="packed128", pack_code=True)

for _lo, (_name, _older) in enumerate((("qpackhbss", "qpacksshb"), ("qpackhbus", "qpackushb"), ("qpackwhss", "qpacksswh"),
                                       ("qpackwhus", "qpackuswh")), 0xC0):
    row(_name, ALOPF11, 0x16, "PPP", _FOUR, since=7, opc2=0x03, ales_lo=_lo, family="packed128", meaning=meaning_of(_older))
row("qpfstobf", ALOPF11, 0x17, "PPP", _FOUR, since=7, opc2=0x03, ales_lo=0xCE, family="packed128")

for _lo, _size in enumerate("bhwd", 0xC0):
    row(f"qpcm2{_size}", ALOPF12, 0x36, "SP", _FOUR, since=7, opc2=0x02, ales_lo=_lo, opce=0xC0, family="packed128")
    row(f"qps2m{_size}", ALOPF11, 0x3C, "PPS", _FOUR, since=7, opc2=0x02, ales_lo=_lo, family="packed128")
    if _size != "b":
        row(f"qps2cm{_size}", ALOPF11, 0x37, "PPS", _FOUR, since=7, opc2=0x02, ales_lo=_lo, family="packed128")

row("qpkuzltr", ALOPF12, 0x32, "PP", "1", since=7, opc2=0x02, ales_lo=0xC0, opce=0xC0, family="packed128")
row("qpsbgltr", ALOPF12, 0x33, "PP", "1", since=7, opc2=0x02, ales_lo=0xC0, opce=0xC0, family="packed128")
row("qpsbgltrlo", ALOPF11, 0x33, "PPP", "1", since=7, opc2=0x02, ales_lo=0xC0, family="packed128")
row("qpsbgltrhi", ALOPF11, 0x33, "PPP", "1", since=7, opc2=0x02, ales_lo=0xC1, family="packed128")
