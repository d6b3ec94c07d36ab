"""A TLS session apart from its transport: bytes of the transport in, bytes for it out.

``Session`` is what `tls.TlsChannel` needs of one. ``OpenSslSession`` is the handshake of every session, and all of a
session of TLS 1.2: an ``ssl.SSLObject`` between two ``MemoryBIO``. After a handshake of TLS 1.3 ``successor`` gives the
session that goes on faster (`tls_records`).
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from e2kemu.errors import TlsError
from e2kemu.migration.channel import Buffer
from e2kemu.migration.tls_errors import EndOfSession, SessionFault, describe_alert, describe_error
from e2kemu.migration.tls_secrets import HELLO, SecretLog, client_random

READ_CHUNK = 1 << 20
"""Bytes read from the transport at once."""

POUR = 128 << 10
"""Bytes of them given to OpenSSL at once. It copies each several times, and they shall be in the processor's cache
still."""

ACCESS_DENIED = b"\x15\x03\x03\x00\x02\x02\x31"
"""A record: the fatal alert access_denied (RFC 5246, section 7.2), in clear."""


class Session(Protocol):
    """One that stands. One thread at a time."""

    most: int
    """Bytes of plain text that ``write`` takes at once."""

    @property
    def pending(self) -> bool:
        """There are bytes for the transport. Any thread."""

    def take(self) -> Sequence[Buffer]:
        """They, in the order in which they were made."""

    def room(self) -> memoryview:
        """Where bytes of the transport shall go, after ``read`` wanted some; ``arrived`` tells how many have."""

    def arrived(self, size: int) -> None:
        """So many bytes are in ``room()``."""

    def read(self, view: memoryview) -> int:
        """Plain text into ``view`` (what is behind it may be written, too); 0: more bytes are wanted.

        Raises EndOfSession after the peer's close_notify, SessionFault; then it is over.
        """

    def write(self, chunk: bytes | memoryview) -> None:
        """Make records of up to ``most`` bytes of plain text, when all made before are sent. Raises SessionFault."""

    def say_goodbye(self) -> None:
        """Make the close_notify record. Raises SessionFault when the peer has sent an alert."""


class OpenSslSession:
    """A session of ``context``, whose handshake has yet to be done."""

    most = 256 << 10

    def __init__(self, context: ssl.SSLContext, hostname: str | None) -> None:
        self._hostname = hostname
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.is_server = context.protocol == ssl.PROTOCOL_TLS_SERVER
        try:
            self.ssl = context.wrap_bio(self._incoming, self._outgoing, self.is_server, _without_zone(hostname))
        except ValueError as error:  # UnicodeError is one
            raise TlsError(f"'{hostname}' is not a host name: {error}") from error
        self._store = memoryview(bytearray(READ_CHUNK))
        self._left = self._store[:0]  # what has come and was not poured yet
        self._hello = b""  # the beginning of what the client has sent
        self._secrets = SecretLog(context)

    # -- handshake

    def handshake(self) -> bool:
        """Go as far as the bytes at hand allow; whether it is done. Raises TlsError."""
        while True:
            self._pour()
            try:
                self.ssl.do_handshake()
            except ssl.SSLWantReadError:
                if not self._left:
                    return False
            except ssl.SSLError as error:
                raise TlsError(describe_error(error, self._hostname, handshake=True)) from error
            else:
                return True

    def refuse(self) -> None:
        """Make the alert for a peer whose certificate is good, but who may not. It ends the session.

        Python's ssl cannot send an alert. In TLS 1.2 our end of the handshake has not left yet, and what comes
        instead is in clear. In TLS 1.3 the peer believes itself done and expects a record with our keys, which
        OpenSSL makes for a record that it cannot accept.
        """
        if self.ssl.version() == "TLSv1.3":
            self._left = self._left[:0]
            self._incoming.read()
            self._incoming.write(ACCESS_DENIED)
            try:
                while self.ssl.read(POUR):
                    pass
            except ssl.SSLError:
                pass  # "unexpected message", and so says the alert
        else:
            self._outgoing.read()
            self._outgoing.write(ACCESS_DENIED)

    def successor(self) -> Session:
        """Who goes on after the handshake, when all that it has made was taken."""
        secrets = self._secrets.take(client_random(self._hello))
        name, version, _ = self.ssl.cipher() or ("", "", 0)
        if version != "TLSv1.3" or secrets is None:
            return self
        from e2kemu.migration.tls_records import SUITES, RecordSession  # cryptography costs a start without TLS 40 ms

        suite = SUITES.get(name)
        if suite is None:
            return self
        send, receive = (secrets.server, secrets.client) if self.is_server else (secrets.client, secrets.server)
        received = self._incoming.read() + bytes(self._left)
        return RecordSession(suite, send, receive, received)

    def close(self) -> None:
        """The handshake is over, or will not go on."""
        self._secrets.close()

    # -- a session

    @property
    def pending(self) -> bool:
        return bool(self._outgoing.pending)

    def take(self) -> list[bytes]:
        data = self._outgoing.read()
        if not self.is_server and len(self._hello) < HELLO:
            self._hello += data[:HELLO]
        return [data]

    def room(self) -> memoryview:
        return self._store

    def arrived(self, size: int) -> None:
        self._left = self._store[:size]
        if self.is_server and len(self._hello) < HELLO:
            self._hello += bytes(self._left[:HELLO])

    def read(self, view: memoryview) -> int:
        size = 0
        while True:
            try:
                with self._translated():
                    while size < len(view):
                        taken = self.ssl.read(len(view) - size, view[size:])
                        if not taken:
                            raise EndOfSession
                        size += int(taken)
                return size
            except ssl.SSLWantReadError:
                if not self._left:
                    return size
                self._pour()
            except (EndOfSession, SessionFault):
                if size:
                    return size
                raise

    def _pour(self) -> None:
        """Hand OpenSSL the next of what has come."""
        self._incoming.write(self._left[:POUR])
        self._left = self._left[POUR:]

    def write(self, chunk: bytes | memoryview) -> None:
        with self._translated():
            self.ssl.write(chunk)

    def say_goodbye(self) -> None:
        try:
            self.ssl.unwrap()
        except ssl.SSLWantReadError:
            pass  # it would wait for the peer's close_notify; ours is made
        except ssl.SSLError as error:
            # It looked whether the peer has ended as well, and found an alert, or data that nobody wants.
            if alert := describe_alert(error):
                raise SessionFault(alert, alert=True) from error

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Around calls of OpenSSL: its errors, but for "want read", in our words."""
        try:
            yield
        except ssl.SSLWantReadError:
            raise
        except ssl.SSLZeroReturnError:
            raise EndOfSession from None
        except ssl.SSLError as error:
            alert = describe_alert(error)
            raise SessionFault(alert or describe_error(error, self._hostname), alert=bool(alert)) from error


def _without_zone(hostname: str | None) -> str | None:
    """"fe80::1%eth0" as certificates have it: without the interface, which only this machine knows."""
    if hostname and "%" in hostname:
        try:
            address = ipaddress.IPv6Address(hostname)
        except ValueError:
            return hostname
        return str(address).partition("%")[0]
    return hostname
