"""Operations without a meaning: why each has none.

They decode, assemble and print; executed they raise exc_illegal_opcode and ``-d unimp`` names them. ``reason(op)``
finds the entry of a row; a test asks for one for every row without a meaning. The same for parts of a wide
instruction that are no rows: ``CONTROL``.
"""

from __future__ import annotations

import re

from e2kemu.cpu.isa.notation import Op

_V7 = "new in instruction set v7: encodings and names are public, the meaning is not"
_OBJECTS = "object and type descriptors of the first two instruction sets: no public source has their format"

REASONS: tuple[tuple[str, str], ...] = (
    (r"(ld|st)od[rwp](b|h|w|d|q)|gettd|getsod|tdtomp|odtoap|cast", _OBJECTS),
    (r"aptoapb?|cudtoap|gdtoap|getsap|getva",
     "makes an array pointer or takes it apart (protected mode): the vendor's linker shows what gdtoap, aptoapb are used "
     "for, not whether offset or base moves nor what of rights and bounds the result has; loads and stores through "
     "array pointers are there"),
    (r"(put|get|inv)tc|(get|put)tst", "thread context of the protected mode: its format is not public"),
    (r"vfsi|mkfsw|modbgv|vfbgv", "checks of x87 stacks and rotated globals for binary translators: only names are public"),
    (r"qpcheck[sdq]", "only the name and the sizes of the operands are public"),
    (r"qps2c?m[bhwd]|qpcm2[bhwd]", "new in v7, signs of elements to masks and back by their names: the order of the two "
     "sources, which bits of the mask an element has, and what it becomes are not public"),
    (r"qpidotsbwus", "new in v7, a dot product as qpidotsbwss: which of the sources is the unsigned one is not public "
     "(that of pmaddubsh is the second)"),
    (r"vfsid|subarr|apincr|gdincr|cudincr|qp(mgme|aes\w+|kuz\w+|sbgltr(lo|hi)?|bfdots|tbl_\w+|ins[sd]|fstobf)", _V7),
)
"""Pattern of the whole name -> why its rows have no meaning."""

CONTROL = {
    "vfbg": "verifies tags of rotated globals: what its masks select and what it raises is not public",
    "%spred": "a predicate made of results of channels: which property of them it asks for is not public",
    "%bgrpred": "a predicate made of the tags of rotated globals: which ones it asks for is not public",
    "hcall": "call of a hypervisor: enabled by CORE_MODE.hci, which nothing sets",
    "hret": "return from a hypercall: privileged, and there is no virtual machine inside the emulated CPU",
    "glaunch": "entry of a guest: as hret",
    "puttsd": "type descriptors of the first instruction sets: obsolete",
    "gettsd": "type descriptors of the first instruction sets: obsolete",
}
"""Part of a wide instruction -> why it raises exc_illegal_opcode (the returns of guests: in privileged mode)."""


def reason(op: Op) -> str | None:
    """Why ``op`` has no meaning, None when it has one or when nobody has said why."""
    if op.meaning is not None:
        return None
    return next((why for pattern, why in REASONS if re.fullmatch(pattern, op.name)), None)
