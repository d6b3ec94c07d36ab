"""Hooks of a transport in the RAM section, and notifiers of the migration's state.

A transport that moves pages by other means than the byte stream (QEMU's RDMA) takes part in the RAM section: it is
asked before and after each body, and gets the records of type HOOK (``be64 0x80``) that its peer has written. It
registers by setting ``Channel.ram_hooks``.

    SETUP   START: behind the block list        ROUND   each PART        FINISH   END, the guest stands still

Both calls come before the EOS record of the body and may write records, each beginning with ``be64 flags``; what
follows a HOOK record's head is the transport's own business, its ``load`` must read exactly that.

A notifier hears of every change of a migration's status, with the reason of a failure.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from e2kemu.migration import state as status
from e2kemu.wire import Reader, Writer


class RamPhase(IntEnum):
    """RAM_CONTROL_*: which body of the RAM section it is."""

    SETUP = 0
    ROUND = 1
    FINISH = 3


class RamHooks(Protocol):
    """What a transport may do in the RAM section. Called in the migration's thread; may raise ChannelError."""

    def before_iterate(self, out: Writer, phase: RamPhase) -> None:
        """Source: before the pages of a body."""

    def after_iterate(self, out: Writer, phase: RamPhase) -> None:
        """Source: behind the pages of a body."""

    def block_listed(self, idstr: str) -> None:
        """Destination: the source has a RAM block of that name (RAM_CONTROL_BLOCK_REG)."""

    def load(self, r: Reader, address: int) -> None:
        """Destination: a HOOK record, whose head bore ``address``, a multiple of the page size.

        Raises StreamError.
        """


@contextmanager
def around_pages(hooks: RamHooks | None, out: Writer, phase: RamPhase) -> Iterator[None]:
    """The block writes the pages of a body. Without an exception the transport has the last word."""
    if hooks is not None:
        hooks.before_iterate(out, phase)
    yield
    if hooks is not None:
        hooks.after_iterate(out, phase)


OUTGOING = "outgoing"
INCOMING = "incoming"


@dataclass(frozen=True)
class MigrationEvent:
    """One change of status of one direction; ``reason`` says why it failed, as far as it has."""

    direction: str
    status: str
    reason: str | None = None

    @property
    def in_setup(self) -> bool:
        """It begins."""
        return self.status == status.SETUP

    @property
    def active(self) -> bool:
        """Memory is on its way."""
        return self.status == status.ACTIVE

    @property
    def completed(self) -> bool:
        """The destination has all of the guest."""
        return self.status == status.COMPLETED

    @property
    def failed(self) -> bool:
        """It ended without success; ``reason`` is None when the user has cancelled it."""
        return self.status in (status.FAILED, status.CANCELLED)


class Notifier(Protocol):
    """Called in the thread that made the change; must not wait. What it raises is reported, and changes nothing."""

    def __call__(self, event: MigrationEvent) -> None: ...
