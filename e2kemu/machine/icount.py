"""``-icount``: virtual time is the number of wide instructions that the CPUs have executed, times 2 to ``shift`` ns.

``[shift=]N|auto[,align=on|off][,sleep=on|off]`` as QEMU has it:

    shift=N      0 to 10: one wide instruction takes 2^N ns; the same run twice is the same run
    shift=auto   N follows the host's speed, so that virtual time keeps up with real time; runs differ then
    sleep=off    while all CPUs rest time jumps to the next timer at once; on (the default): it takes its time
    align=on     a guest that is ahead of real time waits for it

Time is exact where somebody looks at it: an access to a device, or a read of the clock register, is executed as a
wide instruction of its own (``NotExact``). Timers go off in the thread that runs the CPUs (``turns``), never in the
main loop, between two wide instructions.

The section "timer" of a stream gets the subsection "timer/icount": i64 0, i64 wide instructions executed; in it
"timer/icount/shift" (i16) and "timer/icount/turn" (ours): whose turn it is, for how many more wide instructions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from e2kemu.clock import NotExact, VirtualClock
from e2kemu.devices.core import who
from e2kemu.devices.vmstate import VMState, i16, i64, u32, u64, unused
from e2kemu.errors import OptionError, StreamError
from e2kemu.options import Options, parse_number
from e2kemu.wire import Reader, Writer

MAX_SHIFT = 10
AUTO_SHIFT = 3
"""Where ``auto`` begins, as QEMU's."""

FIRST_DATE = 1_767_225_600
"""When the calendar clock is at virtual time 0: 2026-01-01, 00:00:00 UTC."""


@dataclass(frozen=True)
class Icount:
    """What ``-icount`` says."""

    shift: int
    auto: bool = False
    sleep: bool = True
    align: bool = False


def parse_icount(text: str) -> Icount:
    """``-icount``. Raises OptionError."""
    options = Options(text, implied="shift")
    shift = options.get("shift")
    sleep, align = options.get_bool("sleep", True), options.get_bool("align", False)
    options.finish()
    if shift is None:
        raise OptionError("Please specify shift option when using " + ("align" if "align" in options else "sleep"))
    if align and not sleep:
        raise OptionError("align=on and sleep=off are incompatible")
    if shift == "auto":
        if align:
            raise OptionError("shift=auto and align=on are incompatible")
        if not sleep:
            raise OptionError("shift=auto and sleep=off are incompatible")
        return Icount(AUTO_SHIFT, auto=True)
    try:
        number = parse_number(shift, "shift")
    except OptionError:
        number = MAX_SHIFT + 1
    if number > MAX_SHIFT:
        raise OptionError("icount: Invalid shift value")
    return Icount(number, sleep=sleep, align=align)


def demand_exact() -> None:
    """Raises NotExact where a CPU executes code of which nobody knows how much was executed by now."""
    if who.executes is not None and not who.exact:
        raise NotExact


class IcountClock(VirtualClock):
    """Virtual time by wide instructions. ``executed`` tells how many there were, of all CPUs together."""

    def __init__(self, icount: Icount) -> None:
        super().__init__()
        self.icount = icount
        self.shift = icount.shift
        self.executed: Callable[[], int] = lambda: 0
        self._offset = 0
        self._going = False
        # what a stream has beside the time
        self.turn = 0
        """Number of the CPU whose turn it is."""
        self.turn_left = 0
        """Wide instructions until it is another one's."""
        self.ticks = self.stream_ns = self.warp_start = self.count = 0
        self.stream_shift = self.shift

    def now(self) -> int:
        """Virtual time in ns; between two accesses to devices it may lag behind for other threads."""
        return self._offset + (self.executed() << self.shift)

    def read(self) -> int:
        """Virtual time for the guest: exact, or NotExact is raised."""
        demand_exact()
        return self.now()

    @property
    def running(self) -> bool:
        """Whether time may pass."""
        return self._going

    def start(self) -> None:
        """Timers may go off."""
        if not self._going:
            self._going = True
            self._changed()

    def stop(self) -> None:
        """They may not."""
        if self._going:
            self._going = False
            self._changed()

    def set(self, ns: int) -> None:
        """Make it ``ns`` now."""
        self._offset = ns - (self.executed() << self.shift)
        self._changed()

    def date(self) -> float:
        """Seconds since 1970 for the calendar clock: the first start is always at the same moment."""
        return FIRST_DATE + self.now() / 1e9

    def advance(self, ns: int) -> None:
        """Nobody executes anything for so long."""
        self._offset += ns

    def set_shift(self, shift: int) -> None:
        """From now on one wide instruction takes 2 to ``shift`` ns."""
        now = self.now()
        self.shift = shift
        self._offset = now - (self.executed() << shift)

    # -- section "timer" ---------------------------------------------------------------------------------

    def _pre_save(self) -> None:
        self.stream_ns = self.now()
        self.ticks = self.stream_ns + self._tick_lead
        self.count, self.stream_shift = self.executed(), self.shift

    def _pre_load(self) -> None:
        self.count = -1

    def _post_load(self, version: int) -> None:
        if self.count < 0:
            raise ValueError("virtual time does not count instructions in the stream, but does here (-icount)")
        if not 0 <= self.stream_shift <= MAX_SHIFT or self.stream_ns < 0:
            raise ValueError(f"shift is {self.stream_shift}, virtual time is {self.stream_ns} ns")
        if not self.icount.auto and self.stream_shift != self.icount.shift:
            raise ValueError(f"-icount shift={self.stream_shift} in the stream, shift={self.icount.shift} here")
        self._tick_lead = self.ticks - self.stream_ns
        self.shift = self.stream_shift
        self.set(self.stream_ns)

    def save(self, w: Writer) -> None:
        """Write the section's body."""
        _STATE.save(w, self)

    def load(self, r: Reader, version: int) -> None:
        """Read the section's body. Raises StreamError."""
        try:
            _STATE.load(r, self, version)
        except StreamError as error:
            raise StreamError(error.message, section=self.idstr, offset=r.position) from error

    def vmdesc(self) -> dict[str, Any]:
        """The section's entry in the vmdescription."""
        return {"name": self.idstr, "instance_id": self.instance_id, **_STATE.describe(self)}


_STATE = VMState(
    "timer", 2, [i64("cpu_ticks_offset").of("ticks"), unused(8), i64("cpu_clock_offset").of("stream_ns")],
    pre_save="_pre_save", pre_load="_pre_load", post_load="_post_load",
    subsections=[
        VMState("timer/icount", 1, [i64("vm_clock_warp_start").of("warp_start"), i64("qemu_icount").of("count")],
                subsections=[
                    VMState("timer/icount/shift", 1, [i16("icount_time_shift").of("stream_shift")]),
                    VMState("timer/icount/turn", 1, [u32("turn"), u64("turn_left")]),
                ]),
    ],
)  # fmt: skip
