"""Character devices against real peers: nothing lost, nothing out of order, nobody kept waiting."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from pathlib import Path

import pytest

from e2kemu.chardev import HIGH_WATER, OutputQueue
from e2kemu.chardev_socket import SocketChardev, split_host_port
from e2kemu.chardev_tty import PtyChardev
from e2kemu.errors import OptionError
from tests.chardev.conftest import Frontend, RunningLoop, eventually


def connect(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(30)
    client.connect(str(path))
    return client


def read_all(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = client.recv(65536)
        assert more, f"the end came after {len(data)} bytes of {size}"
        data += more
    return data


def test_a_slow_peer_gets_every_byte_in_order_and_the_writer_goes_on(running: RunningLoop) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(30)
    queue = OutputQueue(running.loop, ours.fileno(), ours.send)
    lines = [b"%07d\n" % number for number in range(250_000)]
    text = b"".join(lines)
    assert len(text) > HIGH_WATER, "else nothing is slow"

    def guest() -> None:
        for start in range(0, len(lines), 1000):
            queue.write(b"".join(lines[start : start + 1000]))

    writer = threading.Thread(target=guest)
    writer.start()
    writer.join(60)  # nobody has read yet: it ends nevertheless
    assert not writer.is_alive()
    assert queue.queued > HIGH_WATER
    assert read_all(theirs, len(text)) == text
    eventually(lambda: queue.queued == 0)
    running.do(queue.discard)
    ours.close()
    theirs.close()


def test_bytes_of_several_threads_stay_whole(running: RunningLoop) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    queue = OutputQueue(running.loop, writing, lambda data: os.write(writing, data))
    threads = [
        threading.Thread(target=lambda who=who: [queue.write(b"%d" % who * 100 + b"\n") for _ in range(300)])
        for who in range(3)
    ]
    for thread in threads:
        thread.start()
    data = b""
    while len(data) < 3 * 300 * 101:
        assert select.select([reading], [], [], 30)[0]
        data += os.read(reading, 65536)
    lines = data.splitlines()
    assert all(len(set(line)) == 1 and len(line) == 100 for line in lines)
    assert sorted(set(lines)) == [b"0" * 100, b"1" * 100, b"2" * 100]
    running.do(queue.discard)
    os.close(reading)
    os.close(writing)


def test_a_peer_that_died_ends_the_queue_not_the_writer(running: RunningLoop) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.close()
    queue = OutputQueue(running.loop, ours.fileno(), ours.send)
    for _ in range(1000):
        queue.write(b"x" * 1000)
    assert queue.queued == 0
    ours.close()


def test_a_unix_server_takes_one_client_after_the_other(running: RunningLoop, tmp_path: Path) -> None:
    path = tmp_path / "s"
    user = Frontend()
    device = running.do(lambda: running.chardevs.open(f"unix:{path},server=on,wait=off", "c"))
    running.do(lambda: device.open_frontend(user.receive, user.event))
    device.write(b"nobody hears this")
    first = connect(path)
    first.sendall(b"one")
    eventually(lambda: user.data == b"one")
    assert user.events == ["opened"]
    device.write(b"answer")
    assert read_all(first, 6) == b"answer"
    second = connect(path)  # waits in the backlog
    second.sendall(b"two")
    first.close()
    eventually(lambda: user.data == b"onetwo")
    assert user.events == ["opened", "closed", "opened"]
    assert "server=on" in device.describe()
    second.close()
    running.do(device.close)
    assert not path.exists()


def test_a_dead_servers_socket_is_replaced_and_nothing_else(running: RunningLoop, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    device = running.do(lambda: running.chardevs.open(f"unix:{path},server=on,wait=off", "c"))
    with pytest.raises(OptionError, match="Address already in use"):
        running.do(lambda: running.chardevs.open(f"unix:{path},server=on,wait=off", "d"))
    running.do(device.close)
    path.write_text("precious")
    with pytest.raises(OptionError, match="Address already in use"):
        running.do(lambda: running.chardevs.open(f"unix:{path},server=on,wait=off", "e"))
    assert path.read_text() == "precious"


def test_descriptors_arrive_with_the_bytes_and_only_the_newest_are_kept(
    running: RunningLoop, tmp_path: Path
) -> None:
    path = tmp_path / "s"
    user = Frontend()
    device = running.do(lambda: running.chardevs.open(f"unix:{path},server=on,wait=off", "c"))
    running.do(lambda: device.open_frontend(user.receive, user.event))
    client = connect(path)
    eventually(lambda: user.events == ["opened"])
    before = len(os.listdir("/proc/self/fd"))
    for text in (b"a", b"b"):
        reading, writing = os.pipe()
        socket.send_fds(client, [text], [writing])
        os.close(reading)
        os.close(writing)
        eventually(lambda text=text: user.data.endswith(text))  # type: ignore[misc]
    fds = running.do(device.take_fds)
    assert len(fds) == 1
    assert not os.get_inheritable(fds[0])
    os.close(fds[0])
    assert len(os.listdir("/proc/self/fd")) <= before
    client.close()


def test_tcp_both_ways_and_port_names(running: RunningLoop) -> None:
    user = Frontend()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        device = running.do(lambda: running.chardevs.open(f"tcp:127.0.0.1:{port}", "client"))
        peer, _ = server.accept()
        running.do(lambda: device.open_frontend(user.receive, user.event))
        device.write(b"hello")
        assert read_all(peer, 5) == b"hello"
        peer.sendall(b"back")
        eventually(lambda: user.data == b"back")
        peer.close()
        eventually(lambda: user.events == ["opened", "closed"])
    assert split_host_port("[::1]:22") == ("::1", "22")
    assert split_host_port(":22") == ("", "22")
    with pytest.raises(OptionError, match="error parsing address 'host'"):
        split_host_port("host")


def test_a_tcp_server_listens_on_every_address_of_a_name_and_says_its_port(running: RunningLoop) -> None:
    user = Frontend()
    device = running.do(lambda: running.chardevs.open("tcp:localhost:0,server=on,wait=off", "c"))
    running.do(lambda: device.open_frontend(user.receive, user.event))
    port = int(device.describe().removesuffix(",server=on").rpartition(":")[2])
    hosts = {where[0] for *_, where in socket.getaddrinfo("localhost", port, type=socket.SOCK_STREAM)}
    for count, host in enumerate(sorted(map(str, hosts)), 1):
        with socket.create_connection((host, port), 30) as client:
            client.sendall(b"x")
            eventually(lambda count=count: len(user.data) == count)  # type: ignore[misc]
        eventually(lambda: user.events[-1] == "closed")


def test_what_is_queued_leaves_before_the_close(running: RunningLoop, tmp_path: Path) -> None:
    path = tmp_path / "s"
    device = running.do(lambda: running.chardevs.open(f"unix:{path},server=on,wait=off", "c"))
    assert isinstance(device, SocketChardev)
    running.do(lambda: device.open_frontend(lambda data: None))
    client = connect(path)
    eventually(lambda: device.connected)
    text = b"y" * 700_000
    running.do(lambda: device.write(text))
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: (time.sleep(0.2), got.append(read_all(client, len(text)))))
    reader.start()
    running.do(device.close)
    reader.join(30)
    assert got == [text]
    client.close()


def test_a_pty_connects_when_somebody_opens_it_and_may_be_opened_again(running: RunningLoop) -> None:
    user = Frontend()
    device = running.do(lambda: running.chardevs.open("pty", "c"))
    assert isinstance(device, PtyChardev)
    running.do(lambda: device.open_frontend(user.receive, user.event))
    for round_ in (1, 2):
        fd = os.open(device.path, os.O_RDWR | os.O_NOCTTY)
        eventually(lambda round_=round_: user.events.count("opened") == round_)  # type: ignore[misc]
        os.write(fd, b"in")
        eventually(lambda round_=round_: user.data == b"in" * round_)  # type: ignore[misc]
        device.write(b"out")
        assert select.select([fd], [], [], 30)[0]
        assert os.read(fd, 10) == b"out"
        os.close(fd)
        eventually(lambda round_=round_: user.events.count("closed") == round_)  # type: ignore[misc]


def test_a_file_holds_what_was_written(running: RunningLoop, tmp_path: Path) -> None:
    path = tmp_path / "a,b"
    path.write_text("old")
    device = running.do(lambda: running.chardevs.open(f"file:{tmp_path}/a,,b", "c"))
    device.write(b"one\n")
    device.write(b"two\n")
    assert path.read_bytes() == b"one\ntwo\n"


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("unix:/nonexistent/s", "Failed to connect socket '/nonexistent/s': No such file or directory"),
        ("unix:/nonexistent/s,server=on,wait=off", "Failed to bind socket '/nonexistent/s'"),
        ("unix:x,colour=red", "Invalid parameter 'colour'"),
        ("unix:x,server=maybe", "Parameter 'server' expects 'on' or 'off'"),
        ("unix:x,wait=off", "'wait' option is incompatible with socket in client connect mode"),
        ("tcp:nowhere", "error parsing address 'nowhere'"),
        ("tcp:127.0.0.1:1", "Failed to connect to '127.0.0.1:1': Connection refused"),
        ("file:/nonexistent/f", "Could not open '/nonexistent/f': No such file or directory"),
        ("file:", "Parameter 'path' is missing"),
        ("vc", "'vc' is not a valid char driver name"),
    ],
)
def test_what_cannot_be_opened_is_one_line(running: RunningLoop, spec: str, text: str) -> None:
    with pytest.raises(OptionError) as error:
        running.do(lambda: running.chardevs.open(spec, "c"))
    assert str(error.value).startswith(text)
    assert "\n" not in str(error.value)


def test_the_long_form_opens_the_same(running: RunningLoop, tmp_path: Path) -> None:
    path = tmp_path / "s"
    running.do(lambda: running.chardevs.add(f"socket,id=a,path={path},server=on,wait=off"))
    running.do(lambda: running.chardevs.add("null,id=b"))
    connect(path).close()
    assert set(running.chardevs.devices) == {"a", "b"}
    for text, error in (
        ("null,id=a", "Duplicate ID 'a' for chardev"),
        ("null", "Parameter 'id' is missing"),
        ("socket,id=c", "chardev: socket: no host/path given or both"),
        ("file,id=c", "Parameter 'path' is missing"),
    ):
        with pytest.raises(OptionError, match=error):
            running.do(lambda text=text: running.chardevs.add(text))  # type: ignore[misc]


def test_one_frontend_each(running: RunningLoop) -> None:
    device = running.do(lambda: running.chardevs.open("null", "c"))
    device.open_frontend(lambda data: None)
    with pytest.raises(OptionError, match="Device 'c' is in use"):
        device.open_frontend(lambda data: None)
