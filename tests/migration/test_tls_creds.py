"""tls-creds-x509: properties, files, and the sanity check with the sentences that a user of QEMU knows."""

from __future__ import annotations

import datetime
import shutil
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

import e2kemu.migration.tls_creds as tls_creds
from e2kemu.errors import OptionError
from e2kemu.migration.certs import (
    SIDES,
    Issued,
    LeafShape,
    Validity,
    make_ca,
    make_crl,
    make_leaf,
    make_pki,
    write_pair,
)
from e2kemu.migration.tls_priority import parse_priority
from e2kemu.objects import ObjectStore, user_object

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)
EXPIRED = Validity(NOW - 3 * DAY, NOW - DAY)
FUTURE = Validity(NOW + DAY, NOW + 3 * DAY)


def make(directory: Path, **properties: str) -> tls_creds.TlsCreds:
    given = {key.replace("_", "-"): value for key, value in properties.items()}
    created = ObjectStore().add("tls-creds-x509", "tls0", {"dir": str(directory), **given})
    assert isinstance(created, tls_creds.TlsCreds)
    return created


def fill(
    directory: Path, ca: Issued, *, shape: LeafShape | None = None, signer: Issued | None = None
) -> Path:
    """A directory with ``ca`` and leaves of ``shape`` signed by ``signer``."""
    directory.mkdir(exist_ok=True)
    write_pair(directory, "ca", ca)
    for side in SIDES:
        write_pair(directory, side, make_leaf(signer or ca, "leaf", shape or LeafShape()))
    return directory


@pytest.fixture(scope="module")
def ca() -> Issued:
    return make_ca()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pki")
    make_pki(directory)
    return directory


def test_good_directory_gives_both_endpoints(good: Path) -> None:
    server, client = make(good, endpoint="server"), make(good)
    assert server.endpoint == "server"
    assert client.endpoint == "client"
    assert server.make_context("server").verify_mode == ssl.CERT_REQUIRED
    context = make(good, endpoint="server", verify_peer="off").make_context("server")
    assert context.verify_mode == ssl.CERT_NONE
    context = make(good, verify_peer="off").make_context("client")
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_rsa_directory_is_good(tmp_path: Path) -> None:
    make_pki(tmp_path, use_rsa=True)
    for endpoint in SIDES:
        make(tmp_path, endpoint=endpoint)


def test_client_needs_no_certificate_but_all_of_one(good: Path, tmp_path: Path) -> None:
    shutil.copy(good / "ca-cert.pem", tmp_path)
    make(tmp_path)
    shutil.copy(good / "client-cert.pem", tmp_path)
    expected = f"^Unable to access credentials {tmp_path}/client-key.pem: No such file"
    with pytest.raises(OptionError, match=expected):
        make(tmp_path)


@pytest.mark.parametrize(
    ("endpoint", "name"),
    [
        ("server", "ca-cert.pem"),
        ("client", "ca-cert.pem"),
        ("server", "server-cert.pem"),
        ("server", "server-key.pem"),
    ],
)
def test_missing_file_is_named(endpoint: str, name: str, good: Path, tmp_path: Path) -> None:
    shutil.copytree(good, tmp_path / "pki")
    (tmp_path / "pki" / name).unlink()
    expected = f"^Unable to access credentials {tmp_path}/pki/{name}: No such file or directory$"
    with pytest.raises(OptionError, match=expected):
        make(tmp_path / "pki", endpoint=endpoint)


def test_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"^Unable to access credentials /nowhere/ca-cert.pem: No such"):
        make(Path("/nowhere"))
    with pytest.raises(OptionError, match=r"^Missing 'dir' property value$"):
        make(Path("."), dir="")


BAD_PROPERTIES = [
    ({"color": "red"}, "Invalid parameter 'color'"),
    ({"endpoint": "both"}, "Parameter 'endpoint' does not accept value 'both'"),
    ({"verify-peer": "maybe"}, "Parameter 'verify-peer' expects 'on' or 'off'"),
    ({"sanity-check": "1"}, "Parameter 'sanity-check' expects 'on' or 'off'"),
    ({"passwordid": "sec0"}, "No secret with id 'sec0'"),
    ({"priority": "NORMAL:+ANON-DH"}, "'+ANON-DH' is not available"),
]


@pytest.mark.parametrize(("properties", "message"), BAD_PROPERTIES)
def test_wrong_property_is_named(properties: dict[str, str], message: str, good: Path) -> None:
    with pytest.raises(OptionError) as caught:
        make(good, **properties)
    assert message in str(caught.value)


def pki_makers(ca: Issued) -> dict[str, tuple[Callable[[Path], Path], str]]:
    """Bad directories: what makes one, and the sentence it must be refused with ({} is the directory)."""
    other = make_ca()
    not_ca, no_sign = make_ca(is_ca=False), make_ca(cert_sign=False)
    old_ca, new_ca = make_ca(validity=EXPIRED), make_ca(validity=FUTURE)
    leaf = "{0}/server-cert.pem"
    return {
        "expired": (
            lambda d: fill(d, ca, shape=LeafShape(validity=EXPIRED)),
            f"The server certificate {leaf} has expired",
        ),
        "future": (
            lambda d: fill(d, ca, shape=LeafShape(validity=FUTURE)),
            f"The server certificate {leaf} is not yet active",
        ),
        "ca as leaf": (
            lambda d: fill(d, ca, shape=LeafShape(is_ca=True)),
            f"The certificate {leaf} basic constraints show a CA, but we need one for a server",
        ),
        "client's": (
            lambda d: fill(d, ca, shape=LeafShape(purposes=("client",))),
            f"Certificate {leaf} purpose does not allow use with a TLS server",
        ),
        "no signature": (
            lambda d: fill(d, ca, shape=LeafShape(digital_signature=False)),
            f"Certificate {leaf} usage does not permit digital signature",
        ),
        "wrong CA": (
            lambda d: fill(d, ca, signer=other),
            f"Our own certificate {leaf} failed validation against {{0}}/ca-cert.pem: "
            "The certificate hasn't got a known issuer",
        ),
        "no CA": (
            lambda d: fill(d, not_ca),
            "The certificate {0}/ca-cert.pem basic constraints do not show a CA",
        ),
        "CA that may not sign": (
            lambda d: fill(d, no_sign),
            "Certificate {0}/ca-cert.pem usage does not permit certificate signing",
        ),
        "expired CA": (lambda d: fill(d, old_ca), "The CA certificate {0}/ca-cert.pem has expired"),
        "future CA": (lambda d: fill(d, new_ca), "The CA certificate {0}/ca-cert.pem is not yet active"),
    }


def test_sanity_check_refuses_bad_certificates_and_can_be_off(ca: Issued, tmp_path: Path) -> None:
    makers = pki_makers(ca)
    assert len(makers) >= 10
    for number, (name, (maker, sentence)) in enumerate(makers.items()):
        directory = maker(tmp_path / str(number))
        with pytest.raises(OptionError) as caught:
            make(directory, endpoint="server")
        assert str(caught.value) == sentence.format(directory), name
        make(directory, endpoint="server", sanity_check="off")


def test_sanity_check_of_a_client_without_certificate_looks_at_the_ca(tmp_path: Path) -> None:
    write_pair(tmp_path, "ca", make_ca(is_ca=False))
    with pytest.raises(OptionError, match="basic constraints do not show a CA"):
        make(tmp_path)


def test_rsa_leaf_needs_key_encipherment_and_an_elliptic_one_does_not(ca: Issued, tmp_path: Path) -> None:
    shape = LeafShape(key_encipherment=False)
    make(fill(tmp_path / "ec", ca, shape=shape))
    directory = fill(tmp_path / "rsa", ca)
    write_pair(directory, "server", make_leaf(ca, "leaf", shape, use_rsa=True))
    with pytest.raises(OptionError, match=r"server-cert.pem usage does not permit key encipherment$"):
        make(directory, endpoint="server")


def test_intermediate_ca_in_the_leaf_file_leads_to_the_root(ca: Issued, tmp_path: Path) -> None:
    middle = make_ca("middle", parent=ca)
    directory = fill(tmp_path / "pki", ca, signer=middle)
    with pytest.raises(OptionError, match="hasn't got a known issuer"):
        make(directory)
    write_pair(tmp_path, "middle", middle)
    with (directory / "client-cert.pem").open("ab") as file:
        file.write((tmp_path / "middle-cert.pem").read_bytes())
    make(directory)


def test_unusable_files_are_named(good: Path, tmp_path: Path) -> None:
    def broken(name: str, content: bytes) -> OptionError:
        shutil.copytree(good, tmp_path / name)
        (tmp_path / name / name).write_bytes(content)
        with pytest.raises(OptionError) as caught:
            make(tmp_path / name, endpoint="server", sanity_check="off")
        assert "\n" not in str(caught.value)
        assert f"{tmp_path}/{name}/{name}" in str(caught.value)
        shutil.rmtree(tmp_path / name)
        return caught.value

    assert "Unable to load CA certificate list" in str(broken("ca-cert.pem", b"garbage"))
    assert "Unable to load server certificate" in str(broken("server-cert.pem", b"garbage"))
    assert "Unable to load CRL" in str(broken("ca-crl.pem", b"garbage"))
    assert "Unable to load DH parameters" in str(broken("dh-params.pem", b"garbage"))
    other = (good / "client-key.pem").read_bytes()
    assert "key values mismatch" in str(broken("server-key.pem", other))
    shutil.copytree(good, tmp_path / "pki")
    (tmp_path / "pki" / "ca-cert.pem").write_bytes(b"garbage")
    with pytest.raises(OptionError, match=r"Unable to import CA certificate list .*ca-cert.pem: not a PEM"):
        make(tmp_path / "pki")


def test_encrypted_key_is_refused_without_asking_for_a_password(good: Path, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    shutil.copytree(good, tmp_path / "pki")
    path = tmp_path / "pki" / "server-key.pem"
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(OptionError, match=r"server-key.pem: it is encrypted$"):
        make(tmp_path / "pki", endpoint="server")


def test_crl_file_switches_revocation_checks_on(ca: Issued, tmp_path: Path) -> None:
    directory = fill(tmp_path / "pki", ca)
    flag = ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    assert not make(directory).make_context("client").verify_flags & flag
    (directory / "ca-crl.pem").write_bytes(make_crl(ca, []))
    assert make(directory).make_context("client").verify_flags & flag


def test_parameter_names_credentials_of_the_right_endpoint(good: Path) -> None:
    @user_object("test-no-creds")
    class NoCreds:
        PROPERTIES = ()

        def __init__(self, ident: str, properties: object, store: ObjectStore) -> None:
            self.id = ident

        def unload(self) -> None:
            pass

    store = ObjectStore()
    created = store.add("tls-creds-x509", "tls0", {"dir": str(good), "endpoint": "server"})
    store.add("test-no-creds", "other", {})
    assert tls_creds.find_creds(store, "tls0", "server") is created
    with pytest.raises(OptionError, match=r"^Expected TLS credentials for a client endpoint$"):
        tls_creds.find_creds(store, "tls0", "client")
    with pytest.raises(OptionError, match=r"^No TLS credentials with id 'nope'$"):
        tls_creds.find_creds(store, "nope", "client")
    with pytest.raises(OptionError, match=r"^Object with id 'other' is not TLS credentials$"):
        tls_creds.find_creds(store, "other", "client")
    store.delete("tls0")


V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3

PRIORITIES = {
    "NORMAL": (0, {V12, V13}),
    "@SYSTEM": (0, {V12, V13}),
    "SECURE128": (128, {V12, V13}),
    "SECURE192:-VERS-TLS1.3": (256, {V12}),
    "SECURE256": (256, {V12, V13}),
    "NORMAL:-VERS-TLS-ALL:+VERS-TLS1.2": (0, {V12}),
    "NORMAL:-VERS-ALL:+VERS-TLS1.3": (0, {V13}),
    "NORMAL:-VERS-TLS1.0:!VERS-TLS1.1:-VERS-TLS1.2": (0, {V13}),
}

BAD_PRIORITIES = {
    "": "''",
    "FAST": "'FAST' is not one of NORMAL",
    "NORMAL:+VERS-TLS1.0": "'+VERS-TLS1.0' is not available",
    "NORMAL:-VERS-TLS9": "'-VERS-TLS9' is no protocol version",
    "NORMAL:-VERS-ALL": "leaves no protocol version",
    "NORMAL:-AES-128-GCM": "'-AES-128-GCM' is not available",
    "NORMAL:%SERVER_PRECEDENCE": "'%SERVER_PRECEDENCE' is not available",
}


@pytest.mark.parametrize(("text", "meaning"), PRIORITIES.items())
def test_priority_gives_versions_and_strength(text: str, meaning: tuple[int, set[ssl.TLSVersion]]) -> None:
    priority = parse_priority(text)
    assert (priority.minimum_bits, priority.versions) == meaning
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    priority.apply(context)
    for cipher in context.get_ciphers():
        assert int(cipher["strength_bits"]) >= priority.minimum_bits or cipher["protocol"] == "TLSv1.3"


@pytest.mark.parametrize(("text", "message"), BAD_PRIORITIES.items())
def test_priority_that_cannot_be_had_names_the_part(text: str, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_priority(text)
    assert str(caught.value).startswith(f"Unable to set TLS session priority {text}: ")
    assert message in str(caught.value)
