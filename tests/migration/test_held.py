"""A destination that has everything starts the guest when the source has given it away, and never loses it."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest

from e2kemu.errors import StateError
from e2kemu.migration import outgoing
from tests.migration.conftest import MakeSide, Side
from tests.migration.toy import PAGE

COMMITTED = b"\x08\0\2\0\4\0\0\0\x44"
HOLDING, SHUT = b"\0\2\0\4\0\0\0\x45", b"\0\1\0\4\0\0\0\0"
HELD = "its guest is all here, stopped: unless the source still runs it, cont starts it here"


def _connect(destination: Side) -> socket.socket:
    host, port = destination.listen().removeprefix("tcp:").split(":")
    connection = socket.create_connection((host, int(port)))
    connection.settimeout(20)
    return connection


def _up_to_the_last_word(connection: socket.socket, stream: bytes) -> None:
    connection.sendall(stream[: -len(COMMITTED)])
    heard = b""
    while not heard.endswith(HOLDING + SHUT):
        heard += connection.recv(1)


def test_the_guest_starts_at_the_sources_word_and_not_before(side: MakeSide, recorded: bytes) -> None:
    destination = side(16 * PAGE, incoming=True)
    with _connect(destination) as connection:
        _up_to_the_last_word(connection, recorded)
        for part in (COMMITTED[:4], COMMITTED[4:-1]):
            connection.sendall(part)
            assert not destination.service.incoming_state.wait_until(lambda status: status != "active", 0.05)
            assert destination.machine.run_state == "inmigrate"
        connection.sendall(COMMITTED[-1:])
        assert destination.wait_incoming() == "completed"


@pytest.mark.parametrize("way", ["end", "reset", "migrate-pause", "another word"])
def test_without_the_sources_word_the_guest_is_kept_stopped_until_somebody_continues_it(
    way: str, side: MakeSide, recorded: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    destination = side(16 * PAGE, incoming=True)
    with pytest.raises(StateError, match="migrate-pause is currently only supported"):
        destination.service.pause()
    with _connect(destination) as connection:
        _up_to_the_last_word(connection, recorded)
        if way == "migrate-pause":
            destination.service.pause()
        elif way == "another word":
            connection.sendall(b"\x04")
        else:
            connection.sendall(COMMITTED[:-1])
            if way == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        assert destination.wait_incoming() == "failed"
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("e2kemu: load of migration failed: ")
    assert line.endswith(HELD)
    assert destination.service.query()["error-desc"] in line
    assert destination.machine.run_state == "paused"
    assert destination.machine.loop.status is None  # exit-on-error must not end the only one that has the guest
    destination.machine.start()
    assert destination.machine.run_state == "running"


def test_a_stream_from_a_file_needs_no_word(side: MakeSide, recorded: bytes, tmp_path: Path) -> None:
    """What `nc` has received from a source that waited for an answer in vain."""
    assert recorded.endswith(COMMITTED)
    path = tmp_path / "stream"
    for stream in (recorded, recorded[: -len(COMMITTED)]):
        path.write_bytes(stream)
        destination = side(16 * PAGE, incoming=True)
        destination.service.start_incoming(f"file:{path}")
        assert destination.wait_incoming() == "completed"


def test_an_idle_guest_runs_until_the_destination_has_loaded_what_is_under_way(
    side: MakeSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outgoing, "CATCH_UP_SECONDS", 20.0)
    source = side(16 * PAGE)
    source.service.parameters.set({"max-bandwidth": 1000, "zero-page-detection": "none"})
    source.machine.start()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        source.service.migrate(f"tcp:127.0.0.1:{listening.getsockname()[1]}")
        destination, _ = listening.accept()
    with destination:
        destination.settimeout(20)
        stream = b""
        for value in (1, 0x46):
            while struct.pack(">BHHI", 8, 2, 4, value) not in stream:
                stream += destination.recv(4096)
            if value == 0x46:  # it waits for the answer
                assert not source.service.outgoing_state.wait_until(lambda status: status != "active", 0.05)
                assert source.machine.is_running()
            destination.sendall(struct.pack(">HHI", 2, 4, value))
            path = source.service._outgoing._return_path  # type: ignore[union-attr]
            assert path is not None
            assert path.wait(lambda path, value=value: value in path.pongs, 20)
            source.service.parameters.set({"max-bandwidth": 0})
        source.wait_status("device")
    assert source.service.wait(30) == "failed"
    assert source.machine.is_running()
