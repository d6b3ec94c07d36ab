"""Frames between two back ends over a socket, and peers that lie."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2kemu.errors import OptionError
from e2kemu.loop import MainLoop
from e2kemu.net.config import SocketConfig, parse_netdev
from e2kemu.net.stream import StreamBackend

FRAME = bytes(range(200))


class Card:
    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def receive(self, frame: bytes) -> bool:
        self.frames.append(frame)
        return True


@pytest.fixture
def net() -> Iterator[tuple[MainLoop, Callable[[str], StreamBackend]]]:
    loop, made = MainLoop(), []

    def make(text: str) -> StreamBackend:
        settings = parse_netdev(text).settings
        assert isinstance(settings, SocketConfig)
        made.append(StreamBackend("n", loop, settings))
        made[-1].card = Card()
        return made[-1]

    yield loop, make
    for backend in made:
        backend.close()
    loop.close()


def pump(loop: MainLoop, until: Callable[[], object]) -> None:
    for _ in range(2000):
        if until():
            return
        loop.run_once(0.005)
    raise AssertionError("it did not happen")


def frames(backend: StreamBackend) -> list[bytes]:
    assert isinstance(backend.card, Card)
    return backend.card.frames


@pytest.mark.parametrize("kind", ["socket", "stream", "unix"])
def test_frames_go_both_ways_in_order_and_a_new_peer_is_taken(
    net: tuple[MainLoop, Callable[[str], StreamBackend]], kind: str, tmp_path: Path
) -> None:
    loop, make = net
    if kind == "unix":
        here = make(f"stream,id=n,server=on,addr.type=unix,addr.path={tmp_path / 'wire'}")
        client = f"stream,id=m,addr.type=unix,addr.path={tmp_path / 'wire'}"
    elif kind == "stream":
        here = make("stream,id=n,server=on,addr.type=inet,addr.host=127.0.0.1,addr.port=0")
        client = f"stream,id=m,addr.type=inet,addr.host=127.0.0.1,addr.port={here.port}"
    else:
        here = make("socket,id=n,listen=127.0.0.1:0")
        client = f"socket,id=m,connect=127.0.0.1:{here.port}"
    assert here.describe().startswith("wait from ")
    here.transmit(FRAME)  # nobody is there: lost
    loop.run_once(0)
    for _ in range(2):
        there = make(client)
        pump(loop, lambda there=there: here.connected and there.connected)  # type: ignore[misc]
        sent = [os.urandom(random.randrange(60, 1515)) for _ in range(300)]
        for frame in sent:
            there.transmit(frame)
            here.transmit(frame)
        pump(loop, lambda there=there: len(frames(there)) + len(frames(here)) == 600)  # type: ignore[misc]
        assert frames(there) == frames(here) == sent
        frames(here).clear()
        there.close()
        pump(loop, lambda: not here.connected)


def test_a_client_comes_back_when_it_shall(net: tuple[MainLoop, Callable[[str], StreamBackend]]) -> None:
    loop, make = net
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        client = make(f"stream,id=m,addr.type=inet,addr.host=127.0.0.1,addr.port={port},reconnect-ms=20")
        for _ in range(3):
            pump(loop, lambda: client.connected)
            peer, _ = listener.accept()
            peer.close()
            pump(loop, lambda: not client.connected)


def test_a_peer_that_does_not_read_costs_frames_and_no_memory(
    net: tuple[MainLoop, Callable[[str], StreamBackend]]
) -> None:
    loop, make = net
    here = make("socket,id=n,listen=127.0.0.1:0")
    with socket.create_connection(("127.0.0.1", here.port)):
        pump(loop, lambda: here.connected)
        for _ in range(60):
            for _ in range(300):
                here.transmit(bytes(1500))
            loop.run_once(0)
        assert here.dropped > 1000
        assert here._queued < 2 << 20


@pytest.mark.parametrize("seed", range(3))
def test_bytes_in_pieces_are_frames_and_a_wrong_length_ends_the_connection(
    net: tuple[MainLoop, Callable[[str], StreamBackend]], seed: int, capfd: pytest.CaptureFixture[str]
) -> None:
    print(f"seed {seed}")
    rng, (loop, make) = random.Random(seed), net
    here = make("socket,id=n,listen=127.0.0.1:0")
    with socket.create_connection(("127.0.0.1", here.port)) as peer:
        sent = [rng.randbytes(rng.randrange(60, 1515)) for _ in range(30)]
        data = b"".join(len(frame).to_bytes(4, "big") + frame for frame in sent) + bytes(4)
        while data:
            cut = rng.choice((1, 3, 7, 1000))
            peer.sendall(data[:cut])
            data = data[cut:]
            loop.run_once(0.001)
        pump(loop, lambda: len(frames(here)) == 30)
        assert frames(here) == sent
        peer.sendall(b"\xff" * 100)
        pump(loop, lambda: not here.connected)
    assert "the peer sends a frame of 4294967295 bytes" in capfd.readouterr().err
    with socket.create_connection(("127.0.0.1", here.port)) as peer:
        pump(loop, lambda: here.connected)
        peer.sendall(len(FRAME).to_bytes(4, "big") + FRAME)
        pump(loop, lambda: frames(here)[-1] == FRAME)


def test_places_that_cannot_be_had_are_one_line(
    net: tuple[MainLoop, Callable[[str], StreamBackend]], capfd: pytest.CaptureFixture[str]
) -> None:
    loop, make = net
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OptionError, match=f"can't bind 127.0.0.1:{port}: Address already in use"):
            make(f"socket,id=n,listen=127.0.0.1:{port}")
    make(f"socket,id=n,connect=127.0.0.1:{port}")
    loop.run_once(0.1)
    assert f"netdev 'n': can't connect to 127.0.0.1:{port}: Connection refused" in capfd.readouterr().err
    for wrong in (
        "socket,id=n", "socket,id=n,listen=:1,connect=x:1", "socket,id=n,listen=x", "socket,id=n,listen=:99999",
        "socket,id=n,mcast=224.0.0.1:1", "stream,id=n", "stream,id=n,addr.type=fd", "socket,listen=:0", "tap,id=n",
        "socket,id=1,listen=:0", "stream,id=n,server=on,addr.type=unix,addr.path=x,reconnect-ms=5",
        "stream,id=n,addr.type=unix",
    ):  # fmt: skip
        with pytest.raises(OptionError):
            make(wrong)
