"""Guest memory as one CPU sees it: translation of addresses, rights and watchpoints, loads and stores, code.

``ld`` and ``st`` are the general ways, by guest addresses; translated code does aligned accesses to the RAM at
address 0 itself through ``ram`` views. The RAM fast path must not store to a page with translated code:
``code_map`` has a byte per page of that RAM, 1 where code was translated, and such stores come here.
While pages may be missing (postcopy) ``present`` has a byte per page, 0 where it is: loads and stores there
come here and wait. ``attach_memory`` and fresh translations switch between the two ways.

**Addresses.** What is about RAM (``ram``, ``code_map``, ``present``, dirty marks, ``code_pages``) is physical, what the
guest executes and accesses is virtual. While the MMU translates (``paging``) nothing goes by ``flat_limit``, the fast
way that takes one for the other: an executor keeps translations of its own and empties them when
``on_translation_change`` calls.
``translate`` keeps what the MMU has walked until then.

Where pages have rights (``rights``: a process of ``e2kemu.linux``), and while there are watchpoints, both
maps are filled as they are used: every page starts with ``present`` 0 and ``code_map`` 1, so that its first
load and its first store come here, are checked, and open the fast path (a page with a watchpoint never
opens). ``protection_changed`` closes it again and tells ``on_translation_change``. An executor with a cache of its
own fills it from ``may`` (and the two maps).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np

from e2kemu.cpu import atomic, locks
from e2kemu.cpu.codepages import CodePages
from e2kemu.cpu.isa.traps import EXC_DATA_PAGE, EXC_ILLEGAL_INSTR_ADDR, EXC_INSTR_PAGE_MISS, EXC_INSTR_PAGE_PROT
from e2kemu.cpu.mmu import Mmu, PageFault, debug
from e2kemu.cpu.rights import EXECUTE, READ, WRITE
from e2kemu.cpu.stack_memory import Stacks
from e2kemu.cpu.state import PSR, CpuState
from e2kemu.cpu.windows import Trap

if TYPE_CHECKING:
    from e2kemu.memory.space import AddressSpace

PAGE = 12
PAGE_MASK = (1 << PAGE) - 1

BREAK_HIT = (0, 0, 0)
"""``watch_hit`` where only a data breakpoint of the guest was met."""

LONGEST_WIDE = 64
"""Bytes of the longest wide instruction."""


class PageRights(Protocol):
    """Who may do what with which page of the address space."""

    def of(self, page: int) -> int:
        """Of READ, WRITE and EXECUTE; WRITE never without READ."""


class GuestMemory:
    """Belongs to the CPU's thread."""

    def __init__(self, state: CpuState, space: AddressSpace, code: CodePages | None = None) -> None:
        self.state = state
        self.space = space
        self.mmu = Mmu(state.model, space)
        self.mmu.on_change = self._mmu_changed
        self.stacks = Stacks(self)
        self.exit_flag = memoryview(np.zeros(4, dtype=np.uint32).data)
        """[0]: leave at the next boundary; [1]: the executor is wanted. Any thread may set one; generated code looks at
        both at once, in memory. [2]: something comes from ``interrupts``: who changes PSR or UPSR sets [1] then.
        [3]: what comes at the next boundary: 8 exc_last_wish, 1 a single step (returns ask for them); 2, 4: traps of an
        array prefetch program."""
        self.code_pages = CodePages() if code is None else code
        """Physical pages that code was translated from, by any CPU of the machine."""
        self.drop_code: Callable[[int, int], None] = lambda address, size: None
        """Called with physical (address, size) when the guest stores where code was translated."""
        self.on_code: Callable[[int], None] = lambda page: None
        """Called with a physical page that code has been translated from: stores there must come to ``st`` from now on.
        Any thread."""
        self.on_translation_change: list[Callable[[int, int], None]] = []
        """Called with the (first, last) virtual page whose translation or rights have changed."""
        self.drops: deque[tuple[int, int]] = deque()
        """Physical (address, size) of code that other CPUs have changed: to be dropped at the next boundary."""
        self.rights: PageRights | None = None
        """Rights of pages; None: everything may be done everywhere. Set by ``protect``."""
        self._asked: list[tuple[int, int, int]] = []
        self._breaks: list[tuple[int, int, int] | None] = []
        self.watches: list[tuple[int, int, int]] = []
        """(address, size, READ and WRITE) of the watchpoints, and of the guest's own data breakpoints."""
        self.watch_hit: tuple[int, int, int] | None = None
        """(address, size, READ or WRITE) of the access that met a watchpoint last; ``BREAK_HIT``: only the guest's."""
        self.break_hits = [0, 0]
        """Data breakpoints of the guest that were met, a bit each: by accesses, by speculative ones."""
        self.mmu.on_debug = self._breaks_changed
        self._translations: dict[int, tuple[int, int]] = {}
        """Virtual page << 1 | privileged -> (physical address of the page, what may be done without asking the MMU)."""
        self.paging = False
        """The MMU translates."""
        self.attach_memory()
        self.code_pages.join(self)

    def protect(self, rights: PageRights) -> None:
        """From now on pages have rights. Call it before anything was translated."""
        self.rights = rights
        self.generation = -1               # the executor attaches the memory again

    def watch(self, address: int, size: int, access: int) -> None:
        """Record accesses (READ, WRITE or both) to these bytes in ``watch_hit``, from the next ``run`` on."""
        self._asked.append((address, size, access))
        self._breaks_changed()
        self.generation = -1

    def unwatch(self, address: int, size: int, access: int) -> None:
        """Remove a watchpoint. Raises ValueError when there is none such."""
        self._asked.remove((address, size, access))
        self._breaks_changed()
        self.generation = -1

    def _breaks_changed(self) -> None:
        """The guest has set data breakpoints, or there are other watchpoints."""
        self._breaks = debug.breakpoints(self.mmu)
        watches = [*self._asked, *filter(None, self._breaks)]
        if watches != self.watches:
            self.watches = watches
            self.generation = -1

    @property
    def stale(self) -> bool:
        """Memory must be attached again before anything is executed."""
        return self.generation != self.space.generation

    @property
    def guarded(self) -> bool:
        """Not every access may go the fast way: the first one to each page comes here."""
        return self.rights is not None or bool(self.watches)

    def watched(self, page: int) -> bool:
        """Whether a watchpoint lies in a virtual page: accesses to it always come here."""
        return any(address >> PAGE <= page <= address + size - 1 >> PAGE for address, size, _ in self.watches)

    def attach_memory(self) -> None:
        """Find the RAM at address 0; call it again when the memory map has changed."""
        self.generation = self.space.generation
        self.paging = self.mmu.on
        self._translations.clear()
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
        self.flat_limit = 0 if self.paging else self.ram_limit
        """Below it guest addresses are offsets in ``ram``."""
        self._arrived = self.present
        pages = self.ram_limit >> PAGE
        if self.guarded:
            self.present = memoryview(bytearray(pages))
        self.code_map = bytearray(b"\1" * pages) if self.guarded else bytearray(pages)
        for page in self.code_pages.pages():
            self.note_code(page, True)

    # -- pages with code ---------------------------------------------------------------------------

    def mark_code(self, page: int) -> None:
        """Code was translated from this physical page: stores there must come to ``st``."""
        self.code_pages.mark(self, page)

    def unmark_code(self, page: int) -> None:
        """No code of this CPU is left that was translated from there."""
        self.code_pages.unmark(self, page)

    def note_code(self, page: int, there: bool) -> None:
        """Some CPU has code from a physical page, or none has any more. Any thread."""
        if page < len(self.code_map):
            self.code_map[page] = there or self.guarded
        if there:
            self.on_code(page)

    def ask_drop(self, address: int, size: int) -> None:
        """Another CPU changed code there. Any thread."""
        self.drops.append((address, size))
        self.exit_flag[0] = 1

    def flush_code(self, address: int, size: int) -> None:
        """The guest flushed instruction caches (physical addresses): every CPU forgets what it made of the code."""
        self.drop_code(address, size)
        self.code_pages.changed(self, address, size)

    # -- translation of addresses ------------------------------------------------------------------

    def translate(self, address: int, access: int, privileged: int | None = None) -> int:
        """The physical address. ``privileged`` None: as PSR.pm says.

        Raises Trap: exc_data_page, or exc_instr_page_miss or exc_instr_page_prot for EXECUTE.
        """
        if not self.paging:
            return address
        if privileged is None:
            privileged = self.state.S[PSR] & 1
        key = address >> PAGE << 1 | privileged
        known = self._translations.get(key)
        if known is None or not known[1] & access:
            try:
                page = self.mmu.walk(address, access, bool(privileged))
            except PageFault as fault:
                raise Trap(fault.exc, str(fault), address, fault=fault) from None
            known = self._translations[key] = page.physical & ~PAGE_MASK, page.rights
        return known[0] | address & PAGE_MASK

    def pieces(self, address: int, size: int, access: int, privileged: int | None = None) -> list[tuple[int, int]]:
        """(physical address, bytes) of each part of an access, all of them allowed. Raises Trap."""
        if not self.paging:
            return [(address, size)]
        found, end = [], address + size
        while address < end:
            count = min(end, (address | PAGE_MASK) + 1) - address
            found.append((self.translate(address, access, privileged), count))
            address += count
        return found

    def frame(self, page: int) -> int:
        """The physical page that code in a virtual page is in. Raises Trap when it cannot be executed."""
        return self.translate(page << PAGE, EXECUTE) >> PAGE if self.paging else page

    def frame_or_none(self, page: int) -> int:
        """As ``frame``; -1 instead of a trap."""
        try:
            return self.frame(page)
        except Trap:
            return -1

    def frame_behind(self, page: int) -> int:
        """As ``frame_or_none`` of the page behind ``page``, which code may or may not reach: it does not count as
        accessed."""
        if not self.paging:
            return page + 1
        try:
            found = self.mmu.walk(page + 1 << PAGE, EXECUTE, self.state.S[PSR] & 1, mark=False)
        except PageFault:
            return -1
        return found.physical >> PAGE if found.rights & EXECUTE else -1

    def _mmu_changed(self, first: int, last: int) -> None:
        if self.mmu.on != self.paging:
            self.generation = -1            # the executor attaches the memory again
        self._translations.clear()
        for listener in self.on_translation_change:
            listener(first, last)

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
            if not self.paging and self.present is not None and page < len(self.present) and not self.watched(page):
                if self._arrived is None or self._arrived[page]:
                    self.present[page] = 1
                if access == WRITE and page not in self.code_pages:
                    self.code_map[page] = 0

    def _look_out(self, address: int, size: int, access: int, speculative: bool = False) -> None:
        """Note an access that meets a watchpoint."""
        if not self.watches:
            return
        for start, count, kinds in self._asked:
            if access & kinds and address < start + count and start < address + size:
                self.watch_hit = address, size, access
        for number, point in enumerate(self._breaks):
            if point is not None and access & point[2] and address < point[0] + point[1] and point[0] < address + size:
                self.break_hits[speculative] |= 1 << number
                self.watch_hit = self.watch_hit or BREAK_HIT

    def protection_changed(self, first: int, last: int) -> None:
        """The rights of pages ``first`` up to and with ``last`` have changed, or they hold something else now."""
        if self.present is not None and first < len(self.present):
            count = min(last + 1, len(self.present)) - first
            self.present[first : first + count] = bytes(count)
            self.code_map[first : first + count] = b"\1" * count
        self.drop_code(first << PAGE, last + 1 - first << PAGE)
        for listener in self.on_translation_change:
            listener(first, last)

    # -- code --------------------------------------------------------------------------------------

    def code_at(self, pc: int) -> memoryview | bytes:
        """The bytes from ``pc`` on, up to the longest wide instruction. Raises Trap where nothing can be executed."""
        if pc & 7:
            raise Trap(EXC_ILLEGAL_INSTR_ADDR, f"no code at {pc:#x}")
        if self.paging:
            room = min(LONGEST_WIDE, PAGE_MASK + 1 - (pc & PAGE_MASK))
            data: memoryview | bytes = self.code_bytes(self.translate(pc, EXECUTE), room)
            if not data:
                raise Trap(EXC_ILLEGAL_INSTR_ADDR, f"no code at {pc:#x}")
            length = 8 * ((data[0] >> 4 & 7) + 1)
            if length > len(data):      # it goes on in the next page
                rest = self.translate(pc + len(data), EXECUTE)
                data = bytes(data) + bytes(self.code_bytes(rest, length - len(data)))
            return data
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
        data = self.code_bytes(pc, size)
        if not data:
            raise Trap(EXC_ILLEGAL_INSTR_ADDR, f"no code at {pc:#x}")
        return data

    def code_bytes(self, address: int, size: int) -> memoryview:
        """Up to ``size`` bytes of RAM from a physical address on; b"" where there is none."""
        flat = self.space.find(address)
        if flat is None or flat.block is None:
            return memoryview(b"")
        at = flat.block_offset + address - flat.start
        size = min(size, flat.end - address)
        flat.block.need(at, size)
        return flat.block.mem[at : at + size]

    # -- loads and stores --------------------------------------------------------------------------

    def ld(self, address: int, size: int) -> int:
        """Read ``size`` bytes anywhere. Raises Trap."""
        if self.guarded:
            self.admit(address, size, READ)
        if not self.paging:
            return self.space.read(address, size)
        if (address & PAGE_MASK) + size <= PAGE_MASK + 1:
            return self.space.read(self.translate(address, READ), size)
        return int.from_bytes(b"".join([self.space.read_bytes(physical, count)
                                        for physical, count in self.pieces(address, size, READ)]), "little")

    def _speculative(self, address: int, size: int, access: int) -> list[tuple[int, int]] | None:
        """As ``pieces``; None where a speculative access fails. Raises Trap where it only has to wait for a page."""
        try:
            return self.pieces(address, size, access)
        except Trap as trap:
            if trap.fault is not None and trap.fault.is_deferred:
                raise
            return None

    def ld_speculative(self, address: int, size: int) -> int:
        """Read ``size`` bytes of RAM, -1 where there is none: speculation touches no device. Raises Trap."""
        if not self.may(address, size, READ):
            return -1
        parts = self._speculative(address, size, READ)
        if parts is None:
            return -1
        for physical, count in parts:
            flat = self.space.find(physical)
            if flat is None or flat.block is None or physical + count > flat.end:
                return -1
        self._look_out(address, size, READ, True)
        if len(parts) == 1:
            return self.space.read(parts[0][0], size)
        return int.from_bytes(b"".join([self.space.read_bytes(*part) for part in parts]), "little")

    def ld_program(self, address: int, size: int) -> int:
        """As ``ld_speculative``, of an array prefetch program. Raises Trap: exc_instr_page_miss, or _prot."""
        if not self.paging:
            return self.ld_speculative(address, size)
        self.pieces(address, size, EXECUTE)
        return self.ld_speculative(address, size)

    def st(self, address: int, size: int, value: int) -> bool:
        """Write ``size`` bytes anywhere; True when execution must leave after this wide instruction. Raises Trap."""
        if self.guarded:
            self.admit(address, size, WRITE)
        if self.paging:
            parts = self.pieces(address, size, WRITE)
            if len(parts) > 1:
                leave = False
                for physical, count in parts:
                    for at in range(count):
                        leave = self.st_physical(physical + at, 1, value & 0xFF) or leave
                        value >>= 8
                return leave
            address = parts[0][0]
        return self.st_physical(address, size, value)

    def ld_physical(self, address: int, size: int) -> int:
        """Read ``size`` bytes at a physical address."""
        return self.space.read(address, size)

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
            self.flush_code(address, size)
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
        parts = self.pieces(address, size, WRITE)
        address = parts[0][0]
        flat = self.space.find(address)
        if flat is None or flat.block is None or not flat.writable or address + size > flat.end \
                or address & size - 1 or len(parts) > 1:
            # no RAM, or not in one piece: devices take their accesses one at a time
            if b"".join([self.space.read_bytes(*part) for part in parts]) != old.to_bytes(size, "little"):
                return 0
            data = new.to_bytes(size, "little")
            for physical, count in parts:
                self.space.write_bytes(physical, data[:count])
                data = data[count:]
            return 1 | 2 * bool(self.watch_hit or self.exit_flag[0] or self.exit_flag[1])
        hit = address >> PAGE in self.code_pages
        at = flat.block_offset + address - flat.start
        flat.block.need(at, size)
        done = atomic.exchange_if(flat.block.view.ctypes.data + at, size, old, new)
        if done:
            flat.block.dirty[at >> PAGE] = 1
            if hit:
                self.flush_code(address, size)
        return done | 2 * bool(hit or self.watch_hit is not None or self.exit_flag[0] or self.exit_flag[1])

    def st_speculative(self, address: int, size: int, value: int) -> bool:
        """As ``st``; nothing is stored where there is no RAM. Raises Trap."""
        if not self.may(address, size, WRITE):
            return False
        parts = self._speculative(address, size, WRITE)
        if parts is None:
            return False
        for physical, count in parts:
            flat = self.space.find(physical)
            if flat is None or flat.block is None or not flat.writable or physical + count > flat.end:
                return False
        return self.st(address, size, value)
