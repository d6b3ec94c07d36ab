"""Local APICs and the I/O APIC, driven as CPUs and devices drive them: expected values are those of the manuals."""

from __future__ import annotations

import random

import pytest

from e2kemu.clock import VirtualClock
from e2kemu.devices.core import IrqLine, speaking_for
from e2kemu.devices.ioapic import IoApic
from e2kemu.devices.lapic import ApicBus, LocalApic
from e2kemu.devices.local_timer import LocalTimer, divisor
from e2kemu.devices.pic import LocalWindow
from e2kemu.errors import StreamError
from e2kemu.memory.space import AddressSpace, MmioRegion
from e2kemu.wire import BytesReader, Writer
from tests.framework.seeds import chosen_seed

LOCAL, IO = 0xFEE0_0000, 0xFEC0_0000
MS = 1_000_000


class Pins:
    """A CPU as its controller sees it."""

    def __init__(self) -> None:
        self.interrupt = self.nmi = False
        self.commands: list[object] = []

    def set_interrupt(self, level: bool) -> None:
        self.interrupt = level

    def set_nmi(self, level: bool) -> None:
        self.nmi = level

    def init(self) -> None:
        self.commands.append("init")

    def startup(self, vector: int) -> None:
        self.commands.append(vector)


class Rig:
    """``count`` CPUs with APICs, and an I/O APIC, in an address space."""

    def __init__(self, count: int = 4) -> None:
        self.clock, self.space, self.bus = VirtualClock(), AddressSpace(), ApicBus()
        self.barks: list[int] = []
        self.io = IoApic(self.bus, 16)
        self.apics = [LocalApic(index, self.clock, self.bus, lambda: self.barks.append(1)) for index in range(count)]
        self.pins = [Pins() for _ in range(count)]
        for apic, pins in zip(self.apics, self.pins, strict=True):
            apic.attach(pins)
            apic.reset()
        self.io.reset()
        self.space.map(LOCAL, MmioRegion(LocalWindow(self.apics), 0x1000), "apic")
        self.space.map(IO, MmioRegion(self.io, self.io.size), "ioapic")

    def read(self, register: int, cpu: int = 0) -> int:
        with speaking_for(cpu):
            return self.space.read(LOCAL + register, 4)

    def write(self, register: int, value: int, cpu: int = 0) -> None:
        with speaking_for(cpu):
            self.space.write(LOCAL + register, 4, value)

    def enable(self, *cpus: int) -> None:
        for cpu in cpus or range(len(self.apics)):
            self.write(0xF0, 0x1FF, cpu)

    def entry(self, pin: int, low: int, destination: int = 0) -> None:
        for register, value in ((0x11 + 2 * pin, destination << 24), (0x10 + 2 * pin, low)):
            self.space.write(IO, 4, register)
            self.space.write(IO + 0x10, 4, value)

    def read_entry(self, pin: int) -> int:
        self.space.write(IO, 4, 0x10 + 2 * pin)
        return self.space.read(IO + 0x10, 4)

    def send(self, low: int, destination: int = 0, cpu: int = 0) -> None:
        self.write(0x310, destination << 24, cpu)
        self.write(0x300, low, cpu)

    def bits(self, register: int, cpu: int = 0) -> int:
        return sum(self.read(register + 0x10 * word, cpu) << 32 * word for word in range(8))

    def advance(self, ns: int) -> None:
        """Let virtual time pass without host time."""
        end = self.clock.now() + ns
        while (due := self.clock.next_deadline()) is not None and due <= end:
            self.clock.set(max(due, self.clock.now()))
            for timer in list(self.clock._timers):
                if timer.expire is not None and timer.expire <= self.clock.now():
                    timer.fire()
        self.clock.set(end)


def test_every_cpu_sees_its_own_apic_at_the_same_address() -> None:
    rig = Rig(16)
    assert [rig.read(0x20, cpu) >> 24 for cpu in range(16)] == list(range(16))
    assert [rig.read(0x10, cpu) for cpu in range(3)] == [0x900, 0x800, 0x800]
    assert (rig.read(0x30), rig.read(0xF0), rig.read(0xE0)) == (0x3_0010, 0xFF, 0xFFFF_FFFF)
    rig.write(0x80, 0x55, 3)
    assert [rig.read(0x80, cpu) for cpu in range(4)] == [0, 0, 0, 0x55]


def test_reading_vect_acknowledges_the_highest_vector_and_eoi_ends_it() -> None:
    rig = Rig()
    rig.enable()
    for vector in (0x31, 0x52, 0x44):
        rig.send(0x40000 | vector)             # to itself
    assert rig.pins[0].interrupt
    assert rig.bits(0x200) == 1 << 0x31 | 1 << 0x52 | 1 << 0x44
    assert rig.read(0xFF0) == 0x52
    assert (rig.bits(0x100), rig.read(0xA0)) == (1 << 0x52, 0x50)
    assert not rig.pins[0].interrupt, "the others are not above the one in service"
    assert rig.read(0xFF0) == 0xFF, "spurious"
    rig.send(0x40000 | 0x61)
    assert rig.pins[0].interrupt
    assert rig.read(0xFF0) == 0x61
    rig.write(0xB0, 0)
    assert rig.bits(0x100) == 1 << 0x52
    rig.write(0xB0, 0)
    assert rig.pins[0].interrupt
    assert (rig.read(0xFF0), rig.read(0xFF0)) == (0x44, 0xFF)
    rig.write(0xB0, 0)
    assert rig.read(0xFF0) == 0x31
    rig.write(0xB0, 0)
    assert (rig.bits(0x100), rig.bits(0x200), rig.pins[0].interrupt) == (0, 0, False)


def test_the_task_priority_holds_classes_back() -> None:
    rig = Rig()
    rig.enable()
    rig.write(0x80, 0x4F)
    rig.send(0x40000 | 0x4E)
    assert not rig.pins[0].interrupt
    rig.send(0x40000 | 0x50)
    assert rig.pins[0].interrupt
    assert rig.read(0xFF0) == 0x50
    rig.write(0xB0, 0)
    assert not rig.pins[0].interrupt
    rig.write(0x80, 0x3F)
    assert rig.read(0xFF0) == 0x4E


@pytest.mark.parametrize(
    ("low", "destination", "reached"),
    [
        (0x40, 2, {2}), (0x40, 0xFF, {0, 1, 2, 3}), (0x40, 9, set()),
        (0x840, 0b1010, {1, 3}), (0x840, 0xFF, {0, 1, 2, 3}),
        (0x4_0040, 3, {0}), (0x8_0040, 3, {0, 1, 2, 3}), (0xC_0040, 3, {1, 2, 3}),
        (0x140, 0xFF, {2}),
    ],
)  # fmt: skip
def test_an_ipi_reaches_whom_it_names(low: int, destination: int, reached: set[int]) -> None:
    rig = Rig()
    rig.enable()
    for cpu in range(4):
        rig.write(0xD0, 1 << 24 + cpu, cpu)
        rig.write(0x80, 0 if cpu == 2 else 0x20, cpu)
    rig.send(low, destination)
    assert {cpu for cpu in range(4) if rig.bits(0x200, cpu)} == reached
    assert rig.read(0x280) == (0 if reached else 4), "send accept error"


def test_clusters_are_chosen_by_the_high_half_of_the_logical_id() -> None:
    rig = Rig()
    rig.enable()
    for cpu, mine in enumerate((0x11, 0x12, 0x21, 0x22)):
        rig.write(0xE0, 0x0FFF_FFFF, cpu)
        rig.write(0xD0, mine << 24, cpu)
    rig.send(0x840, 0x13)
    rig.send(0x841, 0xF2)
    assert [rig.bits(0x200, cpu) >> 0x40 for cpu in range(4)] == [1, 3, 0, 2]


def test_an_apic_that_is_off_takes_no_interrupt_but_nmi_init_and_startup() -> None:
    rig = Rig()
    rig.send(0x40, 1)
    rig.send(0x8_0040)
    assert not any(rig.bits(0x200, cpu) for cpu in range(4))
    rig.send(0x400, 1)
    assert (rig.pins[1].nmi, rig.apics[1].nm) == (True, 0x400)
    rig.send(0x500 | 0xC000, 1)            # INIT, assert
    rig.send(0x500 | 0x8000, 1)            # and its end
    rig.send(0x6E2, 1)
    assert rig.pins[1].commands == ["init", 0xE2]
    assert (rig.read(0xFE0, 1), rig.pins[1].nmi) == (0x1800 | 0xE2, False)


def test_nm_holds_the_pin_low_from_its_reading_to_its_writing() -> None:
    rig = Rig()
    rig.send(0x400, 2)
    assert rig.pins[2].nmi
    assert rig.read(0xFE0, 2) == 0x400
    assert not rig.pins[2].nmi
    rig.send(0x400, 2)                     # another one before the first is cleared: one
    assert not rig.pins[2].nmi
    rig.write(0xFE0, 0x400, 2)
    assert (rig.pins[2].nmi, rig.read(0xFE0, 2)) == (False, 0)
    rig.write(0xFE0, 0, 2)
    rig.send(0x400, 2)
    assert rig.pins[2].nmi


def test_vectors_that_cannot_be_are_errors_and_the_error_interrupt_says_so() -> None:
    rig = Rig()
    rig.enable()
    rig.write(0x370, 0xFE)
    rig.send(0x05, 1)
    assert (rig.read(0x280), rig.read(0xFF0)) == (0x20, 0xFE)
    rig.write(0x280, 0)
    rig.entry(7, 0x0005)                   # vector 5 from a device
    rig.io.set_pin(7, True)
    assert (rig.read(0x280), rig.bits(0x200)) == (0x40, 1 << 0xFE)
    rig.write(0x370, 0x03)                 # an error interrupt that is itself an error ends there
    rig.send(0x05, 1)
    assert rig.read(0x280) == 0x60


# -- timers


DIVISORS = [(0, 2), (1, 4), (2, 8), (3, 16), (8, 32), (9, 64), (10, 128), (11, 1), (4, 2)]


@pytest.mark.parametrize(("code", "by"), DIVISORS)
def test_the_timer_counts_down_at_100_mhz_divided(code: int, by: int) -> None:
    assert divisor(code) == by
    rig = Rig()
    rig.enable()
    rig.write(0x3E0, code)
    rig.write(0x320, 0x40)
    rig.write(0x380, 1000)
    rig.advance(10 * by * 400)
    assert rig.read(0x390) == 600
    rig.advance(10 * by * 599)
    assert (rig.read(0x390), rig.pins[0].interrupt) == (1, False)
    rig.advance(10 * by)
    assert (rig.read(0x390), rig.pins[0].interrupt) == (0, True)
    assert rig.read(0xFF0) == 0x40
    rig.write(0xB0, 0)
    rig.advance(100 * MS)
    assert not rig.pins[0].interrupt, "one shot"


def test_a_periodic_timer_interrupts_until_it_is_masked_or_stopped() -> None:
    rig = Rig()
    rig.enable()
    rig.write(0x3E0, 0xB)
    rig.write(0x320, 0x2_0041, 1)
    rig.write(0x3E0, 0xB, 1)
    rig.write(0x380, 100_000, 1)
    count = 0
    for _ in range(10):
        rig.advance(MS)
        assert rig.pins[1].interrupt
        assert not rig.pins[0].interrupt
        count += rig.read(0xFF0, 1) == 0x41
        rig.write(0xB0, 0, 1)
    assert count == 10
    assert rig.read(0x390, 1) == 100_000
    rig.write(0x320, 0x3_0041, 1)
    rig.advance(5 * MS)
    assert not rig.pins[1].interrupt
    rig.write(0x320, 0x2_0041, 1)
    rig.write(0x380, 0, 1)
    rig.advance(5 * MS)
    assert (rig.pins[1].interrupt, rig.read(0x390, 1)) == (False, 0)


def test_the_nm_timer_is_an_nmi_or_a_watchdog() -> None:
    rig = Rig()
    rig.write(0xF30, 0xB)
    rig.write(0xF00, 1 << 17)
    rig.write(0xF10, 100_000)
    rig.advance(MS)
    assert (rig.pins[0].nmi, rig.apics[0].nm) == (True, 0x1_0000)
    rig.write(0xFE0, 0x1_0000)
    rig.write(0xFC0, 0x1_0000)             # masked
    rig.advance(MS)
    assert (rig.pins[0].nmi, rig.apics[0].nm, rig.barks) == (False, 0x1_0000, [])
    rig.write(0xFC0, 0x8001_0000)          # and a watchdog
    rig.write(0xFE0, 0x1_0000)
    rig.write(0xF10, 100_000)
    rig.advance(MS)
    assert rig.barks == []
    rig.write(0xF10, 100_000)              # fed as Linux does it
    rig.write(0xFE0, 0x1_0000)
    rig.advance(MS + MS // 2)
    assert rig.barks == []
    rig.advance(MS)
    assert rig.barks == [1]


# -- I/O APIC


def test_the_io_apic_has_24_masked_pins() -> None:
    rig = Rig()
    rig.space.write(IO, 4, 1)
    assert rig.space.read(IO + 0x10, 4) == 0x17_0011
    assert [rig.read_entry(pin) for pin in range(24)] == [1 << 16] * 24
    rig.enable()
    for pin in range(24):
        rig.io.set_pin(pin, True)
    assert not rig.pins[0].interrupt
    rig.entry(3, 0x33)
    assert not rig.pins[0].interrupt, "an edge at a masked pin is lost"
    rig.io.set_pin(3, False)
    rig.io.set_pin(3, True)
    assert rig.read(0xFF0) == 0x33


def test_a_level_triggered_pin_interrupts_as_long_as_it_is_asserted_and_not_twice_at_once() -> None:
    rig = Rig()
    rig.enable()
    rig.entry(16, 0x8000 | 0x45, 2)
    rig.io.set_pin(16, True)
    assert (rig.read_entry(16), rig.bits(0x180, 2)) == (0x8000 | 0x4000 | 0x45, 1 << 0x45)
    assert rig.read(0xFF0, 2) == 0x45
    rig.io.set_pin(16, False)
    rig.io.set_pin(16, True)
    assert not rig.pins[2].interrupt
    rig.write(0xB0, 0, 2)
    assert (rig.pins[2].interrupt, rig.read_entry(16) & 0x4000) == (True, 0x4000), "still asserted: again"
    assert rig.read(0xFF0, 2) == 0x45
    rig.io.set_pin(16, False)
    rig.write(0xB0, 0, 2)
    assert (rig.pins[2].interrupt, rig.read_entry(16)) == (False, 0x8045)
    rig.entry(16, 0x8000 | 1 << 16 | 0x45, 2)
    rig.io.set_pin(16, True)
    assert not rig.pins[2].interrupt
    rig.entry(16, 0x8000 | 0x45, 2)
    assert rig.pins[2].interrupt, "unmasked while asserted"


def test_a_level_that_nobody_takes_is_sent_when_an_apic_is_enabled() -> None:
    rig = Rig()
    rig.entry(5, 0x8000 | 0x60, 1)
    rig.io.set_pin(5, True)
    assert rig.read_entry(5) == 0x8060
    rig.enable(1)
    assert (rig.pins[1].interrupt, rig.read_entry(5)) == (True, 0xC060)


def test_a_pin_can_be_an_nmi_and_lowest_priority_goes_to_one() -> None:
    rig = Rig()
    rig.enable()
    rig.entry(1, 0x400, 0xFF)
    rig.io.set_pin(1, True)
    assert all(pins.nmi for pins in rig.pins)
    for cpu in range(4):
        rig.write(0xD0, 0xFF << 24, cpu)
        rig.write(0x80, 0x30 - 0x10 * cpu, cpu)
    rig.entry(2, 0x900 | 0x70, 0xFF)
    rig.io.set_pin(2, True)
    assert [bool(rig.bits(0x200, cpu)) for cpu in range(4)] == [False, False, False, True]


def test_a_line_has_one_pin_and_goes_on_telling_whom_it_told() -> None:
    rig, line = Rig(), IrqLine()
    told: list[bool] = []
    line.sink = told.append
    rig.io.connect(9, line, "lamp")
    line.set(True)
    assert (told, rig.io.levels) == ([True], 1 << 9)
    with pytest.raises(AssertionError, match="pin 9 has a source"):
        rig.io.connect(9, IrqLine(), "other")
    assert "  pin 9 = lamp" in rig.io.qtree()


# -- migration


def moved(source: Rig) -> Rig:
    """The same machine somewhere else, its sections loaded in the order of the stream."""
    there = Rig(len(source.apics))
    there.clock.set(source.clock.now())
    for one, other in zip([source.io, *source.apics], [there.io, *there.apics], strict=True):
        w = Writer()
        section, target = one.section(), other.section()
        assert section is not None
        assert target is not None
        section.save(w)
        target.load(BytesReader(w.getvalue()), 1)
    return there


def test_what_is_pending_in_service_and_running_travels() -> None:
    rig = Rig()
    rig.enable()
    rig.entry(16, 0x8000 | 0x45, 2)
    rig.io.set_pin(16, True)
    assert rig.read(0xFF0, 2) == 0x45
    rig.send(0x40, 2)
    rig.send(0x400, 3)
    rig.write(0x3E0, 0xB, 1)
    rig.write(0x320, 0x77, 1)
    rig.write(0x380, 100_000, 1)
    rig.advance(MS // 2)
    there = moved(rig)
    assert (there.pins[3].nmi, there.pins[2].interrupt, there.io.levels) == (True, False, 1 << 16)
    there.io.set_pin(16, True)             # the device is loaded after the controllers and says what they know
    assert not there.pins[2].interrupt
    there.io.set_pin(16, False)
    there.write(0xB0, 0, 2)
    assert (there.read(0xFF0, 2), there.read_entry(16)) == (0x40, 0x8045)
    there.advance(MS // 2)
    assert there.read(0xFF0, 1) == 0x77


def test_an_alarm_that_was_due_and_had_not_rung_rings_on_the_other_side() -> None:
    rig = Rig()
    rig.enable()
    rig.write(0x3E0, 0xB)
    rig.write(0x320, 0x40)
    rig.write(0x380, 1000)
    rig.clock.set(50_000)                  # the main loop did not get to it
    there = moved(rig)
    assert not there.pins[0].interrupt
    there.advance(1)
    assert there.read(0xFF0) == 0x40


def test_who_reads_that_the_count_is_0_finds_the_interrupt_requested() -> None:
    """Although the main loop, which rings alarms, has not come to it."""
    clock, rung = VirtualClock(), []
    timer = LocalTimer(clock, lambda: rung.append(1))
    clock.start()
    timer.divide = 11
    timer.write_initial(20_000)
    assert timer.read_current()
    assert rung == []
    while timer.read_current():
        pass
    assert rung == [1]
    clock.run_expired()
    assert rung == [1]


def test_a_timer_started_in_the_future_or_ringing_in_a_year_is_refused() -> None:
    clock = VirtualClock()
    timer = LocalTimer(clock, lambda: None)
    for attribute, value in (("start_ns", 1), ("initial", 5)):
        other = LocalTimer(clock, lambda: None)
        setattr(other, attribute, value)
        other.alarm.arm(1 << 60)
        w = Writer()
        LocalTimer.vmstate.save(w, other)
        with pytest.raises(StreamError, match=r"local-timer: the timer"):
            LocalTimer.vmstate.load(BytesReader(w.getvalue()), timer, 1)
        assert timer.alarm.expire is None or value == 1


def test_nothing_a_guest_writes_breaks_the_controllers() -> None:
    """Random accesses by four CPUs, random pins, time; the invariants of the pins hold at every step."""
    rng = random.Random(chosen_seed())
    rig = Rig()
    registers = [reg.offset for reg in LocalApic.registers.values() if reg.offset is not None]
    for _ in range(4000):
        what, cpu = rng.random(), rng.randrange(4)
        value = rng.choice((rng.getrandbits(32), 1 << rng.randrange(32), 0x1FF, 0x40 + rng.randrange(0xC0)))
        if what < 0.5:
            rig.write(rng.choice(registers), value, cpu)
        elif what < 0.7:
            assert 0 <= rig.read(rng.choice((*registers, rng.randrange(0, 0x1000, 4))), cpu) < 1 << 32
        elif what < 0.85:
            rig.entry(rng.randrange(24), value, rng.getrandbits(8))
        elif what < 0.95:
            rig.io.set_pin(rng.randrange(24), rng.random() < 0.5)
        else:
            rig.advance(rng.randrange(100_000))
        for apic, pins in zip(rig.apics, rig.pins, strict=True):
            assert pins.interrupt == (apic.enabled and apic.pending() is not None)
            assert not apic.isr & 0xFFFF
        assert rig.io.levels < 1 << 24
    again = moved(rig)
    assert [apic.info() for apic in again.apics] == [apic.info() for apic in rig.apics]
    assert again.io.info() == rig.io.info()
