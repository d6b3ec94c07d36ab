"""The exceptions of e2kemu; the class tells who is at fault.

    E2kError
    |-- OptionError      the user: a wrong option, property, file name or monitor argument
    |-- ImageError       a guest image (ELF, ROM, source text) that cannot be used
    |-- GuestError       the guest did what the machine cannot do (never a trap the guest can handle)
    |-- StreamError      a migration stream whose bytes are wrong; knows section and offset
    |-- ChannelError     the peer or the network
    |   `-- TlsError     the TLS handshake, a certificate or a record
    |-- StateError       the command is right, the moment is wrong ("Migration is already active")
    `-- CommandError     a monitor command: carries its QMP error class

Each message is one line that names the culprit; it is printed as it is after ``e2kemu: ``.
"""

from __future__ import annotations


def one_line(text: str) -> str:
    """``text`` for a message: names that others have chosen may hold anything, a message is one printable line."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class E2kError(Exception):
    """Base of all errors that e2kemu raises on purpose: ``str(error)`` is one line for a person."""


class OptionError(E2kError):
    """A wrong option, property, file name or argument, given by the user."""


class ImageError(E2kError):
    """A guest image (ELF, ROM, assembler source) that cannot be used."""


class GuestError(E2kError):
    """The guest did what the emulated machine cannot do at all."""


class StreamError(E2kError):
    """A migration stream is malformed; what its message quotes from it is made printable.

    ``section`` is the idstr of the section being read ("" outside of any), ``offset`` the byte
    position in the stream at which the trouble was found (None when not known).
    """

    def __init__(self, message: str, *, section: str = "", offset: int | None = None) -> None:
        message = one_line(message)
        where = f" in section '{one_line(section)}'" if section else ""
        at = f" at offset {offset:#x}" if offset is not None else ""
        super().__init__(f"{message}{where}{at}")
        self.message = message
        self.section = section
        self.offset = offset


class ChannelError(E2kError):
    """The transport failed: connection refused, reset, closed early."""


class TlsError(ChannelError):
    """TLS failed: handshake, certificate, host name or record."""


class StateError(E2kError):
    """A request that is right in itself came at the wrong moment."""


class CommandError(E2kError):
    """A monitor command failed; ``qmp_class`` is the class of the QMP error object."""

    def __init__(self, message: str, qmp_class: str = "GenericError") -> None:
        super().__init__(message)
        self.qmp_class = qmp_class
