"""What a wide instruction does, once, over a machine ``m``: for the oracle and the translators alike.

The order makes it atomic and parallel:

    1. guards, operands, everything that can trap (operations without memory compute their results)
    2. loads, in the order of the channels; then compares' and predicate logic's results, conditions
    3. stores, in the order of the channels; then conditional ones, and local conditions when there are such
    4. results: window, registers, predicates, transfer registers, loop counters
    5. state registers, stacks, transfer of control

All reads are of values from before the wide instruction. Results are staged in *slots* that start with
the register's old value, so a false guard leaves it, and of two writers the higher channel wins.

A 128-bit register (size P) is a register with its extension, which holds the high half and has no tag of its own.
An 80-bit one (size X) has sign and exponent in the low 16 bits of the extension; the others are written as 0.

Tags: ``m.tag(register, mask)`` are those of the halves that an operation uses. A machine may be *clean*: it
runs on the assumption that what it reads is numeric; it checks this at its entry, its tags are the
constant 0, and ``m.settle`` leaves to a machine that keeps tags when a tag would come up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from e2kemu.cpu import locks, memory_access, wide_arrays, wide_direct, wide_moves
from e2kemu.cpu.config import GLOBAL, Config, WindowBounds
from e2kemu.cpu.insn import AluInsn, Guard, Kind, Operand, Wide
from e2kemu.cpu.isa import traps
from e2kemu.cpu.sregs import TIR_LO_READ
from e2kemu.cpu.state import EMPTY_TAG, LSR, TIR_LO
from e2kemu.cpu.wide_control import control, local_condition, predicate_logic, prepare_control
from e2kemu.cpu.wide_moves import DIAGNOSTIC_BITS

M = Any
"""A machine: a value builder with registers (``direct.DirectMachine``, ``block_source.SourceMachine``)."""
V = Any

HIGH = 0xFFFF_FFFF_0000_0000
WIDTHS = {"S": 32, "P": 128, "X": 80}
"""Letter of a size -> bits, where they are not 64."""


class Ended(Exception):
    """A translating machine has met a trap that nothing can avoid: the rest is never executed."""


@dataclass(slots=True)
class Target:
    """A register that this wide instruction writes: its slots, and which tag halves it sets for sure."""

    register: int
    value: Any
    tag: Any
    low_only: bool = True
    fresh: bool = False     # entered the window just now
    certain: int = 0        # halves (3 low, 12 high) written whatever the guards say


@dataclass(slots=True)
class Staged:
    """One operation between its phases."""

    insn: AluInsn
    condition: V = 1
    diag: V = 0
    sources: list[V] = field(default_factory=list)
    tag: V = 0
    mark: V = 0             # a store under a diagnostic predicate
    fmt: V = None           # of an access that a record describes
    ready: bool = False     # phase 1 came to its end: a translator may find that it always traps


class WideExecution:
    """The phases of one wide instruction on machine ``m`` in configuration ``cfg``."""

    def __init__(self, m: M, wide: Wide, cfg: Config) -> None:
        self.m, self.wide, self.cfg = m, wide, cfg
        self.after = cfg
        """Configuration after this wide instruction, as far as it is known without its condition."""
        self.targets: dict[int, Target] = {}
        self.extensions: dict[int, V] = {}
        """Register -> slot of its extension."""
        self.arrays: dict[int, V] = {}
        """Item of the array access unit -> its slot."""
        self.staged: list[Staged] = []
        """The operations prepared before the loads."""
        self.remainder: V = None
        """LSR with the stores of a loop's last turn counted, once there is one."""
        self.predicates: dict[int, V] = {}
        self.sregs: list[tuple[int, V]] = []
        self.late: list[Callable[[], None]] = []
        self.compared: dict[int, tuple[V, V]] = {}
        self.deferred: dict[int, V] = {}
        """Channel -> its result is diagnostic (conditions of type 8)."""
        self.logical: dict[int, tuple[V, V]] = {}
        """@p0..@p6: value and diagnostic bit."""
        m.fp_flags = {}
        self.mlock = m.staged(0)
        """A lock check of this wide instruction failed."""
        self.transfer: tuple[str, int] | None = None
        self.taken: V = 0
        self.local_taken: V = 0
        self.target: V = 0
        self.direct: V = 0
        """The address that ibranchd or icalld has read."""
        self.new_size = cfg.size
        for op in wide.cs1:
            if op.name == "setwd":
                self.new_size = 2 * op.fields["wsz"]

    # -- the whole -------------------------------------------------------------------------------

    def run(self) -> None:
        """All phases. The machine has left for the next wide instruction, or goes on, when it returns."""
        try:
            self.check_operands()
        except WindowBounds as error:
            self.m.trap(traps.EXC_WINDOW_BOUNDS, str(error))
            return
        order = locks.waits(self.wide)
        if order:
            self.m.fence(order)
        late = self._after_loads()
        staged = self.staged = [self.prepare(insn) for insn in self.wide.alu if insn.channel not in late]
        prepare_control(self)
        for one in staged:
            if one.insn.op.load:
                self._guarded(one, memory_access.load)
        for insn in self.wide.alu:
            if insn.channel in late:
                self.prepare(insn)
        wide_arrays.movas(self)
        predicate_logic(self)
        conditional = [one for one in staged if locks.conditional(one.insn, self.cfg.version)]
        if not conditional:
            local_condition(self)
        for one in staged:
            if one.insn.op.store and not locks.conditional(one.insn, self.cfg.version):
                self._guarded(one, memory_access.store)
        for one in conditional:
            self._guarded(one, memory_access.store)
        if conditional:
            local_condition(self)
        wide_arrays.increments(self)
        self._commit()
        control(self)

    def _after_loads(self) -> set[int]:
        """Channels of operations that write what a load of a lower channel writes: they are staged after it."""
        loaded: set[int] = set()
        late: set[int] = set()
        for insn in self.wide.alu:
            dst = insn.dst
            if dst is None or dst.kind not in (Kind.R, Kind.B, Kind.G):
                continue
            count = 2 if insn.op.sizes[-1] == "Q" else 1
            written = {self.cfg.register(Operand(dst.kind, dst.value + i), self.new_size) for i in range(count)}
            if insn.op.load:
                loaded |= written
            elif written & loaded:
                late.add(insn.channel)
        return late

    def check_operands(self) -> None:
        """Every register named is in the window. Raises WindowBounds."""
        named = (Kind.R, Kind.B, Kind.G)
        for mova in self.wide.movas:
            if mova.dst.kind in named:
                self.cfg.register(mova.dst, self.new_size)
        for insn in self.wide.alu:
            letters = dict(zip(insn.op.fmt.slots, insn.op.sizes, strict=False))
            if insn.op.family == "aau":
                letters["dst"] = insn.op.sizes
            for slot in ("src1", "src2", "src3", "src4", "dst"):
                operand = getattr(insn, slot)
                if operand is None or operand.kind not in named:
                    continue
                size = self.new_size if slot == "dst" else self.cfg.size
                for value in (operand.value, operand.value + 1) if letters.get(slot) == "Q" else (operand.value,):
                    self.cfg.register(Operand(operand.kind, value), size)

    def _guarded(self, one: Staged, body: Callable[[WideExecution, Staged], None]) -> None:
        if one.ready:
            self.m.bits = 64
            self.m.if_(one.condition, lambda: body(self, one))

    # -- guards ----------------------------------------------------------------------------------

    def predicate(self, number: int) -> tuple[V, V]:
        """Value and diagnostic bit of %predN."""
        index = self.cfg.predicate(number)
        return self.m.pred(index), self.m.pred_diag(index)

    def pcnt(self) -> V:
        """LSR.pcnt."""
        m = self.m
        return m.and_(m.lshr(m.sreg(LSR), 48), 31)

    def guard(self, guards: tuple[Guard, ...]) -> tuple[V, V]:
        """(condition, diagnostic) of the guards: preds OR-ed, pcnts OR-ed, both AND-ed."""
        m = self.m
        any_pred, any_pcnt, diag = None, None, 0
        for one in guards:
            if one.is_pcnt:
                value = m.xor(m.ult(one.index, self.pcnt()), 1)
                value = m.xor(value, int(one.negated))
                any_pcnt = value if any_pcnt is None else m.or_(any_pcnt, value)
            else:
                value, bad = self.predicate(one.index)
                value = m.xor(value, int(one.negated))
                diag = m.or_(diag, bad)
                any_pred = value if any_pred is None else m.or_(any_pred, value)
        condition = 1 if any_pred is None else any_pred
        # a diagnostic predicate matters only where the pcnt part lets the operation happen
        condition = m.or_(condition, diag)
        if any_pcnt is not None:
            condition = m.and_(condition, any_pcnt)
        return condition, diag

    # -- operands --------------------------------------------------------------------------------

    def _operand(self, operand: Operand, letter: str) -> tuple[V, V]:
        """Value (in the operand's width) and tag of a source."""
        m = self.m
        width = WIDTHS.get(letter, 64)
        if operand.kind is Kind.IMM:
            return operand.value, 0
        literal_bits = {Kind.LIT16: 16, Kind.LIT32: 32, Kind.LIT64: 64}.get(operand.kind)
        if literal_bits:
            number = operand.value
            if number >> (literal_bits - 1):
                number -= 1 << literal_bits
            return number & (1 << min(width, 64)) - 1, 0
        register = self.cfg.register(operand, self.cfg.size)
        if width > 64:
            high = m.ext(register) if width == 128 else m.and_(m.ext(register), 0xFFFF)
            return m.or_(m.reg(register), m.shl(high, 64, width)), m.tag(register, 15)
        return m.trunc(m.reg(register), width), m.tag(register, 3 if width == 32 else 15)

    def prepare(self, insn: AluInsn) -> Staged:
        """Phase 1 of one operation."""
        m, op = self.m, insn.op
        condition, diag = self.guard(insn.guards)
        one = Staged(insn, condition, diag)
        letters = set(op.sizes) - set("SDBPQX")
        # what a literal in the place of a pack code asks for is not known
        coded = op.pack_code and insn.src3 is not None and insn.src3.kind not in (Kind.R, Kind.B, Kind.G)
        if op.meaning is None or letters or coded:
            m.if_(condition, lambda: m.trap(traps.EXC_ILLEGAL_OPCODE, op.name))
            one.condition = 0
            return one
        if condition == 0:
            return one
        m.if_(condition, lambda: self._prepare_guarded(one))
        return one

    def _prepare_guarded(self, one: Staged) -> None:
        m, insn, op = self.m, one.insn, one.insn.op
        to_ctpr = insn.dst is not None and insn.dst.kind is Kind.CTPR
        if not insn.sm or to_ctpr or op.fmt.name == "ALOPF15":
            m.trap_if(one.diag, traps.EXC_DIAG_COND)
            one.diag = 0
        if to_ctpr and insn.sm and insn.guards:
            m.trap(traps.EXC_ILLEGAL_OPCODE, f"{op.name},sm to %ctpr under a condition")
            return
        letters = iter(op.sizes)
        for slot in op.fmt.slots:
            if slot in ("src1", "src2", "src3", "src4"):
                letter = next(letters)
                operand = getattr(insn, slot)
                if operand is None:
                    continue
                if letter == "Q" and operand.kind not in (Kind.R, Kind.B, Kind.G):
                    m.trap(traps.EXC_ILLEGAL_OPCODE, f"{op.name} of a constant")
                    return
                if letter == "Q":
                    pair = [self.cfg.register(Operand(operand.kind, operand.value + i), self.cfg.size) for i in (0, 1)]
                    one.sources += [(m.reg(register), m.tag(register, 15)) for register in pair]
                else:
                    one.sources.append(self._operand(operand, letter))
        if op.family not in ("merge", "merge_first", "field", "movt", "gettag", "puttag", "movx", "movfi"):
            one.tag = self.any_tag([tag for _, tag in one.sources])
        m.bits = WIDTHS.get(op.sizes[0], 64)
        family = "memory" if (op.load or op.store) and not op.family else op.family
        _FAMILIES.get(family, WideExecution._compute)(self, one)
        one.ready = True

    def any_tag(self, tags: list[V]) -> V:
        total: V = 0
        for tag in tags:
            total = self.m.or_(total, tag)
        return total

    def check(self, one: Staged, tag: V) -> V:
        """Trap on a non-numeric operand, or (speculative) tell that the result is diagnostic: a bit."""
        m = self.m
        if isinstance(tag, int) and not tag:
            return one.diag
        if not one.insn.sm:
            low, high = m.and_(tag, 3), m.lshr(tag, 2)
            m.trap_if(m.or_(m.eq(low, 1), m.eq(high, 1)), traps.EXC_DIAG_OPERAND)
            m.trap_if(m.xor(m.eq(tag, 0), 1), traps.EXC_ILLEGAL_OPERAND)
            return one.diag
        return m.or_(one.diag, m.xor(m.eq(tag, 0), 1))

    # -- computing -------------------------------------------------------------------------------

    def _compute(self, one: Staged) -> None:
        """An operation with the plain tag rule."""
        m, insn, op = self.m, one.insn, one.insn.op
        diag = self.check(one, one.tag)
        if op.fmt.name in ("ALOPF15", "ALOPF16"):
            self._state_register(one)
            return
        arguments = [value for value, _ in one.sources]
        if insn.imm8 is not None and op.imm8:
            arguments.append(insn.imm8)
        m.speculative, m.fault, m.diagnostic = insn.sm, 0, diag
        result = op.meaning(m, *arguments)  # type: ignore[misc]
        m.speculative = False
        self.result(one, result, m.or_(diag, m.fault))

    def _state_register(self, one: Staged) -> None:
        """rws, rwd, rrs, rrd."""
        m, insn = self.m, one.insn
        number = insn.sreg
        assert number is not None
        reading = insn.op.fmt.name == "ALOPF16"
        exc, detail = m.sreg_access(number, "r" if reading else "w", self.cfg)
        if exc is not None:
            m.trap(exc, detail)
            return
        m.bits = 64
        # said under the guard, asked at the end of the wide instruction
        done = m.staged(0)
        m.put(done, 1)
        if reading:
            self.result(one, insn.op.meaning(m, number), one.diag)  # type: ignore[misc]
            if number == TIR_LO:
                self.late.append(lambda: m.if_(m.get(done), lambda: m.write_sreg(TIR_LO_READ, 0)))
            return
        value = m.staged(0)
        m.put(value, m.pin(one.sources[0][0]))
        self.late.append(lambda: m.if_(m.get(done), lambda: m.write_sreg(number, m.get(value))))

    # -- staging ---------------------------------------------------------------------------------

    def stage_sreg(self, number: int, value: V) -> None:
        """A cached state register gets ``value`` at the end of the wide instruction."""
        m = self.m
        slot = m.staged(m.sreg(number))
        m.put(slot, value)
        self.sregs.append((number, slot))

    def prepare_program(self) -> None:
        """bap and eap."""
        wide_arrays.prepare_program(self)

    def array(self, index: int) -> V:
        """The slot of an item of the array access unit."""
        if index not in self.arrays:
            self.arrays[index] = self.m.staged(self.m.aau(index))
        return self.arrays[index]

    def stage_array(self, index: int, value: V) -> None:
        """An item of the array access unit gets ``value`` at the end of the wide instruction."""
        self.m.put(self.array(index), value)

    def stage_extension(self, register: int, value: V) -> None:
        """The extension of a register gets ``value`` at the end of the wide instruction."""
        m = self.m
        if register not in self.extensions:
            self.extensions[register] = m.staged(m.old_ext(register))
        m.put(self.extensions[register], value)

    def result(self, one: Staged, value: V, diag: V) -> None:
        """Stage a result; ``diag`` (a bit) makes it diagnostic."""
        m, insn = self.m, one.insn
        diag = m.settle(diag)
        if not (isinstance(diag, int) and not diag):
            self.deferred[insn.channel] = self._seen(diag)
        if insn.op.sizes[-1] == "B":
            self._stage_predicate(one, value, diag)
            return
        if insn.op.sizes[-1] == "S":
            value = m.trunc(value, 32)
        if not (isinstance(diag, int) and not diag):
            mark = (DIAGNOSTIC_BITS << 64 | DIAGNOSTIC_BITS) & (1 << WIDTHS.get(insn.op.sizes[-1], 64)) - 1
            value = m.or_(value, m.select(diag, mark, 0))
        if insn.op.sizes[-1] in "PX":
            register = self.destination(one)
            if register is not None:
                self.stage_extension(register, m.lshr(value, 64))
            value = m.trunc(value, 64)
        self.write(one, value, m.select(diag, 5, 0))

    def _stage_predicate(self, one: Staged, value: V, diag: V) -> None:
        assert one.insn.pred is not None
        m = self.m
        self.compared[one.insn.channel] = (self._seen(value), diag)
        self.stage_predicate(one.insn.pred, m.or_(value, m.shl(diag, 1, 2)))

    def _seen(self, value: V) -> V:
        """A slot for a bit found under a guard that the local conditions look at; 0 when the guard is false."""
        slot = self.m.staged(0)
        self.m.put(slot, value)
        return slot

    def stage_predicate(self, number: int, value: V) -> None:
        """Predicate %predN gets ``value`` (bit 1: diagnostic) at the end; call it under its condition."""
        m = self.m
        index = self.cfg.predicate(number)
        if index not in self.predicates:
            self.predicates[index] = m.staged(m.pred_raw(index))
        m.put(self.predicates[index], value)

    def destination(self, one: Staged) -> int | None:
        """The register that a result goes to, None when it is thrown away."""
        dst = one.insn.dst
        return self.cfg.register(dst, self.new_size) if dst and dst.kind in (Kind.R, Kind.B, Kind.G) else None

    def pair_result(self, one: Staged, low: V, high: V, diag: V) -> None:
        """Stage the result of a quad load: the register named and the next one."""
        m, dst = self.m, one.insn.dst
        diag = m.settle(diag)
        if dst is not None and dst.kind in (Kind.R, Kind.B, Kind.G):
            for i, value in enumerate((low, high)):
                register = self.cfg.register(Operand(dst.kind, dst.value + i), self.new_size)
                self.write_register(register, value, m.select(diag, 5, 0), one.condition, low_only=False)

    def write(self, one: Staged, value: V, tag: V, *, keep_high: bool = False) -> None:
        """Stage a write of the destination register: value and tag of the width of the destination."""
        m, insn = self.m, one.insn
        dst = insn.dst
        assert dst is not None
        if dst.kind in (Kind.EMPTY, Kind.EMPTY_LO):
            return
        if dst.kind not in (Kind.R, Kind.B, Kind.G):
            m.trap(traps.EXC_ILLEGAL_OPCODE, f"{insn.op.name} to {dst.kind.value}")
            return
        self.write_register(self.cfg.register(dst, self.new_size), value, tag, one.condition,
                            low_only=insn.op.sizes[-1] == "S" and not (self.cfg.dbl and not keep_high))

    def write_register(self, register: int, value: V, tag: V, condition: V, *, low_only: bool) -> None:
        """Stage a write of ``register``."""
        m = self.m
        m.bits = 64
        halves = 3 if low_only else 15
        target = self.targets.get(register)
        if target is None:
            # a register that enters the window with this very instruction is empty
            fresh = self.cfg.size <= register < GLOBAL
            if fresh and condition != 1:
                m.settle(halves)    # may end the branch: then nothing was written, and the register stays empty
            old_value, old_tag = (0, EMPTY_TAG) if fresh else (m.old_reg(register), m.old_tag(register))
            target = Target(register, m.staged(old_value), m.staged(old_tag), fresh=fresh)
            self.targets[register] = target
        if condition == 1:
            target.certain |= halves
        elif target.fresh:
            m.settle(halves & ~target.certain)
        else:
            m.may_keep(register, halves & ~target.certain)
        if low_only:
            m.put(target.value, m.or_(m.and_(m.get(target.value), HIGH), value))
            m.put(target.tag, m.or_(m.and_(m.get(target.tag), 12), m.and_(m.settle(tag), 3)))
        else:
            m.put(target.value, value)
            m.put(target.tag, m.settle(tag))
            target.low_only = False

    # -- results ---------------------------------------------------------------------------------

    def _commit(self) -> None:
        m = self.m
        m.bits = 64
        for op in self.wide.cs1:
            if op.name == "setwd":
                dbl = op.fields.get("dbl", 0) if self.cfg.version >= 3 else 0
                self.after = self.after._replace(size=self.new_size, dbl=dbl)
                m.set_window(self.cfg.size, self.new_size, 1 - op.fields.get("nfx", 0), dbl)
        for register, target in self.targets.items():
            m.write_reg(register, m.get(target.value), m.get(target.tag), 15 if not target.low_only else 3)
        for register, slot in self.extensions.items():
            m.write_ext(register, m.get(slot))
        for number, slot in self.predicates.items():
            m.write_pred(number, slot)
        for index, slot in self.arrays.items():
            m.set_aau(index, m.get(slot))
        for number, slot in m.fp_flags.items():
            m.set_sreg(number, m.or_(m.sreg(number), m.get(slot)))
        for number, slot in self.sregs:
            m.set_sreg(number, m.get(slot))
        m.end_of_results()


_FAMILIES: dict[str, Callable[[WideExecution, Staged], None]] = {
    "merge": wide_moves.merge,
    "merge_first": wide_moves.merge,
    "field": wide_moves.field,
    "movt": wide_moves.movt,
    "gettag": wide_moves.gettag,
    "puttag": wide_moves.puttag,
    "movif": wide_moves.extension,
    "movfi": wide_moves.extension,
    "movx": wide_moves.extension,
    "getsp": wide_moves.getsp,
    "memory": memory_access.prepare,
    "segment": memory_access.prepare_segment,
    "pointer": memory_access.prepare_pointer,
    "record": memory_access.prepare_record,
    "aau": wide_arrays.operation,
    "transfer": wide_direct.address,
}


def perform(m: M, wide: Wide, cfg: Config) -> None:
    """Execute, or translate, one wide instruction on machine ``m`` in configuration ``cfg``."""
    try:
        WideExecution(m, wide, cfg).run()
    except Ended:
        pass
