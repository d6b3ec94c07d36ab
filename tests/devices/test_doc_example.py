"""The example of docs/writing-a-device.md is a device: what the text says of it is true."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from e2kemu.clock import VirtualClock
from e2kemu.errors import StreamError
from e2kemu.wire import BytesReader, Writer

DOC = Path(__file__).parents[2] / "docs" / "writing-a-device.md"


@pytest.fixture(scope="module")
def metronome() -> Any:
    match = re.search(r"```python\n(.*?)```", DOC.read_text(), re.DOTALL)
    assert match is not None
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(match[1], str(DOC), "exec"), names)
    return names["Metronome"]


def beaten(metronome: Any) -> tuple[VirtualClock, Any]:
    clock = VirtualClock()
    device = metronome(clock)
    device.mmio_write(0, 4, 1000)
    device.mmio_write(8, 4, 0xFF)
    clock.set(1_500_000)
    clock.start()
    clock.run_expired()
    clock.stop()
    return clock, device


def test_it_beats_and_stops(metronome: Any) -> None:
    _clock, device = beaten(metronome)
    assert (device.mmio_read(4, 4), device.mmio_read(8, 4), device.irq.level) == (1, 1, True)
    device.mmio_write(4, 4, 99)
    device.mmio_write(8, 4, 0)
    assert (device.beats, device.irq.level) == (1, False)
    device.reset()
    assert (device.beats, device.accent, device.next_beat.expire) == (0, 4, None)


def test_it_travels_also_from_an_old_version(metronome: Any) -> None:
    _clock, device = beaten(metronome)
    w = Writer()
    device.section().save(w)
    there = metronome(VirtualClock())
    there.section().load(BytesReader(w.getvalue()), 2)
    assert there.values == device.values
    assert (there.irq.level, there.next_beat.expire) == (True, device.next_beat.expire)
    old = metronome(VirtualClock())
    old.section().load(BytesReader(w.getvalue()[:-1]), 1)
    assert old.accent == 4
    with pytest.raises(StreamError, match="metronome: accent is 0"):
        old.section().load(BytesReader(w.getvalue()[:-1] + b"\0"), 2)
