"""``tls-creds-anon``: secrecy without knowing the peer, and therefore only from those who merely listen.

Properties are those common to all (`tls_creds`): endpoint, dir, verify-peer (without meaning here), priority.
``dir`` may be left out; a server takes dh-params.pem from it, or else uses the group ffdhe3072.

Anonymous Diffie-Hellman exists up to TLS 1.2. OpenSSL has it behind ``@SECLEVEL=0`` only, because whoever
stands between the two ends can read and change everything; nobody should take it for more than it is.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping

from e2kemu.errors import OptionError
from e2kemu.migration.tls_creds import FFDHE3072, TlsCreds
from e2kemu.objects import ObjectStore, user_object

_CIPHERS = "ADH-AES256-GCM-SHA384:ADH-AES128-GCM-SHA256"
_CIPHERS_256 = "ADH-AES256-GCM-SHA384"


@user_object("tls-creds-anon")
class AnonCreds(TlsCreds):
    """Nobody's credentials."""

    KEY_EXCHANGES = ("+ANON-DH",)

    def __init__(self, ident: str, properties: Mapping[str, str], store: ObjectStore | None = None) -> None:
        """Raises OptionError: wrong property, unusable dh-params.pem."""
        super().__init__(ident, properties)
        if ssl.TLSVersion.TLSv1_2 not in self.priority.versions:
            raise OptionError(
                f"Unable to set TLS session priority {properties['priority']}: anonymous sessions need TLS 1.2"
            )
        self._context = self._load()

    def make_context(self, side: str) -> ssl.SSLContext:
        self.check_endpoint(side)
        return self._context

    def _load(self) -> ssl.SSLContext:
        context = self._new_context()
        if self.endpoint == "server":
            self._load_dh_params(context, FFDHE3072)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # there is none: the ciphers are all anonymous
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(f"{_CIPHERS_256 if self.priority.minimum_bits > 128 else _CIPHERS}:@SECLEVEL=0")
        return context
