"""Buffered reading and writing of a migration stream over a Channel.

``StreamReader`` is a ``wire.Reader`` with one bounded buffer; ``buffered()`` shows what has arrived
already, so that the RAM loader can recognise whole runs of records at once. ``StreamWriter`` is a
``wire.Writer`` that collects small fields, passes big buffers on without copying, keeps the rate
limit's account and remembers its first error: whatever is written later raises that error again.

One thread reads, one thread writes; nothing here is locked.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from e2kemu.errors import ChannelError, StreamError
from e2kemu.wire import Reader, Writer

READ_BUFFER = 4 << 20
"""Bytes the reader holds at most."""

FEW = 16 << 10
"""Bytes that are moved to the front of the buffer whenever more are read: the front is in the processor's cache."""

FLUSH_AT = 64 << 10
"""Collected bytes from which a writer's ``flush_if_full`` really writes."""

WINDOW = 0.1
"""Seconds of one rate limit window (QEMU: BUFFER_DELAY, 100 ms)."""

Buffer = bytes | bytearray | memoryview


class ByteSource(Protocol):
    """The reading half of ``channel.Channel``."""

    def readinto(self, buffer: memoryview) -> int:
        """Wait for at least one byte; 0 at the end. Raises ChannelError."""


class ByteSink(Protocol):
    """The writing half of ``channel.Channel``."""

    def writev(self, buffers: list[Buffer]) -> None:
        """Write all of the buffers. Raises ChannelError."""


class StreamReader(Reader):
    """Reads fields and bulk data from ``source``; ``position`` is the offset in the stream."""

    def __init__(self, source: ByteSource, size: int = READ_BUFFER) -> None:
        self._source = source
        self._store = bytearray(size)
        self._view = memoryview(self._store)
        self._start = 0
        self._end = 0
        self._base = 0  # stream offset of _view[0]
        self._eof = False

    @property
    def position(self) -> int:  # type: ignore[override]
        return self._base + self._start

    def buffered(self) -> memoryview:
        """The bytes that are here already. Valid until the next call that reads."""
        return self._view[self._start : self._end]

    def consume(self, size: int) -> None:
        """Step over ``size`` bytes of ``buffered()``."""
        self._start += size

    def want(self, size: int) -> bool:
        """Wait until ``size`` bytes (at most the buffer) are buffered; False: the stream ends before."""
        while self._end - self._start < size:
            if self._eof:
                return False
            self._make_room(size)
            count = self._source.readinto(self._view[self._end :])
            self._eof = count == 0
            self._end += count
        return True

    def at_end(self) -> bool:
        """True when no byte is left; waits until that is known."""
        return not self.want(1)

    def read_exact(self, size: int) -> bytes:
        if size <= len(self._store):
            self._need(size)
            data = bytes(self._view[self._start : self._start + size])
            self._start += size
            return data
        parts = []
        while size:
            step = min(size, len(self._store))
            parts.append(self.read_exact(step))
            size -= step
        return b"".join(parts)

    def peek(self, size: int) -> bytes:
        self.want(size)
        return bytes(self._view[self._start : min(self._start + size, self._end)])

    def skip(self, size: int) -> None:
        while size:
            step = min(size, len(self._store))
            self._need(step)
            self._start += step
            size -= step

    def be8(self) -> int:
        self._need(1)
        self._start += 1
        return self._store[self._start - 1]

    def _need(self, size: int) -> None:
        if not self.want(size):
            here = self._end - self._start
            raise StreamError(
                f"the stream ends early ({size} bytes wanted, {here} left)", offset=self.position
            )

    def _make_room(self, size: int) -> None:
        """Room behind the data: they move to the front when they are few or ``size`` does not fit."""
        left = self._end - self._start
        if left <= FEW or self._start + size > len(self._store) or self._end == len(self._store):
            # Through bytes: the two ranges of one buffer may overlap.
            self._view[:left] = bytes(self._view[self._start : self._end])
            self._base += self._start
            self._start, self._end = 0, left


class RateLimit:
    """The account of one 100 ms window: bytes written in it against a tenth of the limit."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start = clock()
        self._used = 0

    def charge(self, count: int) -> None:
        """``count`` bytes have been written."""
        self._used += count

    def budget(self, bytes_per_second: int) -> int:
        """Bytes that may still go in this window; <= 0: wait. A limit of 0 means none."""
        self._roll()
        if bytes_per_second == 0:
            return 1 << 62
        return max(1, int(bytes_per_second * WINDOW)) - self._used

    def remaining_time(self) -> float:
        """Seconds until the next window."""
        return max(0.0, self._start + WINDOW - self._clock())

    def _roll(self) -> None:
        now = self._clock()
        if now - self._start >= WINDOW:
            self._start = now
            self._used = 0


class StreamWriter(Writer):
    """Collects fields and writes them to ``sink``.

    ``position`` counts every byte given to it; ``getvalue()`` is what has not been flushed yet.
    """

    def __init__(self, sink: ByteSink, rate: RateLimit | None = None) -> None:
        super().__init__()
        self._sink = sink
        self._flushed = 0
        self.rate = rate or RateLimit()
        self.error: ChannelError | None = None

    @property
    def position(self) -> int:
        return self._flushed + len(self._buffer)

    @property
    def transferred(self) -> int:
        """Bytes that have left through the sink."""
        return self._flushed

    def flush(self) -> None:
        """Write everything collected. Raises the first ChannelError of this writer."""
        self.write_through(None)

    def flush_if_full(self) -> None:
        """Flush when enough has been collected for a call to be worth it."""
        if len(self._buffer) >= FLUSH_AT:
            self.flush()

    def write_through(self, bulk: memoryview | None) -> None:
        """Write what is collected and then ``bulk``, without copying it."""
        if self.error is not None:
            raise self.error
        buffers: list[Buffer] = [buffer for buffer in (bytes(self._buffer), bulk) if buffer]
        if not buffers:
            return
        size = sum(len(buffer) for buffer in buffers)
        try:
            self._sink.writev(buffers)
        except ChannelError as error:
            self.error = error
            raise
        self._buffer.clear()
        self._flushed += size
        self.rate.charge(size)
