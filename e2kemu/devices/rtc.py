"""CY14B101P: the real-time clock of Elbrus boards, with 128 KiB of non-volatile memory, on SPI.

Commands (opcode, address bytes): 06 write enable, 04 write disable, 05/01 read, write status; 03/02 read,
write memory (3); 13/12 read, write clock registers (1); 3c store, 60 recall, 59/19/11 autostore on, off. A write
needs "write enable" before it, which it uses up. Clock registers, in BCD:

| 0 flags: 7 watchdog, 6 alarm (reading clears both), 3 stopped, 1 W, 0 R | 1 century | 2..5 alarm second, minute, hour,
day (7: ignored) | 6 interrupts: 7 watchdog, 6 alarm, 4 square wave, 3 H/L, 2 P/L | 7 watchdog: 7 start, 6 keep value,
5:0 value | 8 calibration | 9 second | a minute | b hour | c weekday | d day | e month | f year |

R freezes what is read; W does and lets the registers be written, and W going off sets the clock. Other registers
than flags can be written only with W. Sources: the data sheet, the public Linux driver for e2k.

The clock is the host's, in UTC, plus an offset that travels: a guest that has set its clock finds it set after a
migration. The alarm and the watchdog (steps of 1/32 s) run in virtual time; the square wave, calibration and power
monitor are registers without effect.
"""

from __future__ import annotations

import calendar
import time
from collections.abc import Callable
from typing import ClassVar

from e2kemu import trace
from e2kemu.clock import VirtualClock
from e2kemu.devices import vmstate as vm
from e2kemu.devices.core import Device, Irq, Reg

WRITE_STATUS, WRITE, READ, WRITE_DISABLE, READ_STATUS, WRITE_ENABLE = 1, 2, 3, 4, 5, 6
WRITE_CLOCK, READ_CLOCK = 0x12, 0x13
SPECIAL = (0x3C, 0x60, 0x59, 0x19, 0x11)
"""Store, recall, autostore: memory is always kept here, so they do nothing."""

MEMORY = 128 << 10
ENABLED, STATUS_KEPT = 2, 0xCC
FLAGS, CENTURY, ALARM, INTERRUPTS, WATCHDOG, CALIBRATION, SECOND = 0, 1, 2, 6, 7, 8, 9
FLAG_WATCHDOG, FLAG_ALARM, FLAG_W, FLAG_R = 0x80, 0x40, 2, 1
IGNORED = 0x80
INT_WATCHDOG, INT_ALARM, INT_SQUARE_WAVE = 0x80, 0x40, 0x10
WATCHDOG_START, WATCHDOG_KEEP = 0x80, 0x40
NS = 1_000_000_000
WATCHDOG_STEP = NS // 32
LOOK_AGAIN = 1800
"""Seconds."""
OFFSET_LIMIT = 20_000 * 366 * 86400
"""Seconds; more is no clock."""


def bcd(value: int) -> int:
    """Two decimal digits."""
    return value // 10 % 10 << 4 | value % 10


def from_bcd(value: int) -> int:
    """The number of two decimal digits; digits above 9 count as they are."""
    return (value >> 4) * 10 + (value & 15)


def _next_in_day(first: int, hour: int | None, minute: int | None, second: int | None) -> int | None:
    """The first second of a day, from ``first`` on, with these parts; None: any."""
    for h in range(first // 3600, 24) if hour is None else (hour,):
        for m in range(60) if minute is None else (minute,):
            if h > 23 or m > 59 or (h, m) < (first // 3600, first // 60 % 60):
                continue
            for s in range(60) if second is None else (second,):
                at = 3600 * h + 60 * m + s
                if s < 60 and at >= first:
                    return at
    return None


class Cy14b101p(Device):
    """CY14B101P real-time clock and non-volatile memory (SPI)"""

    name = "cy14b101p"

    status = Reg("u8", doc="1 write enabled, 3:2 protected part of memory")
    flags = Reg("u8", doc="clock register 0: 7 watchdog, 6 alarm, 1 W, 0 R")
    offset = Reg("i64", doc="seconds that the guest's clock is ahead of the host's")
    alarm_due = Reg("i64", doc="the second of the guest's clock of the next alarm")
    touched = Reg("u8", doc="1: the time registers have been written since W")

    irq = Irq("alarm or watchdog (INT)")

    vmstate: ClassVar[vm.VMState] = vm.VMState(
        "cy14b101p", 1,
        [status, flags, offset, alarm_due, touched, vm.buffer("clock", 16), vm.timer("alarm"), vm.timer("watchdog")],
        subsections=[
            vm.VMState(
                "cy14b101p/memory", 1, [vm.buffer("memory", MEMORY)], needed=lambda dev: dev.memory.count(0) < MEMORY
            ),
        ],
        pre_load="_pre_load", post_load="_post_load",
    )  # fmt: skip

    def __init__(self, clock: VirtualClock, now: Callable[[], float] = time.time) -> None:
        """``now`` is the host's clock, seconds of UTC."""
        super().__init__()
        self._clock, self._now = clock, now
        self.clock = bytearray(16)
        """The clock registers as written or frozen; the time is in them only with R or W."""
        self.memory = bytearray(MEMORY)
        self.alarm = clock.timer(self._alarm)
        self.watchdog = clock.timer(self._watchdog)

    def reset(self) -> None:
        """The battery keeps time, clock registers and memory; what was enabled for a write is not."""
        offset, due = self.offset, self.alarm_due
        super().reset()
        self.offset, self.alarm_due = offset, due
        self.watchdog.cancel()
        self._update()

    def properties(self) -> dict[str, str]:
        return {"date": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(self._seconds()))}

    # -- time

    def _seconds(self) -> int:
        return int(self._now()) + self.offset

    def _fields(self) -> bytes:
        """Registers 9..f of the moment, and the century before them."""
        at = time.gmtime(self._seconds())
        parts = (at.tm_sec, at.tm_min, at.tm_hour, at.tm_wday + 1, at.tm_mday, at.tm_mon, at.tm_year % 100)
        return bytes((bcd(at.tm_year // 100), *(bcd(part) for part in parts)))

    def _freeze(self) -> None:
        century, *rest = self._fields()
        self.clock[CENTURY], self.clock[SECOND:] = century, bytes(rest)

    def _set_time(self) -> None:
        """W has gone off: the registers are the time."""
        second, minute, hour, _, day, month, year = (from_bcd(byte) for byte in self.clock[SECOND:])
        century = from_bcd(self.clock[CENTURY])
        parts = (century * 100 + year, month, day, hour, minute, second)
        if not (1 <= month <= 12 and 1 <= day <= 31 and 1 <= parts[0] <= 9999):
            trace.guest_error(f"{self.name}: the clock is set to {parts}, which is no time")
            return
        self.offset = calendar.timegm((*parts, 0, 0, 0)) - int(self._now())
        self._limit_offset()

    def _limit_offset(self) -> None:
        """Keep the time in what the host can express."""
        low, high = calendar.timegm((1, 1, 1, 0, 0, 0)), calendar.timegm((9999, 12, 31, 0, 0, 0))
        self.offset += min(max(self._seconds(), low), high) - self._seconds()

    # -- alarm and watchdog

    def _next_alarm(self) -> int | None:
        """The next second of the guest's clock that the alarm registers match; None: no day of the next 62 has one."""
        second, minute, hour, day = (
            None if byte & IGNORED else from_bcd(byte) for byte in self.clock[ALARM : ALARM + 4]
        )
        first = self._seconds() + 1
        midnight = first - first % 86400
        for start in range(midnight, midnight + 62 * 86400, 86400):
            if day is None or time.gmtime(start).tm_mday == day:
                at = _next_in_day(max(first - start, 0), hour, minute, second)
                if at is not None:
                    return start + at
        return None

    def _arm(self) -> None:
        """Look again when the alarm is due, or within half an hour: the host's clock may be set meanwhile."""
        due = self._next_alarm()
        if due is None:
            self.alarm.cancel()
        else:
            self.alarm_due = due
            self.alarm.arm(self._clock.now() + min(max(due - self._seconds(), 1), LOOK_AGAIN) * NS)

    def _alarm(self) -> None:
        if self._seconds() >= self.alarm_due:
            self.flags |= FLAG_ALARM
            self._update()
        self._arm()

    def _watchdog(self) -> None:
        self.flags |= FLAG_WATCHDOG
        self._update()

    def _start_watchdog(self) -> None:
        steps = self.clock[WATCHDOG] & 0x3F
        if steps:
            self.watchdog.arm(self._clock.now() + steps * WATCHDOG_STEP)
        else:
            self.watchdog.cancel()

    def _update(self) -> None:
        enabled = self.clock[INTERRUPTS]
        self.irq.set(bool(self.flags & enabled & (INT_WATCHDOG | INT_ALARM)))

    # -- SPI

    def transfer(self, command: bytes, data: bytes, read: int) -> bytes:
        """One selection of the chip."""
        opcode, rest = command[0], command[1:] + data
        if opcode == READ_STATUS:
            return bytes((self.status,)) * read
        if opcode == READ:
            at = int.from_bytes(rest[:3].ljust(3, b"\0"), "big")
            return bytes(self.memory[(at + number) % MEMORY] for number in range(read))
        if opcode == READ_CLOCK:
            return self._read_clock(rest[0] if rest else 0, read)
        if opcode in (WRITE_ENABLE, WRITE_DISABLE):
            self.status = self.status & ~ENABLED | (ENABLED if opcode == WRITE_ENABLE else 0)
        elif opcode in (WRITE_STATUS, WRITE, WRITE_CLOCK):
            self._write(opcode, rest)
        elif opcode not in SPECIAL:
            trace.guest_error(f"{self.name}: command {opcode:#04x} is not known")
        return bytes(read)

    def _write(self, opcode: int, rest: bytes) -> None:
        if not self.status & ENABLED:
            trace.guest_error(f"{self.name}: command {opcode:#04x} without write enable")
            return
        self.status &= ~ENABLED
        if opcode == WRITE_STATUS:
            self.status = rest[0] & STATUS_KEPT if rest else self.status
        elif opcode == WRITE:
            protected = MEMORY - (MEMORY >> 3 - (self.status >> 2 & 3)) if self.status >> 2 & 3 else MEMORY
            at = int.from_bytes(rest[:3].ljust(3, b"\0"), "big")
            for number, byte in enumerate(rest[3:]):
                if (at + number) % MEMORY < protected:
                    self.memory[(at + number) % MEMORY] = byte
        elif rest:
            for number, byte in enumerate(rest[1:]):
                self._write_clock((rest[0] + number) % 16, byte)

    def _read_clock(self, start: int, count: int) -> bytes:
        if not self.flags & (FLAG_R | FLAG_W):
            self._freeze()
        values = bytearray()
        for number in range(count):
            at = (start + number) % 16
            values.append(self.flags if at == FLAGS else self.clock[at])
            if at == FLAGS:
                self.flags &= ~(FLAG_WATCHDOG | FLAG_ALARM)
        self._update()
        return bytes(values)

    def _write_clock(self, at: int, value: int) -> None:
        if at == FLAGS:
            before, self.flags = self.flags, self.flags & ~(FLAG_R | FLAG_W) | value & (FLAG_R | FLAG_W)
            if self.flags & (FLAG_R | FLAG_W) and not before & (FLAG_R | FLAG_W):
                self._freeze()
            if before & FLAG_W and not self.flags & FLAG_W:
                if self.touched:
                    self._set_time()
                self.touched = 0
                self._arm()
        elif not self.flags & FLAG_W:
            trace.guest_error(f"{self.name}: clock register {at} is written without W")
        elif at == WATCHDOG:
            kept = self.clock[at] if value & WATCHDOG_KEEP else value
            self.clock[at] = value & WATCHDOG_KEEP | kept & 0x3F
            if value & WATCHDOG_START:
                self._start_watchdog()
        else:
            self.clock[at] = value
            self.touched |= int(at >= SECOND or at == CENTURY)
            self._update()

    # -- migration

    def _pre_load(self) -> None:
        self.memory[:] = bytes(MEMORY)

    def _post_load(self, version: int) -> None:
        now = self._clock.now()
        limits = ((self.alarm, LOOK_AGAIN * NS), (self.watchdog, 64 * WATCHDOG_STEP))
        late = any(timer.expire is not None and timer.expire > now + limit for timer, limit in limits)
        if late or abs(self.offset) > OFFSET_LIMIT or self.status & ~(STATUS_KEPT | ENABLED):
            self.alarm.cancel()
            self.watchdog.cancel()
            offset, self.offset = self.offset, 0
            raise ValueError(f"offset {offset}, status {self.status:#x}, or an alarm too far in the future")
        self._limit_offset()
        self._update()
