"""Pre-shared keys for an ``ssl.SSLContext``: Python's own calls from 3.13 on, before that OpenSSL's.

Python 3.11 and 3.12 have no way to set OpenSSL's two PSK callbacks. Here they are set on the very libssl that
``_ssl`` uses: looking a name up in ``_ssl``'s shared object finds it in that object's dependencies. The
``SSL_CTX *`` is the first field behind the object header of ``_ssl._SSLContext``, which is what it was in all
releases of these two versions (Modules/_ssl.c, ``PySSLContext``).

Neither is taken on trust. Any other interpreter is refused by version before a pointer is followed; the
library must call itself what ``ssl.OPENSSL_VERSION`` says and must give back the options that Python has set;
and before the first use real handshakes are made in memory, TLS 1.2 and 1.3, with the right and with a wrong
key. If any of this fails, `unavailable` says why, and no credentials of this kind can be made.
"""

from __future__ import annotations

import ctypes
import functools
import ssl
import sys
from collections.abc import Callable

from e2kemu.errors import OptionError

Lookup = Callable[[bytes], bytes | None]
"""From the identity that a client shows to its key; None: nobody."""

MAX_IDENTITY = 128
"""Bytes of an identity: the limit of OpenSSL 1.1.1 (3.0: 256)."""

MAX_KEY = 256
"""Bytes of a key: the limit of OpenSSL 1.1.1 (3.0: 512)."""

_CIPHERS = (
    "ECDHE-PSK-CHACHA20-POLY1305",
    "DHE-PSK-AES256-GCM-SHA384",
    "DHE-PSK-CHACHA20-POLY1305",
    "DHE-PSK-AES128-GCM-SHA256",
    "PSK-AES256-GCM-SHA384",
    "PSK-CHACHA20-POLY1305",
    "PSK-AES128-GCM-SHA256",
)
"""Ciphers of TLS 1.2: nothing but pre-shared keys, forward secrecy first."""

_LAYOUT_KNOWN = ((3, 11), (3, 12))

_UINT, _POINTER, _TEXT = ctypes.c_uint, ctypes.c_void_p, ctypes.c_char_p
_CLIENT = ctypes.CFUNCTYPE(_UINT, _POINTER, _TEXT, _POINTER, _UINT, _POINTER, _UINT)
_SERVER = ctypes.CFUNCTYPE(_UINT, _POINTER, _TEXT, _POINTER, _UINT)


class PskContext(ssl.SSLContext):
    """A context for sessions with pre-shared keys. It trusts no certificate, so that none can stand in."""

    callback: object = None
    """What OpenSSL calls: must live as long as the context."""

    def prepare(self, *, strong: bool = False) -> None:
        """Settings of either side, to be made before the keys are set. ``strong``: ciphers of 256 bits only."""
        if self.protocol == ssl.PROTOCOL_TLS_CLIENT:
            # With no CA loaded every certificate is refused: TLS 1.3 would let a server choose one.
            self.check_hostname = False
            self.verify_mode = ssl.CERT_REQUIRED
        self.set_ciphers(":".join(name for name in _CIPHERS if not strong or "AES128" not in name))


def unavailable() -> str | None:
    """Why there are no pre-shared keys in this interpreter; None: there are."""
    return _unavailable()


def set_client_key(context: PskContext, identity: bytes, key: bytes) -> None:
    """Let ``context`` show ``identity`` and use ``key``."""
    if sys.version_info >= (3, 13):
        name = identity.decode("utf-8", "surrogateescape")
        context.set_psk_client_callback(lambda hint: (name, key))
        return

    def give(
        session: int, hint: bytes | None, to_identity: int, identity_room: int, to_key: int, key_room: int
    ) -> int:
        if len(identity) >= identity_room or len(key) > key_room:
            return 0
        ctypes.memmove(to_identity, identity + b"\0", len(identity) + 1)
        ctypes.memmove(to_key, key, len(key))
        return len(key)

    callback = _CLIENT(give)
    library = _library()
    # TLS 1.3 makes a session of the key, and takes up only those of its context's name: give it one.
    library.SSL_CTX_set_session_id_context(_pointer(context), b"", 0)
    library.SSL_CTX_set_psk_client_callback(_pointer(context), callback)
    context.callback = callback


def set_server_keys(context: PskContext, lookup: Lookup) -> None:
    """Let ``context`` accept the clients whose keys ``lookup`` gives, called in the handshake's thread."""
    if sys.version_info >= (3, 13):
        context.set_psk_server_callback(
            lambda identity: lookup((identity or "").encode("utf-8", "surrogateescape")) or b""
        )
        return

    def find(session: int, identity: bytes | None, to_key: int, room: int) -> int:
        key = lookup(identity or b"")
        if not key or len(key) > room:
            return 0
        ctypes.memmove(to_key, key, len(key))
        return len(key)

    callback = _SERVER(find)
    _library().SSL_CTX_set_psk_server_callback(_pointer(context), callback)
    context.callback = callback


# -- OpenSSL's own functions


@functools.cache
def _library() -> ctypes.CDLL:
    """``_ssl``'s libssl. Raises OptionError when it cannot be reached."""
    import _ssl

    path = getattr(_ssl, "__file__", None)
    if path is None:
        raise OptionError("OpenSSL is linked into the interpreter")
    library = ctypes.CDLL(path)
    try:
        library.OpenSSL_version.restype = ctypes.c_char_p
        library.OpenSSL_version.argtypes = [ctypes.c_int]
        library.SSL_CTX_get_options.restype = ctypes.c_uint64
        library.SSL_CTX_get_options.argtypes = [ctypes.c_void_p]
        library.SSL_CTX_set_psk_client_callback.restype = None
        library.SSL_CTX_set_psk_client_callback.argtypes = [ctypes.c_void_p, _CLIENT]
        library.SSL_CTX_set_psk_server_callback.restype = None
        library.SSL_CTX_set_psk_server_callback.argtypes = [ctypes.c_void_p, _SERVER]
        library.SSL_CTX_set_session_id_context.restype = ctypes.c_int
        library.SSL_CTX_set_session_id_context.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint]
    except AttributeError as error:
        raise OptionError(f"OpenSSL is linked statically into {path}") from error
    found = (library.OpenSSL_version(0) or b"").decode()
    if found != ssl.OPENSSL_VERSION:
        raise OptionError(f"{path} uses {ssl.OPENSSL_VERSION}, but the library found there is {found}")
    return library


def _pointer(context: ssl.SSLContext) -> int:
    """The ``SSL_CTX *`` of ``context``."""
    return ctypes.c_void_p.from_address(id(context) + object.__basicsize__).value or 0


@functools.cache
def _unavailable() -> str | None:
    if sys.version_info < (3, 13):
        if sys.implementation.name != "cpython" or sys.version_info[:2] not in _LAYOUT_KNOWN:
            return f"not with {sys.implementation.name} {sys.version_info[0]}.{sys.version_info[1]}"
        try:
            library = _library()
        except (OptionError, OSError) as error:
            return str(error)
        probe = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        mask = (1 << 32) - 1  # what Python shows of the options
        if library.SSL_CTX_get_options(_pointer(probe)) & mask != int(probe.options) & mask:
            return "the ssl module of this interpreter keeps its context elsewhere"
    elif not getattr(ssl, "HAS_PSK", False):
        return f"{ssl.OPENSSL_VERSION} is built without them"
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        if not _agree(version, b"k" * 32) or _agree(version, b"x" * 32):
            return f"the self-check with {ssl.OPENSSL_VERSION} failed ({version.name})"
    return None


def _agree(version: ssl.TLSVersion, client_key: bytes) -> bool:
    """Whether a handshake in memory succeeds with ``client_key`` at the one end, 32 times k at the other."""
    client, server = PskContext(ssl.PROTOCOL_TLS_CLIENT), PskContext(ssl.PROTOCOL_TLS_SERVER)
    for context in (client, server):
        context.prepare()
        context.minimum_version = context.maximum_version = version
    set_client_key(client, b"self-check", client_key)
    set_server_keys(server, lambda identity: b"k" * 32 if identity == b"self-check" else None)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_side=False),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    waiting = list(ends)
    for _ in range(6):  # a handshake is two round trips
        for end in list(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError:
                return False
    return not waiting
