"""The history of ``cpu.py``'s results, a CSV file, and its picture.

    date, commit, host, load, program, tier, wide, user_s, mwide_s, startup_s, compile_s, versus, versus_user_s, ratio

``date`` is UTC; a ``commit`` with + behind it had changes; ``load`` is the host's load average when it was written.
One invocation has one date. The picture needs matplotlib (extra ``bench``).
"""

from __future__ import annotations

import csv
import datetime
import os
import subprocess
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

HEAD = ("date", "commit", "host", "load", "program", "tier", "wide", "user_s", "mwide_s", "startup_s", "compile_s",
        "versus", "versus_user_s", "ratio")


@dataclass(frozen=True)
class Row:
    """A program in a tier; ``versus`` is the yardstick's command, "" without one."""

    program: str
    tier: str
    wide: int
    user: float
    startup: float
    compiling: float
    versus: str
    versus_user: float | None
    ratio: float | None


def host() -> str:
    """The host's CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} x {len(names)}" if names else "unknown"


def commit() -> str:
    """The commit measured, + behind it when files that are part of it have changes; "" outside a repository."""
    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    name = git("rev-parse", "--short", "HEAD")
    return name + "+" * bool(name and git("status", "--porcelain", "--untracked-files=no", "--", "../e2kemu"))


def conditions() -> str:
    """One line: what is measured where, and who else is there."""
    return f"{host()}, load {os.getloadavg()[0]:.1f}, commit {commit() or 'unknown'}"


def append(path: Path, rows: list[Row]) -> None:
    """Add the rows of one invocation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    common = (date, commit(), host(), f"{os.getloadavg()[0]:.1f}")
    with open(path, "a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(HEAD)
        for row in rows:
            writer.writerow((
                *common, row.program, row.tier, row.wide, f"{row.user:.3f}",
                f"{row.wide / max(row.user, 1e-3) / 1e6:.2f}", f"{row.startup:.3f}", f"{row.compiling:.3f}", row.versus,
                "" if row.versus_user is None else f"{row.versus_user:.3f}",
                "" if row.ratio is None else f"{row.ratio:.2f}"))


def plot(history: Path, picture: Path) -> None:
    """Draw speed by invocation, a panel for each program. Raises SystemExit without matplotlib or history."""
    try:
        import matplotlib
    except ImportError:
        raise SystemExit("cpu.py: --plot needs matplotlib: pip install 'e2kemu[bench]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    if not history.exists():
        raise SystemExit(f"cpu.py: --plot: there is no history in {history}")
    with open(history, newline="") as file:
        rows = list(csv.DictReader(file))
    dates = {date: number for number, date in enumerate(sorted({row["date"] for row in rows}))}
    names = {dates[row["date"]]: f"{row['commit']}\n{row['date'][:10]}" for row in rows}
    lines: dict[str, dict[str, list[tuple[int, float]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        at, wide = dates[row["date"]], int(row["wide"])
        lines[row["program"]][row["tier"]].append((at, float(row["mwide_s"])))
        if row["versus_user_s"] and row["tier"] == "jit":
            lines[row["program"]]["yardstick"].append((at, wide / max(float(row["versus_user_s"]), 1e-3) / 1e6))
    columns = min(3, len(lines)) or 1
    count = -(-len(lines) // columns) or 1
    figure, panels = pyplot.subplots(count, columns, figsize=(5 * columns, 3 * count), squeeze=False)
    for panel in panels.flat[len(lines):]:
        panel.set_visible(False)
    colours = {"jit": "tab:blue", "interp": "tab:orange", "reference": "tab:green", "yardstick": "tab:gray"}
    for panel, (program, tiers) in zip(panels.flat, sorted(lines.items()), strict=False):
        for tier, points in sorted(tiers.items()):
            x, y = zip(*points, strict=True)
            panel.plot(x, y, "--" if tier == "yardstick" else "-", marker="o", label=tier, color=colours.get(tier))
        panel.set(title=program, yscale="log", ylabel="million wide instructions/s")
        panel.set_xticks(sorted(names), [names[at] for at in sorted(names)], fontsize=5, rotation=60)
        panel.grid(alpha=0.3)
        panel.legend(fontsize=7)
    figure.tight_layout()
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=110)
