"""The devices by name: ``-device help``, and the tests that hold for every device."""

from __future__ import annotations

from e2kemu.devices.core import Device
from e2kemu.devices.ioport import IoPorts
from e2kemu.devices.lt_timer import LtTimer
from e2kemu.devices.serial8250 import Serial8250
from e2kemu.devices.sic import Sic
from e2kemu.devices.test_device import TestDevice

_DEVICES: tuple[type[Device], ...] = (IoPorts, LtTimer, Serial8250, Sic, TestDevice)


def all_devices() -> dict[str, type[Device]]:
    """Every device class by its name, sorted."""
    return {device.name: device for device in sorted(_DEVICES, key=lambda device: device.name)}


def help_text() -> str:
    """One line per device: its name and the first line of its documentation."""
    lines = ["Devices of the board:"]
    for name, device in all_devices().items():
        lines.append(f'name "{name}", desc "{(device.__doc__ or "").strip().splitlines()[0]}"')
    return "\n".join(lines) + "\n"
