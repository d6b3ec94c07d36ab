"""Which code is translated for LLVM, when, and where it is kept: the JIT tier of one CPU.

Code is met first in the native interpreter, which counts and tells what is hot. That is asked of the compiling thread;
when it is done the CPU's thread takes the region in at its next boundary, if the code is still what was
translated, and puts it into the jump cache. From then on ``e2k_run`` finds it.

Who owns what: ``regions`` and everything in the context belong to the CPU's thread (or to whoever holds the CPU
still); the compiling thread gets a job and gives a result, nothing else. A dropped region's host code is freed
when no generated code can be executing it.
"""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from e2kemu import trace
from e2kemu.cpu.config import Config
from e2kemu.cpu.core import Core
from e2kemu.cpu.fp import OPERATIONS
from e2kemu.cpu.fp.machine import PFPFR
from e2kemu.cpu.guest_memory import PAGE
from e2kemu.cpu.insn import Wide
from e2kemu.cpu.isa.registers import WINDOW_DOUBLES
from e2kemu.cpu.native.codegen import Code
from e2kemu.cpu.native.codegen import disassemble as disassemble_host
from e2kemu.cpu.native.compiling import Frames, Job, Region, Worker, compile_region, guest_bytes
from e2kemu.cpu.native.floating import CONTROL, RESULT
from e2kemu.cpu.native.interp.build import HostCode
from e2kemu.cpu.native.layout import (
    ALIGNED,
    ASK_PYTHON,
    IDENTITY,
    NEVER,
    SPECULATIVE,
    TLB_ENTRIES,
    Context,
    Status,
    Word,
    config_key,
)
from e2kemu.cpu.native.paths import Observed
from e2kemu.cpu.rights import READ, WRITE
from e2kemu.cpu.state import CTPR1, PSR, UPSR, Slot

HOT = 12
"""Times a place is met before it is translated."""

MAX_REGIONS = 4000
"""When more regions than this are kept all are dropped: a bound of memory."""

GUARDED = 8
"""Times a region's assumption may fail before it is translated again without it."""


@dataclass(slots=True)
class Statistics:
    """What ``info jit`` shows."""

    regions: int = 0
    """Regions taken in, also those that are gone."""
    seconds: float = 0.0
    """Time spent translating."""
    dropped: int = 0
    failed: int = 0
    flushes: int = 0
    executed: int = 0
    """Wide instructions executed by generated code."""
    exits: dict[int, int] = field(default_factory=dict)
    """Status -> how often generated code returned with it."""


_Ask = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64, ctypes.c_void_p)
_Load = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64)
_Store = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64)
_Exchange = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64)


_PRIMITIVES = tuple(OPERATIONS.values())


NEIGHBOURS = 4
"""Pages on each side of the one asked for that a region may reach into while the MMU translates."""

Where = tuple[int, int, int]
"""What a region is kept by: address, configuration key, physical page."""


class Translator:
    """The JIT tier of one CPU. ``decoded``: the wide instruction that bytes begin with, at an address, or Trap."""

    def __init__(self, core: Core, decoded: Callable[[bytes, int], Wide]) -> None:
        self.core, self.decoded = core, decoded
        self.context = Context(core.state)
        core.on_code = self._code_marked
        core.on_translation_change.append(self._translations_changed)
        HostCode.get()      # regions call what is in it
        self._slow_load, self._slow_store = _Load(self._load), _Store(self._store)
        words = self.context.words
        words[Word.LOAD] = ctypes.cast(self._slow_load, ctypes.c_void_p).value or 0
        words[Word.STORE] = ctypes.cast(self._slow_store, ctypes.c_void_p).value or 0
        self._slow_exchange = _Exchange(self._exchange)
        words[Word.EXCHANGE] = ctypes.cast(self._slow_exchange, ctypes.c_void_p).value or 0
        self._floating = _Ask(self._primitive)
        words[Word.FP] = ctypes.cast(self._floating, ctypes.c_void_p).value or 0
        words[Word.EXIT] = np.frombuffer(core.exit_flag, dtype=np.uint32).ctypes.data
        self.pending: BaseException | None = None
        """What a slow access raised."""
        self.regions: dict[Where, Region] = {}
        self.by_page: dict[int, set[Where]] = {}
        """Physical page -> regions with code from it."""
        self.statistics = Statistics()
        self._heat: dict[tuple[int, Config], int] = {}
        self._graves: list[Code] = []
        self._done: deque[Region] = deque()
        self._harvests: list[tuple[Any, int]] = []
        """Blocks with pages in the TLBs, and how often their dirty marks had been harvested."""
        self._maps: list[Any] = []
        """Keeps what the context points at."""
        self._largest = 0
        """The largest page that generated code knows of."""
        self.attach_memory()
        self.eager = False
        """Translate at the first visit, in the CPU's own thread: for tests, and for who wants no cold code."""
        self.level = 1
        """How much LLVM's code generator does: 0 is quick to make and slow to run."""
        self._asked: set[tuple[int, Config]] = set()
        """Places for which a job is under way."""
        self._spared: set[tuple[int, Config]] = set()
        """Places that a region contained when they were asked for."""
        self._refused: set[Where] = set()
        self.installed: Callable[[int, int], None] = lambda pc, frame: None
        """Called with address and physical page of a region that is there from now on."""
        self.epoch = 0
        """Grows when everything is dropped: what was asked before does not count."""

    # -- running -----------------------------------------------------------------------------------------

    def boundary(self) -> None:
        """The CPU's thread is outside of generated code: take in what is ready, free what is dead."""
        for code in self._graves:
            code.free()
        self._graves.clear()
        while self._done:
            self._take(self._done.popleft())

    def attach_memory(self) -> None:
        """The core has attached its memory anew: tell generated code where things are."""
        core, words = self.core, self.context.words
        flat = core.space.find(0)
        self.context.forget_pages()
        self._harvests.clear()
        words[Word.PAGES] = 0
        self._tell_walk()
        if not core.ram_limit or flat is None or flat.block is None or flat.block_offset & (1 << PAGE) - 1:
            return
        self._maps = [np.frombuffer(view, dtype=np.uint8) for view in (core.code_map, core.dirty, core.present or b"")]
        marks, dirty, present = (view.ctypes.data for view in self._maps)
        words[Word.MARKS], words[Word.DIRTY] = marks, dirty
        words[Word.PRESENT] = 0 if core.present is None else present
        words[Word.RAM] = flat.block.view.ctypes.data + flat.block_offset
        self._harvests.append((flat.block, flat.block.harvests))
        words[Word.PAGES] = core.ram_limit >> PAGE

    def fresh_memory(self) -> None:
        """Guest memory may have moved, or its dirty marks been collected, since generated code ran last."""
        for block, count in self._harvests:
            if block.harvests != count:
                self.context.forget_writes()
                self._harvests = [(b, b.harvests) for b, _ in self._harvests]
                break

    def _tell_walk(self) -> None:
        """Tell generated code what to do beside a TLB miss."""
        core, words = self.core, self.context.words
        words[Word.WALK] = words[Word.WALK_HIGH] = ASK_PYTHON if core.paging else IDENTITY
        if not core.paging or core.watches:
            return
        walk = core.mmu.native_parameters()
        words[Word.FRAME], words[Word.LARGE], words[Word.NEEDED] = walk.frame, walk.huge, walk.needed
        self._largest = walk.largest
        for level, (_, page_shift) in zip((3, 2, 1, 0), walk.levels, strict=True):
            if level:
                # pages larger than any met so far: Python has to know of them
                words[Word.LARGE_PAGE + level] = page_shift if 0 < page_shift <= walk.largest else 0
        for kind, (access, privileged) in enumerate(((READ, 0), (WRITE, 0), (READ, 1), (WRITE, 1))):
            need, forbidden = walk.checks[access][privileged]
            words[Word.LEAF + 2 * kind], words[Word.LEAF + 2 * kind + 1] = need | forbidden, need
        words[Word.BOUNDARY] = walk.boundary
        words[Word.WALK], words[Word.WALK_HIGH] = walk.low_root, walk.high_root

    def where(self, pc: int, cfg: Config) -> Where:
        """What a region for ``pc`` is kept by now."""
        return pc, config_key(cfg), self.core.frame_or_none(pc >> PAGE)

    def places(self, pc: int) -> list[int]:
        """Addresses in the page of ``pc`` that there are regions for."""
        frame = self.core.frame_or_none(pc >> PAGE)
        return [place for place, _, first in self.by_page.get(frame, ())
                if first == frame and place >> PAGE == pc >> PAGE]

    def _mapped(self, region: Region) -> bool:
        """Whether its code is where it was."""
        return not self.core.paging or all(
            self.core.frame_or_none(page) == frame for page, frame in region.pages.items())

    def has(self, pc: int, cfg: Config) -> bool:
        """A region is there; the jump cache knows it (again)."""
        region = self.regions.get(self.where(pc, cfg))
        if region is None or not self._mapped(region):
            return False
        self.context.remember_jump(pc, region.key, region.address)
        return True

    def note(self, status: Status, executed: int) -> None:
        """Native code returned with ``status``; regions have executed so many wide instructions."""
        self.statistics.executed += executed
        self.statistics.exits[status] = self.statistics.exits.get(status, 0) + 1

    def consider(self, status: Status, pc: int, cfg: Config) -> bool:
        """A place is hot, or no region fits there: ask for one; whether to try with a region now."""
        if status == Status.HOT:
            if not self.has(pc, cfg):
                self.request(pc, cfg, plain=False)
            return True
        if status == Status.GUARD:
            self.misfit(pc, cfg)
            return False
        if self.has(pc, cfg):
            return True
        # regions lead here, and none is here: ask for one when that gets usual
        heat = self._heat[pc, cfg] = self._heat.get((pc, cfg), 0) + 1
        if heat == HOT:
            self.request(pc, cfg, plain=False)
        return False

    def request(self, pc: int, cfg: Config, *, plain: bool) -> None:
        """Ask the compiling thread for a region."""
        if (pc, cfg) not in self._asked:
            self._asked.add((pc, cfg))
            Worker.ask(self, Job(pc, cfg, self._observe(), plain, self.epoch, self._frames(pc)))

    def _frames(self, pc: int) -> Frames:
        """Where the code around ``pc`` is: the compiling thread cannot ask the MMU."""
        if not self.core.paging:
            return None
        page = pc >> PAGE
        found = {near: self.core.frame_or_none(near)
                 for near in range(max(page - NEIGHBOURS, 0), page + NEIGHBOURS + 1)}
        return {near: frame for near, frame in found.items() if frame >= 0}

    def translate_now(self, pc: int, cfg: Config) -> bool:
        """Translate what starts at ``pc``; False when that was done before."""
        where = self.where(pc, cfg)
        if where in self._refused:
            return False
        self._refused.add(where)
        job = Job(pc, cfg, self._observe(), False, self.epoch, self._frames(pc))
        self._take(compile_region(self.core, self.decoded, job, self.level))
        return self.has(pc, cfg)

    def misfit(self, pc: int, cfg: Config) -> None:
        """The region at ``pc`` did not fit the tags."""
        region = self.regions.get(self.where(pc, cfg))
        if region is None:
            return
        region.misfits += 1
        if region.misfits == GUARDED and not region.plain:
            self.request(pc, cfg, plain=True)

    def _observe(self) -> Observed:
        state = self.core.state
        base = state.X[Slot.BASE]
        likely = {CTPR1 + i: state.S[CTPR1 + i] for i in range(3)}
        return Observed(bytes(state.T[base : base + WINDOW_DOUBLES]), bytes(state.T[:32]), bytes(state.P), likely,
                        state.S[PFPFR] if state.S[UPSR] & 1 else NEVER)

    def _take(self, region: Region) -> None:
        self._asked.discard((region.pc, region.cfg))
        frame = region.pages.get(region.pc >> PAGE)
        if region.epoch != self.epoch or region.code is None or frame is None:
            self._heat.pop((region.pc, region.cfg), None)
            self._bury(region)
            return
        for address, data in region.source:
            if guest_bytes(self.core, region.frames, address, len(data)) != data:
                self._heat.pop((region.pc, region.cfg), None)
                self._bury(region)
                return
        if len(self.regions) >= MAX_REGIONS:
            self.clear()
            region.epoch = self.epoch
        where = region.pc, region.key, frame
        old = self.regions.get(where)
        if old is not None:
            self._bury(old)
        self.regions[where] = region
        for page in region.pages.values():
            self.by_page.setdefault(page, set()).add(where)
            self.core.mark_code(page)
        self.statistics.regions += 1
        self.statistics.seconds += region.seconds
        if self._mapped(region):
            self.context.remember_jump(region.pc, region.key, region.address)
        self.installed(region.pc, frame)
        if trace.mask & trace.Log.IN_ASM:
            trace.log("\n".join(["----------------", f"IN: {region.pc:#x}", *region.listing]))
        if trace.mask & trace.Log.OP:
            trace.log(f"OP:\n{region.text}")
        if trace.mask & trace.Log.OUT_ASM:
            size = region.code.size
            trace.log("\n".join([f"OUT: [size={size}]", *disassemble_host(region.address, size)]))

    def _bury(self, region: Region) -> None:
        if region.code is not None:
            self._graves.append(region.code)
            region.code = None
            self.statistics.dropped += 1

    # -- dropping ----------------------------------------------------------------------------------------

    def invalidate(self, address: int, size: int) -> None:
        """Bytes from a physical address on changed: drop the regions made from their pages."""
        if not self.by_page or size <= 0:
            return
        first, last = address >> PAGE, address + size - 1 >> PAGE
        for page in [page for page in self.by_page if first <= page <= last]:
            for where in self.by_page.pop(page, ()):
                region = self.regions.pop(where, None)
                if region is not None:
                    self.context.forget_jump(where[0], where[1])
                    self._heat.pop((region.pc, region.cfg), None)
                    self._refused.discard(where)
                    self._bury(region)

    def _code_marked(self, page: int) -> None:
        """Code was translated from a physical page: it leaves the TLBs of stores. Any thread."""
        if self.core.paging:
            self.context.forget_writes()
        else:
            self.context.forget_page(page, writes_only=True)

    def _translations_changed(self, first: int, last: int) -> None:
        if last - first >= TLB_ENTRIES:
            self.context.forget_pages()
        else:
            for page in range(first, last + 1):
                self.context.forget_page(page)
        if self.core.paging:
            self.context.forget_jumps()
            self._tell_walk()

    def clear(self) -> None:
        """Drop everything, also what is being translated."""
        self.epoch += 1
        self.statistics.flushes += bool(self.regions)
        for region in self.regions.values():
            self._bury(region)
        self.regions.clear()
        self.by_page.clear()
        self._heat.clear()
        self._refused.clear()
        self._spared.clear()
        self._asked.clear()
        self.context.forget_jumps()

    def describe(self) -> list[str]:
        """What ``info jit`` shows of this CPU; call it while the CPU stands."""
        statistics, regions = self.statistics, list(self.regions.values())
        count = max(len(regions), 1)
        target = sum(size for region in regions for size in (len(data) for _, data in region.source))
        host = sum(region.code.size for region in regions if region.code is not None)
        exits = ", ".join(f"{Status(status).name.lower()} {number}"
                          for status, number in sorted(statistics.exits.items()))
        return [
            "Translation buffer state:",
            f"gen code size       {host}",
            f"TB count            {len(regions)}",
            f"TB avg target size  {target // count} max={max((region.wides for region in regions), default=0)} "
            "wide instructions",
            f"TB avg host size    {host // count} bytes (expansion ratio: {host / max(target, 1):.1f})",
            "",
            "Statistics:",
            f"TB flush count      {statistics.flushes}",
            f"TB invalidate count {statistics.dropped}",
            f"translated          {statistics.regions} regions in {statistics.seconds:.3f} s, "
            f"{statistics.failed} failed",
            f"executed            {statistics.executed} wide instructions in generated code",
            f"returns to Python   {exits or 'none'}",
        ]

    # -- memory ------------------------------------------------------------------------------------------

    def _load(self, address: int, flags: int) -> int:
        """Beside a TLB miss of a load; called from generated code."""
        words = self.context.words
        size = flags & 0xFF
        try:
            if self.core.watches and self.core.watched(address >> PAGE):
                # the reference tier stops behind the wide instruction that does it
                words[Word.STATUS] = Status.STEP
                return 0
            if flags & SPECULATIVE:
                if flags & ALIGNED and address & (size - 1):
                    words[Word.STATUS] = Status.STEP
                    return 0
                value = self.core.ld_speculative(address, size)
                if value < 0:
                    words[Word.STATUS] = Status.STEP
                    return 0
            else:
                value = self.core.ld(address, size)
            self._remember(address, write=False)
            self.fresh_memory()
        except BaseException as error:
            self.pending = error
            words[Word.STATUS] = Status.RAISE
            return 0
        words[Word.STATUS] = 0
        return value

    def _store(self, address: int, flags: int, value: int) -> int:
        """Beside a TLB miss of a store; called from generated code."""
        size = flags & 0xFF
        try:
            if flags & SPECULATIVE:
                if flags & ALIGNED and address & (size - 1):
                    return 0
                leave = self.core.st_speculative(address, size, value)
            else:
                leave = self.core.st(address, size, value)
            self._remember(address, write=True)
            self.fresh_memory()
            return int(leave or bool(self.core.exit_flag[1]))
        except BaseException as error:
            self.pending = error
            return int(Status.RAISE)

    def _exchange(self, address: int, flags: int, old: int, new: int) -> int:
        """Beside a TLB miss of a conditional store; called from generated code."""
        words = self.context.words
        try:
            done = self.core.exchange(address, flags & 0xFF, old, new)
            self._remember(address, write=True)
            self.fresh_memory()
        except BaseException as error:
            self.pending = error
            words[Word.STATUS] = Status.RAISE
            return 0
        words[Word.STATUS] = done >> 1 | bool(self.core.exit_flag[1])
        return done & 1

    def _primitive(self, number: int, context: int | None) -> int:
        """A primitive of floating point for generated code: its flags."""
        operation, words = _PRIMITIVES[number], self.context.words
        operands = [words[Word.OPERANDS + 2 * index] | (words[Word.OPERANDS + 2 * index + 1] << 64 if bits > 64 else 0)
                    for index, bits in enumerate(operation.operands)]
        operands = [value & (1 << bits) - 1 for value, bits in zip(operands, operation.operands, strict=True)]
        result, flags = operation.function(*operands, words[Word.OPERANDS + CONTROL])
        words[Word.OPERANDS + RESULT], words[Word.OPERANDS + RESULT + 1] = result & NEVER, result >> 64
        return flags

    def _remember(self, address: int, *, write: bool) -> None:
        """Put the page just accessed into the TLB, if every access to it may go there."""
        core, page = self.core, address >> PAGE
        if core.watched(page):
            return
        access, start = (WRITE if write else READ), page << PAGE
        if not core.may(start, 1 << PAGE, access):
            return
        start = core.translate(start, access)
        flat = core.space.find(start)
        if flat is None or flat.block is None or (write and not flat.writable):
            return
        if start < flat.start or start + (1 << PAGE) > flat.end:
            return
        block, at = flat.block, flat.block_offset + start - flat.start
        if at & (1 << PAGE) - 1 or (block.arrivals is not None and not block.arrivals.view[at >> PAGE]):
            return
        if core.paging and core.mmu.largest != self._largest:
            self._tell_walk()
        if all(known is not block for known, _ in self._harvests):
            self._harvests.append((block, block.harvests))
        if write:
            block.dirty[at >> PAGE] = 1
        self.context.remember_page(page, block.view.ctypes.data + at, write=write, user=not core.state.S[PSR] & 1)
        if write and start >> PAGE in core.code_pages:
            self.context.forget_page(page, writes_only=True)    # asked last: another CPU may have made it one just now

    # -- compiling ---------------------------------------------------------------------------------------

    def work(self, job: Job) -> None:
        """Do a job, in the compiling thread."""
        place = job.pc, job.cfg
        if job.epoch != self.epoch:
            return
        if not job.plain and place not in self._spared and any(
                place in region.nodes for region in (*self.regions.values(), *self._done)):
            # part of what was translated since it was asked for: only when it is asked for again it gets its own
            self._spared.add(place)
            self._asked.discard(place)
            return
        try:
            self._done.append(compile_region(self.core, self.decoded, job, self.level))
        except Exception as error:
            # a defect of the translator: the code stays with the other tiers, and is not asked for again
            self.statistics.failed += 1
            trace.log(f"translator: {type(error).__name__} at {job.pc:#x}: {error}")
            return
        self.core.exit_flag[1] = 1
