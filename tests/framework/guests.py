"""What the firmware's workloads promise, checked from outside."""

from __future__ import annotations

import re

from e2kemu.demo import check_pages
from e2kemu.process import Emulator

MIB = 1 << 20
START, END = 16 * MIB, 200 * MIB
PAGES = "workload=pages start=16M end=200M"
VERIFY = "workload=verify start=16M end=48M seed=1"


def check_pages_guest(emulators: list[Emulator], end: int = END) -> None:
    """Stop the last emulator: memory up to ``end`` whole, and as many laps on all consoles as memory shows."""
    last_emulator = emulators[-1]
    last_emulator.qmp("stop")
    last, ahead = check_pages(last_emulator.memory(START, end - START))
    text = "".join(emulator.console() for emulator in emulators)
    laps = text.partition("ok\nA")[2].count("B")
    assert last in (laps & 0xFF, laps + (ahead == 0) & 0xFF), f"{laps} laps on the consoles, {last} in memory"


def check_ticks(text: str) -> int:
    """The ticks on the consoles are 1, 2, 3 ... without gap or repetition; returns how many."""
    ticks = [int(number) for number in re.findall(r"tick (\d+)\b", text)]
    assert ticks == list(range(1, len(ticks) + 1)), f"ticks out of order: {ticks}"
    return len(ticks)
