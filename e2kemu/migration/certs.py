"""``e2kemu-certs``: make the directory of certificates that tls-creds-x509 wants, for e2kemu and for QEMU.

======================================  ===================================================================
ca-cert.pem, ca-key.pem                 a CA of one's own: CA:TRUE; keyCertSign, cRLSign
server-cert.pem, server-key.pem         names the hosts of ``--host``; purpose serverAuth
client-cert.pem, client-key.pem         purpose clientAuth
======================================  ===================================================================

Both leaves have digitalSignature and keyEncipherment, the latter because QEMU before 10.2 wants it whatever
the key. Keys are unencrypted PKCS #8, mode 0600. Who has ca-key.pem can make more certificates of that CA
(``--ca``); a machine needs ca-cert.pem and its own pair only.

``--psk USER`` makes a key for tls-creds-psk instead: it adds USER to keys.psk in the directory.

As a library: ``make_pki`` does what the command does; ``make_ca``, ``make_leaf`` and ``write_pair`` are its
parts, and `LeafShape` can also describe certificates that must not be accepted.
"""

from __future__ import annotations

import argparse
import datetime
import ipaddress
import os
import re
import secrets
import socket
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from e2kemu.errors import E2kError, OptionError

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

SIDES = ("server", "client")

PURPOSES = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}

DAYS = 3650
"""Default validity."""

CLOCK_SKEW = datetime.timedelta(days=1)
"""Certificates begin in the past: the machines' clocks may differ."""

RSA_BITS = 3072

PSK_BYTES = 32
"""A new key of keys.psk."""

MAX_PSK_USER = 128
"""Bytes that a user's name in keys.psk may have, for all TLS libraries."""


@dataclass(frozen=True)
class Issued:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: PrivateKey


@dataclass(frozen=True)
class Validity:
    """First and last moment of a certificate, UTC."""

    start: datetime.datetime
    end: datetime.datetime

    @classmethod
    def of_days(cls, days: int) -> Validity:
        """From now (less the clock skew) on. Raises OptionError when that is no date."""
        now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        try:
            return cls(now - CLOCK_SKEW, now + datetime.timedelta(days=days))
        except OverflowError as error:
            raise OptionError(f"{days} days from now is no date") from error


@dataclass(frozen=True)
class LeafShape:
    """What a leaf certificate says about itself; the default is a good one."""

    hosts: tuple[str, ...] = ()
    """Names and addresses in its subjectAltName."""
    purposes: tuple[str, ...] = SIDES
    """Keys of PURPOSES; none: no such extension."""
    is_ca: bool = False
    digital_signature: bool = True
    key_encipherment: bool = True
    validity: Validity = field(default_factory=lambda: Validity.of_days(DAYS))


def default_hosts() -> tuple[str, ...]:
    """This machine, as its users call it."""
    return tuple(dict.fromkeys(("localhost", "127.0.0.1", "::1", socket.gethostname())))


def new_key(*, use_rsa: bool = False) -> PrivateKey:
    if use_rsa:
        return rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    return ec.generate_private_key(ec.SECP256R1())


def general_name(host: str) -> x509.GeneralName:
    """``host`` as a certificate has it. Raises OptionError when it is neither an address nor a host name."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        name = host.encode("ascii").decode() if host.isascii() else host.encode("idna").decode()
    except UnicodeError as error:
        raise OptionError(f"'{host}' is not a host name or an IP address") from error
    if len(name) > 253 or not re.fullmatch(r"(\*\.)?[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*", name):
        raise OptionError(f"'{host}' is not a host name or an IP address")
    return x509.DNSName(name)


def _subject(common_name: str) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "e2kemu")]
    try:
        parts.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    except ValueError as error:
        raise OptionError(f"'{common_name}' cannot be a common name: 1 to 64 characters can") from error
    return x509.Name(parts)


def _usage(**bits: bool) -> x509.KeyUsage:
    names = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign "
        "crl_sign encipher_only decipher_only"
    )
    return x509.KeyUsage(**{name: bits.get(name, False) for name in names.split()})


def _builder(subject: x509.Name, key: PrivateKey, validity: Validity) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity.start)
        .not_valid_after(validity.end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def make_ca(
    name: str = "e2kemu CA",
    *,
    use_rsa: bool = False,
    validity: Validity | None = None,
    is_ca: bool = True,
    cert_sign: bool = True,
    parent: Issued | None = None,
) -> Issued:
    """A CA, signed by itself or by ``parent``. ``is_ca`` or ``cert_sign`` False: one not to be believed."""
    key = new_key(use_rsa=use_rsa)
    subject = _subject(name)
    builder = (
        _builder(subject, key, validity or Validity.of_days(DAYS))
        .issuer_name(parent.certificate.subject if parent else subject)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(
            _usage(key_cert_sign=cert_sign, crl_sign=True, digital_signature=not cert_sign), critical=True
        )
    )
    return Issued(builder.sign((parent.key if parent else key), hashes.SHA256()), key)


def make_leaf(ca: Issued, name: str, shape: LeafShape, *, use_rsa: bool = False) -> Issued:
    """A certificate for ``name`` (the common name), signed by ``ca``. Raises OptionError for bad names."""
    key = new_key(use_rsa=use_rsa)
    issuer_key = ca.key.public_key()
    builder = (
        _builder(_subject(name), key, shape.validity)
        .issuer_name(ca.certificate.subject)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
        .add_extension(x509.BasicConstraints(ca=shape.is_ca, path_length=None), critical=True)
        .add_extension(
            _usage(
                digital_signature=shape.digital_signature,
                key_encipherment=shape.key_encipherment,
                data_encipherment=not (shape.digital_signature or shape.key_encipherment),
            ),
            critical=True,
        )
    )
    if shape.purposes:
        purposes = x509.ExtendedKeyUsage([PURPOSES[purpose] for purpose in shape.purposes])
        builder = builder.add_extension(purposes, critical=False)
    if shape.hosts:
        names = x509.SubjectAlternativeName([general_name(host) for host in shape.hosts])
        builder = builder.add_extension(names, critical=False)
    return Issued(builder.sign(ca.key, hashes.SHA256()), key)


def make_crl(ca: Issued, revoked: Sequence[x509.Certificate], *, days: int = DAYS) -> bytes:
    """ca-crl.pem: the list of certificates that ``ca`` takes back."""
    validity = Validity.of_days(days)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ca.certificate.subject)
        .last_update(validity.start)
        .next_update(validity.end)
    )
    for certificate in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number)
        builder = builder.add_revoked_certificate(entry.revocation_date(validity.start).build())
    return builder.sign(ca.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def key_pem(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def write_pair(directory: Path, name: str, pair: Issued, *, with_key: bool = True) -> list[Path]:
    """Write ``name``-cert.pem and ``name``-key.pem, replacing what is there. Raises OptionError.

    Without the key an old key file goes as well, for it is not this certificate's.
    """
    written = []
    contents = [
        (f"{name}-cert.pem", pair.certificate.public_bytes(serialization.Encoding.PEM), 0o644),
        (f"{name}-key.pem", key_pem(pair.key) if with_key else None, 0o600),
    ]
    for file_name, data, mode in contents:
        path = directory / file_name
        try:
            path.unlink(missing_ok=True)  # a new file: an old one's mode or links must not leak the key
            if data is None:
                continue
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            with open(descriptor, "wb") as file:
                file.write(data)
        except OSError as error:
            raise OptionError(f"cannot write {path}: {error.strerror}") from error
        written.append(path)
    return written


def read_ca(directory: Path) -> Issued:
    """The CA in ``directory``, with its key. Raises OptionError."""
    cert_path, key_path = directory / "ca-cert.pem", directory / "ca-key.pem"
    try:
        certificate = x509.load_pem_x509_certificate(cert_path.read_bytes())
        key = serialization.load_pem_private_key(key_path.read_bytes(), password=None)
    except OSError as error:
        raise OptionError(f"cannot read the CA: {error.filename}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise OptionError(f"cannot use the CA in {directory}: {str(error).splitlines()[0]}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise OptionError(f"cannot use {key_path}: only RSA and elliptic curve keys can sign here")
    if key.public_key() != certificate.public_key():
        raise OptionError(f"{key_path} is not the key of {cert_path}")
    return Issued(certificate, key)


def make_pki(
    directory: str | os.PathLike[str],
    *,
    hosts: Sequence[str] | None = None,
    client_name: str | None = None,
    days: int = DAYS,
    use_rsa: bool = False,
    sides: Sequence[str] = SIDES,
    ca_from: str | os.PathLike[str] | None = None,
    force: bool = False,
) -> list[Path]:
    """Fill ``directory`` (made when missing) with a CA and a pair for each of ``sides``; the files written.

    ``hosts`` are the server's names (`default_hosts`), ``client_name`` the client's common name (this host's
    name). ``ca_from`` is a directory whose CA signs instead of a new one: its certificate is copied, its key
    is not. Raises OptionError; nothing is overwritten unless ``force``.
    """
    target = Path(directory)
    if days < 1:
        raise OptionError(f"{days} days is too short: a certificate must be valid for at least one")
    names = tuple(hosts) if hosts else default_hosts()
    for name in names:
        general_name(name)
    same_ca = ca_from is not None and target.exists() and Path(ca_from).resolve() == target.resolve()
    stems = ([] if same_ca else ["ca"]) + list(sides)
    paths = [target / f"{stem}-{kind}.pem" for stem in stems for kind in ("cert", "key")]
    taken = [path for path in paths if path.exists()]
    if taken and not force:
        raise OptionError(f"{taken[0]} exists; --force overwrites it")
    validity = Validity.of_days(days)
    ca = read_ca(Path(ca_from)) if ca_from is not None else make_ca(use_rsa=use_rsa, validity=validity)
    server_name = names[0] if len(names[0]) <= 64 else "server"  # the common name is only for people
    client_name = client_name or socket.gethostname()[:64]
    shapes = {
        "server": (server_name, LeafShape(names, ("server",), validity=validity)),
        "client": (client_name, LeafShape((), ("client",), validity=validity)),
    }
    leaves = {side: make_leaf(ca, *shapes[side], use_rsa=use_rsa) for side in sides}
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"cannot make the directory {target}: {error.strerror}") from error
    written = [] if same_ca else write_pair(target, "ca", ca, with_key=ca_from is None)
    for side, pair in leaves.items():
        written += write_pair(target, side, pair)
    return written


def make_psk(directory: str | os.PathLike[str], user: str, *, force: bool = False) -> Path:
    """Add ``user`` with a new key of 32 bytes to keys.psk in ``directory`` (made when missing); its path.

    Raises OptionError; a user who is there gets another key only with ``force``.
    """
    path = Path(directory) / "keys.psk"
    if not user or len(user.encode()) > MAX_PSK_USER or not user.isprintable() or ":" in user or user[0] == "#":
        raise OptionError(
            f"'{user}' cannot be a user of keys.psk: 1 to {MAX_PSK_USER} bytes can, without ':', not '#...'"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text().splitlines() if path.exists() else []
        others = [line for line in lines if line.rpartition(":")[0].strip() != user]
        if len(others) < len(lines) and not force:
            raise OptionError(f"{path} has a key of {user}; --force makes another one")
        others.append(f"{user}:{secrets.token_hex(PSK_BYTES)}")
        # A new file takes the old one's place at once: a crash must not lose the other users.
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".keys.psk-")
        with open(descriptor, "w") as file:
            file.writelines(f"{line}\n" for line in others)
        os.replace(temporary, path)
    except UnicodeDecodeError as error:
        raise OptionError(f"cannot read {path}: it is not a text") from error
    except OSError as error:
        raise OptionError(f"cannot write {path}: {error.strerror}") from error
    return path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="e2kemu-certs",
        description="Make a CA and the certificates for -object tls-creds-x509,dir=DIR of e2kemu and QEMU, or a key "
        "for tls-creds-psk.",
    )
    parser.add_argument("directory", metavar="DIR", help="where to put the files; made when missing")
    parser.add_argument(
        "--host",
        action="append",
        metavar="NAME",
        help="a name or address of the server, as the source will call it; may be repeated "
        "(default: localhost, 127.0.0.1, ::1 and this host's name)",
    )
    parser.add_argument(
        "--client-name", metavar="NAME", help="the client's common name (default: this host's name)"
    )
    parser.add_argument("--days", type=int, default=DAYS, metavar="N", help="validity (default: %(default)s)")
    parser.add_argument("--rsa", action="store_true", help=f"RSA keys of {RSA_BITS} bits instead of EC P-256")
    parser.add_argument("--only", choices=SIDES, help="make one side's certificate only")
    parser.add_argument("--ca", metavar="DIR", help="sign with the CA in DIR instead of making a new one")
    parser.add_argument("--psk", metavar="USER", help="no certificates: make a key of USER, in DIR/keys.psk")
    parser.add_argument("--force", action="store_true", help="overwrite what is there")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    options = _parser().parse_args(argv)
    try:
        if options.psk is not None:
            print(make_psk(options.directory, options.psk, force=options.force))
            return 0
        written = make_pki(
            options.directory,
            hosts=options.host,
            client_name=options.client_name,
            days=options.days,
            use_rsa=options.rsa,
            sides=(options.only,) if options.only else SIDES,
            ca_from=options.ca,
            force=options.force,
        )
    except E2kError as error:
        print(f"e2kemu-certs: {error}", file=sys.stderr)
        return 1
    for path in written:
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
