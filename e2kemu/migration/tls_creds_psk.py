"""``tls-creds-psk``: both ends know a key, and need no certificates.

=====================================  ====================================================================
endpoint=client|server                 which side uses it (client)
dir=PATH                               holds keys.psk; for a server also [dh-params.pem]
username=TEXT                          client: the user whose key it uses (qemu)
priority=TEXT                          see `tls_priority` (NORMAL)
verify-peer=on|off                     without meaning here: a key always proves itself
=====================================  ====================================================================

keys.psk is what GnuTLS's psktool writes: lines ``user:key``, the key in hexadecimal. A user whose name is no
text stands there as ``#`` and its bytes in hexadecimal. Empty lines do not count. The server accepts all users
of its file, the client needs the line of its own.

Sessions are TLS 1.3 or 1.2. In TLS 1.3 OpenSSL ties such a key to SHA-256, which leaves ciphers of 128 bits
and ChaCha20; a priority that wants 256 bits therefore means TLS 1.2.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path

from e2kemu.errors import OptionError, TlsError, one_line
from e2kemu.migration import tls_psk_shim as psk
from e2kemu.migration.tls_creds import FFDHE3072, TlsCreds
from e2kemu.migration.tls_errors import alert_of, reason_of
from e2kemu.objects import ObjectStore, Property, user_object

KEYS = "keys.psk"

USERNAME = "qemu"

_OTHER_KEY = {
    "BINDER_DOES_NOT_VERIFY",  # TLS 1.3
    "DECRYPTION_FAILED_OR_BAD_RECORD_MAC",  # TLS 1.2
    "RECORD_LAYER_FAILURE",  # TLS 1.2, OpenSSL 3.2 and later
}
"""What OpenSSL says when the peer's key is not ours."""

_ALERTS_TO_CLIENT = {
    "BAD_RECORD_MAC",  # another key, TLS 1.2
    "DECRYPT_ERROR",  # the same, from other libraries
    "ILLEGAL_PARAMETER",  # the same, TLS 1.3
    "UNKNOWN_PSK_IDENTITY",  # no key, TLS 1.2
    "HANDSHAKE_FAILURE",  # the same, TLS 1.3
}
"""How a server says that it has another key of our user, or none."""


class _Context(psk.PskContext):
    """One session's. The server keeps in it who the client said to be."""

    user: bytes | None = None


@user_object("tls-creds-psk")
class PskCreds(TlsCreds):
    """Keys in a file."""

    PROPERTIES = (
        *TlsCreds.PROPERTIES,
        Property("username", "client: the user whose key it uses", default=USERNAME),
    )
    KEY_EXCHANGES = ("+ECDHE-PSK", "+DHE-PSK", "+PSK")

    def __init__(self, ident: str, properties: Mapping[str, str], store: ObjectStore | None = None) -> None:
        """Raises OptionError: wrong property, unusable files, an interpreter without pre-shared keys."""
        super().__init__(ident, properties)
        self._required_directory()
        if "username" in properties and self.endpoint == "server":
            raise OptionError("Parameter 'username' is for endpoint=client: a server takes all users of keys.psk")
        self.username = self.properties["username"]
        why = psk.unavailable()
        if why is not None:
            raise OptionError(f"tls-creds-psk is not available: {why}")
        self._wants_tls12 = self.priority.minimum_bits > 128
        if self._wants_tls12 and ssl.TLSVersion.TLSv1_2 not in self.priority.versions:
            raise OptionError(
                f"Unable to set TLS session priority {properties['priority']}: pre-shared keys with 256 bits "
                "need TLS 1.2"
            )
        path = self._path(KEYS)
        assert path is not None
        self._keys_path = path
        self._keys = read_keys(path)
        if self.endpoint == "client" and os.fsencode(self.username) not in self._keys:
            raise OptionError(f"Username {one_line(self.username)} not found in PSK file {path}")
        self.make_context(self.endpoint)  # dh-params.pem is wrong now or never

    def make_context(self, side: str) -> ssl.SSLContext:
        self.check_endpoint(side)
        server = side == "server"
        context = _Context(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        self._settle(context)
        context.prepare(strong=self._wants_tls12)
        if self._wants_tls12:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        if server:
            self._load_dh_params(context, FFDHE3072)

            def find(user: bytes) -> bytes | None:
                context.user = user
                return self._keys.get(user)

            psk.set_server_keys(context, find)
        else:
            user = os.fsencode(self.username)
            psk.set_client_key(context, user, self._keys[user])
        return context

    def explain(self, context: ssl.SSLContext, error: TlsError) -> TlsError:
        cause = error.__cause__
        if not isinstance(cause, ssl.SSLError):
            return error
        why = None
        own = one_line(self.username)
        if self.endpoint == "client" and alert_of(cause) in _ALERTS_TO_CLIENT:
            return TlsError(f"{error} (the server may have another key of PSK user '{own}', or none)")
        if isinstance(cause, ssl.SSLCertVerificationError):
            why = f"The server has a certificate and not the key of PSK user '{own}'"
        elif isinstance(context, _Context) and context.user is not None:
            name = one_line(os.fsdecode(context.user))
            if context.user not in self._keys:
                why = f"PSK user '{name}' is not in {self._keys_path}"
            elif reason_of(cause) in _OTHER_KEY:
                why = f"The client's key of PSK user '{name}' is not the one in {self._keys_path}"
        elif reason_of(cause) == "NO_SUITABLE_SIGNATURE_ALGORITHM":
            why = "The client has shown no pre-shared key"  # so OpenSSL would have had to use a certificate
        return error if why is None else TlsError(f"TLS handshake failed: {why}")


def read_keys(path: Path) -> dict[bytes, bytes]:
    """The users in a keys.psk and their keys. Raises OptionError that names file and line."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise OptionError(f"Unable to access credentials {path}: {error.strerror}") from error
    keys: dict[bytes, bytes] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        user, colon, digits = line.strip().rpartition(b":")
        try:
            if not colon:
                raise ValueError("not user:key")
            name = bytes.fromhex(user[1:].decode("ascii")) if user.startswith(b"#") else user
            key = bytes.fromhex(digits.decode("ascii"))
        except ValueError as error:
            why = "the key is not hexadecimal" if colon else "it is not 'user:key'"
            raise OptionError(f"Unable to load PSK file {path}: line {number}: {why}") from error
        for what, data, limit in (("user name", name, psk.MAX_IDENTITY), ("key", key, psk.MAX_KEY)):
            if not 0 < len(data) <= limit:
                raise OptionError(
                    f"Unable to load PSK file {path}: line {number}: the {what} has {len(data)} bytes, "
                    f"1 to {limit} can be used"
                )
        keys.setdefault(name, key)
    return keys
