"""Capabilities and parameters: QEMU's names, ranges and words, and all or nothing."""

from __future__ import annotations

import pytest

from e2kemu.errors import CommandError
from e2kemu.migration.options import CAPABILITIES, MIB, PARAMETERS, Capabilities, MigrationParameters


def test_the_tables_are_not_empty_and_their_defaults_are_legal() -> None:
    assert len(CAPABILITIES) >= 5
    assert len(PARAMETERS) >= 6
    for row in PARAMETERS:
        assert row.check(row.default) == row.default
        assert row.doc
        assert row.since
    names = {row.name for row in CAPABILITIES}
    for capability in CAPABILITIES:
        assert set(capability.requires) | set(capability.conflicts) <= names


def test_everything_is_off_at_the_start() -> None:
    assert not any(value for _, value in Capabilities().items())


def test_a_capability_that_needs_another_is_refused_alone_and_accepted_with_it() -> None:
    capabilities = Capabilities()
    with pytest.raises(CommandError, match="Capability 'switchover-ack' requires capability 'return-path'"):
        capabilities.set({"switchover-ack": True, "events": True})
    assert not capabilities["events"]  # nothing of a refused request is done
    capabilities.set({"switchover-ack": True, "return-path": True})
    assert capabilities["switchover-ack"]
    with pytest.raises(CommandError, match="requires capability 'return-path'"):
        capabilities.set({"return-path": False})


def test_what_qemu_has_and_we_have_not_is_refused_as_unknown() -> None:
    with pytest.raises(CommandError, match="Parameter 'capability' does not accept value 'warp'"):
        Capabilities().set({"warp": True})
    with pytest.raises(CommandError, match="Parameter 'warp-factor' is unexpected"):
        MigrationParameters().set({"warp-factor": 9})


def test_nothing_changes_while_a_migration_runs() -> None:
    with pytest.raises(CommandError, match="There's a migration process in progress"):
        Capabilities(lambda: True).set({"events": True})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "downtime-limit",
            2000001,
            "Option downtime-limit expects an integer in the range of 0 to 2000000 ms",
        ),
        ("downtime-limit", -1, "Option downtime-limit expects"),
        ("max-bandwidth", 1 << 64, "Option max-bandwidth expects an integer in the range of 0 to"),
        ("max-bandwidth", "fast", "Invalid parameter type for 'max-bandwidth', expected: integer"),
        ("max-bandwidth", True, "Invalid parameter type for 'max-bandwidth', expected: integer"),
        ("tls-creds", 7, "Invalid parameter type for 'tls-creds', expected: string"),
        ("zero-page-detection", "psychic", "Parameter 'zero-page-detection' does not accept value 'psychic'"),
    ],
)
def test_a_value_out_of_range_is_refused_with_qemus_words(name: str, value: object, message: str) -> None:
    parameters = MigrationParameters()
    before = parameters.items()
    with pytest.raises(CommandError, match=message):
        parameters.set({"tls-hostname": "x", name: value})
    assert parameters.items() == before


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("max-bandwidth", "100", 100 * MIB),
        ("max-bandwidth", "1G", 1 << 30),
        ("max-bandwidth", "512K", 512 << 10),
        ("downtime-limit", "30", 30),
        ("tls-creds", "tls0", "tls0"),
        ("zero-page-detection", "none", "none"),
    ],
)
def test_the_human_monitors_values(name: str, text: str, value: object) -> None:
    parameters = MigrationParameters()
    parameters.set_text(name, text)
    assert parameters[name] == value


def test_an_unknown_name_in_the_human_monitor() -> None:
    with pytest.raises(CommandError, match=r"^invalid parameter value: foo$"):
        MigrationParameters().set_text("foo", "1")
