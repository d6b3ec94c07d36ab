"""docs/monitor.md lists every command, item and event, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from e2kemu.monitor.dispatch import EVENTS, HMP, INFO, QMP

TEXT = (Path(__file__).parents[2] / "docs" / "monitor.md").read_text()


def rows(heading: str) -> dict[str, str]:
    """The rows of the first table after a heading: name -> the whole row."""
    section = TEXT.partition(f"\n{heading}\n")[2]
    table = re.search(r"(?m)(^\|.*\n)+", section)
    assert table is not None
    return {re.findall(r"`([^`]+)`", row)[0]: row for row in table[0].splitlines()[2:]}


def test_every_command_is_described_once_and_none_that_is_not_there() -> None:
    assert set(rows("## QMP")) == set(QMP)
    assert set(rows("## HMP")) == set(HMP)
    assert set(rows("### info")) == set(INFO)
    assert set(rows("### Events")) == set(EVENTS)
    assert len(QMP) > 30


def test_aliases_and_arguments_are_those_of_the_commands() -> None:
    for name, row in rows("## HMP").items():
        assert all(f"`{alias}`" in row for alias in HMP[name].names)
        assert HMP[name].params.replace("|", "\\|") in row
    for name, row in rows("## QMP").items():
        if name not in ("migrate-set-parameters", "object-add"):
            given = {field.encode_name for field in msgspec.structs.fields(QMP[name].arguments)}
            assert set(re.findall(r"`([^`]+)`", row.split("|")[2])) == given, name
