"""What both executors call at run time: memory, windows, transfers and state registers of one CPU.

``ld`` and ``st`` are the general paths; translated code does aligned accesses to the RAM at address 0
itself through ``ram`` views. The RAM fast path must not store to a page with translated code:
``code_map`` has a byte per page of that RAM, 1 where code was translated, and such stores come here.
While pages may be missing (postcopy) ``present`` has a byte per page, 0 where it is: loads and stores there
come here and wait. ``attach_memory`` and fresh translations switch between the two ways.

Where pages have rights (``rights``: a process of ``e2kemu.linux``), and while there are watchpoints, both
maps are filled as they are used: every page starts with ``present`` 0 and ``code_map`` 1, so that its first
load and its first store come here, are checked, and open the fast path (a page with a watchpoint never
opens). ``protection_changed`` closes it again and tells ``on_protection_change``. An executor with a cache of its
own fills it from ``may`` (and the two maps) and empties it on that notice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np

from e2kemu.cpu import arrays, atomic, locks, sregs, windows
from e2kemu.cpu.config import Config
from e2kemu.cpu.interrupts import PSR_IE, PSR_LW, PSR_NMIE, PSR_PM, PSR_UIE, PSR_UNMIE, Interrupts
from e2kemu.cpu.isa.registers import BY_NAME, BY_NUMBER, CHAIN_RESIDENT
from e2kemu.cpu.isa.traps import (
    EXC_DATA_PAGE,
    EXC_DIAG_INSTR_ADDR,
    EXC_ILLEGAL_INSTR_ADDR,
    EXC_ILLEGAL_OPCODE,
    EXC_INSTR_PAGE_MISS,
    EXC_INSTR_PAGE_PROT,
    EXC_PRIV_ACTION,
    EXC_WINDOW_BOUNDS,
)
from e2kemu.cpu.mmu import Mmu, special
from e2kemu.cpu.rights import EXECUTE, READ, WRITE
from e2kemu.cpu.state import CR1_LO, CTPR1, OSCUD_HI, OSCUD_LO, PSR, UPSR, WD, CpuState, Slot
from e2kemu.cpu.wide_control import TAG_DIAGNOSTIC, TAG_LABEL, TAG_NUMERIC, TAG_RETURN, TAG_SYSTEM, TRAP_TABLE_ENTRY
from e2kemu.cpu.windows import M48, Trap

if TYPE_CHECKING:
    from e2kemu.memory.space import AddressSpace

M64 = (1 << 64) - 1
PAGE = 12

LONGEST_WIDE = 64
"""Bytes of the longest wide instruction."""

CORE_MODE = BY_NAME["core_mode"].number

OSEM, DIBCR = BY_NAME["osem"].number, BY_NAME["dibcr"].number

CLOCKS = {BY_NAME["clkr"].number, BY_NAME["sclkr"].number}


class NoTrapTable(Exception):
    """The guest called the system, and there is no system: OSCUD is empty."""


class PageRights(Protocol):
    """Who may do what with which page of the address space."""

    def of(self, page: int) -> int:
        """Of READ, WRITE and EXECUTE; WRITE never without READ."""


class Core:
    """State, memory and the run-time helpers of one CPU. Belongs to the CPU's thread."""

    def __init__(self, state: CpuState, space: AddressSpace) -> None:
        self.state = state
        self.space = space
        self.mmu = Mmu(state.model, space)
        self.stacks: windows.Memory = space
        """Where windows and chain entries are spilled to and filled from."""
        self.exit_flag = memoryview(np.zeros(4, dtype=np.uint32).data)
        """[0]: leave at the next boundary; [1]: the executor is wanted. Any thread may set one; generated code looks at
        both at once, in memory. [2]: something comes from ``interrupts``: who changes PSR or UPSR sets [1] then.
        [3]: what a return asks for: 8 exc_last_wish, 1 a single step."""
        self.interrupts = Interrupts(state, self.exit_flag)
        self.clock: Callable[[], int] = lambda: 0
        """Virtual time in ns; %clkr and %sclkr count it."""
        self.syscall_hook: Callable[[int, int], None] | None = None
        """Called with (entry number, wbs) for a system call when there is no trap table."""
        self.code_pages: set[int] = set()
        self.drop_code: Callable[[int, int], None] = lambda address, size: None
        """Called with (address, size) when the guest stores where code was translated."""
        self.on_code: Callable[[int], None] = lambda page: None
        """Called with a page from which code has been translated: stores there must come to ``st`` from now on."""
        self.trap_hook: Callable[[Trap], bool] | None = None
        """Handles a trap in place of a trap table (the state is as before the wide instruction at pc); True: go on."""
        self.on_protection_change: list[Callable[[int, int], None]] = []
        """Called with the (first, last) page whose rights have changed, or which hold something else."""
        self.rights: PageRights | None = None
        """Rights of pages; None: everything may be done everywhere. Set by ``protect``."""
        self.watches: list[tuple[int, int, int]] = []
        """(address, size, READ and WRITE) of the watchpoints."""
        self.watch_hit: tuple[int, int, int] | None = None
        """(address, size, READ or WRITE) of the access that met a watchpoint last."""
        self.attach_memory()

    def protect(self, rights: PageRights) -> None:
        """From now on pages have rights. Call it before anything was translated."""
        self.rights = rights
        self.generation = -1               # the executor attaches the memory again

    def watch(self, address: int, size: int, access: int) -> None:
        """Record accesses (READ, WRITE or both) to these bytes in ``watch_hit``, from the next ``run`` on."""
        self.watches.append((address, size, access))
        self.generation = -1

    def unwatch(self, address: int, size: int, access: int) -> None:
        """Remove a watchpoint. Raises ValueError when there is none such."""
        self.watches.remove((address, size, access))
        self.generation = -1

    @property
    def guarded(self) -> bool:
        """Not every access may go the fast way: the first one to each page comes here."""
        return self.rights is not None or bool(self.watches)

    def watched(self, page: int) -> bool:
        """Whether a watchpoint lies in a page: accesses to it always come here."""
        return any(address >> PAGE <= page <= address + size - 1 >> PAGE for address, size, _ in self.watches)

    def attach_memory(self) -> None:
        """Find the RAM at address 0; call it again when the memory map has changed."""
        self.generation = self.space.generation
        flat = self.space.find(0)
        self.ram_limit = 0
        self.ram: dict[int, memoryview] = {size: memoryview(b"") for size in (1, 2, 4, 8)}
        self.dirty: memoryview = memoryview(b"")
        self.present: memoryview | None = None
        if flat is not None and flat.block is not None and flat.writable and flat.start == 0:
            size = flat.end
            part = flat.block.mem[flat.block_offset : flat.block_offset + size]
            self.ram = {1: part, 2: part.cast("H"), 4: part.cast("I"), 8: part.cast("Q")}
            self.dirty = memoryview(flat.block.dirty.data)[flat.block_offset >> PAGE :]
            self.ram_limit = size
            if flat.block.arrivals is not None:
                self.present = flat.block.arrivals.view[flat.block_offset >> PAGE :]
        self._arrived = self.present
        pages = self.ram_limit >> PAGE
        if self.guarded:
            self.present = memoryview(bytearray(pages))
        self.code_map = bytearray(b"\1" * pages) if self.guarded else bytearray(pages)
        for page in self.code_pages:
            self.mark_code(page)

    def mark_code(self, page: int) -> None:
        """Code was translated from this page: stores there must come to ``st``."""
        self.code_pages.add(page)
        self.on_code(page)
        if page < len(self.code_map):
            self.code_map[page] = 1

    def unmark_code(self, page: int) -> None:
        """No translated code is left there."""
        self.code_pages.discard(page)
        if page < len(self.code_map):
            self.code_map[page] = self.guarded

    # -- rights of pages ---------------------------------------------------------------------------

    def may(self, address: int, size: int, access: int) -> bool:
        """Whether all ``size`` bytes may be accessed (READ, WRITE, EXECUTE or a sum)."""
        if self.rights is None:
            return True
        pages = range(address >> PAGE, (address + max(size, 1) - 1 >> PAGE) + 1)
        return all(self.rights.of(page) & access == access for page in pages)

    def admit(self, address: int, size: int, access: int) -> None:
        """Check an access by the guest, and let further ones go the fast way. Raises Trap (exc_data_page)."""
        rights = self.rights
        self._look_out(address, size, access)
        first, last = address >> PAGE, address + size - 1 >> PAGE
        for page in (first, last) if last != first else (first,):
            if rights is not None and not rights.of(page) & access:
                at = max(address, page << PAGE)
                raise Trap(EXC_DATA_PAGE, f"{'store to' if access == WRITE else 'load from'} {at:#x}", at)
            if self.present is not None and page < len(self.present) and not self.watched(page):
                if self._arrived is None or self._arrived[page]:
                    self.present[page] = 1
                if access == WRITE and page not in self.code_pages:
                    self.code_map[page] = 0

    def _look_out(self, address: int, size: int, access: int) -> None:
        """Note an access that meets a watchpoint."""
        for start, count, kinds in self.watches:
            if access & kinds and address < start + count and start < address + size:
                self.watch_hit = address, size, access

    def protection_changed(self, first: int, last: int) -> None:
        """The rights of pages ``first`` up to and with ``last`` have changed, or they hold something else now."""
        if self.present is not None and first < len(self.present):
            count = min(last + 1, len(self.present)) - first
            self.present[first : first + count] = bytes(count)
            self.code_map[first : first + count] = b"\1" * count
        self.drop_code(first << PAGE, last + 1 - first << PAGE)
        tags = self.state.stack_tags
        for page in [page for page in tags if first <= page <= last]:
            del tags[page]
        for listener in self.on_protection_change:
            listener(first, last)

    def code_at(self, pc: int) -> memoryview:
        """The bytes from ``pc`` on, up to the longest wide instruction. Raises Trap where nothing can be executed."""
        flat = self.space.find(pc)
        size = LONGEST_WIDE
        if self.rights is not None:
            for page in (pc >> PAGE, pc + size - 1 >> PAGE):
                allowed = self.rights.of(page)
                if not allowed & EXECUTE:
                    if page != pc >> PAGE:
                        size = (page << PAGE) - pc
                    elif allowed:
                        raise Trap(EXC_INSTR_PAGE_PROT, f"code at {pc:#x}", pc)
                    else:
                        raise Trap(EXC_INSTR_PAGE_MISS, f"no code at {pc:#x}", pc)
        if pc & 7 or flat is None or flat.block is None:
            raise Trap(EXC_ILLEGAL_INSTR_ADDR, f"no code at {pc:#x}")
        at = flat.block_offset + pc - flat.start
        size = min(size, flat.end - pc)
        flat.block.need(at, size)
        return flat.block.mem[at : at + size]

    # -- memory ------------------------------------------------------------------------------------

    def ld(self, address: int, size: int) -> int:
        """Read ``size`` bytes anywhere. Raises Trap."""
        if self.guarded:
            self.admit(address, size, READ)
        return self.ld_physical(address, size)

    def ld_physical(self, address: int, size: int) -> int:
        """Read ``size`` bytes at a physical address."""
        return self.space.read(address, size)

    def ld_speculative(self, address: int, size: int) -> int:
        """Read ``size`` bytes of RAM, -1 where there is none: speculation touches no device."""
        flat = self.space.find(address)
        if flat is None or flat.block is None or address + size > flat.end or not self.may(address, size, READ):
            return -1
        self._look_out(address, size, READ)
        return self.space.read(address, size)

    def st(self, address: int, size: int, value: int) -> bool:
        """Write ``size`` bytes anywhere; True when execution must leave after this wide instruction. Raises Trap."""
        if self.guarded:
            self.admit(address, size, WRITE)
        return self.st_physical(address, size, value)

    def st_physical(self, address: int, size: int, value: int) -> bool:
        """Write ``size`` bytes at a physical address; True when execution must leave after this wide instruction."""
        first, last = address >> PAGE, address + size - 1 >> PAGE
        hit = first in self.code_pages or last in self.code_pages
        flat = self.space.find(address)
        if flat is not None and flat.block is not None and flat.writable and address + size <= flat.end:
            at = flat.block_offset + address - flat.start
            if flat.block.arrivals is not None:
                flat.block.need(at, size)
            flat.block.mem[at : at + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
            flat.block.dirty[at >> PAGE] = 1
            flat.block.dirty[at + size - 1 >> PAGE] = 1
        else:
            self.space.write(address, size, value)
        if hit:
            self.drop_code(address, size)
        return hit or self.watch_hit is not None or bool(self.exit_flag[0] or self.exit_flag[1])

    def take_lock(self, address: int, size: int, low: int, high: int) -> None:
        """A lock load has read ``low`` and ``high``."""
        locks.take(self.state, address, size, low, high)

    def store_locked(self, address: int, size: int, low: int, high: int) -> int:
        """A conditional store (``locks``): bit 0: it happened; bit 1: execution must leave after this wide instruction.
        Raises Trap."""
        old = locks.give(self.state, address, size)
        return self.exchange(address, size, old, low | high << 64) if old >= 0 else 0

    def exchange(self, address: int, size: int, old: int, new: int) -> int:
        """Write ``new`` where ``old`` is, as one step for everybody: result and traps as ``store_locked``."""
        if self.guarded:
            self.admit(address, size, WRITE)
        first = address >> PAGE
        flat = self.space.find(address)
        if flat is None or flat.block is None or not flat.writable or address + size > flat.end or address & size - 1:
            # no RAM, or not in one piece: devices take their accesses one at a time
            if self.space.read_bytes(address, size) != old.to_bytes(size, "little"):
                return 0
            self.space.write_bytes(address, new.to_bytes(size, "little"))
            return 1 | 2 * bool(self.watch_hit or self.exit_flag[0] or self.exit_flag[1])
        hit = first in self.code_pages
        at = flat.block_offset + address - flat.start
        flat.block.need(at, size)
        done = atomic.exchange_if(flat.block.view.ctypes.data + at, size, old, new)
        if done:
            flat.block.dirty[at >> PAGE] = 1
            if hit:
                self.drop_code(address, size)
        return done | 2 * bool(hit or self.watch_hit is not None or self.exit_flag[0] or self.exit_flag[1])

    def st_speculative(self, address: int, size: int, value: int) -> bool:
        """As ``st``; nothing is stored where there is no RAM."""
        flat = self.space.find(address)
        if flat is None or flat.block is None or not flat.writable or address + size > flat.end \
                or not self.may(address, size, WRITE):
            return False
        return self.st(address, size, value)

    # -- special accesses ----------------------------------------------------------------------------

    def special_load(self, opc: int, address: int, channel: int) -> int:
        """The 8 bytes of a special load (MAS mod 7) with code ``opc`` in ``channel`` (2 or 5)."""
        return special.load(self.mmu, opc, address)

    def special_store(self, opc: int, address: int, value: int, channel: int) -> None:
        """A special store; the CPU leaves translated code after it."""
        special.store(self.mmu, opc, address, value)

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
        if number in CLOCKS:
            return self.clock() & M64
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

    def masks_changed(self) -> None:
        """PSR or UPSR may be another one: an interrupt that waits is asked about at the next boundary."""
        if self.exit_flag[2]:
            self.exit_flag[1] = 1

    # -- the array access unit -----------------------------------------------------------------------

    def start_arrays(self, ctpr: int) -> None:
        """bap: run the array prefetch program that ``ctpr`` names."""
        arrays.start(self.state, self.ld_speculative, ctpr)

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
            self.exit_flag[3] |= wishes
            self.exit_flag[1] = 1

    def do_done(self) -> int:
        """done: pop the handler's frame; the transfer registers stay as the handler has left them."""
        s = self.state.S
        prepared = s[CTPR1], s[CTPR1 + 1], s[CTPR1 + 2]
        cr1 = s[CR1_LO]
        ip = windows.leave(self.state, self.stacks)
        s[CTPR1], s[CTPR1 + 1], s[CTPR1 + 2] = prepared
        arrays.resume(self.state, self.ld_speculative, prepared[1])
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
