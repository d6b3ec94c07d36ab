"""The return path: messages from the destination to the source, on the main channel, backwards.

Each is be16 type, be16 length, payload (at most 512 bytes):

    SHUT            be32 0 all is loaded, else it failed; the last message
    PONG            be32 the value of the PING
    SWITCHOVER_ACK  nothing; the destination is ready

The destination writes them with ``ReturnPathWriter`` from its only thread. The source reads them in a thread
of its own, ``ReturnPath``, which ends with SHUT, with the channel or with an error, and tells by events.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import IntEnum

from e2kemu.errors import ChannelError, E2kError, StreamError
from e2kemu.migration.qemufile import ByteSink, ByteSource, StreamReader
from e2kemu.wire import Writer

MAX_MESSAGE = 512
"""Bytes of the longest payload."""


class Message(IntEnum):
    """MIG_RP_MSG_*."""

    SHUT = 1
    PONG = 2
    REQ_PAGES_ID = 3
    REQ_PAGES = 4
    RECV_BITMAP = 5
    RESUME_ACK = 6
    SWITCHOVER_ACK = 7


LENGTHS = {Message.SHUT: 4, Message.PONG: 4, Message.SWITCHOVER_ACK: 0}
"""Payload bytes of the messages that belong to precopy."""


class ReturnPathWriter:
    """The destination's end."""

    def __init__(self, sink: ByteSink) -> None:
        self._sink = sink

    def send(self, message: Message, payload: bytes = b"") -> None:
        """Send one message. Raises ChannelError."""
        w = Writer()
        w.be16(message)
        w.be16(len(payload))
        w.raw(payload)
        self._sink.writev([w.getvalue()])


class ReturnPath:
    """The source's end: a thread that reads until the verdict.

    ``answered``: the peer has sent anything, so there is one that speaks. ``verdict``: SHUT's value, None
    as long as there is none. ``problem``: why there is no good one and never will be. ``acknowledged``:
    SWITCHOVER_ACK came. ``on_failure`` is called in the thread once ``problem`` is known.
    """

    def __init__(self, source: ByteSource, on_failure: Callable[[], None]) -> None:
        self._reader = StreamReader(source, size=4096)
        self._on_failure = on_failure
        self._changed = threading.Condition()
        self.answered = False
        self.acknowledged = False
        self.verdict: int | None = None
        self.problem: E2kError | None = None
        self.opened = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="return path", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def over(self) -> bool:
        """Nothing more will come."""
        return self.verdict is not None or self.problem is not None

    def wait(self, condition: Callable[[ReturnPath], bool], timeout: float | None = None) -> bool:
        """Wait until ``condition(self)`` holds or nothing more will come; False: the time is over."""
        with self._changed:
            return self._changed.wait_for(lambda: condition(self) or self.over(), timeout)

    def join(self, timeout: float) -> None:
        """Wait for the thread's end; the channel must have been shut down or the verdict be there."""
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        try:
            while self.verdict is None:
                if self._reader.at_end():
                    raise ChannelError(
                        "the destination closed the connection before it confirmed the migration"
                    )
                self._receive()
        except E2kError as error:
            with self._changed:
                self.problem = error
                self._changed.notify_all()
        if self.problem is not None:
            self._on_failure()

    def _receive(self) -> None:
        at = self._reader.position
        number = self._reader.be16()
        length = self._reader.be16()
        if number not in LENGTHS:
            raise StreamError(f"return path: unexpected message {number:#x} of {length} bytes", offset=at)
        message = Message(number)
        if length != LENGTHS[message]:
            raise StreamError(
                f"return path: {message.name} of {length} bytes instead of {LENGTHS[message]}", offset=at
            )
        payload = self._reader.raw(length)
        with self._changed:
            self.answered = True
            if message == Message.SHUT:
                self.verdict = int.from_bytes(payload, "big")
                if self.verdict:
                    self.problem = ChannelError(f"RP: Sibling indicated error {self.verdict}")
            elif message == Message.SWITCHOVER_ACK:
                self.acknowledged = True
            self._changed.notify_all()
