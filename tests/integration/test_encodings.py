"""Whole emulators, TLS where it does not matter which: guests that write more than the link lets through arrive with
XBZRLE or auto-converge; a guest that checks its memory does not notice compression."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from e2kemu.demo import check_pages
from e2kemu.process import Emulator
from tests.conftest import StartEmulator
from tests.framework.transports import PLAIN, TLS, tls_object

MIB = 1 << 20
START, END = 16 * MIB, 20 * MIB
PAGES_A_SECOND = 4096
BANDWIDTH = PAGES_A_SECOND * 4096 // 2
"""Half of what the guest dirties."""

COMMON = ("-M", "elbrus", "-cpu", "e8c", "-m", "64M")
PAGES = f"workload=pages start=16M end=20M rate={PAGES_A_SECOND}"
SLOW = {"max-bandwidth": BANDWIDTH, "downtime-limit": 100}


def pair(start: StartEmulator, append: str, *options: str) -> tuple[Emulator, Emulator]:
    source = start("source", *COMMON, "-append", append, *options)
    return source, start("destination", *COMMON, "-incoming", "defer")


def ended(source: Emulator, destination: Emulator) -> dict[str, Any]:
    """Wait for the end; the ``pages`` guest must have arrived whole. Returns the source's query-migrate."""
    info = source.wait_migration(timeout=90)
    assert info["status"] == "completed", info
    destination.wait_status("running")
    destination.wait_console("B", timeout=60)
    destination.qmp("stop")
    check_pages(destination.memory(START, END - START))
    return info


def test_precopy_unix_xbzrle(start: StartEmulator, tmp_path: Path) -> None:
    source, destination = pair(start, PAGES)
    source.wait_console("AB")
    source.set_capability("xbzrle")
    # an eighth of what the guest dirties: it stays too fast even on a busy host
    source.set_parameters(max_bandwidth=BANDWIDTH // 4, downtime_limit=100, xbzrle_cache_size=MIB)
    source.qmp("migrate", uri=PLAIN["unix"](source, destination, tmp_path))
    source.wait_migration("active")
    # rounds pass and it does not converge: the cache is far too small
    missed = lambda info: info["xbzrle-cache"]["cache-miss"] >= 1000  # noqa: E731
    assert source.wait_for(source.migration, missed, 60, "misses")["status"] == "active"
    source.qmp("migrate-set-cache-size", value=32 * MIB)
    assert source.qmp("query-migrate-cache-size") == 32 * MIB
    info = ended(source, destination)
    figures = info["xbzrle-cache"]
    assert figures["cache-size"] == 32 * MIB
    assert figures["pages"] >= 500
    assert figures["bytes"] < figures["pages"] * 20
    assert figures["encoding-rate"] > 50
    assert f"XBZRLE: size={32 * MIB}, transferred={figures['bytes']}" in source.hmp("info migrate -a")


def test_auto_converge(start: StartEmulator, tmp_path: Path) -> None:
    source, destination = pair(start, PAGES)
    source.wait_console("AB")
    source.set_capability("auto-converge")
    source.set_parameters(**SLOW, cpu_throttle_initial=20, cpu_throttle_increment=70, max_cpu_throttle=95)
    source.qmp("migrate", uri=PLAIN["tcp"](source, destination, tmp_path))
    seen: list[int] = []
    while (info := source.migration())["status"] in ("setup", "active"):
        percent = info.get("cpu-throttle-percentage", 0)
        if percent not in (seen or [0])[-1:]:
            seen.append(percent)
            assert f"CPU Throttle (%): {percent}" in source.hmp("info migrate -a") or source.migration() != info
        time.sleep(0.02)
    assert seen in ([20], [20, 90], [20, 90, 95])
    assert "cpu-throttle-percentage" not in ended(source, destination)


def test_a_cancelled_guest_is_not_throttled_any_more(start: StartEmulator, tmp_path: Path) -> None:
    source, destination = pair(start, "workload=pages start=16M end=20M")
    source.wait_console("AB")
    source.set_capability("auto-converge")
    source.set_parameters(**SLOW, cpu_throttle_initial=98)
    source.qmp("migrate", uri=PLAIN["tcp"](source, destination, tmp_path))
    source.wait_for(source.migration, lambda info: "cpu-throttle-percentage" in info, 60, "a throttle")
    source.set_parameters(max_bandwidth=1 << 16)  # or so slow a guest arrives before anybody cancels
    before = source.console().count("B")
    time.sleep(0.5)
    slow = source.console().count("B") - before
    source.qmp("migrate_cancel")
    assert source.wait_migration()["status"] == "cancelled"
    assert "cpu-throttle-percentage" not in source.migration()
    source.wait_console("B", count=before + slow + 4 * max(slow, 1) + 2, timeout=20)
    assert source.status() == "running"


@pytest.mark.parametrize("wait", [True, False])
def test_compression_over_tls_loses_nothing(start: StartEmulator, pki: Path, tmp_path: Path, wait: bool) -> None:
    append = "workload=verify start=16M end=32M seed=1"
    source = start("source", *COMMON, "-append", append, *tls_object(pki, "client"))
    destination = start("destination", *COMMON, "-incoming", "defer", *tls_object(pki, "server"))
    source.wait_console("ok\nV")
    for emulator in (source, destination):
        emulator.set_capability("compress")
    source.set_parameters(compress_threads=2, compress_wait_thread=wait, compress_level=1, max_bandwidth=0)
    # this guest fills its 16 MiB faster than anything compresses them
    source.set_parameters(downtime_limit=10_000)
    destination.set_parameters(decompress_threads=2)
    source.qmp("migrate", uri=TLS["tls-tcp"](source, destination, tmp_path))
    info = source.wait_migration()
    assert info["status"] == "completed", info
    destination.wait_console("VV", timeout=60)
    assert "FAULT" not in source.console() + destination.console()
    # what it fills its memory with does not shrink, and goes whole
    assert info["compression"]["pages"] > 0
    assert info["compression"]["pages"] + info["ram"]["normal"] > 100
    assert not (wait and info["compression"]["busy"])
    assert "compression pages: " in source.hmp("info migrate -a")


def test_pages_guest_compressed_by_threads_arrives_whole(start: StartEmulator, tmp_path: Path) -> None:
    source, destination = pair(start, PAGES)
    source.wait_console("AB")
    source.set_capability("compress")
    source.set_parameters(compress_threads=3, compress_level=9)
    source.qmp("migrate", uri=PLAIN["fd"](source, destination, tmp_path))
    info = ended(source, destination)
    figures = info["compression"]
    assert figures["pages"] >= (END - START) // 4096
    assert figures["busy"] == 0
    assert figures["compression-rate"] > 50  # nearly all of a page is zero
    assert info["ram"]["transferred"] < (END - START) // 4


def test_postcopy_after_rounds_with_everything_on_is_whole(start: StartEmulator, tmp_path: Path) -> None:
    source, destination = pair(start, PAGES)
    source.wait_console("AB")
    for capability in ("xbzrle", "compress", "auto-converge", "postcopy-ram"):
        source.set_capability(capability)
    destination.set_capability("postcopy-ram")
    source.set_parameters(**SLOW, xbzrle_cache_size=MIB, cpu_throttle_initial=50)
    source.set_parameters(downtime_limit=1)
    source.qmp("migrate", uri=PLAIN["tcp"](source, destination, tmp_path))
    source.wait_for(source.migration, lambda info: "cpu-throttle-percentage" in info, 60, "a throttle")
    source.set_parameters(max_bandwidth=0)
    source.qmp("migrate-start-postcopy")
    info = ended(source, destination)
    assert info["compression"]["pages"] > 0
    assert "cpu-throttle-percentage" not in info


def test_old_names_of_parameters_work(start: StartEmulator) -> None:
    emulator = start("one", *COMMON, "-S")
    emulator.qmp("migrate_set_speed", value=12345678)
    emulator.qmp("migrate_set_downtime", value=0.25)
    emulator.qmp("migrate-set-cache-size", value=5 * MIB)
    parameters = emulator.qmp("query-migrate-parameters")
    assert (parameters["max-bandwidth"], parameters["downtime-limit"]) == (12345678, 250)
    assert parameters["xbzrle-cache-size"] == 4 * MIB
    for line in ("migrate_set_speed 3", "migrate_set_downtime 30ms", "migrate_set_cache_size 64K"):
        assert emulator.hmp(line) == ""
    parameters = emulator.qmp("query-migrate-parameters")
    assert (parameters["max-bandwidth"], parameters["downtime-limit"]) == (3 * MIB, 30)
    assert emulator.hmp("info migrate_cache_size") == "xbzrel cache size: 64 kbytes\n"
    assert "2000 seconds" in emulator.hmp("migrate_set_downtime 2001")
    assert "soon" in emulator.hmp("migrate_set_downtime soon")
    assert "power of two" in emulator.hmp("migrate_set_cache_size 1K")
