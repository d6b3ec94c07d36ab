"""Migration of one machine: what the command line, the monitors and library users call.

``MigrationService`` holds the capabilities, parameters, blockers and the two states, and starts the
conductors. Its methods return at once (``wait`` and ``save`` excepted) and may be called from any thread.
"""

from __future__ import annotations

import itertools
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from e2kemu.errors import ChannelError, StateError
from e2kemu.migration import hooks
from e2kemu.migration import state as status
from e2kemu.migration.address import Address, InetAddress, UnixAddress, parse_uri
from e2kemu.migration.block import BlockSaver
from e2kemu.migration.channel import Channel, Waker
from e2kemu.migration.compat import DEFAULTS, MigrationSettings
from e2kemu.migration.hooks import MigrationEvent, Notifier
from e2kemu.migration.incoming import IncomingMigration, IncomingOptions
from e2kemu.migration.machine_protocol import MigratableMachine
from e2kemu.migration.options import Capabilities, MigrationParameters
from e2kemu.migration.outgoing import OutgoingMigration
from e2kemu.migration.state import INCOMING, OUTGOING, MigrationState
from e2kemu.migration.transport import (
    credentials,
    peer_may_answer,
    set_incoming_channel,
    set_outgoing_channel,
)
from e2kemu.migration.uri import connect, listen, no_named_fds
from e2kemu.objects import ObjectStore

FdSource = Callable[[str], int]
"""Takes a named file descriptor out of a monitor. Raises OptionError."""


class MigrationService:
    """See the module.

    ``settings`` come from the machine type and the command line; ``device_blockers`` tells why devices cannot
    travel now. Raises StateError when there is such a reason and only-migratable is on.
    """

    def __init__(
        self,
        machine: MigratableMachine,
        objects: ObjectStore | None = None,
        settings: MigrationSettings = DEFAULTS,
        device_blockers: Callable[[], Sequence[str]] = lambda: (),
    ) -> None:
        self._machine = machine
        self.settings = settings
        self._device_blockers = device_blockers
        self._exclusive = False
        self._notifiers: list[Notifier] = []
        self._objects = objects or ObjectStore()
        self._lock = threading.RLock()
        self._outgoing: OutgoingMigration | None = None
        self._incoming: IncomingMigration | None = None
        self._blockers: dict[int, str] = {}
        self._blocker_keys = itertools.count()
        self.outgoing_state = MigrationState(OUTGOING)
        self.incoming_state = MigrationState(INCOMING)
        self.capabilities = Capabilities(self._switches_held)
        self.parameters = MigrationParameters()
        settings.apply(self.capabilities, self.parameters)
        for direction, state in ((hooks.OUTGOING, self.outgoing_state), (hooks.INCOMING, self.incoming_state)):
            state.listeners.append(self._state_changed)
            state.listeners.append(self._notify_of(direction, state))
        for reason in device_blockers():
            self._check_may_block(reason)

    def busy(self) -> bool:
        """A migration is in progress, in either direction, or a snapshot."""
        return self._exclusive or self.outgoing_state.running() or self.incoming_state.running()

    def _switches_held(self) -> bool:
        """A destination's capabilities may change until a source has come."""
        return self.busy() and (
            self._exclusive or self.outgoing_state.running() or self.incoming_state.status != status.SETUP
        )

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """While it is entered no migration begins. Raises StateError when one is in progress."""
        with self._lock:
            if self.busy():
                raise StateError("There's a migration process in progress")
            self._exclusive = True
        try:
            yield
        finally:
            self._exclusive = False

    def check_not_blocked(self) -> None:
        """Raises StateError with the first reason why the guest cannot leave."""
        for reason in self.blockers:
            raise StateError(reason)

    # -- source

    def migrate(
        self, target: str | Address, get_fd: FdSource = no_named_fds, *, blk: bool = False, inc: bool = False
    ) -> None:
        """Start to migrate to ``target`` (a URI or an address).

        ``blk`` copies the disks, ``inc`` only what their images hold themselves.

        Raises OptionError, ChannelError, StateError for what can be known at once; what goes wrong later is
        in ``query``.
        """
        address = parse_uri(target) if isinstance(target, str) else target
        with self._lock:
            self._check_may_leave()
            blocks = self._block_saver(blk, inc)
            open_channel = self._opener(address, get_fd)
            self._outgoing = OutgoingMigration(
                self._machine,
                self.outgoing_state,
                self.capabilities,
                self.parameters,
                open_channel,
                lambda channel: peer_may_answer(address, channel),
                blocks,
                self.settings.format,
            )
            self.outgoing_state.move(status.SETUP)
            self._outgoing.start()

    def _block_saver(self, blk: bool, inc: bool) -> BlockSaver | None:
        """Who copies the disks, None: both ends share them. Raises StateError."""
        if (blk or inc) and (self.capabilities["block"] or self.capabilities["postcopy-ram"]):
            raise StateError("Command options are incompatible with current migration capabilities")
        if not (blk or inc or self.capabilities["block"]):
            return None
        return BlockSaver(self._machine.disks, incremental=inc, zero_blocks=self.capabilities["zero-blocks"])

    def cancel(self) -> None:
        """Cancel the outgoing migration, if there is one. Returns at once. Raises StateError in postcopy."""
        if self._outgoing is not None:
            self._outgoing.cancel()

    def start_postcopy(self) -> None:
        """``migrate-start-postcopy``. Raises StateError."""
        if not self.capabilities["postcopy-ram"]:
            raise StateError("Enable postcopy with migrate_set_capability before the start of migration")
        if self._outgoing is None:
            raise StateError("Postcopy must be started after migration has been started")
        self._outgoing.start_postcopy()

    def pause(self) -> None:
        """``migrate-pause``: break the connection of a postcopy off, on either side, or that of a destination which has
        all and waits for the source's word. Raises StateError."""
        for state, side in ((self.outgoing_state, self._outgoing), (self.incoming_state, self._incoming)):
            if side is not None and state.status in status.CONNECTED_IN_POSTCOPY:
                side.pause()
                return
        if self._incoming is not None and self._incoming.awaits_commit:
            self._incoming.pause()
            return
        raise StateError("migrate-pause is currently only supported during postcopy-active or postcopy-recover state")

    def resume(self, target: str | Address, get_fd: FdSource = no_named_fds) -> None:
        """``migrate`` with ``resume``: go on with a paused postcopy, over a new connection to ``target``.

        Raises OptionError, ChannelError, StateError for what can be known at once.
        """
        with self._lock:
            if self._outgoing is None or self.outgoing_state.status != status.POSTCOPY_PAUSED:
                raise StateError("Cannot resume if there is no paused migration")
            address = parse_uri(target) if isinstance(target, str) else target
            self._outgoing.resume(self._opener(address, get_fd))

    def recover(self, target: str | Address, get_fd: FdSource = no_named_fds) -> None:
        """``migrate-recover``: wait on ``target`` for the source of a paused postcopy.

        Again withdraws the earlier offer. Raises OptionError, ChannelError, StateError.
        """
        with self._lock:
            if self._incoming is None or self.incoming_state.status != status.POSTCOPY_PAUSED:
                raise StateError("Migrate recover can only be run when postcopy is paused.")
            address = parse_uri(target) if isinstance(target, str) else target
            creds = credentials(self.parameters, self._objects, "server")
            listener = listen(address, get_fd)
            self._incoming.recover(listener, lambda channel: set_incoming_channel(channel, creds))

    def proceed(self, expected: str) -> None:
        """``migrate-continue``: go on from ``expected``. Raises StateError when that is not the status."""
        if self.outgoing_state.status != expected or self._outgoing is None:
            raise StateError(f"Migration not in expected state: {self.outgoing_state.status}")
        if expected == status.PRE_SWITCHOVER:
            self._outgoing.proceed()

    def wait(self, timeout: float | None = None) -> str:
        """Wait for the end of the outgoing migration; returns its status."""
        if self._outgoing is not None:
            self._outgoing.join(timeout)
        return self.outgoing_state.status

    def save(self, path: str) -> None:
        """Write the machine to a file that ``-incoming file:PATH`` reads. Raises ChannelError."""
        self.migrate(f"file:{path}")
        if self.wait() != status.COMPLETED:
            raise ChannelError(self.outgoing_state.error or "cancelled")

    def _opener(self, address: Address, get_fd: FdSource) -> Callable[[OutgoingMigration], Channel]:
        """What connects to ``address`` with the parameters of now. Raises what can be known at once."""
        creds = credentials(self.parameters, self._objects, "client")
        hostname = self.parameters.tls_hostname
        # A socket may keep us waiting; the others are there at once or not at all.
        at_once = None if isinstance(address, InetAddress | UnixAddress) else connect(address, get_fd)

        def open_channel(migration: OutgoingMigration) -> Channel:
            channel = at_once or self._connect(address, migration)
            migration.attach(channel)
            return set_outgoing_channel(channel, address, creds, hostname)

        return open_channel

    def _connect(self, address: Address, migration: OutgoingMigration) -> Channel:
        waker = Waker()
        migration.on_cancel_connect(waker.set)
        return connect(address, cancel=waker)

    def _check_may_leave(self) -> None:
        """Raises StateError when the machine cannot be migrated now."""
        if self.busy():
            raise StateError("There's a migration process in progress")
        if self._machine.run_state == "inmigrate":
            raise StateError("Guest is waiting for an incoming migration")
        if self._machine.run_state == "postmigrate":
            raise StateError("Can't migrate the vm that was paused due to previous migration")
        self.check_not_blocked()

    # -- notifiers

    def add_notifier(self, notifier: Notifier) -> Callable[[], None]:
        """Tell ``notifier`` every change of status until the returned function is called."""
        self._notifiers.append(notifier)

        def remove() -> None:
            if notifier in self._notifiers:
                self._notifiers.remove(notifier)

        return remove

    def _notify_of(self, direction: str, state: MigrationState) -> Callable[[str], None]:
        def changed(to: str) -> None:
            event = MigrationEvent(direction, to, state.error)
            for notifier in list(self._notifiers):
                try:
                    notifier(event)
                except Exception:  # whoever listens must not cost anybody the guest
                    print(f"e2kemu: migration notifier failed\n{traceback.format_exc()}", file=sys.stderr, flush=True)

        return changed

    def dirty_pages(self) -> dict[str, npt.NDArray[np.intp]]:
        """The page numbers, by RAM block, that the outgoing migration has yet to send. Raises StateError."""
        if self._outgoing is None or not self.outgoing_state.running():
            raise StateError("There's no migration process in progress")
        return self._outgoing.dirty_pages()

    # -- blockers

    def add_blocker(self, reason: str) -> Callable[[], None]:
        """Refuse to migrate because of ``reason`` until the returned function is called.

        Raises StateError while a migration or a snapshot is in progress, and always with only-migratable.
        """
        with self._lock:
            self._check_may_block(reason)
            if self._exclusive or self.outgoing_state.running():
                raise StateError(
                    f"disallowing migration blocker (migration/snapshot in progress) for: {reason}"
                )
            key = next(self._blocker_keys)
            self._blockers[key] = reason
        return lambda: self._forget_blocker(key)

    def _check_may_block(self, reason: str) -> None:
        if self.settings.only_migratable:
            raise StateError(f"disallowing migration blocker (--only-migratable) for: {reason}")

    def _forget_blocker(self, key: int) -> None:
        self._blockers.pop(key, None)

    @property
    def blockers(self) -> list[str]:
        """Why the machine cannot be migrated."""
        return [*self._device_blockers(), *self._blockers.values()]

    # -- destination

    def start_incoming(
        self, target: str | Address, get_fd: FdSource = no_named_fds, *, exit_on_error: bool = True
    ) -> None:
        """Listen on ``target`` and load what comes. Raises OptionError, ChannelError, StateError."""
        address = parse_uri(target) if isinstance(target, str) else target
        with self._lock:
            if self._machine.run_state != "inmigrate":
                raise StateError("'-incoming' was not specified on the command line")
            if self.incoming_state.status not in (status.NONE, status.FAILED):
                raise StateError("The incoming migration has already been started")
            credentials(self.parameters, self._objects, "server")  # what is wrong now is told now
            listener = listen(address, get_fd)
            self._incoming = IncomingMigration(
                self._machine,
                self.incoming_state,
                listener,
                self._incoming_options,
                exit_on_error=exit_on_error,
                format=self.settings.format,
            )
            self.incoming_state.move(status.SETUP)
            self._incoming.start()

    def _incoming_options(self) -> IncomingOptions:
        """As things are when a source has come: until then everything may be switched. Raises OptionError."""
        creds, capabilities = credentials(self.parameters, self._objects, "server"), self.capabilities
        return IncomingOptions(
            lambda channel: set_incoming_channel(channel, creds),
            switchover_ack=capabilities["switchover-ack"],
            postcopy=capabilities["postcopy-ram"],
            blocktime=capabilities["postcopy-blocktime"],
            xbzrle=capabilities["xbzrle"],
            decompress_threads=int(self.parameters["decompress-threads"]),
        )

    # -- both

    def query(self) -> dict[str, Any]:
        """The answer of query-migrate."""
        answer: dict[str, Any] = {}
        blockers = self.blockers
        if blockers:
            answer["blocked-reasons"] = blockers
        for state in (self.incoming_state, self.outgoing_state):
            if state.status != status.NONE:
                answer["status"] = state.status
                if state.error is not None:
                    answer["error-desc"] = state.error
        if self._outgoing is not None:
            answer.update(self._outgoing.statistics.query(self.outgoing_state.status))
        if self._incoming is not None:
            answer.update(self._incoming.query())
        if self._incoming is not None and self._incoming.socket_addresses:
            answer["socket-address"] = self._incoming.socket_addresses
        return answer

    def close(self) -> None:
        """The emulator ends: break off whatever goes on."""
        if self.outgoing_state.status not in status.IN_POSTCOPY:
            self.cancel()
        if self._incoming is not None:
            self._incoming.close()

    def _state_changed(self, to: str) -> None:
        if self.capabilities["events"]:
            self._machine.emit("MIGRATION", {"status": to})
