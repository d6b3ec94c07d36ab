"""The mux: who gets the input, what the escape character does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2kemu.chardev import Chardev
from e2kemu.chardev_mux import Mux, MuxPort, parse_echr
from e2kemu.errors import OptionError
from tests.chardev.conftest import Frontend


class Wire(Chardev):
    """A base whose other end is the test."""

    def __init__(self) -> None:
        super().__init__("wire")
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data


def make() -> tuple[Wire, Mux, list[Frontend], list[MuxPort]]:
    wire = Wire()
    mux = Mux(wire, "mux")
    users = [Frontend(), Frontend()]
    ports = [mux.port("console"), mux.port("monitor")]
    for port, user in zip(ports, users, strict=True):
        port.open_frontend(user.receive, user.event)
    return wire, mux, users, ports


def test_input_goes_to_the_focus_and_c_moves_it() -> None:
    wire, _, (console, monitor), _ = make()
    wire.input(b"one\x01ctwo\x01cthree")
    assert (console.data, monitor.data) == (b"onethree", b"two")
    assert console.events == ["mux-out", "mux-in"]
    assert monitor.events == ["mux-in", "mux-out"]


def test_output_of_all_ports_goes_out() -> None:
    wire, _, _, ports = make()
    ports[0].write(b"a")
    ports[1].write(b"b")
    assert wire.written == b"ab"


def test_keys() -> None:
    wire, mux, (console, _), _ = make()
    ends: list[int] = []
    mux.on_exit = lambda: ends.append(1)
    wire.input(b"\x01\x01\x01b\x01z\x01")
    wire.input(b"h")
    assert console.data == b"\x01"
    assert console.events == ["break"]
    assert b"C-a h    print this help\r\n" in wire.written
    assert b"C-a C-a  sends C-a\r\n" in wire.written
    wire.input(b"\x01x")
    assert ends == [1]


def test_time_stamps_begin_every_line() -> None:
    wire, mux, _, _ = make()
    wire.input(b"\x01t")
    mux.write(b"rest\none\ntwo\n")
    assert wire.written.startswith(b"rest\n[00:00:0")
    assert wire.written.count(b"[00:00:") == 2
    wire.input(b"\x01t")
    wire.written = b""
    mux.write(b"a\nb\n")
    assert wire.written == b"a\nb\n"


@given(st.lists(st.binary(max_size=10), max_size=10))
def test_bytes_reach_the_console_however_they_come(pieces: list[bytes]) -> None:
    wire, mux, (console, monitor), _ = make()
    mux.escape = 0x1D
    for piece in pieces:
        wire.input(piece.replace(b"\x1d", b"\x1d\x1d"))
    assert console.data == b"".join(pieces)
    assert not monitor.data


def test_the_escape_character_is_a_control_character() -> None:
    assert parse_echr("0x14") == 0x14
    assert parse_echr("1") == 1
    for text in ("32", "-1", "x", ""):
        with pytest.raises(OptionError):
            parse_echr(text)
