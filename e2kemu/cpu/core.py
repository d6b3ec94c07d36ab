"""What the executors call at run time: windows, transfers and state registers of one CPU; its memory is
``guest_memory``'s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from e2kemu.cpu import arrays, sregs, windows
from e2kemu.cpu.codepages import CodePages
from e2kemu.cpu.config import Config
from e2kemu.cpu.guest_memory import PAGE, GuestMemory
from e2kemu.cpu.interrupts import PSR_IE, PSR_LW, PSR_NMIE, PSR_PM, PSR_UIE, PSR_UNMIE, Interrupts
from e2kemu.cpu.isa.registers import BY_NAME, BY_NUMBER, CHAIN_RESIDENT
from e2kemu.cpu.isa.traps import (
    EXC_AINSTR_PAGE_MISS,
    EXC_AINSTR_PAGE_PROT,
    EXC_DIAG_INSTR_ADDR,
    EXC_ILLEGAL_INSTR_ADDR,
    EXC_ILLEGAL_OPCODE,
    EXC_INSTR_PAGE_MISS,
    EXC_PRIV_ACTION,
    EXC_WINDOW_BOUNDS,
)
from e2kemu.cpu.mmu import special
from e2kemu.cpu.rights import READ
from e2kemu.cpu.state import CR1_LO, CTPR1, OSCUD_HI, OSCUD_LO, PSR, UPSR, WD, CpuState, Slot
from e2kemu.cpu.wide_control import TAG_DIAGNOSTIC, TAG_LABEL, TAG_NUMERIC, TAG_RETURN, TAG_SYSTEM, TRAP_TABLE_ENTRY
from e2kemu.cpu.windows import M48, Trap

if TYPE_CHECKING:
    from e2kemu.memory.space import AddressSpace

M64 = (1 << 64) - 1

CORE_MODE = BY_NAME["core_mode"].number

OSEM, DIBCR = BY_NAME["osem"].number, BY_NAME["dibcr"].number

CLOCKS = {BY_NAME["clkr"].number, BY_NAME["sclkr"].number}


PROGRAM_MISSING, PROGRAM_FORBIDDEN = 2, 4
"""Bits of ``exit_flag[3]``: the array prefetch program cannot run."""

PROGRAM_TRAPS = {PROGRAM_MISSING: EXC_AINSTR_PAGE_MISS, PROGRAM_FORBIDDEN: EXC_AINSTR_PAGE_PROT}


class NoTrapTable(Exception):
    """The guest called the system, and there is no system: OSCUD is empty."""


class Core(GuestMemory):
    """State, memory and the run-time helpers of one CPU. Belongs to the CPU's thread."""

    def __init__(self, state: CpuState, space: AddressSpace, code: CodePages | None = None) -> None:
        super().__init__(state, space, code)
        self.interrupts = Interrupts(state, self.exit_flag)
        self.waits = False
        """The CPU shall be halted at the next boundary, until there is an interrupt."""
        self.clock: Callable[[], int] = lambda: 0
        """Virtual time in ns; %clkr counts it, %sclkr tells it."""
        self.syscall_hook: Callable[[int, int], None] | None = None
        """Called with (entry number, wbs) for a system call when there is no trap table."""
        self.trap_hook: Callable[[Trap], bool] | None = None
        """Handles a trap in place of a trap table (the state is as before the wide instruction at pc); True: go on."""

    # -- special accesses ----------------------------------------------------------------------------

    def special_load(self, opc: int, address: int, channel: int) -> int:
        """The 8 bytes of a special load (MAS mod 7) with code ``opc`` in ``channel`` (2 or 5)."""
        return special.load(self.mmu, opc, address)

    def special_store(self, opc: int, address: int, value: int, channel: int) -> None:
        """A special store; the CPU leaves translated code after it."""
        special.store(self.mmu, opc, address, value)
        if opc == special.TLB_FLUSH and not address & 7:
            self.flush_code(0, 1 << 48)
        elif opc == special.PAGE_FLUSH and not address & 1:
            try:
                line = self.translate(value & M48, READ)
            except Trap:
                return          # nothing there, nothing of it in a cache
            if line >> PAGE in self.code_pages:
                self.flush_code(line, 1)

    # -- state registers ---------------------------------------------------------------------------

    def sreg_access(self, number: int, letter: str, cfg: Config) -> tuple[int | None, str]:
        """(exception, why) when code in ``cfg`` may not access the register as "r" or "w"; (None, "") when it may."""
        register = BY_NUMBER.get(number)
        if register is None or not register.since <= cfg.version <= register.until:
            return EXC_ILLEGAL_OPCODE, f"no state register {number:#x}"
        if letter not in register.access:
            return EXC_ILLEGAL_OPCODE, f"%{register.name} cannot be {'written' if letter == 'w' else 'read'}"
        if not cfg.pm and letter not in register.user_access:
            return EXC_PRIV_ACTION, f"%{register.name}"
        return None, ""

    def read_sreg(self, number: int) -> int:
        """A register that is not a plain slot, or one that is."""
        if number == sregs.CLKR:
            return self.clock() & M64
        if number == sregs.SCLKR:
            return sregs.system_clock(self.state, self.clock())
        value = sregs.derived(self.state, number)
        return self.state.S[number] if value is None else value

    def write_sreg(self, number: int, value: int) -> None:
        """Write a register, with what follows from it."""
        sregs.write(self.state, number, value)
        if number in (PSR, UPSR):
            self.masks_changed()
        elif number == DIBCR:
            self.exit_flag[1] = 1       # breakpoints are the executor's
        elif number == CORE_MODE:
            self.mmu.set_core_mode(value)

    def wait_for_interrupt(self) -> None:
        """wait int: the CPU executes nothing more until an interrupt is pending."""
        self.waits = True
        self.exit_flag[1] = 1

    def masks_changed(self) -> None:
        """PSR or UPSR may be another one: an interrupt that waits is asked about at the next boundary."""
        if self.exit_flag[2]:
            self.exit_flag[1] = 1

    # -- the array access unit -----------------------------------------------------------------------

    def start_arrays(self, ctpr: int) -> None:
        """bap: run the array prefetch program that ``ctpr`` names."""
        self._run_arrays(arrays.start, ctpr)

    def _run_arrays(self, run: Callable[[CpuState, Callable[[int, int], int], int], None], ctpr: int) -> None:
        try:
            run(self.state, self.ld_program, ctpr)
        except Trap as trap:
            self._ask(PROGRAM_MISSING if trap.exc == EXC_INSTR_PAGE_MISS else PROGRAM_FORBIDDEN)

    def stop_arrays(self) -> None:
        """eap: end the array prefetch program."""
        arrays.stop(self.state)

    # -- windows and transfers -----------------------------------------------------------------------

    def window_room(self, size: int) -> None:
        """Spill until a window of ``size`` doubles fits. Raises Trap."""
        windows.make_room(self.state, self.stacks, size)

    def set_window(self, old: int, new: int, fx: int, dbl: int) -> None:
        """setwd: the size is now ``new`` doubles."""
        s = self.state.S
        windows.enter_empty(self.state, old, new)
        s[WD] = s[WD] & (0x7FF | 0x7FF << 32) | new << 19 | fx << 48 | dbl << 49

    def flush_windows(self) -> None:
        """flushr: every register below the window goes to memory."""
        x = self.state.X
        live = x[Slot.BASE] - x[Slot.BOTTOM]
        if live > 0:
            windows.spill(self.state, self.stacks, live)

    def flush_chain(self) -> None:
        """flushc: every chain entry goes to memory."""
        if self.state.X[Slot.CHAIN]:
            windows.spill_chain(self.state, self.stacks, self.state.X[Slot.CHAIN])

    def check_transfer(self, ctpr: int, is_call: bool, wbs: int, size: int) -> None:
        """Trap when ``ctpr`` cannot be used by ct or call; do beforehand what the transfer may trap for."""
        tag = ctpr >> 54 & 7
        if tag == TAG_DIAGNOSTIC:
            raise Trap(EXC_DIAG_INSTR_ADDR, "ct through a diagnostic CTPR")
        if is_call:
            if 2 * wbs > size:
                raise Trap(EXC_WINDOW_BOUNDS, f"call wbs={wbs}")
            if tag not in (TAG_LABEL, TAG_NUMERIC, TAG_SYSTEM):
                raise Trap(EXC_ILLEGAL_INSTR_ADDR, "call through a CTPR that holds no label")
            if tag == TAG_SYSTEM:
                self._check_entry(ctpr)
            if self.state.X[Slot.CHAIN] >= CHAIN_RESIDENT:
                windows.spill_chain(self.state, self.stacks, CHAIN_RESIDENT // 2)
        elif tag == TAG_RETURN:
            self.prepare_return()
        elif tag not in (TAG_LABEL, TAG_NUMERIC):
            raise Trap(EXC_ILLEGAL_INSTR_ADDR, "ct through a CTPR that holds no label")
        if tag == TAG_NUMERIC and ctpr & 7:
            raise Trap(EXC_ILLEGAL_INSTR_ADDR, f"transfer to {ctpr & M48:#x}")

    def _check_entry(self, ctpr: int) -> None:
        """Trap when %osem does not allow this entry of the system."""
        s = self.state.S
        entry = ((ctpr & M48) - (s[OSCUD_LO] & M48)) // TRAP_TABLE_ENTRY
        if s[OSCUD_HI] >> 32 and not s[OSEM] >> entry & 1:
            raise Trap(EXC_ILLEGAL_INSTR_ADDR, f"system entry {entry} is not enabled")

    def prepare_return(self) -> None:
        """Fill what a return needs from the stacks. Raises Trap."""
        state = self.state
        windows.need_chain(state, self.stacks)
        below = state.X[Slot.BOTTOM] - (state.X[Slot.BASE] - 2 * (state.S[CR1_LO] >> 33 & 0x7F))
        if below > 0:
            windows.fill(state, self.stacks, below)

    def do_return(self) -> int:
        """Pop the frame; the address to go on at."""
        cr1, psr = self.state.S[CR1_LO], self.state.S[PSR]
        ip = windows.leave(self.state, self.stacks)
        self.masks_changed()
        self._returned(psr, cr1)
        return ip

    def _returned(self, psr: int, cr1: int) -> None:
        """A frame was left: its last wish (PSR.lw), and the single step that its return asks for (CR1.lo.ss)."""
        wishes = psr & PSR_LW | cr1 >> 24 & 1
        if wishes:
            self._ask(wishes)

    def _ask(self, what: int) -> None:
        """Something must come at the next boundary: bits of ``exit_flag[3]``."""
        self.exit_flag[3] |= what
        self.exit_flag[1] = 1

    def do_done(self) -> int:
        """done: pop the handler's frame; the transfer registers stay as the handler has left them."""
        s = self.state.S
        prepared = s[CTPR1], s[CTPR1 + 1], s[CTPR1 + 2]
        cr1 = s[CR1_LO]
        ip = windows.leave(self.state, self.stacks)
        s[CTPR1], s[CTPR1 + 1], s[CTPR1 + 2] = prepared
        self._run_arrays(arrays.resume, prepared[1])
        self.masks_changed()
        self._returned(0, cr1)
        return ip

    def do_call(self, ctpr: int, wbs: int, return_ip: int) -> int:
        """Push a frame and give the address of the callee; a system label enters the system.

        Without a system in the machine ``syscall_hook`` is one: pc is behind the call then, and the hook may change it.
        """
        state = self.state
        if ctpr >> 54 & 7 != TAG_SYSTEM:
            windows.enter(state, self.stacks, wbs, return_ip)
            return ctpr & M48
        if not state.S[OSCUD_HI] >> 32:
            entry = ((ctpr & M48) - (state.S[OSCUD_LO] & M48)) // TRAP_TABLE_ENTRY
            if self.syscall_hook is None:
                raise NoTrapTable(f"system call {entry}")
            state.S[CTPR1] = state.S[CTPR1 + 1] = state.S[CTPR1 + 2] = 0
            state.X[Slot.PC] = return_ip
            self.syscall_hook(entry, wbs)
            return state.X[Slot.PC]
        windows.enter(state, self.stacks, wbs, return_ip)
        enter_privileged(state)
        return ctpr & M48


def enter_privileged(state: CpuState) -> None:
    """PSR of the system: privileged, interrupts off, no last wish."""
    state.S[PSR] = state.S[PSR] & ~(PSR_IE | PSR_UIE | PSR_NMIE | PSR_UNMIE | PSR_LW) | PSR_PM
