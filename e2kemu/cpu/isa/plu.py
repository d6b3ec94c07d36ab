"""Predicate logic: what an elementary predicate may be, and the logical operations.

A wide instruction has up to four elementary predicates @p0..@p3 (sources in PLS0 and PLS1) and up to
three logical operations, the one of PLSn giving @p(4+n). Facts: plu table of the encoding reference.
"""

from __future__ import annotations

CLP_NAMES = {0: "andp", 1: "landp", 3: "movep"}
"""CLP opc -> name; 2 is reserved."""

CLP_DOCS = {
    "andp": "And; a diagnostic argument makes the result diagnostic.",
    "landp": "Lazy and: when the first argument is false the result is false, whatever the second is.",
    "movep": "When the first argument is true the destination becomes the second one, else it is not written.",
}

CLP_ARGUMENTS = (frozenset((0, 1)), frozenset(range(5)), frozenset(range(6)))
"""Which @p the operation of PLSn may use; the others are not defined yet when it is evaluated."""

ELP_LCNTEX, ELP_BGRPRED, ELP_PRED = 0x00, 0x40, 0x60


def elp_name(source: int) -> str | None:
    """The assembler's name of a 7-bit elementary predicate source, None when the code is reserved.

    ``%spred`` is followed by the numbers of the bits set in its 6-bit mask (``%spred25``).
    """
    if source >= ELP_PRED:
        return f"%pred{source - ELP_PRED}"
    if source > ELP_BGRPRED:
        return f"%rndpred{source - ELP_BGRPRED}" if source < 0x50 else None
    if source == ELP_BGRPRED:
        return "%bgrpred"
    if source == ELP_LCNTEX:
        return "%lcntex"
    return "%spred" + "".join(str(bit) for bit in range(6) if source >> bit & 1)


CONDITION_DOCS = {
    0: "never", 1: "always", 2: "%predN", 3: "~%predN", 4: "%LOOP_END", 5: "%NOT_LOOP_END",
    6: "%predN || %LOOP_END", 7: "~%predN && %NOT_LOOP_END", 8: "%MLOCK || deferred trap", 9: "%MLOCK || local",
    11: "local (v7)", 14: "~%predN || %LOOP_END", 15: "%predN && %NOT_LOOP_END",
}
"""SS ctcond type -> when it is true; the other types are reserved."""
