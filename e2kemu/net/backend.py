"""What every network back end is: two bounded queues of Ethernet frames between a card and the host.

A frame is destination, source, type and payload, without preamble and checksum. The card calls ``transmit`` with what
the guest sends; the back end carries it out in the main loop (``_carry``) and calls ``deliver`` with what is for the
guest. A card that cannot take a frame now (no buffers, machine stopped) says so; the frame waits here until the card
calls ``flush``. Full queues drop, as a wire does.

Threads: everything happens with the machine lock held, ``_carry`` and whatever touches host sockets only in the main
loop.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from typing import ClassVar, Protocol

from e2kemu.loop import MainLoop

FRAME_MAX = 65535 + 18
"""The longest frame carried: an IP datagram, header, VLAN tag."""
FRAME_MIN = 14
PADDED = 60
"""Frames to the guest are at least this long, as on a real wire."""
QUEUE = 512
"""Frames each queue holds."""


class Card(Protocol):
    """What a back end sees of the network card."""

    def receive(self, frame: bytes) -> bool:
        """Take a frame for the guest (also by dropping it); False: not now, ``flush`` will be called."""


class NetBackend(ABC):
    """One ``-netdev``."""

    kind: ClassVar[str] = ""
    """The word of ``-netdev``."""

    def __init__(self, ident: str, loop: MainLoop) -> None:
        self.id = ident
        self.loop = loop
        self.card: Card | None = None
        self.dropped = 0
        """Frames that a full queue did not take, both ways."""
        self._out: deque[bytes] = deque()
        self._in: deque[bytes] = deque()
        self._draining = False
        self._closed = False

    # -- the card's side

    def transmit(self, frame: bytes) -> None:
        """The guest sends ``frame``; from any thread. What is no frame is dropped."""
        if self._closed or len(self._out) >= QUEUE or not FRAME_MIN <= len(frame) <= FRAME_MAX:
            self.dropped += 1
            return
        self._out.append(frame)
        if not self._draining:
            self._draining = True
            self.loop.call_soon(self._drain)

    def flush(self) -> None:
        """The card may take frames (again); from any thread."""
        while self._in and self.card is not None and self.card.receive(self._in[0]):
            self._in.popleft()

    @property
    def stalled(self) -> bool:
        """The guest takes no frames at present: no fault of the guest's to be silent."""
        return bool(self._in)

    def announce(self, mac: bytes) -> None:
        """The card has moved here: let switches learn it, with QEMU's five RARP requests."""
        arp = b"\0\1\x08\0\6\4\0\3" + mac + bytes(4) + mac + bytes(4)
        frame = (b"\xff" * 6 + mac + b"\x80\x35" + arp).ljust(PADDED, b"\0")
        for seconds in (0.0, 0.05, 0.2, 0.45, 0.8):
            self.loop.call_later(seconds, lambda: self.transmit(frame))

    # -- the back end's side

    def _drain(self) -> None:
        self._draining = False
        for _ in range(len(self._out)):
            if self._closed:
                return
            frame = self._out.popleft()
            if self._out and not self._draining:
                self._draining = True  # a fault in this frame does not hold up the others
                self.loop.call_soon(self._drain)
            self._carry(frame)

    @abstractmethod
    def _carry(self, frame: bytes) -> None:
        """Carry one frame of the guest to the host's side."""

    def deliver(self, frame: bytes) -> None:
        """A frame for the guest."""
        if len(frame) < PADDED:
            frame = frame.ljust(PADDED, b"\0")
        self.flush()
        if not self._in and self.card is not None and self.card.receive(frame):
            return
        if len(self._in) >= QUEUE:
            self.dropped += 1
        else:
            self._in.append(frame)

    @abstractmethod
    def describe(self) -> str:
        """Its part of the line in ``info network``, after ``type=KIND,``."""

    def close(self) -> None:
        """Release what it has of the host."""
        self._closed = True
        self._in.clear()
        self._out.clear()
