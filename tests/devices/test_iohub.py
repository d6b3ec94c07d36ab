"""The IOHUB from the guest's side: PCI is enumerated, windows move, SPI chips answer, the machine resets, goes off."""

from __future__ import annotations

import calendar
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2kemu.clock import VirtualClock
from e2kemu.devices import iohub
from e2kemu.devices.iohub import I2cSpi, Spmc
from e2kemu.devices.iohub_timer import EVENT, INTERRUPT_MODE, RUN, IohubTimer
from e2kemu.devices.rtc import Cy14b101p
from e2kemu.loop import MainLoop
from e2kemu.machine.boards import find_board
from e2kemu.machine.builder import build
from e2kemu.machine.config import MachineConfig
from e2kemu.machine.machine import Machine
from e2kemu.process import Emulator
from e2kemu.wire import BytesReader, Writer

BOARD = find_board("elbrus-1.1")
CONFIG = BOARD.pci_config_base
SPI, BUFFER, TIMER = BOARD.spi_base, BOARD.spi_buffer_base, BOARD.timer_base
I2C_SPI, SPMC, SERIAL = (CONFIG | 1 << 20 | 2 << 15 | function << 12 for function in (0, 1, 2))


class Rig:
    """A machine that stands, and what a driver does to it."""

    def __init__(self) -> None:
        self.machine = build(MachineConfig(machine="elbrus-1.1", ram_size=32 << 20), MainLoop(), Machine)
        self.space, self.clock = self.machine.space, self.machine.clock
        self.events: list[str] = []
        self.machine.listeners.append(lambda event, data: self.events.append(event))

    def read(self, address: int, size: int = 4) -> int:
        return self.space.read(address, size)

    def write(self, address: int, value: int, size: int = 4) -> None:
        self.space.write(address, size, value)

    def device(self, kind: type) -> object:
        return next(device for device in self.machine.devices if isinstance(device, kind))

    def pass_time(self, ns: int) -> None:
        """Let that much virtual time pass at once, and what is due happen."""
        self.clock.set(self.clock.now() + ns)
        self.clock.start()
        self.clock.run_expired()
        self.clock.stop()

    def spi(self, chip: int, command: bytes, data: bytes = b"", read: int = 0) -> bytes:
        """One transaction as the Linux driver makes it: opcode, up to 4 address bytes, then data one way."""
        opcode, *address = command
        self.write(SPI + 0x08, opcode)
        control = chip | 1 << 14
        if address:
            number = int.from_bytes(bytes(address[:3]), "big") | (address[3] << 24 if len(address) > 3 else 0)
            self.write(SPI + 0x0C, number)
            control |= 1 << 11 | len(address) - 1 << 2
        count = len(data) or read
        if count:
            control |= 1 << 12 | count % 64 << 4
        if data:
            self.space.write_bytes(BUFFER, data)
            control |= 1 << 13
        self.write(SPI, control)
        status = self.read(SPI + 4)
        assert status & 1 == 0
        assert status & 2
        self.write(SPI + 4, status)
        assert self.read(SPI + 4) == 0
        return self.space.read_bytes(BUFFER, read) if read and not status & 4 else b""


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.machine.close()


# -- PCI ----------------------------------------------------------------------------------------------


def scan(read: Callable[[int, int, int], int]) -> dict[tuple[int, int], int]:
    """Enumerate as an operating system does: function 0 first, others of devices with several."""
    found: dict[tuple[int, int], int] = {}
    buses = [0]
    for bus in buses:
        for device in range(32):
            functions = 8 if read(bus, device << 3, 0x0C) >> 16 & 0x80 else 1
            for function in range(functions):
                devfn = device << 3 | function
                identity = read(bus, devfn, 0)
                if identity == 0xFFFF_FFFF:
                    if function == 0:
                        break
                    continue
                found[bus, devfn] = identity
                if read(bus, devfn, 0x0C) >> 16 & 0x7F == 1:
                    buses.append(read(bus, devfn, 0x18) >> 8 & 0xFF)
    return found


FUNCTIONS = {(0, 0): 0x8017_1FFF, (1, 0x10): 0x8018_1FFF, (1, 0x11): 0x800E_1FFF, (1, 0x12): 0x8019_1FFF}


def test_enumeration_finds_the_bridge_and_what_is_behind_it_in_both_ways(rig: Rig) -> None:
    def by_window(bus: int, devfn: int, register: int) -> int:
        return rig.read(CONFIG | bus << 20 | devfn << 12 | register)

    def by_ports(bus: int, devfn: int, register: int) -> int:
        rig.write(BOARD.ports_base + 0xCF8, 1 << 31 | bus << 16 | devfn << 8 | register)
        return rig.read(BOARD.ports_base + 0xCFC)

    assert scan(by_window) == scan(by_ports) == FUNCTIONS
    rig.write(BOARD.ports_base + 0xCF8, 0)
    assert rig.read(BOARD.ports_base + 0xCFC) == 0xFFFF_FFFF
    assert rig.read(BOARD.sic_base + 0x90) == CONFIG >> 30 << 3


def test_buses_can_be_numbered_anew(rig: Rig) -> None:
    rig.write(CONFIG | 0x18, 0x0005_0500)
    assert rig.read(I2C_SPI) == 0xFFFF_FFFF
    assert rig.read(I2C_SPI + (4 << 20)) == 0x8018_1FFF


def test_windows_are_sized_and_moved(rig: Rig) -> None:
    assert rig.read(SERIAL | 0x14) == BOARD.escc_base
    rig.write(SERIAL | 0x10, 0xFFFF_FFFF)
    rig.write(SERIAL | 0x14, 0xFFFF_FFFF)
    assert (rig.read(SERIAL | 0x10), rig.read(SERIAL | 0x14)) == (0, 0xFFFF_FFC0)
    rig.write(SERIAL | 0x14, 0x8123_4500)
    assert (rig.read(0x8123_4500, 1), rig.read(BOARD.escc_base, 1)) == (0x7C, 0xFF)
    rig.write(CONFIG | 0x20, 0x8130_8130)          # the bridge's window is elsewhere
    assert rig.read(0x8123_4500, 1) == 0xFF
    rig.write(CONFIG | 0x20, 0x8120_8120)
    rig.write(SERIAL | 0x04, 0, 2)                 # memory off
    assert rig.read(0x8123_4500, 1) == 0xFF
    rig.write(SERIAL | 0x04, 2, 2)
    assert rig.read(0x8123_4500, 1) == 0x7C
    rig.machine.power_on()
    assert rig.read(BOARD.escc_base, 1) == 0x7C


def test_registers_are_read_in_any_size_and_those_that_are_fixed_stay(rig: Rig) -> None:
    for size, wanted in ((1, 0xFF), (2, 0x1FFF), (4, 0x8017_1FFF), (8, 0x0000_0002_8017_1FFF)):
        assert rig.read(CONFIG, size) == wanted
    rig.write(CONFIG, 0, 4)
    rig.write(SERIAL | 0x08, 0)
    assert (rig.read(CONFIG), rig.read(SERIAL | 0x0A, 2)) == (0x8017_1FFF, 0x0700)
    assert [rig.read(function | 0x3C, 2) for function in (I2C_SPI, SPMC, SERIAL)] == [0x107, 0x101, 0x103]


def test_an_interrupt_shows_in_the_function_s_status(rig: Rig) -> None:
    for value in (9, 0x08, 1, 0x02):
        rig.write(BOARD.escc_base, value, 1)
    rig.write(BOARD.escc_base + 1, 65, 1)
    assert rig.read(SERIAL | 0x06, 2) == 8
    rig.write(BOARD.escc_base, 0x28, 1)
    assert rig.read(SERIAL | 0x06, 2) == 0


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 0xFFF), st.sampled_from([1, 2, 4, 8]), st.integers(-1, (1 << 64) - 1)),
                max_size=60))
def test_any_configuration_accesses_are_answered(accesses: list[tuple[int, int, int]]) -> None:
    rig = random_rig()
    for base in (CONFIG, I2C_SPI, SPMC, SERIAL, SPI & ~0xFFF):
        for at, size, value in accesses:
            if value < 0:
                assert 0 <= rig.read(base + at, size) < 1 << 8 * size
            else:
                rig.write(base + at, value & ((1 << 8 * size) - 1), size)
    rig.machine.power_on()
    assert rig.read(CONFIG) == 0x8017_1FFF


_RIGS: list[Rig] = []


def random_rig() -> Rig:
    """One machine for all examples of a property: it is reset after each."""
    if not _RIGS:
        _RIGS.append(Rig())
    return _RIGS[0]


# -- SPI ----------------------------------------------------------------------------------------------

FLASH, CLOCK = 0, 1


def test_the_flash_is_the_boot_rom_and_is_programmed_in_pages(rig: Rig) -> None:
    rom = BOARD.rom_base
    assert rig.spi(FLASH, b"\x9f", read=5) == b"\x01\x20\x18\x03\x01"
    first = rig.space.read_bytes(rom, 16)
    assert rig.spi(FLASH, b"\x03\0\0\0", read=16) == first
    assert rig.spi(FLASH, b"\x0b\0\0\0", read=64)[:16] == first
    rig.spi(FLASH, b"\xd8\x12\x34\x56")            # not enabled
    assert rig.space.read_bytes(rom + 0x12_0000, 4) == bytes(4)
    rig.spi(FLASH, b"\x06")
    assert rig.spi(FLASH, b"\x05", read=1) == b"\x02"
    rig.spi(FLASH, b"\xd8\x12\x34\x56")
    assert rig.spi(FLASH, b"\x05", read=1) == b"\0"
    assert rig.space.read_bytes(rom + 0x12_0000, 0x1_0004) == b"\xff" * 0x1_0000 + bytes(4)
    rig.spi(FLASH, b"\x06")
    rig.spi(FLASH, b"\x02\x12\x00\xfe", b"\x12\x34\x56")
    assert rig.space.read_bytes(rom + 0x12_00FC, 5) == b"\xff\xff\x12\x34\xff"
    assert rig.space.read_bytes(rom + 0x12_0000, 2) == b"\x56\xff"      # wraps in the page
    rig.spi(FLASH, b"\x06")
    rig.spi(FLASH, b"\x02\x12\x00\xfe", b"\xf0")
    assert rig.spi(FLASH, b"\x03\x12\x00\xfe", read=1) == b"\x10"       # bits are only cleared
    dirty = rig.machine.ram_blocks[1].harvest_dirty()
    assert dirty[0x12_0000 >> 12]
    rig.machine.power_on()
    assert rig.space.read_bytes(rom + 0x12_00FE, 2) == b"\x10\x34"      # a reset does not load the image again
    assert rig.space.read_bytes(rom, 16) == first


def test_protected_sectors_are_not_erased(rig: Rig) -> None:
    rig.spi(FLASH, b"\x06")
    rig.spi(FLASH, b"\x01\x04")                    # the upper 1/64
    assert rig.spi(FLASH, b"\x05", read=1) == b"\x04"
    for sector, blank in ((0xFB, True), (0xFC, False), (0xFF, False)):
        rig.spi(FLASH, b"\x06")
        rig.spi(FLASH, bytes((0xD8, sector, 0, 0)))
        assert (rig.space.read_bytes(BOARD.rom_base + (sector << 16), 2) == b"\xff\xff") == blank
    rig.machine.power_on()
    assert rig.spi(FLASH, b"\x05", read=1) == b"\x04"


def test_a_chip_that_is_not_there_fails_and_reads_ones(rig: Rig) -> None:
    rig.write(SPI + 8, 0x9F)
    rig.write(SPI, 3 | 1 << 14 | 1 << 12 | 4 << 4)
    assert (rig.read(SPI + 4), rig.read(BUFFER)) == (6, 0xFFFF_FFFF)
    assert rig.read(I2C_SPI | 0x06, 2) == 8
    rig.write(SPI + 4, 6)
    assert rig.read(I2C_SPI | 0x06, 2) == 0


def test_a_changed_divider_is_confirmed(rig: Rig) -> None:
    rig.write(SPI + 0x10, 0x04)
    assert rig.read(SPI + 0x10) == 0x06
    rig.write(SPI + 0x10, 0x06)
    assert rig.read(SPI + 0x10) == 0x04


@settings(deadline=None, max_examples=60)
@given(chip=st.integers(0, 3), commands=st.lists(st.tuples(st.binary(min_size=1, max_size=5), st.binary(max_size=64),
                                                           st.integers(0, 64)), max_size=20))
def test_any_transactions_end(chip: int, commands: list[tuple[bytes, bytes, int]]) -> None:
    rig = random_rig()
    for command, data, read in commands:
        if command[0] != 0xC7:                     # all of it is long
            rig.spi(chip, command, data, read)
    rig.machine.power_on()


# -- the clock ----------------------------------------------------------------------------------------


class Watch:
    """A real-time clock whose host is ours."""

    def __init__(self, text: str) -> None:
        self.host = float(calendar.timegm(time.strptime(text, "%Y-%m-%d %H:%M:%S")))
        self.virtual = VirtualClock()
        self.chip = Cy14b101p(self.virtual, lambda: self.host)

    def set(self, register: int, *values: int) -> None:
        """A write as Linux makes it."""
        for at, value in enumerate(values):
            self.chip.transfer(b"\x06", b"", 0)
            self.chip.transfer(bytes((0x12, register + at)), bytes((value,)), 0)

    def get(self, register: int, count: int = 1) -> bytes:
        return self.chip.transfer(bytes((0x13, register)), b"", count)

    def time(self) -> str:
        self.set(0, 1)
        fields = self.get(9, 7)
        century = self.get(1)
        self.set(0, 0)
        return f"{century.hex()}{fields[6]:02x}-{fields[5]:02x}-{fields[4]:02x} " + ":".join(
            f"{fields[at]:02x}" for at in (2, 1, 0)
        )

    def set_time(self, text: str) -> None:
        date, clock = text.split()
        parts = [int(part, 16) for part in (*reversed(clock.split(":")), "1", *reversed(date[2:].split("-")))]
        self.set(0, 2)
        self.set(9, *parts)
        self.set(1, int(date[:2], 16))
        self.set(0, 0)

    def pass_time(self, seconds: float) -> None:
        self.host += seconds
        self.virtual.set(self.virtual.now() + int(seconds * 10**9))
        self.virtual.start()
        self.virtual.run_expired()
        self.virtual.stop()


def test_the_clock_shows_the_host_s_time_and_can_be_set() -> None:
    watch = Watch("2026-02-28 23:59:58")
    assert watch.time() == "2026-02-28 23:59:58"
    watch.pass_time(3)
    assert watch.time() == "2026-03-01 00:00:01"
    watch.set_time("1999-12-31 23:59:59")
    assert watch.time() == "1999-12-31 23:59:59"
    watch.pass_time(2)
    assert watch.time() == "2000-01-01 00:00:01"
    watch.chip.reset()
    assert watch.time() == "2000-01-01 00:00:01"


def test_the_clock_stands_while_it_is_read_and_is_not_written_without_w() -> None:
    watch = Watch("2026-05-05 05:05:05")
    watch.set(0, 1)
    watch.pass_time(10)
    assert watch.get(9) == b"\x05"
    watch.set(0, 0)
    assert watch.get(9) == b"\x15"
    watch.set(9, 0x33)
    assert watch.get(9) == b"\x15"
    watch.chip.transfer(b"\x12\x00", b"\x02", 0)   # without write enable
    assert watch.get(0) == b"\0"


@pytest.mark.parametrize(
    ("registers", "seconds"),
    [
        ((0x30, 0x80, 0x80, 0x80), 25), ((0x05, 0x80, 0x80, 0x80), 60), ((0x00, 0x10, 0x80, 0x80), 295),
        ((0x00, 0x00, 0x04, 0x80), 82495), ((0x80, 0x80, 0x80, 0x80), 1), ((0x00, 0x00, 0x00, 0x06), 68095),
        ((0x00, 0x00, 0x00, 0x05), 31 * 86400 - 18305), ((0x00, 0x75, 0x80, 0x80), None),
        ((0x00, 0x00, 0x00, 0x00), None),
    ],
)  # fmt: skip
def test_the_alarm_goes_off_at_the_next_match(registers: tuple[int, ...], seconds: int | None) -> None:
    watch = Watch("2026-05-05 05:05:05")
    watch.set(0, 2)
    watch.set(2, *registers)
    watch.set(6, 0x4C)
    watch.set(0, 0)
    if seconds is None:
        assert watch.virtual.next_deadline() is None
        return
    step = min(seconds - 1, 1700)
    for _ in range((seconds - 1) // step if step else 0):
        watch.pass_time(step)
    if step:
        watch.pass_time((seconds - 1) % step)
    assert watch.chip.irq.level is False
    watch.pass_time(1)
    assert watch.chip.irq.level is True
    assert watch.get(0) == b"\x40"
    assert (watch.get(0), watch.chip.irq.level) == (b"\0", False)


def test_the_chip_s_own_watchdog_barks_unless_it_is_restarted() -> None:
    watch = Watch("2026-05-05 05:05:05")
    watch.set(0, 2)
    watch.set(6, 0x80)
    watch.set(7, 0x80 | 32)                        # one second
    watch.pass_time(0.9)
    watch.set(7, 0xC0)
    watch.pass_time(0.9)
    assert watch.chip.irq.level is False
    watch.pass_time(0.2)
    assert (watch.chip.irq.level, watch.get(0)) == (True, b"\x82")


def test_memory_and_a_clock_that_was_set_travel() -> None:
    watch, there = Watch("2026-05-05 05:05:05"), Watch("2026-05-05 05:05:07")
    watch.set_time("2001-09-09 01:46:40")
    watch.chip.transfer(b"\x06", b"", 0)
    watch.chip.transfer(b"\x02\x01\xff\xff", b"kept", 0)
    section, target = watch.chip.section(), there.chip.section()
    assert section is not None
    assert target is not None
    w = Writer()
    section.save(w)
    target.load(BytesReader(w.getvalue()), 1)
    assert there.time() == "2001-09-09 01:46:42"
    assert there.chip.transfer(b"\x03\x01\xff\xff", b"", 4) == b"kept"
    fresh = Watch("2026-05-05 05:05:05").chip.section()
    assert fresh is not None
    w = Writer()
    fresh.save(w)
    assert len(w.getvalue()) < 64                  # empty memory is not sent
    target.load(BytesReader(w.getvalue()), 1)
    assert there.chip.transfer(b"\x03\x01\xff\xff", b"", 4) == bytes(4)


# -- watchdog, reset, power ---------------------------------------------------------------------------


def start_watchdog(rig: Rig, seconds: int, mode: int = 0) -> None:
    """As the Linux driver does."""
    rig.write(TIMER + 0x14, 0)
    rig.write(TIMER + 0x18, 10_000_000 * seconds)
    rig.write(TIMER + 0x24, EVENT)
    rig.write(TIMER + 0x24, RUN | mode)


def test_the_watchdog_resets_the_machine_unless_it_is_fed(rig: Rig) -> None:
    rig.write(I2C_SPI | 0x60, 0x08 | 0x04)
    start_watchdog(rig, 10)
    for _ in range(3):
        rig.pass_time(9 * 10**9)
        rig.write(TIMER + 0x10, 0)                 # ping
    rig.machine.loop.run_once(0)
    assert rig.events == []
    rig.pass_time(10 * 10**9)
    assert rig.read(TIMER + 0x24) == RUN | EVENT
    rig.machine.loop.run_once(0)
    assert rig.events == ["WATCHDOG", "RESET"]
    assert (rig.read(TIMER + 0x24), rig.read(I2C_SPI | 0x64)) == (0, iohub.RESET_WATCHDOG << 2)


def test_a_watchdog_that_is_stopped_or_in_interrupt_mode_does_not(rig: Rig) -> None:
    rig.write(I2C_SPI | 0x60, 0x3C)
    start_watchdog(rig, 1)
    rig.write(TIMER + 0x24, EVENT)
    rig.write(TIMER + 0x18, 0)
    rig.pass_time(20 * 10**9)
    start_watchdog(rig, 1, INTERRUPT_MODE)
    rig.pass_time(2 * 10**9)
    timer = rig.device(IohubTimer)
    assert isinstance(timer, IohubTimer)
    assert timer.wd_irq.level is True
    rig.write(TIMER + 0x24, EVENT)
    assert timer.wd_irq.level is False
    rig.machine.loop.run_once(0)
    assert rig.events == []
    rig.write(I2C_SPI | 0x60, 0x14)                # software only
    start_watchdog(rig, 1)
    rig.pass_time(2 * 10**9)
    rig.machine.loop.run_once(0)
    assert rig.events == ["WATCHDOG"]


def test_software_reset_is_made_soon_and_told_afterwards(rig: Rig) -> None:
    rig.write(I2C_SPI | 0x68, 0xFF_FFFF)
    rig.write(I2C_SPI | 0x60, 0x30)
    rig.write(I2C_SPI | 0x64, 1)
    assert rig.events == []
    rig.machine.loop.run_once(0)
    assert rig.events == ["RESET"]
    assert (rig.read(I2C_SPI | 0x64), rig.read(I2C_SPI | 0x60)) == (iohub.RESET_SOFTWARE << 2 | 2, 0)
    rig.write(I2C_SPI | 0x64, 2)
    assert rig.read(I2C_SPI | 0x64) == iohub.RESET_SOFTWARE << 2
    rig.machine.reset()
    assert rig.read(I2C_SPI | 0x64) == 0


def test_a_reset_that_was_asked_for_is_made_once_where_the_guest_runs_on(rig: Rig) -> None:
    other = Rig()
    for _ in range(3):
        rig.write(I2C_SPI | 0x64, 1)
    sections = [next(section for section in one.machine.save_handlers() if section.idstr == I2cSpi.name)
                for one in (rig, other)]  # fmt: skip
    w = Writer()
    sections[0].save(w)
    sections[1].load(BytesReader(w.getvalue()), 1)
    rig.machine.loop.run_once(0)
    assert rig.events == ["RESET"]
    try:
        other.machine.start()
        other.machine.loop.run_once(0)
        assert other.events == ["RESUME", "RESET"]
        other.machine.stop()
    finally:
        other.machine.close()


def test_sleep_state_5_ends_the_emulator(rig: Rig) -> None:
    rig.write(SPMC | 0x4C, 3 << 10 | 1 << 13)      # S3 is not there
    rig.machine.loop.run_once(0)
    assert (rig.events, rig.machine.exit_status) == ([], None)
    rig.write(SPMC | 0x4C, 5 << 10 | 1 << 13)
    rig.machine.loop.run_once(0)
    assert (rig.events, rig.machine.exit_status) == (["SHUTDOWN"], 0)


def test_the_power_button_and_the_timer_interrupt_when_they_may(rig: Rig) -> None:
    power = rig.device(Spmc)
    assert isinstance(power, Spmc)
    assert power.press_button() is False
    assert (rig.read(SPMC | 0x44), power.sci.level) == (0x102, False)
    rig.write(SPMC | 0x48, 0x100)
    rig.write(SPMC | 0x4C, 1)
    assert (power.sci.level, rig.read(SPMC | 0x06, 2)) == (True, 8)
    rig.write(SPMC | 0x44, 0x100)
    assert (power.sci.level, rig.read(SPMC | 0x44)) == (False, 2)
    rig.write(SPMC | 0x48, 1)
    rig.pass_time(3 * 10**9)                       # bit 23 changes every 2.34 s
    assert (power.sci.level, rig.read(SPMC | 0x44)) == (True, 3)
    assert 0 <= rig.read(SPMC | 0x40) - (3 * 3_579_545 & 0xFF_FFFF) < 3_579_545    # the host's time counts a little
    rig.write(SPMC | 0x44, 1)
    assert power.sci.level is False


# -- the whole machine --------------------------------------------------------------------------------


def test_a_machine_with_everything_moves(start: Callable[..., Emulator], tmp_path: Path) -> None:
    options = ("-M", "elbrus-1.1", "-m", "32M", "-S", "-serial", "null", "-serial", "null")
    source, target = start("source", *options), start("target", *options, "-incoming", "defer")
    text = source.hmp("info qtree")
    assert all(f"dev: {name}" in text for name in ("escc", "cy14b101p", "iohub-spmc", "virtio-rng-device"))
    assert source.hmp("system_powerdown") == ""
    assert source.events() == ["POWERDOWN"]
    socket = f"unix:{tmp_path}/migration"
    target.qmp("migrate-incoming", uri=socket)
    source.qmp("migrate", uri=socket)
    assert source.wait_migration()["status"] == "completed"
    target.wait_status("prelaunch", "paused")
    shown = target.hmp(f"xp /1wx {SPMC | 0x44:#x}")
    assert shown.split()[-1] == "0x00000102"       # the button that was pressed before
