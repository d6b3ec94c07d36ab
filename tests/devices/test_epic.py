"""CEPICs, PREPIC and IO-EPIC, driven as CPUs and devices drive them: what Linux for v6 expects of them."""

from __future__ import annotations

import random

import pytest

from e2kemu.clock import VirtualClock
from e2kemu.devices.cepic import Cepic, EpicBus
from e2kemu.devices.core import speaking_for
from e2kemu.devices.ioepic import IoEpic, Prepic
from e2kemu.devices.pic import LocalWindow
from e2kemu.memory.space import AddressSpace, MmioRegion
from e2kemu.wire import BytesReader, Writer
from tests.framework.seeds import chosen_seed

LOCAL, IO = 0xFEE0_0000, 0xFEC0_0000
MS = 1_000_000
STAT = 1 << 12


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
    """``count`` CPUs with CEPICs, and an IO-EPIC, in an address space."""

    def __init__(self, count: int = 4) -> None:
        self.clock, self.space, self.bus = VirtualClock(), AddressSpace(), EpicBus()
        self.io = IoEpic(self.bus)
        self.cepics = [Cepic(index, self.clock, self.bus) for index in range(count)]
        self.pins = [Pins() for _ in range(count)]
        for cepic, pins in zip(self.cepics, self.pins, strict=True):
            cepic.attach(pins)
            cepic.reset()
        self.io.reset()
        self.space.map(LOCAL, MmioRegion(LocalWindow(self.cepics), 0x2000, 8), "cepic")
        self.space.map(IO, MmioRegion(self.io, self.io.size), "ioepic")

    def read(self, register: int, cpu: int = 0, size: int = 4) -> int:
        with speaking_for(cpu):
            return self.space.read(LOCAL + register, size)

    def write(self, register: int, value: int, cpu: int = 0, size: int = 4) -> None:
        with speaking_for(cpu):
            self.space.write(LOCAL + register, size, value)

    def enable(self, *cpus: int) -> None:
        for cpu in cpus or range(len(self.cepics)):
            self.write(0, 0x400, cpu)

    def send(self, vector: int, cpu: int = 0, *, to: int = 0, shorthand: int = 0, mode: int = 1) -> None:
        self.write(0x200, vector | shorthand << 10 | mode << 13 | to << 40, cpu, 8)

    def pin(self, number: int, vector: int, to: int, ctrl: int) -> None:
        base = IO + 0x1000 * number
        for offset, value in ((0x20, 1 << 16), (0x24, vector), (0x28, 0), (0x2C, to << 6), (0x20, ctrl)):
            self.space.write(base + offset, 4, value)

    def ctrl(self, number: int) -> int:
        return self.space.read(IO + 0x1000 * number + 0x20, 4)

    def advance(self, ns: int) -> None:
        """Let virtual time pass without host time."""
        end = self.clock.now() + ns
        while (due := self.clock.next_deadline()) is not None and due <= end:
            self.clock.set(max(due, self.clock.now()))
            for timer in list(self.clock._timers):
                if timer.expire is not None and timer.expire <= self.clock.now():
                    timer.fire()
        self.clock.set(end)


def test_every_cpu_sees_its_own_cepic_at_the_same_address() -> None:
    rig = Rig(16)
    assert [rig.read(0x10, cpu) for cpu in range(16)] == list(range(16))
    assert [rig.read(0, cpu) for cpu in range(3)] == [0x100, 0, 0]
    rig.enable(2)
    assert [rig.read(0, cpu) for cpu in range(4)] == [0x100, 0, 0x400, 0]


def test_an_interrupt_is_shown_in_cir_acknowledged_in_vect_inta_and_ended_with_the_priority_before() -> None:
    rig = Rig()
    rig.enable()
    rig.write(0x2A0, 0x3FF)
    for vector in (0x031, 0x152, 0x144):
        rig.send(vector, shorthand=1)
    assert rig.pins[0].interrupt
    assert rig.read(0xB0) == STAT | 0x152
    assert rig.read(0x100 + 0x28, size=8) == 1 << 4, "0x144 waits, what CIR shows is not there"
    assert rig.read(0x100 + 4) == 1 << 0x11
    assert rig.read(0x2F0) == 0x152
    assert (rig.read(0x70), rig.pins[0].interrupt, rig.read(0xB0)) == (2 << 8, False, 0)
    rig.send(0x3AB, shorthand=1)
    assert rig.pins[0].interrupt
    assert rig.read(0x2F0) == 2 << 16 | 0x3AB
    assert rig.read(0x70) == 4 << 8
    assert rig.read(0x2F0) == 4 << 16 | 0x3FF, "spurious, and no other priority"
    rig.write(0xA0, 2 << 16)
    assert (rig.read(0x70), rig.pins[0].interrupt) == (2 << 8, False)
    rig.write(0xA0, 0)
    assert (rig.read(0xB0), rig.pins[0].interrupt) == (STAT | 0x144, True)
    assert rig.read(0x2F0) == 0x144
    rig.write(0xA0, 0)
    assert rig.read(0x2F0) == 0x031
    rig.write(0xA0, 0)
    assert (rig.pins[0].interrupt, rig.read(0x2F0)) == (False, 0x3FF)


@pytest.mark.parametrize(("shorthand", "reached"), [(0, {2}), (1, {1}), (2, {0, 2, 3}), (3, {0, 1, 2, 3})])
def test_a_message_reaches_whom_it_names(shorthand: int, reached: set[int]) -> None:
    rig = Rig()
    rig.enable()
    rig.send(0x77, 1, to=2, shorthand=shorthand)
    assert {cpu for cpu in range(4) if rig.pins[cpu].interrupt} == reached


def test_a_command_in_two_halves_is_sent_by_the_low_one() -> None:
    rig = Rig()
    rig.enable()
    rig.write(0x204, 3 << 8)
    assert not any(pins.interrupt for pins in rig.pins)
    rig.write(0x200, 0x99)
    assert rig.read(0x2F0, 3) == 0x99
    assert rig.read(0x200, size=8) == 3 << 40 | 0x99


def test_a_message_to_nobody_is_an_error_that_shows_after_a_write() -> None:
    rig = Rig()
    rig.enable()
    rig.write(0x90, 0x3FD)
    rig.send(0x77, to=9)
    assert (rig.read(0x80), rig.read(0x1F0)) == (0, 1 << 10)
    rig.write(0x80, 0)
    assert (rig.read(0x80), rig.read(0x1F0), rig.read(0x2F0)) == (1 << 10, 0, 0x3FD)


def test_nmis_init_and_startup_need_no_enabled_cepic() -> None:
    rig = Rig()
    rig.send(0x77, to=1)
    assert not rig.pins[1].interrupt
    rig.send(0, to=1, mode=4)
    assert (rig.pins[1].nmi, rig.read(0x1E0, 1)) == (True, 0x400)
    rig.write(0x2D0, 0x400, 1)
    assert not rig.pins[1].nmi
    rig.write(0x2D0, 0, 1)
    assert rig.pins[1].nmi
    rig.write(0x1E0, 0x400, 1)
    assert (rig.pins[1].nmi, rig.read(0x1E0, 1)) == (False, 0)
    rig.send(0, to=1, mode=5)
    rig.send(0xE2, to=1, mode=6)
    assert (rig.pins[1].commands, rig.read(0x1E0, 1), rig.pins[1].nmi) == (["init", 0xE2], 0x1800 | 0xE2, False)


def test_the_timers_interrupt() -> None:
    rig = Rig()
    rig.enable()
    rig.write(0x250, 0xB)
    rig.write(0x220, 0x2_03EF)
    rig.write(0x230, 100_000)
    for _ in range(3):
        rig.advance(MS)
        assert rig.read(0x2F0) == 0x3EF
        rig.write(0xA0, 0)
    assert rig.read(0x240) == 100_000
    rig.write(0x220, 0x3EF)                # one shot from here on
    rig.advance(MS)
    assert (rig.read(0x2F0), rig.read(0x240)) == (0x3EF, 0)
    rig.write(0xA0, 0)
    rig.write(0x290, 0xB)
    rig.write(0x270, 100_000)
    rig.advance(MS)
    assert (rig.pins[0].nmi, rig.read(0x1E0)) == (True, 1 << 16)


# -- IO-EPIC


def test_the_io_epic_is_version_2_with_24_masked_pins() -> None:
    rig = Rig()
    assert rig.space.read(IO + 4, 4) == 24 << 16 | 2
    assert [rig.ctrl(pin) for pin in range(24)] == [1 << 16] * 24


def test_an_edge_interrupts_once_and_a_level_until_its_end_is_written() -> None:
    rig = Rig()
    rig.enable()
    rig.pin(4, 0x123, 2, 0)
    rig.io.set_pin(4, True)
    assert (rig.read(0x2F0, 2), rig.ctrl(4)) == (0x123, 0)
    rig.write(0xA0, 0, 2)
    assert not rig.pins[2].interrupt
    rig.pin(5, 0x124, 3, 0x8000)
    rig.io.set_pin(5, True)
    assert (rig.read(0x2F0, 3), rig.ctrl(5)) == (0x124, 0x9000)
    rig.write(0xA0, 0, 3)
    assert not rig.pins[3].interrupt, "the pin is busy"
    rig.space.write(IO + 0x5020, 4, 0x1000)
    assert (rig.pins[3].interrupt, rig.ctrl(5)) == (True, 0x9000), "still asserted: again"
    assert rig.read(0x2F0, 3) == 0x124
    rig.io.set_pin(5, False)
    rig.space.write(IO + 0x5020, 4, 0x1000)
    rig.write(0xA0, 0, 3)
    assert (rig.pins[3].interrupt, rig.ctrl(5)) == (False, 0x8000), "writing 1 to the status changed nothing else"
    rig.space.write(IO + 0x5020, 4, 0x1_8000)
    rig.io.set_pin(5, True)
    assert not rig.pins[3].interrupt
    rig.space.write(IO + 0x5020, 4, 0x8000)
    assert rig.pins[3].interrupt, "unmasked while asserted"


def test_prepic_keeps_what_is_written_to_its_entries() -> None:
    prepic = Prepic()
    prepic.mmio_write(0xC04, 4, 0xFFFF_FFFF)
    assert prepic.mmio_read(0xC04, 4) == 0x3FF1_E3FF
    assert (prepic.mmio_read(0x10, 4), prepic.mmio_read(0, 4)) == (0x900, 2)


# -- migration


def moved(source: Rig) -> Rig:
    """The same machine somewhere else, its sections loaded in the order of the stream."""
    there = Rig(len(source.cepics))
    there.clock.set(source.clock.now())
    for one, other in zip([source.io, *source.cepics], [there.io, *there.cepics], strict=True):
        w = Writer()
        section, target = one.section(), other.section()
        assert section is not None
        assert target is not None
        section.save(w)
        target.load(BytesReader(w.getvalue()), 1)
    return there


def test_what_is_pending_and_running_travels() -> None:
    rig = Rig()
    rig.enable()
    rig.pin(16, 0x245, 2, 0x8000)
    rig.io.set_pin(16, True)
    assert rig.read(0x2F0, 2) == 0x245
    rig.send(0x140, to=2)
    rig.send(0, to=3, mode=4)
    rig.write(0x250, 0xB, 1)
    rig.write(0x220, 0x77, 1)
    rig.write(0x230, 100_000, 1)
    rig.advance(MS // 2)
    there = moved(rig)
    assert (there.pins[3].nmi, there.pins[2].interrupt, there.read(0x70, 2)) == (True, False, 3 << 8)
    there.io.set_pin(16, True)
    assert not there.pins[2].interrupt
    there.write(0xA0, 0, 2)
    assert there.read(0x2F0, 2) == 0x140
    there.advance(MS // 2)
    assert there.read(0x2F0, 1) == 0x77


def test_nothing_a_guest_writes_breaks_the_controllers() -> None:
    """Random accesses by four CPUs, random pins, time; the invariants of the pins hold at every step."""
    rng = random.Random(chosen_seed())
    rig = Rig()
    registers = [reg.offset for reg in Cepic.registers.values() if reg.offset is not None]
    for _ in range(4000):
        what, cpu = rng.random(), rng.randrange(4)
        value = rng.choice((rng.getrandbits(32), 1 << rng.randrange(32), 0x400, rng.getrandbits(10)))
        if what < 0.5:
            rig.write(rng.choice(registers), value, cpu)
        elif what < 0.55:
            rig.send(rng.getrandbits(10), cpu, to=rng.randrange(5), shorthand=rng.getrandbits(2),
                     mode=rng.getrandbits(3))
        elif what < 0.7:
            assert 0 <= rig.read(rng.choice((*registers, rng.randrange(0, 0x2000, 4))), cpu) < 1 << 32
        elif what < 0.85:
            rig.pin(rng.randrange(24), value, rng.randrange(5), rng.getrandbits(5) << 12)
        elif what < 0.95:
            rig.io.set_pin(rng.randrange(24), rng.random() < 0.5)
        else:
            rig.advance(rng.randrange(100_000))
        for cepic, pins in zip(rig.cepics, rig.pins, strict=True):
            assert pins.interrupt == (cepic.enabled and cepic.current() is not None)
            assert cepic.requests < 1 << 1024
    again = moved(rig)
    assert [cepic.info() for cepic in again.cepics] == [cepic.info() for cepic in rig.cepics]
    assert again.io.info() == rig.io.info()
