"""Fixtures of the migration tests: recorded streams, pairs of machines."""

from __future__ import annotations

import json
import lzma
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from e2kemu.migration.service import MigrationService
from tests.migration.toy import MIB, ToyMachine

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
