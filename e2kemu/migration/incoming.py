"""The destination's conductor: from listening to a guest that runs.

All in the thread "migration in": accept one channel (status ``setup``), wrap it, load the stream
(``active``), confirm on the return path, then hand over to the main loop, which goes to the run state that
the source had and reports ``completed``. The confirmation goes out *before* the guest runs, and a source that has
announced it (``postcopy.py``) answers that it has given its guest away: so there are never two. Should just that
answer be lost, this may be the only one left who has the guest, or not: it is kept, stopped, the status is ``failed``,
and the emulator stays, whatever exit-on-error says. Who can look at the source has it started by ``cont``.

When anything fails, the source is told (SHUT 1) where it listens, one line goes to stderr, and the emulator
ends with status 1, or stays with status ``failed`` when exit-on-error is off. It may then be given another
stream: everything is loaded anew.

When the source switches to postcopy, the rest is ``postcopy_destination.py``'s: the guest runs before the stream
has ended.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from e2kemu import trace
from e2kemu.errors import ChannelError, E2kError, StreamError
from e2kemu.migration import state as status
from e2kemu.migration.block import BlockLoader
from e2kemu.migration.channel import Channel, Listener, SocketAddressDict
from e2kemu.migration.compat import NEWEST, StreamFormat
from e2kemu.migration.disk_protocol import let_go
from e2kemu.migration.globalstate import GlobalState
from e2kemu.migration.load import StreamLoader
from e2kemu.migration.machine_protocol import MigratableMachine
from e2kemu.migration.postcopy import PING_COMMITTED, PING_WILL_COMMIT, PONG_HOLDING
from e2kemu.migration.postcopy_destination import (
    FAILURE,
    SUCCESS,
    IncomingLink,
    PostcopyDestination,
    incoming_link,
)
from e2kemu.migration.qemufile import StreamReader
from e2kemu.migration.ram_load import RamLoader
from e2kemu.migration.registry import Registry
from e2kemu.migration.returnpath import Message, ReturnPathWriter
from e2kemu.migration.state import MigrationState
from e2kemu.migration.stream import Configuration
from e2kemu.migration.xbzrle import prepare as prepare_xbzrle
from e2kemu.trace import Log

DESCRIPTION_SECONDS = 20.0
"""How long the vmdescription may take to begin after the device state, which is written with it: a source with
suppress-vmdesc has none and waits for our word, we would wait for each other."""

DRAIN_SECONDS = 1.0
"""How long a destination that has said no goes on reading: closing at once would make the network throw away
the message that says so."""


HELD = "its guest is all here, stopped: unless the source still runs it, cont starts it here"


class _HeldError(E2kError):
    """All has been loaded, but the source has not said that the guest may run."""


class _Bytes:
    """A byte source that has everything already."""

    def __init__(self, data: bytes) -> None:
        self._rest = memoryview(data)

    def readinto(self, buffer: memoryview) -> int:
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


@dataclass(frozen=True)
class IncomingOptions:
    """What capabilities and parameters say when a source has come."""

    wrap: Callable[[Channel], Channel]
    """set_incoming_channel with its credentials."""
    switchover_ack: bool = False
    postcopy: bool = False
    blocktime: bool = False
    xbzrle: bool = False
    decompress_threads: int = 2


class _Watchdog:
    """Calls ``bite`` when ``seconds`` have passed between ``begin`` and ``end``, and is ``over`` then. Each comes once.

    Its thread is there before: in the guest's pause it would have to be waited for until a processor has time for it.
    """

    def __init__(self, seconds: float, bite: Callable[[], None]) -> None:
        self.over = False
        self._seconds, self._bite = seconds, bite
        self._begun, self._ended = threading.Event(), threading.Event()
        threading.Thread(target=self._run, name="vmdescription", daemon=True).start()

    def _run(self) -> None:
        self._begun.wait()
        if not self._ended.wait(self._seconds):
            self.over = True
            self._bite()

    def begin(self) -> None:
        self._begun.set()

    def end(self) -> None:
        self._ended.set()
        self._begun.set()


class IncomingMigration:
    """One migration into ``machine``. ``options`` is asked when a source has come, and raises E2kError."""

    def __init__(
        self,
        machine: MigratableMachine,
        state: MigrationState,
        listener: Listener,
        options: Callable[[], IncomingOptions],
        *,
        exit_on_error: bool = True,
        format: StreamFormat = NEWEST,
    ) -> None:
        self._format = format
        self._ask_options = options
        self._options = IncomingOptions(lambda channel: channel)
        self._postcopy: PostcopyDestination | None = None
        self._machine = machine
        self._state = state
        self._listener = listener
        self._exit_on_error = exit_on_error
        self._channel: Channel | None = None
        self._closed = False
        self._received = GlobalState()
        self._return_path: ReturnPathWriter | None = None
        self._hold = self._committed = False  # the source will say, has said, that it never runs its guest again
        self.awaits_commit = False
        """Everything is loaded; only the source's word is missing. ``pause`` gives it up."""
        self._watchdog: _Watchdog | None = None
        self._thread = threading.Thread(target=self._run, name="migration in", daemon=True)
        self.socket_addresses: list[SocketAddressDict] = listener.socket_addresses

    def start(self) -> None:
        """Begin to wait for the source; the status is ``setup`` already."""
        self._thread.start()

    def join(self, timeout: float | None = None) -> None:
        """Wait for the thread's end."""
        self._thread.join(timeout)

    def close(self) -> None:
        """Give up without a word: stop listening, break off what goes on."""
        self._closed = True
        self._listener.close()
        if self._postcopy is not None:
            self._postcopy.close()
        if self._channel is not None:
            self._channel.shutdown()

    def recover(self, listener: Listener, wrap: Callable[[Channel], Channel]) -> None:
        """``migrate-recover``: a paused postcopy goes on over what comes to ``listener``."""
        assert self._postcopy is not None
        self.socket_addresses = listener.socket_addresses
        self._postcopy.recover(listener, wrap)

    def pause(self) -> None:
        """``migrate-pause``: break the connection of a postcopy off, or stop waiting for the source's word."""
        if self.awaits_commit and self._channel is not None:
            self._channel.shutdown()
        elif self._postcopy is not None:
            self._postcopy.pause()

    def query(self) -> dict[str, Any]:
        """The members of query-migrate that a destination has."""
        return {} if self._postcopy is None else self._postcopy.query()

    # -- the thread

    def _run(self) -> None:
        problem: str | None = None  # not the exception, which holds this frame and all that was received
        try:
            with ExitStack() as stack:
                self._receive(stack)
        except _HeldError as error:
            self._fail(f"{error}; {HELD}")
            self._machine.loop.call_soon(self._keep)
            return
        except E2kError as error:
            problem = str(error)
        except Exception as error:
            traceback.print_exc()
            problem = str(error)
        if problem is None:
            return
        self._fail(problem)
        if not self._state.try_move(status.FAILED):
            return  # a postcopy that is paused while the emulator ends
        if self._exit_on_error:
            self._machine.loop.quit(1)

    def _fail(self, problem: str) -> None:
        message = f"load of migration failed: {problem}"
        let_go(self._machine.disks)  # the source has its guest, and wants its disks back
        self._state.record_error(message)
        if not self._closed:
            print(f"e2kemu: {message}", file=sys.stderr, flush=True)

    def _receive(self, stack: ExitStack) -> None:
        stack.callback(self._listener.close)
        raw = self._listener.accept()
        self._channel = raw
        stack.callback(raw.close)
        self._listener.close()
        self._state.move(status.ACTIVE)
        self._options = options = self._ask_options()
        channel = options.wrap(raw)
        self._channel = channel
        stack.callback(channel.close)
        self._watchdog = _Watchdog(DESCRIPTION_SECONDS, channel.shutdown)
        stack.callback(self._watchdog.end)
        self._log(f"load from {channel.describe()}")
        self._received = received = GlobalState(optional=not self._format.store_global_state)
        if options.xbzrle:
            prepare_xbzrle()  # compiled at the first record that time might be a part of the downtime
        ram = RamLoader(self._machine.ram_blocks, options.decompress_threads)
        ram.hooks = channel.ram_hooks
        if options.postcopy:
            self._postcopy = PostcopyDestination(
                self._machine, self._state, ram, self._start_guest, blocktime=options.blocktime
            )
        configuration = Configuration(self._machine.machine_type, self._machine.uuid)
        registry = Registry([*self._machine.save_handlers(), received])

        def loader(reader: StreamReader) -> StreamLoader:
            return StreamLoader(
                reader, configuration, registry, ram, self, postcopy=options.postcopy, format=self._format,
                patience=self._patience,
            )

        try:
            link = incoming_link(channel)
            stream = loader(link.reader)
            stream.blocks = BlockLoader(self._machine.disks)
            package = stream.load()
            if package is not None:
                self._run_postcopy(link, stream, loader(StreamReader(_Bytes(package))))
        except StreamError:
            self._refuse(channel)
            raise
        if package is None and self._return_path is not None:
            self._confirm(self._return_path, link.reader.position)
        if package is None and self._hold:
            self._await_commit(stream)
        if package is None:
            self._machine.loop.call_soon(self._finish)
        else:
            # The guest is started there as well: whoever sees the end must find it running.
            self._machine.loop.call_soon(self._report)

    def _confirm(self, back: ReturnPathWriter, at: int) -> None:
        """All is here. Raises StreamError when the source cannot have heard that."""
        self.awaits_commit = self._hold
        try:
            if self._hold:
                back.send(Message.PONG, PONG_HOLDING.to_bytes(4, "big"))
            back.send(Message.SHUT, SUCCESS)
        except ChannelError as error:
            self.awaits_commit = False
            raise StreamError(f"the source cannot be told that all has come: {error}", offset=at) from error

    def _await_commit(self, stream: StreamLoader) -> None:
        """The source has been told, and may or may not hear it. Raises _HeldError."""
        try:
            stream.load_commands(lambda: self._committed)
        except StreamError as error:
            raise _HeldError(str(error)) from error
        finally:
            self.awaits_commit = False

    @contextmanager
    def _patience(self) -> Iterator[None]:
        """While the vmdescription is waited for: not for ever. Raises StreamError."""
        assert self._watchdog is not None
        self._watchdog.begin()
        try:
            yield
        except ChannelError as error:
            if not self._watchdog.over:
                raise
            raise StreamError(
                "the source sends no vmdescription (was its machine started with suppress-vmdesc=on?)"
            ) from error
        finally:
            self._watchdog.end()

    def _run_postcopy(self, link: IncomingLink, stream: StreamLoader, package: StreamLoader) -> None:
        if self._return_path is None or self._postcopy is None:
            raise StreamError("postcopy needs a return path", offset=link.reader.position)
        link.back = self._return_path  # one lock for all that is written
        self._postcopy.run(link, stream, package)

    def _refuse(self, channel: Channel) -> None:
        """Tell the source that its stream was not accepted."""
        if self._return_path is None:
            return
        timer = threading.Timer(DRAIN_SECONDS, channel.shutdown)
        timer.daemon = True
        timer.start()
        scratch = memoryview(bytearray(1 << 16))
        try:
            self._return_path.send(Message.SHUT, FAILURE)
            while channel.readinto(scratch):
                pass
        except ChannelError:
            pass  # the source has gone, or the time is over
        finally:
            timer.cancel()

    # -- commands of the source

    def open_return_path(self) -> None:
        if self._channel is None or not self._channel.supports_return_path:
            return  # a stream that was recorded: nobody waits for an answer
        self._return_path = ReturnPathWriter(self._channel)
        if self._options.switchover_ack:
            # No device of ours asks for time before the switchover: agree at once.
            self._answer(Message.SWITCHOVER_ACK)

    def ping(self, value: int) -> None:
        if value == PING_WILL_COMMIT:
            self._hold = self._return_path is not None
        elif value == PING_COMMITTED and self.awaits_commit:
            self._committed = True
            return  # nobody waits for an answer any more
        if self._postcopy is not None:
            self._postcopy.ping(value)
        self._answer(Message.PONG, value.to_bytes(4, "big"))

    def _answer(self, message: Message, payload: bytes = b"") -> None:
        """Send what the source may do without: if it is gone, reading will tell, with the place."""
        if self._return_path is None:
            return
        try:
            self._return_path.send(message, payload)
        except ChannelError:
            self._log(f"{message.name} could not be sent")

    def switchover_start(self) -> None:
        self._log("the source has stopped its guest")

    def postcopy_advise(self, payload: bytes, at: int) -> None:
        assert self._postcopy is not None
        self._postcopy.advise(payload, at)

    def postcopy_discard(self, payload: bytes, at: int) -> None:
        assert self._postcopy is not None
        self._postcopy.discard(payload, at)

    def postcopy_listen(self) -> None:
        self._log("the package is being loaded")

    def postcopy_run(self) -> None:
        assert self._postcopy is not None
        self._postcopy.run_guest()

    def postcopy_resume(self, at: int) -> None:
        assert self._postcopy is not None
        self._postcopy.resume(at)

    def send_received(self, payload: bytes, at: int) -> None:
        assert self._postcopy is not None
        self._postcopy.send_received(payload, at)

    # -- in the main loop

    def _finish(self) -> None:
        self._start_guest()
        self._report()

    def _keep(self) -> None:
        """The guest stays as it came, and does not run."""
        self._machine.set_run_state("paused")
        self._state.try_move(status.FAILED)

    def _report(self) -> None:
        self._state.move(status.COMPLETED)
        self._log(f"completed, {self._machine.run_state}")

    def _start_guest(self) -> None:
        """Go to the run state that the source had."""
        machine = self._machine
        run_state = self._received.run_state or "running"  # an older machine type does not tell
        if run_state != "running":
            machine.set_run_state(run_state)
        elif machine.autostart:
            machine.start()
        else:
            machine.set_run_state("paused")

    def _log(self, text: str) -> None:
        if trace.mask & Log.MIGRATION:
            trace.log(f"migration: in: {text}")
