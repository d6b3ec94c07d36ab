"""Auto-converge: a guest that writes faster than its memory can be sent is slowed down until it does not.

Looked at after reading the dirty log, when a second or more has passed since the last look. When the guest has
written more than throttle-trigger-threshold percent of what went over meanwhile, twice, its vCPUs are made to sleep
cpu-throttle-initial percent of the time, and cpu-throttle-increment percent more each further two times, up to
max-cpu-throttle. With cpu-throttle-tailslow an increment is no larger than needed, were the guest to write in
proportion to the time it is given.

A hundredth of a fast guest may still be too fast. When max-cpu-throttle is 99, as much as can be said, the throttle
goes on behind it: the time that is left to the guest is halved each further two times, down to a 64th of a percent.
What is reported stays 99.

"What went over" counts a page that XBZRLE or compression made small with its full size: what matters is whether the
pages get over, not in how many bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from e2kemu.migration.options import MigrationParameters
from e2kemu.migration.statistics import Statistics

PERIOD = 1.0
"""Seconds from one look to the next, at least."""

SYNC_PERIOD = 5.0
"""Seconds after which a throttled guest's dirty log is read even in the middle of a round, as a slow round
would leave the throttle as it is for long."""

HIGH_LOOKS = 2
"""Looks at too fast a guest that make it slower."""

MOST = 99
"""Percent: more cannot be set or reported."""

LEAST_RUNNING = 1 / 64
"""Percent of the time that a guest is left with."""


class AutoConverge:
    """The rule for one migration. ``set_throttle`` is the machine's."""

    def __init__(
        self,
        parameters: MigrationParameters,
        statistics: Statistics,
        set_throttle: Callable[[float], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._parameters = parameters
        self._statistics = statistics
        self._set = set_throttle
        self._clock = clock
        self._since = self._synced_at = clock()
        self._passed = 0
        self._dirtied = 0
        self._high = 0
        self._beyond = 1.0  # percent of the time that is left to the guest, when that is less than 1

    def sync_is_due(self) -> bool:
        """The dirty log should be read although the round is not over."""
        return bool(self._statistics.throttle_percentage) and self._clock() - self._synced_at >= SYNC_PERIOD

    def synced(self, dirtied: int) -> None:
        """The dirty log was read: the guest has written ``dirtied`` bytes of pages since the last time."""
        now = self._synced_at = self._clock()
        self._dirtied += dirtied
        if now - self._since < PERIOD:
            return
        passed = self._statistics.transferred + self._statistics.saved
        allowed = (passed - self._passed) * int(self._parameters["throttle-trigger-threshold"]) / 100
        if self._dirtied > allowed:
            self._high += 1
            if self._high >= HIGH_LOOKS:
                self._high = 0
                self._slow_down(self._dirtied, allowed)
        self._since, self._passed, self._dirtied = now, passed, 0

    def stop(self) -> None:
        """Let the guest run as it likes."""
        if self._statistics.throttle_percentage:
            self._statistics.throttle_percentage = 0
            self._beyond = 1.0
            self._set(0)

    def _slow_down(self, dirtied: int, allowed: float) -> None:
        parameters, percent = self._parameters, self._statistics.throttle_percentage
        limit = int(parameters["max-cpu-throttle"])
        if percent == limit == MOST:
            if self._beyond > LEAST_RUNNING:
                self._beyond /= 2
                self._set(100 - self._beyond)
            return
        if not percent:
            percent = int(parameters["cpu-throttle-initial"])
        else:
            step = int(parameters["cpu-throttle-increment"])
            if parameters["cpu-throttle-tailslow"]:
                running = 100 - percent
                step = min(step, max(1, round(running - running * allowed / dirtied)))
            percent = min(percent + step, limit)
        self._statistics.throttle_percentage = percent
        self._set(percent)
