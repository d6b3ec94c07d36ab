"""vmstate: the bytes are QEMU's, what was saved loads, and a broken body is named by its field."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2kemu.clock import VirtualClock
from e2kemu.devices import vmstate as vm
from e2kemu.errors import StreamError
from e2kemu.wire import BytesReader, Writer


def saved(state: vm.VMState, obj: Any) -> bytes:
    w = Writer()
    state.save(w, obj)
    return w.getvalue()


def loaded(state: vm.VMState, data: bytes, obj: Any, version: int | None = None) -> Any:
    r = BytesReader(data)
    state.load(r, obj, state.version if version is None else version)
    assert r.remaining == 0, "the body was not read to its end"
    return obj


ENCODINGS: list[tuple[vm.Field, Any, str]] = [
    (vm.boolean("x"), True, "01"),
    (vm.u8("x"), 0xAB, "ab"),
    (vm.u16("x"), 0xABCD, "abcd"),
    (vm.u32("x"), 1, "00000001"),
    (vm.u64("x"), 1 << 63, "8000000000000000"),
    (vm.i8("x"), -1, "ff"),
    (vm.i16("x"), -2, "fffe"),
    (vm.i32("x"), -2, "fffffffe"),
    (vm.i64("x"), -2, "fffffffffffffffe"),
    (vm.equal(vm.u16("x")), 7, "0007"),
    (vm.at_most(vm.i32("x")), 7, "00000007"),
    (vm.buffer("x", 3), b"abc", "616263"),
    (vm.bitmap("x", 65), (1 << 64) | 2, "0000000000000002" "0000000000000001"),
    (vm.array(vm.u16("x"), 3), [1, 2, 3], "000100020003"),
]


@pytest.mark.parametrize(("field", "value", "hexa"), ENCODINGS, ids=lambda v: str(v)[:30])
def test_each_type_has_the_bytes_of_the_format(field: vm.Field, value: Any, hexa: str) -> None:
    assert len(ENCODINGS) >= 14
    state = vm.VMState("dev", 1, [field])
    assert saved(state, SimpleNamespace(x=value)).hex() == hexa
    here = SimpleNamespace(x=value if "equal" in field.codec.type or " le" in field.codec.type else None)
    assert loaded(state, bytes.fromhex(hexa), here).x == value


def test_a_timer_travels_as_its_expiry_and_all_ones_when_not_armed() -> None:
    clock = VirtualClock()
    one, two = clock.timer(lambda: None), clock.timer(lambda: None)
    one.arm(0x1234)
    state = vm.VMState("dev", 1, [vm.timer("a"), vm.timer("b")])
    data = saved(state, SimpleNamespace(a=one, b=two))
    assert data.hex() == "0000000000001234" "ffffffffffffffff"
    there = SimpleNamespace(a=clock.timer(lambda: None), b=one)
    loaded(state, data, there)
    assert (there.a.expire, there.b.expire) == (0x1234, None)


def test_unused_bytes_are_zeroes_and_skipped() -> None:
    state = vm.VMState("dev", 1, [vm.unused(2), vm.u8("x")])
    assert saved(state, SimpleNamespace(x=5)).hex() == "000005"
    assert loaded(state, bytes.fromhex("ffff06"), SimpleNamespace(x=0)).x == 6


def test_numpy_arrays_are_loaded_in_place() -> None:
    state = vm.VMState("dev", 1, [vm.array(vm.u64("regs"), 3)])
    regs = np.array([1, 2, 1 << 63], dtype=np.uint64)
    data = saved(state, SimpleNamespace(regs=regs))
    assert data.hex() == "0000000000000001" "0000000000000002" "8000000000000000"
    there = np.zeros(3, dtype=np.uint64)
    loaded(state, data, SimpleNamespace(regs=there))
    assert (there == regs).all()


def test_a_count_comes_from_an_earlier_field_and_has_a_limit() -> None:
    state = vm.VMState("dev", 1, [vm.u32("n"), vm.vbuffer("data", "n", limit=4), vm.varray(vm.u16("w"), "n")])
    data = saved(state, SimpleNamespace(n=2, data=b"xy", w=[1, 2, 3]))
    assert data.hex() == "00000002" "7879" "00010002"
    there = loaded(state, data, SimpleNamespace(n=0, data=b"", w=[]))
    assert (there.n, there.data, there.w) == (2, b"xy", [1, 2])
    wanted = "Failed to load dev:data: n is 5, at most 4 are possible at offset 0x4"
    with pytest.raises(StreamError, match=wanted):
        loaded(state, bytes.fromhex("00000005") + bytes(100), SimpleNamespace(n=0, data=b"", w=[]))


PART = vm.VMState("part", 3, [vm.u8("a"), vm.u8("b").since(3)], minimum_version=2)


def test_a_struct_has_no_header_and_takes_the_version_of_its_own_declaration() -> None:
    state = vm.VMState("dev", 1, [vm.struct("p", PART), vm.struct("q", PART, version=2)])
    obj = SimpleNamespace(p=SimpleNamespace(a=1, b=2), q=SimpleNamespace(a=3, b=4))
    assert saved(state, obj).hex() == "010203"
    there = SimpleNamespace(p=SimpleNamespace(a=0, b=0), q=SimpleNamespace(a=0, b=9))
    loaded(state, bytes.fromhex("010203"), there)
    assert (there.p.a, there.p.b, there.q.a, there.q.b) == (1, 2, 3, 9)


def test_absent_pointers_and_lists_have_their_marks() -> None:
    parts = [SimpleNamespace(a=1, b=2), None]
    state = vm.VMState("dev", 1, [vm.pointers(vm.struct("p", PART), 2)])
    assert saved(state, SimpleNamespace(p=parts)).hex() == "010230"
    there = SimpleNamespace(p=[SimpleNamespace(a=0, b=0), None])
    loaded(state, bytes.fromhex("050630"), there)
    assert there.p[0].a == 5
    with pytest.raises(StreamError, match="Failed to load dev:p: element present that is absent here"):
        loaded(state, bytes.fromhex("050601"), there)
    chain = vm.VMState("dev", 1, [vm.sequence("s", PART, lambda: SimpleNamespace(a=0, b=0), limit=2)])
    data = saved(chain, SimpleNamespace(s=parts[:1]))
    assert data.hex() == "01010200"
    assert loaded(chain, data, SimpleNamespace(s=[])).s[0].b == 2
    with pytest.raises(StreamError, match="more than 2 elements"):
        loaded(chain, bytes.fromhex("010101" * 3 + "00"), SimpleNamespace(s=[]))


def test_a_field_is_there_by_version_or_by_its_own_rule() -> None:
    fields = [vm.u8("a"), vm.u8("b").since(2), vm.u8("c").when(lambda obj, version: obj.a == 1)]
    state = vm.VMState("dev", 2, fields, minimum_version=1)
    assert saved(state, SimpleNamespace(a=1, b=2, c=3)).hex() == "010203"
    assert saved(state, SimpleNamespace(a=0, b=2, c=3)).hex() == "0002"
    old = loaded(state, bytes.fromhex("00"), SimpleNamespace(a=9, b=9, c=9), version=1)
    assert (old.a, old.b, old.c) == (0, 9, 9)


def test_versions_outside_of_the_range_are_refused_with_qemus_words() -> None:
    state = vm.VMState("dev", 4, [vm.u8("a")], minimum_version=2)
    with pytest.raises(StreamError, match="dev: incoming version_id 5 is too new for local version_id 4"):
        loaded(state, b"\0", SimpleNamespace(a=0), version=5)
    with pytest.raises(StreamError, match="version_id 1 is too old for local minimum version_id  2"):
        loaded(state, b"\0", SimpleNamespace(a=0), version=1)


def test_a_value_that_must_agree_is_checked() -> None:
    with pytest.raises(StreamError, match="Failed to load dev:x: 10 != 11 at offset 0x0"):
        loaded(vm.VMState("dev", 1, [vm.equal(vm.u8("x"))]), b"\x11", SimpleNamespace(x=16))
    with pytest.raises(StreamError, match="Failed to load dev:x: 4 is above 3"):
        loaded(vm.VMState("dev", 1, [vm.at_most(vm.i32("x"))]), b"\0\0\0\4", SimpleNamespace(x=3))


def nested() -> vm.VMState:
    grandchild = vm.VMState("dev/sub/deep", 1, [vm.u8("deep")], needed=lambda obj: obj.deep)
    child = vm.VMState("dev/sub", 2, [vm.u8("sub")], subsections=[grandchild], needed=lambda obj: obj.sub)
    other = vm.VMState("dev/other", 1, [vm.u8("other")], needed=lambda obj: obj.other)
    return vm.VMState("dev", 1, [vm.u8("x")], subsections=[child, other])


@pytest.mark.parametrize("bits", range(8))
def test_subsections_travel_only_when_needed_and_may_nest(bits: int) -> None:
    obj = SimpleNamespace(x=9, sub=bits & 1, deep=bits & 2, other=bits & 4)
    data = saved(nested(), obj)
    there = loaded(nested(), data, SimpleNamespace(x=0, sub=0, deep=0, other=0))
    deep = bits & 2 if bits & 1 else 0
    assert (there.x, there.sub, there.deep, there.other) == (9, bits & 1, deep, bits & 4)


@pytest.mark.parametrize("strange", ["\n", "\x1c", "\x85", "\u2028", "\0"])
def test_what_a_stream_error_quotes_is_one_printable_line(strange: str) -> None:
    name = f"dev/{strange}".encode()
    obj = SimpleNamespace(x=0, sub=0, deep=0, other=0)
    with pytest.raises(StreamError, match=r"VM subsection 'dev/\\") as raised:
        loaded(nested(), b"\x09\x05" + bytes([len(name)]) + name + b"\0\0\0\1", obj)
    assert str(raised.value).isprintable()
    assert str(StreamError("bad", section=f"a{strange}")).isprintable()


def test_the_bytes_of_a_subsection() -> None:
    data = saved(nested(), SimpleNamespace(x=9, sub=1, deep=0, other=0))
    assert data == b"\x09" + b"\x05\x07dev/sub" + b"\0\0\0\2" + b"\x01"


def test_an_unknown_subsection_of_ours_is_an_error_and_a_foreign_one_is_left_for_the_parent() -> None:
    obj = SimpleNamespace(x=0, sub=0, deep=0, other=0)
    with pytest.raises(StreamError, match="VM subsection 'dev/new' in 'dev' does not exist at offset 0x1"):
        loaded(nested(), b"\x09\x05\x07dev/new\0\0\0\1", obj)
    r = BytesReader(b"\x09\x05\x09frame/new\0\0\0\1")
    nested().load(r, obj, 1)
    assert r.position == 1


def test_hooks_run_and_their_complaint_names_the_state() -> None:
    seen: list[str] = []

    def check(obj: Any, version: int) -> None:
        seen.append(f"post {version}")
        if obj.a > 9:
            raise ValueError(f"a is {obj.a}")

    state = vm.VMState(
        "dev", 1, [vm.u8("a")],
        pre_save=lambda obj: seen.append("save"), pre_load=lambda obj: seen.append("pre"), post_load=check,
    )  # fmt: skip
    data = saved(state, SimpleNamespace(a=3))
    loaded(state, data, SimpleNamespace(a=0))
    assert seen == ["save", "pre", "post 1"]
    with pytest.raises(StreamError, match="dev: a is 10"):
        loaded(state, b"\x0a", SimpleNamespace(a=0))


def test_the_description_has_qemus_keys() -> None:
    state = vm.VMState(
        "dev", 2,
        [
            vm.u8("a"), vm.unused(4), vm.unused(8), vm.array(vm.u32("regs"), 3), vm.array(vm.u32("one"), 1),
            vm.array(vm.struct("parts", PART), 2), vm.equal(vm.u8("n")),
        ],
        subsections=[vm.VMState("dev/sub", 1, [vm.buffer("b", 2)])],
    )  # fmt: skip
    part = SimpleNamespace(a=0, b=0)
    obj = SimpleNamespace(a=1, regs=[1, 2, 3], one=[1], parts=[part, part], n=1, b=b"xy")
    section = vm.VMStateSection(obj, state, 1)
    fields = [{"name": "a", "type": "uint8", "size": 1}, {"name": "b", "type": "uint8", "size": 1}]
    assert section.vmdesc() == {
        "name": "dev",
        "instance_id": 1,
        "vmsd_name": "dev",
        "version": 2,
        "fields": [
            {"name": "a", "type": "uint8", "size": 1},
            {"name": "unused[0]", "type": "unused_buffer", "size": 4},
            {"name": "unused[1]", "type": "unused_buffer", "size": 8},
            {"name": "regs", "array_len": 3, "type": "uint32", "size": 4},
            {"name": "one", "type": "uint32", "size": 4},
            {
                "name": "parts", "array_len": 2, "type": "struct",
                "struct": {"vmsd_name": "part", "version": 3, "fields": fields}, "size": 2,
            },
            {"name": "n", "type": "uint8 equal", "size": 1},
        ],
        "subsections": [
            {"vmsd_name": "dev/sub", "version": 1, "fields": [{"name": "b", "type": "buffer", "size": 2}]}
        ],
    }  # fmt: skip


def test_an_array_whose_elements_differ_is_described_one_by_one() -> None:
    part = vm.VMState("part", 1, [vm.u8("a"), vm.u8("b").when(lambda obj, version: obj.a)])
    state = vm.VMState("dev", 1, [vm.array(vm.struct("p", part), 2)])
    parts = [SimpleNamespace(a=0, b=0), SimpleNamespace(a=1, b=0)]
    entries = state.describe(SimpleNamespace(p=parts))["fields"]
    assert [(e["index"], e["size"], "array_len" in e) for e in entries] == [(0, 1, False), (1, 2, False)]


def test_a_declaration_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="minimum version 3"):
        vm.VMState("dev", 2, minimum_version=3)
    with pytest.raises(ValueError, match="is not called 'dev/"):
        vm.VMState("dev", 1, subsections=[vm.VMState("other/sub", 1)])
    with pytest.raises(ValueError, match="dev:x is newer"):
        _ = vm.VMState("dev", 1, [vm.u8("x").since(2)]).fields


@given(
    st.integers(0, 2**64 - 1), st.integers(-(2**31), 2**31 - 1), st.binary(max_size=40),
    st.lists(st.integers(0, 65535), max_size=9), st.integers(0, 2**100 - 1), st.booleans(),
)  # fmt: skip
def test_whatever_is_saved_loads_and_every_cut_is_refused_with_its_place(
    big: int, small: int, data: bytes, words: list[int], bits: int, flag: bool
) -> None:
    sub = vm.VMState("dev/flag", 1, [vm.boolean("flag")], needed=lambda obj: obj.flag)
    state = vm.VMState(
        "dev", 1,
        [
            vm.u64("big"), vm.i32("small"), vm.u16("n"), vm.vbuffer("data", "n"), vm.u8("m"),
            vm.varray(vm.u16("words"), "m"), vm.bitmap("bits", 100),
        ],
        subsections=[sub],
    )  # fmt: skip
    obj = SimpleNamespace(
        big=big, small=small, n=len(data), data=data, m=len(words), words=words, bits=bits, flag=flag
    )
    body = saved(state, obj)
    empty = {"big": 0, "small": 0, "n": 0, "data": b"", "m": 0, "words": [], "bits": 0, "flag": False}
    there = loaded(state, body, SimpleNamespace(**empty))
    assert there == obj
    for cut in range(len(body) - (15 if flag else 0)):
        with pytest.raises(StreamError) as caught:
            state.load(BytesReader(body[:cut]), SimpleNamespace(**empty), 1)
        assert caught.value.offset is not None
