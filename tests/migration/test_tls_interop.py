"""Our TLS and our certificates with OpenSSL's and GnuTLS' own programs (QEMU's TLS is GnuTLS)."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from e2kemu.errors import ChannelError, TlsError
from e2kemu.migration.certs import make_pki
from e2kemu.migration.channel import Channel
from e2kemu.migration.tls import wrap_client, wrap_server
from e2kemu.migration.tls_creds import X509Creds
from e2kemu.migration.uri import connect, listen, parse_uri
from tests.migration.test_channel import Background, read_all

GNUTLS = ("gnutls-serv", "gnutls-cli", "certtool")

needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
needs_gnutls = pytest.mark.skipif(not all(map(shutil.which, GNUTLS)), reason="gnutls-bin is not installed")

VERSIONS = {"1.2": "NORMAL:-VERS-TLS1.3", "1.3": "NORMAL:-VERS-TLS1.2"}

TEXT = b"from e2kemu with love\n" * 2000


@pytest.fixture(scope="module", params=["ec", "rsa"])
def pki(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp(f"pki-{request.param}")
    make_pki(directory, hosts=["localhost", "127.0.0.1"], use_rsa=request.param == "rsa")
    return directory


def creds(pki: Path, endpoint: str, version: str) -> X509Creds:
    return X509Creds("tls0", {"dir": str(pki), "endpoint": endpoint, "priority": VERSIONS[version]})


@contextmanager
def running(*command: str, stdin: bytes | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A program; it is ended whatever happens."""
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
    )
    assert process.stdin is not None
    try:
        if stdin is not None:
            process.stdin.write(stdin)
        yield process
    finally:
        process.kill()
        process.communicate()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def connect_soon(port: int) -> Channel:
    """Connect to a program that is just starting."""
    for _ in range(100):
        try:
            return connect(parse_uri(f"tcp:127.0.0.1:{port}"))
        except ChannelError:
            time.sleep(0.05)
    raise AssertionError(f"nobody listens on port {port}")


def until(read: Callable[[], bytes], wanted: bytes) -> bytes:
    """What ``read`` gives until ``wanted`` is in it or nothing more comes."""
    data = b""
    while wanted not in data and (piece := read()):
        data += piece
    return data


def serve(pki: Path, version: str, command: Callable[[str], list[str]]) -> None:
    """Our server, and a client that is a program: it sends TEXT and prints what we send."""
    with listen(parse_uri("tcp:127.0.0.1:0")) as listener:
        port = listener.socket_addresses[0]["port"]
        accepting = Background(lambda: wrap_server(listener.accept(), creds(pki, "server", version)))
        with running(*command(port), stdin=TEXT) as program:
            server = accepting.result()
            assert isinstance(server, Channel)
            with server:
                assert until(lambda: server.read(1 << 16), TEXT) == TEXT
                server.writev([b"answer\n"])
                assert program.stdout is not None
                output = program.stdout
                assert b"answer" in until(lambda: output.read(1 << 16), b"answer")


@needs_openssl
@pytest.mark.parametrize("version", VERSIONS)
def test_openssl_client_and_our_server(version: str, pki: Path) -> None:
    serve(
        pki,
        version,
        lambda port: [
            *("openssl", "s_client", "-quiet", "-connect", f"127.0.0.1:{port}", "-verify_return_error"),
            *("-CAfile", f"{pki}/ca-cert.pem", "-verify_hostname", "localhost"),
            *("-cert", f"{pki}/client-cert.pem", "-key", f"{pki}/client-key.pem"),
        ],
    )


@needs_gnutls
@pytest.mark.parametrize("version", VERSIONS)
def test_gnutls_client_and_our_server(version: str, pki: Path) -> None:
    serve(
        pki,
        version,
        lambda port: [
            *("gnutls-cli", "localhost", "--port", port, "--x509cafile", f"{pki}/ca-cert.pem"),
            *("--x509certfile", f"{pki}/client-cert.pem", "--x509keyfile", f"{pki}/client-key.pem"),
        ],
    )


@needs_openssl
@pytest.mark.parametrize("version", VERSIONS)
def test_our_client_and_openssl_server(version: str, pki: Path) -> None:
    port = free_port()
    with running(
        *("openssl", "s_server", "-quiet", "-accept", f"127.0.0.1:{port}", "-naccept", "1"),
        *("-Verify", "1", "-verify_return_error", "-CAfile", f"{pki}/ca-cert.pem"),
        *("-cert", f"{pki}/server-cert.pem", "-key", f"{pki}/server-key.pem"),
    ) as program:
        with wrap_client(connect_soon(port), creds(pki, "client", version), "localhost") as client:
            client.writev([TEXT])
            client.finish()
        assert program.stdout is not None
        assert TEXT in program.stdout.read()


@needs_openssl
def test_session_weaker_than_the_priority_is_refused(pki: Path) -> None:
    port = free_port()
    weak = X509Creds("tls0", {"dir": str(pki), "priority": "SECURE256:-VERS-TLS1.2"})
    with running(
        *("openssl", "s_server", "-quiet", "-accept", f"127.0.0.1:{port}", "-naccept", "1"),
        *("-ciphersuites", "TLS_AES_128_GCM_SHA256"),
        *("-cert", f"{pki}/server-cert.pem", "-key", f"{pki}/server-key.pem"),
    ):
        refused = "cipher TLS_AES_128_GCM_SHA256 has 128 bits, the priority asks for 256"
        with pytest.raises(TlsError, match=refused):
            wrap_client(connect_soon(port), weak, "localhost")


@needs_gnutls
@pytest.mark.parametrize("version", VERSIONS)
def test_our_client_and_gnutls_server(version: str, pki: Path) -> None:
    port = free_port()
    with (
        running(
            *("gnutls-serv", "--echo", "--port", str(port), "--x509cafile", f"{pki}/ca-cert.pem"),
            *("--require-client-cert", "--verify-client-cert"),
            *("--x509certfile", f"{pki}/server-cert.pem", "--x509keyfile", f"{pki}/server-key.pem"),
        ),
        wrap_client(connect_soon(port), creds(pki, "client", version), "localhost") as client,
    ):
        client.writev([b"hello\n"])
        assert until(lambda: client.read(1000), b"hello\n") == b"hello\n"


@needs_gnutls
def test_certtool_verifies_what_we_make(pki: Path) -> None:
    for side, purpose in (("server", "1.3.6.1.5.5.7.3.1"), ("client", "1.3.6.1.5.5.7.3.2")):
        done = subprocess.run(
            [
                *("certtool", "--verify", "--load-ca-certificate", f"{pki}/ca-cert.pem"),
                *("--verify-purpose", purpose, "--infile", f"{pki}/{side}-cert.pem"),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Chain verification output: Verified" in done.stdout, done.stdout + done.stderr
        assert done.returncode == 0


@needs_gnutls
def test_recipe_with_certtool_gives_usable_credentials(tmp_path: Path) -> None:
    run_recipe(tmp_path, "certtool")


@needs_openssl
def test_recipe_with_openssl_gives_usable_credentials(tmp_path: Path) -> None:
    run_recipe(tmp_path, "openssl")


def run_recipe(directory: Path, tool: str) -> None:
    """Run the shell block of docs/tls.md that uses ``tool``, and do a handshake with what it made."""
    text = (Path(__file__).parents[2] / "docs" / "tls.md").read_text()
    blocks = [block.partition("```")[0] for block in text.split("```sh\n")[1:]]
    (recipe,) = [block for block in blocks if block.startswith(f"# with {tool}\n")]
    subprocess.run(["sh", "-e", "-c", recipe], cwd=directory, check=True, capture_output=True)
    pki = directory / "certs"
    with listen(parse_uri("tcp:127.0.0.1:0")) as listener:
        port = listener.socket_addresses[0]["port"]
        accepting = Background(lambda: wrap_server(listener.accept(), creds(pki, "server", "1.3")))
        source = connect(parse_uri(f"tcp:127.0.0.1:{port}"))
        client = wrap_client(source, creds(pki, "client", "1.3"), "dst.example.org")
    server = accepting.result()
    assert isinstance(server, Channel)
    with server, client:
        client.writev([TEXT])
        client.close()
        assert read_all(server) == TEXT
