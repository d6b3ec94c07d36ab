"""The small operating system changes its emulator while its processes run on two CPUs, and no process notices.

Every process checks in each lap what it left a lap ago, in several pages; a word that is lost or old ends it, and the
kernel says so. The laps that each process reports must go on without gap or repetition over all consoles.
"""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

from e2kemu.kernel_disk import kernel_image
from e2kemu.process import Emulator
from tests.conftest import StartEmulator
from tests.framework.transports import migrate, tls_object

COMMON = ("-M", "elbrus-2.0", "-cpu", "e8c", "-m", "64M", "-smp", "2", "-kernel", str(kernel_image()),
          "-append", "loop")
PROCESSES = 4
STEP = 25
"""Laps between two reports of a process (firmware/kernel/worker.inc)."""


def laps(text: str) -> dict[int, list[int]]:
    """The laps that each process has reported. Raises AssertionError when the kernel complains."""
    for complaint in ("BAD", "PANIC", "killed", "ended with"):
        assert complaint not in text, text[-2000:]
    found: dict[int, list[int]] = {}
    for pid, lap in re.findall(r"pid (\d+) lap (\d+)\n", text):
        found.setdefault(int(pid), []).append(int(lap))
    return found


def check_laps(text: str, processes: int = PROCESSES) -> int:
    """Every process has worked without gap; how many laps all of them have reported."""
    found = laps(text)
    assert len(found) == processes, found.keys()
    for pid, reported in found.items():
        assert reported[0] == 1, (pid, reported[:3])
        assert all(after - before == STEP for before, after in pairwise(reported)), (pid, reported)
    return sum(reported[-1] for reported in found.values())


def works(emulator: Emulator) -> None:
    """All processes have reported here, on both CPUs."""

    def all_there(text: str) -> bool:
        return len(laps(text)) == PROCESSES and "[cpu0] pid" in text and "[cpu1] pid" in text

    emulator.wait_for(emulator.console, all_there, 60, "a lap of each process")


def give_back_client(emulator: Emulator, pki: Path) -> None:
    """The server of the last migration is the client of the next one."""
    emulator.qmp("object-del", id="tls0")
    emulator.qmp("object-add", qom_type="tls-creds-x509", id="tls0", dir=str(pki), endpoint="client")


def has_sent(info: dict) -> bool:
    """Half a MiB is on its way."""
    return bool(info.get("ram", {}).get("transferred", 0) > 1 << 19)


@pytest.mark.timeout(300)
def test_processes_on_two_cpus_survive_many_migrations(start: StartEmulator, pki: Path, tmp_path: Path) -> None:
    emulators = [start("hop0", *COMMON, *tls_object(pki, "client"))]
    works(emulators[0])
    for hop, how in enumerate(("tcp", "tls-tcp", "unix", "tls-tcp", "tcp", "tcp"), 1):
        source = emulators[-1]
        destination = start(f"hop{hop}", *COMMON, "-incoming", "defer", *tls_object(pki, "server"))
        migrate(source, destination, tmp_path, how)
        source.close()
        works(destination)
        give_back_client(destination, pki)
        emulators.append(destination)
    text = "".join(emulator.console() for emulator in emulators)
    assert check_laps(text) > 100 * PROCESSES


@pytest.mark.timeout(200)
def test_a_killed_destination_costs_no_process_anything(start: StartEmulator, tmp_path: Path) -> None:
    source = start("source", *COMMON)
    works(source)
    source.set_parameters(max_bandwidth=1 << 20, downtime_limit=1)
    for attempt in range(3):
        lost = start(f"lost{attempt}", *COMMON, "-incoming", "defer")
        lost.qmp("migrate-incoming", uri="tcp:127.0.0.1:0")
        port = lost.migration()["socket-address"][0]["port"]
        source.qmp("migrate", uri=f"tcp:127.0.0.1:{port}")
        source.wait_for(source.migration, has_sent, 30, "half a MiB")
        lost.process.kill()
        assert source.wait_migration()["status"] == "failed"
        before = source.console().count("lap")
        source.wait_console("lap", count=before + 8)
    destination = start("destination", *COMMON, "-incoming", "defer")
    source.set_parameters(max_bandwidth=1 << 30, downtime_limit=300)
    migrate(source, destination, tmp_path, "tcp")
    works(destination)
    assert check_laps(source.console() + destination.console()) > 20 * PROCESSES
