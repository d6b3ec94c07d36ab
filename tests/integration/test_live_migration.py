"""A running guest changes its emulator, again and again, over every transport, and does not notice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import StartEmulator
from tests.framework.guests import MIB, VERIFY, check_pages_guest, check_ticks
from tests.framework.transports import ALL, COMMON, migrate, tls_object

HOPS = 20


def _chain(start: StartEmulator, pki: Path, directory: Path, append: str, ready: str, progress: str) -> list:
    """Migrate a guest HOPS times, over each transport in turn; returns all emulators used."""
    emulators = [start("hop0", *COMMON, "-append", append, *tls_object(pki, "client"))]
    emulators[0].wait_console(ready)
    for hop in range(1, HOPS + 1):
        source = emulators[-1]
        destination = start(f"hop{hop}", *COMMON, "-incoming", "defer", *tls_object(pki, "server"))
        migrate(source, destination, directory, list(ALL)[hop % len(ALL)])
        source.close()
        destination.wait_console(progress, timeout=60)
        # the next hop needs client credentials where this one was the server
        destination.qmp("object-del", id="tls0")
        destination.qmp("object-add", qom_type="tls-creds-x509", id="tls0", dir=str(pki), endpoint="client")
        emulators.append(destination)
    return emulators


@pytest.mark.timeout(400)
def test_pages_guest_survives_twenty_live_migrations(start: StartEmulator, pki: Path, tmp_path: Path) -> None:
    emulators = _chain(start, pki, tmp_path, "workload=pages start=16M end=64M", ready="ok\nAB", progress="B")
    check_pages_guest(emulators, 64 * MIB)


@pytest.mark.timeout(400)
def test_verify_guest_finds_no_fault_in_twenty_live_migrations(
    start: StartEmulator, pki: Path, tmp_path: Path
) -> None:
    emulators = _chain(start, pki, tmp_path, VERIFY, ready="ok\nV", progress="V")
    assert emulators[-1].status() == "running"
    for emulator in emulators:
        assert "FAULT" not in emulator.console()


def test_console_continues_without_gap(start: StartEmulator, tmp_path: Path) -> None:
    source = start("source", *COMMON, "-append", "workload=ticks")
    source.wait_console("tick 5\n")
    destination = start("destination", *COMMON, "-incoming", "defer")
    migrate(source, destination, tmp_path, "tcp")
    destination.wait_console("tick", count=5)
    destination.qmp("stop")
    assert check_ticks(source.console() + destination.console()) >= 10


@pytest.mark.parametrize("how", ALL)
def test_memory_of_a_stopped_pair_is_identical(
    how: str, start: StartEmulator, pki: Path, tmp_path: Path
) -> None:
    source = start("source", *COMMON, "-append", "workload=pages start=16M end=32M", *tls_object(pki, "client"))
    source.wait_console("ok\nAB")
    destination = start("destination", *COMMON, "-S", "-incoming", "defer", *tls_object(pki, "server"))
    source.qmp("stop")
    uri = ALL[how](source, destination, tmp_path)
    source.qmp("migrate", uri=uri)
    info = source.wait_migration()
    assert info["status"] == "completed", info
    destination.wait_status("paused")
    assert source.memory(0, 256 << 20) == destination.memory(0, 256 << 20)
    assert source.hmp("info registers") == destination.hmp("info registers")
