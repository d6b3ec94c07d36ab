"""The oracle: wide instructions executed straight away, with Python integers, on the state itself.

Slow and obvious. Translated code must give the same state; the tests compare the two.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from e2kemu.cpu import atomic, locks, sregs
from e2kemu.cpu.config import GLOBAL, Config, WindowBounds
from e2kemu.cpu.core import M64, Core
from e2kemu.cpu.fp import FpOperation
from e2kemu.cpu.fp import machine as fp_machine
from e2kemu.cpu.insn import Wide
from e2kemu.cpu.interrupts import Waiting
from e2kemu.cpu.isa.traps import BY_BIT, EXC_FP, EXC_FP_DISABLED, EXC_WINDOW_BOUNDS
from e2kemu.cpu.memory_access import FAILED_LOAD
from e2kemu.cpu.state import BGR, BR, UPSR, Slot
from e2kemu.cpu.values import PyValues
from e2kemu.cpu.wide_control import TAG_RETURN, prepare_control
from e2kemu.cpu.wide_semantics import WideExecution, perform
from e2kemu.cpu.windows import M48, Trap

Late = list[Callable[[], None]]


class DirectMachine(PyValues):
    """A machine whose values are Python integers."""

    def __init__(self, core: Core, wide: Wide) -> None:
        self.core, self.wide = core, wide
        self.state = core.state
        self.bits = 64
        self.speculative = False
        self.aligned = False
        self.order = ""
        self.fault = 0
        self.condition = 0
        self.fp_flags: dict[int, list[int]] = {}
        self.diagnostic = 0

    # -- control of the evaluation -------------------------------------------------------------------

    def if_(self, condition: int, body: Callable[[], None], otherwise: Callable[[], None] | None = None) -> None:
        if condition:
            body()
        elif otherwise:
            otherwise()

    def slot(self, value: int) -> list[int]:
        return [value]

    staged = slot

    def put(self, slot: list[int], value: int) -> None:
        slot[0] = value

    def get(self, slot: list[int]) -> int:
        return slot[0]

    def pin(self, value: int) -> int:
        return value

    def settle(self, value: int) -> int:
        return value

    def may_keep(self, register: int, halves: int) -> None:
        pass

    def trap(self, exc: int, detail: str = "") -> None:
        raise Trap(exc, detail)

    def trap_if(self, condition: int, exc: int) -> None:
        if condition:
            if not self.speculative:
                raise Trap(exc)
            self.fault = 1

    def merge_condition(self) -> int:
        return self.condition

    # -- registers -----------------------------------------------------------------------------------

    def _index(self, register: int) -> int:
        return register - GLOBAL if register >= GLOBAL else self.state.X[Slot.BASE] + register

    def reg(self, register: int) -> int:
        return self.state.R[self._index(register)]

    old_reg = reg

    def tag(self, register: int, mask: int) -> int:
        return self.state.T[self._index(register)] & mask

    def old_tag(self, register: int) -> int:
        return self.state.T[self._index(register)]

    def ext(self, register: int) -> int:
        return self.state.E[self._index(register)]

    old_ext = ext

    def write_reg(self, register: int, value: int, tag: int, halves: int) -> None:
        index = self._index(register)
        self.state.R[index], self.state.T[index] = value, tag

    def write_ext(self, register: int, value: int) -> None:
        self.state.E[self._index(register)] = value

    def pred(self, index: int) -> int:
        return self.state.P[index] & 1

    def pred_diag(self, index: int) -> int:
        return self.state.P[index] >> 1

    def pred_raw(self, index: int) -> int:
        return self.state.P[index]

    def write_pred(self, index: int, slot: list[int]) -> None:
        self.state.P[index] = slot[0]

    def sreg(self, number: int) -> int:
        return self.state.S[number]

    def set_sreg(self, number: int, value: int) -> None:
        self.state.S[number] = value

    def end_of_results(self) -> None:
        pass

    def sreg_access(self, number: int, letter: str, cfg: Config) -> tuple[int | None, str]:
        return self.core.sreg_access(number, letter, cfg)

    def read_sreg(self, number: int) -> int:
        if number == sregs.IP:
            return self.wide.address
        if number == sregs.NIP:
            return self.wide.address + self.wide.size
        return self.core.read_sreg(number)

    def write_sreg(self, number: int, value: int) -> None:
        self.core.write_sreg(number, value)

    # -- floating point ------------------------------------------------------------------------------

    def fp(self, name: str, *operands: int) -> int:
        return int(fp_machine.perform(self, name, operands))

    def fp_enabled(self) -> None:
        if not self.state.S[UPSR] & 1:
            raise Trap(EXC_FP_DISABLED)

    def fp_primitive(self, operation: FpOperation, operands: tuple[int, ...], control: int) -> tuple[int, int]:
        return operation.function(*operands, control)

    def fp_raised(self, flags: int, control: int, shift: int) -> int:
        return int(flags & ~(control >> shift) != 0)

    def fp_trap(self, number: int, flags: int) -> None:
        control = self.state.S[fp_machine.control_of(number)]
        self.state.S[number] |= fp_machine.trapped(number, flags, control)
        raise Trap(EXC_FP)

    # -- the array access unit -----------------------------------------------------------------------

    def aau(self, index: int) -> int:
        return self.state.A[index]

    def set_aau(self, index: int, value: int) -> None:
        self.state.A[index] = value

    def start_arrays(self, ctpr: int) -> None:
        self.core.start_arrays(ctpr)

    def stop_arrays(self) -> None:
        self.core.stop_arrays()

    # -- memory --------------------------------------------------------------------------------------

    def load(self, address: int, size: int) -> int:
        if not self.speculative:
            return self.core.ld(address, size)
        value = -1 if self.aligned and address & (size - 1) else self.core.ld_speculative(address, size)
        if value < 0:
            self.fault = 1
            return FAILED_LOAD
        return value

    def store(self, address: int, size: int, value: int) -> None:
        value &= (1 << 8 * size) - 1
        if not self.speculative:
            self.core.st(address, size, value)
        elif not (self.aligned and address & (size - 1)):
            self.core.st_speculative(address, size, value)

    def store_if(self, condition: int, address: int, size: int, value: int) -> None:
        self.if_(condition, lambda: self.store(address, size, value))

    def physical_load(self, address: int, size: int) -> int:
        return self.core.ld_physical(address, size)

    def physical_store(self, address: int, size: int, value: int) -> None:
        self.core.st_physical(address, size, value & (1 << 8 * size) - 1)

    def special_load(self, opc: int, address: int, channel: int) -> int:
        return self.core.special_load(opc, address, channel)

    def special_store(self, opc: int, address: int, value: int, channel: int) -> None:
        self.core.special_store(opc, address, value, channel)

    def fence(self, order: str) -> None:
        atomic.fence()

    def take_lock(self, address: int, size: int, low: int, high: int) -> None:
        locks.take(self.state, address, size, low, high)

    def store_locked(self, address: int, size: int, low: int, high: int) -> int:
        return self.core.store_locked(address, size, low, high) & 1

    # -- windows and transfers -----------------------------------------------------------------------

    def window_room(self, size: int) -> None:
        self.core.window_room(size)

    def set_window(self, old: int, new: int, fx: int, dbl: int) -> None:
        self.core.set_window(old, new, fx, dbl)

    def set_rotation(self, br: int, bgr: int) -> None:
        self.state.S[BR], self.state.S[BGR] = br, bgr

    def flush_windows(self) -> None:
        self.core.flush_windows()

    def flush_chain(self) -> None:
        self.core.flush_chain()

    def wait_for_trap(self) -> None:
        raise Waiting

    def wait_for_interrupt(self) -> None:
        self.core.wait_for_interrupt()

    def check_transfer(self, ctpr: int, is_call: bool, wbs: int, cfg: Config) -> None:
        self.core.check_transfer(ctpr, is_call, wbs, cfg.size)

    def prepare_return(self) -> None:
        self.core.prepare_return()

    def go_on(self, pc: int, cfg: Config, late: Late) -> None:
        self.exit_to(pc, cfg, late)

    def exit_to(self, pc: int, cfg: Config, late: Late) -> None:
        for action in late:
            action()
        self.state.X[Slot.PC] = pc & M64

    def exit_ct(self, ctpr: int, cfg: Config, late: Late) -> None:
        for action in late:
            action()
        self.state.X[Slot.PC] = self.core.do_return() if ctpr >> 54 & 7 == TAG_RETURN else ctpr & M48

    def exit_call(self, ctpr: int, wbs: int, return_ip: int, late: Late) -> None:
        for action in late:
            action()
        self.state.X[Slot.PC] = self.core.do_call(ctpr, wbs, return_ip)

    def exit_done(self, late: Late) -> None:
        for action in late:
            action()
        self.state.X[Slot.PC] = self.core.do_done()


class _Noted(Exception):
    """An exception was found; the operation it belongs to goes no further."""


class Collector(DirectMachine):
    """A machine that notes exceptions and goes on: it stages what it is told and writes nothing."""

    def __init__(self, core: Core, wide: Wide) -> None:
        super().__init__(core, wide)
        self.found: dict[int, str] = {}
        """Exception -> detail."""
        self.channels = 0
        """Channels that exceptions came from, as TIR.al has them."""
        self.channel: int | None = None

    def note(self, exc: int, detail: str = "") -> None:
        """``exc`` belongs to the operation at hand."""
        self.found.setdefault(exc, detail)
        if self.channel is not None:
            self.channels |= 1 << self.channel

    def attempt(self, body: Callable[[], object]) -> None:
        """Do ``body`` until it finds an exception."""
        try:
            body()
        except _Noted:
            pass
        except Trap as trap:
            self.note(trap.exc, trap.detail)
        except WindowBounds as bounds:
            self.note(EXC_WINDOW_BOUNDS, str(bounds))

    def if_(self, condition: int, body: Callable[[], None], otherwise: Callable[[], None] | None = None) -> None:
        self.attempt(lambda: super(Collector, self).if_(condition, body, otherwise))

    def trap(self, exc: int, detail: str = "") -> None:
        self.note(exc, detail)
        raise _Noted

    def trap_if(self, condition: int, exc: int) -> None:
        if condition and not self.speculative:
            self.trap(exc)
        self.fault |= condition

    def fp_trap(self, number: int, flags: int) -> None:
        self.trap(EXC_FP)

    def wait_for_trap(self) -> None:
        pass                    # the trap that it waits for is there

    def take_lock(self, address: int, size: int, low: int, high: int) -> None:
        pass

    def store_locked(self, address: int, size: int, low: int, high: int) -> int:
        self.store(address, size, low | high << 64)
        return 1


def complete(core: Core, wide: Wide, trap: Trap) -> Trap:
    """A trap with all exceptions of its wide instruction, and the first of them (in the order of TIR) as its own.

    Only exceptions of operands, conditions and transfers come together; those of memory come alone, later.
    """
    if BY_BIT[trap.exc].kind != "sync":
        return trap
    machine = Collector(core, wide)
    untyped: Any = machine
    execution = WideExecution(untyped, wide, Config.of(core.state))
    machine.attempt(execution.check_operands)
    for insn in wide.alu:
        machine.channel = insn.channel
        machine.attempt(partial(execution.prepare, insn))
    machine.channel = None
    machine.attempt(lambda: prepare_control(execution))
    machine.found.setdefault(trap.exc, trap.detail)
    first = min(machine.found)
    bits = sum(1 << exc for exc in machine.found)
    detail = trap.detail if first == trap.exc else machine.found[first]
    return Trap(first, detail, trap.address, bits | machine.channels << 44)


def execute(core: Core, wide: Wide) -> None:
    """Execute one wide instruction. Raises Trap, with the state as before it."""
    machine: Any = DirectMachine(core, wide)
    try:
        perform(machine, wide, Config.of(core.state))
    except Trap as trap:
        raise complete(core, wide, trap) from None
