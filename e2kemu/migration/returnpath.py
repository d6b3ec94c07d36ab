"""The return path: messages from the destination to the source, on the main channel, backwards.

Each is be16 type, be16 length, payload (at most 512 bytes):

    SHUT            be32 0 all is loaded, else it failed; the last message
    PONG            be32 the value of the PING
    SWITCHOVER_ACK  nothing; the destination is ready
    REQ_PAGES_ID, REQ_PAGES, RECV_BITMAP, RESUME_ACK     see ``postcopy.py``

The destination writes them with ``ReturnPathWriter``, from any thread. The source reads them in a thread
of its own, ``ReturnPath``, which ends with SHUT, with the channel or with an error, and tells by events.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from e2kemu.errors import ChannelError, E2kError, StreamError
from e2kemu.migration.postcopy import (
    RESUME_OK,
    PageRequest,
    checked_range,
    parse_block_name,
    read_bitmap,
    received_bitmap,
)
from e2kemu.migration.postcopy import block_name as bitmap_name
from e2kemu.migration.qemufile import ByteSink, ByteSource, StreamReader
from e2kemu.wire import Writer

MAX_MESSAGE = 512
"""Bytes of the longest payload."""


MAX_REQUESTS = 1 << 16
"""Requests for pages that may wait to be served: a destination asks once for each page, and waits for it."""


MAX_PING = 0xFF
"""No PING of ours has a greater value; other answers are not remembered, a peer may send any number of them."""


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

POSTCOPY_LENGTHS = {Message.REQ_PAGES_ID: None, Message.REQ_PAGES: 12, Message.RECV_BITMAP: None, Message.RESUME_ACK: 4}
"""Payload bytes of the messages that belong to postcopy; None: they vary."""


class ReturnPathWriter:
    """The destination's end."""

    def __init__(self, sink: ByteSink) -> None:
        self._sink = sink
        self._lock = threading.Lock()

    def send(self, message: Message, payload: bytes = b"", trailer: bytes = b"") -> None:
        """Send one message, and ``trailer`` behind it. Raises ChannelError."""
        w = Writer()
        w.be16(message)
        w.be16(len(payload))
        w.raw(payload)
        w.raw(trailer)
        with self._lock:
            self._sink.writev([w.getvalue()])

    def send_bitmap(self, block: str, present: npt.NDArray[np.uint8]) -> None:
        """Tell which pages of ``block`` have been received. Raises ChannelError."""
        self.send(Message.RECV_BITMAP, bitmap_name(block), received_bitmap(present))


class ReturnPath:
    """The source's end: a thread that reads until the verdict.

    ``answered``: the peer has sent anything, so there is one that speaks. ``verdict``: SHUT's value, None
    as long as there is none. ``problem``: why there is no good one and never will be. ``acknowledged``:
    SWITCHOVER_ACK came. ``on_failure`` is called in the thread once ``problem`` is known.

    ``block_pages`` (pages by block) is given when postcopy is possible. Then: ``pongs`` are the values of PING
    that were answered, ``requests`` the pages that were asked for, ``bitmaps`` what was received (of the blocks in
    ``bitmaps_wanted``, which nobody else may send), ``resumed``: RESUME_ACK came.
    """

    def __init__(
        self, source: ByteSource, on_failure: Callable[[], None], block_pages: Mapping[str, int] | None = None
    ) -> None:
        self._reader = StreamReader(source, size=4096)
        self._on_failure = on_failure
        self._changed = threading.Condition()
        self.answered = False
        self.acknowledged = False
        self.verdict: int | None = None
        self.problem: E2kError | None = None
        self.opened = time.monotonic()
        self._block_pages = block_pages
        self._block = ""
        self.pongs: set[int] = set()
        self.requests: deque[PageRequest] = deque()
        self.bitmaps_wanted: set[str] = set()
        self.bitmaps: dict[str, npt.NDArray[np.bool_]] = {}
        self.resume_wanted = False
        self.resumed = False
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
        if self._block_pages is not None and number in POSTCOPY_LENGTHS:
            self._receive_postcopy(Message(number), length, self._block_pages, at)
            return
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
            elif (value := int.from_bytes(payload, "big")) <= MAX_PING:
                self.pongs.add(value)
            self._changed.notify_all()

    def _receive_postcopy(self, message: Message, length: int, pages: Mapping[str, int], at: int) -> None:
        expected = POSTCOPY_LENGTHS[message]
        if length > MAX_MESSAGE or expected not in (None, length):
            raise StreamError(f"return path: {message.name} of {length} bytes", offset=at)
        payload = self._reader.raw(length)
        if message in (Message.REQ_PAGES_ID, Message.REQ_PAGES):
            self._receive_request(payload, pages, at)
        elif message == Message.RECV_BITMAP:
            block = parse_block_name(payload, pages, at)
            if block not in self.bitmaps_wanted:
                raise StreamError(f"return path: RECV_BITMAP of '{block}' that nobody asked for", offset=at)
            bitmap = read_bitmap(self._reader, block, pages[block])
            with self._changed:
                self.bitmaps_wanted.discard(block)
                self.bitmaps[block] = bitmap
                self._changed.notify_all()
        else:
            if payload != RESUME_OK or not self.resume_wanted:
                raise StreamError(f"return path: RESUME_ACK {payload.hex()}", offset=at)
            with self._changed:
                self.resumed = True
                self._changed.notify_all()

    def _receive_request(self, payload: bytes, pages: Mapping[str, int], at: int) -> None:
        if len(payload) != 12:
            if len(payload) < 13 or len(payload) != 13 + payload[12]:
                raise StreamError(f"return path: REQ_PAGES_ID of {len(payload)} bytes", offset=at)
            self._block = payload[13:].decode("utf-8", "backslashreplace")
        if self._block not in pages:
            raise StreamError(f"return path: request for pages of block {self._block!r}", offset=at)
        start, size = int.from_bytes(payload[:8], "big"), int.from_bytes(payload[8:12], "big")
        first, count = checked_range(start, size, self._block, pages[self._block], at)
        if len(self.requests) >= MAX_REQUESTS:
            raise StreamError(f"return path: more than {MAX_REQUESTS} requests for pages at once", offset=at)
        with self._changed:
            self.answered = True
            self.requests.append(PageRequest(self._block, first, count))
            self._changed.notify_all()
