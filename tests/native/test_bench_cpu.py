"""The benchmark of the CPU runs a program in each tier, beside a yardstick, and keeps and draws what it has found."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "bench" / "cpu.py"
KEPT = ROOT / "bench" / "history" / "cpu.csv"
HEAD = ["date", "commit", "host", "load", "program", "tier", "wide", "user_s", "mwide_s", "startup_s", "compile_s",
        "versus", "versus_user_s", "ratio"]


def bench(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run it as a user does."""
    return subprocess.run([sys.executable, str(BENCH), *map(str, arguments)], capture_output=True, text=True,
                          timeout=100, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)})


def test_a_program_is_run_in_each_tier_beside_a_yardstick_and_kept_in_the_history(tmp_path: Path) -> None:
    history = tmp_path / "history.csv"
    answer = bench("--only", "sieve-small", "--tiers", "jit,reference", "--rounds", "1", "--versus", "true {elf}",
                   "--history", history)
    assert (answer.returncode, answer.stderr) == (0, "")
    rows = [line.split() for line in answer.stdout.splitlines() if line.startswith("sieve-small")]
    assert [row[1] for row in rows] == ["jit", "reference"]
    assert all(float(figure) > 0 for row in rows for figure in row[2:5])
    with open(history, newline="") as file:
        kept = list(csv.DictReader(file))
    assert [row["tier"] for row in kept] == ["jit", "reference"]
    assert {row["versus"] for row in kept} == {"true {elf}"}
    assert len({row["wide"] for row in kept}) == 1
    assert int(kept[0]["wide"]) > 10_000


def test_the_history_of_the_project_has_all_columns() -> None:
    with open(KEPT, newline="") as file:
        head, *rows = list(csv.reader(file))
    assert head == HEAD
    assert len(rows) >= 5
    for row in rows:
        assert len(row) == len(HEAD)
        assert float(row[7]) > 0


def test_the_history_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "history.png"
    code = f"import cpu_history, pathlib; cpu_history.plot(pathlib.Path({str(KEPT)!r}), pathlib.Path({str(picture)!r}))"
    subprocess.run([sys.executable, "-c", code], cwd=BENCH.parent, check=True, timeout=100)
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("arguments", "culprit"), [
    (["--only", "nothing"], "no program 'nothing'"),
    (["--tiers", "warp"], "no tier 'warp'"),
    (["--rounds", "0"], "--rounds must be at least 1"),
])
def test_what_it_cannot_run_is_told_in_a_line(arguments: list[str], culprit: str) -> None:
    answer = bench("--no-history", *arguments)
    assert answer.returncode != 0
    assert culprit in answer.stderr
    assert "Traceback" not in answer.stderr
