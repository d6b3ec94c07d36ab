"""A TCP proxy that knows the messages of a migration, and stops at the one that it is told."""

from __future__ import annotations

import select
import socket
import threading
from collections import Counter
from dataclasses import dataclass
from functools import partial

from tests.framework.relay import Barrier
from tests.framework.units import Splitter, return_messages, stream_messages, tls_records

THERE, BACK = "->", "<-"
"""Towards the destination; towards the source."""


@dataclass(frozen=True, order=True)
class Place:
    """``inside`` bytes behind the beginning of the ``nth`` message ``label``, counted from ``phase`` on.

    Phase 0 begins with the connection, 1 when the test says so.
    """

    phase: int
    direction: str
    label: str
    nth: int = 0
    inside: int = 0

    def __str__(self) -> str:
        return f"{self.phase} {self.direction} {self.label} #{self.nth}+{self.inside}"


class Crossing(Barrier):
    """Forwards one connection to ``port`` both ways. At ``place`` nothing passes any more, in either direction, and
    ``stopped`` is set, until ``go_on`` or ``cut``.

    ``seen`` are the messages that were recognised, as places.
    """

    def __init__(self, port: int, place: Place | None = None, *, tls: bool = False, recovery: bool = False) -> None:
        self.seen: list[Place] = []
        self._place = place
        self._phase = 0
        self._lock = threading.Lock()
        self._count: Counter[tuple[str, str]] = Counter()
        there = tls_records if tls else partial(stream_messages, header=not recovery)
        self._ways = {THERE: _Way(Splitter(there)), BACK: _Way(Splitter(tls_records if tls else return_messages))}
        super().__init__(port)

    def next_phase(self) -> None:
        """Count from here on anew."""
        with self._lock:
            self._phase += 1
            self._count.clear()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        ends = {client: (THERE, server), server: (BACK, client)}
        for end in ends:
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while ends and not self._over:
            for here in select.select(list(ends), [], [], 0.02)[0]:
                direction, there = ends[here]
                way = self._ways[direction]
                data = here.recv(65536)
                if not data:
                    there.sendall(way.rest())
                    ends.pop(here)
                    there.shutdown(socket.SHUT_WR)
                    continue
                at_place = self._look(direction, way, data)
                there.sendall(way.take())
                if at_place:
                    self._stop()
                    if self._over:
                        return
                    way.limit = None
                    there.sendall(way.take())

    def _look(self, direction: str, way: _Way, data: bytes) -> bool:
        """Whether to stop in this data."""
        way.received += data
        way.splitter.feed(data)
        begins, way.splitter.begins = way.splitter.begins, []
        found = False
        with self._lock:
            for offset, label in begins:
                seen = Place(self._phase, direction, label, self._count[direction, label])
                self._count[direction, label] += 1
                self.seen.append(seen)
                place = self._place
                if place is not None and (seen.phase, seen.direction, seen.label, seen.nth) == (
                    place.phase, place.direction, place.label, place.nth
                ):  # fmt: skip
                    way.limit, self._place, found = offset + place.inside, None, True
        return found


class _Way:
    """One direction."""

    def __init__(self, splitter: Splitter) -> None:
        self.splitter = splitter
        self.received = bytearray()
        self._passed = 0
        self.limit: int | None = None

    def take(self) -> bytes:
        """What may pass now."""
        until = self.splitter.recognised
        if self.limit is not None:
            until = min(until, self.limit)
        data = bytes(self.received[: max(0, until - self._passed)])
        del self.received[: len(data)]
        self._passed += len(data)
        return data

    def rest(self) -> bytes:
        """All of it."""
        data = bytes(self.received)
        self.received.clear()
        return data
