"""The XBZRLE code: against a slow model in plain Python, QEMU's examples and whoever sends nonsense; the cache."""

from __future__ import annotations

import subprocess
import sys
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2kemu.errors import StreamError
from e2kemu.migration.compress import PackedPage, Unpacker
from e2kemu.migration.qemufile import StreamReader
from e2kemu.migration.ram_load import RamLoader
from e2kemu.migration.stream_ram import decode_xbzrle
from e2kemu.migration.xbzrle import RECORD_HEAD, DecodeError, decode_pages, encode_pages
from e2kemu.migration.xbzrle_cache import PageCache, places_for
from tests.migration.test_ram import Memory
from tests.migration.toy import PAGE, ToyMachine

RNG = np.random.default_rng(11)


def number(value: int) -> bytes:
    """ULEB128 of one or two bytes."""
    return bytes([value]) if value < 0x80 else bytes([value & 0x7F | 0x80, value >> 7])


def model_encode(old: bytes, new: bytes) -> bytes | None:
    """The code of ``new``, byte by byte; None: longer than a page."""
    out, at = b"", 0
    while True:
        equal = 0
        while at < PAGE and old[at] == new[at]:
            at, equal = at + 1, equal + 1
        if at == PAGE:
            return out if len(out) <= PAGE else None
        start = at
        while at < PAGE and old[at] != new[at]:
            at += 1
        out += number(equal) + number(at - start) + new[start:at]


def encode(old: bytes, new: bytes) -> bytes | None:
    """One page by our encoder."""
    pages = [np.frombuffer(page, dtype=np.uint8).reshape(1, PAGE) for page in (old, new)]
    encoded = encode_pages(*pages)
    length = int(encoded.lengths[0])
    if length < 0:
        assert not len(encoded.records)
        return None
    if not length:
        return b""
    assert encoded.records[8:RECORD_HEAD].tobytes() == b"\x01" + length.to_bytes(2, "big")
    return encoded.records[RECORD_HEAD:].tobytes()


def decode(code: bytes, old: bytes) -> bytes:
    """One page by our decoder."""
    page, data = np.frombuffer(old, dtype=np.uint8).copy(), np.frombuffer(code, dtype=np.uint8)
    decode_pages(data, [0], [len(code)], [0], page)
    return page.tobytes()


def changed(old: bytes, runs: list[tuple[int, int]]) -> bytes:
    """``old`` with other bytes in ``runs`` (place, size)."""
    new = bytearray(old)
    for at, size in runs:
        for place in range(at, min(at + size, PAGE)):
            new[place] ^= 1 + (place * 7) % 255
    return bytes(new)


OLD = RNG.integers(0, 256, PAGE, dtype=np.uint8).tobytes()
RUNS = st.lists(st.tuples(st.integers(0, PAGE - 1), st.one_of(st.integers(1, 9), st.integers(1, PAGE))), max_size=40)
MANY = st.tuples(st.integers(2, 9), st.integers(0, PAGE)).map(
    lambda step: [(at, 1 + at % (step[0] - 1 or 1)) for at in range(0, step[1], step[0])]
)


@settings(max_examples=150, deadline=None)
@given(st.one_of(RUNS, MANY))
def test_encode_decode(runs: list[tuple[int, int]]) -> None:
    new = changed(OLD, runs)
    code = encode(OLD, new)
    assert code == model_encode(OLD, new)
    if code:
        assert decode(code, OLD) == new
        assert decode_xbzrle(code, OLD, 0) == new  # the walker's own decoder


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(RUNS, MANY), min_size=1, max_size=40))
def test_many_pages_at_once_are_encoded_and_decoded_as_each_alone(pages: list[list[tuple[int, int]]]) -> None:
    old = np.frombuffer(OLD * len(pages), dtype=np.uint8).reshape(-1, PAGE)
    news = [changed(OLD, runs) for runs in pages]
    encoded = encode_pages(old, np.frombuffer(b"".join(news), dtype=np.uint8).reshape(-1, PAGE))
    codes = [model_encode(OLD, new) for new in news]
    assert encoded.lengths.tolist() == [-1 if code is None else len(code) for code in codes]
    sent = np.flatnonzero(encoded.lengths > 0)
    starts = encoded.starts + RECORD_HEAD
    ends = starts + encoded.lengths[sent]
    for page, start, end in zip(sent, starts, ends, strict=True):
        assert encoded.records[start:end].tobytes() == codes[page]
    if len(sent):
        memory = old.reshape(-1).copy()
        decode_pages(encoded.records, starts.tolist(), ends.tolist(), (sent * PAGE).tolist(), memory)
        for page in sent:
            assert memory[page * PAGE : (page + 1) * PAGE].tobytes() == news[page]


def test_more_pages_than_are_done_at_once() -> None:
    count = 1000
    old = RNG.integers(0, 256, (count, PAGE), dtype=np.uint8)
    new = old.copy()
    new[:, 5] ^= 1
    new[10] = old[10]
    new[999] = RNG.integers(0, 256, PAGE, dtype=np.uint8)
    encoded = encode_pages(old, new)
    assert (encoded.lengths == 3).sum() == count - 2
    assert encoded.lengths[[10, 999]].tolist() == [0, -1]
    record = RECORD_HEAD + 3
    assert encoded.starts.tolist() == [record * number for number in range(count - 2)]
    places = encoded.starts[:, None] + np.arange(8, record)
    expected = np.array([1, 0, 3, 5, 1], dtype=np.uint8)
    assert (encoded.records[places][:, :5] == expected).all()


def test_encode_decode_zero() -> None:
    new = changed(bytes(PAGE), [(17, 3), (1000, 200)])
    code = encode(bytes(PAGE), new)
    assert code is not None
    assert decode(code, bytes(PAGE)) == new
    assert decode(encode(new, bytes(PAGE)) or b"", new) == bytes(PAGE)


def test_encode_decode_unchanged() -> None:
    assert encode(OLD, OLD) == b""
    assert encode(bytes(PAGE), bytes(PAGE)) == b""


def test_encode_decode_1_byte() -> None:
    for at in (0, 1, 127, 128, 4094, 4095):
        new = changed(OLD, [(at, 1)])
        assert encode(OLD, new) == number(at) + b"\x01" + new[at : at + 1]


def test_encode_decode_overflow() -> None:
    # 2048 runs of one byte cost three each
    assert encode(OLD, changed(OLD, [(at, 1) for at in range(0, PAGE, 2)])) is None
    assert encode(OLD, bytes(byte ^ 0xFF for byte in OLD)) is None  # 1 + 2 + 4096
    longest = changed(OLD, [(0, PAGE - 3)])
    assert len(encode(OLD, longest) or b"") == PAGE


def test_qemus_example_is_understood() -> None:
    new = b"wxyz" + OLD[4:]
    assert decode(b"\x00\x04wxyz", OLD) == new


@pytest.mark.parametrize("value", [0, 1, 0x7F, 0x80, 0x81, 0xFFF, 0x1000])
def test_uleb(value: int) -> None:
    if value < PAGE:
        new = changed(OLD, [(value, 1)])
        assert (encode(OLD, new) or b"").startswith(number(value) + b"\x01")
    if value:
        size = min(value, PAGE)
        code = b"\0" + number(size) + b"x" * size
        assert decode(code, OLD) == b"x" * size + OLD[size:]


HOSTILE = {
    "nothing": b"",
    "an empty changed run": b"\x05\x00",
    "an empty equal run in the middle": b"\x00\x01x\x00\x01y",
    "a run behind the page": number(4095) + b"\x02xy",
    "runs that add up behind the page": b"\x00\x01x" + number(4094) + b"\x02xy",
    "fewer bytes than promised": b"\x00\x05xyz",
    "a number without its second byte": b"\x80",
    "no changed run": b"\x05",
    "a second byte with its top bit": b"\x80\x80\x01x",
    "a changed run without its second byte": b"\x00\x81",
}


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize("count", [1, 64])
def test_code_that_makes_no_sense_is_refused_and_named(what: str, count: int) -> None:
    good, bad = b"\x00\x01x", HOSTILE[what]
    codes = [good] * count
    codes[count // 2] = bad
    ends = np.cumsum([len(code) for code in codes]).tolist()
    starts = [0, *ends[:-1]]
    data = np.frombuffer(b"".join(codes), dtype=np.uint8)
    memory = np.full(count * PAGE, 7, dtype=np.uint8)
    with pytest.raises(DecodeError) as caught:
        decode_pages(data, starts, ends, [PAGE * number for number in range(count)], memory)
    assert caught.value.page == count // 2
    assert (memory == 7).all()  # the good ones before it have changed nothing either


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=30))
def test_any_bytes_are_decoded_as_the_plain_decoder_does_or_refused_by_both(codes: list[bytes]) -> None:
    expected: list[bytes] | None = []
    try:
        expected = [decode_xbzrle(code, OLD, 0) for code in codes]
    except StreamError:
        expected = None
    ends = np.cumsum([len(code) for code in codes]).tolist()
    data = np.frombuffer(b"".join(codes), dtype=np.uint8)
    memory = np.frombuffer(OLD * len(codes), dtype=np.uint8).copy()
    try:
        bases = [PAGE * number for number in range(len(codes))]
        decode_pages(data, [0, *ends[:-1]], ends, bases, memory)
    except DecodeError:
        assert expected is None
    else:
        assert expected is not None
        assert memory.tobytes() == b"".join(expected)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.one_of(RUNS, MANY), st.integers(0, PAGE), st.integers(0, 255), st.booleans()),
        min_size=1, max_size=8,
    )
)
def test_damaged_code_is_decoded_as_the_plain_decoder_does_or_refused(
    pages: list[tuple[list[tuple[int, int]], int, int, bool]],
) -> None:
    """A byte of good code is changed, or the code is cut there."""
    codes, expected, bad = [], [], None
    for runs, place, value, cut in pages:
        good = model_encode(OLD, changed(OLD, runs)) or b"\x00\x01x"
        at = place % len(good)
        codes.append(good[:at] if cut else good[:at] + bytes([value]) + good[at + 1 :])
        try:
            expected.append(decode_xbzrle(codes[-1], OLD, 0) if codes[-1] else None)
        except StreamError:
            expected.append(None)
        if expected[-1] is None and bad is None:
            bad = len(codes) - 1
    ends = np.cumsum([len(code) for code in codes]).tolist()
    data = np.frombuffer(b"".join(codes), dtype=np.uint8)
    bases = [(PAGE + 16) * number + 16 for number in range(len(codes))]  # not aligned, with room between
    memory = np.full(bases[-1] + PAGE + 16, 0xA5, dtype=np.uint8)
    for base in bases:
        memory[base : base + PAGE] = np.frombuffer(OLD, dtype=np.uint8)
    before = memory.copy()
    if bad is not None:
        with pytest.raises(DecodeError) as caught:
            decode_pages(data, [0, *ends[:-1]], ends, bases, memory)
        assert caught.value.page == bad
        assert (memory == before).all()
        return
    decode_pages(data, [0, *ends[:-1]], ends, bases, memory)
    for base, page in zip(bases, expected, strict=True):
        assert memory[base : base + PAGE].tobytes() == page
        memory[base : base + PAGE] = before[base : base + PAGE]
    assert (memory == before).all()  # nothing around the pages has changed


AT_THE_EDGE = """
import ctypes, mmap, sys
import numpy as np
from e2kemu.migration.xbzrle import RECORD_HEAD, DecodeError, decode_pages, encode_pages

PAGE, libc = 4096, ctypes.CDLL(None)

def edge(data):
    "A copy of data whose last byte is followed by memory that nobody may touch."
    room = -(-len(data) // PAGE) * PAGE
    store = mmap.mmap(-1, room + PAGE)
    whole = np.frombuffer(store, dtype=np.uint8)
    assert libc.mprotect(ctypes.c_void_p(whole.ctypes.data + room), ctypes.c_size_t(PAGE), 0) == 0
    part = whole[room - len(data) : room]
    part[:] = np.frombuffer(data, dtype=np.uint8)
    return part

rng = np.random.default_rng(3)
old = rng.integers(0, 256, PAGE, dtype=np.uint8)
done = 0
for size in [*range(1, 40), 127, 128, 129, 2000, 4093]:
    new = old.copy()
    new[PAGE - size :] ^= 1
    encoded = encode_pages(edge(old.tobytes()).reshape(1, PAGE), edge(new.tobytes()).reshape(1, PAGE))
    code = encoded.records[RECORD_HEAD:].tobytes()
    page = edge(old.tobytes())
    decode_pages(edge(code), [0], [len(code)], [0], page)
    assert (page == new).all()
    for cut in range(1, min(len(code), 40)):
        try:
            decode_pages(edge(code[:cut]), [0], [cut], [0], page)
        except DecodeError:
            done += 1
print(done)
"""


def test_neither_looks_or_writes_behind_the_end() -> None:
    """In a process of its own: it would be killed."""
    answer = subprocess.run([sys.executable, "-c", AT_THE_EDGE], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert int(answer.stdout) > 1000


def test_places_that_do_not_exist_are_the_callers_mistake() -> None:
    data, memory = np.frombuffer(b"\x00\x01x", dtype=np.uint8), np.zeros(2 * PAGE, dtype=np.uint8)
    wrong = [([0], [4], [0]), ([-1], [3], [0]), ([0], [3], [PAGE + 1]), ([0], [3], [-1]), ([0], [3], [])]
    for starts, ends, bases in wrong:
        with pytest.raises(ValueError):
            decode_pages(data, starts, ends, bases, memory)
    assert not memory.any()
    with pytest.raises(ValueError):
        encode_pages(memory.reshape(2, PAGE), memory[:PAGE].reshape(1, PAGE))


# -- records in a stream


def head(address: int, flags: int) -> bytes:
    return (address | flags).to_bytes(8, "big")


def packed(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def patch(code: bytes, length: int | None = None, encoding: int = 1) -> bytes:
    return bytes([encoding]) + (len(code) if length is None else length).to_bytes(2, "big") + code


NAME = b"\x07toy.ram"
END = head(0, 0x10)
PAGE_OF_ONES = zlib.compress(b"\1" * PAGE)

REFUSED: dict[str, tuple[bytes, int, str]] = {
    "xbzrle: longer than a page": (head(0, 0x40) + NAME + patch(b"", 4097), 0, "len overflow"),
    "xbzrle: another encoding": (head(0, 0x40) + NAME + patch(b"\0\1x", None, 2), 0, "wrong compression 0x2"),
    "xbzrle: empty run": (head(0, 0x40) + NAME + patch(b"\0\0"), 0, "Failed to decompress XBZRLE page"),
    "xbzrle: behind the block": (head(1 << 30, 0x40) + NAME + patch(b"\0\1x"), 0, "Illegal RAM offset 0x40000000"),
    "xbzrle: the second": (
        head(0, 0x40) + NAME + patch(b"\0\1x") + head(PAGE, 0x60) + patch(b"\0\1x")
        + head(2 * PAGE, 0x60) + patch(b"\1"),
        22 + 14,
        "Failed to decompress",
    ),
    "xbzrle: the second is too long": (
        head(0, 0x40) + NAME + patch(b"\0\1x") + head(PAGE, 0x60) + patch(b"", 5000),
        22,
        "len overflow",
    ),
    "packed: no zlib": (head(0, 0x100) + NAME + packed(b"nonsense"), 0, "compressed page: "),
    "packed: too little": (head(0, 0x100) + NAME + packed(zlib.compress(b"x")), 0, "holds 1 bytes"),
    "packed: a bomb": (head(0, 0x100) + NAME + packed(zlib.compress(bytes(1 << 20))), 0, "more than a page"),
    "packed: cut": (head(0, 0x100) + NAME + packed(PAGE_OF_ONES[:-2]), 0, "does not end as it should"),
    "packed: more behind it": (head(0, 0x100) + NAME + packed(PAGE_OF_ONES + b"x"), 0, "does not end as it should"),
    "packed: nothing": (head(0, 0x100) + NAME + packed(b""), 0, "Invalid compressed data length: 0"),
    "packed: huge": (
        head(0, 0x100) + NAME + (1 << 31).to_bytes(4, "big"),
        0,
        "Invalid compressed data length: 2147483648",
    ),
    "packed: behind the block": (
        head(0, 0x100) + NAME + packed(PAGE_OF_ONES) + head(1 << 30, 0x120) + packed(PAGE_OF_ONES),
        8 + 8 + 4 + len(PAGE_OF_ONES),
        "Illegal RAM offset 0x40000000",
    ),
    "packed: the second is none": (
        head(0, 0x100) + NAME + packed(PAGE_OF_ONES) + head(PAGE, 0x120) + packed(b"nonsense"),
        8 + 8 + 4 + len(PAGE_OF_ONES),
        "compressed page: ",
    ),
    "packed: cut off by the stream's end": (head(0, 0x100) + NAME + packed(PAGE_OF_ONES)[:20], 0, "ends early"),
}


@pytest.fixture
def loaded() -> Callable[[bytes], ToyMachine]:
    def load(data: bytes) -> ToyMachine:
        machine = ToyMachine(16 * PAGE, incoming=True)
        machine.close()
        wire = Memory(100)
        wire.data += data
        loader = RamLoader(machine.ram_blocks, 2)
        loader.load(StreamReader(wire, size=1 << 16))
        loader.finish()
        return machine

    return load


@pytest.mark.parametrize("what", REFUSED)
def test_a_record_that_makes_no_sense_is_refused_with_section_and_offset(
    what: str, loaded: Callable[[bytes], ToyMachine]
) -> None:
    data, offset, message = REFUSED[what]
    with pytest.raises(StreamError) as caught:
        loaded(data + (b"" if "cut off" in what else END))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.section == "ram"
    assert caught.value.offset == offset


def test_the_last_of_several_records_of_a_page_counts(loaded: Callable[[bytes], ToyMachine]) -> None:
    full, two = b"\5" * PAGE, zlib.compress(b"\2" * PAGE)
    machine = loaded(
        head(0, 0x100) + NAME + packed(PAGE_OF_ONES)
        + head(0, 0x120) + packed(two)  # the same page again: not before the first is done
        + head(PAGE, 0x120) + packed(PAGE_OF_ONES) + head(PAGE, 0x28) + full
        + head(2 * PAGE, 0x120) + packed(PAGE_OF_ONES) + head(2 * PAGE, 0x22) + b"\0"
        + head(3 * PAGE, 0x120) + packed(PAGE_OF_ONES) + head(3 * PAGE, 0x60) + patch(b"\0\2xy")
        + head(4 * PAGE, 0x28) + full + head(4 * PAGE, 0x60) + patch(b"\1\1z") + head(4 * PAGE, 0x60) + patch(b"\1\1w")
        + END
    )  # fmt: skip
    pages = machine.ram.view.reshape(-1, PAGE)
    assert (pages[0] == 2).all()
    assert (pages[1] == 5).all()
    assert (pages[2] == 0).all()
    assert pages[3].tobytes() == b"xy" + b"\1" * (PAGE - 2)
    assert pages[4].tobytes() == b"\5w" + b"\5" * (PAGE - 2)


def test_what_threads_could_not_inflate_is_told_once_and_all_threads_end() -> None:
    unpacker = Unpacker(3)
    unpacker.unpack([PackedPage(number, b"no", 100 + number) for number in range(200)], lambda index, pages: None)
    with pytest.raises(StreamError) as caught:
        unpacker.flush()
    assert caught.value.offset == 100
    unpacker.close()
    unpacker.close()


# -- the cache


def page_of(value: int) -> np.ndarray:
    return np.full((1, PAGE), value, dtype=np.uint8)


def test_a_page_keeps_its_place_for_two_rounds_after_it_was_looked_up() -> None:
    cache, mine, other = PageCache(4), np.array([1]), np.array([5])
    cache.put(mine, page_of(1), 10)
    for round_, taken in ((10, False), (11, False), (12, True)):
        cache.put(other, page_of(2), round_)
        assert bool(cache.look_up(other, round_)[0]) is taken
    cache.put(mine, page_of(1), 14)
    assert cache.look_up(mine, 14).all()
    assert cache.look_up(mine, 15).all()  # which makes it young again
    cache.put(other, page_of(2), 16)
    assert not cache.look_up(other, 16).any()
    assert (cache.get(mine) == 1).all()


def test_what_was_sent_last_replaces_what_was_sent_before() -> None:
    cache = PageCache(8)
    numbers = np.array([2, 3, 4, 7])
    cache.put(numbers, np.repeat(page_of(9), 4, axis=0), 1)
    cache.put(np.array([3]), page_of(0), 1)
    assert cache.get(numbers)[:, 0].tolist() == [9, 0, 9, 9]
    assert cache.fit(np.array([1, 5, 8, 9, 20])) == 3


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 6)), max_size=80),
    st.lists(st.integers(0, 8), min_size=1, max_size=4),
)
def test_the_cache_never_holds_anything_but_what_was_put_last(
    puts: list[tuple[int, int]], sizes: list[int]
) -> None:
    """Resized again and again: a page that is found is the one that was sent."""
    cache, sent = PageCache(1 << sizes[0]), {}
    for step, (page, age) in enumerate(puts):
        number = np.array([page])
        cache.put(number, page_of(step & 0xFF), age)
        sent[page] = step & 0xFF
        if step % 20 == 19:
            cache = cache.resized(1 << sizes[(step // 20) % len(sizes)])
    for page, value in sent.items():
        if cache.look_up(np.array([page]), 100)[0]:
            assert (cache.get(np.array([page])) == value).all()


def test_a_larger_cache_keeps_all_and_a_smaller_one_the_younger() -> None:
    cache = PageCache(4)
    for page, age in ((0, 5), (1, 9), (2, 9), (3, 5)):
        cache.put(np.array([page]), page_of(page), age)
    cache = cache.resized(64)
    assert cache.look_up(np.arange(4), 9).all()
    assert (cache.get(np.arange(4))[:, 0] == np.arange(4)).all()
    cache = PageCache(4)
    for page, age in ((0, 5), (1, 9), (2, 9), (3, 5)):
        cache.put(np.array([page]), page_of(page), age)
    cache = cache.resized(2)
    assert [bool(cache.look_up(np.array([page]), 9)[0]) for page in range(4)] == [False, True, True, False]


def test_the_size_is_a_power_of_two_that_the_guest_can_fill() -> None:
    assert places_for(64 << 20, 1 << 20) == 16384
    assert places_for((64 << 20) - 1, 1 << 20) == 8192
    assert places_for(64 << 20, 100) == 128
    assert places_for(0, 100) == 1
