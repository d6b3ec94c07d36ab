"""The memory management unit: registers, walks of page tables, flushes, probes.

No translation is kept here: a walk reads the tables in memory each time. Executors keep what they learn; ``on_change``
tells them what to forget. So software sees no stale translation after a flush; before one it may still see the old one,
as on hardware.

Accessed and dirty bits are set in the entry that maps the page, by a compare-exchange of the host (other CPUs may be
changing it), and the page of the table is marked dirty: a migration sends it again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from e2kemu import trace
from e2kemu.cpu import atomic
from e2kemu.cpu.isa import mmuregs
from e2kemu.cpu.isa.models import CpuModel
from e2kemu.cpu.mmu import debug, formats, probe
from e2kemu.cpu.mmu.cellar import Cellar
from e2kemu.cpu.mmu.faults import (
    ILLEGAL_PAGE,
    INTL_RES,
    NWRITE_PAGE,
    PAGE_MISS,
    PRIV_PAGE,
    PROT_PAGE,
    PageFault,
)
from e2kemu.cpu.rights import EXECUTE, READ, WRITE
from e2kemu.trace import Log

if TYPE_CHECKING:
    from e2kemu.memory.space import AddressSpace, FlatRange

M48 = (1 << 48) - 1
M64 = (1 << 64) - 1
PAGE = formats.PAGE_SHIFT
OFFSET = (1 << PAGE) - 1
LAST_PAGE = (1 << 64 - PAGE) - 1

MMU_MAS = 0x47
"""Memory access specifier of the registers of the MMU itself."""

MMU_CR, CONT, U2_PPTB, U_VPTB, U_PPTB, TRAP_POINT, TRAP_COUNT, PID2 = 0, 1, 2, 3, 4, 5, 6, 15
OS_VPTB, OS_PPTB, OS_VAB = 0x34, 0x35, 0x4C
"""Numbers of registers: bits 11:4 of their addresses. CONT is PID, U_VPTB ELB_PTB, U_PPTB ROOT_PTB up to v5."""

TLB_EN = 1
"""Bit of MMU_CR."""

SEP_VIRT_SPACE, PT_V6 = 1 << 2, 1 << 5
"""Bits of %core_mode, on v6."""

_TRANSLATING = frozenset((MMU_CR, CONT, U_PPTB, OS_PPTB, OS_VAB))

_MEANT = frozenset((
    "mmu_cr", "cont", "pid", "root_ptb", "u_pptb", "os_pptb", "os_vab", "trap_point", "trap_count", "elb_ptb", "u_vptb",
    "os_vptb", "us_cl_d", *(f"ddbar{n}" for n in range(debug.COUNT)), "ddbcr", "ddbsr"))
"""Registers that do what they are for, and those that need not do anything: the views of tables are made by tables, and
%us_cl_d switches something off that is not there. All others are kept, and named when they are given a meaning."""

_SECOND_SPACE = 1 << 6 | 1 << 9
"""Bits of MMU_CR that switch on paging and the TLU of the second space."""


class Page(NamedTuple):
    """What a walk has found. ``physical`` is the address of the 4 KiB page that holds the address asked for, ``size``
    that of the whole mapping; ``rights`` what the same privilege may do there without another walk (WRITE only while
    the dirty bit is set); ``entry`` the entry (marked), at physical address ``place`` (0 and -1: no translation)."""

    physical: int
    size: int
    rights: int
    is_global: bool
    cacheable: bool
    entry: int
    place: int


@dataclass(frozen=True, slots=True)
class NativeParameters:
    """All that a walk in native code needs, as plain integers; made anew after each ``on_change``.

    The walk: ``va`` = address & ``virtual_mask``; the table is at ``high_root`` when ``va`` >= ``boundary``, else at
    ``low_root``. For each (shift, page_shift) of ``levels`` the entry is the 8 bytes at table + 8 * (va >> shift &
    511). Ask ``Mmu.walk`` if entry & ``needed`` != ``needed``. It is a page at the last level, or if entry & ``huge``;
    otherwise the next table is at entry & ``frame``. Of a page: ask ``Mmu.walk`` if page_shift is 0 or above
    ``largest``, or, with need, forbidden = ``checks[access][privileged]``, if entry & need != need or
    entry & forbidden; else its physical address is entry & ``frame`` with bits page_shift-1:12 of ``va``.

    Accesses are READ, WRITE, EXECUTE; the needed bits include *accessed*, and *dirty* for WRITE, so that only
    ``Mmu.walk`` ever marks an entry. ``on``: False is the identity.
    """

    on: bool
    virtual_mask: int
    boundary: int
    low_root: int
    high_root: int
    levels: tuple[tuple[int, int], ...]
    largest: int
    needed: int
    huge: int
    frame: int
    checks: dict[int, tuple[tuple[int, int], tuple[int, int]]]
    accessed: int
    dirty: int
    write: int
    privileged: int
    protected: int
    no_execute: int


class Mmu:
    """The MMU of one CPU with its physical memory ``space``.

    Belongs to the CPU's thread; others may ``walk`` with ``mark=False`` while the CPU stands still.
    """

    def __init__(self, model: CpuModel, space: AddressSpace) -> None:
        self.model, self.space = model, space
        self.on_change: Callable[[int, int], None] = lambda first, last: None
        """Called with the (first, last) virtual page whose translation may be another one from now on."""
        self.on_debug: Callable[[], None] = lambda: None
        """Called when data breakpoints (``debug``) may be other ones."""
        self.rows = mmuregs.rows(model.version)
        self.values: dict[tuple[int, int], int] = {}
        """Contents of the registers by (specifier, address), as ``isa.mmuregs.rows`` names them."""
        self.cellar = Cellar(self)
        self._flat: tuple[int, FlatRange | None] = (-1, None)
        self._words: tuple[int, int, int, memoryview] = (-1, 0, 0, memoryview(b""))
        """(generation, first address, one past the last, double words) of RAM that tables were read from last."""
        self._reset()

    def _reset(self) -> None:
        self.values = {place: row.reset for place, row in self.rows.items()}
        self.core_mode = 0
        self._derive()

    def reset(self) -> None:
        """As after power-on."""
        self._reset()
        self.on_change(0, LAST_PAGE)
        self.on_debug()

    # -- migration -----------------------------------------------------------------------------------

    def image(self) -> list[int]:
        """What the registers hold, in the order of their (specifier, address)."""
        return [self.values[place] for place in sorted(self.values)]

    @property
    def is_reset(self) -> bool:
        """Nothing is other than after power-on."""
        return all(value == self.rows[place].reset for place, value in self.values.items())

    def restore(self, image: list[int], core_mode: int) -> None:
        """Take over what ``image`` has given ([]: the registers after power-on), and %core_mode. Raises ValueError."""
        if image and len(image) != len(self.rows):
            raise ValueError(f"{len(image)} MMU registers, not {len(self.rows)}")
        self._reset()
        for place, value in zip(sorted(self.values), image, strict=False):
            self.values[place] = value & self.rows[place].bits
        self.core_mode = core_mode
        self._derive()
        self.on_change(0, LAST_PAGE)
        self.on_debug()

    def _derive(self) -> None:
        """What the walk uses, from the registers."""
        value = self.values
        self.on = bool(value[MMU_MAS, MMU_CR] & TLB_EN)
        """Addresses are translated."""
        self.format = formats.choose(self.model.version, bool(self.core_mode & PT_V6))
        self.low_root = self.high_root = value[MMU_MAS, U_PPTB << 4]
        self.boundary = 0
        if self.model.version >= 6 and self.core_mode & SEP_VIRT_SPACE:
            self.high_root, self.boundary = value[MMU_MAS, OS_PPTB << 4], value[MMU_MAS, OS_VAB << 4]
        self.largest = PAGE
        """log2 of the largest page met since everything was flushed: what a flush of one page has to reach."""

    # -- registers -----------------------------------------------------------------------------------

    def set_core_mode(self, value: int) -> None:
        """%core_mode has been written: v6 chooses there the format of entries, and whether the system has tables of its
        own."""
        if value != self.core_mode:
            self.core_mode = value
            self._derive()
            self._changed("core_mode", value)

    def read_register(self, number: int) -> int:
        """The register with that number (address bits 11:4); 0, with a note in the log, where there is none."""
        return self.read_special(MMU_MAS, number << 4)

    def write_register(self, number: int, value: int) -> None:
        """Write a register; bits that it does not have are dropped."""
        self.write_special(MMU_MAS, number << 4, value)

    def read_special(self, mas: int, address: int) -> int:
        """The register at ``address`` under a specifier (0x47, 0x5f or 0x6f)."""
        if (mas, address) not in self.values:
            trace.unimp(f"read of MMU register {address:#x} mas={mas:#x}, which v{self.model.version} does not have")
            return 0
        return self.values[mas, address]

    def write_special(self, mas: int, address: int, value: int) -> None:
        """Write the register at ``address`` under a specifier."""
        row = self.rows.get((mas, address))
        if row is None or not row.writable_since:
            trace.unimp(f"write of {value:#x} to MMU register {address:#x} mas={mas:#x}: there is none to write")
            return
        value &= row.bits
        if trace.mask & Log.MMU:
            trace.log(f"MMU: %{row.name} = {value:#x}")
        if value == self.values[mas, address]:
            return
        self.values[mas, address] = value
        if row.name not in _MEANT and value != row.reset:
            trace.unimp(f"%{row.name} = {value:#x} is kept and has no effect")
        elif row.name == "mmu_cr" and value & _SECOND_SPACE:
            trace.unimp(f"%mmu_cr = {value:#x}: there is no second space")
        if mas == MMU_MAS and address >> 4 in _TRANSLATING:
            self._derive()
            self._changed(row.name, value)
        elif mas == debug.MAS and address in debug.REGISTERS:
            self.on_debug()

    def _changed(self, name: str, value: int) -> None:
        # a context is new or was flushed before software uses it again, so a change of it is a flush, too
        self.on_change(0, LAST_PAGE)

    # -- the walk ------------------------------------------------------------------------------------

    def _fault(self, virtual: int, access: int, fault_type: int, level: int) -> PageFault:
        fault = PageFault(virtual, access, fault_type, level)
        if trace.mask & Log.MMU:
            trace.log(f"MMU: {fault}")
        return fault

    def locate(self, virtual: int, access: int) -> tuple[int, int, int, int]:
        """(entry, its physical address, log2 of the page's size, level as ``PageFault`` counts) of the entry that maps
        an address, whatever it forbids. Raises PageFault when there is none; ``access`` is for that."""
        f, va = self.format, virtual & M48
        table = self.high_root if va >= self.boundary else self.low_root
        needed, huge, frame = f.present | f.valid, f.huge, f.frame
        generation, start, end, words = self._words
        if generation != self.space.generation:
            start = end = 0
        for level in f.levels:
            shift = level.shift
            place = table + (va >> shift - 3 & 0xFF8)
            entry = words[place - start >> 3] if start <= place < end else self.entry(place)
            if entry & needed != needed:
                raise self._fault(virtual, access, PAGE_MISS if entry & f.valid else ILLEGAL_PAGE, (shift - PAGE) // 9)
            if shift == PAGE or entry & huge:
                break
            table = entry & frame
        if not level.page_shift:
            raise self._fault(virtual, access, INTL_RES, (shift - PAGE) // 9)
        return entry, place, level.page_shift, (shift - PAGE) // 9

    def physical(self, located: tuple[int, int, int, int], virtual: int) -> int:
        """The physical address of ``virtual``, for which ``locate`` has found that."""
        inside = (1 << located[2]) - 1
        return located[0] & self.format.frame & ~inside | virtual & inside

    def walk(self, virtual: int, access: int, privileged: int | bool, *, mark: bool = True) -> Page:
        """Translate an address for an access: READ, WRITE or EXECUTE. ``mark``: set the accessed bit and, for WRITE,
        the dirty bit of the entry in memory. Raises PageFault."""
        if not self.on:
            return Page(virtual & ~OFFSET, 1 << PAGE, READ | WRITE | EXECUTE, False, True, 0, -1)
        entry, place, page_shift, level = self.locate(virtual, access)
        f = self.format
        hidden = 0 if privileged else entry & f.privileged
        fault = PRIV_PAGE if hidden else 0
        if access == EXECUTE:
            if entry & f.no_execute:
                fault |= PROT_PAGE
        else:
            if entry & f.protected:
                fault |= PROT_PAGE
            if access == WRITE and not entry & f.write:
                fault |= NWRITE_PAGE
        if fault:
            raise self._fault(virtual, access, fault, level)
        if mark:
            marked = entry | f.accessed | (f.dirty if access == WRITE else 0)
            if marked != entry:
                if not self._exchange(place, entry, marked):
                    return self.walk(virtual, access, privileged)
                entry = marked
            if page_shift > self.largest:
                self.largest = page_shift
        rights = 0 if hidden or entry & f.no_execute else EXECUTE
        if not (hidden or entry & f.protected):
            rights |= READ | WRITE if entry & f.write and entry & f.dirty else READ
        inside = (1 << page_shift) - 1
        physical = (entry & f.frame & ~inside) | (virtual & inside & ~OFFSET)
        return Page(physical, inside + 1, rights, bool(entry & f.is_global), not entry & f.uncached, entry, place)

    def entry(self, place: int) -> int:
        """The entry of a page table at a physical address; 0, as of an empty table, where there is no memory."""
        space = self.space
        generation, flat = self._flat
        if flat is None or generation != space.generation or not flat.start <= place < flat.end:
            generation, flat = space.generation, space.find(place)
            if flat is None or flat.block is None or place + 8 > flat.end:
                trace.guest_error(f"MMU: page table at {place:#x}, where there is no memory")
                return 0
            self._flat = generation, flat
            if flat.block.arrivals is None and not (flat.start | flat.end | flat.block_offset) & 7:
                ram = flat.block.mem[flat.block_offset : flat.block_offset + flat.end - flat.start]
                self._words = generation, flat.start, flat.end, ram.cast("Q")
        block = flat.block
        assert block is not None
        at = flat.block_offset + place - flat.start
        if block.arrivals is not None:
            block.need(at, 8)
        return int.from_bytes(block.mem[at : at + 8], "little")

    def _exchange(self, place: int, expected: int, new: int) -> bool:
        """Replace the entry at ``place`` unless it is not as expected any more; in ROM it stays as it is."""
        flat = self.space.find(place)
        if flat is None or flat.block is None or not flat.writable:
            return True
        block, at = flat.block, flat.block_offset + place - flat.start
        if not atomic.exchange_if(block.view.ctypes.data + at, 8, expected, new):
            return False
        block.dirty[at >> PAGE] = 1
        return True

    def native_parameters(self) -> NativeParameters:
        """What native code needs to walk the tables itself."""
        f = self.format
        needed = f.present | f.valid
        checks = {}
        for access, need, forbidden in ((READ, f.accessed, f.protected),
                                        (WRITE, f.accessed | f.dirty | f.write, f.protected),
                                        (EXECUTE, f.accessed, f.no_execute)):
            checks[access] = (needed | need, forbidden | f.privileged), (needed | need, forbidden)
        return NativeParameters(
            self.on, M48, self.boundary, self.low_root, self.high_root,
            tuple((level.shift, level.page_shift) for level in f.levels), self.largest, needed, f.huge, f.frame, checks,
            f.accessed, f.dirty, f.write, f.privileged, f.protected, f.no_execute)

    # -- probes --------------------------------------------------------------------------------------

    def probe(self, virtual: int) -> int:
        """The TLB entry of an address as software sees it, or why there is none (``probe`` module: the formats)."""
        return probe.entry(self, virtual)

    def probe_address(self, virtual: int) -> int:
        """The physical address of an address, or as ``probe`` why there is none."""
        return probe.address(self, virtual)

    # -- flushes -------------------------------------------------------------------------------------

    def flush_page(self, virtual: int) -> None:
        """Forget the translation of one page, however large it was."""
        if trace.mask & Log.MMU:
            trace.log(f"MMU: flush of page {virtual & M48:#x}")
        first = (virtual & M48) >> self.largest << self.largest - PAGE
        self.on_change(first, first + (1 << self.largest - PAGE) - 1)

    def flush_all(self) -> None:
        """Forget all translations."""
        if trace.mask & Log.MMU:
            trace.log("MMU: flush of the TLB")
        self.largest = PAGE
        self.on_change(0, LAST_PAGE)
