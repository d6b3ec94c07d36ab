"""The rows of QEMU's own migration tests, by their names, each with whole emulators.

``tests/data/checklist.txt`` has the names of all. Each is a row here, another test (``ELSEWHERE``), or has its reason
in the section "Checklist" of ``docs/migration.md``.
"""

from __future__ import annotations

import fnmatch
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from qemu.qmp.qmp_client import ExecuteError

from e2kemu.process import Emulator
from tests.conftest import StartEmulator
from tests.framework import forked
from tests.framework.guests import MIB
from tests.framework.pairs import (
    GUEST,
    SMALL,
    capabilities,
    completed,
    converge,
    do_not_converge,
    exits,
    goes_on,
    listen,
    live,
    ready,
    runs_on,
    wait_rounds,
)
from tests.framework.tls_rows import PSK, TLS_ROWS, Tls, make_keys
from tests.framework.transports import fd
from tests.framework.valve import FullListener

ROOT = Path(__file__).parents[2]
ALL = (ROOT / "tests/data/checklist.txt").read_text().split()

ELSEWHERE = {
    "/migration/postcopy/plain": "test_postcopy_plain",
    "/migration/postcopy/recovery/plain": "test_postcopy_recovery_plain",
    "/migration/postcopy/recovery/double-failures/handshake": "test_postcopy_recovery_double_failures_handshake",
    "/migration/postcopy/recovery/double-failures/reconnect": "test_postcopy_recovery_double_failures_reconnect",
}
"""Functions of ``test_postcopy.py``."""


@dataclass
class Bench:
    """What a row works with."""

    start: StartEmulator
    directory: Path
    keys: Path

    def pair(self, source: tuple[str, ...] = (), destination: tuple[str, ...] = ()) -> tuple[Emulator, Emulator]:
        """A source whose guest works and a destination that waits for migrate-incoming."""
        here = self.start("source", *GUEST, *source)
        there = self.start("destination", *SMALL, "-incoming", "defer", *destination)
        return ready(here), there


Row = Callable[[Bench], None]
ROWS: dict[str, Row] = {}


def row(name: str) -> Callable[[Row], Row]:
    def add(function: Row) -> Row:
        ROWS[f"/migration/{name}"] = function
        return function

    return add


# -- precopy ---------------------------------------------------------------------------------------


def _unix(bench: Bench) -> str:
    return f"unix:{bench.directory}/migration"


@row("precopy/tcp/plain")
def _tcp(bench: Bench) -> None:
    source, destination = bench.pair()
    live(source, listen(destination))
    goes_on(source, destination)


@row("precopy/unix/plain")
def _unix_plain(bench: Bench) -> None:
    source, destination = bench.pair()
    live(source, listen(destination, _unix(bench)))
    goes_on(source, destination)


@row("precopy/unix/xbzrle")
def _xbzrle(bench: Bench) -> None:
    source, destination = bench.pair()
    capabilities("xbzrle", on=(source, destination))
    source.set_parameters(xbzrle_cache_size=33554432)
    uri = listen(destination, _unix(bench))
    source.set_parameters(max_bandwidth=8 * MIB, downtime_limit=1)
    source.qmp("migrate", uri=uri)
    # encoded pages are small: rounds come and go even so
    source.wait_for(source.migration, lambda info: info.get("ram", {}).get("dirty-sync-count", 0) >= 3, 30, "rounds")
    converge(source)
    info = completed(source)
    assert info["xbzrle-cache"]["cache-size"] == 33554432
    assert info["xbzrle-cache"]["pages"] > 1000
    goes_on(source, destination)


@row("precopy/tcp/plain/switchover-ack")
def _switchover_ack(bench: Bench) -> None:
    source, destination = bench.pair()
    capabilities("return-path", "switchover-ack", on=(source, destination))
    live(source, listen(destination))
    goes_on(source, destination)


@row("precopy/fd/tcp")
def _fd_tcp(bench: Bench) -> None:
    source, destination = bench.pair()
    live(source, fd(source, destination, bench.directory))
    goes_on(source, destination)


@row("precopy/fd/file")
def _fd_file(bench: Bench) -> None:
    source, destination = bench.pair()
    path = bench.directory / "state"
    for emulator, flags in ((source, os.O_RDWR | os.O_CREAT), (destination, os.O_RDONLY)):
        number = os.open(path, flags, 0o600)
        emulator.monitor.send_fd_scm(number)
        os.close(number)
        emulator.qmp("getfd", fdname="state")
    source.set_parameters(downtime_limit=30_000)
    source.qmp("migrate", uri="fd:state")
    completed(source)
    destination.qmp("migrate-incoming", uri="fd:state")
    goes_on(source, destination)


def _through_a_file(bench: Bench, offset: int) -> Path:
    source, destination = bench.pair()
    path = bench.directory / "state"
    path.write_bytes(b"#" * offset)
    uri = f"file:{path}" + (f",offset={offset:#x}" if offset else "")
    live(source, uri)
    destination.qmp("migrate-incoming", uri=uri)
    goes_on(source, destination)
    return path


@row("precopy/file")
def _file(bench: Bench) -> None:
    _through_a_file(bench, 0)


@row("precopy/file/offset")
def _file_offset(bench: Bench) -> None:
    path = _through_a_file(bench, 0x1000)
    with path.open("rb") as file:
        assert file.read(0x1004) == b"#" * 0x1000 + b"QEVM"


@row("precopy/file/offset/bad")
def _file_offset_bad(bench: Bench) -> None:
    source = ready(bench.start("source", *GUEST))
    with pytest.raises(ExecuteError, match="0x20M"):
        source.qmp("migrate", uri=f"file:{bench.directory}/state,offset=0x20M")
    assert not (bench.directory / "state").exists()
    runs_on(source)


@row("auto_converge")
def _auto_converge(bench: Bench) -> None:
    source, destination = bench.pair()
    capabilities("auto-converge", "pause-before-switchover", on=(source,))
    source.set_parameters(cpu_throttle_initial=5, cpu_throttle_increment=25, max_cpu_throttle=95)
    uri = listen(destination)
    do_not_converge(source)
    source.qmp("migrate", uri=uri)
    source.wait_migration("active")
    for percentage in (5, 30, 55, 80, 95):

        def slow_enough(info: dict, percentage: int = percentage) -> bool:
            return info["status"] != "active" or info.get("cpu-throttle-percentage", 0) >= percentage

        info = source.wait_for(source.migration, slow_enough, 30, f"throttle {percentage}")
        assert info["status"] == "active"
        assert info["cpu-throttle-percentage"] == percentage
    bandwidth = 400 * MIB
    source.set_parameters(max_bandwidth=bandwidth, downtime_limit=250)
    info = source.wait_migration("pre-switchover")
    assert info["ram"]["remaining"] <= bandwidth * max(info["expected-downtime"], 250) / 1000
    source.qmp("migrate-continue", state="pre-switchover")
    completed(source)
    goes_on(source, destination)


# -- cancel ----------------------------------------------------------------------------------------


def _then_migrates(source: Emulator, destination: Emulator) -> None:
    live(source, listen(destination))
    goes_on(source, destination)


def _cancel(source: Emulator) -> None:
    source.qmp("migrate_cancel")
    info = source.wait_migration()
    assert info["status"] == "cancelled", info
    runs_on(source)


@row("cancel/src/after/none")
def _cancel_none(bench: Bench) -> None:
    source, destination = bench.pair()
    source.qmp("migrate_cancel")
    assert source.migration() == {}
    _then_migrates(source, destination)


@row("cancel/src/after/setup")
def _cancel_setup(bench: Bench) -> None:
    source, destination = bench.pair()
    with FullListener() as listener:
        source.qmp("migrate", uri=f"tcp:127.0.0.1:{listener.port}")
        assert source.migration()["status"] == "setup"
        _cancel(source)
    _then_migrates(source, destination)


@row("cancel/src/after/active")
def _cancel_active(bench: Bench) -> None:
    source, destination = bench.pair()
    uri = listen(destination, exit_on_error=False)
    do_not_converge(source)
    source.qmp("migrate", uri=uri)
    wait_rounds(source)
    _cancel(source)
    destination.wait_migration("failed")
    _then_migrates(source, destination)


@row("cancel/src/after/pre-switchover")
def _cancel_pre_switchover(bench: Bench) -> None:
    source, destination = bench.pair()
    uri = listen(destination, exit_on_error=False)
    source.set_capability("pause-before-switchover")
    converge(source)
    source.qmp("migrate", uri=uri)
    source.wait_migration("pre-switchover")
    _cancel(source)
    destination.wait_migration("failed")
    source.set_capability("pause-before-switchover", False)
    _then_migrates(source, destination)


def _statuses_told(emulator: Emulator) -> list[str]:
    return [event["data"]["status"] for event in emulator.monitor.get_events() if event["event"] == "MIGRATION"]


@row("cancel/src/after/cancelling")
def _cancel_cancelling(bench: Bench) -> None:
    source, destination = bench.pair()
    source.set_capability("events")
    uri = listen(destination, exit_on_error=False)
    do_not_converge(source)
    source.qmp("migrate", uri=uri)
    wait_rounds(source, 1)
    for _ in range(3):
        source.qmp("migrate_cancel")
    assert source.wait_migration()["status"] == "cancelled"
    # the status is there before its event is
    events = source.wait_for(lambda: _statuses_told(source), lambda told: "cancelled" in told, 30, "the last event")
    assert events == ["setup", "active", "cancelling", "cancelled"]
    destination.wait_migration("failed")
    _then_migrates(source, destination)


@row("cancel/src/after/cancelled")
def _cancel_cancelled(bench: Bench) -> None:
    source, destination = bench.pair()
    uri = listen(destination, exit_on_error=False)
    do_not_converge(source)
    source.qmp("migrate", uri=uri)
    for _ in range(3):
        _cancel(source)
    destination.wait_for(destination.migration, lambda info: info["status"] != "active", 30, "its end")
    if destination.migration()["status"] == "setup":  # cancelled before it had connected
        source.qmp("migrate", uri=uri)
        wait_rounds(source, 1)
        _cancel(source)
        destination.wait_migration("failed")
    _then_migrates(source, destination)


@row("cancel/src/after/completed")
def _cancel_completed(bench: Bench) -> None:
    source, destination = bench.pair()
    live(source, listen(destination))
    source.qmp("migrate_cancel")
    assert source.migration()["status"] == "completed"
    goes_on(source, destination)


@row("cancel/src/after/failed")
def _cancel_failed(bench: Bench) -> None:
    source, destination = bench.pair()
    source.qmp("migrate", uri=f"unix:{bench.directory}/nobody")
    assert source.wait_migration()["status"] == "failed"
    source.qmp("migrate_cancel")
    assert source.migration()["status"] == "failed"
    runs_on(source)
    _then_migrates(source, destination)


# -- TLS -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("keys")
    make_keys(directory)
    return directory


def _tls_pair(bench: Bench, tls: Tls) -> tuple[Emulator, Emulator]:
    client, server = tls.objects(bench.keys)
    source, destination = bench.pair(tuple(client), tuple(server))
    source.set_parameters(tls_creds="tls0", tls_hostname=tls.hostname)
    destination.set_parameters(tls_creds="tls0", tls_authz="authz0" if tls.authz else "")
    return source, destination


def _tls_row(tls: Tls) -> Row:
    def run(bench: Bench) -> None:
        source, destination = _tls_pair(bench, tls)
        uri = listen(destination, _unix(bench) if tls.transport == "unix" else "tcp:127.0.0.1:0")
        if not tls.source_says:
            live(source, uri)
            goes_on(source, destination)
            return
        source.qmp("migrate", uri=uri)
        info = source.wait_migration()
        assert info["status"] == "failed", info
        assert re.search(tls.source_says, info["error-desc"]), info["error-desc"]
        line = exits(destination)
        assert re.search(tls.destination_says, line), line
        runs_on(source)

    return run


for _name, _tls in TLS_ROWS.items():
    ROWS[f"/migration/precopy/{_name}"] = _tls_row(_tls)


# -- postcopy --------------------------------------------------------------------------------------


def _begin_postcopy_over_tls(bench: Bench, push: int) -> tuple[Emulator, Emulator]:
    source, destination = _tls_pair(bench, PSK)
    capabilities("postcopy-ram", on=(source, destination))
    uri = listen(destination)
    do_not_converge(source)
    source.set_parameters(max_postcopy_bandwidth=push)
    source.qmp("migrate", uri=uri)
    wait_rounds(source, 2)
    source.qmp("migrate-start-postcopy")
    source.wait_migration("postcopy-active", "completed")
    return source, destination


@row("postcopy/tls/psk")
def _postcopy_tls(bench: Bench) -> None:
    source, destination = _begin_postcopy_over_tls(bench, 0)
    assert completed(source)["ram"]["postcopy-bytes"] > 0
    goes_on(source, destination)


@row("postcopy/recovery/tls/psk")
def _postcopy_recovery_tls(bench: Bench) -> None:
    source, destination = _begin_postcopy_over_tls(bench, 1 * MIB)
    source.qmp("migrate-pause")
    for emulator in (source, destination):
        emulator.wait_migration("postcopy-paused")
    destination.qmp("migrate-recover", uri="tcp:127.0.0.1:0")
    port = destination.migration()["socket-address"][0]["port"]
    source.qmp("migrate", uri=f"tcp:127.0.0.1:{port}", resume=True)
    source.wait_migration("postcopy-active", "completed")
    source.set_parameters(max_postcopy_bandwidth=0)
    completed(source)
    goes_on(source, destination)


# -- the rest --------------------------------------------------------------------------------------


@row("analyze-script")
def _analyze_script(bench: Bench) -> None:
    source = ready(bench.start("source", *GUEST, "-uuid", ONE))
    source.set_capability("validate-uuid")
    path = bench.directory / "state"
    converge(source)
    source.qmp("migrate", uri=f"exec:cat > {path}")
    completed(source)
    done = forked.run(
        [sys.executable, "-m", "e2kemu.migration.stream_cli", str(path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert ONE.replace("-", "") in done.stdout.replace("-", "")
    assert "cpu" in done.stdout


@row("bad_dest")
def _bad_destination(bench: Bench) -> None:
    source = ready(bench.start("source", *GUEST))
    source.qmp("migrate", uri="tcp:127.0.0.1:0")
    info = source.wait_migration()
    assert info["status"] == "failed"
    assert "127.0.0.1:0" in info["error-desc"]
    runs_on(source)


ONE, TWO = "11111111-2222-4333-8444-555555555555", "99999999-2222-4333-8444-555555555555"
UUIDS = {"": (ONE, ONE), "_error": (ONE, TWO), "_src_not_set": ("", ONE), "_dst_not_set": (ONE, "")}


def _uuid_row(here: str, there: str) -> Row:
    def run(bench: Bench) -> None:
        source, destination = bench.pair(("-uuid", here) if here else (), ("-uuid", there) if there else ())
        capabilities("validate-uuid", on=(source, destination))
        uri = listen(destination)
        if not (here and there) or here == there:
            live(source, uri)
            goes_on(source, destination)
            return
        source.qmp("migrate", uri=uri)
        assert source.wait_migration()["status"] == "failed"
        line = exits(destination)
        assert here in line, line
        assert there in line, line
        runs_on(source)

    return run


for _suffix, (_here, _there) in UUIDS.items():
    ROWS[f"/migration/validate_uuid{_suffix}"] = _uuid_row(_here, _there)


def _refuses_arguments(source: Emulator, **arguments: object) -> None:
    with pytest.raises(ExecuteError, match="need either 'uri' or 'channels' argument"):
        source.qmp("migrate", **arguments)
    assert source.migration() == {}
    assert source.status() == "running"


@row("validate_uri/channels/both_set")
def _both_set(bench: Bench) -> None:
    address = {"transport": "socket", "type": "inet", "host": "127.0.0.1", "port": "1"}
    channels = [{"channel-type": "main", "addr": address}]
    _refuses_arguments(ready(bench.start("source", *GUEST)), uri="tcp:127.0.0.1:1", channels=channels)


@row("validate_uri/channels/none_set")
def _none_set(bench: Bench) -> None:
    _refuses_arguments(ready(bench.start("source", *GUEST)))


@pytest.mark.parametrize("path", sorted(ROWS))
def test_checklist(path: str, start: StartEmulator, tmp_path: Path, keys: Path) -> None:
    ROWS[path](Bench(start, tmp_path, keys))


# -- completeness ----------------------------------------------------------------------------------


def _not_applicable() -> dict[str, str]:
    """Pattern and reason of the rows of the section "Checklist"."""
    _, _, section = (ROOT / "docs/migration.md").read_text().partition("\n## Checklist\n")
    section = section.partition("\n## ")[0]
    table = re.findall(r"^\| (`/[^|]*`) \| ([^|]+) \|$", section, re.MULTILINE)
    return {pattern: why for patterns, why in table for pattern in re.findall(r"`([^`]+)`", patterns)}


def test_every_row_of_the_list_is_a_test_or_has_a_reason() -> None:
    assert len(ALL) == len(set(ALL)) == 102
    tested = {*ROWS, *ELSEWHERE}
    assert len(tested) == len(ROWS) + len(ELSEWHERE)
    assert not tested - set(ALL)
    reasons = _not_applicable()
    excused = set()
    for pattern, why in reasons.items():
        matched = set(fnmatch.filter(ALL, pattern))
        assert matched, pattern
        assert not matched & tested, pattern
        assert len(why.split()) > 3, why
        excused |= matched
    assert not set(ALL) - tested - excused
    assert len(tested) >= 43
    functions = (ROOT / "tests/integration/test_postcopy.py").read_text()
    for function in ELSEWHERE.values():
        assert re.search(rf"^def {function}\(", functions, re.MULTILINE), function
