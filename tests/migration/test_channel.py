"""Channels: every transport carries bytes, wakes, reports, and lets go of what it held."""

from __future__ import annotations

import hashlib
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from e2kemu.errors import ChannelError, OptionError
from e2kemu.migration.channel import IOV_MAX, Channel, Listener, Waker
from e2kemu.migration.uri import connect, listen, parse_uri

PAYLOAD = random.Random(1).randbytes(3_000_000)


def connected(uri: str) -> tuple[Channel, Channel]:
    """(source, destination) over ``uri``."""
    with listen(parse_uri(uri)) as listener:
        source = connect(parse_uri(reachable(listener, uri)))
        return source, listener.accept()


def reachable(listener: Listener, uri: str) -> str:
    """``uri`` with the port that was picked."""
    address = listener.socket_addresses[0]
    return uri.replace(":0", f":{address['port']}", 1) if address["type"] == "inet" else uri


def read_all(channel: Channel) -> bytes:
    data = bytearray()
    while piece := channel.read(1 << 16):
        data += piece
    return bytes(data)


def write_for_ever(channel: Channel) -> None:
    endless = bytes(1 << 20)
    for _ in range(64):
        channel.writev([endless])


class Background:
    """A call in another thread; ``result()`` is its value, or raises what it raised."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._value: object = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(call,), daemon=True)
        self._thread.start()

    def _run(self, call: Callable[[], object]) -> None:
        try:
            self._value = call()
        except BaseException as error:
            self._error = error

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def result(self) -> object:
        self._thread.join(20)
        assert not self._thread.is_alive(), "still blocked"
        if self._error is not None:
            raise self._error
        return self._value


def blocked(call: Callable[[], object]) -> Background:
    """``call`` in another thread that has had time to block."""
    background = Background(call)
    time.sleep(0.05)
    assert background.alive
    return background


@pytest.fixture
def fds_unchanged() -> Iterator[None]:
    """The test leaves no descriptor, no child and no thread of ours behind."""
    before = os.listdir("/proc/self/fd")
    yield
    for _ in range(100):
        after = os.listdir("/proc/self/fd")
        workers = [thread for thread in threading.enumerate() if thread.name.startswith("exec-")]
        if len(after) <= len(before) and not workers:
            break
        time.sleep(0.05)
    assert len(after) <= len(before)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.fixture(params=["tcp:127.0.0.1:0", "tcp:localhost:0", "tcp:[::1]:0", "unix"])
def socket_uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    uri: str = request.param
    return f"unix:{tmp_path}/sock" if uri == "unix" else uri


@pytest.mark.usefixtures("fds_unchanged")
def test_sockets_carry_bytes_both_ways(socket_uri: str) -> None:
    source, destination = connected(socket_uri)
    with source, destination:
        assert source.supports_return_path
        writer = Background(lambda: source.writev([PAYLOAD[:7], b"", memoryview(PAYLOAD)[7:]]))
        received = bytearray()
        while len(received) < len(PAYLOAD):
            received += destination.read(1 << 20)
        writer.result()
        assert received == PAYLOAD
        destination.writev([b"back"])
        assert source.read(100) == b"back"
        source.finish()
        source.close()
        assert destination.read(10) == b""


@pytest.mark.usefixtures("fds_unchanged")
def test_writev_takes_more_buffers_than_the_system_does_and_numpy_arrays() -> None:
    source, destination = connected("tcp:127.0.0.1:0")
    buffers = [PAYLOAD[at : at + 97] for at in range(0, 97 * 3 * IOV_MAX, 97)]
    words = np.arange(5000, dtype=np.uint64)
    with source, destination:
        writer = Background(lambda: (source.writev(buffers), source.writev([words.data]), source.close()))
        assert read_all(destination) == b"".join(buffers) + words.tobytes()
        writer.result()


def test_port_zero_and_socket_addresses_are_reported_as_qemu_does(tmp_path: Path) -> None:
    with listen(parse_uri("tcp:127.0.0.1:0")) as listener:
        (address,) = listener.socket_addresses
        assert address == {"type": "inet", "host": "127.0.0.1", "port": address["port"], "ipv4": True}
        assert int(address["port"]) > 0
    with listen(parse_uri(f"unix:{tmp_path}/s")) as listener:
        assert listener.socket_addresses == [{"type": "unix", "path": f"{tmp_path}/s"}]
    with listen(parse_uri("exec:true")) as listener:
        assert listener.socket_addresses == []
    with listen(parse_uri("tcp::0")) as listener:
        port = listener.socket_addresses[0]["port"]
        for host in ("127.0.0.1", "[::1]"):
            connect(parse_uri(f"tcp:{host}:{port}")).close()
            listener.accept().close()


def test_busy_port_is_named_and_to_finds_the_next_one() -> None:
    with listen(parse_uri("tcp:127.0.0.1:0")) as first:
        port = int(first.socket_addresses[0]["port"])
        with pytest.raises(ChannelError, match=f"Failed to listen on '127.0.0.1:{port}': Address"):
            listen(parse_uri(f"tcp:127.0.0.1:{port}"))
        with listen(parse_uri(f"tcp:127.0.0.1:{port},to={min(port + 50, 65535)}")) as second:
            assert int(second.socket_addresses[0]["port"]) > port


def test_unix_socket_file_is_replaced_removed_and_nothing_else_is(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    abandoned = socket.socket(socket.AF_UNIX)
    abandoned.bind(str(path))
    abandoned.close()
    with listen(parse_uri(f"unix:{path}")):
        assert path.is_socket()
    assert not path.exists()
    path.write_text("precious")
    with pytest.raises(ChannelError, match=f"Failed to bind socket to {path}: Address already in use"):
        listen(parse_uri(f"unix:{path}"))
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("tcp:127.0.0.1:1", "Failed to connect to '127.0.0.1:1': Connection refused"),
        ("unix:/nowhere/s", "Failed to connect to '/nowhere/s': No such file or directory"),
        ("unix:" + "x" * 200, "is too long"),
        ("tcp:no.such.host.invalid:1", "address resolution failed for no.such.host.invalid:1"),
        ("tcp:127.0.0.1:no-such-service", "address resolution failed for 127.0.0.1:no-such-service"),
        ("file:/nowhere/f", "Unable to open /nowhere/f: No such file or directory"),
        ("file:/", "Unable to open /: Is a directory"),
    ],
)
@pytest.mark.usefixtures("fds_unchanged")
def test_unreachable_address_is_one_line_that_names_it(uri: str, message: str) -> None:
    with pytest.raises(ChannelError) as caught:
        connect(parse_uri(uri))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("fds_unchanged")
def test_connecting_can_be_cancelled(tmp_path: Path) -> None:
    # A full backlog makes a unix connect wait for ever.
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "s"))
    server.listen(0)
    fillers = []
    for _ in range(2):
        filler = socket.socket(socket.AF_UNIX)
        filler.setblocking(False)
        filler.connect_ex(str(tmp_path / "s"))
        fillers.append(filler)
    cancel = Waker()
    attempt = blocked(lambda: connect(parse_uri(f"unix:{tmp_path}/s"), cancel=cancel))
    cancel.set()
    with pytest.raises(ChannelError, match="Operation canceled"):
        attempt.result()
    cancel.close()
    for sock in (server, *fillers):
        sock.close()


@pytest.mark.usefixtures("fds_unchanged")
def test_closing_a_listener_wakes_accept(socket_uri: str) -> None:
    listener = listen(parse_uri(socket_uri))
    waiting = blocked(listener.accept)
    listener.close()
    with pytest.raises(ChannelError, match="the listener is closed"):
        waiting.result()


@pytest.mark.usefixtures("fds_unchanged")
def test_transport_with_one_peer_gives_one_channel(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"stream")
    listener = listen(parse_uri(f"file:{tmp_path}/f"))
    listener.accept().close()
    waiting = blocked(listener.accept)
    listener.close()
    with pytest.raises(ChannelError, match="the listener is closed"):
        waiting.result()
    never_accepted = listen(parse_uri("exec:cat"))
    never_accepted.close()


def pairs(tmp_path: Path) -> dict[str, Callable[[], tuple[Channel, Channel | None]]]:
    def pipe() -> tuple[Channel, Channel]:
        read_end, write_end = os.pipe()
        return connect(parse_uri(f"fd:{write_end}")), listen(parse_uri(f"fd:{read_end}")).accept()

    return {
        "tcp": lambda: connected("tcp:127.0.0.1:0"),
        "unix": lambda: connected(f"unix:{tmp_path}/s"),
        "pipe": pipe,
        "exec": lambda: (connect(parse_uri("exec:sleep 60")), listen(parse_uri("exec:sleep 60")).accept()),
    }


@pytest.mark.parametrize("how", ["shutdown", "close"])
@pytest.mark.parametrize("kind", ["tcp", "unix", "pipe", "exec"])
@pytest.mark.usefixtures("fds_unchanged")
def test_shutdown_and_close_wake_blocked_readers_and_writers(kind: str, how: str, tmp_path: Path) -> None:
    source, destination = pairs(tmp_path)[kind]()
    assert destination is not None
    reader = blocked(lambda: destination.read(1))
    getattr(destination, how)()
    with pytest.raises(ChannelError, match=r"was shut down|is closed"):
        reader.result()
    source.close()
    destination.close()

    source, destination = pairs(tmp_path)[kind]()
    assert destination is not None
    writer = blocked(lambda: write_for_ever(source))
    getattr(source, how)()
    with pytest.raises(ChannelError, match=r"was shut down|is closed"):
        writer.result()
    with pytest.raises(ChannelError):
        source.writev([b"x"])
    for channel in (source, destination):
        channel.shutdown()
        channel.close()
        channel.close()
        channel.shutdown()


@pytest.mark.usefixtures("fds_unchanged")
def test_peer_that_goes_away_is_reported_with_the_channel_name(socket_uri: str) -> None:
    source, destination = connected(socket_uri)
    destination.close()
    reported = rf"Unable to write to {source.name[:4]}.*(Broken pipe|reset)"
    with source, pytest.raises(ChannelError, match=reported):
        write_for_ever(source)


def test_reset_is_an_error_of_the_reader_not_the_end() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    source = connect(parse_uri(f"tcp:127.0.0.1:{listening.getsockname()[1]}"))
    peer, _ = listening.accept()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()
    with source, pytest.raises(ChannelError, match=r"Unable to read from tcp:.*: Connection reset by peer"):
        source.read(1)
    listening.close()


@pytest.mark.usefixtures("fds_unchanged")
def test_closing_with_unread_bytes_does_not_destroy_what_was_sent() -> None:
    source, destination = connected("tcp:127.0.0.1:0")
    destination.writev([b"nobody reads this"])
    time.sleep(0.02)
    source.writev([PAYLOAD[:100_000]])
    source.close()
    with destination:
        assert read_all(destination) == PAYLOAD[:100_000]


@pytest.mark.parametrize("how", ["close", "shutdown and close"])
@pytest.mark.usefixtures("fds_unchanged")
def test_peer_that_only_writes_learns_at_once_that_nobody_reads_and_why(how: str) -> None:
    with listen(parse_uri("tcp:127.0.0.1:0")) as listener:
        peer = socket.create_connection(("127.0.0.1", int(listener.socket_addresses[0]["port"])))
        destination = listener.accept()
    peer.settimeout(20)  # how long a window that nobody opens again lets it wait, and more

    def write() -> None:
        while True:
            peer.sendall(bytes(1 << 20))

    with peer:
        writer = blocked(write)
        destination.read(100)
        destination.writev([b"no"])
        if how != "close":
            destination.shutdown()
        destination.close()
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            writer.result()
        assert peer.recv(100) == b"no"


# -- fd


@pytest.mark.usefixtures("fds_unchanged")
def test_fd_of_a_pipe_is_one_direction_and_blocks_as_before_afterwards() -> None:
    read_end, write_end = os.pipe()
    kept = os.dup(write_end)
    source, destination = connect(parse_uri(f"fd:{write_end}")), listen(parse_uri(f"fd:{read_end}")).accept()
    with source, destination:
        assert not source.supports_return_path
        writer = Background(lambda: source.writev([PAYLOAD]))
        received = bytearray()
        while len(received) < len(PAYLOAD):
            received += destination.read(1 << 20)
        writer.result()
        assert received == PAYLOAD
        with pytest.raises(ChannelError, match="it is open for writing only"):
            source.read(1)
        with pytest.raises(ChannelError, match="it is open for reading only"):
            destination.writev([b"x"])
    assert os.get_blocking(kept)
    os.close(kept)


@pytest.mark.usefixtures("fds_unchanged")
def test_fd_of_a_socket_by_name_is_full_duplex_and_closed_by_its_channel() -> None:
    ours, theirs = socket.socketpair()
    names = {"mig": ours.detach()}
    source = connect(parse_uri("fd:mig"), names.pop)
    theirs.sendall(b"hi")
    assert source.read(10) == b"hi"
    source.writev([b"ho"])
    assert theirs.recv(10) == b"ho"
    source.close()
    assert theirs.recv(10) == b""
    theirs.close()


def test_fd_of_a_file_honours_its_offset(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"0123456789")
    fd = os.open(path, os.O_RDWR)
    os.lseek(fd, 4, os.SEEK_SET)
    with connect(parse_uri(f"fd:{fd}")) as source:
        source.writev([b"ab", b"c"])
    assert path.read_bytes() == b"0123abc789"
    fd = os.open(path, os.O_RDONLY)
    os.lseek(fd, 8, os.SEEK_SET)
    with listen(parse_uri(f"fd:{fd}")).accept() as destination:
        assert read_all(destination) == b"89"


@pytest.mark.usefixtures("fds_unchanged")
def test_wrong_fd_is_refused() -> None:
    with pytest.raises(OptionError, match="File descriptor named 'zz' has not been found"):
        connect(parse_uri("fd:zz"))
    with pytest.raises(OptionError, match="Invalid file descriptor number '9999': Bad file descriptor"):
        connect(parse_uri("fd:9999"))
    with pytest.raises(OptionError, match="Invalid file descriptor number '1x'"):
        connect(parse_uri("fd:1x"))
    with pytest.raises(OptionError, match="Invalid file descriptor number"):
        connect(parse_uri("fd:99999999999999999999"))
    read_end, write_end = os.pipe()
    with pytest.raises(OptionError, match="not open for writing"):
        connect(parse_uri(f"fd:{read_end}"))
    with pytest.raises(OptionError, match="not open for reading"):
        listen(parse_uri(f"fd:{write_end}"))
    datagrams = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for sock in datagrams:
        with pytest.raises(OptionError, match="not a stream socket"):
            connect(parse_uri(f"fd:{sock.detach()}"))


# -- file


def test_file_writes_from_its_offset_and_keeps_what_is_before_it(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"HEADERHEADER" * 10)
    with connect(parse_uri(f"file:{path},offset=0xc")) as source:
        assert not source.supports_return_path
        source.writev([PAYLOAD[:5000]])
    assert path.read_bytes() == b"HEADERHEADER" + PAYLOAD[:5000]
    with listen(parse_uri(f"file:{path},offset=12")).accept() as destination:
        assert read_all(destination) == PAYLOAD[:5000]
    with connect(parse_uri(f"file:{path}")) as source:
        source.writev([b"new"])
    assert path.read_bytes() == b"new"


def test_file_that_is_made_is_not_for_others(tmp_path: Path) -> None:
    connect(parse_uri(f"file:{tmp_path}/f,offset=4k")).close()
    status = (tmp_path / "f").stat()
    assert status.st_size == 4096
    assert status.st_mode & 0o007 == 0


def test_full_device_is_an_error_of_the_writer() -> None:
    with (
        connect(parse_uri("file:/dev/full")) as source,
        pytest.raises(ChannelError, match="Unable to write to file:/dev/full: No space left on device"),
    ):
        source.writev([b"x" * 4096])


# -- exec


@pytest.mark.usefixtures("fds_unchanged")
def test_exec_gets_the_stream_and_has_written_it_when_finish_returns(tmp_path: Path) -> None:
    with connect(parse_uri(f"exec:gzip -1 > {tmp_path}/f.gz")) as source:
        source.writev([PAYLOAD])
        source.finish()
        with listen(parse_uri(f"exec:gunzip < {tmp_path}/f.gz")).accept() as destination:
            assert hashlib.sha256(read_all(destination)).digest() == hashlib.sha256(PAYLOAD).digest()


@pytest.mark.usefixtures("fds_unchanged")
def test_exec_is_full_duplex() -> None:
    with connect(parse_uri("exec:cat")) as channel:
        assert channel.supports_return_path
        writer = Background(lambda: channel.writev([PAYLOAD]))
        received = bytearray()
        while len(received) < len(PAYLOAD):
            received += channel.read(1 << 16)
        writer.result()
        assert received == PAYLOAD
        channel.finish()


@pytest.mark.usefixtures("fds_unchanged")
def test_exec_reports_status_and_stderr_on_write_read_and_finish(capfd: pytest.CaptureFixture[str]) -> None:
    cases: list[tuple[str, Callable[[Channel], object], str]] = [
        ("echo no disk >&2; exit 3", write_for_ever, r"^exec:echo no disk .* exited with status 3: no disk$"),
        ("printf abc; exit 4", read_all, "exited with status 4"),
        ("cat > /dev/null; exit 5", lambda channel: channel.finish(), "exited with status 5"),
        ("kill -9 $$", lambda channel: channel.finish(), r"was killed by signal 9 \(Killed\)"),
    ]
    for command, act, message in cases:
        with connect(parse_uri(f"exec:{command}")) as channel, pytest.raises(ChannelError, match=message):
            act(channel)
    assert "no disk" in capfd.readouterr().err


@pytest.mark.usefixtures("fds_unchanged")
def test_exec_command_that_ignores_everything_is_put_down() -> None:
    channel = connect(parse_uri("exec:trap '' TERM; while :; do sleep 0.2; done"))
    time.sleep(0.1)
    channel.close()


@pytest.mark.usefixtures("fds_unchanged")
def test_descriptors_are_not_inherited_by_commands() -> None:
    source, destination = connected("tcp:127.0.0.1:0")
    with source, destination, listen(parse_uri("exec:ls /proc/self/fd")).accept() as command:
        assert set(read_all(command).split()) <= {b"0", b"1", b"2", b"3"}


# -- stress


@pytest.mark.usefixtures("fds_unchanged")
def test_full_duplex_with_two_threads_a_side_loses_nothing(socket_uri: str) -> None:
    duplex_stress(*connected(socket_uri), seed=7)


def duplex_stress(left: Channel, right: Channel, seed: int, size: int = 6_000_000) -> None:
    """Both sides write and read at once, in pieces of all sizes; what arrives is what was sent."""
    print(f"seed {seed}")

    def send(channel: Channel, number: int) -> bytes:
        rng = random.Random(number)
        digest = hashlib.sha256()
        left_over = size
        while left_over:
            sizes = rng.choices((1, 8, 64, 4096, 70_000), k=rng.randrange(1, 6))
            buffers = [rng.randbytes(count) for count in sizes]
            buffers = [buffers[0][:left_over]] if sum(map(len, buffers)) > left_over else buffers
            for buffer in buffers:
                digest.update(buffer)
                left_over -= len(buffer)
            channel.writev(buffers)
        return digest.digest()

    def receive(channel: Channel, number: int) -> bytes:
        rng = random.Random(-number)
        digest = hashlib.sha256()
        space = memoryview(bytearray(300_000))
        left_over = size
        while left_over:
            taken = channel.readinto(space[: min(left_over, rng.choice((1, 100, 5000, 300_000)))])
            assert taken
            digest.update(space[:taken])
            left_over -= taken
        return digest.digest()

    with left, right:
        workers = {
            (kind.__name__, name): Background(lambda k=kind, c=channel, n=name: k(c, n))  # type: ignore[misc]
            for kind in (send, receive)
            for name, channel in ((seed, left), (seed + 1, right))
        }
        results = {key: worker.result() for key, worker in workers.items()}
    assert results["send", seed] == results["receive", seed + 1]
    assert results["send", seed + 1] == results["receive", seed]


def written_unread(source: Channel) -> int:
    """Bytes that ``source`` takes although nobody reads; the connection is of no use afterwards."""
    taken = 0

    def fill() -> None:
        nonlocal taken
        piece = bytes(1 << 16)
        while True:
            source.writev([piece])
            taken += len(piece)

    writer, last = Background(fill), -1
    while taken != last:
        last = taken
        time.sleep(0.3)
    assert writer.alive
    source.shutdown()
    with pytest.raises(ChannelError):
        writer.result()
    return taken


def test_on_a_prompt_connection_little_queues_up() -> None:
    """What is asked for in a postcopy waits behind what was written before."""
    taken = {}
    for prompt in (False, True):
        source, destination = connected("tcp:127.0.0.1:0")
        with source, destination:
            for channel in (source, destination) if prompt else ():
                channel.be_prompt()
            taken[prompt] = written_unread(source)
    assert 0 < taken[True] <= 2 << 20
    assert taken[True] < taken[False]


def test_every_channel_may_be_asked_to_be_prompt(tmp_path: Path) -> None:
    source, destination = connected(f"unix:{tmp_path}/sock")
    with source, destination:
        for channel in (source, destination):
            channel.be_prompt()
        source.writev([b"hello"])
        assert destination.read(5) == b"hello"
        source.close()
        source.be_prompt()
