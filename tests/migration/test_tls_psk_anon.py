"""tls-creds-psk and tls-creds-anon: handshakes of all kinds with all kinds, in both versions of TLS; tls-authz."""

from __future__ import annotations

import base64
import ctypes
import shutil
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from e2kemu.errors import OptionError, TlsError
from e2kemu.migration import tls_psk_shim
from e2kemu.migration.certs import main, make_psk
from e2kemu.migration.options import MigrationParameters
from e2kemu.migration.tls import wrap_client
from e2kemu.migration.tls_creds import FFDHE3072, TlsCreds, X509Creds
from e2kemu.migration.tls_creds_anon import AnonCreds
from e2kemu.migration.tls_creds_psk import PskCreds, read_keys
from e2kemu.migration.tls_dn import _elements
from e2kemu.migration.transport import credentials
from e2kemu.objects import ObjectStore
from tests.migration.test_channel import connected, duplex_stress, fds_unchanged
from tests.migration.test_tls import ALERT, VERSIONS, Outcome, attempt, secured, socket_pair

__all__ = ["fds_unchanged"]

NEGOTIATE = "TLS handshake failed: Could not negotiate a supported cipher suite."
HINT = " (the server may have another key of PSK user '{}', or none)"


@pytest.fixture(scope="module")
def keys(pki: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates and the key of qemu."""
    directory = tmp_path_factory.mktemp("keys")
    shutil.copytree(pki, directory, dirs_exist_ok=True)
    make_psk(directory, "qemu")
    return directory


@pytest.fixture(scope="module")
def others(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another key of qemu, and bob."""
    directory = tmp_path_factory.mktemp("others")
    make_psk(directory, "qemu")
    make_psk(directory, "bob")
    return directory


def named(properties: dict[str, str]) -> dict[str, str]:
    return {key.replace("_", "-"): value for key, value in properties.items()}


def psk(directory: Path, endpoint: str, **properties: str) -> PskCreds:
    return PskCreds("psk0", {"dir": str(directory), "endpoint": endpoint, **named(properties)})


def anon(endpoint: str, **properties: str) -> AnonCreds:
    return AnonCreds("anon0", {"endpoint": endpoint, **named(properties)})


def certified(directory: Path, endpoint: str, **properties: str) -> X509Creds:
    return X509Creds("x509", {"dir": str(directory), "endpoint": endpoint, **named(properties)})


# -- what works


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.usefixtures("fds_unchanged")
def test_same_key_carries_bytes_both_ways(version: str, keys: Path) -> None:
    source, destination = secured(
        connected("tcp:127.0.0.1:0"),
        psk(keys, "client", priority=VERSIONS[version]),
        psk(keys, "server"),
    )
    assert f"over {version} (" in source.describe()
    assert ("PSK" in source.cipher[0]) == (version == "TLSv1.2")
    duplex_stress(source, destination, seed=5)


@pytest.mark.usefixtures("fds_unchanged")
def test_nobody_in_particular_carries_bytes_both_ways() -> None:
    channels = connected("tcp:127.0.0.1:0")
    source, destination = secured(channels, anon("client"), anon("server"))
    assert source.cipher[:2] == ("ADH-AES256-GCM-SHA384", "TLSv1.2")
    duplex_stress(source, destination, seed=6)


@pytest.mark.parametrize("host", [None, "", "localhost", "no such host\0"])
def test_no_host_name_is_needed_or_looked_at(host: str | None, keys: Path) -> None:
    assert attempt(psk(keys, "client"), psk(keys, "server"), host) == Outcome()
    assert attempt(anon("client"), anon("server"), host) == Outcome()


def test_server_takes_every_user_of_its_file(keys: Path, others: Path, tmp_path: Path) -> None:
    (tmp_path / "keys.psk").write_bytes(
        (keys / "keys.psk").read_bytes() + b"\n" + (others / "keys.psk").read_bytes() + b"\n#00ff20: 0a0B \n\n"
    )
    server = psk(tmp_path, "server")
    assert attempt(psk(keys, "client"), server) == Outcome()
    assert attempt(psk(others, "client", username="bob"), server) == Outcome()
    assert read_keys(tmp_path / "keys.psk")[b"\0\xff "] == b"\x0a\x0b"


@pytest.mark.parametrize("priority", ["SECURE256", "SECURE192:-VERS-TLS1.3", "SECURE128", "PERFORMANCE"])
def test_stronger_priorities_still_talk(priority: str, keys: Path) -> None:
    for client, server in (
        (psk(keys, "client", priority=f"{priority}:+DHE-PSK:+PSK"), psk(keys, "server")),
        (anon("client", priority=f"{priority}:+ANON-DH"), anon("server")),
    ):
        source, destination = secured(socket_pair(), client, server)
        with source, destination:
            assert source.cipher[2] >= (256 if priority[6:] > "192" else 128)


@pytest.mark.parametrize(
    "cipher", ["DHE-PSK-AES256-GCM-SHA384", "DHE-PSK-CHACHA20-POLY1305", "PSK-AES128-GCM-SHA256"]
)
def test_server_has_all_kinds_of_key_exchange(cipher: str, keys: Path) -> None:
    """Also finite-field Diffie-Hellman, with no dh-params.pem: other libraries may prefer it."""
    client = psk(keys, "client", priority=VERSIONS["TLSv1.2"])
    original = client.make_context

    def narrowed(side: str) -> ssl.SSLContext:
        context = original(side)
        context.set_ciphers(cipher)
        return context

    client.make_context = narrowed  # type: ignore[method-assign]
    source, destination = secured(socket_pair(), client, psk(keys, "server"))
    with source, destination:
        assert source.cipher[0] == cipher


# -- what fails, and what both sides say


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.usefixtures("fds_unchanged")
def test_other_key_and_unknown_user_are_refused_and_both_say_why(
    version: str, keys: Path, others: Path
) -> None:
    server, priority, file = psk(keys, "server"), VERSIONS[version], keys / "keys.psk"
    old = version == "TLSv1.2"
    for _ in range(5):
        other_key = attempt(psk(others, "client", priority=priority), server)
        assert other_key == Outcome(
            ALERT + ("Bad record mac" if old else "Illegal parameter") + HINT.format("qemu"),
            f"TLS handshake failed: The client's key of PSK user 'qemu' is not the one in {file}",
        )
        unknown = attempt(psk(others, "client", priority=priority, username="bob"), server)
        missing = "The SRP/PSK username is missing or not known" if old else "Handshake failed"
        assert unknown == Outcome(
            ALERT + missing + HINT.format("bob"), f"TLS handshake failed: PSK user 'bob' is not in {file}"
        )


def test_user_name_of_a_stranger_stays_on_one_line(keys: Path, tmp_path: Path) -> None:
    (tmp_path / "keys.psk").write_text("#0a1b5b:00\n")
    client = psk(tmp_path, "client", username="\n\x1b[")
    assert r"PSK user '\n\x1b[' is not in" in attempt(client, psk(keys, "server")).server


@pytest.mark.parametrize("version", VERSIONS)
def test_kinds_that_do_not_fit_are_refused_and_both_say_so(version: str, keys: Path) -> None:
    priority = VERSIONS[version]
    no_protocol = (
        ALERT + "Error in protocol version",
        "TLS handshake failed: A packet with illegal or unsupported version was received.",
    )
    if version == "TLSv1.2":
        nothing_common = (ALERT + "Handshake failed", NEGOTIATE)
        hinted = (nothing_common[0] + HINT.format("qemu"), NEGOTIATE)
        expected = {
            ("psk", "x509"): hinted,
            ("psk", "anon"): hinted,
            ("x509", "psk"): nothing_common,
            ("x509", "anon"): nothing_common,
            ("anon", "psk"): nothing_common,
            ("anon", "x509"): nothing_common,
        }
    else:
        expected = {
            ("psk", "x509"): (
                "TLS handshake failed: The server has a certificate and not the key of PSK user 'qemu'",
                ALERT + "CA is unknown",
            ),
            ("psk", "anon"): no_protocol,
            ("x509", "psk"): (
                ALERT + "Handshake failed",
                "TLS handshake failed: The client has shown no pre-shared key",
            ),
            ("x509", "anon"): no_protocol,
        }
    clients: dict[str, TlsCreds] = {
        "psk": psk(keys, "client", priority=priority),
        "x509": certified(keys, "client", priority=priority),
        "anon": anon("client"),
    }
    servers: dict[str, TlsCreds] = {
        "psk": psk(keys, "server"),
        "x509": certified(keys, "server", verify_peer="off"),
        "anon": anon("server"),
    }
    for (client, server), texts in expected.items():
        outcome = attempt(clients[client], servers[server])
        assert outcome == Outcome(*texts), (client, server)


@pytest.mark.parametrize("kind", ["psk", "anon"])
def test_peer_without_tls_is_recognised(kind: str, keys: Path) -> None:
    source, destination = socket_pair()
    destination.writev([b"QEVM\0\0\0\3" * 10])
    client = psk(keys, "client") if kind == "psk" else anon("client")
    with destination, pytest.raises(TlsError) as caught:
        wrap_client(source, client, None)
    assert str(caught.value) == "TLS handshake failed: An unexpected TLS packet was received."


# -- properties and files


def test_wrong_property_is_named(keys: Path, tmp_path: Path) -> None:
    def refusal(kind: str, **properties: str) -> str:
        with pytest.raises(OptionError) as caught:
            ObjectStore().add(kind, "tls0", named(properties))
        return str(caught.value)

    here, empty = str(keys), str(tmp_path)
    assert refusal("tls-creds-psk") == "Missing 'dir' property value"
    assert refusal("tls-creds-psk", dir=here, sanity_check="on") == "Invalid parameter 'sanity-check'"
    assert refusal("tls-creds-anon", username="x") == "Invalid parameter 'username'"
    assert refusal("tls-creds-anon", endpoint="peer") == "Parameter 'endpoint' does not accept value 'peer'"
    assert refusal("tls-creds-anon", verify_peer="no!") == "Parameter 'verify-peer' expects 'on' or 'off'"
    assert refusal("tls-creds-psk", dir=here, endpoint="server", username="x").startswith("Parameter 'username' is for")
    assert refusal("tls-creds-psk", dir=here, username="al") == (
        f"Username al not found in PSK file {keys / 'keys.psk'}"
    )
    assert refusal("tls-creds-psk", dir=empty) == (
        f"Unable to access credentials {tmp_path / 'keys.psk'}: No such file or directory"
    )
    assert "anonymous sessions need TLS 1.2" in refusal("tls-creds-anon", priority="NORMAL:-VERS-TLS1.2")
    assert "need TLS 1.2" in refusal("tls-creds-psk", dir=here, priority="SECURE256:-VERS-TLS1.2")
    assert "'+ANON-DH' is not available" in refusal("tls-creds-psk", dir=here, priority="NORMAL:+ANON-DH")
    assert "'+ANON-DH' is not available" in refusal("tls-creds-x509", dir=here, priority="NORMAL:+ANON-DH")
    (tmp_path / "dh-params.pem").write_text("no group")
    (tmp_path / "keys.psk").write_text("qemu:00\n")
    for kind in ("tls-creds-anon", "tls-creds-psk"):
        text = refusal(kind, dir=empty, endpoint="server")
        assert text.startswith(f"Unable to load DH parameters {tmp_path / 'dh-params.pem'}: ")


BAD_LINES = {
    b"qemu": "it is not 'user:key'",
    b"qemu:xyz": "the key is not hexadecimal",
    b"qemu:abc": "the key is not hexadecimal",
    b"qemu:\xff": "the key is not hexadecimal",
    b"qemu:": "the key has 0 bytes, 1 to 256 can be used",
    b"qemu:" + b"00" * 257: "the key has 257 bytes, 1 to 256 can be used",
    b":00": "the user name has 0 bytes, 1 to 128 can be used",
    b"u" * 129 + b":00": "the user name has 129 bytes, 1 to 128 can be used",
}


@pytest.mark.parametrize("line", BAD_LINES)
def test_bad_line_is_named_and_shows_no_key(line: bytes, tmp_path: Path) -> None:
    (tmp_path / "keys.psk").write_bytes(b"good:00\n\n" + line + b"\n")
    with pytest.raises(OptionError) as caught:
        psk(tmp_path, "server")
    assert str(caught.value) == f"Unable to load PSK file {tmp_path / 'keys.psk'}: line 3: {BAD_LINES[line]}"


def test_longest_user_and_key_work(tmp_path: Path) -> None:
    (tmp_path / "keys.psk").write_text("u" * 128 + ":" + "5a" * 256)
    for priority in VERSIONS.values():
        client = psk(tmp_path, "client", username="u" * 128, priority=priority)
        assert attempt(client, psk(tmp_path, "server")) == Outcome()


def test_dh_params_of_the_directory_are_used(tmp_path: Path) -> None:
    group = ["openssl", "genpkey", "-genparam", "-algorithm", "DH", "-pkeyopt", "group:ffdhe2048"]
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    (tmp_path / "dh-params.pem").write_bytes(subprocess.run(group, stdout=subprocess.PIPE, check=True).stdout)
    assert attempt(anon("client"), anon("server", dir=str(tmp_path))) == Outcome()


def test_group_is_the_one_of_rfc_7919() -> None:
    """p = 2^3072 - 2^3008 + ([2^2942 * e] + 2625351) * 2^64 - 1."""
    scale = 1 << 3200
    e = term = scale
    for number in range(1, 500):
        term //= number
        e += term
    middle = (e >> (3200 - 2942)) + 2625351
    ((_, sequence, _),) = _elements(base64.b64decode("".join(FFDHE3072.splitlines()[1:-1])))
    numbers = [int.from_bytes(content, "big") for _, content, _ in _elements(sequence)]
    assert numbers == [2**3072 - 2**3008 + (middle << 64) - 1, 2]


def test_command_makes_keys_and_keeps_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = tmp_path / "new"
    path = directory / "keys.psk"
    assert main([str(directory), "--psk", "qemu"]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert main([str(directory), "--psk", "bob"]) == 0
    before = read_keys(path)
    assert sorted(before) == [b"bob", b"qemu"]
    assert {len(key) for key in before.values()} == {32}
    assert main([str(directory), "--psk", "qemu"]) == 1
    assert capsys.readouterr().err == f"e2kemu-certs: {path} has a key of qemu; --force makes another one\n"
    assert main([str(directory), "--psk", "qemu", "--force"]) == 0
    after = read_keys(path)
    assert after[b"bob"] == before[b"bob"]
    assert after[b"qemu"] != before[b"qemu"]
    for name in ("", "a:b", "#61", "x" * 129, "a\nb"):
        with pytest.raises(OptionError, match="cannot be a user of"):
            make_psk(directory, name)
    assert [file.name for file in directory.iterdir()] == ["keys.psk"]


# -- the way to OpenSSL


def test_pre_shared_keys_are_available_here() -> None:
    assert tls_psk_shim.unavailable() is None


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="ssl has its own calls")
def test_context_of_python_is_the_one_of_openssl() -> None:
    context = tls_psk_shim.PskContext(ssl.PROTOCOL_TLS_SERVER)
    library, pointer = tls_psk_shim._library(), tls_psk_shim._pointer(context)
    for option in (ssl.OP_NO_RENEGOTIATION, ssl.OP_NO_TICKET):
        context.options |= option
        assert library.SSL_CTX_get_options(ctypes.c_void_p(pointer)) & option


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="ssl has its own calls")
@pytest.mark.parametrize(
    ("break_it", "why"),
    [
        ("sys.implementation.name = 'pypy'", "not with pypy 3."),
        ("_ssl.__dict__.pop('__file__')", "OpenSSL is linked into the interpreter"),
        ("_ssl.__file__ = __import__('_ctypes').__file__", "OpenSSL is linked statically into "),
        ("ssl.OPENSSL_VERSION = 'LibreSSL 9'", "uses LibreSSL 9, but the library found there is OpenSSL"),
        ("shim._CIPHERS = ('AES256-GCM-SHA384',)", "the self-check with OpenSSL"),
    ],
)
def test_interpreter_that_cannot_is_told_so_and_nothing_crashes(break_it: str, why: str, keys: Path) -> None:
    program = (
        "import ssl, sys, _ssl\n"
        "from e2kemu.migration import tls_psk_shim as shim, transport\n"
        "from e2kemu.errors import OptionError\n"
        "from e2kemu.objects import ObjectStore\n"
        f"{break_it}\n"
        "try:\n"
        f"    ObjectStore().add('tls-creds-psk', 'tls0', {{'dir': {str(keys)!r}}})\n"
        "except OptionError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.startswith("tls-creds-psk is not available: ")
    assert why in done.stdout


# -- tls-authz


def server_side(store: ObjectStore, **values: str) -> TlsCreds:
    """The credentials that a destination with these parameters uses."""
    parameters = MigrationParameters()
    parameters.set(named(values))
    found = credentials(parameters, store, "server")
    assert found is not None
    return found


NAME = "O=e2kemu,CN=client.example.org"


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("members")
    assert main([str(directory), "--client-name", "client.example.org"]) == 0
    return directory


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.usefixtures("fds_unchanged")
def test_clients_name_decides_and_a_refusal_is_told_to_both(version: str, members: Path) -> None:
    client = certified(members, "client", priority=VERSIONS[version])
    store = ObjectStore()
    store.add("tls-creds-x509", "tls0", {"dir": str(members), "endpoint": "server"})
    store.add("authz-simple", "yes", {"identity": NAME})
    store.add("authz-simple", "no", {"identity": "O=e2kemu,CN=somebody"})
    glob = {"match": "*CN=client.*", "policy": "allow", "format": "glob"}
    store.add("authz-list", "glob", {f"rules.0.{key}": value for key, value in glob.items()})
    for ident in ("yes", "glob"):
        server = server_side(store, tls_creds="tls0", tls_authz=ident)
        assert attempt(client, server) == Outcome()
    server = server_side(store, tls_creds="tls0", tls_authz="no")
    denied = Outcome(
        ALERT + ("Access was denied" if version == "TLSv1.2" else "Unexpected message"),
        f"TLS x509 authz check for {NAME} is denied",
    )
    for _ in range(20):  # the alert races with the data that the client sends already
        assert attempt(client, server) == denied
    assert attempt(client, server_side(store, tls_creds="tls0")) == Outcome()


def test_object_is_asked_as_it_is_when_the_client_comes(members: Path) -> None:
    store = ObjectStore()
    store.add("tls-creds-x509", "tls0", {"dir": str(members), "endpoint": "server"})
    store.add("authz-simple", "a", {"identity": "nobody"})
    server, client = server_side(store, tls_creds="tls0", tls_authz="a"), certified(members, "client")
    store.delete("a")
    gone = attempt(client, server)
    assert gone.server == "Cannot find QAuthZ object ID a"
    assert gone.client
    store.add("authz-simple", "a", {"identity": NAME})
    assert attempt(client, server) == Outcome()


def test_authz_that_could_check_nothing_is_refused_at_once(keys: Path) -> None:
    store = ObjectStore()
    store.add("authz-simple", "a", {"identity": "x"})
    where = {"dir": str(keys), "endpoint": "server"}
    store.add("tls-creds-x509", "x509", where)
    store.add("tls-creds-x509", "lax", {**where, "verify-peer": "off"})
    store.add("tls-creds-psk", "psk", where)
    store.add("tls-creds-anon", "anon", where)
    for ident in ("lax", "psk", "anon"):
        with pytest.raises(OptionError, match=rf"^Parameter 'tls-authz' needs certificates of the clients: '{ident}'"):
            server_side(store, tls_creds=ident, tls_authz="a")
    with pytest.raises(OptionError, match=r"^Parameter 'tls-authz' needs 'tls-creds'$"):
        server_side(store, tls_authz="a")
    with pytest.raises(OptionError, match=r"^Cannot find QAuthZ object ID b$"):
        server_side(store, tls_creds="x509", tls_authz="b")
    with pytest.raises(OptionError, match=r"^Object 'psk' is not a QAuthZ subclass$"):
        server_side(store, tls_creds="x509", tls_authz="psk")
