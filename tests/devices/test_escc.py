"""The Am85C30, driven as a driver does: point, write, read; interrupts by the pending register."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2kemu.chardev import Chardev
from e2kemu.devices import escc as e
from e2kemu.devices.escc import Escc
from e2kemu.memory.space import AddressSpace, MmioRegion
from e2kemu.wire import BytesReader, Writer

BASE = 0x8120_0040
A, B = 0, 2
RX, TX = 0x01, 0x04


class Line(Chardev):
    """The other end of a line: keeps what comes."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.output = bytearray()

    def write(self, data: bytes) -> None:
        self.output += data


class Chip:
    """The chip as a guest sees it."""

    def __init__(self) -> None:
        self.lines = {A: Line("a"), B: Line("b")}
        self.device = Escc(self.lines[A], self.lines[B])
        self.space = AddressSpace()
        self.space.map(BASE, MmioRegion(self.device, 4, self.device.max_access), "escc")

    def rr(self, channel: int, number: int) -> int:
        if number:
            self.space.write(BASE + channel, 1, number)
        return self.space.read(BASE + channel, 1)

    def wr(self, channel: int, number: int, value: int) -> None:
        if number:
            self.space.write(BASE + channel, 1, number)
        self.space.write(BASE + channel, 1, value)

    def data(self, channel: int) -> int:
        return self.space.read(BASE + channel + 1, 1)

    def send(self, channel: int, value: int) -> None:
        self.space.write(BASE + channel + 1, 1, value)

    def start(self, channel: int, wr1: int = 0, wr9: int = 0, wr15: int = 0) -> None:
        """Asynchronous, 8 bits, 16 times clock: the order of the manual's initialization."""
        for number, value in ((9, 0x40 if channel == B else 0x80), (4, 0x44), (3, 0xC0), (5, 0x62), (11, 0x50),
                              (12, 14), (13, 0), (14, 0x01), (15, wr15), (0, 0x10), (0, 0x10), (3, 0xC1), (5, 0xEA),
                              (1, wr1), (9, wr9)):  # fmt: skip
            self.wr(channel, number, value)

    def drain(self, channel: int) -> bytes:
        got = bytearray()
        while self.rr(channel, 0) & RX:
            got.append(self.data(channel))
        return bytes(got)


@pytest.fixture
def chip() -> Chip:
    return Chip()


@pytest.mark.parametrize("channel", [A, B])
def test_a_polling_console_prints_and_reads(chip: Chip, channel: int) -> None:
    chip.start(channel)
    for byte in b"hello\r\n\0\xff":
        assert chip.rr(channel, 0) & TX
        chip.send(channel, byte)
    assert bytes(chip.lines[channel].output) == b"hello\r\n\0\xff"
    chip.lines[channel].input(b"answer")
    assert chip.drain(channel) == b"answer"
    assert chip.lines[A + B - channel].output == b""


def test_the_console_prints_without_being_set_up(chip: Chip) -> None:
    chip.send(A, 65)
    chip.lines[A].input(b"x")
    assert (chip.lines[A].output, chip.drain(A)) == (b"A", b"x")


def test_the_pointer_falls_back_to_register_0_after_one_access(chip: Chip) -> None:
    chip.wr(A, 12, 0x34)
    chip.wr(A, 13, 0x12)
    assert (chip.rr(A, 12), chip.rr(A, 13)) == (0x34, 0x12)
    chip.wr(A, 9, e.WR9_RESET_A)
    assert (chip.rr(A, 12), chip.rr(A, 13)) == (0x34, 0x12)
    assert chip.rr(A, 0) == chip.rr(A, 0) == 0x7C
    assert (chip.rr(A, 1), chip.rr(A, 4), chip.rr(A, 9)) == (0x07, 0x7C, 0x12)
    assert chip.rr(B, 12) == 0


@pytest.mark.parametrize("channel", [A, B])
def test_all_sent_is_off_at_the_first_look_after_a_byte(chip: Chip, channel: int) -> None:
    """Software waits for either: one that it is over, one that it has begun."""
    assert chip.rr(channel, 1) & 1
    chip.send(channel, 65)
    assert chip.rr(A + B - channel, 1) & 1, "it is the other channel's byte"
    w = Writer()
    Escc.vmstate.save(w, chip.device)
    for device in (chip, Chip()):
        Escc.vmstate.load(BytesReader(w.getvalue()), device.device, 1)
        assert [device.rr(channel, 1) & 1 for _ in range(3)] == [0, 1, 1]
        assert device.rr(channel, 0) & TX


def test_transmit_interrupts_follow_each_byte_until_they_are_reset(chip: Chip) -> None:
    chip.start(A, wr1=0x02, wr9=0x08)
    line = chip.device.irq
    assert (line.level, chip.rr(A, 3)) == (False, 0)
    for byte in b"xyz":
        chip.send(A, byte)
        assert (line.level, chip.rr(A, 3)) == (True, 0x10)
    chip.wr(A, 0, 0x28)
    assert (line.level, chip.rr(A, 3)) == (False, 0)
    assert chip.lines[A].output == b"xyz"


def test_received_bytes_interrupt_as_long_as_there_are_any(chip: Chip) -> None:
    chip.start(B, wr1=0x10, wr9=0x08)
    chip.wr(A, 2, 0x60)
    chip.lines[B].input(b"0123456789")
    assert (chip.device.irq.level, chip.rr(A, 3), chip.rr(B, 3)) == (True, 0x04, 0)
    assert (chip.rr(A, 2), chip.rr(B, 2)) == (0x60, 0x64)
    assert chip.drain(B) == b"0123456789"
    assert (chip.device.irq.level, chip.rr(A, 3), chip.rr(B, 2)) == (False, 0, 0x66)
    chip.wr(A, 9, 0)
    chip.lines[B].input(b"!")
    assert (chip.device.irq.level, chip.rr(A, 3)) == (False, 0x04)


def test_the_first_character_interrupts_once_until_the_next_is_asked_for(chip: Chip) -> None:
    chip.start(A, wr1=0x08, wr9=0x08)
    chip.lines[A].input(b"ab")
    assert chip.rr(A, 3) == 0x20
    assert chip.drain(A) == b"ab"
    chip.lines[A].input(b"c")
    assert chip.rr(A, 3) == 0
    chip.data(A)
    chip.wr(A, 0, 0x20)
    chip.lines[A].input(b"d")
    assert chip.rr(A, 3) == 0x20


def test_channel_a_is_more_urgent_and_status_high_turns_the_bits_round(chip: Chip) -> None:
    chip.start(A, wr1=0x12, wr9=0x08)
    chip.start(B, wr1=0x12, wr9=0x08)
    chip.lines[A].input(b"a")
    chip.lines[B].input(b"b")
    assert chip.rr(B, 2) == 0x0C
    chip.wr(A, 9, 0x18)
    assert chip.rr(B, 2) == 0x30
    chip.drain(A)
    assert chip.rr(B, 2) == 0x20


def test_a_break_is_two_changes_of_the_status_and_a_zero_byte(chip: Chip) -> None:
    chip.start(A, wr1=0x01, wr9=0x08, wr15=0x80)
    chip.lines[A].notify("break")
    assert (chip.rr(A, 3), chip.rr(A, 0) & 0x80) == (0x08, 0x80)
    chip.wr(A, 0, 0x10)
    assert (chip.rr(A, 3), chip.rr(A, 0) & 0x80) == (0x08, 0)
    chip.wr(A, 0, 0x10)
    assert (chip.rr(A, 3), chip.device.irq.level) == (0, False)
    assert chip.drain(A) == b"\0"


def test_loopback_and_echo(chip: Chip) -> None:
    chip.start(A)
    chip.wr(A, 14, 0x11)
    chip.send(A, 0x5A)
    assert (chip.drain(A), chip.lines[A].output) == (b"\x5a", b"")
    chip.wr(A, 14, 0x09)
    chip.lines[A].input(b"typed")
    assert (chip.drain(A), chip.lines[A].output) == (b"typed", b"typed")


def test_nothing_is_received_before_the_receiver_is_on(chip: Chip) -> None:
    chip.wr(A, 9, e.WR9_HARDWARE_RESET)
    chip.lines[A].input(b"early")
    assert not chip.rr(A, 0) & RX
    chip.wr(A, 14, 0x01)
    assert not chip.rr(A, 0) & RX
    chip.wr(A, 3, 0xC1)
    assert chip.drain(A) == b"early"


def test_register_7_prime_lets_write_registers_be_read(chip: Chip) -> None:
    chip.start(A)
    chip.wr(A, 15, 0x01)
    chip.wr(A, 7, 0x40)
    assert [chip.rr(A, number) for number in (4, 5, 9, 14)] == [0x44, 0xEA, 0xC1, 0x40]
    assert chip.rr(A, 15) == 0


def test_resets_reach_the_channels_they_name(chip: Chip) -> None:
    chip.start(A, wr1=0x10)
    chip.start(B, wr1=0x10, wr9=0x08)
    chip.wr(A, 9, e.WR9_RESET_A | 0x08)
    assert (chip.device.a.wr[1], chip.device.b.wr[1], chip.device.master) == (0, 0x10, 0x08)
    chip.wr(B, 9, e.WR9_HARDWARE_RESET)
    assert (chip.device.b.wr[1], chip.device.master, chip.device.b.wr[15]) == (0, 0, 0xF8)


@given(chunks=st.lists(st.binary(max_size=40), max_size=6), mode=st.sampled_from([0, 0x08, 0x10, 0x18]))
def test_input_is_never_lost(chunks: list[bytes], mode: int) -> None:
    chip = Chip()
    chip.start(B, wr1=mode)
    got = b""
    for number, chunk in enumerate(chunks):
        chip.lines[B].input(chunk)
        if number % 2 and chip.rr(B, 0) & RX:
            got += bytes([chip.data(B)])
    assert got + chip.drain(B) == b"".join(chunks)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-1, 255)), max_size=200))
def test_any_accesses_give_bytes_and_the_line_agrees_with_what_is_pending(accesses: list[tuple[int, int]]) -> None:
    chip = Chip()
    chip.lines[A].input(b"some input")
    for offset, value in accesses:
        if value < 0:
            assert 0 <= chip.space.read(BASE + offset, 1) <= 0xFF
        else:
            chip.space.write(BASE + offset, 1, value)
    wanted = bool(chip.device.master & 8 and (chip.device.a.pending or chip.device.b.pending))
    assert chip.device.irq.level == wanted


def test_what_waits_and_half_made_accesses_travel(chip: Chip) -> None:
    print("seed 3")
    data = random.Random(3).randbytes(100)
    chip.start(B, wr1=0x10, wr9=0x08)
    chip.lines[B].input(data)
    first = bytes(chip.data(B) for _ in range(5))
    chip.space.write(BASE + B, 1, 12)               # pointed, and not read yet
    section = chip.device.section()
    assert section is not None
    w = Writer()
    section.save(w)
    there = Chip()
    target = there.device.section()
    assert target is not None
    target.load(BytesReader(w.getvalue()), section.version)
    assert there.device.irq.level is True
    assert there.rr(B, 0) == 14
    assert first + there.drain(B) == data
