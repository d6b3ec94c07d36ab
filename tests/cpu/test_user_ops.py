"""User-level operations beyond those with golden vectors: flags, fields, moves with tags, segments, records."""

from __future__ import annotations

import random

import pytest

from e2kemu.cpu.isa.table import by_name, rows
from tests.cpu.guest import Guest
from tests.cpu.tiers import Pair

DATA = 0x30000
CF, PF, AF, ZF, SF, OF = 1, 4, 0x10, 0x40, 0x80, 0x800
WIDTHS = {"b": 8, "h": 16, "w": 32, "d": 64}
M64 = (1 << 64) - 1


# --- x86 flags --------------------------------------------------------------------------------------

def signed(a: int, width: int) -> int:
    return a - (1 << width) if a >> width - 1 else a


def common(result: int, width: int) -> int:
    parity = PF if bin(result & 0xFF).count("1") % 2 == 0 else 0
    return (0 if result else ZF) | (SF if result >> width - 1 else 0) | parity


def flags_of(name: str, width: int, a: int, b: int, old: int) -> int:
    """EFLAGS after the x86 operation, from its definition in words: sums with exact integers, shifts bit by bit."""
    mask = (1 << width) - 1
    count = b & (63 if width == 64 else 31)
    a, b = a & mask, b & mask
    if name in ("and", "andn", "or", "orn", "xor", "xorn"):
        second = ~b & mask if name.endswith("n") else b
        result = {"and": a & second, "or": a | second, "xor": a ^ second}[name.rstrip("n") if name != "andn" else "and"]
        return common(result, width)
    if name in ("add", "inc", "sub", "dec"):
        sign = 1 if name in ("add", "inc") else -1
        exact, true = a + sign * b, signed(a, width) + sign * signed(b, width)
        result = exact & mask
        carry = CF if not 0 <= exact <= mask else 0
        if name in ("inc", "dec"):
            carry = old & CF
        adjust = AF if not 0 <= (a & 15) + sign * (b & 15) <= 15 else 0
        overflow = OF if not -(1 << width - 1) <= true < 1 << width - 1 else 0
        return carry | adjust | overflow | common(result, width)
    if name in ("umulx", "smulx"):
        product = a * b if name == "umulx" else signed(a, width) * signed(b, width)
        low = product & mask
        lost = product != (low if name == "umulx" else signed(low, width))
        return (CF | OF if lost else 0) | common(low, width)
    if not count:
        return old & 0x8D5
    value, out, top = a, 0, a >> width - 1
    for _ in range(count):
        if name in ("shl", "scl"):
            out = value >> width - 1
            value = (value << 1 | (out if name == "scl" else 0)) & mask
        else:
            out = value & 1
            fill = {"shr": 0, "sar": value >> width - 1, "scr": out}[name]
            value = value >> 1 | fill << width - 1
    if name == "shl":
        overflow = (value >> width - 1) ^ out
    elif name == "scl":
        out, overflow = value & 1, (value >> width - 1) ^ (value & 1)
    elif name == "scr":
        out, overflow = value >> width - 1, (value >> width - 1) ^ (value >> width - 2 & 1)
    else:
        overflow = top if name == "shr" else 0
    found = (CF if out else 0) | (OF if overflow else 0)
    if name in ("scl", "scr"):
        return found | old & (PF | AF | ZF | SF)
    return found | common(value, width)


FLAG_ROWS = sorted({op.name for op in rows() if op.name[-3:-1] == "_f" and op.name[-1] in WIDTHS})


@pytest.mark.parametrize("name", FLAG_ROWS)
def test_flags_are_those_of_x86(name: str) -> None:
    stem, width = name.split("_f")[0], WIDTHS[name[-1]]
    if not stem.endswith("x"):
        stem = stem[:-1]
    op = by_name(name)[0]
    mark = "d" if width == 64 else ""
    third = ", %r3" if len(op.sizes) == 4 else ""
    pair = Pair(f"{{ {name},3 %{mark}r1, %{mark}r2{third}, %r4 }}")
    rng = random.Random(name)
    edges = [0, 1, 2, (1 << width - 1) - 1, 1 << width - 1, (1 << width) - 1, 8, 15, 31, 32, 33, 63, width, width + 1]
    for _ in range(60):
        a, b = (rng.choice((rng.choice(edges), rng.getrandbits(64))) for _ in range(2))
        old = rng.getrandbits(32)
        guest, end = pair.run(r1=a, r2=b, r3=old, r4=0)
        assert end == ""
        assert guest.state["r4"] == flags_of(stem, width, a, b, old), (hex(a), hex(b), hex(old))


def test_there_are_flags_of_all_operations_and_widths() -> None:
    assert len(FLAG_ROWS) == 15 * 4 + 2 * 3


@pytest.mark.parametrize("condition", ["o", "b", "e", "be", "s", "p", "l", "le"])
def test_conditions_of_flags_are_those_of_x86(condition: str) -> None:
    pair = Pair(f"{{ cctop{condition},0 %r2, %pred3 }}")
    for code in range(64):
        cf, zf, sf, of, pf, other = (code >> i & 1 for i in range(6))
        word = cf * CF | zf * ZF | sf * SF | of * OF | pf * PF | other * (M64 & ~(CF | ZF | SF | OF | PF))
        expected = {"o": of, "b": cf, "e": zf, "be": cf | zf, "s": sf, "p": pf, "l": sf ^ of, "le": zf | sf ^ of}
        guest, _ = pair.run(r2=word, pred3=0)
        assert guest.state["pred3"] == expected[condition]
    assert pair.run(r2=0, r2_tag=1)[1] == "exc_diag_operand"


# --- moves with tags --------------------------------------------------------------------------------

@pytest.mark.parametrize(("name", "tag", "result"), [
    ("movtrd", 0, 0), ("movtrd", 5, 5), ("movtrd", 10, None), ("movtrcd", 0, 0), ("movtrcd", 4, None),
    ("movtrcd", 5, None), ("movtrs", 1, 1), ("movtrs", 2, None), ("movtrcs", 0, 0)])
def test_reference_moves_copy_numbers_and_refuse_descriptors(name: str, tag: int, result: int | None) -> None:
    size = "dr" if name.endswith("d") else "r"
    guest, end = Pair(f"{{ {name},0 %{size}2, %{size}4 }}").run(r2=0x12345678, r2_tag=tag, r4=0)
    if result is None:
        assert end == ("exc_diag_operand" if tag in (1, 4, 5) else "exc_illegal_operand")
    else:
        assert (end, guest.state["r4"], guest.state["r4.tag"]) == ("", 0x12345678, result)


@pytest.mark.parametrize(("name", "tags", "end"), [
    ("movtq", (5, 10), ""), ("movtq", (0, 0), ""), ("movtcq", (0, 0), ""), ("movtcq", (0, 5), "exc_diag_operand"),
    ("movtrq", (0, 5), ""), ("movtrq", (12, 0), "exc_illegal_operand"), ("movtrcq", (0, 0), "")])
def test_a_pair_moves_with_both_tags(name: str, tags: tuple[int, int], end: str) -> None:
    guest, found = Pair(f"{{ {name},0 %qr2, %qr6 }}").run(r2=11, r3=22, r2_tag=tags[0], r3_tag=tags[1])
    assert found == end
    if not end:
        state = guest.state
        assert (state["r6"], state["r7"], state["r6.tag"], state["r7.tag"]) == (11, 22, *tags)


def test_a_pair_that_ends_outside_of_the_window_traps() -> None:
    assert Pair("{ movtq,0 %qr2, %qr16 }").run(r2=1, r3=2)[1] == "exc_window_bounds"


def test_a_128_bit_register_gets_the_tag_of_its_low_half() -> None:
    pair = Pair("{ puttagqp,0 %qpr2, %r1, %qpr4 }", "e8c2")
    guest, end = pair.run(r1=0xF5, r2=1, r2_ext=2, r4=0)
    assert (end, guest.state["r4"], guest.state["r4.ext"], guest.state["r4.tag"]) == ("", 1, 2, 5)
    assert pair.run(r1=0, r1_tag=1)[1] == "exc_diag_operand"


@pytest.mark.parametrize(("tag", "kind"), [(0, 4), (1, 1)])
def test_getpl_prepares_a_transfer_to_a_32_bit_address(tag: int, kind: int) -> None:
    guest, end = Pair("{ getpl,0 %r2, %ctpr1 }").run(r2=0xFFFF_FFFF_8000_0040, r2_tag=tag)
    assert (end, guest.state["ctpr1"]) == ("", 0x8000_0040 | kind << 54)
    guest, _ = Pair("{ getpl,0 %r2, %dr4 }").run(r2=0xFFFF_FFFF_8000_0040, r4=0)
    assert guest.state["r4"] == 0x8000_0040
    assert Pair("{ getpl,0 %r2, %dr4 }").run(r2=1, r2_tag=2)[1] == "exc_illegal_operand"


# --- fields -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["getfzs", "getfzd"])
def test_a_field_loses_its_low_bits(name: str) -> None:
    """Recomputed with text: characters of the binary number are turned, cut, extended and zeroed."""
    width = 32 if name.endswith("s") else 64
    size = "r" if width == 32 else "dr"
    pair = Pair(f"{{ {name},0 %{size}1, %{size}2, %{size}4 }}", "e8c2")
    rng = random.Random(name)
    for _ in range(100):
        a, b = rng.getrandbits(width), rng.getrandbits(width)
        offset, length, fill, zeros = b % width, (b >> 6) % width, b >> 12 & 1, b >> 13 & 7
        text = f"{a:0{width}b}"
        turned = text[width - offset:] + text[: width - offset]
        cut = turned[width - length:] if length else ""
        top = turned[width - length] if length else turned[0]
        whole = cut.rjust(width, top if fill else "0")
        expected = int(whole[: width - zeros] + "0" * zeros, 2)
        guest, _ = pair.run(r1=a, r2=b, r4=0)
        assert guest.state["r4"] == expected, (hex(a), hex(b))


# --- segments ---------------------------------------------------------------------------------------

SEGMENTS = ("cs", "ds", "es", "fs", "gs", "ss", "gd", "cud")


def described(guest: Guest, segment: str, size: int, rights: int = 3) -> None:
    guest.state[f"{segment}.lo"], guest.state[f"{segment}.hi"] = DATA | rights << 59, size << 32
    guest.space.write_bytes(DATA, bytes(range(1, 65)))


class Segment(Pair):
    """A pair with one segment of 64 bytes at DATA."""

    def __init__(self, text: str, segment: str, *, size: int = 64, rights: int = 3, model: str = "e8c") -> None:
        super().__init__(text, model)
        self.describe = segment, size, rights

    def run(self, **registers: int) -> tuple[Guest, str]:
        for guest in self.guests:
            described(guest, *self.describe)
        segment, size, rights = self.describe
        registers[f"{segment}_lo"], registers[f"{segment}_hi"] = DATA | rights << 59, size << 32
        return super().run(**registers)


@pytest.mark.parametrize("segment", SEGMENTS)
def test_loads_and_stores_of_a_segment_stay_inside(segment: str) -> None:
    for letter, size in (("b", 1), ("h", 2), ("w", 4), ("d", 8)):
        pair = Segment(f"{{ ld{segment}{letter},0 %r1, %r2, %dr4 }}", segment)
        guest, end = pair.run(r1=0xFFFFFFFF, r2=5, r4=0)
        assert (end, guest.state["r4"]) == ("", int.from_bytes(bytes(range(5, 5 + size)), "little"))
        assert pair.run(r1=64 - size, r2=0)[1] == ""
        assert pair.run(r1=64 - size, r2=1)[1] == "exc_array_bounds"
        assert pair.run(r1=0, r2=0, r2_tag=1)[1] == "exc_diag_operand"
        guest, end = Segment(f"{{ ld{segment}{letter},0,sm %r1, %r2, %dr4 }}", segment).run(r1=64, r2=0)
        assert (end, guest.state["r4.tag"]) == ("", 5)
        if segment != "cud":
            mark = "dr" if letter == "d" else "r"
            text = f"{{ st{segment}{letter},2 %{mark}4, [ %r1 + %r2 ] }}"
            pair = Segment(text, segment)
            guest, end = pair.run(r1=8, r2=8, r4=M64)
            assert (end, guest.space.read(DATA + 16, 8)) == ("", int.from_bytes(
                b"\xff" * size + bytes(range(17 + size, 25)), "little"))
            assert pair.run(r1=64, r2=0)[1] == "exc_array_bounds"


def test_quads_and_128_bits_of_a_segment() -> None:
    guest, end = Segment("{ lddsq,0 %dr1, 16, %qr4 }", "ds").run(r1=0)
    assert (end, guest.state["r5"]) == ("", int.from_bytes(bytes(range(25, 33)), "little"))
    guest, end = Segment("{ ldgdqp,0 %r1, 16, %qpr4 }", "gd", model="e8c2").run(r1=0)
    assert (end, guest.state["r4.ext"]) == ("", int.from_bytes(bytes(range(25, 33)), "little"))
    pair = Segment("{ stgsmqp,2 %qpr4, [ %dr1 + %dr2 ] }", "gs", model="e8c2")
    guest, end = pair.run(r1=16, r2=0x8001, r4=0xAA, r4_ext=0xBB << 56)
    assert (end, guest.space.read(DATA + 16, 1), guest.space.read(DATA + 17, 1), guest.space.read(DATA + 31, 1)) == (
        "", 0xAA, 18, 0xBB)


@pytest.mark.parametrize(("text", "rights", "end"), [
    ("ldgdb,0 %r1, 0, %dr4", 1, ""), ("ldgdb,0 %r1, 0, %dr4", 2, "exc_access_rights"),
    ("stgdb,2 %r4, [ %r1 + 0 ]", 2, ""), ("stgdb,2 %r4, [ %r1 + 0 ]", 1, "exc_access_rights")])
def test_globals_have_rights(text: str, rights: int, end: str) -> None:
    assert Segment(f"{{ {text} }}", "gd", rights=rights).run(r1=0, r4=0)[1] == end


def test_a_segment_that_was_never_set_holds_nothing() -> None:
    assert Pair("{ ldfsb,0 %r1, 0, %dr4 }").run(r1=0)[1] == "exc_array_bounds"


# --- records of the trap cellar ---------------------------------------------------------------------

@pytest.mark.parametrize("code", range(8))
def test_a_recorded_access_is_repeated_in_its_size(code: int) -> None:
    record, data = code << 40 | 8, bytes(range(1, 33))
    load, store = Pair("{ ldrd,0 %dr1, %dr2, %dr4 }"), Pair("{ strd,2 %dr4, [ %dr1 + %dr2 ] }")
    for pair in (load, store):
        for guest in pair.guests:
            guest.space.write_bytes(DATA, data)
    guest, end = load.run(r1=DATA, r2=record, r4=0)
    stored, end2 = store.run(r1=DATA, r2=record, r4=M64)
    if code not in (1, 2, 3, 4):
        assert (end, end2) == ("exc_illegal_operand",) * 2
        return
    size = 1 << code - 1
    assert (end, guest.state["r4"]) == ("", int.from_bytes(data[8 : 8 + size], "little"))
    assert (end2, stored.space.read_bytes(DATA, 32)) == ("", data[:8] + b"\xff" * size + data[8 + size :])


# --- array pointers ---------------------------------------------------------------------------------

def pointer(low: int = DATA | 3 << 59, high: int = 64 << 32 | 8, tags: tuple[int, int] = (15, 12)) -> dict[str, int]:
    """%r6 and %r7: 64 bytes at DATA, at offset 8."""
    return {"r6": low, "r7": high, "r6_tag": tags[0], "r7_tag": tags[1]}


@pytest.mark.parametrize(("letter", "size"), [("b", 1), ("h", 2), ("w", 4), ("d", 8)])
def test_accesses_through_an_array_pointer(letter: str, size: int) -> None:
    load = Pair(f"{{ ldap{letter},0 %qr6, %r2, %dr4 }}")
    mark = "dr" if letter == "d" else "r"
    store = Pair(f"{{ stap{letter},2 %{mark}4, [ %qr6 + %r2 ] }}")
    data = bytes(range(1, 65))
    for pair in (load, store):
        for guest in pair.guests:
            guest.space.write_bytes(DATA, data)
    guest, end = load.run(**pointer(), r2=0xFFFF_FFFC, r4=0)
    assert (end, guest.state["r4"]) == ("", int.from_bytes(data[4 : 4 + size], "little"))
    guest, end = store.run(**pointer(), r2=8, r4=M64)
    assert (end, guest.space.read_bytes(DATA, 64)) == ("", data[:16] + b"\xff" * size + data[16 + size :])
    for pair in (load, store):
        assert pair.run(**pointer(), r2=56 - size, r4=0)[1] == ""
        assert pair.run(**pointer(), r2=57 - size, r4=0)[1] == "exc_array_bounds"
        assert pair.run(**pointer(), r2=M64 - 8, r4=0)[1] == "exc_array_bounds"
        assert pair.run(**pointer(tags=(0, 0)), r2=0, r4=0)[1] == "exc_illegal_operand"
        assert pair.run(**pointer(tags=(15, 0)), r2=0, r4=0)[1] == "exc_illegal_operand"
        assert pair.run(**pointer(tags=(5, 12)), r2=0, r4=0)[1] == "exc_diag_operand"
        assert pair.run(**pointer(low=DATA | 3 << 59 | 4 << 61), r2=0, r4=0)[1] == "exc_illegal_operand"
        assert pair.run(**pointer(), r2=0, r2_tag=1, r4=0)[1] == "exc_diag_operand"
    assert load.run(**pointer(low=DATA | 2 << 59), r2=0)[1] == "exc_access_rights"
    assert store.run(**pointer(low=DATA | 1 << 59), r2=0, r4=0)[1] == "exc_access_rights"


def test_pairs_and_speculation_through_an_array_pointer() -> None:
    load = Pair("{ ldapq,0 %qr6, 8, %qr4 }", "e8c2")
    for guest in load.guests:
        guest.space.write_bytes(DATA, bytes(range(1, 65)))
    guest, end = load.run(**pointer())
    assert (end, guest.state["r5"]) == ("", int.from_bytes(bytes(range(25, 33)), "little"))
    guest, end = Pair("{ ldapd,0,sm %qr6, %r2, %dr4 }").run(**pointer(tags=(0, 0)), r2=0)
    assert (end, guest.state["r4.tag"]) == ("", 5)


# --- byte order -------------------------------------------------------------------------------------

@pytest.mark.parametrize(("letter", "size"), [("b", 1), ("h", 2), ("w", 4), ("d", 8)])
@pytest.mark.parametrize("model", ["e8c", "e16c"])
def test_big_endian_accesses_reverse_the_bytes(letter: str, size: int, model: str) -> None:
    load = Pair(f"{{ ld{letter},0 [ %dr1 + 1 ], %dr4, mas=8 }}", model)
    mark = "dr" if letter == "d" else "r"
    store = Pair(f"{{ st{letter},2 %{mark}4, [ %dr1 + 1 ], mas=8 }}", model)
    data = bytes(range(1, 33))
    for pair in (load, store):
        for guest in pair.guests:
            guest.space.write_bytes(DATA, data)
    guest, end = load.run(r1=DATA, r4=0)
    assert (end, guest.state["r4"]) == ("", int.from_bytes(data[1 : 1 + size], "big"))
    value = 0x1122334455667788 & (1 << 8 * size) - 1
    guest, end = store.run(r1=DATA, r4=0x1122334455667788)
    assert (end, guest.space.read_bytes(DATA, 32)) == ("", data[:1] + value.to_bytes(size, "big") + data[1 + size :])
    guest, end = Pair(f"{{ ld{letter},0,sm [ %dr1 + 1 ], %dr4, mas=8 }}", model).run(r1=1 << 50, r4=0)
    assert (end, guest.state["r4"], guest.state["r4.tag"]) == ("", 0x4AFAFAFA4AFAFAFA, 5)


def test_from_v6_on_the_order_of_memory_is_no_byte_order() -> None:
    pair = Pair("{ ldd,0 [ %dr1 + 0 ], %dr4, mas=0x1b }", "e16c")
    for guest in pair.guests:
        guest.space.write(DATA, 8, 0x1122)
    assert pair.run(r1=DATA)[0].state["r4"] == 0x1122
