"""Each capability and parameter stands in one table (``options.py``): whoever tells of them tells that, all of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from e2kemu.errors import CommandError, OptionError
from e2kemu.migration.compat import migration_settings
from e2kemu.migration.options import CAPABILITIES, PARAMETERS, Parameter
from e2kemu.monitor.dispatch import schema
from e2kemu.monitor.hmp import complete
from tests.migration.conftest import MakeSide
from tests.migration.test_commands import Desk
from tests.migration.toy import PAGE, LapWriter

DOCUMENT = (Path(__file__).parents[2] / "docs" / "migration.md").read_text()

MANY = pytest.mark.parametrize("row", PARAMETERS, ids=lambda row: row.name)
EACH = pytest.mark.parametrize("row", CAPABILITIES, ids=lambda row: row.name)


@pytest.fixture
def desk(side: MakeSide) -> Desk:
    one = Desk(side(16 * PAGE, LapWriter(16)))
    one.side.service.capabilities.set({"events": False})  # which that has switched on
    return one


def another(row: Parameter) -> Any:
    """A value that is legal and not the default."""
    if isinstance(row.default, bool):
        return not row.default
    if row.choices:
        return next(choice for choice in row.choices if choice != row.default)
    if isinstance(row.default, str):
        return "something"
    if row.power_of_two:
        return row.default * 2
    return row.default + 1 if row.default < row.maximum else row.default - 1


def typed(row: Parameter, value: Any) -> str:
    """As a person types it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value}B" if row.hmp_suffix else str(value)


def members(name: str) -> dict[str, str]:
    """The members of a type in the schema, and their types."""
    (entry,) = (one for one in schema() if one["name"] == name)
    return {member["name"]: member["type"] for member in entry["members"]}


def values(name: str) -> list[str]:
    """Those of an enumeration in the schema."""
    (entry,) = (one for one in schema() if one["name"] == name)
    assert entry["meta-type"] == "enum"
    return list(entry["values"])


def declared(command: str) -> tuple[str, str]:
    """The types of a command's arguments and result."""
    (entry,) = (one for one in schema() if one["name"] == command and one["meta-type"] == "command")
    return entry["arg-type"], entry["ret-type"]


def test_there_is_something_to_tell() -> None:
    assert len(CAPABILITIES) >= 13
    assert len(PARAMETERS) >= 18
    assert len({row.name for row in (*CAPABILITIES, *PARAMETERS)}) == len(CAPABILITIES) + len(PARAMETERS)


# -- lists are the table, in its order


def test_all_lists_of_parameters_are_the_table(desk: Desk) -> None:
    names = [row.name for row in PARAMETERS]
    assert list(desk.qmp("query-migrate-parameters")) == names
    assert [line.partition(":")[0] for line in desk.hmp("info migrate_parameters").splitlines()] == names
    arguments, _ = declared("migrate-set-parameters")
    _, result = declared("query-migrate-parameters")
    assert list(members(arguments)) == list(members(result)) == names
    assert complete(desk.ctx, "migrate_set_parameter ") == names
    texts = [row.name for row in PARAMETERS if isinstance(row.default, str)]
    assert complete(desk.ctx, "migrate_set_str_parameter ") == texts
    _, *told = desk.hmp("help migrate_set_parameter").splitlines()
    assert [line.split()[0] for line in told] == names


def test_all_lists_of_capabilities_are_the_table(desk: Desk) -> None:
    names = [row.name for row in CAPABILITIES]
    assert [entry["capability"] for entry in desk.qmp("query-migrate-capabilities")] == names
    assert [line.partition(":")[0] for line in desk.hmp("info migrate_capabilities").splitlines()] == names
    assert values("MigrationCapability") == names
    assert members("CapabilityStatus") == {"capability": "MigrationCapability", "state": "bool"}
    assert complete(desk.ctx, "migrate_set_capability ") == names
    _, *told = desk.hmp("help migrate_set_capability").splitlines()
    assert [line.split()[0] for line in told] == names


# -- each row, all the way round


@MANY
def test_a_parameter_is_the_same_everywhere(desk: Desk, row: Parameter) -> None:
    kinds = {bool: "bool", int: "int", str: "StrOrNull"}
    arguments, _ = declared("migrate-set-parameters")
    _, result = declared("query-migrate-parameters")
    kind = members(result)[row.name]
    assert kind == members(arguments)[row.name]
    if row.choices:
        assert values(kind) == list(row.choices)
    else:
        assert kind == kinds[type(row.default)]
    assert desk.qmp("query-migrate-parameters")[row.name] == row.default
    value = another(row)
    assert desk.qmp("migrate-set-parameters", **{row.name: value}) == {}
    assert desk.qmp("query-migrate-parameters")[row.name] == value
    assert type(desk.qmp("query-migrate-parameters")[row.name]) is type(row.default)
    assert f"{row.name}: {row.show(value)}\n" in desk.hmp("info migrate_parameters")
    assert desk.hmp(f"migrate_set_parameter {row.name} {typed(row, row.default) or '?'}") == ""
    assert desk.hmp(f"migrate_set_parameter {row.name} {typed(row, value)}") == ""
    assert desk.qmp("query-migrate-parameters")[row.name] == value
    assert migration_settings({}, [(row.name, typed(row, value))]).parameters == ((row.name, typed(row, value)),)
    assert complete(desk.ctx, f"migrate_set_parameter {row.name} ") == list(row.values)
    if isinstance(row.default, bool):
        assert row.values == ("on", "off")
    assert row.doc in desk.hmp("help migrate_set_parameter")
    assert f"`{row.name}`" in DOCUMENT.partition("\n## Parameters\n")[2].partition("\n## ")[0]


@MANY
def test_a_wrong_value_is_refused_in_the_same_words_everywhere(desk: Desk, row: Parameter) -> None:
    if isinstance(row.default, str) and not row.choices:
        return  # any text is good
    wrong: Any = "psychic" if row.choices else row.maximum + 1
    if isinstance(row.default, bool):
        wrong = "perhaps"
    with pytest.raises(CommandError) as by_qmp:
        desk.qmp("migrate-set-parameters", **{row.name: wrong})
    by_hand = desk.hmp(f"migrate_set_parameter {row.name} {wrong}{'B' if row.hmp_suffix else ''}")
    assert row.name in str(by_qmp.value)
    assert row.name in by_hand
    if (not isinstance(row.default, bool) and row.maximum < (1 << 64) - 1) or row.choices:
        assert by_hand == f"Error: {by_qmp.value}\n"
    with pytest.raises((CommandError, OptionError), match=row.name):
        migration_settings({}, [(row.name, str(wrong))])
    assert desk.qmp("query-migrate-parameters")[row.name] == row.default


@EACH
def test_a_capability_is_the_same_everywhere(desk: Desk, row: Any) -> None:
    def states() -> dict[str, bool]:
        return {entry["capability"]: entry["state"] for entry in desk.qmp("query-migrate-capabilities")}

    names = (*row.requires, row.name)
    desk.qmp("migrate-set-capabilities", capabilities=[{"capability": name, "state": True} for name in names])
    assert states() == {one.name: one.name in names for one in CAPABILITIES}
    assert f"{row.name}: on\n" in desk.hmp("info migrate_capabilities")
    assert desk.hmp(f"migrate_set_capability {row.name} off") == ""
    assert not states()[row.name]
    given = [(f"x-{name}", "on") for name in names]
    assert migration_settings({}, given).capabilities == tuple((name, True) for name in names)
    assert complete(desk.ctx, f"migrate_set_capability {row.name} ") == ["on", "off"]
    assert row.doc in desk.hmp("help migrate_set_capability")
    assert f"`{row.name}`" in DOCUMENT.partition("\n## Capabilities\n")[2].partition("\n## ")[0]


def test_the_status_of_a_migration_is_an_enumeration_for_clients() -> None:
    assert {"none", "setup", "active", "postcopy-paused", "completed", "failed"} <= set(values("MigrationStatus"))
    assert members("MigrationInfo")["status"] == "MigrationStatus"
