"""Cancelled in every status, over a plain and an encrypted connection: the guest runs on, and migrates in the end.

The connection goes through a valve; shut, it keeps the migration in the status in which it is.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from e2kemu.process import Emulator
from tests.conftest import StartEmulator
from tests.framework.pairs import (
    GUEST,
    SMALL,
    converge,
    do_not_converge,
    goes_on,
    listen,
    live,
    ready,
    runs_on,
    wait_rounds,
)
from tests.framework.transports import tls_object
from tests.framework.valve import FullListener, Valve

Reach = Callable[[Emulator, str, Valve], None]


def _handshake(source: Emulator, uri: str, valve: Valve) -> None:
    valve.open.clear()
    source.qmp("migrate", uri=uri)
    assert source.migration()["status"] == "setup"


def _active(source: Emulator, uri: str, valve: Valve) -> None:
    do_not_converge(source)
    source.qmp("migrate", uri=uri)
    wait_rounds(source, 2)


def _stuck(source: Emulator, uri: str, valve: Valve) -> None:
    _active(source, uri, valve)
    valve.open.clear()
    source.set_parameters(max_bandwidth=0)
    sent = -1
    while sent != (sent := source.migration()["ram"]["transferred"]):
        source.hmp("info status")


def _pre_switchover(source: Emulator, uri: str, valve: Valve) -> None:
    source.set_capability("pause-before-switchover")
    converge(source)
    source.qmp("migrate", uri=uri)
    source.wait_migration("pre-switchover")


def _device(source: Emulator, uri: str, valve: Valve) -> None:
    _pre_switchover(source, uri, valve)
    valve.open.clear()
    source.qmp("migrate-continue", state="pre-switchover")
    source.wait_migration("device")
    assert source.status() == "finish-migrate"


def _cancelling(source: Emulator, uri: str, valve: Valve) -> None:
    _device(source, uri, valve)
    source.qmp("migrate_cancel")
    assert source.migration()["status"] in ("cancelling", "cancelled")


PLAIN: dict[str, Reach] = {
    "active": _active,
    "active, stuck in a write": _stuck,
    "pre-switchover": _pre_switchover,
    "device": _device,
    "cancelling": _cancelling,
}
STATES: dict[str, dict[str, Reach]] = {"plain": PLAIN, "tls": {"setup": _handshake, **PLAIN}}


@contextmanager
def _attempt(destination: Emulator) -> Iterator[tuple[str, Valve]]:
    """A destination that waits, and the valve before it; it may be used again afterwards."""
    port = int(listen(destination, exit_on_error=False).rpartition(":")[2])
    with Valve(port) as valve:
        yield f"tcp:127.0.0.1:{valve.port}", valve


@pytest.mark.parametrize("how", ["plain", "tls"])
def test_cancelled_in_every_status_the_guest_runs_on_and_migrates_in_the_end(
    how: str, start: StartEmulator, pki: Path
) -> None:
    tls = how == "tls"
    source = start("source", *GUEST, *(tls_object(pki, "client") if tls else ()))
    destination = start("destination", *SMALL, "-incoming", "defer", *(tls_object(pki, "server") if tls else ()))
    ready(source)
    if tls:
        for emulator in (source, destination):
            emulator.set_parameters(tls_creds="tls0")
    with FullListener() as listener:
        for _ in range(2):
            source.qmp("migrate", uri=f"tcp:127.0.0.1:{listener.port}")
            assert source.migration()["status"] == "setup"  # it connects
            _cancel(source, "cancelled")
    for name, reach in STATES[how].items():
        print(name)
        with _attempt(destination) as (uri, valve):
            reach(source, uri, valve)
            _cancel(source, "cancelled")
            source.set_capability("pause-before-switchover", False)
        _attempt_over(destination)
        assert destination.status() == "inmigrate"
    source.qmp("migrate", uri="unix:/nobody/here")
    assert source.wait_migration()["status"] == "failed"
    _cancel(source, "failed")
    live(source, listen(destination))
    _cancel(source, "completed", running=False)
    goes_on(source, destination)


def _attempt_over(destination: Emulator) -> None:
    """Wait until the destination has lost its source; help when that was cancelled before it came through."""
    try:
        destination.wait_migration("failed", timeout=10)
    except TimeoutError:
        address = destination.migration()["socket-address"][0]
        socket.create_connection((address["host"], int(address["port"]))).close()
        destination.wait_migration("failed")


def _cancel(source: Emulator, status: str, *, running: bool = True) -> None:
    """Twice, which must make no difference; ``status`` is what must come of it."""
    for _ in range(2):
        source.qmp("migrate_cancel")
        assert source.wait_migration()["status"] == status
    if running:
        runs_on(source)
