"""GnuTLS priority strings ("SECURE256:-VERS-TLS1.3"), as far as OpenSSL, by Python's ssl, can express them.

A keyword chooses the ciphers, modifiers after it choose the protocol versions:

=====================================  ====================================================================
NORMAL, PERFORMANCE, PFS, @SYSTEM      OpenSSL's default ciphers (all of them with forward secrecy)
SECURE128                              ciphers of at least 128 bits, authenticated encryption only
SECURE192, SECURE256                   ciphers of 256 bits only
-VERS-ALL, -VERS-TLS-ALL, +VERS-...    no version; all versions
-VERS-TLS1.2, +VERS-TLS1.3, ...        one version
=====================================  ====================================================================

TLS 1.3's suites cannot be chosen through Python's ssl: SECURE192 and SECURE256 are therefore also checked
when the session stands (``minimum_bits``). Removing TLS 1.0, 1.1 or SSL 3.0 changes nothing, for they are
never offered; adding them is refused, and so is all else: a priority half obeyed would be a false promise.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Collection
from dataclasses import dataclass

from e2kemu.errors import OptionError

_AEAD = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20:!aNULL"
_AEAD_256 = "ECDHE+AES256:ECDHE+CHACHA20:DHE+AES256:DHE+CHACHA20:!aNULL:!SHA1:!SHA256:!SHA384"

_KEYWORDS: dict[str, tuple[str | None, int]] = {
    # cipher list of TLS 1.2 (None: OpenSSL's own), least secret bits
    "NORMAL": (None, 0),
    "PERFORMANCE": (None, 0),
    "PFS": (None, 0),
    "@SYSTEM": (None, 0),
    "SECURE128": (_AEAD, 128),
    "SECURE192": (_AEAD_256, 256),
    "SECURE256": (_AEAD_256, 256),
}

_VERSIONS = {"TLS1.2": ssl.TLSVersion.TLSv1_2, "TLS1.3": ssl.TLSVersion.TLSv1_3}

_NEVER_OFFERED = {"TLS1.1", "TLS1.0", "SSL3.0", "DTLS1.2", "DTLS1.0", "DTLS0.9", "DTLS-ALL"}


@dataclass(frozen=True)
class Priority:
    """What a priority string asks for."""

    ciphers: str | None
    """OpenSSL cipher list for TLS 1.2; None: its default."""
    minimum_bits: int
    """Least secret bits of the cipher of a session."""
    versions: frozenset[ssl.TLSVersion]

    def apply(self, context: ssl.SSLContext) -> None:
        """Set ciphers and versions of ``context``."""
        if self.ciphers is not None:
            context.set_ciphers(self.ciphers)
        context.minimum_version = min(self.versions)
        context.maximum_version = max(self.versions)


def parse_priority(text: str, key_exchanges: Collection[str] = ()) -> Priority:
    """Raises OptionError that names the part which cannot be had.

    ``key_exchanges`` are modifiers ("+PSK") that say what the kind of credentials says already.
    """

    def refuse(part: str, why: str) -> OptionError:
        return OptionError(f"Unable to set TLS session priority {text}: '{part}' {why}")

    keyword, *modifiers = text.split(":")
    if keyword not in _KEYWORDS:
        raise refuse(keyword, f"is not one of {', '.join(_KEYWORDS)}")
    ciphers, bits = _KEYWORDS[keyword]
    versions = set(_VERSIONS.values())
    for modifier in modifiers:
        if modifier in key_exchanges:
            continue
        match = re.fullmatch(r"([-+!])VERS-(.+)", modifier)
        if match is None:
            raise refuse(modifier, "is not available: only VERS- can be added or removed")
        add, name = match[1] == "+", match[2]
        if name in ("ALL", "TLS-ALL"):
            versions = set(_VERSIONS.values()) if add else set()
        elif name in _VERSIONS:
            (versions.add if add else versions.discard)(_VERSIONS[name])
        elif name not in _NEVER_OFFERED:
            raise refuse(modifier, "is no protocol version")
        elif add:
            raise refuse(modifier, "is not available: TLS 1.2 and 1.3 are")
    if not versions:
        raise refuse(text, "leaves no protocol version")
    return Priority(ciphers, bits, frozenset(versions))
