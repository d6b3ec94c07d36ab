"""Fixtures of the migration tests: recorded streams, pairs of machines."""

from __future__ import annotations

import json
import lzma
import socket
import struct
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from e2kemu.migration.service import MigrationService
from tests.migration.toy import MIB, PAGE, ToyMachine

SAMPLES = Path(__file__).parent.parent / "data" / "streams" / "qemu-samples.tar.xz"


class Samples:
    """The recorded files by name."""

    def __init__(self) -> None:
        with tarfile.open(fileobj=BytesIO(lzma.decompress(SAMPLES.read_bytes()))) as archive:
            self.files = {
                member.name: archive.extractfile(member).read()  # type: ignore[union-attr]
                for member in archive.getmembers()
            }

    def stream(self, name: str) -> bytes:
        return self.files[f"{name}.mig"]

    def state(self, name: str) -> dict[str, Any] | None:
        raw = self.files.get(f"{name}.state.json")
        return None if raw is None else json.loads(raw)

    def names(self) -> list[str]:
        return sorted(name.removesuffix(".mig") for name in self.files if name.endswith(".mig"))


@pytest.fixture(scope="session")
def samples() -> Samples:
    return Samples()


class Side:
    """A machine and its migration service."""

    def __init__(self, machine: ToyMachine) -> None:
        self.machine = machine
        self.service = MigrationService(machine)
        self.service.capabilities.set({"events": True})

    def listen(self, uri: str = "tcp:127.0.0.1:0", *, exit_on_error: bool = True) -> str:
        """Start the incoming side; returns the URI to migrate to."""
        self.service.start_incoming(uri, exit_on_error=exit_on_error)
        address = self.service.query()["socket-address"][0]
        return f"tcp:127.0.0.1:{address['port']}" if address["type"] == "inet" else f"unix:{address['path']}"

    def status(self) -> str:
        """The status of the outgoing migration."""
        return self.service.outgoing_state.status

    def wait_status(self, *statuses: str) -> str:
        assert self.service.outgoing_state.wait_until(lambda now: now in statuses, 30), self.service.query()
        return self.status()

    def wait_incoming(self) -> str:
        """Wait for the end of the incoming migration."""
        state = self.service.incoming_state
        assert state.wait_until(lambda now: now in ("completed", "failed"), 30)
        return state.status


MakeSide = Callable[..., Side]


@pytest.fixture
def side() -> Iterator[MakeSide]:
    """Make machines; all are ended."""
    with ExitStack() as stack:

        def make(ram: int = 4 * MIB, guest: Any = None, **more: Any) -> Side:
            made = Side(ToyMachine(ram, guest, **more))
            stack.callback(made.machine.close)
            stack.callback(made.service.close)
            return made

        yield make


class Peer:
    """Somebody at the other end of the source's connection who reads ``size`` bytes and then hangs up.

    ``answer`` bytes are sent at once; ``reset`` hangs up with RST.
    """

    def __init__(self, size: int, *, answer: bytes = b"", reset: bool = False) -> None:
        self.received = bytearray()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.uri = f"tcp:127.0.0.1:{self._server.getsockname()[1]}"
        self._size, self._answer, self._reset = size, answer, reset
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            connection, _ = self._server.accept()
        except OSError:
            return  # closed: nobody came
        finally:
            self._server.close()
        with connection, suppress(ConnectionError):  # reset by a source that was cancelled
            connection.sendall(self._answer)
            while len(self.received) < self._size:
                data = connection.recv(self._size - len(self.received))
                if not data:
                    break
                self.received += data
            if self._reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def join(self) -> None:
        try:
            self._server.shutdown(socket.SHUT_RDWR)  # wakes accept
        except OSError:
            pass  # somebody came
        self._thread.join(20)


def paused_source(side: MakeSide) -> Side:
    """A small machine that stands still, with a few pages that are not zero."""
    source = side(16 * PAGE)
    source.machine.ram.view[: 4 * PAGE] = np.arange(4 * PAGE, dtype=np.uint32).astype(np.uint8)
    source.machine.run_state = "paused"
    return source


@pytest.fixture(scope="session")
def recorded() -> bytes:
    """The stream of ``paused_source``, as a socket gets it."""
    source = paused_source(lambda ram: Side(ToyMachine(ram)))
    peer = Peer(1 << 30)
    source.service.migrate(peer.uri)
    assert source.service.wait(30) == "completed"
    peer.join()
    source.machine.close()
    return bytes(peer.received)
