"""A machine made of memory and a few integers, with a thread that dirties its memory: what migration needs.

It is real as far as migration can see: the emulator's own RAM blocks, sections with subsections of their own
making, a guest that runs concurrently and can be stopped, quiesced and started.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from e2kemu.errors import StreamError
from e2kemu.memory.ram import RAMBlock
from e2kemu.wire import Reader, Writer

MIB = 1 << 20
PAGE = 4096


class ToyDevice:
    """Section "toy": be32 counter, be64 stamp, 4 bytes tag; from version 2 on a be16 colour."""

    minimum_version = 1

    def __init__(self, idstr: str = "toy", instance_id: int = 0, version: int = 2) -> None:
        self.idstr = idstr
        self.instance_id = instance_id
        self.version = version
        self.counter = 0
        self.stamp = 0
        self.tag = b"abcd"
        self.colour = 7

    def is_needed(self) -> bool:
        return True

    def save(self, w: Writer) -> None:
        w.be32(self.counter)
        w.be64(self.stamp)
        w.raw(self.tag)
        if self.version >= 2:
            w.be16(self.colour)

    def load(self, r: Reader, version: int) -> None:
        counter = r.be32()
        stamp = r.be64()
        tag = r.raw(4)
        colour = r.be16() if version >= 2 else 0
        if tag[:1] != b"a":
            raise StreamError(f"tag {tag!r} does not begin with an a", section=self.idstr, offset=r.position)
        self.counter, self.stamp, self.tag, self.colour = counter, stamp, tag, colour

    def vmdesc(self) -> dict[str, Any]:
        fields: list[dict[str, Any]] = [
            {"name": "counter", "type": "uint32", "size": 4},
            {"name": "stamp", "type": "uint64", "size": 8},
            {"name": "tag", "type": "buffer", "size": 4},
        ]
        if self.version >= 2:
            fields.append({"name": "colour", "type": "uint16", "size": 2})
        return {
            "name": self.idstr,
            "instance_id": self.instance_id,
            "vmsd_name": self.idstr,
            "version": self.version,
            "fields": fields,
        }


class ToyLoop:
    """A main loop in a thread of its own."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self.status: int | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (call := self._queue.get()) is not None:
            call()

    def call_soon(self, fn: Callable[[], None]) -> None:
        self._queue.put(fn)

    def quit(self, status: int) -> None:
        self.status = status

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join()


class ToyMachine:
    """``guest`` is called again and again while the machine runs, between two of which it may be quiesced."""

    def __init__(
        self,
        ram: int = 4 * MIB,
        guest: Callable[[ToyMachine], None] | None = None,
        *,
        machine_type: str = "toy-1.0",
        incoming: bool = False,
    ) -> None:
        self.machine_type = machine_type
        self.uuid: uuid.UUID | None = None
        self.autostart = True
        self.loop = ToyLoop()
        self.run_state = "inmigrate" if incoming else "prelaunch"
        self.ram_blocks = [RAMBlock("toy.ram", ram), RAMBlock("toy.rom", 16 * PAGE, readonly=True)]
        self.devices = [ToyDevice(), ToyDevice("timer"), ToyDevice("toy", 1)]
        self.disks: list[Any] = []
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._guest = guest
        self._may_run = threading.Event()
        self.lock = self._lock = threading.RLock()
        self.cpus = [object()]
        self.throttle = 0
        self.throttles: list[int] = []
        """What ``set_throttle`` was told."""
        self._over = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while self._may_run.wait() and not self._over:
            begin = time.monotonic()
            with self._lock:
                if self._may_run.is_set() and self._guest is not None:
                    self._guest(self)
            # zero lets somebody else have the lock
            time.sleep((time.monotonic() - begin) * self.throttle / (100 - self.throttle))

    @property
    def ram(self) -> RAMBlock:
        return self.ram_blocks[0]

    def save_handlers(self) -> list[ToyDevice]:
        return self.devices

    def start(self) -> None:
        self.run_state = "running"
        self.emit("RESUME")
        self._may_run.set()

    def stop(self, state: str = "paused") -> None:
        with self._lock:
            if self.is_running():
                self.emit("STOP")
            self._may_run.clear()
            self.run_state = state

    def set_run_state(self, state: str) -> None:
        self.run_state = state

    def is_running(self) -> bool:
        return self.run_state == "running"

    @contextmanager
    def quiesced(self) -> Iterator[None]:
        with self._lock:
            yield

    def set_throttle(self, percent: float) -> None:
        self.throttle = percent
        self.throttles.append(percent)

    def emit(self, event: str, data: Mapping[str, Any] | None = None) -> None:
        self.events.append((event, dict(data or {})))

    def statuses(self) -> list[str]:
        """The values of the MIGRATION events, in order."""
        return [data["status"] for event, data in self.events if event == "MIGRATION"]

    def close(self) -> None:
        self._over = True
        self._may_run.set()
        self._thread.join()
        self.loop.close()


class LapWriter:
    """A guest that increments the first byte of every page, in address order, lap after lap."""

    def __init__(self, pages: int, per_turn: int = 64) -> None:
        self.pages = pages
        self.per_turn = per_turn
        self.at = 0
        self.turns = 0

    def __call__(self, machine: ToyMachine) -> None:
        ram = machine.ram
        for _ in range(self.per_turn):
            offset = self.at * PAGE
            ram.mem[offset] = (ram.mem[offset] + 1) & 0xFF
            ram.dirty[self.at] = 1
            self.at = (self.at + 1) % self.pages
        self.turns += 1


def laps_are_whole(machine: ToyMachine, pages: int) -> bool:
    """The first bytes of the pages differ by at most one step, at one place."""
    first = machine.ram.view.reshape(-1, PAGE)[:pages, 0].astype(int)
    steps = [(int(a) - int(b)) & 0xFF for a, b in itertools.pairwise(first)]
    return all(step in (0, 1) for step in steps) and sum(steps) <= 1
