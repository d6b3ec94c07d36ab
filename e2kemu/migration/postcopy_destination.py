"""The destination's side of a postcopy: from the package to the last page.

    thread "migration in"   reads the stream: pages, over as many connections as it takes
    thread "package"        loads the device state; its loading may need pages, which "migration in" receives
    thread "page requests"  asks for the pages that somebody waits for (``memory/received.py``)
    vCPUs                   run from RUN on; who needs a page that is missing waits for it

Until the answer to PING LOADED has gone out a failure is one of the whole migration, as in precopy. From then on
the guest is here, or may be: a connection that fails makes the status ``postcopy-paused``, and ``recover`` gives
the next one. The guest starts when the source has said that it will never run it again (``postcopy.py``).
"""

from __future__ import annotations

import queue
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from e2kemu import trace
from e2kemu.errors import ChannelError, E2kError, StreamError
from e2kemu.memory.dirty import PAGE_BITS
from e2kemu.memory.received import Arrivals
from e2kemu.migration import state as status
from e2kemu.migration.blocktime import BlockTime
from e2kemu.migration.channel import Channel, Listener
from e2kemu.migration.load import StreamLoader
from e2kemu.migration.machine_protocol import MigratableMachine
from e2kemu.migration.postcopy import (
    PING_COMMITTED,
    PING_LOADED,
    PING_WILL_COMMIT,
    RESUME_OK,
    PageRequest,
    check_advise,
    parse_block_name,
    parse_discard,
    request_payload,
)
from e2kemu.migration.qemufile import StreamReader
from e2kemu.migration.ram_load import RamLoader
from e2kemu.migration.registry import RAM_IDSTR
from e2kemu.migration.returnpath import Message, ReturnPathWriter
from e2kemu.migration.state import MigrationState
from e2kemu.trace import Log

REFUSAL_SECONDS = 1.0
"""How long a source that was told that its package is no good has to end the connection."""

SUCCESS = bytes(4)
FAILURE = bytes([0, 0, 0, 1])
"""Payloads of SHUT."""


@dataclass
class IncomingLink:
    """One connection."""

    channel: Channel
    reader: StreamReader
    back: ReturnPathWriter


def incoming_link(channel: Channel) -> IncomingLink:
    """Both directions of ``channel``."""
    return IncomingLink(channel, StreamReader(channel), ReturnPathWriter(channel))


class PostcopyDestination:
    """One postcopy. ``start_guest`` is called in the main loop when the guest may run."""

    def __init__(
        self,
        machine: MigratableMachine,
        state: MigrationState,
        ram: RamLoader,
        start_guest: Callable[[], None],
        *,
        blocktime: bool,
    ) -> None:
        self._machine = machine
        self._state = state
        self._ram = ram
        self._start_guest = start_guest
        self._pages = {block.idstr: block.size >> PAGE_BITS for block in machine.ram_blocks}
        self._blocktime = BlockTime(len(machine.cpus)) if blocktime else None
        self._arrivals: Arrivals | None = None
        self._lock = threading.Lock()
        self._link: IncomingLink | None = None
        self._live = False  # requests may be sent on the link
        self._wanted: queue.SimpleQueue[PageRequest | None] = queue.SimpleQueue()
        self._offers: queue.SimpleQueue[tuple[Listener, Callable[[Channel], Channel]] | None] = queue.SimpleQueue()
        self._listener: Listener | None = None
        self._arriving: Channel | None = None  # a new connection, in its handshake
        self._problem: E2kError | None = None  # why the package could not be loaded
        self._loaded = False  # the source may know that all state is here
        self._hold = self._committed = self._may_run = self._started = False

    # -- from other threads

    def recover(self, listener: Listener, wrap: Callable[[Channel], Channel]) -> None:
        """Go on with the connection that comes to ``listener``; an earlier offer is withdrawn."""
        with self._lock:
            earlier, self._listener = self._listener, listener
            arriving = self._arriving
        if earlier is not None:
            earlier.close()
        if arriving is not None:
            arriving.shutdown()  # whoever hangs in its handshake must not keep others out
        self._offers.put((listener, wrap))

    def pause(self) -> None:
        """Break the connection off."""
        if self._link is not None:
            self._link.channel.shutdown()

    def close(self) -> None:
        """The emulator ends."""
        with self._lock:
            listener, arriving = self._listener, self._arriving
        if listener is not None:
            listener.close()
        if arriving is not None:
            arriving.shutdown()
        self._offers.put(None)
        self.pause()

    def query(self) -> dict[str, Any]:
        """Its members of query-migrate."""
        return {} if self._blocktime is None else self._blocktime.query()

    # -- commands of the source

    def advise(self, payload: bytes, at: int) -> None:
        """The source may want a postcopy. Raises StreamError."""
        check_advise(payload, self._machine.ram_blocks, at)
        self._ram.track()

    def discard(self, payload: bytes, at: int) -> None:
        """Pages that came are out of date. Raises StreamError."""
        block, ranges = parse_discard(payload, self._pages, at)
        for first, count in ranges:
            self._ram.discard(block, first, count)

    def ping(self, value: int) -> None:
        """A PING, before it is answered."""
        if value == PING_WILL_COMMIT:
            self._hold = True
        elif value == PING_LOADED:
            self._loaded = True
        elif value == PING_COMMITTED:
            self._commit()

    def run_guest(self) -> None:
        """RUN: the guest may run, as far as the package is concerned."""
        with self._lock:
            self._may_run = self._loaded = True
        self._start_if_ready()

    def resume(self, at: int) -> None:
        """RESUME: the source knows what is missing; say what is urgent. Raises StreamError, ChannelError."""
        if self._state.status != status.POSTCOPY_RECOVER:
            raise StreamError("POSTCOPY_RESUME comes at the wrong moment", offset=at)
        assert self._arrivals is not None
        assert self._link is not None
        self._link.back.send(Message.RESUME_ACK, RESUME_OK)
        self._state.move(status.POSTCOPY_ACTIVE)
        self._commit()  # it would not resume if the guest were still its own
        self._arrivals.pause("")
        self._live = True
        for block, first, count in self._arrivals.outstanding():
            self._wanted.put(PageRequest(block, first, count))
        self._log("recovered")

    def send_received(self, payload: bytes, at: int) -> None:
        """RECV_BITMAP: tell what has come of a block. Raises StreamError, ChannelError."""
        assert self._link is not None
        block = parse_block_name(payload, self._pages, at)
        self._link.back.send_bitmap(block, self._ram.received[block])

    def _commit(self) -> None:
        with self._lock:
            self._committed = True
        self._start_if_ready()

    def _start_if_ready(self) -> None:
        with self._lock:
            if self._started or not self._may_run or (self._hold and not self._committed):
                return
            self._started = True
        self._state.try_move(status.POSTCOPY_ACTIVE)
        self._machine.loop.call_soon(self._start_guest)

    # -- the thread "migration in"

    def run(self, link: IncomingLink, stream: StreamLoader, package: StreamLoader) -> None:
        """Receive until nothing is missing. Raises StreamError when it fails while the guest is the source's."""
        blocks = [(block, self._ram.received[block.idstr]) for block in self._machine.ram_blocks]
        self._arrivals = arrivals = Arrivals(self._machine.lock, blocks, self._want, self._blocktime)
        self._ram.place_in(arrivals)
        arrivals.begin()
        self._link, self._live = link, True
        link.channel.be_prompt()
        self._state.move(status.POSTCOPY_DEVICE)
        loading = threading.Thread(target=self._load_package, args=(package, link), name="package", daemon=True)
        asking = threading.Thread(target=self._ask, name="page requests", daemon=True)
        try:
            loading.start()
            asking.start()
            self._receive(stream, arrivals, loading)
            loading.join()
        finally:
            self._wanted.put(None)
            with self._machine.quiesced():
                arrivals.end()
                self._ram.finish()
        try:
            self._link.back.send(Message.SHUT, SUCCESS)
        except ChannelError as error:
            self._log(f"the source has not been told that all has come: {error}")
        self._link.channel.close()

    def _receive(self, stream: StreamLoader, arrivals: Arrivals, loading: threading.Thread) -> None:
        while True:
            assert self._link is not None
            try:
                stream.load_rest(self._link.reader)
                self._check_end(arrivals.missing(), self._link.reader.position, loading)
                return
            except E2kError as error:
                self._break(error, arrivals, loading)
            except Exception as error:  # a fault of ours must not take the guest with it
                traceback.print_exc()
                self._break(StreamError(f"{type(error).__name__}: {error}"), arrivals, loading)
            self._await_recovery()

    def _check_end(self, missing: int, at: int, loading: threading.Thread) -> None:
        """The source has no more to send. Raises E2kError when that cannot be all."""
        if missing:
            raise StreamError(f"the stream ends with {missing} pages missing", section=RAM_IDSTR, offset=at)
        loading.join()
        if self._problem is not None:
            raise self._problem
        if not self._started:
            raise StreamError("the stream ends before the source has given its guest away", offset=at)

    def _break(self, error: E2kError, arrivals: Arrivals, loading: threading.Thread) -> None:
        """The connection is of no use any more: pause, or raise when it was the guest's only home."""
        assert self._link is not None
        self._live = False
        arrivals.pause("the migration is paused")
        loading.join()
        if self._problem is not None or not self._loaded:
            raise self._problem or error
        self._link.channel.close()
        self._paused(error)
        self._state.move(status.POSTCOPY_PAUSED)

    def _await_recovery(self) -> None:
        while True:
            offer = self._offers.get()
            if offer is None:
                raise ChannelError("the emulator ends")
            listener, wrap = offer
            try:
                channel = self._accept(listener, wrap)
            except E2kError as error:
                if listener is self._listener:
                    self._paused(error)
                continue
            finally:
                listener.close()
            channel.be_prompt()
            self._link = incoming_link(channel)
            self._state.move(status.POSTCOPY_RECOVER)
            return

    def _accept(self, listener: Listener, wrap: Callable[[Channel], Channel]) -> Channel:
        raw = listener.accept()
        with self._lock:
            if listener is not self._listener:
                raw.shutdown()  # withdrawn meanwhile
            self._arriving = raw
        try:
            return wrap(raw)
        except E2kError:
            raw.close()
            raise
        finally:
            with self._lock:
                self._arriving = None

    def _paused(self, error: E2kError) -> None:
        self._log(f"paused: {error}")
        self._state.record_error(str(error))
        print(f"e2kemu: postcopy paused: {error}", file=sys.stderr, flush=True)

    # -- the thread "package"

    def _load_package(self, package: StreamLoader, link: IncomingLink) -> None:
        try:
            package.load_package()
            if not self._may_run:
                raise StreamError("the package ends without POSTCOPY_RUN")
        except E2kError as error:
            self._problem = error
        except Exception as error:
            self._problem = StreamError(f"{type(error).__name__}: {error}")
        if self._problem is None:
            return
        timer = threading.Timer(REFUSAL_SECONDS, link.channel.shutdown)
        timer.daemon = True
        timer.start()
        try:
            link.back.send(Message.SHUT, FAILURE)
        except ChannelError:
            pass  # the source has gone

    # -- the thread "page requests"

    def _want(self, block: str, first: int, count: int) -> None:
        self._wanted.put(PageRequest(block, first, count))

    def _ask(self) -> None:
        """Send requests; those that cannot be sent are repeated after the recovery."""
        named: tuple[IncomingLink | None, str] = (None, "")
        while (request := self._wanted.get()) is not None:
            link = self._link
            if not self._live or link is None:
                continue
            fresh = named != (link, request.block)
            message = Message.REQ_PAGES_ID if fresh else Message.REQ_PAGES
            try:
                link.back.send(message, request_payload(request, named=fresh))
            except ChannelError:
                continue  # whoever reads this connection finds out why
            named = (link, request.block)

    def _log(self, text: str) -> None:
        if trace.mask & Log.MIGRATION:
            trace.log(f"migration: in: postcopy: {text}")
