"""TLS over any channel: the handshake, then records in both directions at once.

A `tls_session.Session` never sees the transport: what the peer sent is put into it, and what it wants sent is taken
from it. Reading is: ask it for plain text; when it has none, read from the transport. Writing is: give it plain text,
then send what came out. OpenSSL does the handshake and all of TLS 1.2; `tls_records` has the records of TLS 1.3.

Locks, because one thread reads while another writes and a session stands only one thread at a time:

- ``_session_lock`` is held round every call of the session and never round transport I/O, so a blocked reader does
  not stop the writer;
- ``_flush_lock`` is held from taking bytes out of the session until the transport has them, so records leave
  in the order in which they were made. A session may make records while it reads (a key update, an alert): the
  reader sends them when no writer is at it; else that writer looks again before it goes.
- ``_write_lock`` is held by a writer until all it has given the session is sent: a session has room for that much.

The end. ``finish`` and ``close`` after success send close_notify. A transport that ends without it was cut,
perhaps by somebody else, and the reader gets a TlsError instead of the end of the stream.

The verdict. In TLS 1.3 the client's handshake is over before the server has looked at its certificate. All of
a small guest may have gone into socket buffers by then, and the refusal is still on its way. A client that
has not got a byte from the server therefore waits in ``finish`` for the server's end or its alert.

The texts of errors are those that a user of QEMU (GnuTLS) knows.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from e2kemu import trace
from e2kemu.errors import ChannelError, E2kError, TlsError
from e2kemu.migration.channel import Buffer, Channel, byte_view
from e2kemu.migration.tls_creds import Authorize, TlsCreds
from e2kemu.migration.tls_errors import CUT, EndOfSession, SessionFault
from e2kemu.migration.tls_session import OpenSslSession, Session

LARGE = 64 << 10
"""Bytes of a buffer that is not copied to be with others."""

SCRATCH = 256 << 10
"""Bytes thrown away at once."""

HANDSHAKE_SECONDS = 30.0
"""A peer that says nothing for so long is not going to."""

GOODBYE_SECONDS = 2.0
"""What ``close`` and an error message may wait for the peer."""

VERDICT_SECONDS = 5.0
"""What ``finish`` waits for the peer's end, see below."""


def wrap_client(
    channel: Channel, creds: TlsCreds, hostname: str | None, timeout: float = HANDSHAKE_SECONDS
) -> TlsChannel:
    """Do the client's handshake on ``channel`` and return the channel inside of it.

    ``hostname`` is what the server's certificate must bear: a DNS name or an IP address. Blocks for at most
    ``timeout`` seconds; ``shutdown`` of ``channel`` wakes it. ``channel`` belongs to the result, and is
    closed when the handshake fails. Raises TlsError; OptionError when ``creds`` are a server's.
    """
    return _wrap(channel, creds, "client", hostname, timeout)


def wrap_server(channel: Channel, creds: TlsCreds, timeout: float = HANDSHAKE_SECONDS) -> TlsChannel:
    """As `wrap_client`, for the side that listens."""
    return _wrap(channel, creds, "server", None, timeout)


def _wrap(
    channel: Channel, creds: TlsCreds, side: str, hostname: str | None, timeout: float
) -> TlsChannel:
    try:
        creds.check_endpoint(side)
        context = creds.make_context(side)
        if context.check_hostname and not hostname:
            raise TlsError("No hostname for certificate validation")
        tls = TlsChannel(channel, context, hostname if context.check_hostname else None, creds.authorize)
        try:
            tls.handshake(timeout)
        except TlsError as error:
            raise creds.explain(context, error) from error
        creds.check_session(tls.cipher)
        return tls
    except BaseException:
        channel.close()
        raise


class TlsChannel(Channel):
    """A TLS session on ``inner``; a server's when ``context`` is a server's."""

    def __init__(
        self,
        inner: Channel,
        context: ssl.SSLContext,
        hostname: str | None,
        authorize: Authorize | None = None,
    ) -> None:
        super().__init__(inner.name)
        self.supports_return_path = inner.supports_return_path
        self._inner = inner
        self._hostname = hostname
        self._authorize = authorize
        self._handshaker = OpenSslSession(context, hostname)
        self._session: Session = self._handshaker
        self._session_lock = threading.Lock()
        self._flush_lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._close_lock = threading.Lock()
        self._failure: ChannelError | None = None
        self._awaits_verdict = False
        self._seen_data = False  # the peer has accepted our certificate
        self._ready = False
        self._said_goodbye = False
        self._at_end = False
        self._closed = False

    @property
    def cipher(self) -> tuple[str, str, int]:
        """(cipher suite, protocol version, secret bits) of the session."""
        return self._handshaker.ssl.cipher() or ("none", "none", 0)

    def describe(self) -> str:
        name, _, _ = self.cipher
        return f"{self._inner.describe()} over {self._handshaker.ssl.version() or 'TLS'} ({name})"

    # -- handshake

    def handshake(self, timeout: float) -> None:
        """Raises TlsError: refused by either side, cut, or not done after ``timeout`` seconds."""
        with self._watchdog(timeout) as expired:
            try:
                while not self._handshake_step():
                    if not self._receive():
                        raise TlsError(f"TLS handshake failed: {CUT}")
                with self._session_lock:
                    self._session = self._handshaker.successor()
            except TlsError:
                raise
            except ChannelError as error:
                if expired.is_set():
                    raise TlsError(f"TLS handshake failed: no answer within {timeout:g} s") from error
                raise TlsError(f"TLS handshake failed: {error}") from error
            finally:
                self._handshaker.close()
        self._ready = True
        openssl = self._handshaker.ssl
        self._awaits_verdict = not openssl.server_side and openssl.version() == "TLSv1.3"
        if trace.mask & trace.Log.MIGRATION:
            trace.log(f"migration: {self.describe()}")

    def _handshake_step(self) -> bool:
        """Go as far as the bytes at hand allow; whether it is done."""
        failure: TlsError | None = None
        done = False
        with self._session_lock:
            try:
                done = self._handshaker.handshake()
                if done and self._authorize is not None:
                    self._ask(self._authorize)
            except TlsError as error:
                failure = error
        if failure is None:
            self._flush()
            return done
        try:
            self._flush()  # the alert that tells the peer why
        except ChannelError:
            pass
        raise failure

    def _ask(self, authorize: Authorize) -> None:
        """Whether the peer may; raises TlsError."""
        from e2kemu.migration.tls_dn import subject_of  # cryptography costs a start without TLS 40 ms

        try:
            authorize(subject_of(self._handshaker.ssl.getpeercert(True) or b""))
        except E2kError as error:
            self._handshaker.refuse()
            raise TlsError(str(error)) from error

    # -- data

    def readinto(self, view: memoryview) -> int:
        if not len(view):
            return 0
        view = byte_view(view)
        with self._read_lock:
            while True:
                self._raise_failure()
                if self._at_end:
                    return 0
                size = self._decrypt(view)
                if self._session.pending:
                    self._flush(wait=False)
                if size:
                    self._seen_data = True
                    return size
                if self._at_end or self._failure is not None:
                    continue
                try:
                    if not self._receive():
                        self._failure = TlsError(f"Unable to read from {self.name}: {CUT}")
                except ChannelError as error:
                    self._failure = error

    def _raise_failure(self) -> None:
        """Raise what ended the session, if something did."""
        failure = self._failure
        if failure is not None:
            # A new one for each caller: threads must not share an exception and its traceback.
            raise type(failure)(str(failure)) from failure

    def _decrypt(self, view: memoryview) -> int:
        """Plain text of all records at hand into ``view``; 0 when another record is wanted, or at the end."""
        with self._session_lock:
            try:
                return self._session.read(view)
            except EndOfSession:
                self._at_end = True
            except SessionFault as fault:
                self._failure = self._session_error(fault)
        return 0

    def _session_error(self, fault: SessionFault) -> TlsError:
        if fault.alert and not self._seen_data:
            # In TLS 1.3 the client has finished when the server looks at its certificate: it is late.
            failure = TlsError(f"TLS handshake failed: {fault}")
        else:
            failure = TlsError(f"Unable to read from {self.name}: {fault}")
        failure.__cause__ = fault
        return failure

    def _receive(self) -> int:
        """Wait for bytes of the transport and hand them to the session; how many have come (0: its end)."""
        size = self._inner.readinto(self._session.room())
        if size:
            with self._session_lock:
                self._session.arrived(size)
        return size

    def writev(self, buffers: Sequence[Buffer]) -> None:
        if self._said_goodbye or self._closed:
            raise ChannelError(f"Unable to write to {self.name}: the channel is closed")
        try:
            with self._write_lock:
                for chunk in _chunks(buffers, self._session.most):
                    self._encrypt(chunk)
                    self._flush()
        except TlsError:
            raise
        except ChannelError as error:
            raise self._verdict(error) from error

    def _encrypt(self, chunk: bytes | memoryview) -> None:
        with self._session_lock:
            try:
                self._session.write(chunk)
            except SessionFault as fault:
                self._raise_failure()  # the reader may know more, such as the peer's alert
                raise TlsError(f"Unable to write to {self.name}: {fault}") from fault

    def _flush(self, *, wait: bool = True) -> None:
        """Send what the session has made. ``wait=False``: leave it to whoever is sending, if somebody is."""
        while self._flush_lock.acquire(blocking=wait):
            try:
                while True:
                    with self._session_lock:
                        records = self._session.take() if self._session.pending else ()
                    if not records:
                        break
                    self._inner.writev(records)
            finally:
                self._flush_lock.release()
            if not self._session.pending:  # put there after the look and before the release
                return
            wait = False

    def _verdict(self, error: ChannelError) -> ChannelError:
        """Why writing failed: the alert that the peer sent before it went away, or else ``error``."""
        with self._watchdog(GOODBYE_SECONDS):
            self._read_to_end()
        failure = self._failure
        return failure if isinstance(failure, TlsError) and CUT not in str(failure) else error

    # -- the end

    def finish(self) -> None:
        self._say_goodbye()
        try:
            self._flush()
        except ChannelError as error:
            raise self._verdict(error) from error
        if self._awaits_verdict and not self._seen_data:
            waiter = threading.Thread(target=self._read_to_end, name="tls-verdict", daemon=True)
            waiter.start()
            waiter.join(VERDICT_SECONDS)
            if isinstance(self._failure, TlsError) and CUT not in str(self._failure):
                raise self._failure
        self._inner.finish()

    def _read_to_end(self) -> None:
        scratch = memoryview(bytearray(SCRATCH))
        try:
            while self.readinto(scratch):
                pass
        except ChannelError:
            pass  # readinto keeps it in _failure

    def _say_goodbye(self) -> None:
        """Make the close_notify record, once."""
        with self._session_lock:
            if self._said_goodbye:
                return
            self._said_goodbye = True
            try:
                self._session.say_goodbye()
            except SessionFault as fault:
                self._failure = self._failure or self._session_error(fault)

    def shutdown(self) -> None:
        self._inner.shutdown()

    def abandon(self) -> None:
        self._inner.abandon()

    def delivered(self) -> bool:
        return self._inner.delivered()

    def be_prompt(self) -> None:
        self._inner.be_prompt()

    def close(self) -> None:
        with self._close_lock:
            if self._closed:
                return
            self._closed = True
        if self._ready and self._failure is None and not self._flush_lock.locked():
            with self._watchdog(GOODBYE_SECONDS):
                try:
                    self._say_goodbye()
                    self._flush(wait=False)
                except ChannelError:
                    pass  # the peer has gone already
        self._inner.close()

    @contextmanager
    def _watchdog(self, seconds: float) -> Iterator[threading.Event]:
        """Shut the transport down when the block takes longer; the event tells that it did."""
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            self._inner.shutdown()

        timer = threading.Timer(seconds, expire)
        timer.daemon = True
        timer.start()
        try:
            yield expired
        finally:
            timer.cancel()


def _chunks(buffers: Sequence[Buffer], most: int) -> Iterator[bytes | memoryview]:
    """The bytes of ``buffers`` in pieces of up to ``most``: small ones together, since every record costs."""
    small: list[memoryview] = []
    size = 0
    for buffer in buffers:
        view = byte_view(buffer)
        large = len(view) >= LARGE
        if small and (large or size + len(view) > most):
            yield b"".join(small)
            small, size = [], 0
        if large:
            yield from (view[at : at + most] for at in range(0, len(view), most))
        elif len(view):
            small.append(view)
            size += len(view)
    if small:
        yield b"".join(small)
