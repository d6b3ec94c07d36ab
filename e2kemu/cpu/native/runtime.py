"""What native code calls, as LLVM IR written once: part of the interpreter's host code (``interp.build``).

    e2k_walk(context, address, kind) -> physical page         the MMU's page table in RAM; all ones: ask Python
    e2k_load(context, address, flags) -> {value, status}      beside a TLB miss: unaligned, RAM at 0, else Python
    e2k_store(context, address, flags, value) -> status       0 done, 1 done and leave the region, Status.RAISE
    e2k_exchange(context, address, flags, old, new) -> {done, status}     write new if old is there, in one step
    e2k_enter(state, return_ip << 8 | wbs)                    a call's frame (``windows.enter``, after its checks)
    e2k_return(state, context)                                a return (``windows.leave``, after its checks)

The status of a load is 0, Status.RAISE, or Status.STEP when a speculative load failed.
"""

from __future__ import annotations

from e2kemu.cpu.interrupts import PSR_LW
from e2kemu.cpu.isa.registers import WINDOW_DOUBLES
from e2kemu.cpu.native.layout import (
    ALIGNED,
    ASK_PYTHON,
    IDENTITY,
    PAGE,
    READS,
    TLB_ENTRIES,
    TLB_SET,
    USER,
    WRITES,
    Word,
)
from e2kemu.cpu.state import (
    BGR,
    BR,
    CR0_HI,
    CR0_LO,
    CR1_HI,
    CR1_LO,
    CTPR1,
    CUIR,
    PSR,
    UPSR,
    USD_HI,
    USD_LO,
    WD,
    Slot,
)

_M48 = (1 << 48) - 1


class _Text:
    """Lines of one function, with short ways to say the usual."""

    def __init__(self, offsets: dict[str, int]) -> None:
        self.lines: list[str] = []
        self.offsets = offsets
        self.count = 0

    def put(self, *lines: str) -> None:
        self.lines += lines

    def name(self, instruction: str) -> str:
        self.count += 1
        self.lines.append(f"%v{self.count} = {instruction}")
        return f"%v{self.count}"

    def place(self, part: str, index: int) -> str:
        """The address of a 64-bit item of the state."""
        return self.name(f"getelementptr i8, ptr %s, i64 {self.offsets[part] + 8 * index}")

    def get(self, part: str, index: int) -> str:
        return self.name(f"load i64, ptr {self.place(part, index)}")

    def set(self, part: str, index: int, value: str | int) -> None:
        self.put(f"store i64 {value}, ptr {self.place(part, index)}")

    def op(self, operation: str, a: str, b: str | int) -> str:
        return self.name(f"{operation} i64 {a}, {b}")

    def field(self, a: str, shift: int, mask: int) -> str:
        return self.op("and", self.op("lshr", a, shift) if shift else a, mask)

    def word(self, item: Word) -> str:
        return self.name(f"load i64, ptr {self.name(f'getelementptr i64, ptr %c, i64 {int(item)}')}")


def _walk(t: _Text) -> None:
    """Read the page table as the MMU does when nothing is to be changed in it.

    Kind is 0 for loads of user code, 1 for its stores, 2 and 3 for those of privileged code.
    """
    t.put("define i64 @e2k_walk(ptr %c, i64 %a, i64 %kind) nounwind cold {", "entry:")
    high = t.name(f"icmp uge i64 %a, {t.word(Word.BOUNDARY)}")
    root = t.name(f"select i1 {high}, i64 {t.word(Word.WALK_HIGH)}, i64 {t.word(Word.WALK)}")
    pages, ram, present = t.word(Word.PAGES), t.word(Word.RAM), t.word(Word.PRESENT)
    frame, large, needed = t.word(Word.FRAME), t.word(Word.LARGE), t.word(Word.NEEDED)
    leaves = t.name(f"getelementptr i64, ptr %c, i64 {int(Word.LEAF)}")
    leaf = t.name(f"getelementptr i64, ptr {leaves}, i64 {t.op('shl', '%kind', 1)}")
    leaf_mask = t.name(f"load i64, ptr {leaf}")
    leaf_value = t.name(f"load i64, ptr {t.name(f'getelementptr i64, ptr {leaf}, i64 1')}")
    t.put("%high = lshr i64 %a, 48", "%inside = icmp eq i64 %high, 0", f"%known = icmp ult i64 {root}, {ASK_PYTHON}",
          "%good = and i1 %inside, %known", "br i1 %good, label %level3, label %python")
    base = root
    for level in (3, 2, 1, 0):
        t.put(f"level{level}:")
        place = t.op("add", base, t.op("shl", t.field("%a", PAGE + 9 * level, 511), 3))
        page = t.op("lshr", place, PAGE)
        t.put(f"br i1 {t.name(f'icmp ult i64 {page}, {pages}')}, label %in{level}, label %python", f"in{level}:")
        t.put(f"br i1 {t.name(f'icmp eq i64 {present}, 0')}, label %read{level}, label %map{level}", f"map{level}:")
        mark = t.name(f"inttoptr i64 {t.op('add', present, page)} to ptr")
        there = t.name(f"load i8, ptr {mark}")
        t.put(f"br i1 {t.name(f'icmp ne i8 {there}, 0')}, label %read{level}, label %python", f"read{level}:")
        host = t.name(f"inttoptr i64 {t.op('add', ram, place)} to ptr")
        entry = t.name(f"load atomic i64, ptr {host} monotonic, align 8")
        physical = t.op("and", entry, frame)
        if level:
            leads = t.name(f"icmp eq i64 {t.op('and', entry, needed)}, {needed}")
            t.put(f"br i1 {leads}, label %there{level}, label %python", f"there{level}:")
            is_large = t.name(f"icmp ne i64 {t.op('and', entry, large)}, 0")
            t.put(f"br i1 {is_large}, label %large{level}, label %level{level - 1}", f"large{level}:")
            shift = t.name(f"load i64, ptr {t.name(f'getelementptr i64, ptr %c, i64 {Word.LARGE_PAGE + level}')}")
            t.put(f"br i1 {t.name(f'icmp ne i64 {shift}, 0')}, label %leaf{level}, label %python", f"leaf{level}:")
            inner = t.op("sub", t.op("shl", "1", shift), 1)
        fits = t.name(f"icmp eq i64 {t.op('and', entry, leaf_mask)}, {leaf_value}")
        t.put(f"br i1 {fits}, label %found{level}, label %python", f"found{level}:")
        if level:
            found = t.op("or", t.op("and", physical, t.op("xor", inner, -1)), t.op("and", "%a", inner))
            t.put(f"ret i64 {t.op('lshr', found, PAGE)}")
        else:
            t.put(f"ret i64 {t.op('lshr', physical, PAGE)}")
        base = physical
    t.put("python:", "ret i64 -1", "}")


def _find(t: _Text, table: int) -> None:
    """Look the page up, or take it into the TLB: go to %found with %host, or to %python.

    The RAM at address 0 is known by its maps (``Word.RAM`` and those behind it), and so is the page table, so that a
    guest that walks through more pages than the TLB holds need not go to Python for each.
    """
    store = table == WRITES
    t.put("%size = and i64 %flags, 255", "%low = and i64 %a, 4095", "%end = add i64 %low, %size",
          "%over = icmp ugt i64 %end, 4096", "%less = add i64 %size, -1", "%odd = and i64 %a, %less",
          f"%strict = and i64 %flags, {ALIGNED}", "%isodd = icmp ne i64 %odd, 0", "%isstrict = icmp ne i64 %strict, 0",
          "%refuse = and i1 %isodd, %isstrict", "%away = or i1 %over, %refuse",
          "br i1 %away, label %python, label %one",
          "one:", "%page = lshr i64 %a, 12", f"%index = and i64 %page, {TLB_ENTRIES - 1}",
          f"%user = and i64 %flags, {USER}", f"%behind = mul i64 %user, {TLB_SET // USER}",
          f"%table0 = getelementptr i8, ptr %c, i64 {table}", "%table = getelementptr i8, ptr %table0, i64 %behind",
          "%item = getelementptr [2 x i64], ptr %table, i64 %index",
          "%second = getelementptr i64, ptr %item, i64 1", "%tag = load i64, ptr %item", "%wanted = and i64 %a, -4096",
          "%same = icmp eq i64 %tag, %wanted", "%have = load i64, ptr %second",
          "br i1 %same, label %found, label %look", "look:")
    pages, ram, walk = t.word(Word.PAGES), t.word(Word.RAM), t.word(Word.WALK)
    t.put(f"%flat = icmp eq i64 {walk}, {IDENTITY}", "br i1 %flat, label %have_frame, label %walk", "walk:",
          "%isuser = icmp ne i64 %user, 0", f"%kind = select i1 %isuser, i64 {int(store)}, i64 {2 + store}",
          "%walked = call i64 @e2k_walk(ptr %c, i64 %a, i64 %kind)",
          "br label %have_frame", "have_frame:", "%frame = phi i64 [ %page, %look ], [ %walked, %walk ]")
    t.put(f"%inside = icmp ult i64 %frame, {pages}", "br i1 %inside, label %ask, label %python", "ask:")
    moved = t.op("add", ram, t.op("shl", t.op("sub", "%frame", "%page"), PAGE))
    present = t.word(Word.PRESENT)
    t.put(f"%all = icmp eq i64 {present}, 0", "br i1 %all, label %here, label %map", "map:")
    t.put(f"%pa = add i64 {present}, %frame", "%pp = inttoptr i64 %pa to ptr", "%pv = load i8, ptr %pp",
          "%is = icmp ne i8 %pv, 0", "br i1 %is, label %here, label %python", "here:")
    if store:
        marks, dirty = t.word(Word.MARKS), t.word(Word.DIRTY)
        t.put(f"%ma = add i64 {marks}, %frame", "%mp = inttoptr i64 %ma to ptr", "%mv = load i8, ptr %mp",
              "%free = icmp eq i8 %mv, 0", "br i1 %free, label %take, label %python", "take:",
              f"%da = add i64 {dirty}, %frame", "%dp = inttoptr i64 %da to ptr", "store i8 1, ptr %dp",
              f"store i64 {moved}, ptr %second", "store i64 %wanted, ptr %item",
              # another CPU may have marked the page as code since it was looked at, and closed this TLB before that
              "fence seq_cst", "%again = load volatile i8, ptr %mp", "%still = icmp eq i8 %again, 0",
              "br i1 %still, label %taken, label %close", "close:", "store i64 -1, ptr %item", "br label %python",
              "taken:", "br label %found")
    else:
        t.put(f"store i64 {moved}, ptr %second", "store i64 %wanted, ptr %item", "br label %taken", "taken:",
              "br label %found")
    t.put("found:", f"%addend = phi i64 [ %have, %one ], [ {moved}, %taken ]",
          "%where = add i64 %a, %addend", "%host = inttoptr i64 %where to ptr",
          "switch i64 %size, label %python [ i64 1, label %s1 i64 2, label %s2 i64 4, label %s4 i64 8, label %s8 ]")


def _load(t: _Text) -> None:
    t.put("define {i64, i64} @e2k_load(ptr %c, i64 %a, i64 %flags) nounwind cold {", "entry:")
    _find(t, READS)
    for size in (1, 2, 4, 8):
        t.put(f"s{size}:", f"%l{size} = load i{8 * size}, ptr %host, align 1")
        value = f"%l{size}"
        if size < 8:
            value = t.name(f"zext i{8 * size} {value} to i64")
        answer = t.name(f"insertvalue {{i64, i64}} zeroinitializer, i64 {value}, 0")
        t.put(f"ret {{i64, i64}} {answer}")
    t.put("python:")
    function = t.name(f"inttoptr i64 {t.word(Word.LOAD)} to ptr")
    value = t.name(f"call i64 {function}(i64 %a, i64 %flags)")
    first = t.name(f"insertvalue {{i64, i64}} zeroinitializer, i64 {value}, 0")
    t.put(f"ret {{i64, i64}} {t.name(f'insertvalue {{i64, i64}} {first}, i64 {t.word(Word.STATUS)}, 1')}", "}")


def _store(t: _Text) -> None:
    t.put("define i64 @e2k_store(ptr %c, i64 %a, i64 %flags, i64 %value) nounwind cold {", "entry:")
    _find(t, WRITES)
    for size in (1, 2, 4, 8):
        t.put(f"s{size}:")
        value = "%value" if size == 8 else t.name(f"trunc i64 %value to i{8 * size}")
        t.put(f"store i{8 * size} {value}, ptr %host, align 1", "ret i64 0")
    t.put("python:")
    function = t.name(f"inttoptr i64 {t.word(Word.STORE)} to ptr")
    t.put(f"ret i64 {t.name(f'call i64 {function}(i64 %a, i64 %flags, i64 %value)')}", "}")


def _exchange(t: _Text) -> None:
    t.put("define {i64, i64} @e2k_exchange(ptr %c, i64 %a, i64 %flags, i64 %old, i64 %new) nounwind cold {", "entry:")
    _find(t, WRITES)
    for size in (1, 2, 4, 8):
        bits = 8 * size
        t.put(f"s{size}:")
        aligned = t.name(f"icmp eq i64 {t.op('and', '%a', size - 1)}, 0")
        t.put(f"br i1 {aligned}, label %x{size}, label %python", f"x{size}:")
        old, new = ((name if size == 8 else t.name(f"trunc i64 {name} to i{bits}")) for name in ("%old", "%new"))
        pair = t.name(f"cmpxchg ptr %host, i{bits} {old}, i{bits} {new} seq_cst seq_cst, align {size}")
        done = t.name(f"zext i1 {t.name(f'extractvalue {{i{bits}, i1}} {pair}, 1')} to i64")
        t.put(f"ret {{i64, i64}} {t.name(f'insertvalue {{i64, i64}} zeroinitializer, i64 {done}, 0')}")
    t.put("python:")
    function = t.name(f"inttoptr i64 {t.word(Word.EXCHANGE)} to ptr")
    done = t.name(f"call i64 {function}(i64 %a, i64 %flags, i64 %old, i64 %new)")
    first = t.name(f"insertvalue {{i64, i64}} zeroinitializer, i64 {done}, 0")
    t.put(f"ret {{i64, i64}} {t.name(f'insertvalue {{i64, i64}} {first}, i64 {t.word(Word.STATUS)}, 1')}", "}")


def _pack_predicates(t: _Text) -> str:
    """The predicate file as in CR0.lo: two bits each."""
    whole = ""
    for part in range(4):
        place = t.name(f"getelementptr i8, ptr %s, i64 {t.offsets['P'] + 8 * part}")
        x = t.op("and", t.name(f"load i64, ptr {place}, align 1"), 0x0303030303030303)
        for shift, mask in ((6, 0x000F000F000F000F), (12, 0x000000FF000000FF), (24, 0xFFFF)):
            x = t.op("and", t.op("or", x, t.op("lshr", x, shift)), mask)
        x = t.op("shl", x, 16 * part) if part else x
        whole = t.op("or", whole, x) if whole else x
    return whole


def _unpack_predicates(t: _Text, packed: str) -> None:
    for part in range(4):
        x = t.field(packed, 16 * part, 0xFFFF)
        for shift, mask in ((24, 0x000000FF000000FF), (12, 0x000F000F000F000F), (6, 0x0303030303030303)):
            x = t.op("and", t.op("or", x, t.op("shl", x, shift)), mask)
        place = t.name(f"getelementptr i8, ptr %s, i64 {t.offsets['P'] + 8 * part}")
        t.put(f"store i64 {x}, ptr {place}, align 1")


def _any(t: _Text, first: str, *rest: str) -> str:
    for value in rest:
        first = t.op("or", first, value)
    return first


def _enter(t: _Text) -> None:
    t.put("define void @e2k_enter(ptr %s, i64 %arg) nounwind {", "entry:", "%wbs = and i64 %arg, 255",
          "%ip = lshr i64 %arg, 8")
    wd, count = t.get("S", WD), t.get("X", Slot.CHAIN)
    at = t.op("add", t.op("shl", count, 5), t.offsets["C"])
    for number, register in enumerate((CR0_LO, CR0_HI, CR1_LO, CR1_HI)):
        where = t.name(f"getelementptr i8, ptr %s, i64 {t.op('add', at, 8 * number)}")
        t.put(f"store i64 {t.get('S', register)}, ptr {where}")
    t.set("X", Slot.CHAIN, t.op("add", count, 1))
    psr = t.get("S", PSR)
    t.set("S", PSR, t.op("and", psr, ~PSR_LW))
    t.set("S", CR0_LO, _pack_predicates(t))
    t.set("S", CR0_HI, "%ip")
    size, psize = t.field(wd, 19, 0xFF), t.field(wd, 35, 0xFF)
    t.set("S", CR1_LO, _any(
        t, t.op("shl", psr, 57), t.op("shl", t.field(t.get("S", CUIR), 0, 0x1FFFF), 40),
        t.op("shl", "%wbs", 33), t.op("shl", t.op("lshr", psize, 1), 26), t.op("shl", t.field(wd, 48, 1), 25)))
    usd = t.op("lshr", t.get("S", USD_HI), 36)
    t.set("S", CR1_HI, _any(t, t.op("shl", usd, 36), t.op("shl", t.field(wd, 49, 1), 35),
                            t.op("and", t.get("S", BR), 0xFFFFFFF)))
    left = t.op("sub", size, t.op("shl", "%wbs", 1))
    moved = t.op("add", t.op("and", wd, 0x7FF), t.op("shl", "%wbs", 4))
    base = t.op("urem", moved, WINDOW_DOUBLES * 8)
    t.set("S", WD, _any(t, t.op("shl", left, 35), t.op("shl", left, 19), base, str(1 << 48)))
    t.set("X", Slot.BASE, t.op("add", t.get("X", Slot.BASE), t.op("shl", "%wbs", 1)))
    for number in range(3):
        t.set("S", CTPR1 + number, 0)
    t.put("ret void", "}")


def _ask_after_return(t: _Text, before: str, psr: str, cr1_lo: str) -> None:
    """Ask for the executor where PSR changed while an interrupt waits (``Core.masks_changed``), for a last wish
    (PSR.lw of the frame that was left) and for a single step (CR1.lo.ss): they are all rare."""
    wishes = t.op("or", t.op("and", before, PSR_LW), t.field(cr1_lo, 24, 1))
    unlike = t.op("or", t.op("xor", before, psr), wishes)
    t.put(f"br i1 {t.name(f'icmp ne i64 {unlike}, 0')}, label %unlike, label %asked", "unlike:")
    flags = t.name(f"inttoptr i64 {t.word(Word.EXIT)} to ptr")
    place = t.name(f"getelementptr i32, ptr {flags}, i64 3")
    wanted = t.name(f"load i32, ptr {place}")
    wanted = t.name(f"or i32 {wanted}, {t.name(f'trunc i64 {wishes} to i32')}")
    t.put(f"store i32 {wanted}, ptr {place}")
    waits = t.name(f"load volatile i32, ptr {t.name(f'getelementptr i32, ptr {flags}, i64 2')}")
    either = t.name(f"or i32 {waits}, {wanted}")
    t.put(f"br i1 {t.name(f'icmp ne i32 {either}, 0')}, label %ask, label %asked", "ask:",
          f"store volatile i32 1, ptr {t.name(f'getelementptr i32, ptr {flags}, i64 1')}", "br label %asked", "asked:")


def _return(t: _Text) -> None:
    t.put("define void @e2k_return(ptr %s, ptr %c) nounwind {", "entry:")
    cr1_lo, cr1_hi, ip = t.get("S", CR1_LO), t.get("S", CR1_HI), t.get("S", CR0_HI)
    packed, wd = t.get("S", CR0_LO), t.get("S", WD)
    wbs, wpsz = t.field(cr1_lo, 33, 0x7F), t.field(cr1_lo, 26, 0x7F)
    size = t.op("add", t.field(wd, 32, 0x7FF), t.op("shl", wbs, 4))
    moved = t.op("add", t.op("sub", t.op("and", wd, 0x7FF), t.op("shl", wbs, 4)), 2 * WINDOW_DOUBLES * 8)
    base = t.op("urem", moved, WINDOW_DOUBLES * 8)
    dbl = t.field(cr1_hi, 35, 1)
    t.set("S", WD, _any(t, t.op("shl", dbl, 49), t.op("shl", t.field(cr1_lo, 25, 1), 48), t.op("shl", wpsz, 36),
                        t.op("shl", size, 16), base))
    t.set("X", Slot.BASE, t.op("sub", t.get("X", Slot.BASE), t.op("shl", wbs, 1)))
    br, psr = t.op("and", cr1_hi, 0xFFFFFFF), t.op("lshr", cr1_lo, 57)
    t.set("S", BR, br)
    _ask_after_return(t, t.get("S", PSR), psr, cr1_lo)
    t.set("S", PSR, psr)
    t.set("S", CUIR, t.field(cr1_lo, 40, 0x1FFFF))
    usd_hi, usd_lo = t.get("S", USD_HI), t.get("S", USD_LO)
    usd_size = t.op("shl", t.op("lshr", cr1_hi, 36), 4)
    freed = t.op("sub", usd_size, t.op("lshr", usd_hi, 32))
    t.set("S", USD_LO, t.op("or", t.op("and", usd_lo, ~_M48), t.op("and", t.op("add", usd_lo, freed), _M48)))
    t.set("S", USD_HI, t.op("or", t.op("shl", usd_size, 32), t.op("and", usd_hi, 0xFFFFFFFF)))
    _unpack_predicates(t, packed)
    count = t.op("sub", t.get("X", Slot.CHAIN), 1)
    t.set("X", Slot.CHAIN, count)
    at = t.op("add", t.op("shl", count, 5), t.offsets["C"])
    for number, register in enumerate((CR0_LO, CR0_HI, CR1_LO, CR1_HI)):
        where = t.name(f"getelementptr i8, ptr %s, i64 {t.op('add', at, 8 * number)}")
        t.set("S", register, t.name(f"load i64, ptr {where}"))
    for number in range(3):
        t.set("S", CTPR1 + number, 0)
    t.set("X", Slot.PC, t.op("and", ip, _M48))
    upsr, bgr = t.get("S", UPSR), t.get("S", BGR)
    key = _any(t, t.op("lshr", size, 3), t.op("shl", wpsz, 9), t.op("shl", dbl, 16),
               t.op("shl", t.op("and", psr, 1), 17), t.op("shl", t.field(upsr, 2, 1), 18), t.op("shl", br, 19),
               t.op("shl", t.op("and", bgr, 0x7FF), 47))
    t.put(f"store i64 {key}, ptr {t.name(f'getelementptr i64, ptr %c, i64 {int(Word.KEY)}')}", "ret void", "}")


def module(offsets: dict[str, int]) -> str:
    """The IR text. ``offsets`` are those of the CPU state's parts."""
    parts = []
    for write in (_walk, _load, _store, _exchange, _enter, _return):
        text = _Text(offsets)
        write(text)
        parts += text.lines
    return "\n".join(parts) + "\n"


EXPORTED = ("e2k_load", "e2k_store", "e2k_exchange", "e2k_enter", "e2k_return")
"""Names that regions may use."""
