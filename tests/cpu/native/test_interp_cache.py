"""The interpreter's host code on disk: what is stored, what is refused, what several processes do to it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from e2kemu.cpu.native.interp import cache
from e2kemu.cpu.native.interp.build import HostCode

PARTS: cache.Parts = (b'{"texts": ["a", "b"]}', [b"first object", b"second" * 1000])

RUN = """
import sys
sys.path.insert(0, sys.argv[1])
from tests.cpu.guest import Guest
from tests.cpu.native.interp_cases import interpreted
guest = interpreted()
guest.load_elf("hello")
assert guest.cpu.run() == "exit"
print(guest.output.decode().strip())
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "e2kemu"


def entries(home: Path) -> list[Path]:
    return sorted(home.glob("interp-*.bin"))


def counted(made: list[cache.Parts | None]) -> cache.Parts:
    """What the cache gives when building is noted in ``made``."""
    def build(before: cache.Parts | None) -> cache.Parts:
        made.append(before)
        return PARTS

    return cache.load_or_build(build)


def test_what_was_made_once_is_loaded_from_then_on(home: Path) -> None:
    made: list[cache.Parts | None] = []
    assert counted(made) == PARTS
    assert counted(made) == PARTS
    assert made == [None]
    assert len(entries(home)) == 1


@pytest.mark.parametrize("damage", ["short", "flipped", "empty", "foreign"])
def test_a_damaged_entry_is_made_anew(home: Path, damage: str) -> None:
    made: list[cache.Parts | None] = []
    counted(made)
    (entry,) = entries(home)
    data = bytearray(entry.read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 1
    entry.write_bytes({"short": data[:-10], "flipped": data, "empty": b"", "foreign": b"#!/bin/sh\n" * 9}[damage])
    assert counted(made) == PARTS
    assert len(made) == 2
    assert cache.unpack(entry.read_bytes()) == PARTS
    assert len(entries(home)) == 1


def test_other_sources_make_another_entry_and_see_what_was_there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[cache.Parts | None] = []
    counted(made)
    host, sources = cache.name()
    monkeypatch.setattr(cache, "name", lambda: (host, "f" * len(sources)))
    assert counted(made) == PARTS
    assert made == [None, PARTS]
    monkeypatch.setattr(cache, "name", lambda: ("e" * len(host), sources))
    assert counted(made) == PARTS
    assert made == [None, PARTS, None]
    assert len(entries(home)) == 3


def test_stale_entries_go(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host, _ = cache.name()
    for number in range(3 * cache.KEPT):
        monkeypatch.setattr(cache, "name", lambda number=number: (host, f"{number:024x}"))
        counted([])
        entry = home / f"interp-{host}-{number:024x}.bin"
        os.utime(entry, (number + 1, number + 1))
    assert len(entries(home)) <= cache.KEPT + 1


def test_without_a_place_to_write_the_code_is_made_and_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    made: list[cache.Parts | None] = []
    assert counted(made) == PARTS
    assert counted(made) == PARTS
    assert len(made) == 2


def test_many_at_once_leave_one_whole_entry(home: Path) -> None:
    found: list[cache.Parts] = []
    threads = [threading.Thread(target=lambda: found.append(counted([]))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [PARTS] * 16
    (entry,) = entries(home)
    assert cache.unpack(entry.read_bytes()) == PARTS
    assert [path.name for path in home.iterdir()] == [entry.name]


def test_processes_that_start_at_once_all_run_from_the_same_code() -> None:
    HostCode.get()
    root = Path(__file__).parent.parent.parent.parent
    processes = [subprocess.Popen([sys.executable, "-c", RUN, str(root)], stdout=subprocess.PIPE, text=True)
                 for _ in range(3)]
    assert [process.communicate()[0].strip() for process in processes] == ["hello from e2k"] * 3
    assert {process.returncode for process in processes} == {0}


def test_the_key_changes_with_every_source_that_the_code_is_made_from(monkeypatch: pytest.MonkeyPatch,
                                                                      tmp_path: Path) -> None:
    names = {path for pattern in cache._SOURCES for path in cache._CPU.glob(pattern)}
    assert len(names) > 40
    for module in ("values.py", "interp/handlers.py", "interp/decoder.py", "interp/finish.py", "interp/channels.py",
                   "interp/layout.py", "interp/lowlevel.py", "runtime.py"):
        assert cache._CPU / "native" / module in names, module
    before = cache.name()
    monkeypatch.setattr(cache, "_SOURCES", (*cache._SOURCES, "asm.py"))
    assert cache.name()[0] == before[0]
    assert cache.name()[1] != before[1]
