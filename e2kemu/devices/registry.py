"""The devices by name: what the tests that hold for every device go over."""

from __future__ import annotations

from e2kemu.devices.core import Device
from e2kemu.devices.ioport import IoPorts
from e2kemu.devices.lt_timer import LtTimer
from e2kemu.devices.serial8250 import Serial8250
from e2kemu.devices.sic import Sic
from e2kemu.devices.test_device import TestDevice
from e2kemu.devices.virtio_blk import VirtioBlk

_DEVICES: tuple[type[Device], ...] = (IoPorts, LtTimer, Serial8250, Sic, TestDevice, VirtioBlk)


def all_devices() -> dict[str, type[Device]]:
    """Every device class by its name, sorted."""
    return {device.name: device for device in sorted(_DEVICES, key=lambda device: device.name)}
