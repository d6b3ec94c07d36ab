"""Memory of the interpreter: its part of the context, records, tables of pages and of operations.

A *record* is 32 bytes; the first eight are the address of its handler. A wide instruction is a row of them: HEAD, its
operations in the order of ``wide_semantics``' phases, an end. What they are about::

    HEAD       8 address   16 u8 %r needed   17 u8 %b needed   20 u32 times a transfer came here
    operation  8 literal of src2   16 u8 operand bytes of src1, src2, src3, dst (or src4, %pred)
               20 u8 which are literals   21 u8 literal of src1   22 u8 first slot   24 u32 its bit, 0: no result
    GUARD      8 up to 8 conditions (bits 4:0 number, 7 negated): first predicates, then counters
               16 u8 predicates   17 u8 counters   18 u8 records to pass over when it does not hold
    LOGIC      8 u8 sources of @p0..@p3   12 u16 the operations   18 u8 how many operations
    CONDITION  16 u8 type   17 u8 predicate   18 u8 kind of transfer   19 u8 CTPR   20 u8 wbs
    END        see ``finish.finish``

Results wait in *slots* until the end. Slot 2 * channel is the operation's, the next one that of the second register
of a pair; they are committed in ascending order. A bit of ``mask`` says that a slot is full.

``%b`` numbers, rotated globals and predicates are looked up: ``SOURCES`` maps an operand byte to the register's
distance from %r0, ``PREDICATES`` the number of a predicate to its register.
"""

from __future__ import annotations

from e2kemu.cpu.native.layout import CONTEXT_BYTES, INTERPRETER

RECORD = 32

# --- in the context ------------------------------------------------------------------------------------
SOURCES = INTERPRETER                   # 256 x i16
PREDICATE_MAP = SOURCES + 512           # 32 x u8
SLOTS = PREDICATE_MAP + 64              # 20 x 32: value u64, extension u64, code u8, kind u8
PAGES = SLOTS + 20 * 32                 # 256 x 16: page and PRIVILEGE_BIT u64, address of its table u64
PAGE_SLOTS = 256
PRIVILEGE_BIT = 40                      # pages are known to privileged code or to user code
WORDS = PAGES + PAGE_SLOTS * 16
SIZE = WORDS                            # doubles in the window
ROTATING = WORDS + 8                    # how many %b may be named; 0: the rotating part is not inside the window
WIDE_LOW = WORDS + 16                   # the window is dbl: results of 32 bits clear the high half
ALIGN = WORDS + 24                      # all ones: alignment is checked
PRIVILEGED = WORDS + 32
TARGET = WORDS + 40                     # the CTPR of a transfer, between its check and the end
HOT = WORDS + 48                        # times after which a place is hot, NEVER: none is
ARENA = WORDS + 56                      # address of the records
CURSOR = WORDS + 64                     # the next free one
CAPACITY = WORDS + 72
INDEX = WORDS + 80                      # tables of operations: see ``tables``
CANDIDATES = WORDS + 88
OPERATIONS = WORDS + 96
STATE_ACCESS = WORDS + 104
VERSION = WORDS + 112
WHY = WORDS + 120                       # status of a slow access
NEED_R = WORDS + 128                    # the decoder's: how many %r and %b the wide instruction at hand names
NEED_B = WORDS + 136
STOPS = WORDS + 144                     # nothing is decoded behind it
IN_REGIONS = WORDS + 152                # wide instructions executed by regions
MISSES = WORDS + 160                    # times a place with a region had none that fits
FLAGS_OF_PFPFR = WORDS + 168            # what the operations add to these registers
FLAGS_OF_FPSR = WORDS + 176
GUARDS = WORDS + 192                    # 6 x 32: predicates u8, counters u8, 6 + 6 conditions; the same of merges at 16
CHANNELS = GUARDS + 6 * 32              # 6 x 32: address of its operation u64, ALS u64, ALES u64, MAS u64

assert CHANNELS + 6 * 32 <= CONTEXT_BYTES

# --- slots ---------------------------------------------------------------------------------------------
FULL, LOW, LOW_KEPT, EXTENDED, PREDICATE, STATE_REGISTER = range(6)
"""Kinds: 64 bits; the low 32; the same in a dbl window too; 64 bits and an extension; a predicate; a state register."""
STACK_SLOT = 16                         # USD.lo and USD.hi
FLAGS, FLAGS80, STORED, CHOSEN, TAKEN = 1 << 20, 1 << 21, 1 << 29, 1 << 30, 1 << 31
"""Other bits of ``mask``: flags for PFPFR, for FPSR; leave after a store; a merge's condition; the transfer happens."""

# --- a page's table --------------------------------------------------------------------------------------
ENTRIES = 512                           # u32: index of the record of the wide instruction there, 0: not decoded
REGION = ENTRIES * 4                    # 512 x u8: 1: the translator has something for this place
HOST = REGION + ENTRIES                 # where the page's bytes are
LIMIT = HOST + 8                        # how many bytes from there on may be looked at
TABLE_BYTES = LIMIT + 8

# --- an operation's entry ----------------------------------------------------------------------------------
OPERATION = 48                          # two handlers u64, flags u64, mask and value of unused ALS bits u32;
#                                         the two handlers that only probe u64
HAS_SRC1, HAS_SRC2, HAS_SRC3, HAS_SRC4, HAS_DST, HAS_PRED = (1 << i for i in range(6))
LOADS, STORES, PAIR_DST, PAIR_SRC4, PAIR_SRC2, MERGES, TO_CTPR, STATE_READ, STATE_WRITE = (
    1 << i for i in range(8, 17))
PAIRED_SLOTS = 24                       # bits 24 src1, 25 src2, 26 src4, dst: the second channel names the next one
PARTNER = 28                            # bits 28..30: distance of the second channel, 0: no quad operation
SPECULATIVE_APART = 1 << 32             # the second handler is for speculative mode
CANDIDATE = 16                          # mask u32, value u32, ALES low i16, MAS i16, operation u16, last u16

# --- transfers ---------------------------------------------------------------------------------------------
NOWHERE, BRANCH, THROUGH, CALL = range(4)
