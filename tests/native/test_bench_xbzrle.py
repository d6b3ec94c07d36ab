"""The benchmark of XBZRLE runs, tells of every kind of page, and what it decodes is right (it checks that itself)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / "bench" / "migration.py"


def test_it_tells_a_rate_for_every_kind_of_page() -> None:
    answer = subprocess.run(
        [sys.executable, str(BENCH), "--only", "xbzrle"], capture_output=True, text=True, timeout=100, check=False
    )
    assert (answer.returncode, answer.stderr) == (0, "")
    compiled, head, *rows = answer.stdout.splitlines()
    assert compiled.startswith("xbzrle: compiled in ")
    assert head.split()[:3] == ["bytes/page", "encode", "memcpy"]
    assert len(rows) >= 9
    for row in rows[1:]:
        sides = row.count("MiB/s")
        assert sides == (1 if row.startswith(("unchanged", "all of it")) else 2), row


def test_a_row_that_does_not_exist_is_refused_with_the_names_of_those_that_do() -> None:
    answer = subprocess.run(
        [sys.executable, str(BENCH), "--only", "nothing"], capture_output=True, text=True, timeout=100, check=False
    )
    assert answer.returncode == 2
    for name in ("plain", "tls", "zero", "idle", "half", "twice", "postcopy", "options", "xbzrle"):
        assert name in answer.stderr
