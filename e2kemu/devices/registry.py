"""The devices by name: what the tests that hold for every device go over."""

from __future__ import annotations

from e2kemu.devices.cepic import Cepic
from e2kemu.devices.core import Device
from e2kemu.devices.escc import Escc
from e2kemu.devices.ioapic import IoApic
from e2kemu.devices.ioepic import IoEpic, Prepic
from e2kemu.devices.iohub import I2cSpi, ParallelSerial, PciHost, Spmc
from e2kemu.devices.iohub_timer import IohubTimer
from e2kemu.devices.ioport import IoPorts
from e2kemu.devices.lapic import LocalApic
from e2kemu.devices.lt_timer import LtTimer
from e2kemu.devices.pci import PciBridge
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

_DEVICES: tuple[type[Device], ...] = (
    Cepic, Cy14b101p, Escc, I2cSpi, IoApic, IoEpic, IoPorts, IohubTimer, LocalApic, LtTimer, ParallelSerial, PciBridge,
    PciHost, Prepic, Serial8250, Sic, SpiBuffer, SpiFlash, SpiMaster, Spmc, SystemTimer, TestDevice, VirtioBlk,
    VirtioConsole, VirtioNet, VirtioRng,
)  # fmt: skip


def all_devices() -> dict[str, type[Device]]:
    """Every device class by its name, sorted."""
    return {device.name: device for device in sorted(_DEVICES, key=lambda device: device.name)}
