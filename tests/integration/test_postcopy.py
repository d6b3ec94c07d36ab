"""Postcopy between whole emulators: the guest goes first, its memory follows; whatever breaks, it waits, whole."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from qemu.qmp.qmp_client import ExecuteError

from e2kemu.process import Emulator
from tests.conftest import StartEmulator
from tests.framework.guests import MIB, PAGES, VERIFY, check_pages_guest
from tests.framework.proxy import CuttingProxy
from tests.framework.transports import COMMON, tcp, tls_object

SMALL_PAGES = "workload=pages start=16M end=48M"


def _pair(start: StartEmulator, append: str, *more: str, ready: str = "ok\nAB", **options: tuple[str, ...]) -> tuple:
    source = start("source", *COMMON, "-append", append, *options.get("source", ()), *more)
    destination = start("destination", *COMMON, "-incoming", "defer", *options.get("destination", ()), *more)
    for emulator in (source, destination):
        emulator.set_capability("postcopy-ram")
        emulator.set_capability("events")
    destination.set_capability("postcopy-blocktime")
    source.wait_console(ready)
    return source, destination


def _tls_pair(start: StartEmulator, pki: Path, append: str) -> tuple[Emulator, Emulator]:
    source, destination = _pair(
        start, append, source=tls_object(pki, "client"), destination=tls_object(pki, "server")
    )
    for emulator in (source, destination):
        emulator.set_parameters(tls_creds="tls0")
    source.set_parameters(tls_hostname="localhost")
    return source, destination


def _begin(source: Emulator, uri: str, *, push: int = 0) -> None:
    """Migrate so slowly that nothing converges, then switch; ``push``: max-postcopy-bandwidth."""
    source.set_parameters(max_bandwidth=20 * MIB, downtime_limit=1, max_postcopy_bandwidth=push)
    source.qmp("migrate", uri=uri)
    source.wait_migration("active")
    source.qmp("migrate-start-postcopy")


def _complete(source: Emulator, destination: Emulator) -> dict:
    source.set_parameters(max_postcopy_bandwidth=0)
    info = source.wait_migration(timeout=60)
    assert info["status"] == "completed", (info, destination.migration(), destination.stderr())
    assert destination.wait_migration()["status"] == "completed"
    source.wait_status("postmigrate")
    return info


def _listen_again(destination: Emulator, uri: str = "tcp:127.0.0.1:0") -> int:
    while True:
        destination.wait_migration("postcopy-paused")
        try:
            destination.qmp("migrate-recover", uri=uri)
        except ExecuteError as error:
            if "when postcopy is paused" not in str(error):
                raise
            continue  # it takes the connection that the source has lost already, and is about to lose it
        return int(destination.migration()["socket-address"][0]["port"])


def _wait_paused(*emulators: Emulator) -> None:
    for emulator in emulators:
        info = emulator.wait_migration("postcopy-paused", timeout=20)
        assert info["error-desc"], info


def _states(emulator: Emulator) -> list[str]:
    return [event["data"]["status"] for event in emulator.monitor.get_events() if event["event"] == "MIGRATION"]


def _recover(source: Emulator, destination: Emulator) -> None:
    port = _listen_again(destination)
    source.qmp("migrate", uri=f"tcp:127.0.0.1:{port}", resume=True)
    for emulator in (source, destination):
        emulator.wait_migration("postcopy-active", "completed", timeout=20)


def test_postcopy_plain(start: StartEmulator, tmp_path: Path) -> None:
    source, destination = _pair(start, PAGES)
    _begin(source, tcp(source, destination, tmp_path))
    info = _complete(source, destination)
    destination.wait_console("B", count=2)
    check_pages_guest([source, destination])
    before = ["setup", "active"]
    assert _states(source) == [*before, "device", "postcopy-device", "postcopy-active", "completed"]
    assert _states(destination) == [*before, "postcopy-device", "postcopy-active", "completed"]
    ram = info["ram"]
    assert ram["postcopy-requests"] > 0
    assert ram["postcopy-bytes"] > 10 * MIB
    assert ram["remaining"] == 0
    assert info["downtime"] < info["total-time"]
    there = destination.migration()
    assert sum(there["postcopy-latency-dist"]) >= ram["postcopy-requests"]
    assert there["postcopy-vcpu-blocktime"][0] > 0
    assert "Postcopy vCPU Blocktime (ms):" in destination.hmp("info migrate -a")
    assert 0 < there["x-postcopy-latency-median"] <= there["x-postcopy-latency-p99"]
    assert "Page requests (us): \tmedian=" in destination.hmp("info migrate")


def test_postcopy_verify_guest(start: StartEmulator, tmp_path: Path) -> None:
    source, destination = _pair(start, VERIFY, ready="ok\nV")
    _begin(source, tcp(source, destination, tmp_path), push=20 * MIB)
    _complete(source, destination)
    destination.wait_console("V", count=3)
    assert destination.status() == "running"
    assert "FAULT" not in destination.console()


def test_postcopy_after_rounds_of_xbzrle_and_compression(start: StartEmulator, tmp_path: Path) -> None:
    source, destination = _pair(start, SMALL_PAGES)
    for emulator in (source, destination):
        for name in ("xbzrle", "compress"):
            emulator.set_capability(name)
    source.set_parameters(max_bandwidth=20 * MIB, downtime_limit=0, max_postcopy_bandwidth=20 * MIB)
    source.qmp("migrate", uri=tcp(source, destination, tmp_path))
    source.wait_for(
        source.migration, lambda info: info.get("xbzrle-cache", {}).get("pages", 0) > 0, 60, "an XBZRLE page"
    )
    source.qmp("migrate-start-postcopy")
    _complete(source, destination)
    destination.wait_console("B", count=2)
    check_small(destination)


def test_postcopy_release_ram(start: StartEmulator, tmp_path: Path) -> None:
    source, destination = _pair(start, PAGES)
    source.set_capability("release-ram")
    before = _resident(source)
    _begin(source, tcp(source, destination, tmp_path))
    _complete(source, destination)
    destination.wait_console("B")
    check_pages_guest([source, destination])
    assert _resident(source) < before - 100 * MIB


def _resident(emulator: Emulator) -> int:
    return int(Path(f"/proc/{emulator.process.pid}/statm").read_text().split()[1]) * 4096


def check_small(emulator: Emulator) -> None:
    from e2kemu.demo import check_pages

    emulator.qmp("stop")
    check_pages(emulator.memory(16 * MIB, 32 * MIB))


def test_postcopy_device_and_monitor_access_to_missing_pages(start: StartEmulator, tmp_path: Path) -> None:
    source, destination = _pair(start, PAGES)
    _begin(source, tcp(source, destination, tmp_path), push=1 * MIB)
    source.wait_migration("postcopy-active")
    destination.wait_status("running")
    destination.qmp("stop")
    inside = destination.memory(100 * MIB, 2 * MIB)
    first = inside[::4096]
    assert len(set(first)) <= 2, first[:20]
    assert first[0], first[:20]
    destination.qmp("cont")
    _complete(source, destination)
    destination.wait_console("B")
    check_pages_guest([source, destination])


def test_postcopy_tls(start: StartEmulator, pki: Path, tmp_path: Path) -> None:
    source, destination = _tls_pair(start, pki, SMALL_PAGES)
    _begin(source, tcp(source, destination, tmp_path))
    _complete(source, destination)
    destination.wait_console("B", count=2)
    check_small(destination)


@pytest.mark.parametrize("side", ["source", "destination"])
def test_postcopy_recovery_plain(side: str, start: StartEmulator, tmp_path: Path) -> None:
    source, destination = _pair(start, PAGES)
    _begin(source, tcp(source, destination, tmp_path), push=2 * MIB)
    for _ in range(3):
        source.wait_migration("postcopy-active")
        destination.wait_migration("postcopy-active")
        time.sleep(0.1)
        (source if side == "source" else destination).qmp("migrate-pause")
        _wait_paused(source, destination)
        assert source.status() == "finish-migrate"
        with pytest.raises(ExecuteError, match="Postcopy migration in progress, cannot cancel"):
            source.qmp("migrate_cancel")
        destination.qmp("stop")
        assert destination.status() == "paused"
        assert "pc=" in destination.hmp("info registers")
        destination.qmp("cont")
        _recover(source, destination)
    _complete(source, destination)
    destination.wait_console("B", count=2)
    check_pages_guest([source, destination])
    again = ["postcopy-paused", "postcopy-recover-setup", "postcopy-recover", "postcopy-active"]
    assert _states(source)[4:9] == ["postcopy-active", *again]
    assert _states(destination)[3:7] == ["postcopy-active", again[0], *again[2:]]


def test_postcopy_recovery_tls(start: StartEmulator, pki: Path, tmp_path: Path) -> None:
    source, destination = _tls_pair(start, pki, SMALL_PAGES)
    _begin(source, tcp(source, destination, tmp_path), push=2 * MIB)
    source.wait_migration("postcopy-active")
    source.qmp("migrate-pause")
    _wait_paused(source, destination)
    _recover(source, destination)
    _complete(source, destination)
    destination.wait_console("B", count=2)
    check_small(destination)


def test_postcopy_recovery_over_another_address(start: StartEmulator, tmp_path: Path) -> None:
    source, destination = _pair(start, SMALL_PAGES)
    _begin(source, tcp(source, destination, tmp_path), push=2 * MIB)
    source.wait_migration("postcopy-active")
    source.hmp("migrate_pause")
    _wait_paused(source, destination)
    _listen_again(destination)  # withdrawn by the next
    path = tmp_path / "recover"
    assert destination.hmp(f"migrate_recover unix:{path}") == ""
    assert source.hmp(f"migrate -d -r unix:{path}") == ""
    _complete(source, destination)
    destination.wait_console("B", count=2)
    check_small(destination)


def test_postcopy_recovery_double_failures_reconnect(start: StartEmulator, tmp_path: Path) -> None:
    source, destination = _pair(start, SMALL_PAGES)
    _begin(source, tcp(source, destination, tmp_path), push=2 * MIB)
    source.wait_migration("postcopy-active")
    source.qmp("migrate-pause")
    _wait_paused(source, destination)
    for uri in ("tcp:127.0.0.1:1", f"unix:{tmp_path}/nobody"):
        source.qmp("migrate", uri=uri, resume=True)
        source.wait_migration("postcopy-paused")
        assert "onnect" in source.migration()["error-desc"]
    _recover(source, destination)
    _complete(source, destination)
    destination.wait_console("B", count=2)
    check_small(destination)


@pytest.mark.parametrize("reset", [False, True])
def test_postcopy_recovery_double_failures_handshake(reset: bool, start: StartEmulator, tmp_path: Path) -> None:
    """The recovery dies at each of its messages; each time there is another."""
    source, destination = _pair(start, SMALL_PAGES)
    _begin(source, tcp(source, destination, tmp_path), push=1 * MIB)
    source.wait_migration("postcopy-active")
    source.qmp("migrate-pause")
    _wait_paused(source, destination)
    proxies = []
    for cut in (1, 5, 20, 38, 45, 60, 200, 9000):
        proxy = CuttingProxy(_listen_again(destination), cut_at=cut, reset=reset)
        proxies.append(proxy)
        source.qmp("migrate", uri=f"tcp:127.0.0.1:{proxy.port}", resume=True)
        _wait_paused(source, destination)
        assert source.status() == "finish-migrate"
    assert any(b"elbrus" in proxy.stream for proxy in proxies)
    _recover(source, destination)
    _complete(source, destination)
    destination.wait_console("B", count=2)
    check_small(destination)


def test_postcopy_recovery_of_the_wrong_side_or_moment_is_refused(start: StartEmulator, tmp_path: Path) -> None:
    source, destination = _pair(start, SMALL_PAGES)
    refused: list[tuple[Callable[[], object], str]] = [
        (lambda: source.qmp("migrate-start-postcopy"), "Postcopy must be started after migration has been started"),
        (lambda: source.qmp("migrate-pause"), "migrate-pause is currently only supported during postcopy-active"),
        (lambda: source.qmp("migrate", uri="tcp:127.0.0.1:1", resume=True), "Cannot resume if there is no paused"),
        (lambda: destination.qmp("migrate-recover", uri="tcp:127.0.0.1:0"), "can only be run when postcopy is paused"),
    ]
    for attempt, text in refused:
        with pytest.raises(ExecuteError, match=text):
            attempt()
    source.set_capability("postcopy-ram", False)
    with pytest.raises(ExecuteError, match="Enable postcopy with migrate_set_capability"):
        source.qmp("migrate-start-postcopy")
    source.set_capability("postcopy-ram")
    source.set_capability("release-ram")
    _begin(source, tcp(source, destination, tmp_path), push=2 * MIB)
    source.wait_migration("postcopy-active")
    source.qmp("migrate-pause")
    source.wait_migration("postcopy-paused")
    with pytest.raises(ExecuteError, match="Postcopy recovery cannot work when release-ram capability is set"):
        source.qmp("migrate", uri="tcp:127.0.0.1:1", resume=True)


def _expect_no_guest(destination: Emulator) -> None:
    """It has ended with one line, or waits without a guest for a source that might come back."""
    try:
        assert destination.wait_exit(3) == 1
        assert len(destination.stderr().strip().splitlines()) == 1, destination.stderr()
    except subprocess.TimeoutExpired:
        assert destination.status() == "inmigrate"
        assert destination.migration()["status"] == "postcopy-paused"


COMMITTED = b"\x08\0\2\0\4\0\0\0\x44"
CUTS = (
    (b"\x08\0\6", 0),  # POSTCOPY_RAM_DISCARD
    (b"\x08\0\7\0\4", 0),  # PACKAGED
    (b"\x03cpu", 30),
    (b"\x08\0\5\0\0", 0),  # POSTCOPY_RUN
    (b"\x08\0\5\0\0", 5),
    (COMMITTED, 0),
    (COMMITTED, 9),
    (COMMITTED, 300_000),
)
"""(bytes of the stream, how far behind their beginning it is cut)."""


@pytest.mark.timeout(240)
def test_postcopy_cut_at_every_message_of_the_switch(start: StartEmulator, tmp_path: Path) -> None:
    """Either the source runs on, or the destination has the guest and the migration can be recovered."""
    source = start("source", *COMMON, "-append", SMALL_PAGES)
    source.set_capability("postcopy-ram")
    source.wait_console("ok\nA")
    outcomes = set()
    for number, (mark, behind) in enumerate(CUTS):
        destination = start(f"destination{number}", *COMMON, "-incoming", "defer")
        destination.set_capability("postcopy-ram")
        destination.qmp("migrate-incoming", uri="tcp:127.0.0.1:0")
        port = int(destination.migration()["socket-address"][0]["port"])
        proxy = CuttingProxy(port, cut_behind=mark, behind=behind, reset=bool(number % 2))
        _begin(source, f"tcp:127.0.0.1:{proxy.port}", push=1 * MIB)
        status = source.wait_migration("failed", "postcopy-paused", timeout=30)["status"]
        outcomes.add(status)
        if status == "failed":
            assert source.wait_status("running", timeout=5) == "running"
            source.wait_console("B", count=source.console().count("B") + 1)
            _expect_no_guest(destination)
            destination.close()
            continue
        _wait_paused(destination)
        assert source.status() == "finish-migrate"
        _recover(source, destination)
        _complete(source, destination)
        source.close()
        destination.wait_console("B")
        source = destination
        source.set_capability("postcopy-ram")
    assert outcomes == {"failed", "postcopy-paused"}
    check_small(source)
