"""The machine that writes Python, before it knows registers: its state, conditions, staged values, traps.

What is in the pieces and how they make a function is told in ``block_source``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from e2kemu.cpu.config import Config
from e2kemu.cpu.core import Core
from e2kemu.cpu.insn import Wide
from e2kemu.cpu.source_values import SourceValues, Src
from e2kemu.cpu.wide_semantics import Ended

MAX_WIDE = 48
"""Longest block, in wide instructions."""


@dataclass(slots=True)
class SlotVar:
    """A staged value: what it is now, and the local it lives in once it depends on a condition."""

    current: Src
    name: str = ""


@dataclass(slots=True)
class Usage:
    """What the entry and the exit of the function have to do."""

    loaded: set[int] = field(default_factory=set)
    dirty: set[int] = field(default_factory=set)
    required: dict[int, int] = field(default_factory=dict)      # register -> halves that must be numeric
    preds: set[int] = field(default_factory=set)
    dirty_preds: set[int] = field(default_factory=set)
    required_preds: set[int] = field(default_factory=set)
    sregs: set[int] = field(default_factory=set)
    dirty_sregs: set[int] = field(default_factory=set)


class SourceEvaluation(SourceValues):
    """State of the translation of one block, and control of the evaluation.

    The arguments are those of ``block_source.SourceMachine``.
    """

    def __init__(self, core: Core, start: int, cfg: Config, *, clean: bool, closed: bool, limit: int = MAX_WIDE,
                 assumed: dict[int, int] | None = None) -> None:
        super().__init__()
        self.core, self.start, self.entry_cfg = core, start, cfg
        self.clean, self.closed, self.limit = clean, closed, limit
        self.depth = 3
        self.use = Usage(required=dict(assumed or {}))
        self.numeric: dict[int, int] = dict(assumed or {})
        """Register -> halves known to be numeric here."""
        self.empty: dict[int, int] = {}
        """Register -> halves known to be empty here."""
        self.first_written: dict[int, int] = {}
        self.sure_preds: set[int] = set()
        self.tails: list[list[str]] = []
        self.commits: list[tuple[str, Src]] = []
        self.starts: list[tuple[int, int]] = []
        """(line in ``lines``, address) of every wide instruction."""
        self.configs: list[Config] = []
        """Configurations that the function leaves for: its names K0, K1, ..."""
        self.loops = False
        self.grew = False
        self.speculative = self.aligned = False
        self.order = ""
        self.fault: Src = 0
        self.condition: Src = 0
        self.fp_flags: dict[int, SlotVar] = {}
        self.diagnostic: Src = 0
        self.functions: dict[str, Callable[..., tuple[int, int]]] = {}
        """Names that the text uses besides those of every block: primitives of floating point."""
        self._fp_enabled = False
        self.count = 0
        self.pc = start
        self.cfg: Config | None = cfg
        self._outer = 0
        self._conditional = 0
        self._stored = False

    def begin(self, wide: Wide) -> None:
        """The next wide instruction."""
        self.wide = wide
        self.starts.append((len(self.lines), wide.address))
        self.count += 1
        self._stored = False
        self.speculative = False

    # -- control of the evaluation -------------------------------------------------------------------

    def if_(self, condition: Src, body: Callable[[], None], otherwise: Callable[[], None] | None = None) -> None:
        if isinstance(condition, int):
            if condition:
                body()
            elif otherwise:
                otherwise()
            return
        if not self._conditional:
            self._outer = len(self.lines)
        self._branch(f"if {condition}:", body)
        if otherwise:
            # both ways have to see the same cached knowledge; the way out is the last thing in a wide instruction
            otherwise()

    def _branch(self, head: str, body: Callable[[], None]) -> None:
        self._conditional += 1
        self.emit(head)
        at = len(self.lines)
        self.depth += 1
        try:
            body()
        except Ended:
            pass
        finally:
            self.depth -= 1
            self._conditional -= 1
        if len(self.lines) == at:
            self.lines.pop()

    def slot(self, value: Src) -> SlotVar:
        """A value that changes, used only where it is made or below."""
        made = SlotVar(value)
        if self._conditional:
            self._count += 1
            made.name = made.current = f"v{self._count}"
            self.emit(f"{made.name} = {value}")
            self.width[made.name] = self.width_of(value)
        return made

    def staged(self, value: Src) -> SlotVar:
        """A value used beyond the condition it may be changed under; ``value`` is known outside of that."""
        return SlotVar(value)

    def put(self, slot: SlotVar, value: Src) -> None:
        if not self._conditional:
            # a later condition falls back to this value: its local is made anew there
            slot.current, slot.name = value, ""
            return
        if slot.current == value:
            return
        if not slot.name:
            self._count += 1
            slot.name = f"v{self._count}"
            bits = max(self.width_of(slot.current), self.width_of(value))
            self._insert_outside(f"{slot.name} = {slot.current}")
            self.width[slot.name] = bits
        else:
            self.width[slot.name] = max(self.width[slot.name], self.width_of(value))
        self.emit(f"{slot.name} = {value}")
        slot.current = slot.name

    def _insert_outside(self, text: str) -> None:
        """A line before the outermost condition: its value was known there."""
        indent = self.depth - self._conditional
        self.lines.insert(self._outer, " " * indent + text)
        self._outer += 1

    def get(self, slot: SlotVar) -> Src:
        return slot.current

    def pin(self, value: Src) -> Src:
        """A name for ``value`` that the results of this wide instruction do not change."""
        if isinstance(value, int) or value[0] == "t":
            return value
        return self.name(value, self.width_of(value))

    def settle(self, value: Src) -> Src:
        if isinstance(value, int) and not (value and self.clean):
            return value
        if not self.clean:
            return value
        self._leave_if(value, "raise bail")
        return 0

    def _leave_if(self, condition: Src, action: str) -> None:
        if isinstance(condition, int):
            if condition:
                self.emit(action)
                raise Ended
            return
        self.emit(f"if {condition}: {action}")

    def trap(self, exc: int, detail: str = "") -> None:
        self.emit(f"raise Trap({exc}, {detail!r})")
        raise Ended

    def trap_if(self, condition: Src, exc: int) -> None:
        if self.speculative:
            self.fault = self.or_(self.fault, condition)
        else:
            self._leave_if(condition, f"raise Trap({exc})")

    def merge_condition(self) -> Src:
        return self.condition
