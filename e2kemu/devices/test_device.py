"""The test device: two 32-bit registers by which a guest ends or rests the emulator.

* exit (port 0xf4): a write ends the emulator; its exit status is the low 8 bits;
* idle (port 0xf8): a write of N puts the CPU to sleep for N microseconds of virtual time.

Both read as zero. The registers are mapped apart from each other, as two windows of one device. Until
when the CPU sleeps is the device's state: a guest that is migrated asleep sleeps on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol

from e2kemu.clock import VirtualClock
from e2kemu.devices import vmstate as vm
from e2kemu.devices.core import Device, Reg

AWAKE = -1
"""``until`` of a CPU that does not sleep."""


class Sleeper(Protocol):
    """Whoever can be put to sleep."""

    idle_until: int | None
    """Virtual time in ns, None: awake."""


class TestDevice(Device):
    """Exit and idle registers for guests that are tests"""

    __test__ = False                   # the name means something else to pytest

    name = "e2k-test"
    size = 8

    exit = Reg("u32", 0, write="_exit", doc="a write ends the emulator with this status")
    idle = Reg("u32", 4, write="_idle", doc="a write sleeps for that many microseconds of virtual time")

    until = Reg("i64", reset=AWAKE, doc="virtual time in ns at which the CPU wakes, -1: it does not sleep")

    vmstate: ClassVar[vm.VMState] = vm.VMState(
        "e2k-test", 1, [until], pre_save="_pre_save", post_load="_post_load"
    )

    def __init__(
        self, clock: VirtualClock, on_exit: Callable[[int], None], sleeper: Callable[[], Sleeper]
    ) -> None:
        """``on_exit(status)`` ends the emulator; ``sleeper()`` is who sleeps."""
        super().__init__()
        self._clock, self._on_exit, self._sleeper = clock, on_exit, sleeper

    def _exit(self, value: int) -> None:
        self._on_exit(value & 0xFF)

    def _idle(self, value: int) -> None:
        self._sleeper().idle_until = self._clock.now() + value * 1000

    def _pre_save(self) -> None:
        until = self._sleeper().idle_until
        self.until = AWAKE if until is None else until

    def _post_load(self, version: int) -> None:
        self._sleeper().idle_until = None if self.until == AWAKE else self.until
