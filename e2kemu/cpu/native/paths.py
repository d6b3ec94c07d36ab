"""Paths through a region: what is known on them, conditions, staged values, the ways to leave a wide instruction.

A *fact* is what the translator knows at a point of a path: which registers are numeric, which predicates hold no
diagnostic value, which SSA values hold registers. Under a condition facts may come and go; after it those from before
hold again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

from e2kemu.cpu.config import GLOBAL, Config
from e2kemu.cpu.core import Core
from e2kemu.cpu.native.layout import Status
from e2kemu.cpu.native.values import Ir, LlvmValues
from e2kemu.cpu.state import EMPTY_TAG
from e2kemu.cpu.wide_semantics import Ended

UNLIKELY = ", !prof !1"
LIKELY = ", !prof !0"
"""Behind a branch: which way it usually goes."""

_FREE = frozenset(("add", "sub", "mul", "and", "or", "xor", "shl", "lshr", "ashr", "icmp", "select", "zext", "sext",
                   "trunc"))
"""Instructions that may as well be executed where their result is not wanted."""
_NAMES = re.compile(r"%t\d+").findall

ACT_NONE, ACT_CALL, ACT_RETURN = range(3)
"""What a region does last."""


class Unsupported(Exception):
    """The wide instruction at hand is for the reference tier."""


@dataclass(slots=True)
class SlotVar:
    """A staged value: what it is at this point of the translation."""

    current: Ir


@dataclass(slots=True)
class Facts:
    """What is known on a path."""

    numeric: dict[int, int] = field(default_factory=dict)       # register -> halves (3 low, 12 high)
    empty: dict[int, int] = field(default_factory=dict)
    preds: set[int] = field(default_factory=set)                # hold no diagnostic value
    values: dict[int, Ir] = field(default_factory=dict)         # register -> its value, as far as named here
    pvalues: dict[int, Ir] = field(default_factory=dict)
    svalues: dict[int, Ir] = field(default_factory=dict)
    likely: dict[int, int] = field(default_factory=dict)        # state register -> what it will probably hold
    pages: dict[tuple[int, str], tuple[str, str]] = field(default_factory=dict)
    """(TLB, base of an address) -> page of an access there, and what to add to its addresses."""

    def copy(self) -> Facts:
        return Facts(dict(self.numeric), dict(self.empty), set(self.preds), dict(self.values), dict(self.pvalues),
                     dict(self.svalues), dict(self.likely), dict(self.pages))

    def at_node(self) -> Facts:
        """What is left of them where paths meet: values have no name there."""
        return Facts(dict(self.numeric), {}, set(self.preds), {}, {}, {}, dict(self.likely))


@dataclass(slots=True)
class Node:
    """A place where paths meet."""

    label: str
    pc: int
    cfg: Config
    facts: Facts
    started: bool = False


@dataclass(slots=True)
class Observed:
    """What the CPU's state was when the region was asked for; an assumption has to fit it.

    ``tags``: of the window from its base on; ``globals``: tags of %g; ``likely``: state registers.
    """

    tags: bytes
    globals: bytes
    preds: bytes
    likely: dict[int, int]
    pfpfr: int = 0

    def numeric(self, register: int) -> int:
        """Halves of a register that were numeric."""
        if register >= GLOBAL:
            tag = self.globals[register - GLOBAL]
        else:
            tag = self.tags[register] if register < len(self.tags) else EMPTY_TAG
        return (0 if tag & 3 else 3) | (0 if tag & 12 else 12)


@dataclass(slots=True)
class Assumed:
    """What the function looks at once, when it is entered."""

    numeric: dict[int, int] = field(default_factory=dict)
    preds: set[int] = field(default_factory=set)


class Paths(LlvmValues):
    """The part of a region machine that evaluates. ``leaders`` are the addresses where a node shall begin."""

    def __init__(self, core: Core, leaders: set[int], assumed: Assumed) -> None:
        super().__init__()
        self.core, self.leaders, self.assumed = core, leaders, assumed
        self.offsets = core.state.offsets
        self.nodes: dict[tuple[int, Config], Node] = {}
        self.pending: list[Node] = []
        self.facts = Facts()
        self.before = Facts()
        """Those at the beginning of the wide instruction at hand."""
        self.unknown = Assumed()
        """What had to be looked up, or cleared, on the way."""
        self.used: set[int] = set()
        self.dirty: set[int] = set()
        self.used_preds: set[int] = set()
        self.dirty_preds: set[int] = set()
        self.used_sregs: set[int] = set()
        self.dirty_sregs: set[int] = set()
        self.blocks: list[str] = []
        """Finished lines."""
        self.outlined: list[str] = []
        self.total = 0
        self.addresses: list[tuple[int, int]] = []
        """(address, size) of the wide instructions translated."""
        self.loops = False
        self.user_tlbs = 0
        """How far the TLBs of the code's privilege are behind those of privileged code."""
        self.speculative = self.aligned = False
        self.order = ""
        self.fault: Ir = 0
        self.condition: Ir = 0
        self.cfg: Config | None = None
        self.pc = 0
        self.block = ""
        self._prefix: list[str] = []
        self._labels = 0
        self._since = 0
        self._scopes: list[dict[int, tuple[SlotVar, Ir]]] = []
        self._stored = False
        self.then: Config
        """The configuration that the wide instruction at hand leads to, as far as it has told."""
        self._hoisted: list[str] = []
        """Lines in front of the outermost condition."""
        self._touched = False
        """There was an access to memory under a condition: what is known of pages may be wrong after it."""
        self._base: dict[str, str] = {}
        """A sum with a constant -> the other summand."""
        self._inside: set[str] = set()
        """Names that exist only under it."""
        self._step_label = ""
        self._fail_label = ""
        self._loaded: set[Ir] = set()
        """Values loaded at the beginning of this wide instruction."""

    def _new_label(self, stem: str) -> str:
        self._labels += 1
        return f"{stem}{self._labels}"

    def _label(self, label: str) -> None:
        self.lines.append(f"{label}:")
        self.block = label

    def _early(self, instruction: str, bits: int = 64) -> str:
        """A value computed at the beginning of the wide instruction: it can be used under every condition."""
        self._count += 1
        name = f"%t{self._count}"
        self._prefix.append(f"{name} = {instruction}")
        if bits != 64:
            self.width[name] = bits
        self._loaded.add(name)
        return name

    def __getattr__(self, name: str) -> NoReturn:
        # a method that only other machines have
        if name.startswith("_"):
            raise AttributeError(name)
        raise Unsupported(name)

    # -- control of the evaluation -----------------------------------------------------------------------

    def if_(self, condition: Ir, body: Callable[[], None], otherwise: Callable[[], None] | None = None) -> None:
        if isinstance(condition, int):
            if condition:
                body()
            elif otherwise:
                otherwise()
            return
        if self._scopes:
            self._if(condition, body, otherwise is not None)
        else:
            # what can be computed in front of the condition is: it may be wanted under another one as well
            outside, self.lines, self._hoisted = self.lines, [], []
            self._inside.clear()
            try:
                self._if(condition, body, otherwise is not None)
            finally:
                outside += self._hoisted + self.lines
                self.lines = outside
        if otherwise is not None:
            otherwise()

    def _if(self, condition: Ir, body: Callable[[], None], ends: bool) -> None:
        then, join = self._new_label("then"), self._new_label("join")
        i1, before = self.as_i1(condition), self.block
        branch = len(self.lines)
        self.emit(f"br i1 {i1}, label %{then}, label %{join}")
        ended, changes = self._scope(then, body)
        if ends and not ended:
            raise Unsupported("two ways that meet")
        merges: list[tuple[SlotVar, str, int]] = []
        if not ended:
            for slot, new, old in changes:
                bits = max(self.width_of(old), self.width_of(new))
                container = 128 if bits > 64 else 64
                new_text, old_text = self.as_bits(new, container), self._before(branch, old, container)
                phi = f"phi i{container} [ {new_text}, %{self.block} ], [ {old_text}, %{before} ]"
                merges.append((slot, phi, bits))
            self.emit(f"br label %{join}")
        self._label(join)
        for slot, phi, bits in merges:
            self.put(slot, self.name(phi, bits))

    def _before(self, branch: int, value: Ir, container: int) -> str:
        """``value`` as IR text of type i64 or i128, converted in front of line ``branch`` if need be."""
        if isinstance(value, str) and container == 128 and self.width_of(value) <= 64:
            widened = self.fresh()
            self.lines.insert(branch, f"{widened} = zext i64 {value} to i128")
            self._inside.add(widened)
            return widened
        return self.as_bits(value, container)

    def name(self, instruction: str, bits: int = 64) -> str:
        if not self._scopes:
            return super().name(instruction, bits)
        self._count += 1
        name = f"%t{self._count}"
        if bits != 64:
            self.width[name] = bits
        if instruction.partition(" ")[0] in _FREE and self._inside.isdisjoint(_NAMES(instruction)):
            self._hoisted.append(f"{name} = {instruction}")
        else:
            self.lines.append(f"{name} = {instruction}")
            self._inside.add(name)
        return name

    def _scope(self, label: str, body: Callable[[], None]) -> tuple[bool, list[tuple[SlotVar, Ir, Ir]]]:
        """Translate ``body`` in a block of its own: whether it ended the path, and (slot, new, old value) of what it
        changed. The slots have their old values again afterwards."""
        facts = self.facts.copy()
        changed: dict[int, tuple[SlotVar, Ir]] = {}
        self._label(label)
        self._scopes.append(changed)
        ended = False
        try:
            body()
        except Ended:
            ended = True
        self._scopes.pop()
        # what was loaded at the beginning of the wide instruction stays known
        known = self.facts
        self.facts = facts
        if self._touched:
            facts.pages.clear()
        for mine, theirs in ((facts.values, known.values), (facts.pvalues, known.pvalues),
                             (facts.svalues, known.svalues)):
            for key, value in theirs.items():
                if value in self._loaded:
                    mine.setdefault(key, value)
        changes = [(slot, slot.current, old) for slot, old in changed.values()]
        for slot, _, old in changes:
            slot.current = old
        return ended, changes

    def slot(self, value: Ir) -> SlotVar:
        """A value that changes, used only where it is made or below."""
        return SlotVar(value)

    staged = slot

    def put(self, slot: SlotVar, value: Ir) -> None:
        if slot.current == value:
            return
        if self._scopes:
            self._scopes[-1].setdefault(id(slot), (slot, slot.current))
        slot.current = value

    def get(self, slot: SlotVar) -> Ir:
        return slot.current

    def pin(self, value: Ir) -> Ir:
        return value

    def settle(self, value: Ir) -> Ir:
        self._step_if(value)
        return 0

    def _step_if(self, condition: Ir) -> None:
        """Leave the wide instruction to the reference tier when ``condition`` is not 0."""
        if isinstance(condition, int):
            if condition:
                self._to_step()
            return
        going = self._new_label("on")
        self.emit(f"br i1 {self.as_i1(condition)}, label %{self._step()}, label %{going}{UNLIKELY}")
        self._label(going)

    def step_if_not(self, i1: str) -> None:
        """Leave the wide instruction to the reference tier unless ``i1`` holds."""
        going = self._new_label("on")
        self.emit(f"br i1 {i1}, label %{going}, label %{self._step()}{LIKELY}")
        self._label(going)

    def unsupported(self, why: str) -> NoReturn:
        """The wide instruction at hand is for the reference tier, always."""
        raise Unsupported(why)

    def _to_step(self) -> NoReturn:
        self.emit(f"br label %{self._step()}")
        raise Ended

    def _step(self) -> str:
        """The label of the block that leaves this wide instruction to the reference tier."""
        if not self._step_label:
            self._step_label = self._new_label("step")
            self.outlined.append(f"{self._step_label}:")
            self._out(self.outlined, self.wide.address, int(Status.STEP), self._since)
        return self._step_label

    def _fail(self) -> str:
        """The label of the block that leaves with the status in %why."""
        if not self._fail_label:
            self._fail_label = self._new_label("fail")
            self.outlined.append(f"{self._fail_label}:")
            name = self.fresh()
            self.outlined.append(f"{name} = load i64, ptr %why")
            self._out(self.outlined, self.wide.address, name, self._since)
        return self._fail_label

    def trap(self, exc: int, detail: str = "") -> NoReturn:
        self._to_step()

    def trap_if(self, condition: Ir, exc: int) -> None:
        if self.speculative:
            self.fault = self.or_(self.fault, condition)
        else:
            self._step_if(condition)

    def merge_condition(self) -> Ir:
        return self.condition
