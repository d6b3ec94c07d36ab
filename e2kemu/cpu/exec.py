"""A CPU: its run loop, traps, and what the machine, the monitor and library users ask of it.

``run`` executes blocks of the reference tier until something happens. Only the CPU's own thread calls
``run`` and ``step``; ``request_exit`` may come from any thread; the rest while the CPU stands still.

``traps`` says what a trap does. Between two wide instructions the CPU also takes interrupts (``interrupts``), obeys
init and startup, and does what a return asked for (a last wish, a single step).
Without a trap table (OSCUD.size is 0) the CPU cannot go on: ``run`` returns "fatal" and ``fatal_message`` says why.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from e2kemu import trace
from e2kemu.clock import NotExact
from e2kemu.cpu import guest_debug, locks, traps
from e2kemu.cpu.block_source import Left
from e2kemu.cpu.codepages import CodePages
from e2kemu.cpu.config import Config
from e2kemu.cpu.core import DIBCR, PROGRAM_TRAPS, Core, NoTrapTable
from e2kemu.cpu.guest_memory import BREAK_HIT
from e2kemu.cpu.info import format_registers
from e2kemu.cpu.interrupts import PSR_LW, Halt, Waiting
from e2kemu.cpu.isa.models import CpuModel
from e2kemu.cpu.isa.traps import BY_BIT, EXC_INSTR_DEBUG, EXC_LAST_WISH
from e2kemu.cpu.native.interp.interpreter import Interpreter
from e2kemu.cpu.native.layout import Status
from e2kemu.cpu.native.translator import Translator
from e2kemu.cpu.reference import Reference, Table
from e2kemu.cpu.state import RESET_PC, CpuState, Slot
from e2kemu.cpu.vmstate import cpu_section
from e2kemu.cpu.windows import Trap
from e2kemu.devices.core import who
from e2kemu.trace import Log

if TYPE_CHECKING:
    from e2kemu.devices.vmstate import VMStateSection
    from e2kemu.memory.space import AddressSpace

NO_LIMIT = 1 << 62
BlockHook = Callable[["Cpu", int], None]
_PC, _STEPPING = int(Slot.PC), int(Slot.STEPPING)
_TRAPS_IN_VAIN = 256
"""Traps without a wide instruction executed in between: no handler comes out of that."""


class Cpu:
    """One CPU on an address space. ``clock`` gives virtual time in ns (%clkr counts it)."""

    def __init__(self, index: int, model: CpuModel, space: AddressSpace,
                 clock: Callable[[], int] | None = None, accel: str = "jit", code: CodePages | None = None) -> None:
        """``code``: the machine's pages with code, when other CPUs share them."""
        self.index, self.model, self.accel = index, model, accel
        self.state = CpuState(model, index)
        self.core = Core(self.state, space, code)
        self.mmu = self.core.mmu
        self.reference = Reference(self.core)
        self.translator = Translator(self.core, self.reference.decoded) if accel in ("jit", "interp") else None
        """What native code of both kinds stands on, and with accel "jit" the translator of what is hot; None: the
        reference tier executes everything."""
        self.interpreter: Interpreter | None = None
        """The native interpreter, for all that is not translated."""
        if self.translator is not None:
            self.interpreter = Interpreter(self.core, self.translator.context, hot=accel == "jit")
            self.translator.installed = self.interpreter.has_region
        self.core.drop_code = self.invalidate
        self.idle_until: int | None = None
        """Virtual time in ns until which the CPU sleeps; ``run`` returns "idle" while it is set."""
        self.breakpoints: set[int] = set()
        self.fatal_message = ""
        """Why ``run`` returned "fatal": one line."""
        self.interrupts = self.core.interrupts
        self.interrupts.on_change = self._woken
        """Its pins: how interrupt controllers and other CPUs reach it."""
        self.halted = Halt.STOPPED if index else Halt.RUNS
        """Not RUNS: it executes nothing until something comes through its pins; ``run`` returns "halted"."""
        self.executed = 0
        """Wide instructions executed since the object was made; while ``run`` goes on it lags behind."""
        self._budget = self._in_flight = 0
        self._in_vain = 0
        """Traps since a wide instruction was executed."""
        self._hooks: list[BlockHook] = []
        self._thread: int | None = None
        """The thread that is in ``run``."""
        self._stopped_at: int | None = None
        self._after: Trap | None = None
        """What the wide instruction just executed traps for, itself done."""
        if clock is not None:
            self.clock = clock

    @property
    def clock(self) -> Callable[[], int]:
        """Virtual time in ns."""
        return self.core.clock

    @clock.setter
    def clock(self, clock: Callable[[], int]) -> None:
        self.core.clock = clock

    @property
    def fatal_reason(self) -> str:
        """``fatal_message`` without the CPU's number."""
        return self.fatal_message.partition(": ")[2]

    # -- for the machine -----------------------------------------------------------------------------

    def reset(self) -> None:
        """Everything as after power-on; blocks are dropped."""
        if trace.mask & Log.CPU_RESET:
            trace.log(f"CPU Reset (CPU {self.index})\n{format_registers(self)}")
        self._fresh()
        self.interrupts.reset()
        self.halted = Halt.STOPPED if self.index else Halt.RUNS

    def _fresh(self) -> None:
        self.state.reset()
        self.mmu.reset()
        self._drop_blocks()
        self.idle_until, self.fatal_message, self._stopped_at, self._in_vain = None, "", None, 0
        self.core.exit_flag[3], self.core.waits, self._after = 0, False, None

    def _woken(self) -> None:
        """Something came through a pin (any thread): a CPU that is idle looks at it."""
        if self.idle_until is not None and self.interrupts.due() is not None:
            self.idle_until = None

    def request_exit(self) -> None:
        """Make ``run`` return at the next boundary (any thread). Kept until a ``run`` has seen it."""
        self.core.exit_flag[0] = 1

    def invalidate(self, address: int, size: int) -> None:
        """Memory there changed: code made from it is dropped."""
        self.reference.invalidate(address, size)
        if self.translator is not None:
            self.translator.invalidate(address, size)
        if self.interpreter is not None:
            self.interpreter.invalidate(address, size)

    def memory_changed(self, address: int, size: int) -> None:
        """A device, a monitor or another CPU's access wrote there (any thread): ``invalidate``, but never under a CPU
        that executes in another thread: that one does it itself, at its next boundary."""
        if not self.core.code_pages.any(address, size):
            return
        if self._thread == threading.get_ident():
            self.invalidate(address, size)
            return
        self.core.drops.append((address, size))
        if self._thread is not None:        # asked when the note is there: ``run`` says so before it looks at them
            self.core.exit_flag[0] = 1

    def _drop_blocks(self) -> None:
        self.reference.clear()
        if self.translator is not None:
            self.translator.clear()
        if self.interpreter is not None:
            self.interpreter.clear()

    def section(self) -> VMStateSection:
        """The "cpu" section of a migration stream."""
        return cpu_section(self)

    def on_block(self, hook: BlockHook) -> Callable[[], None]:
        """Call ``hook(cpu, pc)`` before every block; returns a function that removes it."""
        self._hooks.append(hook)
        return lambda: self._hooks.remove(hook)

    # -- running -------------------------------------------------------------------------------------

    def run(self, limit: int | None = None) -> str:
        """Execute at most ``limit`` wide instructions; why it ended: "exit" (``request_exit``), "limit", "idle"
        (``idle_until``), "halted" (``halted``), "breakpoint" (at one, not executed yet), "watchpoint"
        (``core.watch_hit``, executed), "fatal" (``fatal_message``).

        Raises what a device or a hook raised, with the state as before the wide instruction at ``pc``.
        """
        outer, who.executes = who.executes, self.index
        before, self._thread = self._thread, threading.get_ident()
        try:
            return self._run(limit)
        finally:
            who.executes, self._thread = outer, before

    def _run(self, limit: int | None) -> str:
        core, state = self.core, self.state
        if self.translator is not None:
            self.translator.fresh_memory()
        left = NO_LIMIT if limit is None else limit
        flag = core.exit_flag
        met_tag = exact = False
        while True:
            if core.stale:
                self._attach_memory()
            while core.drops:
                self.invalidate(*core.drops.popleft())
            if self.translator is None:
                flag[1] = 0         # before the look at what it is about
            if (flag[2] or flag[3]) and not self._attend():
                return "fatal"
            if self.halted:
                flag[0] = 0
                return "halted"
            if self.idle_until is not None:
                flag[0] = 0
                return "idle"
            if flag[0]:
                flag[0] = 0
                return "exit"
            if left <= 0:
                return "limit"
            before = self._budget = left
            watched = bool(self.breakpoints or self._hooks or trace.mask & (Log.EXEC | Log.CPU)
                           or state.X[_STEPPING] or state.S[DIBCR] & guest_debug.ANY_BREAKPOINT
                           or (core.watches and self.translator is None))
            core.watch_hit = None
            try:
                if met_tag:
                    met_tag = False
                    table = self.reference.table(Config.of(self.state))
                    self.state.X[_PC], _, left = self._tagged(table, self.state.X[_PC], left)
                    self._stepped()
                elif exact:
                    exact = False
                    left = self._exact(left)
                elif watched:
                    left = self._watched(left)
                else:
                    left = self._execute(left)
            except Left as out:
                left = out.left
                self.state.X[_PC] = out.pc
                if out.cause is None:
                    met_tag = True
                    continue
                if isinstance(out.cause, NotExact):
                    exact = True
                    continue
                if isinstance(out.cause, Waiting):
                    self.halted = Halt.TRAPPED
                    if not self.interrupts.can_come():
                        trace.guest_error(f"CPU {self.index}: waits for a trap at {out.pc:#x} with all interrupts off:"
                                          " only INIT or a reset ends that")
                    continue
                if not isinstance(out.cause, Trap):
                    raise out.cause from None
                if not self.trap(out.cause):
                    return "fatal"
            except Trap as trap:
                left = max(left - 1, 0)
                if not self.trap(trap):
                    return "fatal"
            except NotExact:
                return self._fatal("a hardware stack is a device's memory")
            except NoTrapTable as missing:
                return self._fatal(f"{missing} and no trap table is set")
            finally:
                self.executed += before - left
                if left != before:
                    self._in_vain = 0
            after, self._after = self._after, None
            if after is not None and not self.trap(after):
                return "fatal"
            if core.waits:
                core.waits = False
                if not self.interrupts.pending:
                    self.halted = Halt.WAITS
            if core.watch_hit is not None:
                met = guest_debug.met(core) if any(core.break_hits) else None
                if met is not None and not self.trap(met):
                    return "fatal"
                if core.watch_hit != BREAK_HIT:
                    return "watchpoint"
            if self._stopped_at is not None and self.state.X[_PC] == self._stopped_at and self.breakpoints:
                return "breakpoint"

    @property
    def executed_exactly(self) -> int:
        """Wide instructions executed before the one at hand, if this is known (``devices.core.who.exact``)."""
        return self.executed + self._in_flight

    def _attach_memory(self) -> None:
        """The map of memory has changed, or the MMU was switched on or off."""
        self.core.attach_memory()
        self._drop_blocks()
        self.reference.bind()
        if self.translator is not None:
            self.translator.attach_memory()

    def _attend(self) -> bool:
        """Obey, wake up, take the interrupt that is due, and do what a return asked for. False: fatal."""
        self.obey()
        asked, self.core.exit_flag[3] = self.core.exit_flag[3], 0
        if asked & 1:
            self.state.X[_STEPPING] = 1
        if asked & PSR_LW and not self.trap(Trap(EXC_LAST_WISH)):
            return False
        for bit, program in PROGRAM_TRAPS.items():
            if asked & bit and not self.trap(Trap(program)):
                return False
        pins = self.interrupts
        if self.halted == Halt.WAITS and pins.pending:
            self.halted = Halt.RUNS
        if self.halted == Halt.STOPPED:
            return True
        exc = pins.due()
        if exc is None:
            return True
        self.halted, self.idle_until = Halt.RUNS, None
        pins.taken(exc)
        return self.trap(Trap(exc))

    def obey(self) -> None:
        """Do what init and startup asked for since the CPU ran last."""
        while True:
            command, there = self.interrupts.take_command()
            if not there:
                return
            if command is None:
                self._fresh()
                self.halted = Halt.STOPPED
            elif self.halted == Halt.STOPPED:
                self.halted = Halt.RUNS
                self.state.X[_PC] = command << 12 or RESET_PC

    def step(self, count: int = 1) -> str:
        """Execute ``count`` wide instructions; returns as ``run``."""
        return self.run(count)

    def _exact(self, left: int) -> int:
        """One wide instruction in the reference tier, ``executed`` being all that were executed before it."""
        who.exact = True
        try:
            table, pc = self.reference.table(Config.of(self.state)), self.state.X[_PC]
            try:
                result = self.reference.single(table, pc).run(left)
            except Left as out:
                if out.cause is not None:
                    raise
                result = None       # a tag came up
            self.state.X[_PC], _, left = result or self._tagged(table, pc, left)
            self._stepped()
            return left
        finally:
            who.exact = False

    def _blocks(self, left: int) -> int:
        """The fast loop: closed blocks until an exit request or the end of the budget."""
        core, reference, state, flag = self.core, self.reference, self.state, self.core.exit_flag
        pc = state.X[_PC]
        table: Table | None = reference.table(Config.of(state))
        while not flag[0] and not flag[1] and left > 0:
            if table is None:
                table = reference.table(Config.of(state))
            try:
                block = None if core.paging else table.closed.get(pc)
                if block is None:
                    block = reference.closed(table, pc)
                if block.length > left:
                    block = reference.single(table, pc)
            except Trap as trap:
                raise Left(pc, left - 1, trap) from None
            result = block.run(left)
            if result is None:
                result = self._tagged(table, pc, left)
            pc, table, left = result
            state.X[_PC] = pc
            if core.stale:
                break
        return left

    def _execute(self, left: int) -> int:
        """The fast loop of the tier chosen."""
        if self.translator is None:
            return self._blocks(left)
        assert self.interpreter is not None
        return self._native(self.translator, self.interpreter, left)

    def _native(self, translator: Translator, interpreter: Interpreter, left: int) -> int:
        """Translated code where there is some, the native interpreter elsewhere; the reference tier for what they leave
        out."""
        state, reference, flag = self.state, self.reference, self.core.exit_flag
        regions = True
        while not flag[0] and left > 0:
            if flag[1]:
                flag[1] = 0
                translator.boundary()
                break       # ``run`` looks what else it is about
            if state.X[_PC] & 7:
                status = Status.STEP    # a kernel chose it: native code has no place for it
            else:
                if translator.eager and not translator.has(state.X[_PC], Config.of(state)):
                    translator.translate_now(state.X[_PC], Config.of(state))
                status, left = interpreter.run(left, regions=regions)
                translator.note(status, interpreter.take_count())
            regions = True
            if left <= 0:
                break       # what follows is none of this run's business, not even that it may be illegal
            if self.core.watch_hit is not None:
                break
            if status in (Status.EXIT, Status.LIMIT):
                continue
            pc = state.X[_PC]
            if status in (Status.PAGE, Status.CROSS, Status.FULL):
                if interpreter.resolve(status, pc, translator.places(pc)):
                    continue
            elif status == Status.RAISE:
                assert translator.pending is not None
                raise Left(pc, left, translator.pending)
            elif status != Status.STEP:
                regions = translator.consider(status, pc, Config.of(state))
                continue
            table = reference.table(Config.of(state))
            self._in_flight = self._budget - left
            who.exact = True
            try:
                block = reference.single(table, pc)
                state.X[_PC], _, left = block.run(left) or self._tagged(table, pc, left)
            except Trap as trap:
                raise Left(pc, left - 1, trap) from None
            finally:
                self._in_flight, who.exact = 0, False
            if self.core.watch_hit is not None or self.core.stale:
                break
        return left

    def _tagged(self, table: Table, pc: int, left: int) -> tuple[int, Table | None, int]:
        """One wide instruction with tags."""
        block = self.reference.tagged(table, pc)
        result = block.run(left)
        assert result is not None
        return result

    def _watched(self, left: int) -> int:
        """One block, or one wide instruction while there are breakpoints, with hooks and logs before it."""
        state, reference = self.state, self.reference
        pc = state.X[_PC]
        if pc in self.breakpoints and self._stopped_at != pc:
            self._stopped_at = pc
            return left
        self._stopped_at = None
        table = reference.table(Config.of(state))
        if trace.mask & Log.EXEC:
            trace.log(f"Trace {self.index}: {pc:#018x}")
        if trace.mask & Log.CPU:
            trace.log(format_registers(self))
        for hook in tuple(self._hooks):
            hook(self, pc)
        if guest_debug.breaks(state, pc):
            raise Trap(EXC_INSTR_DEBUG)
        if self.breakpoints or self.core.watches or state.X[_STEPPING] or state.S[DIBCR] & guest_debug.ANY_BREAKPOINT:
            block = reference.single(table, pc)
        else:
            block = reference.opened(table, pc)
            if block.length > left:
                block = reference.single(table, pc)
        result = block.run(left) or self._tagged(table, pc, left)
        state.X[_PC] = result[0]
        self._stepped()
        return result[2]

    def _stepped(self) -> None:
        """A wide instruction was executed: it may have been a single step."""
        if self.state.X[_STEPPING]:
            self._after = guest_debug.stepped(self.state)

    # -- traps ---------------------------------------------------------------------------------------

    def trap(self, trap: Trap) -> bool:
        """Enter the trap handler for the wide instruction at ``pc``; False when there is none."""
        state = self.state
        # a wide instruction that traps has accessed nothing
        self.core.break_hits = [0, 0]
        pc = state.X[_PC]
        trap, records = self._whole(pc, trap)
        locks.lose(state)
        exc = BY_BIT[trap.exc]
        if trap.detail and exc.bit == 0:
            trace.unimp(f"{trap.detail} at {pc:#x}: {exc.name}")
        if trace.mask & Log.INT:
            trace.log(f"CPU {self.index}: {exc.name} at {pc:#x} {trap.detail}".rstrip())
        if self.core.trap_hook is not None:
            return self.core.trap_hook(trap)
        detail = f" ({trap.detail})" if trap.detail else ""
        if not traps.has_table(state):
            self._fatal(f"{exc.name} at {pc:#x}{detail} and no trap table is set")
            return False
        self._in_vain += 1
        if traps.is_lost(state, pc, trap) or self._in_vain > _TRAPS_IN_VAIN:
            self._fatal(f"{exc.name} at {pc:#x}{detail}, the first wide instruction of the trap handler")
            return False
        try:
            traps.enter(self.core, pc, trap)
        except Trap as second:
            self._fatal(f"{BY_BIT[second.exc].name} while entering the handler of {exc.name} at {pc:#x}{detail}")
            return False
        for record in records:
            if not self.core.mmu.cellar.record(*record):
                trace.guest_error(f"CPU {self.index}: the trap cellar is full: {record[0]:#x}")
        return True

    def _whole(self, pc: int, trap: Trap) -> tuple[Trap, list[tuple[int, int, int]]]:
        """The trap with everything that its wide instruction raises, and the records for the trap cellar."""
        if BY_BIT[trap.exc].kind != "sync" and trap.fault is None:
            return trap, []
        try:
            wide = self.reference.fetch(pc)
        except Trap:
            return trap, []
        return traps.whole(self.core, wide, trap)

    def _fatal(self, text: str) -> str:
        self.fatal_message = f"cpu {self.index}: {text}"
        return "fatal"
