"""The memory that generated code and Python share besides the CPU's state: one context for each CPU.

    part     items                    content
    words    64 x u64                 ``Word``
    reads    TLB_ENTRIES x 2 x u64    software TLB of loads: tag, addend
    writes   TLB_ENTRIES x 2 x u64    the same for stores
    (user)   the same two             these of user code, those of privileged code (PSR.pm)
    jumps    JUMPS x 4 x u64          jump cache: address, configuration key, function, 0
    (rest)   8192 bytes               the interpreter's: ``interp.layout``

A TLB entry of virtual page p says: guest addresses of p are at ``address + addend`` in the host's memory. Its tag is
p << 12, or NEVER. A page is in ``writes`` only while its dirty mark is set and no code was translated from it, in
either only when all of it is RAM that has arrived; so a hit needs no other test. An access that is not
aligned misses, for its low address bits are compared with those of the tag.

The context belongs to the CPU's thread. Only pages may be dropped from TLBs by another one, in the middle of generated
code: that changes tags, and leaves each addend what it was, for the CPU may be between the two.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from e2kemu.cpu.config import Config
from e2kemu.cpu.state import CpuState

TLB_ENTRIES = 1024
JUMPS = 4096
NEVER = (1 << 64) - 1
PAGE = 12

WORDS = 64
READS = WORDS * 8
WRITES = READS + TLB_ENTRIES * 16
TLB_SET = 2 * TLB_ENTRIES * 16
"""Bytes of the two TLBs of a privilege; those of user code are so far behind the others."""
JUMP_TABLE = READS + 2 * TLB_SET
INTERPRETER = JUMP_TABLE + JUMPS * 32
CONTEXT_BYTES = INTERPRETER + 8192


class Word(IntEnum):
    """Items of ``words``."""

    LEFT = 0        # wide instructions that may still be executed
    EXIT = 1        # address of ``Core.exit_flag``: not 0 there: leave at the next boundary
    KEY = 2         # configuration key of what comes next
    LOAD = 3        # Python's slow load: u64 (address, size and flags), answer in STATUS
    STORE = 4       # Python's slow store: u64 (address, size and flags, value)
    STATUS = 5      # of the last slow load: 0 fine, 1 an exception waits, 2 a speculative load failed
    FP = 6          # Python's floating point: u64 (number of the primitive, context) -> flags; see OPERANDS
    RAM = 7         # the RAM at guest address 0: where it is in the host,
    PAGES = 8       # how many pages it has,
    PRESENT = 9     # ``Core.present`` or 0, a byte per page: loads may go there,
    MARKS = 10      # ``Core.code_map``, a byte per page: stores may not,
    DIRTY = 11      # its dirty marks
    WALK = 12       # beside a TLB miss: IDENTITY, ASK_PYTHON, or the physical address of the page table's root
    WALK_HIGH = 13  # the same for addresses from BOUNDARY on
    BOUNDARY = 14   # a virtual address
    OPERANDS = 16   # three operands of two words, the control register, the result of two words
    FRAME = 25      # page tables (``Mmu.native_parameters``): mask of the physical address in an entry,
    LARGE = 26      # the bit of an entry that maps a large page,
    NEEDED = 27     # what an entry must have,
    LARGE_PAGE = 28 # + level 3, 2, 1: log2 of the page that an entry of it maps, 0: ask Python,
    LEAF = 32       # mask and value of an entry that may be used: user load, user store, privileged load and store
    EXCHANGE = 40   # Python's slow compare-exchange: u64 (address, flags, old, new) -> done; 1 in STATUS: leave


IDENTITY, ASK_PYTHON = (1 << 64) - 1, (1 << 64) - 2
"""Values of ``Word.WALK``: virtual addresses are physical; only Python can tell."""

SPECULATIVE = 0x100
"""Flag beside the size of a slow access."""
ALIGNED = 0x200
"""Flag: a speculative access that is not aligned fails."""
USER = 0x400
"""Flag: user code makes the access."""


class Status(IntEnum):
    """Why generated code returned to Python."""

    NEXT = 0        # another region may follow (never leaves ``e2k_run``)
    MISS = 1        # nothing is translated for this address and configuration
    STEP = 2        # the wide instruction at PC is for the reference tier
    RAISE = 3       # a slow access raised: the wide instruction at PC did nothing
    LIMIT = 4       # too few wide instructions left for the next region
    EXIT = 5        # ``Core.exit_flag`` was set, or a store asks for a look around
    GUARD = 6       # the region does not fit the tags at hand
    HOT = 7         # the interpreter came to PC often
    PAGE = 8        # the interpreter does not know the page of PC
    FULL = 9        # the interpreter has no room for more records
    CROSS = 10      # the wide instruction at PC goes on in the next page


def config_key(cfg: Config) -> int:
    """A configuration in 58 bits, as generated code composes it from WD, BR, BGR, PSR and UPSR."""
    return (cfg.size | cfg.psize << 8 | cfg.dbl << 16 | cfg.pm << 17 | cfg.ac << 18 | cfg.br << 19 | cfg.bgr << 47)


_TABLE = 2 * TLB_ENTRIES
"""Words of one TLB; there are those of loads and stores of privileged code, then of user code."""


class Context:
    """The memory, and its parts as memoryviews."""

    def __init__(self, state: CpuState) -> None:
        self.state = state
        self.buffer = np.zeros(CONTEXT_BYTES + 64, dtype=np.uint8)
        start = -self.buffer.ctypes.data % 64
        whole = memoryview(self.buffer.data)[start : start + CONTEXT_BYTES].cast("Q")
        self.address = self.buffer.ctypes.data + start
        self.words = whole[:WORDS]
        self.tlbs = whole[READS >> 3 : JUMP_TABLE >> 3]
        self.jumps = whole[JUMP_TABLE >> 3 : INTERPRETER >> 3]
        self.interpreter = memoryview(self.buffer.data)[start : start + CONTEXT_BYTES].cast("Q")
        entries = np.frombuffer(self.tlbs, dtype=np.uint64).reshape(4, TLB_ENTRIES, 2)
        self._tags, self._write_tags = entries[:, :, 0], entries[1::2, :, 0]
        self._no_jumps = memoryview(bytes(b"\xff" * (JUMPS * 32))).cast("Q")
        self.forget_pages()
        self.forget_jumps()

    @property
    def state_address(self) -> int:
        """Where the CPU's state is."""
        return int(self.state.buffer.ctypes.data)

    def forget_pages(self) -> None:
        """Empty all TLBs (any thread)."""
        self._tags[:] = NEVER

    def forget_writes(self) -> None:
        """Empty the TLBs of stores (any thread)."""
        self._write_tags[:] = NEVER

    def forget_page(self, page: int, *, writes_only: bool = False) -> None:
        """Drop one virtual page (any thread)."""
        at = 2 * (page & TLB_ENTRIES - 1)
        for table in (1, 3) if writes_only else range(4):
            if self.tlbs[table * _TABLE + at] == page << PAGE:
                self.tlbs[table * _TABLE + at] = NEVER

    def remember_page(self, page: int, host: int, *, write: bool, user: bool) -> None:
        """Virtual page ``page`` is at ``host``."""
        at = (2 * user + write) * _TABLE + 2 * (page & TLB_ENTRIES - 1)
        self.tlbs[at + 1] = host - (page << PAGE) & NEVER
        self.tlbs[at] = page << PAGE

    # -- the jump cache ----------------------------------------------------------------------------------

    @staticmethod
    def slot(pc: int, key: int) -> int:
        """Entry of the jump cache for an address and a configuration (as ``e2k_run`` computes it)."""
        return (pc >> 3 ^ key ^ key >> 19) & JUMPS - 1

    def remember_jump(self, pc: int, key: int, function: int) -> None:
        """Code at ``pc`` in configuration ``key`` is ``function``."""
        at = 4 * self.slot(pc, key)
        self.jumps[at + 1], self.jumps[at + 2], self.jumps[at] = key, function, pc

    def forget_jump(self, pc: int, key: int) -> None:
        """Drop it if it is there."""
        at = 4 * self.slot(pc, key)
        if self.jumps[at] == pc and self.jumps[at + 1] == key:
            self.jumps[at] = NEVER

    def forget_jumps(self) -> None:
        """Drop them all."""
        self.jumps[:] = self._no_jumps
