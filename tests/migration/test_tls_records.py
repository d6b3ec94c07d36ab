"""Records of TLS 1.3 that we make and open ourselves: the RFC's own example, OpenSSL at the other end, damage."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given, settings
from hypothesis import strategies as st

from e2kemu.migration import tls_records
from e2kemu.migration.certs import make_pki
from e2kemu.migration.tls import TlsChannel, wrap_server
from e2kemu.migration.tls_creds import X509Creds
from e2kemu.migration.tls_errors import ALERT_CODES, EndOfSession, SessionFault
from e2kemu.migration.tls_records import MAX_TEXT, SUITES, RecordSession, expand_label
from e2kemu.migration.tls_secrets import SecretLog, client_random
from e2kemu.migration.uri import listen, parse_uri
from tests.migration.test_channel import Background
from tests.migration.test_tls import client_creds, secured, server_creds, socket_pair

HERE, THERE = b"h" * 48, b"t" * 48


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pki")
    make_pki(directory, hosts=["localhost"])
    return directory


def pair(suite: str = "TLS_AES_128_GCM_SHA256") -> tuple[RecordSession, RecordSession]:
    return RecordSession(SUITES[suite], HERE, THERE, b""), RecordSession(SUITES[suite], THERE, HERE, b"")


def made(session: RecordSession) -> bytes:
    return b"".join(session.take())


def give(session: RecordSession, data: bytes) -> None:
    room = session.room()
    room[: len(data)] = data
    session.arrived(len(data))


def carry(source: RecordSession, destination: RecordSession) -> None:
    give(destination, made(source))


def text_of(session: RecordSession, size: int) -> bytes:
    buffer = memoryview(bytearray(size))
    return bytes(buffer[: session.read(buffer)])


def test_keys_are_those_of_the_example_in_rfc_8448() -> None:
    """Section 3, "Simple 1-RTT Handshake": the secrets of the application's data, their keys and IVs."""
    sides = {
        "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643": (
            "9f02283b6c9c07efc26bb9f2ac92e356",
            "cf782b88dd83549aadf1e984",
        ),
        "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5": (
            "17422dda596ed5d9acd890e3c63f5051",
            "5b78923dee08579033e523d9",
        ),
    }
    for secret, (key, iv) in sides.items():
        assert expand_label(SHA256(), bytes.fromhex(secret), "key", 16).hex() == key
        assert expand_label(SHA256(), bytes.fromhex(secret), "iv", 12).hex() == iv


@pytest.mark.parametrize("suite", list(SUITES))
@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([1, 100, MAX_TEXT - 1, MAX_TEXT, MAX_TEXT + 1, 20 * MAX_TEXT]), max_size=4),
    cut=st.integers(1, 40000),
    room=st.integers(1, 40000),
)
def test_text_comes_through_however_it_is_cut(suite: str, sizes: list[int], cut: int, room: int) -> None:
    source, destination = pair(suite)
    sent = received = records = b""
    for number, size in enumerate(sizes):
        text = bytes([number + 1]) * size
        source.write(text)
        sent += text
        records += made(source)
    for at in range(0, len(records), cut):
        give(destination, records[at : at + cut])
        while text := text_of(destination, room):
            received += text
    assert received == sent


def test_keys_change_when_they_have_served_and_when_the_peer_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    source, destination = pair()
    monkeypatch.setattr(tls_records, "REKEY_AFTER", 40)
    for number in range(10):
        text = bytes([number]) * (20 * MAX_TEXT)
        source.write(text)
        carry(source, destination)
        assert text_of(destination, len(text)) == text
    assert source._send.number <= 40, "ten times twenty records were sent"
    # Asked for: told before the next data, under the key that the asker knows.
    source._seal(tls_records.HANDSHAKE, bytes([tls_records.KEY_UPDATE, 0, 0, 1, 1]))
    source._send.update()
    source.write(b"new key")
    carry(source, destination)
    assert text_of(destination, 100) == b"new key"
    assert not destination.pending
    before = destination._send.cipher
    destination.write(b"new key here too")
    assert destination._send.cipher is not before
    carry(destination, source)
    assert text_of(source, 100) == b"new key here too"


def test_end_comes_behind_the_data_before_it() -> None:
    source, destination = pair()
    source.write(b"last words")
    source.say_goodbye()
    carry(source, destination)
    assert text_of(destination, 100) == b"last words"
    with pytest.raises(EndOfSession):
        text_of(destination, 100)


@pytest.mark.parametrize("name", ["ACCESS_DENIED", "UNKNOWN_CA"])
def test_alert_is_told_as_the_peers(name: str) -> None:
    source, destination = pair()
    source._seal(tls_records.ALERT, bytes([2, ALERT_CODES[name]]))
    carry(source, destination)
    with pytest.raises(SessionFault, match="A TLS fatal alert has been received: ") as caught:
        text_of(destination, 100)
    assert caught.value.alert


@settings(max_examples=60, deadline=None)
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_changed_bit_is_found_and_nothing_behind_it_is_given(where: float, bit: int) -> None:
    source, destination = pair()
    source.write(b"whole")
    first = made(source)
    source.write(b"to be damaged")
    damaged = bytearray(made(source))
    damaged[int(where * len(damaged))] ^= 1 << bit
    source.write(b"never seen" * 2000)
    give(destination, first + bytes(damaged) + made(source) * 3)
    assert text_of(destination, 50000) == b"whole"
    with pytest.raises(SessionFault) as caught:
        text_of(destination, 50000)
    assert not caught.value.alert
    assert destination.pending, "the peer is told"


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (0, b""),  # padding alone
        (20, b"\1"),  # change_cipher_spec
        (21, b"\2"),  # half an alert
        (22, b""),
        (22, bytes([1, 0, 0, 0])),  # a new ClientHello
        (22, bytes([24, 0, 0, 1, 2])),  # no such KeyUpdate
        (22, bytes([24, 0, 0, 1, 0, 4, 0, 0, 0])),  # something behind a KeyUpdate, under the old key
        (22, bytes([4, 1, 0, 1])),  # a ticket of 64 KiB
        (24, b"heartbeat"),
    ],
)
def test_what_may_not_come_now_ends_the_session(kind: int, text: bytes) -> None:
    source, destination = pair()
    source._seal(kind, text)
    carry(source, destination)
    with pytest.raises(SessionFault):
        text_of(destination, 100)
    assert destination.pending, "the peer is told"


def test_padding_and_tickets_are_nothing_to_the_reader() -> None:
    source, destination = pair()
    source._seal(0, b"padded\x17" + bytes(100))
    source._seal(tls_records.HANDSHAKE, bytes([4, 0, 0, 9]) + b"tic")
    source._seal(tls_records.HANDSHAKE, b"ticket")
    source.write(b", and on")
    carry(source, destination)
    assert text_of(destination, 200) == b"padded, and on"


def test_sessions_of_one_context_find_their_own_secrets_and_leave_none(good: Path) -> None:
    client, server = client_creds(good), server_creds(good)
    pairs = [Background(lambda: secured(socket_pair(), client, server)) for _ in range(4)]
    for number, running in enumerate(pairs):
        source, destination = running.result()
        with source, destination:
            for channel in (source, destination):
                assert isinstance(channel, TlsChannel)
                assert isinstance(channel._session, RecordSession)
            source.writev([b"number %d" % number])
            assert destination.read(100) == b"number %d" % number
    for creds in (client, server):
        assert creds.make_context(creds.endpoint).keylog_filename is None


def test_without_secrets_openssl_goes_on(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SecretLog, "take", lambda log, random: None)
    source, destination = secured(socket_pair(), client_creds(good), server_creds(good))
    with source, destination:
        assert not isinstance(source._session, RecordSession)
        source.writev([b"x" * 100000])
        received = b""
        while len(received) < 100000:
            received += destination.read(100000)
        assert source.describe().count("TLSv1.3") == 1


def test_only_a_client_hello_has_a_clients_random() -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    hello = outgoing.read()
    assert client_random(hello) == hello[11:43]
    for other in (b"", hello[:42], b"\x17" + hello[1:], b"GET / HTTP/1.0\r\n" * 5):
        assert client_random(other) is None


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_may_change_keys_at_any_time(good: Path) -> None:
    listener = listen(parse_uri("tcp:127.0.0.1:0"))
    port = listener.socket_addresses[0]["port"]
    creds = X509Creds("server0", {"dir": str(good), "endpoint": "server"})

    serving = Background(lambda: wrap_server(listener.accept(), creds))
    files = ["-CAfile", "ca-cert.pem", "-cert", "client-cert.pem", "-key", "client-key.pem"]
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_3", *files]
    with subprocess.Popen(
        command, cwd=good, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        channel = serving.result()
        assert isinstance(channel, TlsChannel)
        for line in ("before", "after", "again"):
            client.stdin.write(f"{line}\n".encode())
            client.stdin.flush()
            assert channel.read(100) == f"{line}\n".encode()
            channel.writev([f"echo {line}\n".encode()])
            while client.stdout.readline() != f"echo {line}\n".encode():
                assert client.poll() is None
            client.stdin.write(b"K\n")  # a KeyUpdate that asks for ours
            client.stdin.flush()
            while not client.stdout.readline().startswith(b"KEYUPDATE"):
                assert client.poll() is None
        channel.finish()
        channel.close()
        client.stdin.close()
        client.stdout.read()
    listener.close()
