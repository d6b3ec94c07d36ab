"""Literals of a wide instruction: which LTS words hold them.

They go, larger ones first and then in the order of the operations, to the first place where they are already or else
fit, such that the fewest LTS words are used (a half of LTS0 first, the high one before the low one), as the vendor's
assembler chooses.
"""

from __future__ import annotations

from e2kemu.cpu.insn import Kind, Operand
from e2kemu.errors import ImageError


class EncodeError(ImageError):
    """A wide instruction that has no encoding; says what does not fit."""


class Symbolic(int):
    """The value of a 64-bit literal that is known only after the layout: equal to nothing but itself.

    ``encode_wide`` says in which LTS it was put.
    """

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


Half = int | tuple[Symbolic, int] | None
Placed = tuple[tuple[Symbolic, int], ...]
"""Symbolic literals and the number of the LTS that holds their low word."""

LITERALS = {Kind.LIT16: 1, Kind.LIT32: 2, Kind.LIT64: 4}
_SLOTS = {
    Kind.LIT16: (0xD4, 0xD0, 0xD5, 0xD1),
    Kind.LIT32: (0xD8, 0xD9, 0xDA, 0xDB),
    Kind.LIT64: (0xDC, 0xDD, 0xDE),
}
"""Operand codes in the order of trial."""


class Literals:
    """The LTS words of one wide instruction while they fill up.

    A word is two halves, [0] low; a half is free (None), a number, or a part of a symbolic value.
    """

    def __init__(self) -> None:
        self.halves: list[list[Half]] = [[None, None], [None, None], [None, None], [None, None]]
        self.used = 0
        self.symbols: list[tuple[Symbolic, int]] = []

    def _fits(self, wanted: list[tuple[int, int, Half]]) -> bool:
        return all(self.halves[n][h] is None or self.halves[n][h] == value for n, h, value in wanted)

    def _put(self, wanted: list[tuple[int, int, Half]]) -> None:
        for n, h, value in wanted:
            self.halves[n][h] = value
            self.used = max(self.used, n + 1)

    def word(self, n: int, value: int) -> None:
        """Fill LTSn. Raises EncodeError when it holds something else."""
        wanted: list[tuple[int, int, Half]] = [(n, 0, value & 0xFFFF), (n, 1, value >> 16 & 0xFFFF)]
        if not self._fits(wanted):
            raise EncodeError(f"LTS{n} is needed for two different values")
        self._put(wanted)

    def share(self, n: int, value: int, mask: int) -> None:
        """Fill LTSn where it is free; where it is not, only the bits of ``mask`` must agree. Raises EncodeError."""
        for h in (0, 1):
            part, bits, there = value >> 16 * h & 0xFFFF, mask >> 16 * h & 0xFFFF, self.halves[n][h]
            if there is None:
                self._put([(n, h, part)])
            elif not isinstance(there, int) or (there ^ part) & bits:
                raise EncodeError(f"LTS{n} is needed for two different values")

    @staticmethod
    def _wanted(kind: Kind, value: int, code: int) -> list[tuple[int, int, Half]]:
        if kind is Kind.LIT16:
            return [(code & 1, code >> 2 & 1, value & 0xFFFF)]
        if kind is Kind.LIT32:
            return [(code & 3, 0, value & 0xFFFF), (code & 3, 1, value >> 16 & 0xFFFF)]
        n = code & 3
        parts: list[Half] = [
            (value, i) if isinstance(value, Symbolic) else value >> 16 * i & 0xFFFF for i in range(4)
        ]
        return [(n, 0, parts[0]), (n, 1, parts[1]), (n + 1, 0, parts[2]), (n + 1, 1, parts[3])]

    def place(self, operand: Operand) -> int:
        """Put a literal into the slot its code names. Raises EncodeError when that holds another value."""
        code = operand.code or 0
        wanted = self._wanted(operand.kind, operand.value, code)
        if not self._fits(wanted):
            raise EncodeError(f"the literal slot of {operand.value:#x} holds another value already")
        self._put(wanted)
        self._note(operand, code)
        return code

    def _note(self, operand: Operand, code: int) -> None:
        if isinstance(operand.value, Symbolic):
            self.symbols.append((operand.value, code & 3))

    def solve(self, operands: list[Operand], arrays: int = 0) -> list[int]:
        """Operand codes for literals that may go anywhere, the last ``arrays`` ones in LTS0..2: in as few LTS
        words as possible.

        Larger literals come first; each tries the slots where its value is already, then those where it
        fits, in the order of the slots, going back when a later one finds none. ``firm``: the 32-bit ones
        take the first place behind each arrangement of the 64-bit ones, and a 16-bit one that is a part of
        a larger one must lie there; only then every arrangement is tried. Raises EncodeError.
        """
        codes = [0] * len(operands)
        order = sorted(range(len(operands)), key=lambda i: -LITERALS[operands[i].kind])

        wide = any(operand.kind is Kind.LIT64 for operand in operands)
        parts = {
            operand.value >> at & 0xFFFF
            for operand in operands
            if operand.kind is not Kind.LIT16 and not isinstance(operand.value, Symbolic)
            for at in range(0, 16 * LITERALS[operand.kind], 16)
        }

        def search(depth: int, limit: int, firm: bool) -> bool:
            if depth == len(order):
                return True
            operand = operands[order[depth]]
            fitting = []
            for code in _SLOTS[operand.kind][: 3 if order[depth] >= len(operands) - arrays else 4]:
                wanted = self._wanted(operand.kind, operand.value, code)
                if wanted[-1][0] < limit and self._fits(wanted):
                    there = all(self.halves[n][h] is not None for n, h, _ in wanted)
                    fitting.append((not there, code, wanted))
            fitting.sort(key=lambda choice: choice[0])
            if firm and operand.kind is Kind.LIT32:
                fitting = fitting[:1]
            elif firm and operand.kind is Kind.LIT16 and operand.value in parts:
                fitting = [choice for choice in fitting if not choice[0]]
            for _, code, wanted in fitting:
                saved = [self.halves[n][h] for n, h, _ in wanted]
                for n, h, value in wanted:
                    self.halves[n][h] = value
                if search(depth + 1, limit, firm):
                    codes[order[depth]] = code
                    return True
                for (n, h, _), value in zip(wanted, saved, strict=True):
                    self.halves[n][h] = value
            return False

        limits = range(max(self.used, 1), 5)
        if not any(search(0, limit, firm) for limit in limits for firm in ((True, False) if wide else (False,))):
            raise EncodeError("the literals of this wide instruction do not fit in its four LTS words")
        for operand, code in zip(operands, codes, strict=True):
            self._put(self._wanted(operand.kind, operand.value, code))
            self._note(operand, code)
        return codes

    def words(self) -> list[int]:
        """LTS0, LTS1, ... as numbers; symbolic parts are 0."""
        if not self.used:
            return []
        return [
            sum(half << 16 * h for h, half in enumerate(word) if isinstance(half, int))
            for word in self.halves[: self.used]
        ]
