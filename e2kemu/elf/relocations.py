"""What a relocation computes, and how it is written into its field.

:func:`evaluate` is the formula of each :class:`~e2kemu.elf.constants.Value`, :func:`patch` the shape of each
:class:`~e2kemu.elf.constants.Field`. Both speak of one relocation and know nothing of files; what they cannot
do they say in a RelocationError, whose text the linker completes with file, section, offset and symbol.

In a static program every symbol has its final address: a PLT is not needed, the global offset table holds
constants, the thread image is that of module 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import pack_into, unpack_from

from e2kemu.elf.constants import Field, Fits, RelocKind, Value
from e2kemu.errors import ImageError

THREAD_HEADER_WORDS = 2
"""Pointers in front of the thread image to which %g13 points (the thread control block)."""

GOT_VALUES = frozenset({Value.GOT_SLOT, Value.GOT_MODULE, Value.GOT_DTPREL, Value.GOT_TPREL})
"""Values that are offsets of a slot of the global offset table."""

NEEDS_GOT = GOT_VALUES | {Value.GOT_OFFSET}
"""Values that need the global offset table to be somewhere."""

THREAD_VALUES = frozenset({Value.GOT_DTPREL, Value.GOT_TPREL, Value.DTPREL, Value.TPREL})
"""Values that make sense for thread-local symbols only."""


class RelocationError(ImageError):
    """A relocation whose value does not fit or has no meaning in a static program."""


@dataclass(frozen=True, slots=True)
class Operands:
    """What the formulas speak of (see :class:`~e2kemu.elf.constants.Value`)."""

    symbol: int
    addend: int
    place: int
    size: int
    got: int
    slot: int
    thread_start: int
    thread_pointer: int
    defined: bool
    same_object: bool
    old: int  # the 32-bit word at the place before


def _branch(o: Operands) -> int:
    distance = o.symbol + o.addend - o.place
    if distance % 8:
        raise RelocationError(f"the distance {distance:#x} is not a multiple of 8 bytes")
    return distance >> 3


def _prefetch(o: Operands) -> int:
    # The assembler leaves the offset of CS0 in its wide instruction in the field itself.
    start = o.place - (o.old >> 4 & 0xFFFFFF)
    return ((o.symbol + o.addend & ~127) - (start & ~127)) >> 7


_FORMULAS: dict[Value, Callable[[Operands], int]] = {
    Value.SYMBOL: lambda o: o.symbol + o.addend,
    Value.PLACE: lambda o: o.symbol + o.addend - o.place,
    Value.BRANCH: _branch,
    Value.PREFETCH: _prefetch,
    Value.SIZE: lambda o: o.size + o.addend,
    Value.BASE: lambda o: o.addend,
    Value.GOT_OFFSET: lambda o: o.symbol + o.addend - o.got,
    Value.GOT_SLOT: lambda o: o.slot + o.addend - o.got,
    Value.GOT_MODULE: lambda o: o.slot + o.addend - o.got,
    Value.GOT_DTPREL: lambda o: o.slot + o.addend - o.got,
    Value.GOT_TPREL: lambda o: o.slot + o.addend - o.got,
    Value.MODULE: lambda o: 1,
    Value.DTPREL: lambda o: o.symbol + o.addend - o.thread_start,
    Value.TPREL: lambda o: o.symbol + o.addend - o.thread_pointer,
    Value.LOCAL: lambda o: int(o.defined),
    Value.LOCAL_SRC1: lambda o: 0xC0 | int(o.defined),
    Value.SAME_OBJECT: lambda o: o.symbol + o.addend if o.same_object else 0,
}

NOT_STATIC = {
    Value.RESOLVER: "needs a dynamic loader, which runs resolvers",
    Value.COPY: "copies from a shared library; a static program has none",
    Value.TAGGED: "needs a tagged descriptor, which only a loader of protected mode can make",
}
"""Values without meaning in a static program, and why."""


def evaluate(kind: RelocKind, operands: Operands) -> int:
    """The value ``kind`` asks for, not yet cut to its field. Raises RelocationError."""
    if kind.value in NOT_STATIC:
        raise RelocationError(NOT_STATIC[kind.value])
    return _FORMULAS[kind.value](operands)


_WIDTH = {
    Field.WORD32: 32,
    Field.WORD64: 64,
    Field.LIT64: 64,
    Field.DISP28: 28,
    Field.PDISP24: 24,
    Field.SRC1: 8,
}


def patch(data: bytearray, offset: int, kind: RelocKind, value: int) -> None:
    """Write ``value`` into the field of ``kind`` at ``offset``; other bits stay. Raises RelocationError if it
    does not fit.
    """
    width = _WIDTH[kind.field]
    low = 0 if kind.fits is Fits.UNSIGNED else -(1 << width - 1)
    high = 1 << (width - 1 if kind.fits is Fits.SIGNED else width)
    if kind.fits is not Fits.ANY and not low <= value < high:
        raise RelocationError(f"the value {value:#x} does not fit {width} bits, {kind.fits.value}")
    value &= (1 << width) - 1
    match kind.field:
        case Field.WORD32:
            pack_into("<I", data, offset, value)
        case Field.WORD64:
            pack_into("<Q", data, offset, value)
        case Field.LIT64:
            pack_into("<II", data, offset, value >> 32, value & 0xFFFFFFFF)
        case Field.DISP28:
            _insert(data, offset, 0, width, value)
        case Field.PDISP24:
            _insert(data, offset, 4, width, value)
        case Field.SRC1:
            _insert(data, offset, 16, width, value)


def _insert(data: bytearray, offset: int, shift: int, width: int, value: int) -> None:
    (word,) = unpack_from("<I", data, offset)
    mask = (1 << width) - 1 << shift
    pack_into("<I", data, offset, word & ~mask | value << shift)
