"""The count-down timer of a local interrupt controller (local APIC, CEPIC): 100 MHz of virtual time, divided.

Writing the initial count starts it there, or stops it with 0. At 0 it calls back; a periodic one begins again, a
one-shot one stands. Divide is the code of the x86 local APIC, bits 3, 1, 0: 0 by 2, 1 by 4, ... 6 by 128, 7 by 1; other
bits are kept and do nothing (bit 2 chooses a base on hardware).

The frequency is chosen: on hardware it is that of the bus, and kernels measure it, or are told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from e2kemu.clock import VirtualClock
from e2kemu.devices import vmstate as vm

FREQUENCY = 100_000_000
NS_PER_COUNT = 1_000_000_000 // FREQUENCY
SHORTEST_PERIOD_NS = 50_000
"""A periodic timer calls back no more often: the main loop has more to do."""

LONGEST_SLEEP_NS = 1800 * 1_000_000_000
"""The alarm is set no farther ahead, and then set again."""


def divisor(code: int) -> int:
    """By what the frequency is divided."""
    power = code & 3 | code >> 1 & 4
    return 1 if power == 7 else 2 << power


class LocalTimer:
    """One count-down timer; ``expired()`` is called, under the machine lock, when it is at 0."""

    vmstate: ClassVar[vm.VMState] = vm.VMState(
        "local-timer", 1,
        [vm.u32("initial"), vm.u32("divide"), vm.boolean("periodic"), vm.i64("start_ns"), vm.timer("alarm")],
        post_load="_post_load",
    )  # fmt: skip

    def __init__(self, clock: VirtualClock, expired: Callable[[], None]) -> None:
        self._clock, self._expired = clock, expired
        self.alarm = clock.timer(self._ring)
        self.initial = 0
        """Where it counts down from; 0: it stands."""
        self.divide = 0
        """The divide register."""
        self.periodic = False
        self.start_ns = 0
        """Virtual time at which it was at ``initial``."""

    def reset(self) -> None:
        """It stands."""
        self.initial = self.divide = self.start_ns = 0
        self.periodic = False
        self.alarm.cancel()

    @property
    def _count_ns(self) -> int:
        return NS_PER_COUNT * divisor(self.divide)

    def write_initial(self, value: int) -> None:
        """Start at ``value``; 0: stop."""
        self.initial, self.start_ns = value, self._clock.now()
        self._arm()

    def write_divide(self, value: int) -> None:
        """Change the divisor; the count goes on from where it is."""
        done = self._done()
        self.divide = value
        self.start_ns = self._clock.now() - done * self._count_ns
        self._arm()

    def set_periodic(self, periodic: bool) -> None:
        """Whether it begins again at 0."""
        if periodic != self.periodic:
            count = self.current()
            self.periodic = periodic
            self.start_ns = self._clock.now() - (self.initial - count) * self._count_ns
            self._arm()

    def _done(self) -> int:
        return max(0, self._clock.now() - self.start_ns) // self._count_ns

    def current(self) -> int:
        """The current count."""
        if not self.initial:
            return 0
        done = self._done()
        return self.initial - done % self.initial if self.periodic else max(0, self.initial - done)

    def read_current(self) -> int:
        """The current count for the guest: who reads 0 finds what the end does done, even if the main loop is late."""
        count = self.current()             # looked at once: it goes on between two looks
        if not count and not self.periodic and self.alarm.expire is not None and self._clock.running:
            self.alarm.fire()
        return count

    def _due(self) -> int | None:
        """When it is at 0 next; None: never."""
        if not self.initial:
            return None
        period, now = self.initial * self._count_ns, self._clock.now()
        if not self.periodic:
            due = self.start_ns + period
            return due if due > now else None
        laps = max(0, now - self.start_ns) // period
        return max(self.start_ns + (laps + 1) * period, now + SHORTEST_PERIOD_NS)

    def _arm(self) -> None:
        due = self._due()
        if due is None:
            self.alarm.cancel()
        else:
            self.alarm.arm(min(due, self._clock.now() + LONGEST_SLEEP_NS))

    def _ring(self) -> None:
        if not self.periodic and self._clock.now() < self.start_ns + self.initial * self._count_ns:
            self._arm()                    # that was not the end yet
            return
        self._arm()
        self._expired()

    def _post_load(self, version: int) -> None:
        # the alarm travels: one that is due and has not rung yet rings on the other side
        now, expire = self._clock.now(), self.alarm.expire
        if self.start_ns > now:
            raise ValueError("the timer was started in the future")
        if expire is not None and (expire > now + LONGEST_SLEEP_NS or not self.initial):
            self.alarm.cancel()
            raise ValueError(f"the timer of {self.initial} counts rings at {expire}")
