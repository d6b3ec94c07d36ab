"""The sanity check of tls-creds-x509: find out at once which certificate cannot work, and say why.

Better here, with the file's name, than in a handshake where each side only sees that the other one hung up.
What is looked at: dates, basic constraints, key usage and purpose of our own certificate; the chain from it
to ca-cert.pem; dates, basic constraints and key usage of each CA in that chain (of all of them when we have
no certificate). A certificate without the key usage or purpose extension may be used for everything.
"""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from e2kemu.errors import OptionError

_PURPOSES = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}


def check_credentials(ca_path: Path, cert_path: Path | None, side: str) -> None:
    """``side``'s certificate (intermediates may follow in its file) and the CAs. Raises OptionError."""
    cas = _load(ca_path, "CA certificate list")
    if cert_path is None:
        for ca in cas:
            _check_ca(ca, ca_path)
        return
    own = _load(cert_path, f"{side} certificate")
    _check_leaf(own[0], cert_path, side)
    chain = _chain(own[0], own[1:], cas)
    for issuer in chain or ():
        _check_ca(issuer, ca_path if issuer in cas else cert_path)
    if chain is None:
        raise OptionError(
            f"Our own certificate {cert_path} failed validation against {ca_path}: "
            "The certificate hasn't got a known issuer"
        )


def _load(path: Path, what: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise OptionError(f"Unable to access credentials {path}: {error.strerror}") from error
    except ValueError as error:
        raise OptionError(f"Unable to import {what} {path}: not a PEM certificate") from error


def _check_dates(certificate: x509.Certificate, name: str) -> None:
    now = datetime.datetime.now(datetime.UTC)
    if now > certificate.not_valid_after_utc:
        raise OptionError(f"The {name} has expired")
    if now < certificate.not_valid_before_utc:
        raise OptionError(f"The {name} is not yet active")


def _is_ca(certificate: x509.Certificate, path: Path) -> bool | None:
    """What basic constraints say; None: the extension is not there."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return None
    except ValueError as error:
        raise OptionError(f"Unable to query certificate {path} basic constraints: {error}") from error


def _key_usage(certificate: x509.Certificate) -> x509.KeyUsage | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return None


def _check_ca(ca: x509.Certificate, path: Path) -> None:
    _check_dates(ca, f"CA certificate {path}")
    is_ca = _is_ca(ca, path)
    if is_ca is None:
        raise OptionError(f"The certificate {path} is missing basic constraints for a CA")
    if not is_ca:
        raise OptionError(f"The certificate {path} basic constraints do not show a CA")
    usage = _key_usage(ca)
    if usage is not None and not usage.key_cert_sign:
        raise OptionError(f"Certificate {path} usage does not permit certificate signing")


def _check_leaf(leaf: x509.Certificate, path: Path, side: str) -> None:
    _check_dates(leaf, f"{side} certificate {path}")
    if _is_ca(leaf, path):
        raise OptionError(
            f"The certificate {path} basic constraints show a CA, but we need one for a {side}"
        )
    usage = _key_usage(leaf)
    if usage is not None:
        if not usage.digital_signature:
            raise OptionError(f"Certificate {path} usage does not permit digital signature")
        # Only an RSA key can decipher another key; QEMU before 10.2 wanted it of elliptic curves as well.
        if isinstance(leaf.public_key(), rsa.RSAPublicKey) and not usage.key_encipherment:
            raise OptionError(f"Certificate {path} usage does not permit key encipherment")
    try:
        extension = leaf.extensions.get_extension_for_oid(ExtensionOID.EXTENDED_KEY_USAGE)
    except x509.ExtensionNotFound:
        return
    purposes = extension.value
    assert isinstance(purposes, x509.ExtendedKeyUsage)
    if not {_PURPOSES[side], ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(purposes):
        raise OptionError(f"Certificate {path} purpose does not allow use with a TLS {side}")


def _chain(
    leaf: x509.Certificate, intermediates: list[x509.Certificate], cas: list[x509.Certificate]
) -> list[x509.Certificate] | None:
    """The issuers of ``leaf`` up to one of ``cas``; None when they do not lead there."""
    chain: list[x509.Certificate] = []
    current = leaf
    while True:
        for candidate in [*cas, *intermediates]:
            if candidate not in chain and candidate != leaf and _issued(candidate, current):
                chain.append(candidate)
                current = candidate
                break
        else:
            return None
        if current in cas:
            return chain


def _issued(issuer: x509.Certificate, subject: x509.Certificate) -> bool:
    try:
        subject.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
