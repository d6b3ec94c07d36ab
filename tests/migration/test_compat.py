"""Streams of older machine types: what they lack, who accepts them, and how each disagreement is told."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from e2kemu.errors import E2kError
from e2kemu.migration import incoming
from e2kemu.migration.compat import SWITCHES, MigrationSettings, StreamFormat, migration_settings, parse_global
from e2kemu.migration.hmp_info import migrate_text
from e2kemu.migration.service import MigrationService
from e2kemu.migration.stream_reader import walk
from tests.conftest import StartEmulator
from tests.migration.conftest import MakeSide, Side
from tests.migration.toy import MIB

COMMON = ("-m", "32M", "-append", "workload=ticks")


def with_settings(side: Side, settings: MigrationSettings) -> Side:
    side.service = MigrationService(side.machine, settings=settings)
    return side


def test_every_combination_of_the_switches_travels_between_equal_ends(side: MakeSide, tmp_path: Path) -> None:
    count = 0
    for values in itertools.product((False, True), repeat=5):
        settings = MigrationSettings(StreamFormat(*values))
        source, destination = with_settings(side(MIB), settings), with_settings(side(MIB, incoming=True), settings)
        source.machine.devices[0].counter = count
        source.machine.start()
        source.service.migrate(destination.listen())
        assert source.wait_status("completed", "failed") == "completed", (values, source.service.query())
        assert destination.wait_incoming() == "completed"
        assert destination.machine.devices[0].counter == count
        assert destination.machine.run_state == "running"
        count += 1
    assert count == 32


def test_a_machine_that_neither_runs_nor_is_paused_tells_so_even_without_global_state(side: MakeSide) -> None:
    settings = migration_settings({"store-global-state": "off"})
    source, destination = with_settings(side(MIB), settings), with_settings(side(MIB, incoming=True), settings)
    source.machine.set_run_state("prelaunch")
    source.service.migrate(destination.listen())
    assert source.wait_status("completed", "failed") == "completed"
    assert destination.wait_incoming() == "completed"
    assert destination.machine.run_state == "prelaunch"


@pytest.mark.parametrize(
    ("here", "error"),
    [
        ("send-configuration", "Unknown savevm section type 7"),
        ("send-section-footer", "Unknown savevm section type 126"),
    ],
)
def test_a_part_that_only_the_source_has_is_named(here: str, error: str, side: MakeSide) -> None:
    source = side(MIB)
    destination = with_settings(side(MIB, incoming=True), migration_settings({here: "off"}))
    source.service.migrate(destination.listen())
    assert source.wait_status("completed", "failed") == "failed"
    assert destination.wait_incoming() == "failed"
    assert error in destination.service.query()["error-desc"]


@pytest.mark.parametrize(
    ("there", "error"),
    [
        ("send-configuration", "Configuration section missing"),
        ("send-section-footer", "Missing section footer for ram"),
        ("store-global-state", "section 'globalstate' instance 0 is missing from the stream"),
    ],
)
def test_a_part_that_only_the_destination_wants_is_named(there: str, error: str, side: MakeSide) -> None:
    source = with_settings(side(MIB), migration_settings({there: "off"}))
    destination = side(MIB, incoming=True)
    source.machine.start()
    source.service.migrate(destination.listen())
    assert source.wait_status("completed", "failed") == "failed"
    assert destination.wait_incoming() == "failed"
    assert error in destination.service.query()["error-desc"]
    assert source.machine.is_running()


def test_a_vmdescription_that_never_comes_costs_nobody_the_guest(
    side: MakeSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incoming, "DESCRIPTION_SECONDS", 0.2)
    source = with_settings(side(MIB), migration_settings({}, suppress_vmdesc=True))
    destination = side(MIB, incoming=True)
    source.machine.start()
    source.service.migrate(destination.listen())
    assert source.wait_status("completed", "failed") == "failed"
    assert destination.wait_incoming() == "failed"
    assert "suppress-vmdesc=on" in destination.service.query()["error-desc"]
    assert source.machine.is_running()


def test_switchover_start_is_optional_for_whoever_receives_it(side: MakeSide) -> None:
    for there, here in (("on", "off"), ("off", "on")):
        source = with_settings(side(MIB), migration_settings({"send-switchover-start": there}))
        destination = with_settings(side(MIB, incoming=True), migration_settings({"send-switchover-start": here}))
        source.service.migrate(destination.listen())
        assert source.wait_status("completed", "failed") == "completed"


def test_the_compatibility_machine_writes_none_of_the_later_parts(start: StartEmulator, tmp_path: Path) -> None:
    kinds: dict[str, list[str]] = {}
    names: dict[str, set[str]] = {}
    for machine in ("elbrus-0.1", "elbrus-1.0", "elbrus-0.1,suppress-vmdesc=on"):
        source = start(machine[:10] + str(len(kinds)), *COMMON, "-M", machine)
        source.wait_console("tick 2\n")
        path = tmp_path / f"{len(kinds)}.mig"
        source.qmp("migrate", uri=f"file:{path}")
        assert source.wait_migration()["status"] == "completed"
        source.close()
        data = path.read_bytes()
        records = list(walk(data)) if "suppress" not in machine else []
        kinds[machine] = [record.kind for record in records]
        names[machine] = {record.name for record in records}
        if "suppress" in machine:
            assert b'"devices"' not in data
            assert data.endswith(b"\0"), "the end of the device state is the last byte"
        again = start(f"again{len(kinds)}", *COMMON, "-M", machine, "-incoming", f"file:{path}")
        again.wait_console("tick", count=2)
        again.close()
    assert "CONFIGURATION" in kinds["elbrus-1.0"]
    assert "CONFIGURATION" not in kinds["elbrus-0.1"]
    assert "globalstate" in names["elbrus-1.0"]
    assert "globalstate" not in names["elbrus-0.1"]
    assert "SWITCHOVER_START" in names["elbrus-1.0"]
    assert "SWITCHOVER_START" not in names["elbrus-0.1"]
    assert "VMDESCRIPTION" in kinds["elbrus-0.1"]


def test_globals_of_info_migrate_show_the_machines_switches_and_those_of_the_command_line(
    start: StartEmulator,
) -> None:
    old = start("old", "-S", "-m", "32M", "-M", "elbrus-0.1", "-global", "migration.send-configuration=on")
    assert old.hmp("info migrate -a").splitlines() == [
        "Globals:",
        "  store-global-state: off",
        "  only-migratable: off",
        "  send-configuration: on",
        "  send-section-footer: off",
        "  send-switchover-start: off",
        "  clear-bitmap-shift: 18",
    ]
    assert {entry["name"] for entry in old.qmp("query-machines")} >= {"elbrus-0.1", "elbrus-1.0"}
    new = start("new", "-S", "-m", "32M", "-only-migratable", "-global", "migration.x-events=on",
                "-global", "driver=migration,property=downtime-limit,value=77")  # fmt: skip
    assert "only-migratable: on" in new.hmp("info migrate -a")
    assert "events: on" in new.hmp("info migrate_capabilities")
    assert "downtime-limit: 77 ms" in new.hmp("info migrate_parameters")


def test_the_table_of_globals_is_qemus() -> None:
    lines = migrate_text({}, everything=True).splitlines()
    assert [line.strip().partition(":")[0] for line in lines[:7]] == [
        "Globals", "store-global-state", "only-migratable", "send-configuration", "send-section-footer",
        "send-switchover-start", "clear-bitmap-shift",
    ]  # fmt: skip
    assert len(SWITCHES) == 4


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("foo", "expected driver.property=value"),
        ("migration.x", "expected driver.property=value"),
        (".x=on", "expected driver.property=value"),
        ("virtio-blk.x=on", "'virtio-blk' has no properties to set: only 'migration' has"),
        ("driver=migration,value=on", "expected driver.property=value"),
        ("migration.foo=on", "Property 'migration.foo' not found"),
        ("migration.x-foo=on", "Property 'migration.x-foo' not found"),
        ("migration.send-configuration=maybe", "Parameter 'send-configuration' expects 'on' or 'off'"),
        ("migration.suppress-vmdesc=on", "Property 'migration.suppress-vmdesc' not found"),
        ("migration.x-switchover-ack=on", "Capability 'switchover-ack' requires capability 'return-path'"),
        ("migration.downtime-limit=-1", "Option downtime-limit expects an integer"),
    ],
)
def test_a_wrong_global_is_one_clear_line(text: str, error: str) -> None:
    with pytest.raises(E2kError) as problem:
        migration_settings({}, [parse_global(text)])
    assert error in str(problem.value)
    assert "\n" not in str(problem.value)


def test_a_postcopy_of_the_oldest_format_arrives(side: MakeSide) -> None:
    """QEMU had postcopy before it had most of what the compatibility machine leaves out."""
    settings = migration_settings(dict.fromkeys(SWITCHES, "off"), suppress_vmdesc=True)
    source, destination = with_settings(side(4 * MIB), settings), with_settings(side(4 * MIB, incoming=True), settings)
    for end in (source, destination):
        end.service.capabilities.set({"postcopy-ram": True})
    source.machine.ram.view[:] = 0x5A
    source.machine.start()
    source.service.parameters.set({"max-bandwidth": 1 << 20})
    source.service.migrate(destination.listen())
    source.service.start_postcopy()
    assert source.wait_status("completed", "failed", "postcopy-paused") == "completed", source.service.query()
    assert destination.wait_incoming() == "completed"
    assert bytes(destination.machine.ram.mem) == bytes(source.machine.ram.mem)
