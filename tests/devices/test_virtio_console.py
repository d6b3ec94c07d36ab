"""The virtio console with a driver written from the specification."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2kemu.chardev import Chardev
from e2kemu.cli import main
from e2kemu.clock import VirtualClock
from e2kemu.devices.ioapic import IoApic
from e2kemu.devices.virtio_console import BACKLOG_LIMIT, MAX_REQUEST, RECEIVE, TRANSMIT, VirtioConsole
from e2kemu.errors import OptionError
from e2kemu.machine import builder
from e2kemu.machine.config import MachineConfig, NicConfig
from tests.framework.virtio_driver import STEP, WRITE, VirtioDriver, load, saved

DATA, ROOM = 0x20000, 0x40000
TABLE = 0x1000


class Line(Chardev):
    """The other end."""

    def __init__(self) -> None:
        super().__init__("line")
        self.output = bytearray()

    def write(self, data: bytes) -> None:
        self.output += data


class Driver(VirtioDriver):
    """Of a console."""

    kind = 3
    queues = 2

    def __init__(self) -> None:
        super().__init__()
        self.clock, self.line = VirtualClock(), Line()
        self.device = VirtioConsole(self.space, self.clock, self.line)
        self.plug(self.device)
        self.clock.start()

    def say(self, data: bytes) -> None:
        """Print through the transmitting queue."""
        self.ram.write(DATA, data)
        self.descriptor(0, DATA, len(data), 0, table=TABLE + STEP * TRANSMIT)
        self.offer(0, TRANSMIT)
        self.notify(TRANSMIT)
        assert self.used(TRANSMIT) == [(0, 0)]

    def give_room(self, *sizes: int) -> None:
        """Buffers to be filled, one behind the other from ROOM on."""
        at = ROOM
        for number, size in enumerate(sizes):
            self.descriptor(number, at, size, WRITE, table=TABLE + STEP * RECEIVE)
            self.offer(number, RECEIVE)
            at += size
        self.notify(RECEIVE)


@pytest.fixture
def driver() -> Driver:
    driver = Driver()
    driver.set_up()
    return driver


def test_it_is_one_port_without_a_size_that_prints_in_an_emergency(driver: Driver) -> None:
    assert (driver.peek(0x100, 2), driver.peek(0x102, 2), driver.peek(0x104)) == (0, 0, 1)
    driver.poke(0x14, 0)
    assert driver.peek(0x10) & 7 == 4
    driver.poke(0x108, ord("!"))
    fresh = Driver()
    fresh.poke(0x108, ord("?"))
    assert (driver.line.output, fresh.line.output) == (b"!", b"?")


def test_what_the_guest_prints_comes_out_and_the_guest_is_told(driver: Driver) -> None:
    driver.say(b"hello\n")
    driver.say(b"x" * 5000)
    assert driver.line.output == b"hello\n" + b"x" * 5000
    assert (driver.device.irq.level, driver.peek(0x60)) == (True, 1)
    driver.say(b"y" * (MAX_REQUEST + 9))
    assert len(driver.line.output) == 5006 + MAX_REQUEST


def test_input_waits_for_buffers_and_goes_into_as_many_as_it_needs(driver: Driver) -> None:
    driver.line.input(b"0123456789")
    driver.give_room(4, 4, 4)
    assert driver.used(RECEIVE) == [(0, 4), (1, 4), (2, 2)]
    assert driver.ram.read(ROOM, 10) == b"0123456789"
    driver.give_room(100)
    assert driver.used(RECEIVE) == []
    driver.line.input(b"ab")
    assert driver.used(RECEIVE) == [(0, 2)]


def test_a_machine_that_stands_gets_nothing_until_it_runs(driver: Driver) -> None:
    driver.give_room(8)
    driver.clock.stop()
    driver.line.input(b"later")
    assert (driver.used(RECEIVE), driver.ram.read(ROOM, 5)) == ([], bytes(5))
    driver.clock.start()
    driver.device.resumed()
    assert (driver.used(RECEIVE), driver.ram.read(ROOM, 5)) == ([(0, 5)], b"later")


def test_what_waits_travels_and_is_bounded(driver: Driver) -> None:
    driver.line.input(b"z" * BACKLOG_LIMIT)
    driver.line.input(b"too much")
    there = Driver()
    load(there.device, saved(driver.device))
    there.go_on_from(driver)
    there.give_room(16)
    assert (there.used(RECEIVE), there.ram.read(ROOM, 16)) == ([(0, 16)], b"z" * 16)
    assert len(there.device.backlog) == BACKLOG_LIMIT - 16


def test_a_buffer_without_room_breaks_the_protocol(driver: Driver) -> None:
    driver.descriptor(0, DATA, 8, 0, table=TABLE + STEP * RECEIVE)
    driver.offer(0, RECEIVE)
    driver.line.input(b"x")
    assert driver.needs_reset


def test_its_window_is_behind_those_of_disks_and_cards_and_its_pin_is_the_window_s() -> None:
    machine = builder.build(MachineConfig(
        ram_size=32 << 20, consoles=(Line(), Line()), nics=(NicConfig(None),)))
    first, second = (device for device in machine.devices if isinstance(device, VirtioConsole))
    assert (first.base, second.base) == (0x8130_1200, 0x8130_1400)
    assert machine.space.read(second.base, 4) == 0x74726976
    (io,) = (device for device in machine.devices if isinstance(device, IoApic))
    assert [io.sources[pin] for pin in (17, 18)] == ["virtconsole.0", "virtconsole.1"]
    with pytest.raises(OptionError, match="too many virtio devices, max 8"):
        MachineConfig(consoles=tuple(Line() for _ in range(9))).check()


@pytest.mark.parametrize(("option", "text"), [
    ("virtconsole", "chardev property not set"),
    ("virtconsole,chardev=none", 'chardev "none" not found'),
    ("virtconsole,chardev=c,colour=red", "Property 'virtconsole.colour' not found"),
    ("virtio-serial-device,max_ports=9", "Property 'virtio-serial-device.max_ports' not found")])
def test_a_wrong_option_is_one_line(option: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["-display", "none", "-chardev", f"file,id=c,path={tmp_path / 'out'}", "-device", option]
    assert main(arguments) == 1
    assert capsys.readouterr().err.strip() == f"e2kemu: -device {option}: {text}"
