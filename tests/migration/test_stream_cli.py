"""``e2kemu-stream`` prints what is in a stream, as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.framework import forked
from tests.migration.conftest import Samples


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "e2kemu.migration.stream_cli", *map(str, arguments)]
    return forked.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def files(samples: Samples, tmp_path: Path) -> Path:
    for name in ("v11-plain-live", "v11-file-offset", "v11-xbzrle", "v72-machine-2.2"):
        (tmp_path / name).write_bytes(samples.stream(name))
    (tmp_path / "back").write_bytes(samples.files["tee-v11-return-path.rev"])
    return tmp_path


def test_sections_records_and_fields_are_named_with_their_places(files: Path) -> None:
    result = run(files / "v11-plain-live")
    assert result.returncode == 0, result.stderr
    for line in (
        "0x0000001b START         'ram' instance 0, version 4, id 1, 170 bytes",
        "    block pc.ram: 0x2000000 bytes",
        "    records: PAGE 138, ZERO 8184",
        "    cpu_clock_offset = 0x000000000294e0b8",
        "0x000ae5dc COMMAND       SWITCHOVER_START",
    ):
        assert line + "\n" in result.stdout


def test_verbose_shows_every_record_of_ram(files: Path) -> None:
    lines = run("-v", files / "v11-xbzrle").stdout.splitlines()
    assert sum(" XBZRLE pc.ram 0x" in line for line in lines) == 208
    assert sum(" ZERO " in line for line in lines) == 8196


def test_an_offset_into_the_file_is_honoured(files: Path) -> None:
    assert run("-q", "--offset", "0x1000", files / "v11-file-offset").stdout.startswith("0x00001000 HEADER")
    wrong = run(files / "v11-file-offset")
    assert wrong.returncode == 1
    assert "not a migration stream" in wrong.stderr


def test_json_is_one_object_per_element(files: Path) -> None:
    entries = [json.loads(line) for line in run("--json", files / "v11-plain-live").stdout.splitlines()]
    assert len(entries) == 40
    ram = next(entry for entry in entries if entry["kind"] == "START")
    assert ram["ram"]["blocks"]["pc.ram"] == 0x2000000
    timer = next(entry for entry in entries if entry.get("name") == "timer")
    assert timer["values"]["cpu_clock_offset"] == "0x000000000294e0b8"


def test_ram_is_extracted(files: Path) -> None:
    assert run("-q", "--ram", files / "ram", files / "v11-plain-live").returncode == 0
    assert (files / "ram" / "pc.ram").stat().st_size == 32 << 20
    assert (files / "ram" / "pc.bios").read_bytes()[-16] == 0xEA  # the far jump at the reset vector


def test_the_other_direction_is_read(files: Path) -> None:
    lines = run("--return-path", files / "back").stdout.splitlines()
    assert [line.split()[2] for line in lines] == ["PONG", "SHUT"]


def test_a_stream_that_ends_badly_gives_all_before_it_one_line_and_status_1(files: Path) -> None:
    result = run(files / "v72-machine-2.2")
    assert result.returncode == 1
    assert "START         'ram'" in result.stdout
    assert len(result.stderr.splitlines()) == 1
    assert "in section 'timer' at offset 0x9b561" in result.stderr
    missing = run(files / "none")
    assert (missing.returncode, len(missing.stderr.splitlines())) == (1, 1)
    assert "No such file" in missing.stderr
