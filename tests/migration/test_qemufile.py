"""The buffered ends of a stream: positions, bounds, the first error, the rate limit's windows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2kemu.errors import ChannelError, StreamError
from e2kemu.migration.qemufile import RateLimit, StreamReader, StreamWriter


class Pieces:
    """Gives ``data`` in pieces of the sizes in ``sizes``, again and again."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self._data, self._sizes, self._at, self._turn = data, sizes, 0, 0

    def readinto(self, buffer: memoryview) -> int:
        size = min(self._sizes[self._turn % len(self._sizes)], len(buffer), len(self._data) - self._at)
        self._turn += 1
        buffer[:size] = self._data[self._at : self._at + size]
        self._at += size
        return size


@given(
    data=st.binary(max_size=600),
    sizes=st.lists(st.integers(1, 90), min_size=1, max_size=5),
    reads=st.lists(st.tuples(st.sampled_from("rpsb"), st.integers(0, 130)), max_size=40),
)
def test_reads_of_any_size_see_the_bytes_in_order(
    data: bytes, sizes: list[int], reads: list[tuple[str, int]]
) -> None:
    reader, at = StreamReader(Pieces(data, sizes), size=64), 0
    for kind, size in reads:
        assert reader.position == at
        left = len(data) - at
        if kind == "p":
            assert reader.peek(min(size, 64)) == data[at : at + min(size, 64)]
        elif kind == "b":
            assert bytes(reader.buffered()) == data[at : at + len(reader.buffered())]
        elif size > left:
            with pytest.raises(StreamError, match="the stream ends early") as error:
                reader.read_exact(size) if kind == "r" else reader.skip(size)
            assert error.value.offset is not None
            return
        elif kind == "r":
            assert reader.read_exact(size) == data[at : at + size]
            at += size
        else:
            reader.skip(size)
            at += size


def test_numbers_and_names_are_big_endian_and_counted() -> None:
    reader = StreamReader(Pieces(b"\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x03ram", [1]))
    assert [reader.be8(), reader.be16(), reader.be32(), reader.be64()] == [
        0x01,
        0x0203,
        0x04050607,
        0x08090A0B0C0D0E0F,
    ]
    assert reader.string8() == "ram"
    assert reader.at_end()
    with pytest.raises(StreamError, match="offset 0x13"):
        reader.be8()


class Sink:
    def __init__(self) -> None:
        self.data = bytearray()
        self.calls = 0
        self.broken = False

    def writev(self, buffers: list[bytes]) -> None:
        self.calls += 1
        if self.broken:
            raise ChannelError(f"broken {self.calls}")
        for buffer in buffers:
            self.data += buffer


def test_small_fields_are_collected_and_big_ones_follow_them() -> None:
    sink = Sink()
    writer = StreamWriter(sink)
    writer.be32(1)
    writer.string8("ram")
    assert sink.calls == 0
    assert writer.position == 8
    assert writer.transferred == 0
    writer.write_through(memoryview(b"x" * 5000))
    assert bytes(sink.data) == b"\0\0\0\1\3ram" + b"x" * 5000
    assert writer.position == writer.transferred == 5008
    writer.flush()
    assert sink.calls == 1


def test_the_first_error_is_the_one_that_is_told_ever_after() -> None:
    sink = Sink()
    writer = StreamWriter(sink)
    sink.broken = True
    writer.be8(1)
    for _ in range(3):
        with pytest.raises(ChannelError, match="broken 1"):
            writer.flush()
    assert sink.calls == 1


def test_a_window_has_a_tenth_of_the_limit_and_the_next_one_begins_anew() -> None:
    now = 10.0
    rate = RateLimit(lambda: now)
    assert rate.budget(1000) == 100
    rate.charge(70)
    assert rate.budget(1000) == 30
    rate.charge(70)
    assert rate.budget(1000) == -40
    assert rate.budget(2000) == 60  # a new limit acts at once
    now = 10.04
    assert rate.remaining_time() == pytest.approx(0.06)
    now = 10.11
    assert rate.budget(1000) == 100
    assert rate.budget(0) > 1 << 60
    assert rate.budget(1) == 1
