"""Pre-shared keys and anonymous sessions with OpenSSL's and GnuTLS' own programs (QEMU's TLS is GnuTLS)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from e2kemu.migration.certs import make_psk
from e2kemu.migration.channel import Channel
from e2kemu.migration.tls import wrap_client, wrap_server
from e2kemu.migration.tls_creds import TlsCreds
from e2kemu.migration.tls_creds_anon import AnonCreds
from e2kemu.migration.tls_creds_psk import PskCreds, read_keys
from e2kemu.migration.uri import listen, parse_uri
from tests.migration.test_channel import Background
from tests.migration.test_tls_interop import (
    TEXT,
    connect_soon,
    free_port,
    needs_gnutls,
    needs_openssl,
    running,
    until,
)

CASES = [("psk", "1.2"), ("psk", "1.3"), ("anon", "1.2")]

QEMU_ADDS = {"psk": ":+ECDHE-PSK:+DHE-PSK:+PSK", "anon": ":+ANON-DH"}
"""What QEMU puts behind the priority of GnuTLS."""


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("keys")
    make_psk(directory, "qemu")
    return directory


def creds(keys: Path, kind: str, endpoint: str) -> TlsCreds:
    properties = {"dir": str(keys), "endpoint": endpoint}
    return PskCreds("tls0", properties) if kind == "psk" else AnonCreds("tls0", properties)


def gnutls_options(keys: Path, kind: str, version: str, side: str) -> list[str]:
    options = ["--priority", f"NORMAL:-VERS-ALL:+VERS-TLS{version}{QEMU_ADDS[kind]}"]
    if kind == "psk" and side == "client":
        options += ["--pskusername", "qemu", "--pskkey", read_keys(keys / "keys.psk")[b"qemu"].hex()]
    elif kind == "psk":
        options += ["--pskpasswd", str(keys / "keys.psk")]
    return options


def openssl_options(keys: Path, kind: str, version: str, side: str) -> list[str]:
    options = ["-tls1_2" if version == "1.2" else "-tls1_3"]
    if side == "server":
        options.append("-nocert")
    if kind == "anon":
        return [*options, "-cipher", "ADH:@SECLEVEL=0"]
    if version == "1.2":
        options += ["-cipher", "PSK"]
    return [*options, "-psk", read_keys(keys / "keys.psk")[b"qemu"].hex(), "-psk_identity", "qemu"]


def serve(creds: TlsCreds, command: Callable[[str], list[str]]) -> Channel:
    """Our server, and a client that is a program: it sends TEXT and prints what we send. The (closed) session."""
    with listen(parse_uri("tcp:127.0.0.1:0")) as listener:
        port = listener.socket_addresses[0]["port"]
        accepting = Background(lambda: wrap_server(listener.accept(), creds))
        with running(*command(port), stdin=TEXT) as program:
            server = accepting.result()
            assert isinstance(server, Channel)
            with server:
                assert until(lambda: server.read(1 << 16), TEXT) == TEXT
                server.writev([b"answer\n"])
                assert program.stdout is not None
                output = program.stdout
                assert b"answer" in until(lambda: output.read(1 << 16), b"answer")
            return server


@needs_gnutls
@pytest.mark.parametrize(("kind", "version"), CASES)
def test_gnutls_client_and_our_server(kind: str, version: str, keys: Path) -> None:
    options = gnutls_options(keys, kind, version, "client")
    if (kind, version) == ("psk", "1.2"):
        # gnutls-cli 3.7.9 dies, after the handshake, when it prints this session: whatever the server is.
        with listen(parse_uri("tcp:127.0.0.1:0")) as listener:
            port = listener.socket_addresses[0]["port"]
            accepting = Background(lambda: wrap_server(listener.accept(), creds(keys, kind, "server")))
            with running("gnutls-cli", "localhost", "--port", port, *options), accepting.result() as channel:  # type: ignore[attr-defined]
                assert "TLSv1.2 (" in channel.describe()
        return
    session = serve(
        creds(keys, kind, "server"), lambda port: ["gnutls-cli", "localhost", "--port", port, *options]
    )
    assert f"TLSv{version} (" in session.describe()


@needs_openssl
@pytest.mark.parametrize(("kind", "version"), CASES)
def test_openssl_client_and_our_server(kind: str, version: str, keys: Path) -> None:
    options = openssl_options(keys, kind, version, "client")
    session = serve(
        creds(keys, kind, "server"),
        lambda port: ["openssl", "s_client", "-quiet", "-connect", f"127.0.0.1:{port}", *options],
    )
    assert f"TLSv{version} (" in session.describe()


@needs_gnutls
@pytest.mark.parametrize(("kind", "version"), CASES)
def test_our_client_and_gnutls_server(kind: str, version: str, keys: Path) -> None:
    port = free_port()
    options = gnutls_options(keys, kind, version, "server")
    with (
        running("gnutls-serv", "--echo", "--port", str(port), *options),
        wrap_client(connect_soon(port), creds(keys, kind, "client"), None) as client,
    ):
        assert f"TLSv{version} (" in client.describe()
        client.writev([b"hello\n"])
        assert until(lambda: client.read(1000), b"hello\n") == b"hello\n"


@needs_openssl
@pytest.mark.parametrize(("kind", "version"), CASES)
def test_our_client_and_openssl_server(kind: str, version: str, keys: Path) -> None:
    port = free_port()
    options = openssl_options(keys, kind, version, "server")
    with running(
        "openssl", "s_server", "-quiet", "-accept", f"127.0.0.1:{port}", "-naccept", "1", *options
    ) as program:
        with wrap_client(connect_soon(port), creds(keys, kind, "client"), None) as client:
            assert f"TLSv{version} (" in client.describe()
            client.writev([TEXT])
            client.finish()
        assert program.stdout is not None
        assert TEXT in program.stdout.read()
