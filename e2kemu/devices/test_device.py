"""The test device: two 32-bit registers by which a guest ends or rests the emulator.

* exit (port 0xf4): a write ends the emulator; its exit status is the low 8 bits;
* idle (port 0xf8): a write of N puts the CPU to sleep for N microseconds of virtual time.

Both read as zero. The registers are mapped apart from each other, as two windows of one device.
"""

from __future__ import annotations

from collections.abc import Callable

from e2kemu.devices.core import Device, Reg


class TestDevice(Device):
    """Exit and idle registers for guests that are tests"""

    __test__ = False                   # the name means something else to pytest

    name = "e2k-test"
    size = 8

    exit = Reg("u32", 0, write="_exit", doc="a write ends the emulator with this status")
    idle = Reg("u32", 4, write="_idle", doc="a write sleeps for that many microseconds of virtual time")

    def __init__(self, on_exit: Callable[[int], None], on_idle: Callable[[int], None]) -> None:
        """``on_exit(status)`` ends the emulator, ``on_idle(ns)`` puts the CPU to sleep for that long."""
        super().__init__()
        self._on_exit, self._on_idle = on_exit, on_idle

    def _exit(self, value: int) -> None:
        self._on_exit(value & 0xFF)

    def _idle(self, value: int) -> None:
        self._on_idle(value * 1000)
