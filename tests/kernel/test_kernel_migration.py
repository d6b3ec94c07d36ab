"""The small operating system changes its emulator while its processes run on two CPUs, and no process notices.

Every process checks in each lap what it left a lap ago, in several pages; a word that is lost or old ends it, and the
kernel says so. The laps that each process reports must go on without gap or repetition over all consoles.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from e2kemu.demo_kernel import PROCESSES, check_laps, wait_until_all_work
from e2kemu.kernel_disk import kernel_image
from e2kemu.process import Emulator
from tests.conftest import StartEmulator
from tests.framework.transports import migrate, tls_object

COMMON = ("-M", "elbrus-2.0", "-cpu", "e8c", "-m", "64M", "-smp", "2", "-kernel", str(kernel_image()),
          "-append", "loop")


def give_back_client(emulator: Emulator, pki: Path) -> None:
    """The server of the last migration is the client of the next one."""
    emulator.qmp("object-del", id="tls0")
    emulator.qmp("object-add", qom_type="tls-creds-x509", id="tls0", dir=str(pki), endpoint="client")


def has_sent(info: dict[str, Any]) -> bool:
    """Half a MiB is on its way."""
    return bool(info.get("ram", {}).get("transferred", 0) > 1 << 19)


@pytest.mark.timeout(300)
def test_processes_on_two_cpus_survive_many_migrations(start: StartEmulator, pki: Path, tmp_path: Path) -> None:
    emulators = [start("hop0", *COMMON, *tls_object(pki, "client"))]
    wait_until_all_work(emulators[0])
    for hop, how in enumerate(("tcp", "tls-tcp", "unix", "tls-tcp", "tcp", "tcp"), 1):
        source = emulators[-1]
        destination = start(f"hop{hop}", *COMMON, "-incoming", "defer", *tls_object(pki, "server"))
        migrate(source, destination, tmp_path, how)
        source.close()
        wait_until_all_work(destination)
        give_back_client(destination, pki)
        emulators.append(destination)
    text = "".join(emulator.console() for emulator in emulators)
    assert sum(check_laps(text).values()) > 100 * PROCESSES


@pytest.mark.timeout(200)
def test_a_killed_destination_costs_no_process_anything(start: StartEmulator, tmp_path: Path) -> None:
    source = start("source", *COMMON)
    wait_until_all_work(source)
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
    wait_until_all_work(destination)
    assert sum(check_laps(source.console() + destination.console()).values()) > 20 * PROCESSES
