"""The source's conductor: one live migration from ``migrate`` to ``completed``, ``failed`` or ``cancelled``.

Phases, all in the thread "migration out" (the third and fourth are ``precopy.py``'s and ``switchover.py``'s):

    connect     channel, TLS                                                     status setup
    setup       header, return path, list of RAM blocks                          status setup
    precopy     rounds over the dirty pages until the rest fits the downtime     status active
    switchover  the guest stops; [pre-switchover]; last pages, devices           status device
    confirm     the destination says that it has everything; the source gives the guest away
    finish      run state postmigrate                                            status completed

After ``start_postcopy`` switchover and confirm are ``postcopy_source.py``'s: the guest goes first, the rest of its
memory follows, and once the guest has gone no error ends the migration any more.

Whatever a phase has started is undone by the ExitStack when a later one fails: the channel is closed, the
guest runs again if it ran before. Only then does the status say ``failed`` or ``cancelled``, so whoever
sees it may migrate again at once. The first cause wins: an error that the peer sent, or TLS found, explains
the broken pipe that comes after it.

Return path: with capability ``return-path`` the migration completes only when the destination has
confirmed. Without it the source asks all the same wherever an emulator may be at the other end (a socket),
and waits for the word of a peer that has answered. A peer that only listens is done when all is written, as
in QEMU, and has come to its system; one that goes away before that has not got the guest.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np
import numpy.typing as npt

from e2kemu import trace
from e2kemu.errors import ChannelError, E2kError, StateError, TlsError
from e2kemu.migration import state as status
from e2kemu.migration.block import BLOCK_IDSTR, BLOCK_INSTANCE, BLOCK_SECTION_ID, BLOCK_VERSION, BlockSaver
from e2kemu.migration.channel import Channel
from e2kemu.migration.coders import page_coders
from e2kemu.migration.compat import NEWEST, StreamFormat
from e2kemu.migration.machine_protocol import MigratableMachine
from e2kemu.migration.meter import Meter
from e2kemu.migration.options import Capabilities, MigrationParameters
from e2kemu.migration.postcopy import PING_CAUGHT_UP, PING_COMMITTED, PONG_HOLDING, advise
from e2kemu.migration.postcopy_source import Link, PostcopySource
from e2kemu.migration.precopy import Precopy
from e2kemu.migration.qemufile import StreamWriter
from e2kemu.migration.ram import RamSaver
from e2kemu.migration.registry import RAM_IDSTR, RAM_INSTANCE, RAM_SECTION_ID, RAM_VERSION, vmdescription
from e2kemu.migration.returnpath import ReturnPath
from e2kemu.migration.state import MigrationState
from e2kemu.migration.statistics import Statistics
from e2kemu.migration.stream import Command, Configuration, ElementType, FrameWriter
from e2kemu.migration.switchover import Switchover
from e2kemu.migration.throttle import AutoConverge
from e2kemu.trace import Log

ANSWER_SECONDS = 2.0
"""How long after the first PING a peer that did not have to answer is given to do so."""

DELIVERY_SECONDS = 0.1
"""How often it is asked whether a peer that has not answered has what was written."""

CAUSE_SECONDS = 1.0
"""How long a broken write waits for the return path to tell the reason."""

CATCH_UP_SECONDS = 0.3
"""How long a guest that is about to stop runs on because the destination is behind."""

PING_OPENED = 1
"""Value of the PING after OPEN_RETURN_PATH, as QEMU sends it."""


class _CancelledError(E2kError):
    """The user has cancelled."""


class OutgoingMigration:
    """One migration. ``open_channel`` connects and wraps; it runs in the migration thread.

    ``peer_may_answer`` tells whether an emulator may sit at the other end of the channel. ``blocks`` copies
    the disks; without it both ends share them.
    """

    def __init__(
        self,
        machine: MigratableMachine,
        state: MigrationState,
        capabilities: Capabilities,
        parameters: MigrationParameters,
        open_channel: Callable[[OutgoingMigration], Channel],
        peer_may_answer: Callable[[Channel], bool],
        blocks: BlockSaver | None = None,
        format: StreamFormat = NEWEST,
    ) -> None:
        self._machine = machine
        self._state = state
        self._parameters = parameters
        self._capabilities = dict(capabilities.items())
        self._open_channel = open_channel
        self._peer_may_answer = peer_may_answer
        self._blocks = blocks
        self._format = format
        self._ram: RamSaver | None = None
        self.statistics = Statistics(expected_downtime_ms=parameters.downtime_limit)
        self.statistics.disk = None if blocks is None else blocks.counters
        self._lock = threading.Lock()
        self._interrupt = threading.Event()
        self._continue = threading.Event()
        self._cancel_connect: Callable[[], None] | None = None
        self._channel: Channel | None = None
        self._return_path: ReturnPath | None = None
        self._switch = threading.Event()  # go over to postcopy
        self._asked = False  # whether the destination has caught up
        self._postcopy: PostcopySource | None = None
        self._converge: AutoConverge | None = None
        self._final = False  # everything is written and nobody else will tell: too late to cancel
        self._thread = threading.Thread(target=self._run, name="migration out", daemon=True)

    # -- from other threads

    def start(self) -> None:
        """Begin; the status is ``setup`` already."""
        self._thread.start()

    def join(self, timeout: float | None = None) -> None:
        """Wait for the thread's end."""
        self._thread.join(timeout)

    def cancel(self) -> None:
        """Cancel, as often as you like; returns at once. Raises StateError in postcopy: it cannot be undone.

        Of an attempt to recover only the connecting is given up.
        """
        if self._state.status == status.POSTCOPY_RECOVER_SETUP:
            self._interrupt_all()
            return
        if self._state.status in status.IN_POSTCOPY:
            raise StateError("Postcopy migration in progress, cannot cancel.")
        with self._lock:
            if self._final or not self._state.running():
                return
            if not self._state.try_move(status.CANCELLING):
                return
            # All may be written: a connection that only ends would let the destination confirm, and start the guest.
            if self._channel is not None:
                self._channel.abandon()
        self._interrupt_all()

    def proceed(self) -> None:
        """Leave ``pre-switchover``."""
        self._continue.set()

    def start_postcopy(self) -> None:
        """``migrate-start-postcopy``: switch as soon as the first pages are on their way. Raises StateError."""
        if not self._capabilities["postcopy-ram"]:
            raise StateError("Enable postcopy with migrate_set_capability before the start of migration")
        if not self._state.running():
            raise StateError("Postcopy must be started after migration has been started")
        self._switch.set()

    def dirty_pages(self) -> dict[str, npt.NDArray[np.intp]]:
        """For each RAM block the pages that are to be sent (again), as far as is known now."""
        ram = self._ram
        return {} if ram is None else {name: ram.dirty_index(name) for name in ram.block_pages}

    def pause(self) -> None:
        """``migrate-pause``: break the connection of a postcopy off."""
        with self._lock:
            channel = self._channel
        if channel is not None:
            channel.shutdown()

    def resume(self, open_channel: Callable[[OutgoingMigration], Channel]) -> None:
        """``migrate`` with ``resume``: go on over a new channel. Raises StateError."""
        if self._capabilities["release-ram"]:
            raise StateError("Postcopy recovery cannot work when release-ram capability is set")
        self._interrupt.clear()
        with self._lock:
            self._cancel_connect = None
        if not self._state.try_move(status.POSTCOPY_RECOVER_SETUP, only_from=status.POSTCOPY_PAUSED):
            raise StateError("Cannot resume if there is no paused migration")
        assert self._postcopy is not None
        self._postcopy.resume(lambda: self._reconnect(open_channel))

    def attach(self, channel: Channel) -> None:
        """``open_channel`` tells what to shut down when it is interrupted from now on."""
        with self._lock:
            self._channel = channel
        if self._interrupt.is_set():
            channel.shutdown()

    def on_cancel_connect(self, cancel: Callable[[], None]) -> None:
        """``open_channel`` tells how to interrupt its connecting."""
        with self._lock:
            self._cancel_connect = cancel
        if self._interrupt.is_set():
            cancel()

    def _interrupt_all(self) -> None:
        self._interrupt.set()
        self._continue.set()
        with self._lock:
            cancel, channel = self._cancel_connect, self._channel
        if cancel is not None:
            cancel()
        if channel is not None:
            channel.shutdown()

    # -- the thread

    def _run(self) -> None:
        problem: str | None = None  # not the exception, which holds this frame and all that was made for the stream
        try:
            with ExitStack() as always:
                self._migrate(always)
        except E2kError as error:
            problem = str(error)
        except Exception as error:  # a fault of ours must not take the guest with it
            traceback.print_exc()
            problem = str(error)
        if problem is not None:
            self._log(f"ended: {problem}")
            if not self._state.try_move(status.CANCELLED):
                self._state.record_error(problem)
                self._state.move(status.FAILED)

    def _migrate(self, always: ExitStack) -> None:
        try:
            with ExitStack() as undo:
                channel = self._open_channel(self)
                self.attach(channel)
                always.callback(self._close_channel, channel)
                if self._blocks is not None:
                    always.callback(self._blocks.stop)
                self._transfer(channel, undo, always)
                undo.pop_all()
        except (ChannelError, _CancelledError) as error:
            raise self._cause(error) from error
        self.statistics.finish()
        if self._converge is not None:
            self._converge.stop()
        try:
            self._machine.set_run_state("postmigrate")
        except StateError as error:
            # Somebody ended the stopped guest here meanwhile; it lives at the destination all the same.
            self._log(str(error))
        self._state.move(status.COMPLETED)
        self._log("completed")

    def _transfer(self, channel: Channel, undo: ExitStack, always: ExitStack) -> None:
        self.check()
        out = StreamWriter(channel)
        frames = FrameWriter(out, self._format)
        configuration = self._configuration()
        ram = RamSaver(self._machine, self.statistics.ram, lambda: self._parameters.zero_page_detection)
        ram.coders = page_coders(
            self._capabilities, self._parameters, self.statistics, self.statistics.ram.total, always
        )
        if self._capabilities["auto-converge"]:
            self._converge = AutoConverge(self._parameters, self.statistics, self._machine.set_throttle)
            always.callback(self._converge.stop)
        ram.passed = self._announce_pass
        self._ram = ram
        hooks, blocks = channel.ram_hooks, self._blocks
        self._setup(channel, frames, configuration, ram)
        self._move(status.ACTIVE)
        Precopy(frames, ram, blocks, hooks, self._converge, self.statistics, self._parameters, self).run()
        switchover = Switchover(self._machine, frames, ram, blocks, hooks, self.statistics, self.check)
        self._switch_over(switchover, undo)
        if self._switch.is_set():
            self._run_postcopy(channel, frames, ram, switchover, undo)
            return
        descriptions = switchover.send_rest(announced=self._return_path is not None)
        self._log(f"guest stopped, all pages sent ({frames.out.transferred} bytes)")
        self._confirm(channel, frames, vmdescription(configuration, descriptions))

    # -- setup

    def _configuration(self) -> Configuration:
        identity = self._machine.uuid if self._capabilities["validate-uuid"] else None
        return Configuration(self._machine.machine_type, identity)

    def _setup(
        self, channel: Channel, frames: FrameWriter, configuration: Configuration, ram: RamSaver
    ) -> None:
        begin = time.monotonic()
        demanded = self._capabilities["return-path"] or self._capabilities["postcopy-ram"]
        if demanded and not channel.supports_return_path:
            raise StateError(f"Unable to open return-path: {channel.describe()} goes in one direction only")
        frames.header(configuration)
        if demanded or self._peer_may_answer(channel):
            pages = ram.block_pages if self._capabilities["postcopy-ram"] else None
            self._return_path = ReturnPath(channel, self._interrupt_all, pages)
            frames.command(Command.OPEN_RETURN_PATH)
            frames.command(Command.PING, PING_OPENED.to_bytes(4, "big"))
        if self._capabilities["postcopy-ram"]:
            frames.command(Command.POSTCOPY_ADVISE, advise(self._machine.ram_blocks))
        if self._blocks is not None:
            self._blocks.start()
            with frames.section_start(
                ElementType.SECTION_START, BLOCK_SECTION_ID, BLOCK_IDSTR, BLOCK_INSTANCE, BLOCK_VERSION
            ) as out:
                self._blocks.save_setup(out)
        ram.start_tracking()
        with frames.section_start(
            ElementType.SECTION_START, RAM_SECTION_ID, RAM_IDSTR, RAM_INSTANCE, RAM_VERSION
        ) as out:
            ram.save_setup(out, channel.ram_hooks)
        frames.out.flush()
        if self._return_path is not None:
            self._return_path.start()
        self.statistics.setup_time = time.monotonic() - begin

    def _announce_pass(self) -> None:
        if self._capabilities["events"]:
            self._machine.emit("MIGRATION_PASS", {"pass": self.statistics.ram.dirty_sync_count})

    # -- what the rounds ask

    def check(self) -> None:
        """Raises when the user has cancelled, or the peer has given up or says too early that it has everything."""
        path = self._return_path
        if path is not None and path.verdict == 0:
            raise ChannelError("RP: the destination confirmed the migration before everything was sent")
        if self._interrupt.is_set():
            if path is not None and path.problem is not None:
                raise path.problem
            raise _CancelledError("migration cancelled")

    def sleep(self, seconds: float) -> None:
        """Returns earlier when the migration is to end."""
        self._interrupt.wait(seconds)

    def interrupted(self) -> bool:
        """The migration is to end."""
        return self._interrupt.is_set()

    def may_go_first(self) -> bool:
        """Postcopy is wanted, and there is somebody at the other end who can ask for pages."""
        path = self._return_path
        return self._switch.is_set() and path is not None and path.answered

    def acknowledged(self) -> bool:
        """The destination agrees to the switchover, if it was to be asked."""
        if not self._capabilities["switchover-ack"]:
            return True
        return self._return_path is not None and self._return_path.acknowledged

    def caught_up(self, frames: FrameWriter) -> bool:
        """MiBs that the destination has not read would be loaded while nobody runs the guest. Asks once."""
        path = self._return_path
        if self._asked or path is None or not path.answered or not self._machine.is_running():
            return True
        self._asked = True
        frames.command(Command.PING, PING_CAUGHT_UP.to_bytes(4, "big"))
        frames.out.flush()
        path.wait(lambda path: PING_CAUGHT_UP in path.pongs, CATCH_UP_SECONDS)
        return False

    # -- the guest stops

    def _switch_over(self, switchover: Switchover, undo: ExitStack) -> None:
        switchover.stop_guest(undo)
        if self._capabilities["pause-before-switchover"]:
            self._move(status.PRE_SWITCHOVER)
            self._continue.wait()
            self.check()
        self._move(status.DEVICE)
        switchover.begin(undo)

    def _run_postcopy(
        self, channel: Channel, frames: FrameWriter, ram: RamSaver, switchover: Switchover, undo: ExitStack
    ) -> None:
        assert self._return_path is not None
        self._postcopy = postcopy = PostcopySource(
            self._state,
            self.statistics,
            self._parameters,
            ram,
            lambda: Meter(self.statistics, self._parameters),
            release=self._capabilities["release-ram"],
        )
        postcopy.send_discards(frames)
        postcopy.send_package(frames, switchover.send_devices)
        self._move(status.POSTCOPY_DEVICE)
        link = Link(channel, frames, self._return_path)
        postcopy.until_loaded(link)
        undo.pop_all()  # from here on the guest is not ours
        if self._converge is not None:
            self._converge.stop()
        self._move(status.POSTCOPY_ACTIVE)
        postcopy.run(link)

    def _reconnect(self, open_channel: Callable[[OutgoingMigration], Channel]) -> Link:
        """A new connection for the postcopy. Raises E2kError."""
        channel = open_channel(self)
        self.attach(channel)
        pages = {block.idstr: block.size // block.page_size for block in self._machine.ram_blocks}
        self._return_path = path = ReturnPath(channel, channel.shutdown, pages)
        return Link(channel, FrameWriter(StreamWriter(channel), self._format), path)

    # -- confirm and finish

    def _confirm(self, channel: Channel, frames: FrameWriter, description: bytes) -> None:
        """Write the end, then wait for the destination's word where there is one to wait for."""
        self.check()
        frames.end(description)
        path = self._return_path
        with self._lock:
            # From the next byte on the destination may have the whole guest.
            self._final = path is None
            if self._state.status != status.DEVICE:
                raise _CancelledError("migration cancelled")
        frames.out.flush()
        self.statistics.transferred = frames.out.transferred
        written = time.monotonic()
        if path is not None and self._believes(path, channel):
            path.wait(ReturnPath.over)
            if path.problem is not None:
                raise path.problem
            written = time.monotonic()
        holding = path is not None and PONG_HOLDING in path.pongs
        with self._lock:
            if holding and self._state.status != status.DEVICE:
                raise _CancelledError("migration cancelled")  # it waits for a word that will not come
            self._final = True
        if path is not None:
            self._give_away(frames, holding)
            self.statistics.transferred = frames.out.transferred
        if path is None or path.verdict is None:
            channel.finish()
        stopped = self.statistics.stopped_at
        self.statistics.downtime = written - (written if stopped is None else stopped)

    @staticmethod
    def _give_away(frames: FrameWriter, holding: bool) -> None:
        """Tell the destination that it may start the guest. Raises ChannelError when it cannot have heard that, and
        is ``holding`` the guest back until it does."""
        try:
            frames.command(Command.PING, PING_COMMITTED.to_bytes(4, "big"))
            frames.out.flush()
        except ChannelError:
            if holding:
                raise

    def _believes(self, path: ReturnPath, channel: Channel) -> bool:
        """Whether to wait for the verdict of ``path``: the peer must answer, has, or is gone. Not before all has come
        to its system: in a network that is silent nobody can answer."""
        if self._capabilities["return-path"]:
            return True
        patience = max(0.0, path.opened + ANSWER_SECONDS - time.monotonic())
        while not path.wait(lambda path: path.answered, patience):
            if channel.delivered():
                return False
            patience = DELIVERY_SECONDS
        return True

    # -- small things

    def _close_channel(self, channel: Channel) -> None:
        channel.shutdown()
        if self._return_path is not None:
            self._return_path.join(CAUSE_SECONDS)
        channel.close()

    def _move(self, to: str) -> None:
        """Go to ``to``, unless the user has cancelled."""
        self._log(to)
        if not self._state.try_move(to):
            raise _CancelledError("migration cancelled")

    def _cause(self, error: E2kError) -> E2kError:
        """The best explanation of ``error``: TLS, then what the return path saw, which made us stop."""
        path = self._return_path
        if path is None or self._state.status == status.CANCELLING:
            return error
        path.wait(ReturnPath.over, CAUSE_SECONDS)
        problem = path.problem
        return error if problem is None or isinstance(error, TlsError) else problem

    def _log(self, text: str) -> None:
        if trace.mask & Log.MIGRATION:
            trace.log(f"migration: out: {text}")
