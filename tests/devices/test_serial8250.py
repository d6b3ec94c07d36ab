"""The serial port: nothing is lost in either direction, and the registers are a 16550's."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2kemu.chardev import Chardev
from e2kemu.clock import VirtualClock
from e2kemu.devices import serial8250 as s
from e2kemu.devices.serial8250 import Serial8250
from e2kemu.memory.space import AddressSpace, MmioRegion
from e2kemu.wire import BytesReader, Writer

BASE = 0x1_0100_03F8


class Line(Chardev):
    """The other end of the line: keeps what comes."""

    def __init__(self) -> None:
        super().__init__("line")
        self.output = bytearray()

    def write(self, data: bytes) -> None:
        self.output += data


class Port:
    """A serial port as the guest sees it."""

    def __init__(self) -> None:
        self.line, self.clock, self.space = Line(), VirtualClock(), AddressSpace()
        self.device = Serial8250(self.clock, self.line)
        self.space.map(BASE, MmioRegion(self.device, 8, self.device.max_access), "serial")

    def get(self, offset: int) -> int:
        return self.space.read(BASE + offset, 1)

    def put(self, offset: int, value: int) -> None:
        self.space.write(BASE + offset, 1, value)

    def drain(self) -> bytes:
        data = bytearray()
        while self.get(5) & s.LSR_DR:
            data.append(self.get(0))
        return bytes(data)


@pytest.fixture
def port() -> Port:
    return Port()


def test_a_written_byte_leaves_at_once(port: Port) -> None:
    for byte in b"hello\r\n\0\xff":
        assert port.get(5) & s.LSR_THRE
        port.put(0, byte)
    assert port.line.output == b"hello\r\n\0\xff"


@pytest.mark.parametrize("fifo", [0, s.FCR_ENABLE])
@given(chunks=st.lists(st.binary(max_size=60), max_size=6))
def test_input_is_never_lost_with_and_without_the_fifo(fifo: int, chunks: list[bytes]) -> None:
    port = Port()
    port.put(2, fifo)
    got, sent = b"", b"".join(chunks)
    for number, chunk in enumerate(chunks):
        port.line.input(chunk)
        if number % 2 and port.get(5) & s.LSR_DR:
            got += bytes([port.get(0)])
    assert got + port.drain() == sent
    assert not port.get(5) & s.LSR_OE


def test_the_divisor_is_behind_dlab(port: Port) -> None:
    port.put(3, s.LCR_DLAB | 3)
    port.put(0, 0x34)
    port.put(1, 0x12)
    assert (port.get(0), port.get(1), port.device.divider) == (0x34, 0x12, 0x1234)
    port.put(3, 3)
    port.put(1, 5)
    assert (port.get(1), port.get(3), port.device.divider) == (5, 3, 0x1234)
    assert port.line.output == b""


def test_registers_after_reset(port: Port) -> None:
    assert [port.get(i) for i in range(8)] == [0, 0, 1, 0, 8, 0x60, 0xB0, 0]


def test_scratch_and_identification_of_a_16550(port: Port) -> None:
    port.put(7, 0xA5)
    assert port.get(7) == 0xA5
    port.put(2, s.FCR_ENABLE)
    assert port.get(2) == 0xC1
    port.put(2, 0)
    assert port.get(2) == 0x01


def test_received_data_interrupts_at_the_trigger_level_and_below_it_after_a_time(port: Port) -> None:
    port.put(1, s.IER_RDI)
    port.put(2, s.FCR_ENABLE | 0x80)
    port.line.input(b"1234567")
    assert (port.device.irq.level, port.get(2)) == (False, 0xC1)
    port.line.input(b"8")
    assert (port.device.irq.level, port.get(2)) == (True, 0xC4)
    port.get(0)
    assert port.device.irq.level is False
    port.clock.set(1_000_000_000)
    port.clock.start()
    port.clock.run_expired()
    assert (port.device.irq.level, port.get(2)) == (True, 0xCC)
    assert port.drain() == b"2345678"
    assert port.device.irq.level is False


def test_an_empty_transmitter_interrupts_until_it_is_identified(port: Port) -> None:
    port.put(1, s.IER_THRI)
    assert port.device.irq.level is True
    assert port.get(2) == 0x02
    assert (port.device.irq.level, port.get(2)) == (False, 0x01)
    port.put(0, 65)
    assert port.get(2) == 0x02


def test_loopback_returns_what_is_written_and_the_modem_lines(port: Port) -> None:
    port.put(4, s.MCR_LOOP | s.MCR_RTS | s.MCR_OUT2)
    port.put(0, 0x5A)
    assert port.drain() == b"\x5a"
    assert port.line.output == b""
    assert port.get(6) == s.MSR_CTS | s.MSR_DCD


def test_a_break_is_a_zero_byte_with_its_status_bit(port: Port) -> None:
    port.put(1, s.IER_RLSI)
    port.device.event("break")
    assert port.device.irq.level is True
    assert port.get(5) & s.LSR_BI
    assert not port.get(5) & s.LSR_BI
    assert port.drain() == b"\0"


def test_a_wide_access_is_made_byte_by_byte(port: Port) -> None:
    assert port.space.read(BASE + 4, 4) == 0x00B06008


def test_input_that_waits_and_half_read_fifos_travel(port: Port) -> None:
    rng = random.Random(1)
    print("seed 1")
    data = rng.randbytes(100)
    port.put(2, s.FCR_ENABLE | 0x40)
    port.put(1, s.IER_RDI)
    port.line.input(data)
    first = bytes(port.get(0) for _ in range(5))
    section = port.device.section()
    assert section is not None
    w = Writer()
    section.save(w)
    there = Port()
    there.line.input(b"stale")
    target = there.device.section()
    assert target is not None
    target.load(BytesReader(w.getvalue()), 3)
    assert there.device.irq.level is True
    assert first + there.drain() == data


def test_reset_keeps_input_the_guest_has_not_been_offered(port: Port) -> None:
    port.line.input(b"abc")
    port.device.reset()
    assert port.drain() == b"bc"
