"""One stopped emulator with both monitors on sockets, shared by the tests of a module."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import e2kemu.cli  # noqa: F401 - declares all commands
from tests.monitor.processes import RawHmp, RawQmp, machine_options, start


class Emulator:
    """The process and where to reach it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.qmp_path = directory / "qmp"
        self.hmp_path = directory / "hmp"
        self.process: subprocess.Popen[bytes] = start(
            *machine_options(directory), "-display", "none", "-name", "guest=tested",
            "-uuid", "12345678-9abc-def0-1234-56789abcdef0", "-serial", "null",
            "-qmp", f"unix:{self.qmp_path},server=on,wait=off",
            "-monitor", f"unix:{self.hmp_path},server=on,wait=off",
        )  # fmt: skip
        self.qmp().close()  # it listens

    def qmp(self) -> RawQmp:
        return RawQmp(self.qmp_path, self.process)

    def hmp(self) -> RawHmp:
        return RawHmp(self.hmp_path, self.process)


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    running = Emulator(tmp_path_factory.mktemp("monitor"))
    yield running
    assert running.process.poll() is None, "the emulator did not survive its monitors"
    running.process.terminate()
    assert running.process.wait(30) == 0


@pytest.fixture
def qmp(emulator: Emulator) -> Iterator[RawQmp]:
    """A negotiated QMP session."""
    client = emulator.qmp()
    client.negotiate()
    yield client
    client.close()


@pytest.fixture
def hmp(emulator: Emulator) -> Iterator[RawHmp]:
    client = emulator.hmp()
    yield client
    client.socket.close()
