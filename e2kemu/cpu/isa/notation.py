"""The notation in which operations are described, and the table of all of them.

One operation of an arithmetic-logic channel (ALC) is one row::

    @alu("adds", ALOPF1, 0x10, "SSS", "012345")
    @alu("addd", ALOPF1, 0x11, "DDD", "012345")
    def add(v, a, b):
        \"\"\"Add, wrapping.\"\"\"
        return v.add(a, b)

The function is the meaning: pure, over the value builder ``v`` (``cpu/values.py``), called with the
source operands in order; rows that share a meaning stack their decorators. ``row(...)`` declares an
operation whose meaning is not described yet: it decodes, assembles and prints, and raises
exc_illegal_opcode when executed.

Sizes: one letter per operand in slot order, the destination last: ``S`` 32 bits, ``D`` 64, ``Q`` a
pair of registers, ``P`` 128-bit register, ``X`` 80-bit, ``B`` predicate; a store's last letter is
the stored value. Facts: the tables of the binutils port (opcodes, channels by instruction set).

A name may own several rows (``fadds`` is ALOPF1 in channels 0, 1, 3, 4 and ALOPF11 in 2 and 5).
All checks run at import: a taken opcode or an unknown format raises at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

VERSIONS = (1, 2, 3, 4, 5, 6, 7)
"""Versions of the instruction set that a row may name."""

Meaning = Callable[..., Any]
F = TypeVar("F", bound=Meaning)


@dataclass(frozen=True)
class Alopf:
    """An ALS/ALES format: which operand slots it has and whether it needs an ALES ("long").

    ``slots`` are named as in the syllables: src1 src2 src3 src4 (the stored value, in the dst byte)
    dst pred sreg aau aaldi.
    """

    name: str
    long: bool
    slots: tuple[str, ...]


ALOPF1 = Alopf("ALOPF1", False, ("src1", "src2", "dst"))
ALOPF2 = Alopf("ALOPF2", False, ("src2", "dst"))
ALOPF3 = Alopf("ALOPF3", False, ("src1", "src2", "src4"))
ALOPF7 = Alopf("ALOPF7", False, ("src1", "src2", "pred"))
ALOPF8 = Alopf("ALOPF8", False, ("src2", "pred"))
ALOPF10 = Alopf("ALOPF10", True, ("src4", "aau"))
ALOPF11 = Alopf("ALOPF11", True, ("src1", "src2", "dst"))
ALOPF12 = Alopf("ALOPF12", True, ("src2", "dst"))
ALOPF13 = Alopf("ALOPF13", True, ("src1", "src2", "src4"))
ALOPF15 = Alopf("ALOPF15", True, ("src2", "sreg"))
ALOPF16 = Alopf("ALOPF16", True, ("sreg", "dst"))
ALOPF17 = Alopf("ALOPF17", True, ("src1", "src2", "pred"))
ALOPF19 = Alopf("ALOPF19", True, ("src1", "aaldi"))
ALOPF20 = Alopf("ALOPF20", True, ("aau", "dst"))
ALOPF21 = Alopf("ALOPF21", True, ("src1", "src2", "src3", "dst"))
ALOPF22 = Alopf("ALOPF22", True, ("src2", "dst"))

Channels = str | Mapping[int, str]
"""``"0134"``, or ``{2: "0134", 5: "012345"}``: the set in force from each version on ("" = absent)."""


@dataclass(frozen=True, eq=False)
class Op:
    """One row: one encoding of one operation.

    ``cop`` ALS[30:24]; ``opc2`` ALES[15:8]; ``ales_lo`` ALES[7:0] when fixed (None: src3 or imm8);
    ``opce`` the fixed src1 byte (src2 byte for ALOPF16); ``cmpopce`` ALS[7:5] of compares.
    ``imm8`` is true when ALES[7:0] is an 8-bit literal operand, ``pack_code`` when src3 may be a 32-bit
    literal (from v7 on). ``pair`` names the channel pairs of
    quad operations ("01/34"). ``mas_code`` is the memory address specifier that selects this row where
    another row has the same bits (aaurw and aaurr: 0x3f). ``mas`` says whether a memory address specifier applies; ``load`` and
    ``store`` give the number of bytes accessed (0: none). ``spelled`` are the sizes as register names in
    the vendor's syntax have them, for the few rows where those do not tell the true ones. ``nops`` is what the assembler adds after
    the operation outside braces.
    """

    name: str
    fmt: Alopf
    cop: int
    sizes: str
    channels: tuple[str, ...]          # index = version, entry 0 unused
    opc2: int | None = None
    ales_lo: int | None = None
    opce: int | None = None
    cmpopce: int | None = None
    mas_code: int | None = None
    imm8: bool = False
    pack_code: bool = False
    pair: str = ""
    mas: bool = False
    load: int = 0
    store: int = 0
    spelled: str = ""
    nops: int = 0
    family: str = ""
    alias_of: str = ""
    note: str = ""
    meaning: Meaning | None = field(default=None, repr=False)

    @property
    def doc(self) -> str:
        """The meaning in words (the docstring of the function), "" when not described yet."""
        return (self.meaning.__doc__ or "").strip() if self.meaning else ""

    @property
    def has_dst(self) -> bool:
        """Whether the operation writes a general register."""
        return "dst" in self.fmt.slots

    @property
    def source_sizes(self) -> str:
        """The letters of the operands that are read from registers or literals, in slot order."""
        letters = zip((s for s in self.fmt.slots if s not in ("pred", "aau", "aaldi", "sreg")), self.sizes, strict=False)
        return "".join(size for slot, size in letters if slot != "dst")

    @property
    def syntax_sizes(self) -> dict[str, str]:
        """Slot -> letter of its register names in the vendor's syntax, in which X is written as D."""
        letters = (self.spelled or self.sizes).replace("X", "D")
        slots = (slot for slot in self.fmt.slots if slot not in ("pred", "aau", "aaldi", "sreg"))
        return dict(zip(slots, letters, strict=False))

    @property
    def merges(self) -> bool:
        """Whether the operation chooses by the condition of an MRGC half-word."""
        return self.name in ("pmrgp", "qpmrgp") or ("merge" in self.name and not self.name.endswith("pmerge"))

    @property
    def paired_slots(self) -> tuple[str, ...]:
        """Operands of a quad operation that name the next register in the second channel of the pair.

        The address operands of quad loads and stores are repeated as they are.
        """
        repeated = ("src1", "src2") if self.load or self.store or self.mas else ()
        return tuple(slot for slot, size in self.syntax_sizes.items() if size == "Q" and slot not in repeated)

    def in_channel(self, channel: int, version: int) -> bool:
        """Whether this row may issue in ALC ``channel`` (0-5) of instruction set ``version``."""
        return str(channel) in self.channels[version]


ROWS: list[Op] = []
"""Every row, in order of declaration."""

_taken: dict[tuple[object, ...], list[Op]] = {}
"""Codes -> the rows that have them, in different channels or versions."""


def _channels(spec: Channels, since: int, until: int) -> tuple[str, ...]:
    table = {since: spec} if isinstance(spec, str) else dict(spec)
    current, result = "", [""]
    for version in VERSIONS:
        current = table.get(version, current)
        result.append(current if since <= version <= until else "")
    return tuple(result)


def row(name: str, fmt: Alopf, cop: int, sizes: str, alc: Channels, *, since: int = 1, until: int = 7,
        meaning: Meaning | None = None, **fields: Any) -> Op:
    """Declare one encoding; see ``Op`` for the fields. Raises ValueError when it is already taken."""
    op = Op(name, fmt, cop, sizes, _channels(alc, since, until), meaning=meaning, **fields)
    if not 0 <= cop < 128:
        raise ValueError(f"{name}: cop {cop:#x} is not 7 bits")
    if not op.alias_of:
        same = _taken.setdefault((fmt.name, cop, op.opc2, op.ales_lo, op.opce, op.cmpopce, op.mas_code), [])
        for other in same:
            for version in VERSIONS:
                for channel in set(op.channels[version]) & set(other.channels[version]):
                    raise ValueError(f"{name}: v{version} channel {channel} is taken by {other.name}")
        same.append(op)
    ROWS.append(op)
    return op


def alu(name: str, fmt: Alopf, cop: int, sizes: str, alc: Channels, **fields: Any) -> Callable[[F], F]:
    """Declare one encoding of the operation whose meaning is the decorated function."""

    def attach(meaning: F) -> F:
        row(name, fmt, cop, sizes, alc, meaning=meaning, **fields)
        return meaning

    return attach
