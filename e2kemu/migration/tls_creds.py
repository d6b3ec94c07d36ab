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
=====================================  ====================================================================

The files are read once, when the object is made. Another kind of credentials is another `TlsCreds` subclass
with its ``@user_object``.
"""

from __future__ import annotations

import os
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path

from e2kemu.errors import OptionError, TlsError
from e2kemu.migration.tls_check import check_credentials
from e2kemu.migration.tls_priority import parse_priority
from e2kemu.objects import ObjectStore, user_object
from e2kemu.options import parse_bool

CA_CERT = "ca-cert.pem"
CA_CRL = "ca-crl.pem"
DH_PARAMS = "dh-params.pem"

ENDPOINTS = ("client", "server")


class TlsCreds(ABC):
    """Credentials of one endpoint. What is common to all kinds: id, endpoint, priority."""

    OWN_PROPERTIES: frozenset[str] = frozenset()
    """Properties that a kind has besides endpoint and priority."""

    def __init__(self, ident: str, properties: Mapping[str, str]) -> None:
        """Raises OptionError: a property that is unknown or has a value it cannot have."""
        for name in properties:
            if name not in self.OWN_PROPERTIES | {"endpoint", "priority"}:
                raise OptionError(f"Invalid parameter '{name}'")
        self.id = ident
        self.endpoint = properties.get("endpoint", "client")
        if self.endpoint not in ENDPOINTS:
            raise OptionError(f"Parameter 'endpoint' does not accept value '{self.endpoint}'")
        self.priority = parse_priority(properties.get("priority") or "NORMAL")

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
        self.priority.apply(context)
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET
        if server:
            # Nobody resumes a migration's session, and tickets that a client never reads only do harm.
            context.num_tickets = 0
        return context


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

    OWN_PROPERTIES = frozenset({"dir", "verify-peer", "sanity-check", "passwordid"})

    def __init__(self, ident: str, properties: Mapping[str, str]) -> None:
        """Raises OptionError: wrong property, missing or unreadable file, certificates that cannot work."""
        super().__init__(ident, properties)
        if "passwordid" in properties:
            raise OptionError(
                "Parameter 'passwordid' is not available: keep the key in a file that only you can read"
            )
        if not properties.get("dir"):
            raise OptionError("Missing 'dir' property value")
        self.directory = Path(properties["dir"])
        self.verify_peer = parse_bool(properties.get("verify-peer", "on"), "verify-peer")
        self.sanity_check = parse_bool(properties.get("sanity-check", "on"), "sanity-check")
        self._context = self._load()

    def make_context(self, side: str) -> ssl.SSLContext:
        self.check_endpoint(side)
        return self._context

    def _path(self, name: str, *, required: bool = True) -> Path | None:
        """The readable file ``name`` in the directory; None when it is optional and not there."""
        path = self.directory / name
        try:
            with path.open("rb"):
                return path
        except FileNotFoundError as error:
            if not required and self.directory.is_dir():
                return None
            raise OptionError(f"Unable to access credentials {path}: {error.strerror}") from error
        except OSError as error:
            raise OptionError(f"Unable to access credentials {path}: {error.strerror}") from error

    def _load(self) -> ssl.SSLContext:
        server = self.endpoint == "server"
        ca = self._path(CA_CERT)
        crl = self._path(CA_CRL, required=False)
        dh_params = self._path(DH_PARAMS, required=False) if server else None
        cert = self._path(f"{self.endpoint}-cert.pem", required=server)
        key = self._path(f"{self.endpoint}-key.pem", required=cert is not None)
        assert ca is not None
        if self.sanity_check:
            check_credentials(ca, cert, self.endpoint)
        context = self._new_context()
        _load_file("CA certificate list", ca, lambda: context.load_verify_locations(ca))
        if crl is not None:
            _load_file("CRL", crl, lambda: context.load_verify_locations(crl))
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
        if dh_params is not None:
            _load_file("DH parameters", dh_params, lambda: context.load_dh_params(os.fspath(dh_params)))
        if cert is not None and key is not None:
            name = f"{self.endpoint} certificate {cert} and key"
            _load_file(name, key, lambda: context.load_cert_chain(cert, key, _no_password(key)))
        # Whatever stands in ca-cert.pem is trusted, also an intermediate CA without its root.
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
        if server:
            context.verify_mode = ssl.CERT_REQUIRED if self.verify_peer else ssl.CERT_NONE
        return context


def _no_password(key: Path) -> Callable[[], str]:
    """Instead of OpenSSL's question for a password on the terminal."""

    def refuse() -> str:
        raise OptionError(f"Unable to load key {key}: it is encrypted")

    return refuse


def _load_file(what: str, path: Path, load: Callable[[], object]) -> None:
    """``load()``; raises OptionError naming the file instead of OpenSSL's error."""
    try:
        load()
    except ssl.SSLError as error:
        why = (error.reason or str(error)).replace("_", " ").lower()
        raise OptionError(f"Unable to load {what} {path}: {why}") from error
    except OSError as error:
        raise OptionError(f"Unable to load {what} {path}: {error.strerror}") from error
