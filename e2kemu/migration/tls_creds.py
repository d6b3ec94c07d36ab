"""TLS credentials: what one side shows and whom it believes. The object types ``tls-creds-*``.

``-object tls-creds-x509,id=tls0,dir=certs,endpoint=server`` with QEMU's properties and file names:

=====================================  ====================================================================
endpoint=client|server                 which side uses it (client)
dir=PATH                               holds ca-cert.pem, [ca-crl.pem], [dh-params.pem], and for a server
                                       server-cert.pem and server-key.pem, for a client
                                       [client-cert.pem and client-key.pem]
verify-peer=on|off                     server: the client must have a certificate of that CA (on). A client
                                       always verifies the server
sanity-check=on|off                    look for certificates that cannot work (on), see `tls_check`
priority=TEXT                          see `tls_priority` (NORMAL)
passwordid=ID                          a `secret` that opens an encrypted key file
=====================================  ====================================================================

The files are read once, when the object is made. Another kind of credentials is another `TlsCreds` subclass
with its ``@user_object``: `tls_creds_anon`, `tls_creds_psk`.
"""

from __future__ import annotations

import copy
import os
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from e2kemu.errors import OptionError, TlsError
from e2kemu.migration.tls_errors import reason_of
from e2kemu.migration.tls_priority import parse_priority
from e2kemu.objects import ObjectStore, Property, read_properties, user_object
from e2kemu.options import parse_bool
from e2kemu.secret import find_secret

CA_CERT = "ca-cert.pem"
CA_CRL = "ca-crl.pem"
DH_PARAMS = "dh-params.pem"

FFDHE3072 = """\
-----BEGIN DH PARAMETERS-----
MIIBiAKCAYEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
ssbzSibBsu/6iGtCOGEfz9zeNVs7ZRkDW7w09N75nAI4YbRvydbmyQd62R0mkff3
7lmMsPrBhtkcrv4TCYUTknC0EwyTvEN5RPT9RFLi103TZPLiHnH1S/9croKrnJ32
nuhtK8UiNjoNq8Uhl5sN6todv5pC1cRITgq80Gv6U93vPBsg7j/VnXwl5B0rZsYu
N///////////AgEC
-----END DH PARAMETERS-----
"""
"""The Diffie-Hellman group of RFC 7919, appendix A.2: good for 128 bits, known to every TLS library."""


Authorize = Callable[[str], None]
"""Asked about the name in the peer's certificate; raises E2kError when it may not."""


class TlsCreds(ABC):
    """Credentials of one endpoint. What is common to all kinds: id, endpoint, dir, verify-peer, priority."""

    PROPERTIES: tuple[Property, ...] = (
        Property("dir", "the directory that holds the files"),
        Property("endpoint", "which side uses it", "QCryptoTLSCredsEndpoint", "client", ("client", "server")),
        Property("priority", "versions and ciphers, as GnuTLS's priority strings", default="NORMAL"),
        Property("verify-peer", "server: the client must have a certificate of the CA", "bool", "on"),
    )
    """What all kinds have; a kind may have more."""

    KEY_EXCHANGES: tuple[str, ...] = ()
    """What a priority string may add for this kind, for it is always in: "+PSK"."""

    authorize: Authorize | None = None
    """What tls-authz asks for, see `authorized_by`."""

    def __init__(self, ident: str, properties: Mapping[str, str]) -> None:
        """Raises OptionError: a property that is unknown or has a value it cannot have."""
        given = read_properties(self.PROPERTIES, properties)
        self.id = ident
        self.properties = given
        """As given, with the defaults."""
        self.endpoint = given["endpoint"]
        self.directory = Path(given["dir"]) if given.get("dir") else None
        self.verify_peer = parse_bool(given["verify-peer"], "verify-peer")
        self.priority = parse_priority(given["priority"] or "NORMAL", self.KEY_EXCHANGES)

    @property
    def knows_peer(self) -> bool:
        """Whether every peer shows a certificate, whose name tls-authz can check."""
        return False

    def authorized_by(self, authorize: Authorize) -> Self:
        """The same credentials, for sessions in which ``authorize`` is asked. Raises OptionError."""
        if not self.knows_peer:
            raise OptionError(
                f"Parameter 'tls-authz' needs certificates of the clients: '{self.id}' is not tls-creds-x509 with "
                "verify-peer=on"
            )
        authorized = copy.copy(self)
        authorized.authorize = authorize
        return authorized

    def explain(self, context: ssl.SSLContext, error: TlsError) -> TlsError:
        """``error``, which ended a handshake in ``context``, or a better one when these credentials know more."""
        return error

    @abstractmethod
    def make_context(self, side: str) -> ssl.SSLContext:
        """The OpenSSL context for a session as ``side`` ("client" or "server"). Any thread."""

    def check_endpoint(self, side: str) -> None:
        """Raises OptionError unless these are credentials for ``side``."""
        if self.endpoint != side:
            raise OptionError(f"Expected TLS credentials for a {side} endpoint")

    def check_session(self, cipher: tuple[str, str, int]) -> None:
        """Raises TlsError when the session's (cipher, version, bits) is less than the priority asks for."""
        name, _, bits = cipher
        if bits < self.priority.minimum_bits:
            raise TlsError(
                f"TLS handshake failed: cipher {name} has {bits} bits, the priority asks for "
                f"{self.priority.minimum_bits}"
            )

    def unload(self) -> None:
        """May go at any time: sessions that run have what they need."""
        return

    def _new_context(self) -> ssl.SSLContext:
        server = self.endpoint == "server"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        self._settle(context)
        return context

    def _settle(self, context: ssl.SSLContext) -> None:
        """Settings that all kinds have in common."""
        self.priority.apply(context)
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET
        if self.endpoint == "server":
            # Nobody resumes a migration's session, and tickets that a client never reads only do harm.
            context.num_tickets = 0

    def _required_directory(self) -> Path:
        """Raises OptionError when no ``dir`` was given."""
        if self.directory is None:
            raise OptionError("Missing 'dir' property value")
        return self.directory

    def _path(self, name: str, *, required: bool = True) -> Path | None:
        """The readable file ``name`` in the directory; None when it is optional and not there."""
        directory = self._required_directory()
        path = directory / name
        try:
            with path.open("rb"):
                return path
        except FileNotFoundError as error:
            if not required and directory.is_dir():
                return None
            raise OptionError(f"Unable to access credentials {path}: {error.strerror}") from error
        except OSError as error:
            raise OptionError(f"Unable to access credentials {path}: {error.strerror}") from error

    def _load_dh_params(self, context: ssl.SSLContext, default: str | None = None) -> None:
        """Give ``context`` the group in dh-params.pem; if there is none, ``default`` (PEM)."""
        path = self._path(DH_PARAMS, required=False) if self.directory is not None else None
        if path is not None:
            _load_file("DH parameters", path, lambda: context.load_dh_params(os.fspath(path)))
        elif default is not None:
            # ssl takes a file's name only.
            with open(os.memfd_create(DH_PARAMS), "wb") as file:
                file.write(default.encode())
                file.flush()
                context.load_dh_params(f"/proc/self/fd/{file.fileno()}")


def find_creds(store: ObjectStore, ident: str, endpoint: str) -> TlsCreds:
    """The credentials that the parameter tls-creds names. Raises OptionError with QEMU's words."""
    found = store.get(ident)
    if found is None:
        raise OptionError(f"No TLS credentials with id '{ident}'")
    if not isinstance(found, TlsCreds):
        raise OptionError(f"Object with id '{ident}' is not TLS credentials")
    found.check_endpoint(endpoint)
    return found


@user_object("tls-creds-x509")
class X509Creds(TlsCreds):
    """Certificates in files."""

    PROPERTIES = (
        *TlsCreds.PROPERTIES,
        Property("sanity-check", "look for certificates that cannot work", "bool", "on"),
        Property("passwordid", "the secret that opens an encrypted key"),
    )

    def __init__(self, ident: str, properties: Mapping[str, str], store: ObjectStore | None = None) -> None:
        """Raises OptionError: wrong property, missing or unreadable file, certificates that cannot work."""
        super().__init__(ident, properties)
        self._required_directory()
        self.sanity_check = parse_bool(self.properties["sanity-check"], "sanity-check")
        password = None
        if self.properties.get("passwordid"):
            password = find_secret(store or ObjectStore(), self.properties["passwordid"]).text
        self._context = self._load(password)

    @property
    def knows_peer(self) -> bool:
        return self.endpoint == "client" or self.verify_peer

    def make_context(self, side: str) -> ssl.SSLContext:
        self.check_endpoint(side)
        return self._context

    def _load(self, password: str | None) -> ssl.SSLContext:
        server = self.endpoint == "server"
        ca = self._path(CA_CERT)
        crl = self._path(CA_CRL, required=False)
        cert = self._path(f"{self.endpoint}-cert.pem", required=server)
        key = self._path(f"{self.endpoint}-key.pem", required=cert is not None)
        assert ca is not None
        if self.sanity_check:
            from e2kemu.migration.tls_check import check_credentials  # cryptography costs a start without TLS 40 ms

            check_credentials(ca, cert, self.endpoint)
        context = self._new_context()
        _load_file("CA certificate list", ca, lambda: context.load_verify_locations(ca))
        if crl is not None:
            _load_file("CRL", crl, lambda: context.load_verify_locations(crl))
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
        if server:
            self._load_dh_params(context)
        if cert is not None and key is not None:
            _load_pair(context, f"{self.endpoint} certificate {cert} and key", cert, key, password)
        # Whatever stands in ca-cert.pem is trusted, also an intermediate CA without its root.
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
        if server:
            context.verify_mode = ssl.CERT_REQUIRED if self.verify_peer else ssl.CERT_NONE
        return context


def _load_pair(context: ssl.SSLContext, what: str, cert: Path, key: Path, password: str | None) -> None:
    """Give ``context`` a certificate and its key. Raises OptionError."""
    asked = False

    def answer() -> str:
        # Instead of OpenSSL's question for a password on the terminal.
        nonlocal asked
        asked = True
        if password is None:
            raise OptionError(f"Unable to load key {key}: it is encrypted")
        return password

    def load() -> None:
        try:
            context.load_cert_chain(cert, key, answer)
        except ssl.SSLError as error:
            if asked and error.reason != "KEY_VALUES_MISMATCH":
                raise OptionError(f"Unable to load key {key}: wrong password") from error
            raise

    _load_file(what, key, load)


def _load_file(what: str, path: Path, load: Callable[[], object]) -> None:
    """``load()``; raises OptionError naming the file instead of OpenSSL's error."""
    try:
        load()
    except ssl.SSLError as error:
        why = (reason_of(error) or str(error)).replace("_", " ").lower()
        raise OptionError(f"Unable to load {what} {path}: {why}") from error
    except OSError as error:
        raise OptionError(f"Unable to load {what} {path}: {error.strerror}") from error
