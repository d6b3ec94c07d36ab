"""The traffic secrets of a session, from OpenSSL's key log.

``ssl.SSLContext.keylog_filename`` makes OpenSSL write each secret as a line "LABEL client-random secret" (hexadecimal;
the format of NSS's key log). Here that file is one in memory, without a name, and exists only while handshakes of the
context are under way: sessions may share a context, and find their lines by the random of the client's first message.
Nothing is written to a disk, and nothing is kept.
"""

from __future__ import annotations

import os
import ssl
import threading
from dataclasses import dataclass
from weakref import WeakKeyDictionary

HELLO = 43
"""Bytes from the beginning of what a client sends to the end of its random: record 5, message 4, version 2, 32."""

_CLIENT, _SERVER = b"CLIENT_TRAFFIC_SECRET_0", b"SERVER_TRAFFIC_SECRET_0"


@dataclass(frozen=True)
class Secrets:
    """client_application_traffic_secret_0 and server_... of RFC 8446, section 7.1."""

    client: bytes
    server: bytes


def client_random(hello: bytes) -> bytes | None:
    """That of a ClientHello; None: ``hello`` does not begin with a whole one."""
    if len(hello) < HELLO or hello[0] != 22 or hello[5] != 1:
        return None
    return hello[HELLO - 32 : HELLO]


@dataclass
class _Log:
    """Of one context."""

    file: int = -1
    users: int = 0


_lock = threading.Lock()
_logs: WeakKeyDictionary[ssl.SSLContext, _Log] = WeakKeyDictionary()


class SecretLog:
    """A session's part of its context's key log, from before its handshake to ``close``.

    There is no ``__del__``: the collector may run one in the middle of anything, also in a thread that holds the lock.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        with _lock:
            log = self._log = _logs.setdefault(context, _Log())
            log.users += 1
            self._open = True
            if log.file < 0:
                self._begin(log)

    def _begin(self, log: _Log) -> None:
        try:
            log.file = os.memfd_create("secrets")
            self._context.keylog_filename = f"/proc/self/fd/{log.file}"
        except OSError:
            pass  # no /proc, no descriptor left: there are sessions without what is in it

    def take(self, random: bytes | None) -> Secrets | None:
        """Those of the session with this client random; None: it has none of this kind (TLS 1.2)."""
        if random is None:
            return None
        with _lock:
            if not self._open or self._log.file < 0:
                return None
            text = os.pread(self._log.file, os.fstat(self._log.file).st_size, 0)
        name = random.hex().encode()
        found = {}
        for line in text.splitlines():
            match line.split():
                case [label, whose, secret] if whose == name:
                    found[label] = bytes.fromhex(secret.decode())
        if _CLIENT in found and _SERVER in found:
            return Secrets(found[_CLIENT], found[_SERVER])
        return None

    def close(self) -> None:
        """Any thread; again is no error."""
        with _lock:
            if not self._open:
                return
            self._open = False
            log = self._log
            log.users -= 1
            if not log.users and log.file >= 0:
                self._context.keylog_filename = None  # type: ignore[assignment]
                os.close(log.file)
                log.file = -1
