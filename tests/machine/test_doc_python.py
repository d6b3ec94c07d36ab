"""The example of docs/python-api.md runs, and its table names only what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from e2kemu import Machine

DOC = Path(__file__).parents[2] / "docs" / "python-api.md"


def test_the_example_runs_and_no_tick_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    match = re.search(r"```python\n(.*?)```", DOC.read_text(), re.DOTALL)
    assert match is not None
    monkeypatch.chdir(tmp_path)
    exec(compile(match[1], str(DOC), "exec"), {})
    first, second = re.split(r"\npc 0x.*\n", capsys.readouterr().out)
    ticks = [int(number) for number in re.findall(r"tick (\d+)\b", first + second)]
    assert len(ticks) >= 4
    assert ticks == list(range(1, len(ticks) + 1))


def test_every_name_in_the_table_exists() -> None:
    names = re.findall(r"^\| (.*?) \|", DOC.read_text(), re.MULTILINE)
    assert len(names) >= 14
    with Machine.build(ram="32M") as machine:
        for row in names[2:]:
            for name in re.findall(r"`(?:Machine\.)?(\w+)", row):
                assert hasattr(machine, name), name
