"""TLS over real channels: both versions, both directions at once, and what each side says when it fails."""

from __future__ import annotations

import datetime
import random
import shutil
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2kemu.errors import ChannelError, OptionError, TlsError
from e2kemu.migration.certs import LeafShape, Validity, make_crl, make_leaf, make_pki, read_ca, write_pair
from e2kemu.migration.channel import Channel
from e2kemu.migration.channel_socket import SocketChannel
from e2kemu.migration.tls import TlsChannel, wrap_client, wrap_server
from e2kemu.migration.tls_creds import TlsCreds, X509Creds
from e2kemu.migration.tls_errors import CUT
from e2kemu.migration.uri import connect, listen, parse_uri
from tests.migration.test_channel import (
    PAYLOAD,
    Background,
    blocked,
    connected,
    duplex_stress,
    fds_unchanged,
    read_all,
)

__all__ = ["fds_unchanged"]

VERSIONS = {"TLSv1.2": "NORMAL:-VERS-TLS1.3", "TLSv1.3": "NORMAL:-VERS-TLS1.2"}

NOW = datetime.datetime.now(datetime.UTC)
EXPIRED = Validity(NOW - datetime.timedelta(days=3), NOW - datetime.timedelta(days=1))

ALERT = "TLS handshake failed: A TLS fatal alert has been received: "


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pki")
    make_pki(directory, hosts=["localhost", "127.0.0.1", "::1"])
    return directory


def server_creds(directory: Path, **properties: str) -> X509Creds:
    given = {key.replace("_", "-"): value for key, value in properties.items()}
    return X509Creds("server0", {"dir": str(directory), "endpoint": "server", **given})


def client_creds(directory: Path, **properties: str) -> X509Creds:
    given = {key.replace("_", "-"): value for key, value in properties.items()}
    return X509Creds("client0", {"dir": str(directory), **given})


def socket_pair(name: str = "pair") -> tuple[Channel, Channel]:
    left, right = socket.socketpair()
    return SocketChannel(left, f"{name}-source"), SocketChannel(right, f"{name}-destination")


def secured(
    channels: tuple[Channel, Channel], client: TlsCreds, server: TlsCreds, host: str = "localhost"
) -> tuple[TlsChannel, TlsChannel]:
    source, destination = channels
    accepting = Background(lambda: wrap_server(destination, server))
    inside = wrap_client(source, client, host)
    accepted = accepting.result()
    assert isinstance(accepted, TlsChannel)
    return inside, accepted


@dataclass
class Outcome:
    """What each side of one attempt said: its error, or "" when all went well."""

    client: str = ""
    server: str = ""


def attempt(client: TlsCreds, server: TlsCreds, host: str | None = "localhost") -> Outcome:
    """A whole small migration over tcp: handshake, data from the client, end. TLS 1.3 tells a client late."""
    outcome = Outcome()
    channels = connected("tcp:127.0.0.1:0")

    def serve() -> None:
        try:
            with wrap_server(channels[1], server) as channel:
                assert read_all(channel) == PAYLOAD
        except TlsError as error:
            outcome.server = str(error)

    serving = Background(serve)
    try:
        with wrap_client(channels[0], client, host) as channel:
            channel.writev([PAYLOAD])
            channel.finish()
    except TlsError as error:
        outcome.client = str(error)
    serving.result()
    for text in (outcome.client, outcome.server):
        assert "\n" not in text
    return outcome


# -- what works


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("transport", ["tcp:127.0.0.1:0", "unix", "pair"])
@pytest.mark.usefixtures("fds_unchanged")
def test_mutual_tls_carries_bytes_both_ways(transport: str, version: str, good: Path, tmp_path: Path) -> None:
    if transport == "pair":
        channels = socket_pair()
    else:
        channels = connected(f"unix:{tmp_path}/s" if transport == "unix" else transport)
    priority = VERSIONS[version]
    source, destination = secured(channels, client_creds(good, priority=priority), server_creds(good))
    with source, destination:
        assert source.describe().startswith(f"{source.name} over {version} (")
        assert source.supports_return_path
        writer = Background(lambda: source.writev([PAYLOAD[:9], memoryview(PAYLOAD)[9:]]))
        received = bytearray()
        while len(received) < len(PAYLOAD):
            received += destination.read(1 << 20)
        writer.result()
        assert received == PAYLOAD
        destination.writev([b"back"])
        assert source.read(100) == b"back"
        source.finish()
        assert destination.read(1) == b""
        assert destination.read(1) == b""


def test_tls_works_over_a_named_fd_and_a_command(good: Path, tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    by_name = connect(parse_uri("fd:mig"), {"mig": ours.detach()}.pop)
    channels = (by_name, SocketChannel(theirs, "peer"))
    source, destination = secured(channels, client_creds(good), server_creds(good))
    with source, destination:
        source.writev([b"over fd"])
        assert destination.read(100) == b"over fd"

    relay = tmp_path / "relay.py"
    relay.write_text(
        "import os, socket, sys, threading\n"
        "peer = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
        "def back():\n"
        "    while data := peer.recv(65536): os.write(1, data)\n"
        "    os._exit(0)\n"
        "threading.Thread(target=back).start()\n"
        "while data := os.read(0, 65536): peer.sendall(data)\n"
        "peer.shutdown(socket.SHUT_WR)\n"
    )
    with listen(parse_uri("tcp:127.0.0.1:0")) as listener:
        port = listener.socket_addresses[0]["port"]
        command = connect(parse_uri(f"exec:exec python3 {relay} {port}"))
        source, destination = secured((command, listener.accept()), client_creds(good), server_creds(good))
    serving = Background(lambda: (read_all(destination), destination.close()))
    with source:
        source.writev([PAYLOAD])
        source.finish()
    result = serving.result()
    assert isinstance(result, tuple)
    assert result[0] == PAYLOAD


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.usefixtures("fds_unchanged")
def test_full_duplex_with_two_threads_a_side_loses_nothing(version: str, good: Path) -> None:
    client = client_creds(good, priority=VERSIONS[version])
    duplex_stress(*secured(connected("tcp:127.0.0.1:0"), client, server_creds(good)), seed=11)


def test_many_small_messages_cross_in_both_directions(good: Path) -> None:
    """The pattern on which one OpenSSL object without a lock dies within hundreds of messages."""
    source, destination = secured(socket_pair(), client_creds(good), server_creds(good))
    count = 5000

    def send(channel: Channel) -> None:
        for number in range(count):
            channel.writev([number.to_bytes(8, "big") * 8])

    def receive(channel: Channel) -> None:
        data = b""
        while len(data) < 64 * count:
            data += channel.read(1 << 16)
        assert data == b"".join(number.to_bytes(8, "big") * 8 for number in range(count))

    with source, destination:
        sides = (source, destination)
        calls = [(kind, side) for kind in (send, receive) for side in sides]
        for worker in [Background(lambda k=kind, c=side: k(c)) for kind, side in calls]:  # type: ignore[misc]
            worker.result()


@pytest.mark.parametrize("priority", ["SECURE128", "SECURE256", "SECURE256:-VERS-TLS1.3"])
def test_stronger_priorities_still_talk(priority: str, good: Path) -> None:
    source, destination = secured(socket_pair(), client_creds(good, priority=priority), server_creds(good))
    with source, destination:
        assert source.cipher[2] >= 128


def test_client_without_certificate_is_served_when_verify_peer_is_off(good: Path, tmp_path: Path) -> None:
    shutil.copy(good / "ca-cert.pem", tmp_path)
    for priority in VERSIONS.values():
        outcome = attempt(client_creds(tmp_path, priority=priority), server_creds(good, verify_peer="off"))
        assert outcome == Outcome()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_names_and_addresses_of_the_certificate_are_accepted(host: str, good: Path) -> None:
    assert attempt(client_creds(good), server_creds(good), host) == Outcome()


def test_common_name_counts_when_there_is_no_other_name(good: Path, tmp_path: Path) -> None:
    shutil.copytree(good, tmp_path / "pki")
    write_pair(tmp_path / "pki", "server", make_leaf(read_ca(good), "vm.example.org", LeafShape()))
    server = server_creds(tmp_path / "pki")
    assert attempt(client_creds(good), server, "vm.example.org") == Outcome()
    assert "does not match the hostname localhost" in attempt(client_creds(good), server).client


def test_wildcard_certificate_matches_one_label(good: Path, tmp_path: Path) -> None:
    shutil.copytree(good, tmp_path / "pki")
    wildcard = make_leaf(read_ca(good), "any", LeafShape(("*.example.org",)))
    write_pair(tmp_path / "pki", "server", wildcard)
    server = server_creds(tmp_path / "pki")
    assert attempt(client_creds(good), server, "a.example.org") == Outcome()
    refused = attempt(client_creds(good), server, "a.b.example.org")
    assert refused.client == "Certificate does not match the hostname a.b.example.org"


# -- what fails, and what both sides say


def presenting(good: Path, directory: Path, side: str, **shape: object) -> Path:
    """A copy of ``good`` in which ``side`` has a certificate of ``shape``."""
    shutil.copytree(good, directory)
    bad = LeafShape(("localhost",), **shape)  # type: ignore[arg-type]
    write_pair(directory, side, make_leaf(read_ca(good), "bad", bad))
    return directory


@pytest.mark.parametrize("priority", VERSIONS.values(), ids=VERSIONS)
def test_client_refuses_a_bad_server_and_both_say_why(priority: str, good: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    make_pki(other)
    expired = presenting(good, tmp_path / "expired", "server", validity=EXPIRED)
    misused = presenting(good, tmp_path / "misused", "server", purposes=("client",))
    client = client_creds(good, priority=priority)

    def lax(directory: Path) -> X509Creds:
        return server_creds(directory, sanity_check="off")

    assert attempt(client, server_creds(other)) == Outcome(
        "The certificate hasn't got a known issuer", ALERT + "CA is unknown"
    )
    assert attempt(client, lax(expired)) == Outcome(
        "The certificate has expired", ALERT + "Certificate is expired"
    )
    assert attempt(client, lax(misused)) == Outcome(
        "The certificate's purpose does not allow this use", ALERT + "Certificate is not supported"
    )
    assert attempt(client, server_creds(good), "vm.example.org") == Outcome(
        "Certificate does not match the hostname vm.example.org", ALERT + "Certificate is bad"
    )
    assert attempt(client, server_creds(good), "10.9.8.7") == Outcome(
        "Certificate does not match the hostname 10.9.8.7", ALERT + "Certificate is bad"
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_server_refuses_a_bad_client_and_both_say_why(version: str, good: Path, tmp_path: Path) -> None:
    anonymous, other = tmp_path / "anonymous", tmp_path / "other"
    make_pki(other)
    anonymous.mkdir()
    shutil.copy(good / "ca-cert.pem", anonymous)
    shutil.copy(good / "ca-cert.pem", other)  # trusts our server, but its own certificate is a stranger's
    expired = presenting(good, tmp_path / "expired", "client", validity=EXPIRED)
    server = server_creds(good)

    def client(directory: Path) -> X509Creds:
        return client_creds(directory, sanity_check="off", priority=VERSIONS[version])

    missing = "Certificate is required" if version == "TLSv1.3" else "Handshake failed"
    for _ in range(20):  # the alert races with the data that the client sends already
        assert attempt(client(anonymous), server) == Outcome(
            ALERT + missing, "TLS handshake failed: No certificate was found."
        )
    assert attempt(client(other), server) == Outcome(
        ALERT + "CA is unknown", "The certificate hasn't got a known issuer"
    )
    assert attempt(client(expired), server) == Outcome(
        ALERT + "Certificate is expired", "The certificate has expired"
    )


def test_revoked_client_is_refused(good: Path, tmp_path: Path) -> None:
    directory = tmp_path / "pki"
    shutil.copytree(good, directory)
    ca = read_ca(good)
    revoked = make_leaf(ca, "revoked", LeafShape())
    (directory / "ca-crl.pem").write_bytes(make_crl(ca, [revoked.certificate]))
    server = server_creds(directory)
    assert attempt(client_creds(good), server) == Outcome()
    write_pair(directory, "client", revoked)
    (directory / "ca-crl.pem").unlink()
    outcome = attempt(client_creds(directory), server)
    assert outcome == Outcome(ALERT + "Certificate was revoked", "The certificate has been revoked")


def test_no_common_version_is_said_by_both(good: Path) -> None:
    outcome = attempt(
        client_creds(good, priority=VERSIONS["TLSv1.3"]), server_creds(good, priority=VERSIONS["TLSv1.2"])
    )
    assert outcome.client == ALERT + "Error in protocol version"
    refused = "A packet with illegal or unsupported version was received."
    assert outcome.server == f"TLS handshake failed: {refused}"


def test_no_hostname_is_an_error_before_anything_is_sent(good: Path) -> None:
    for host in (None, ""):
        outcome = attempt(client_creds(good), server_creds(good), host)
        assert outcome.client == "No hostname for certificate validation"
        assert outcome.server == f"TLS handshake failed: {CUT}"
    assert "is not a host name" in attempt(client_creds(good), server_creds(good), "a..b\0").client


@pytest.mark.usefixtures("fds_unchanged")
def test_wrong_endpoint_is_refused_and_the_channel_closed(good: Path) -> None:
    source, destination = socket_pair()
    with pytest.raises(OptionError, match=r"^Expected TLS credentials for a client endpoint$"):
        wrap_client(source, server_creds(good), "localhost")
    with pytest.raises(OptionError, match=r"^Expected TLS credentials for a server endpoint$"):
        wrap_server(destination, client_creds(good))
    for channel in (source, destination):
        with pytest.raises(ChannelError, match="is closed"):
            channel.read(1)


@pytest.mark.parametrize("side", ["client", "server"])
def test_peer_without_tls_is_recognised(side: str, good: Path) -> None:
    source, destination = socket_pair()
    destination.writev([b"QEVM\0\0\0\3" * 10])
    with destination, pytest.raises(TlsError) as caught:
        wrap_client(source, client_creds(good), "localhost") if side == "client" else wrap_server(
            source, server_creds(good)
        )
    assert str(caught.value) == "TLS handshake failed: An unexpected TLS packet was received."


@pytest.mark.usefixtures("fds_unchanged")
def test_silent_peer_does_not_hang_the_handshake(good: Path) -> None:
    source, destination = socket_pair()
    with destination, pytest.raises(TlsError, match=r"^TLS handshake failed: no answer within 0.2 s$"):
        wrap_client(source, client_creds(good), "localhost", timeout=0.2)


@pytest.mark.usefixtures("fds_unchanged")
def test_shutdown_wakes_the_handshake_readers_and_writers(good: Path) -> None:
    source, destination = socket_pair()
    waiting = blocked(lambda: wrap_server(destination, server_creds(good)))
    destination.shutdown()
    with pytest.raises(TlsError, match=r"TLS handshake failed: .*was shut down"):
        waiting.result()
    source.close()

    for how in ("shutdown", "close"):
        inside, accepted = secured(socket_pair(), client_creds(good), server_creds(good))
        reader = blocked(lambda channel=accepted: channel.read(1))
        getattr(accepted, how)()
        with pytest.raises(ChannelError):
            reader.result()
        inside.close()
        accepted.close()

        inside, accepted = secured(socket_pair(), client_creds(good), server_creds(good))
        writer = blocked(lambda channel=inside: channel.writev([bytes(1 << 26)]))
        getattr(inside, how)()
        with pytest.raises(ChannelError):
            writer.result()
        inside.close()
        accepted.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_stream_that_is_cut_is_an_error_of_the_reader(version: str, good: Path) -> None:
    channels = socket_pair()
    client = client_creds(good, priority=VERSIONS[version])
    source, destination = secured(channels, client, server_creds(good))
    source.writev([b"almost all"])
    channels[0].close()
    with destination:
        assert destination.read(100) == b"almost all"
        for _ in range(2):
            with pytest.raises(TlsError) as caught:
                destination.read(1)
            assert str(caught.value) == f"Unable to read from pair-destination: {CUT}"


def test_close_after_success_says_goodbye(good: Path) -> None:
    source, destination = secured(socket_pair(), client_creds(good), server_creds(good))
    source.writev([b"all"])
    source.close()
    with destination:
        assert read_all(destination) == b"all"
    with pytest.raises(ChannelError, match="the channel is closed"):
        source.writev([b"more"])


@pytest.mark.parametrize("version", VERSIONS)
def test_unread_answers_do_not_spoil_the_end(version: str, good: Path) -> None:
    client = client_creds(good, priority=VERSIONS[version])
    source, destination = secured(socket_pair(), client, server_creds(good))
    for _ in range(3):
        destination.writev([b"answer"])
    assert source.read(1) == b"a"  # the other records are in our hands already, and nobody wants them
    source.writev([PAYLOAD[:1000]])
    serving = Background(lambda: read_all(destination))
    with destination, source:
        source.finish()
        assert serving.result() == PAYLOAD[:1000]


def test_finish_does_not_wait_for_a_server_that_has_spoken(good: Path) -> None:
    source, destination = secured(socket_pair(), client_creds(good), server_creds(good))
    with source, destination:
        destination.writev([b"x"])
        assert source.read(1) == b"x"
        finishing = Background(source.finish)
        finishing.result()  # though the destination neither reads nor closes


def test_finish_hears_the_alert_while_somebody_else_reads(good: Path, tmp_path: Path) -> None:
    shutil.copy(good / "ca-cert.pem", tmp_path)
    server = server_creds(good)
    source, destination = socket_pair()
    refusing = Background(lambda: wrap_server(destination, server))
    inside = wrap_client(source, client_creds(tmp_path, priority=VERSIONS["TLSv1.3"]), "localhost")
    returning = Background(lambda: inside.read(1))

    def send_all() -> None:
        inside.writev([b"small guest"])
        inside.finish()

    for call in (send_all, returning.result):
        with pytest.raises(TlsError, match="A TLS fatal alert has been received: Certificate is required"):
            call()
    with pytest.raises(TlsError, match="No certificate was found"):
        refusing.result()
    inside.close()


def test_damaged_record_is_an_error_of_the_reader(good: Path) -> None:
    left, right = socket.socketpair()
    raw = SocketChannel(left, "source")
    channels = (raw, SocketChannel(right, "destination"))
    source, destination = secured(channels, client_creds(good), server_creds(good))
    raw.writev([b"\x17\x03\x03\x00\x20" + bytes(32)])
    expected = "Unable to read from destination: Decryption has failed"
    with source, destination, pytest.raises(TlsError, match=expected):
        destination.read(1)


@pytest.mark.usefixtures("fds_unchanged")
def test_garbage_in_the_handshake_is_one_line_and_never_a_hang(good: Path) -> None:
    rng = random.Random(5)
    print("seed 5")
    creds = server_creds(good)
    for _ in range(60):
        source, destination = socket_pair()
        header = rng.choice((b"", b"\x16\x03\x01", b"\x16\x03\x01\x00\x40\x01", b"\x15\x03\x03\x00\x02\x02"))
        source.writev([header + rng.randbytes(rng.choice((1, 5, 70, 3000)))])
        source.close()
        with pytest.raises(TlsError) as caught:
            wrap_server(destination, creds, timeout=5)
        assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("fds_unchanged")
def test_wrapping_and_closing_many_times_leaks_nothing(good: Path) -> None:
    client, server = client_creds(good), server_creds(good)
    for _ in range(30):
        source, destination = secured(socket_pair(), client, server)
        source.close()
        destination.close()
    time.sleep(0.05)
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
