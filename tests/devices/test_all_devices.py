"""What holds for every device: reset, register accesses of every size, a round trip of its state."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2kemu.block.drive import Drive
from e2kemu.block.raw import RawImage
from e2kemu.clock import VirtualClock
from e2kemu.devices.cepic import Cepic, EpicBus
from e2kemu.devices.core import Device, Reg
from e2kemu.devices.escc import Escc
from e2kemu.devices.ioapic import IoApic
from e2kemu.devices.ioepic import IoEpic, Prepic
from e2kemu.devices.iohub import I2cSpi, ParallelSerial, PciHost, Spmc
from e2kemu.devices.iohub_timer import IohubTimer
from e2kemu.devices.ioport import IoPorts
from e2kemu.devices.lapic import ApicBus, LocalApic
from e2kemu.devices.lt_timer import LtTimer
from e2kemu.devices.pci import PciBridge, PciEndpoint
from e2kemu.devices.registry import all_devices
from e2kemu.devices.rtc import Cy14b101p
from e2kemu.devices.serial8250 import Serial8250
from e2kemu.devices.sic import Sic
from e2kemu.devices.spi import SpiBuffer, SpiMaster
from e2kemu.devices.spi_flash import SpiFlash
from e2kemu.devices.system_timer import SystemTimer
from e2kemu.devices.test_device import TestDevice
from e2kemu.devices.virtio_blk import VirtioBlk
from e2kemu.devices.virtio_console import VirtioConsole
from e2kemu.devices.virtio_net import VirtioNet
from e2kemu.devices.virtio_rng import VirtioRng
from e2kemu.errors import StreamError
from e2kemu.memory.ram import RAMBlock
from e2kemu.memory.space import AddressSpace, MmioRegion
from e2kemu.wire import BytesReader, Writer

with tempfile.NamedTemporaryFile() as file:
    file.truncate(1 << 20)
    DISK = Drive("disk0", RawImage(file.name))


class Nobody:
    """Somebody to put to sleep."""

    idle_until: int | None = None


def with_windows(function: PciEndpoint) -> PciEndpoint:
    """The function with the windows of an SPI master, as after power-on."""
    master = SpiMaster()
    function.add_window(0, 64, 0x8120_0000, master)
    function.add_window(1, 64, 0x8120_0040, SpiBuffer(master))
    function.reset()
    return function


def spi_master() -> SpiMaster:
    """One with a clock and a flash."""
    master = SpiMaster()
    master.chips.update({0: SpiFlash(RAMBlock("rom", 1 << 20)), 1: Cy14b101p(VirtualClock(), lambda: 1e9)})
    return master


MAKE: dict[str, Callable[[], Device]] = {
    Cepic.name: lambda: Cepic(0, VirtualClock(), EpicBus()),
    Cy14b101p.name: lambda: Cy14b101p(VirtualClock(), lambda: 1e9),
    Escc.name: Escc,
    I2cSpi.name: lambda: with_windows(I2cSpi(lambda: None)),
    IoApic.name: lambda: IoApic(ApicBus(), 16),
    IoEpic.name: lambda: IoEpic(EpicBus()),
    IoPorts.name: IoPorts,
    IohubTimer.name: lambda: IohubTimer(VirtualClock(), lambda: None),
    LocalApic.name: lambda: LocalApic(0, VirtualClock(), ApicBus(), lambda: None),
    LtTimer.name: lambda: LtTimer(VirtualClock()),
    ParallelSerial.name: lambda: with_windows(ParallelSerial()),
    PciBridge.name: PciBridge,
    PciHost.name: PciHost,
    Prepic.name: Prepic,
    Serial8250.name: lambda: Serial8250(VirtualClock()),
    Sic.name: lambda: Sic(1 << 31, 4 << 32, 6 << 30),
    SpiBuffer.name: lambda: SpiBuffer(SpiMaster()),
    SpiFlash.name: lambda: SpiFlash(RAMBlock("rom", 1 << 20)),
    SpiMaster.name: spi_master,
    Spmc.name: lambda: with_windows(Spmc(VirtualClock(), lambda: None)),
    SystemTimer.name: lambda: SystemTimer(VirtualClock(), lambda: None),
    TestDevice.name: lambda: TestDevice(VirtualClock(), lambda status: None, Nobody),
    VirtioBlk.name: lambda: VirtioBlk(AddressSpace(), DISK),
    VirtioConsole.name: lambda: VirtioConsole(AddressSpace(), VirtualClock()),
    VirtioNet.name: lambda: VirtioNet(AddressSpace(), VirtualClock(), None, b"\x52\x54\0\x12\x34\x56"),
    VirtioRng.name: lambda: VirtioRng(AddressSpace()),
}
"""How to make one of each: what a device is connected to is not its state."""

DEVICES = sorted(all_devices())


def body(device: Device) -> bytes:
    section = device.section()
    assert section is not None
    w = Writer()
    section.save(w)
    return w.getvalue()


def shaken(name: str, seed: int) -> Device:
    """A device after random register accesses."""
    print(f"seed {seed}")
    rng, device, space = random.Random(seed), MAKE[name](), AddressSpace()
    if not device.size:
        return device                      # a chip behind a bus of its own: its test shakes it
    space.map(0, MmioRegion(device, device.size, device.max_access), name)
    for _ in range(200):
        size = rng.choice([size for size in (1, 2, 4, 8) if size <= device.size])
        offset = rng.randrange(device.size - size + 1)
        if rng.random() < 0.5:
            value = space.read(offset, size)
            assert 0 <= value < 1 << 8 * size
        else:
            space.write(offset, size, rng.getrandbits(8 * size))
    return device


def test_every_device_has_a_maker_here_and_says_what_it_is() -> None:
    assert set(MAKE) == set(DEVICES)
    assert len(DEVICES) >= 25
    assert all(device.__doc__ for device in all_devices().values())


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("seed", range(5))
def test_state_survives_a_round_trip_and_reset_gives_the_first_state(name: str, seed: int) -> None:
    device = shaken(name, seed)
    if device.vmstate is not None:
        saved, there = body(device), MAKE[name]()
        section = there.section()
        assert section is not None
        section.load(BytesReader(saved), section.version)
        assert body(there) == saved
        there.reset()                      # may be one that was asked for, which is told afterwards
        there.reset()
        fresh = MAKE[name]()
        fresh.reset()
        assert body(there) == body(fresh)


@pytest.mark.parametrize("name", [name for name in DEVICES if all_devices()[name].vmstate])
def test_a_state_cut_short_is_refused_and_the_description_has_its_size(name: str) -> None:
    device = shaken(name, 7)
    saved, section = body(device), MAKE[name]().section()
    assert section is not None
    desc = section.vmdesc()
    assert desc["version"] == section.version
    plain = section.vmstate
    head = sum(field["size"] * field.get("array_len", 1) for field in device.section().vmdesc()["fields"])  # type: ignore[union-attr]
    assert head <= len(saved)
    for cut in range(head):
        with pytest.raises(StreamError, match=f"Failed to load ({plain.name}|virtqueue|escc-channel|local-timer):"):
            MAKE[name]().section().load(BytesReader(saved[:cut]), section.version)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", [name for name in DEVICES if all_devices()[name].vmstate])
@settings(deadline=None)
@given(data=st.binary(min_size=64, max_size=64), now=st.integers(0, 1 << 50))
def test_any_bytes_load_or_are_refused_and_the_device_lives(name: str, data: bytes, now: int) -> None:
    device = MAKE[name]()
    clock = next((item for item in vars(device).values() if isinstance(item, VirtualClock)), VirtualClock())
    clock.set(now)
    section = device.section()
    assert section is not None
    try:
        section.load(BytesReader(data), section.version)
    except StreamError:
        pass
    deadline = clock.next_deadline()
    assert deadline is None or deadline < now + 3600 * 10**9
    clock.start()
    clock.run_expired()
    for offset in range(0, min(device.size, 0x1000), 4):
        device.mmio_write(offset, 4, device.mmio_read(offset, 4))
    body(device)
    device.reset()


@pytest.mark.parametrize("name", DEVICES)
def test_every_register_is_documented_and_read_whole_or_in_bytes(name: str) -> None:
    for reg in all_devices()[name].registers.values():
        assert reg.doc, f"{name}.{reg.name} says nothing"
    assert MAKE[name]().qtree().startswith(f'dev: {name}, id ""')


class Lamp(Device):
    """The smallest device with everything."""

    name = "lamp"
    size = 16
    max_access = 8

    level = Reg("u32", 0, mask=0xFF, reset=5, doc="brightness")
    wide = Reg("u64", 8, doc="anything")
    fixed = Reg("u16", 4, reset=0xABCD, readonly=True, doc="constant")


def test_parts_of_registers_are_read_and_written() -> None:
    lamp = Lamp()
    lamp.mmio_write(8, 8, 0x1122334455667788)
    assert [lamp.mmio_read(8 + i, 1) for i in range(8)] == [0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]
    lamp.mmio_write(10, 2, 0xAAAA)
    assert lamp.wide == 0x11223344AAAA7788
    lamp.mmio_write(0, 4, 0xFFFFFFFF)
    assert lamp.level == 0xFF
    lamp.mmio_write(0, 8, 0)
    assert (lamp.level, lamp.mmio_read(4, 2), lamp.mmio_read(6, 2)) == (0, 0xABCD, 0)
    lamp.reset()
    assert lamp.level == 5


def test_registers_that_overlap_are_refused_when_the_class_is_made() -> None:
    with pytest.raises(TypeError, match=r"Broken\.b overlaps or leaves the window at 0x2"):

        class Broken(Device):
            name = "broken"
            size = 8
            a = Reg("u32", 0)
            b = Reg("u16", 2)


def test_the_sic_describes_where_ram_lies() -> None:
    sic = Sic(1 << 31, 4 << 32, 6 << 30)
    assert sic.mmio_read(0x10, 4) == 0x0B
    assert sic.mmio_read(0x30, 4) == 15 << 27
    assert sic.mmio_read(0x20, 4) == 5 << 16 | 4
    assert (sic.mmio_read(0x14, 4), sic.mmio_read(0xC00, 4)) == (0, 0)
    sic.mmio_write(0x10, 4, 0)
    assert sic.mmio_read(0x10, 4) == 0x0B
    assert Sic(256 << 20, 0, 0).mmio_read(0x30, 4) == 1 << 27
    assert Sic(256 << 20, 0, 0).mmio_read(0x20, 4) == 0
    assert [sic.mmio_read(offset, 4) for offset in (0x90, 0x704, 0x900)] == [0, 0, 0], "no IOHUB"
    sic = Sic(1 << 31, 0, 0, 0x200000000)
    assert [sic.mmio_read(offset, 4) for offset in (0x90, 0x704, 0x900)] == [8 << 3, 1 << 31, 3]


def test_the_test_device_gives_the_status_and_sleep_that_travels() -> None:
    seen: list[int] = []
    clock, sleeper, other = VirtualClock(), Nobody(), Nobody()
    clock.set(1000)
    device = TestDevice(clock, seen.append, lambda: sleeper)
    device.mmio_write(0, 4, 0x1FF)
    device.mmio_write(4, 4, 250)
    assert (seen, sleeper.idle_until) == ([0xFF], 251_000)
    there = TestDevice(VirtualClock(), seen.append, lambda: other).section()
    assert there is not None
    there.load(BytesReader(body(device)), 1)
    assert other.idle_until == 251_000
    sleeper.idle_until = None
    there.load(BytesReader(body(device)), 1)
    assert other.idle_until is None
