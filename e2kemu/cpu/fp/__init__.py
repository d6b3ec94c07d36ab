"""Floating point of e2k, in software and bit exact: singles, doubles and the 80-bit format, with flags.

    from e2kemu.cpu import fp
    bits, flags = fp.call("add.d", (0x3FF0000000000000, 0x4000000000000000), 0x1F80)

``operations`` has the table of primitives and explains their names; ``formats`` takes numbers apart, rounds
and packs; ``arithmetic``, ``convert`` and ``compare`` compute; ``fast`` has short cuts through the host's doubles;
``machine`` is what a primitive does to a CPU: sticky flags, exceptions. Nothing here keeps state.

Who replaces a primitive by the host's own arithmetic has to leave to it at least: operands or results that are
NaNs (the choice among them is that of x87, not of SSE), denormal operands (DE) and tiny results (underflow, flush to
zero), and everything when an exception is not masked.
"""

from __future__ import annotations

from collections.abc import Sequence

from e2kemu.cpu.fp.operations import OPERATIONS, FpOperation

__all__ = ["OPERATIONS", "FpOperation", "call"]


def call(name: str, operands: Sequence[int], environment: int) -> tuple[int, int]:
    """The result and the flags of a primitive of ``OPERATIONS``.

    ``operands``: unsigned integers of the operation's widths. ``environment``: the value of the control register
    that ``OPERATIONS[name].register`` names: PFPFR, or FPCR where 80 bits take part. The flags are those that this
    operation raises, masked or not: IE 1, DE 2, ZE 4, OE 8, UE 16, PE 32; a flag that is sticky in PFPFR already may
    be told again. Raises KeyError for a name that the table does not have.
    """
    return OPERATIONS[name].function(*operands, environment)
