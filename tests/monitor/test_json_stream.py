"""The framing of QMP: values without separators, errors that do not spread."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from e2kemu.monitor.json_stream import MAX_SIZE, JsonError, JsonStream

characters = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
text5, text20 = st.text(characters, max_size=5), st.text(characters, max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 60), 1 << 60) | text20,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text5, inner, max_size=4),
    max_leaves=10,
)
objects = st.dictionaries(text5, values, max_size=4)


@given(st.lists(objects, max_size=5), st.lists(st.integers(0, 400), max_size=10), st.booleans())
def test_objects_come_out_whole_however_they_are_cut(
    wanted: list[object], cuts: list[int], escape: bool
) -> None:
    text = b"".join(json.dumps(value, ensure_ascii=escape).encode() for value in wanted)
    stream = JsonStream()
    found: list[object] = []
    last = 0
    for cut in sorted(min(cut, len(text)) for cut in cuts):
        found += stream.feed(text[last:cut])
        last = cut
    found += stream.feed(text[last:])
    assert found == wanted


@given(st.binary(max_size=300), st.integers(0, 300))
def test_after_any_bytes_a_reset_byte_makes_a_fresh_start(garbage: bytes, cut: int) -> None:
    stream = JsonStream()
    stream.feed(garbage[:cut])
    stream.feed(garbage[cut:])
    assert stream.feed(b'\xff{"fresh": 1}')[-1] == {"fresh": 1}


def test_memory_stays_bounded() -> None:
    stream = JsonStream()
    found = []
    for _ in range(20):
        found += stream.feed(b'{"a": ["' + b"x" * (MAX_SIZE // 4))
    assert any(isinstance(value, JsonError) for value in found)
    assert stream.buffered < 2 * MAX_SIZE


def test_strings_that_no_file_name_can_be_are_refused() -> None:
    stream = JsonStream()
    found = stream.feed(b'{"a": "x\\u0000y"}{"a": "\\ud800"}{"a": "\\ud83d\\ude00"}{"a": "\\\\u0000"}')
    assert [isinstance(value, JsonError) for value in found] == [True, True, False, False]
