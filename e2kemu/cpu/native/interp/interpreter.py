"""The native interpreter of one CPU: its pages, its records, its calls.

Who owns what: the context is the translator's (``native.layout``), which also answers slow memory accesses; pages and
records are the interpreter's. All of it belongs to the CPU's thread. A page that is dropped loses its table at once;
its records stay where they are until ``clear``, for generated code may be on its way out of them.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from e2kemu.cpu.core import Core
from e2kemu.cpu.guest_memory import PAGE
from e2kemu.cpu.native.interp import layout as at
from e2kemu.cpu.native.interp.build import HostCode
from e2kemu.cpu.native.interp.tables import Tables, make
from e2kemu.cpu.native.layout import NEVER, Context, Status, Word
from e2kemu.cpu.state import PSR
from e2kemu.cpu.windows import Trap

RECORDS = 1 << 19
"""Records kept: 16 MiB, of which only what is used is there."""

HOT = 1 << 14
"""Times that a place is come to before it is hot; asked again at each power of two from there on. To translate a region
costs tens of milliseconds, a million wide instructions of the interpreter: what is translated sooner makes
short programs slower."""

_Run = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p, ctypes.c_void_p)
_tables: dict[int, Tables] = {}
_lock = threading.Lock()


def tables(version: int) -> Tables:
    """The decoder's tables of an instruction set."""
    code = HostCode.get()
    with _lock:
        if version not in _tables:
            _tables[version] = make(version, code.find)
        return _tables[version]


class Place(NamedTuple):
    """Where a table's code is: virtual page, physical page, the physical one of the virtual page behind (-1: none)."""

    page: int
    frame: int
    following: int


class Interpreter:
    """Executes code natively from the state's PC on. ``hot``: tell of places that are hot."""

    def __init__(self, core: Core, context: Context, *, hot: bool) -> None:
        self.core, self.context = core, context
        code = HostCode.get()
        self._run = _Run(code.address("e2k_run"))
        self._interpret = _Run(code.address("e2k_interpret"))
        self.tables = tables(core.state.model.version)
        self.arena: NDArray[np.uint64] = np.zeros(RECORDS * (at.RECORD // 8), dtype=np.uint64)
        self.pages: dict[Place, NDArray[np.uint64]] = {}
        """The pages' tables."""
        self.by_frame: dict[int, set[Place]] = {}
        """Physical page -> tables with code from it."""
        core.on_translation_change.append(self._translations_changed)
        self._state_address = context.state_address
        words = context.interpreter
        slots = at.PAGES >> 3
        self._known_pages = np.frombuffer(words, dtype=np.uint64)[slots : slots + 2 * at.PAGE_SLOTS : 2]
        for place, value in ((at.ARENA, self.arena.ctypes.data), (at.CURSOR, 1), (at.CAPACITY, RECORDS),
                             (at.INDEX, self.tables.index.ctypes.data),
                             (at.CANDIDATES, self.tables.candidates.ctypes.data),
                             (at.OPERATIONS, self.tables.operations.ctypes.data),
                             (at.STATE_ACCESS, self.tables.access.ctypes.data),
                             (at.VERSION, core.state.model.version), (at.HOT, HOT if hot else NEVER)):
            words[place >> 3] = value
        sources = context.interpreter.cast("B")
        for number in range(64):
            # %r0..%r63 are where they are; the others are found when generated code is entered
            sources[at.SOURCES + 2 * (0x80 + number)] = number
        self.clear()

    def _translations_changed(self, first: int, last: int) -> None:
        if self.core.paging or self.core.stale:
            self.forget_pages()

    # -- running -----------------------------------------------------------------------------------------

    def run(self, left: int, *, regions: bool = True) -> tuple[Status, int]:
        """Execute at most ``left`` wide instructions: (why it ended, wide instructions left). ``regions``: begin with
        the translator's code if there is some."""
        words = self.context.words
        words[Word.LEFT] = left
        run = self._run if regions else self._interpret
        status = run(self._state_address, self.context.address)
        return Status(status), words[Word.LEFT]

    def resolve(self, status: Status, pc: int, regions: Iterable[int] = ()) -> bool:
        """Do what PAGE, CROSS or FULL asks for; False: the wide instruction at ``pc`` is for the reference tier.

        ``regions`` are the places of the page that the translator has something for.
        """
        if status == Status.FULL:
            self.clear()
            return True
        try:
            return self._open(pc, regions) if status == Status.PAGE else self._extend(pc)
        except Trap:
            return False

    # -- pages -------------------------------------------------------------------------------------------

    @staticmethod
    def _slot(page: int) -> int:
        return (at.PAGES >> 3) + 2 * (page & at.PAGE_SLOTS - 1)

    def _place(self, page: int) -> Place:
        """What the page's table is kept by. Raises Trap where nothing can be executed."""
        core = self.core
        return Place(page, core.frame(page), core.frame_behind(page))

    def _open(self, pc: int, regions: Iterable[int]) -> bool:
        """Let the interpreter know the page of ``pc``. Raises Trap."""
        page = pc >> PAGE
        place = self._place(page)
        table = self.pages.get(place)
        if table is None:
            host = self._host(pc, place.frame)
            if not host:
                return False
            table = self.pages[place] = np.zeros(at.TABLE_BYTES >> 3, dtype=np.uint64)
            table[at.HOST >> 3], table[at.LIMIT >> 3] = host, 1 << PAGE
            self.by_frame.setdefault(place.frame, set()).add(place)
            self.core.mark_code(place.frame)
            for address in regions:
                self._flag(table, address)
        slot, words = self._slot(page), self.context.interpreter
        words[slot + 1] = table.ctypes.data
        words[slot] = page | (self.core.state.S[PSR] & 1) << at.PRIVILEGE_BIT
        return True

    def _host(self, pc: int, frame: int) -> int:
        """Where the page of ``pc`` is, 0 when it is not in one piece. Raises Trap where nothing can be executed."""
        self.core.code_at(pc)
        start = frame << PAGE
        flat = self.core.space.find(start)
        if flat is None or flat.block is None or start < flat.start or start + (1 << PAGE) > flat.end:
            return 0
        offset = flat.block_offset + start - flat.start
        flat.block.need(offset, 1 << PAGE)
        return int(flat.block.view.ctypes.data) + offset

    def _extend(self, pc: int) -> bool:
        """The wide instruction at ``pc`` goes on in the next page: let the decoder look there."""
        page = pc >> PAGE
        place = self._place(page)
        table = self.pages.get(place)
        if table is None:
            return True
        following = place.following
        try:
            there = following >= 0 and self._host(page + 1 << PAGE, following) == int(table[at.HOST >> 3]) + (1 << PAGE)
        except Trap:
            there = False
        # one less than allowed says that it is not
        table[at.LIMIT >> 3] = (1 << PAGE) + 64 if there else (1 << PAGE) - 4
        if there:
            self.by_frame.setdefault(following, set()).add(place)
            self.core.mark_code(following)
        return True

    @staticmethod
    def _flag(table: NDArray[np.uint64], pc: int) -> None:
        table.view(np.uint8)[at.REGION + (pc >> 3 & at.ENTRIES - 1)] = 1

    def has_region(self, pc: int, frame: int) -> None:
        """The translator has something for ``pc`` in a physical page now: leave the interpreter there."""
        for place in self.by_frame.get(frame, ()):
            if place.page == pc >> PAGE and place.frame == frame:
                self._flag(self.pages[place], pc)

    # -- dropping ----------------------------------------------------------------------------------------

    def invalidate(self, address: int, size: int) -> None:
        """Bytes from a physical address on changed."""
        if not self.pages or size <= 0:
            return
        first, last = address >> PAGE, address + size - 1 >> PAGE
        frames = [frame for frame in range(first, last + 1) if frame in self.by_frame] \
            if last - first < len(self.by_frame) else [frame for frame in self.by_frame if first <= frame <= last]
        for frame in frames:
            # A page before it may have taken with it all that used this one.
            for place in self.by_frame.pop(frame, ()):
                del self.pages[place]
                for other in (place.frame, place.following):
                    users = self.by_frame.get(other)
                    if users is not None:
                        users.discard(place)
                        if not users:
                            del self.by_frame[other]
                            self.core.unmark_code(other)
                slot, words = self._slot(place.page), self.context.interpreter
                if words[slot] & (1 << at.PRIVILEGE_BIT) - 1 == place.page:
                    words[slot] = NEVER
            self.core.unmark_code(frame)

    def forget_pages(self) -> None:
        """Translations of addresses have changed: tables are looked for again."""
        self._known_pages[:] = NEVER

    def clear(self) -> None:
        """Drop everything; generated code is not running."""
        self.pages.clear()
        self.by_frame.clear()
        self.forget_pages()
        self.context.interpreter[at.CURSOR >> 3] = 1

    def take_count(self) -> int:
        """Wide instructions executed by regions since this was asked last."""
        words = self.context.interpreter
        count = words[at.IN_REGIONS >> 3]
        words[at.IN_REGIONS >> 3] = 0
        return count
