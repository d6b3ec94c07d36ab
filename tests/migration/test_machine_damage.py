"""The state of the real machine, damaged: its CPUs' and devices' loaders give one clear error, nothing else."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from e2kemu import Machine
from e2kemu.errors import StreamError
from e2kemu.migration.stream_reader import walk
from tests.migration.damage import damage, load_error


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file that the machine has saved."""
    path = tmp_path_factory.mktemp("saved") / "state"
    with Machine.build(ram="32M") as machine:
        machine.save(str(path))
    return path.read_bytes()


@pytest.mark.parametrize("seed", [11, pytest.param(12, marks=pytest.mark.slow)])
def test_damaged_device_state_is_refused_with_one_line_or_loaded(saved: bytes, seed: int) -> None:
    chance = random.Random(seed)
    records = list(walk(saved))
    devices = [record for record in records if record.kind == "FULL"]
    assert len(devices) >= 6
    # The RAM of the stream is left out of the damage: it has its own test, and is most of the bytes.
    places = [record.start for record in devices] + [record.end - 5 for record in devices]
    places += [chance.randrange(record.start, record.end) for record in devices for _ in range(20)]
    refused = 0
    with Machine.build(ram="32M", incoming=True) as machine:
        assert load_error(saved, machine) is None
        for number in range(1000):
            error = load_error(damage(saved, chance, places, scatter=0.0), machine)
            refused += error is not None
            if error is not None:
                assert isinstance(error, StreamError)
                assert "\n" not in str(error), (seed, number)
                assert error.offset is not None, (seed, number, str(error))
    print("seed", seed, "refused", refused)
    assert refused > 300


def test_a_file_cut_in_any_device_is_refused_and_the_device_is_named(saved: bytes) -> None:
    with Machine.build(ram="32M", incoming=True) as machine:
        named = 0
        for record in walk(saved):
            if record.kind == "FULL":
                error = load_error(saved[: record.end - 6], machine)
                assert error is not None
                assert error.section == record.name
                named += 1
    assert named >= 6


def test_a_saved_machine_loads_again(saved: bytes, tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(saved)
    with Machine.build(ram="32M", incoming=True) as machine:
        machine.load(str(tmp_path / "state"))
        assert machine.run_state != "inmigrate"
