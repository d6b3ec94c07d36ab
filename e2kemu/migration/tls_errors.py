"""What OpenSSL and alerts say, in the words of GnuTLS and QEMU; how a session tells that it is over."""

from __future__ import annotations

import re
import ssl

CUT = "The TLS connection was non-properly terminated."
"""The transport ended without close_notify."""

_UNKNOWN_ISSUER = "The certificate hasn't got a known issuer"
_INSECURE = "The certificate uses an insecure algorithm"

_VERIFY = {
    # X509_V_ERR_* (OpenSSL, x509_vfy.h)
    2: _UNKNOWN_ISSUER,
    3: "The certificate cannot be checked: ca-crl.pem has no list of its issuer",
    7: _UNKNOWN_ISSUER,  # the issuer's name is known, its key is another one
    9: "The certificate is not yet activated",
    10: "The certificate has expired",
    11: "The certificate cannot be checked: the list in ca-crl.pem is not yet valid",
    12: "The certificate cannot be checked: the list in ca-crl.pem has expired",
    18: _UNKNOWN_ISSUER,
    19: _UNKNOWN_ISSUER,
    20: _UNKNOWN_ISSUER,
    21: _UNKNOWN_ISSUER,
    23: "The certificate has been revoked",
    26: "The certificate's purpose does not allow this use",
    66: _INSECURE,
    67: _INSECURE,
    68: _INSECURE,
}

_HOSTNAME_MISMATCH = {62, 64}

_REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "No certificate was found.",
    "WRONG_VERSION_NUMBER": "An unexpected TLS packet was received.",
    "HTTP_REQUEST": "An unexpected TLS packet was received.",
    "UNKNOWN_PROTOCOL": "An unexpected TLS packet was received.",
    "PACKET_LENGTH_TOO_LONG": "A TLS record packet with invalid length was received.",
    "RECORD_LAYER_FAILURE": "Decryption has failed.",
    "DECRYPTION_FAILED_OR_BAD_RECORD_MAC": "Decryption has failed.",
    "NO_SHARED_CIPHER": "Could not negotiate a supported cipher suite.",
    "UNSUPPORTED_PROTOCOL": "A packet with illegal or unsupported version was received.",
    "NO_PROTOCOLS_AVAILABLE": "No supported protocol version is left by the priority string.",
    "UNEXPECTED_EOF_WHILE_READING": CUT,
}

_ALERTS = {
    "UNKNOWN_CA": "CA is unknown",
    "BAD_CERTIFICATE": "Certificate is bad",
    "UNSUPPORTED_CERTIFICATE": "Certificate is not supported",
    "CERTIFICATE_REVOKED": "Certificate was revoked",
    "CERTIFICATE_EXPIRED": "Certificate is expired",
    "CERTIFICATE_UNKNOWN": "Unknown certificate",
    "CERTIFICATE_REQUIRED": "Certificate is required",
    "HANDSHAKE_FAILURE": "Handshake failed",
    "PROTOCOL_VERSION": "Error in protocol version",
    "INSUFFICIENT_SECURITY": "Insufficient security",
    "ACCESS_DENIED": "Access was denied",
    "DECRYPT_ERROR": "Decrypt error",
    "INTERNAL_ERROR": "Internal error",
    "UNKNOWN_PSK_IDENTITY": "The SRP/PSK username is missing or not known",
    "UNRECOGNIZED_NAME": "The server name sent was not recognized",
}

ALERT_NAMES = {
    # RFC 8446, section 6; RFC 5246, section 7.2
    10: "UNEXPECTED_MESSAGE",
    20: "BAD_RECORD_MAC",
    22: "RECORD_OVERFLOW",
    40: "HANDSHAKE_FAILURE",
    42: "BAD_CERTIFICATE",
    43: "UNSUPPORTED_CERTIFICATE",
    44: "CERTIFICATE_REVOKED",
    45: "CERTIFICATE_EXPIRED",
    46: "CERTIFICATE_UNKNOWN",
    47: "ILLEGAL_PARAMETER",
    48: "UNKNOWN_CA",
    49: "ACCESS_DENIED",
    50: "DECODE_ERROR",
    51: "DECRYPT_ERROR",
    70: "PROTOCOL_VERSION",
    71: "INSUFFICIENT_SECURITY",
    80: "INTERNAL_ERROR",
    86: "INAPPROPRIATE_FALLBACK",
    109: "MISSING_EXTENSION",
    110: "UNSUPPORTED_EXTENSION",
    112: "UNRECOGNIZED_NAME",
    113: "BAD_CERTIFICATE_STATUS_RESPONSE",
    115: "UNKNOWN_PSK_IDENTITY",
    116: "CERTIFICATE_REQUIRED",
    120: "NO_APPLICATION_PROTOCOL",
}
"""Fatal alerts by their descriptions, as OpenSSL calls them."""

ALERT_CODES = {name: code for code, name in ALERT_NAMES.items()}


class EndOfSession(Exception):
    """The peer has sent close_notify: nothing comes any more."""


class SessionFault(Exception):
    """What ended a session, as a sentence. ``alert``: the peer has said it."""

    def __init__(self, text: str, *, alert: bool = False) -> None:
        super().__init__(text)
        self.alert = alert


def alert_sentence(name: str) -> str:
    """That the peer has sent the alert ``name``."""
    text = _ALERTS.get(name, name.replace("_", " ").capitalize())
    return f"A TLS fatal alert has been received: {text}"


def fault_sentence(reason: str) -> str:
    """What OpenSSL calls ``reason``."""
    return _REASONS.get(reason) or reason.replace("_", " ").lower()


def reason_of(error: ssl.SSLError) -> str:
    """OpenSSL's name of what happened; "" when it has none. Python does not know all of them."""
    if error.reason:
        return str(error.reason)
    match = re.match(r"\[SSL\] (.+?) \(_ssl\.c", error.strerror or "")
    return match[1].upper().replace(" ", "_") if match else ""


def alert_of(error: ssl.SSLError) -> str:
    """The alert of the peer that ``error`` is, "" if it is none: OpenSSL says TLSV1_ALERT_UNKNOWN_CA or such."""
    return reason_of(error).partition("_ALERT_")[2]


def describe_alert(error: ssl.SSLError) -> str | None:
    """The alert of the peer that ``error`` is, as a sentence; None: it is no alert."""
    alert = alert_of(error)
    return alert_sentence(alert) if alert else None


def describe_error(error: ssl.SSLError, hostname: str | None, *, handshake: bool = False) -> str:
    """One line for ``error``. A judgement on the peer's certificate stands alone, as QEMU gives it; other
    troubles of a handshake begin with "TLS handshake failed: "."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _HOSTNAME_MISMATCH:
            return f"Certificate does not match the hostname {hostname}"
        return _VERIFY.get(error.verify_code, f"The certificate is not trusted: {error.verify_message}")
    text = describe_alert(error) or fault_sentence(reason_of(error)) or str(error)
    return f"TLS handshake failed: {text}" if handshake else text
