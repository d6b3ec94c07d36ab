"""The end of wide instructions: results, windows, rotation, transfers; and what runs the whole.

Compiled by ``lowlevel``, with ``control``.
"""

from __future__ import annotations

from e2kemu.cpu.native.interp.control import (
    ADVANCE_BASE,
    ADVANCE_PREDICATES,
    BASE,
    COUNT,
    EXIT,
    EXIT_FLAG,
    IS_HOT,
    KEY,
    LEFT,
    LIMIT,
    M48,
    MISS,
    NEVER,
    NEXT,
    PAGE,
    PATIENCE,
    PC,
    PREPARE_RETURN,
    S_BGR,
    S_BR,
    S_CR0_HI,
    S_CTPR1,
    S_FPSR,
    S_ILCR,
    S_LSR,
    S_PFPFR,
    S_PSR,
    S_UPSR,
    S_WD,
    SET_BASE,
    SET_PREDICATES,
    SET_WINDOW,
    STEP,
    E,
    P,
    R,
    S,
    T,
    leave,
)
from e2kemu.cpu.native.interp.layout import (
    ALIGN,
    ARENA,
    CALL,
    EXTENDED,
    FLAGS,
    FLAGS80,
    FLAGS_OF_FPSR,
    FLAGS_OF_PFPFR,
    HOT,
    IN_REGIONS,
    LOW,
    MISSES,
    PAGE_SLOTS,
    PAGES,
    PREDICATE,
    PREDICATE_MAP,
    PRIVILEGE_BIT,
    PRIVILEGED,
    RECORD,
    REGION,
    ROTATING,
    SIZE,
    SLOTS,
    SOURCES,
    STORED,
    TAKEN,
    TARGET,
    THROUGH,
    WIDE_LOW,
)
from e2kemu.cpu.native.interp.lowlevel import (
    go,
    handler,
    load8,
    load16,
    load32,
    load64,
    lowest,
    only_generated,
    signed,
    store8,
    store16,
    store32,
    store64,
    watch,
)
from e2kemu.cpu.native.layout import JUMP_TABLE, JUMPS
from e2kemu.cpu.state import EMPTY_TAG, LSR
from e2kemu.cpu.wide_control import TAG_RETURN


def commit(s: int, c: int, w: int, t: int, mask: int) -> int:
    """Write what is in the slots."""
    rest = mask & 0xFFFFF
    while rest:
        slot = c + SLOTS + 32 * lowest(rest)
        rest &= rest - 1
        value = load64(slot)
        kind = load8(slot + 17)
        code = load8(slot + 16)
        if kind <= EXTENDED:
            distance = signed(load16(c + SOURCES + 2 * code), 16)
            if kind == 0 or kind == EXTENDED or (kind == LOW and load64(c + WIDE_LOW)):
                store64(w + 8 * distance, value)
                store8(t + distance, 0)
                if kind == EXTENDED:
                    store64(w + E - R + 8 * distance, load64(slot + 8))
            else:
                store32(w + 8 * distance, value)
                store8(t + distance, load8(t + distance) & 12)
        elif kind == PREDICATE:
            store8(s + P + load8(c + PREDICATE_MAP + code), value)
        else:
            store64(s + S + 8 * code, value)
            if code == LSR:
                store64(s + S_ILCR, value & 0xFFFFFFFF)
    if mask & FLAGS:
        store64(s + S_PFPFR, load64(s + S_PFPFR) | load64(c + FLAGS_OF_PFPFR))
    if mask & FLAGS80:
        store64(s + S_FPSR, load64(s + S_FPSR) | load64(c + FLAGS_OF_FPSR))
    return 0


@handler
def end(s: int, c: int, u: int, w: int, t: int, left: int, mask: int, h: int) -> int:
    """The end of a wide instruction that only computes; the next one follows."""
    commit(s, c, w, t, mask)
    if mask & STORED:
        return leave(s, c, load64(u + 8), w, t, left, EXIT, h)
    return go(s, c, u + RECORD, w, t, left, 0, h)


def enter_window(s: int, c: int, w: int, t: int, new: int, flags: int) -> int:
    """setwd; ``flags`` are WD's fx and dbl."""
    old = load64(c + SIZE)
    wd = load64(s + S_WD)
    store64(s + S_WD, (wd & (0x7FF | 0x7FF << 32)) | new << 19 | flags)
    i = old
    while i < new:
        store64(w + 8 * i, 0)
        store64(w + E - R + 8 * i, 0)
        store8(t + i, EMPTY_TAG)
        i += 1
    return 0


def map_rotation(s: int, c: int) -> int:
    """Make the look-ups of %b and predicates anew."""
    br = load64(s + S_BR)
    first = 2 * (br & 63)
    count = 2 * (br >> 6 & 63) + 2
    turned = 2 * (br >> 12 & 63) % count
    i = 0
    while i < 128:
        at = turned + i
        at = at - count if at >= count else at
        store16(c + SOURCES + 2 * i, first + at)
        i += 1
    store64(c + ROTATING, count if first + count <= load64(c + SIZE) else 0)
    size = br >> 18 & 31
    turn = br >> 23 & 31
    i = 0
    while i < 32:
        at = i
        if size and i <= size:
            at = (i + turn) % (size + 1)
        store8(c + PREDICATE_MAP + i, at)
        i += 1
    return 0


def map_globals(s: int, c: int) -> int:
    """Make the look-up of %g anew: the window has moved, or they rotated."""
    base = load64(s + BASE)
    turn = load64(s + S_BGR) >> 8
    i = 0
    while i < 24:
        store16(c + SOURCES + 2 * (224 + i), i - base)
        i += 1
    i = 0
    while i < 8:
        store16(c + SOURCES + 2 * (248 + i), 24 + (i + turn & 7) - base)
        i += 1
    return 0


def window_changed(s: int, c: int) -> int:
    """The window, or its size, has changed: keep what is known about it."""
    wd = load64(s + S_WD)
    store64(c + SIZE, wd >> 19 & 255)
    store64(c + WIDE_LOW, wd >> 49 & 1)
    br = load64(s + S_BR)
    last = 2 * (br & 63) + 2 * (br >> 6 & 63) + 2
    store64(c + ROTATING, 2 * (br >> 6 & 63) + 2 if last <= load64(c + SIZE) else 0)
    return 0


def advance(s: int, c: int, u: int, what: int) -> int:
    """What the end does for the loop: rotate, count."""
    br = load64(s + S_BR)
    new = br
    if load8(u + 22) & SET_BASE:
        new = (new & ~0x3FFFF) | (load32(u + 24) & 0x3FFFF)
    if load8(u + 22) & SET_PREDICATES:
        new = (new & 0x3FFFF) | (load32(u + 24) & 31 << 18)
    if what & ADVANCE_BASE:
        size = new >> 6 & 63
        turn = new >> 12 & 63
        new = (new & ~(63 << 12)) | (turn - 1 if turn else size) << 12
    if what & ADVANCE_PREDICATES:
        size = new >> 18 & 31
        turn = new >> 23 & 31
        new = (new & ~(31 << 23)) | (turn - 1 if turn else size) << 23
    if what & COUNT:
        lsr = load64(s + S_LSR)
        count = lsr & 0xFFFFFFFF
        less = count - 1 if count else 0
        over = less == 0
        epilogue = lsr >> 32 & 31
        if over and lsr >> 37 & 1 and epilogue:
            epilogue -= 1
        prologue = lsr >> 48 & 31
        prologue = prologue - 1 if prologue else 0
        kept = lsr & ~(0xFFFFFFFF | 31 << 32 | 1 << 38 | 31 << 48)
        store64(s + S_LSR, kept | less | epilogue << 32 | over << 38 | prologue << 48)
    if new != br:
        store64(s + S_BR, new)
        map_rotation(s, c)
    return 0


@handler
def finish(s: int, c: int, u: int, w: int, t: int, left: int, mask: int, h: int) -> int:
    """The end of a wide instruction that also controls.

    8 where it branches   16 u8 kind of transfer   18 u8 advances   19 u8 prepares   20 u8 which CTPR
    21 u8 wbs   22 u8 sets   24 u32 new BR   28 u8 new size of the window; behind it 32 prepared CTPR   40 flags of WD
    48 the next address
    """
    following = load64(u + 48)
    sets = load8(u + 22)
    if sets & SET_WINDOW:
        # what was the rule for 32-bit results stays it until the end
        enter_window(s, c, w, t, load8(u + 28), load64(u + 40))
    commit(s, c, w, t, mask)
    prepares = load8(u + 19)
    if prepares:
        prepared = load64(u + 32)
        if prepares == PREPARE_RETURN:
            prepared |= load64(s + S_CR0_HI) & M48
        store64(s + S_CTPR1 + 8 * load8(u + 20), prepared)
    what = load8(u + 18)
    if mask & TAKEN:
        what >>= 3
    what &= 7
    if what or sets & (SET_BASE | SET_PREDICATES):
        advance(s, c, u, what)
    if sets & SET_WINDOW:
        window_changed(s, c)
    if mask & TAKEN == 0:
        if mask & STORED:
            return leave(s, c, following, w, t, left, EXIT, h)
        return go(s, c, u + 2 * RECORD, w, t, left, 0, h)
    kind = load8(u + 16)
    target = load64(u + 8)
    if kind >= THROUGH:
        target = load64(c + TARGET)
        if kind == CALL:
            enter_frame(s, following << 8 | load8(u + 21))
            window_changed(s, c)
            map_globals(s, c)
        elif target >> 54 & 7 == TAG_RETURN:
            leave_frame(s, c)
            window_changed(s, c)
            map_globals(s, c)
            map_rotation(s, c)
            store64(c + PRIVILEGED, load64(s + S_PSR) & 1)
            target = load64(s + PC)
        target &= M48
        base = load64(s + BASE)
        w = s + R + 8 * base
        t = s + T + base
    if mask & STORED:
        return leave(s, c, target, w, t, left, EXIT, h)
    return transfer(s, c, target, w, t, left, 0, h)


# --- transfers ---------------------------------------------------------------------------------------------

def key(s: int) -> int:
    """The configuration key (``native.layout.config_key``)."""
    wd = load64(s + S_WD)
    return ((wd >> 19 & 255) | (wd >> 35 & 255) << 8 | (wd >> 49 & 1) << 16 | (load64(s + S_PSR) & 1) << 17
            | (load64(s + S_UPSR) >> 2 & 1) << 18 | (load64(s + S_BR) & 0xFFFFFFF) << 19
            | (load64(s + S_BGR) & 0x7FF) << 47)


def warmer(c: int, record: int) -> int:
    """Count that somebody came to the place of ``record``; 1: it is hot, which is told at powers of two."""
    heat = load32(record + 20) + 1
    store32(record + 20, heat)
    return int(heat >= load64(c + HOT) and (heat & heat - 1) == 0)


@handler
def transfer(s: int, c: int, u: int, w: int, t: int, left: int, mask: int, h: int) -> int:
    """Go on at address ``u``: here the interpreter can be stopped, and places become hot."""
    if watch(load64(c + EXIT_FLAG)):
        return leave(s, c, u, w, t, left, EXIT, h)
    slot = c + PAGES + 16 * (u >> 12 & PAGE_SLOTS - 1)
    if load64(slot) != (u >> 12 | load64(c + PRIVILEGED) << PRIVILEGE_BIT) or u & 7:
        return leave(s, c, u, w, t, left, PAGE, h)
    table = load64(slot + 8)
    index = load32(table + 4 * (u >> 3 & 511))
    if index == 0:
        return fresh(s, c, u, w, t, left, table, h)
    if load8(table + REGION + (u >> 3 & 511)):
        store64(c + KEY, key(s))
        return leave(s, c, u, w, t, left, NEXT, h)
    record = load64(c + ARENA) + RECORD * index
    if warmer(c, record):
        return leave(s, c, u, w, t, left, IS_HOT, h)
    return go(s, c, record, w, t, left, 0, h)


@handler
def fresh(s: int, c: int, u: int, w: int, t: int, left: int, mask: int, h: int) -> int:
    """Address ``u`` is not decoded yet; ``mask`` is the page's table."""
    why = decode(c, mask, u)
    if why:
        return leave(s, c, u, w, t, left, why, h)
    return go(s, c, load64(c + ARENA) + RECORD * load32(mask + 4 * (u >> 3 & 511)), w, t, left, 0, h)


@handler
def onward(s: int, c: int, u: int, w: int, t: int, left: int, mask: int, h: int) -> int:
    """A row of records ends here; it goes on at the address at 8."""
    return resume(s, c, load64(u + 8), w, t, left, 0, h)


@handler
def begin(s: int, c: int, u: int, w: int, t: int, left: int, mask: int, h: int) -> int:
    """Go on at address ``u``, which somebody met, whatever the translator has for it."""
    slot = c + PAGES + 16 * (u >> 12 & PAGE_SLOTS - 1)
    if load64(slot) == u >> 12 | load64(c + PRIVILEGED) << PRIVILEGE_BIT:
        index = load32(load64(slot + 8) + 4 * (u >> 3 & 511))
        if index and warmer(c, load64(c + ARENA) + RECORD * index):
            return leave(s, c, u, w, t, left, IS_HOT, h)
    return resume(s, c, u, w, t, left, 0, h)


@handler
def resume(s: int, c: int, u: int, w: int, t: int, left: int, mask: int, h: int) -> int:
    """Go on at address ``u``, whatever the translator has for it."""
    slot = c + PAGES + 16 * (u >> 12 & PAGE_SLOTS - 1)
    if load64(slot) != (u >> 12 | load64(c + PRIVILEGED) << PRIVILEGE_BIT) or u & 7:
        return leave(s, c, u, w, t, left, PAGE, h)
    table = load64(slot + 8)
    index = load32(table + 4 * (u >> 3 & 511))
    if index == 0:
        return fresh(s, c, u, w, t, left, table, h)
    return go(s, c, load64(c + ARENA) + RECORD * index, w, t, left, 0, h)


def e2k_interpret(s: int, c: int) -> int:
    """Execute from the state's PC on; like a region, but its status may be any."""
    store64(c + PRIVILEGED, load64(s + S_PSR) & 1)
    store64(c + ALIGN, NEVER if load64(s + S_UPSR) >> 2 & 1 else 0)
    window_changed(s, c)
    map_globals(s, c)
    map_rotation(s, c)
    base = load64(s + BASE)
    return begin(s, c, load64(s + PC), s + R + 8 * base, s + T + base, load64(c + LEFT), 0, 0)


def e2k_run(s: int, c: int) -> int:
    """Regions of the translator where there are some, the interpreter elsewhere, until something is for Python."""
    store64(c + KEY, key(s))
    came = 0
    while True:
        if watch(load64(c + EXIT_FLAG)):
            return EXIT
        pc = load64(s + PC)
        name = load64(c + KEY)
        slot = c + JUMP_TABLE + 32 * ((pc >> 3 ^ name ^ name >> 19) & JUMPS - 1)
        status = LIMIT
        if load64(slot) == pc and load64(slot + 8) == name:
            before = load64(c + LEFT)
            status = call_region(load64(slot + 16), s, c)
            store64(c + IN_REGIONS, load64(c + IN_REGIONS) + before - load64(c + LEFT))
            came = 0
            if (status == LIMIT or status == STEP) and load64(c + LEFT):  # noqa: SIM109 (``lowlevel`` has no ``in``)
                status = e2k_interpret(s, c)
        else:
            if came:
                # there is a region for the address, but not for the configuration, or the jump cache has lost it
                misses = load64(c + MISSES) + 1
                store64(c + MISSES, misses)
                if misses % PATIENCE == 0:
                    return MISS
            status = e2k_interpret(s, c)
            came = 1
        if status != NEXT:
            return status


def call_region(function: int, s: int, c: int) -> int:
    """Call a region."""
    only_generated()


def decode(c: int, table: int, pc: int) -> int:
    """See ``decoder``."""
    only_generated()


def enter_frame(s: int, what: int) -> int:
    """See ``runtime``."""
    only_generated()


def leave_frame(s: int, c: int) -> int:
    """See ``runtime``."""
    only_generated()


HANDLERS = (end, finish, transfer, fresh, onward, begin, resume)
FUNCTIONS = (*HANDLERS, commit, enter_window, map_rotation, map_globals, window_changed, advance, key, warmer,
             e2k_interpret, e2k_run)
