"""Random accesses by several CPUs to all that a whole board maps: nothing raises, and the state still travels."""

from __future__ import annotations

import random

import pytest

from e2kemu.devices.core import speaking_for
from e2kemu.machine import builder
from e2kemu.machine.config import MachineConfig
from e2kemu.machine.machine import Machine
from e2kemu.wire import BytesReader, Writer
from tests.framework.seeds import chosen_seed

ACCESSES = 50_000


def shake(machine: Machine, rng: random.Random) -> set[str]:
    """Random accesses; which windows were met. The exit register is left alone."""
    windows = [flat for flat in machine.space.ranges if flat.block is None and flat.name != "e2k-test-exit"]
    met = set()
    for _ in range(ACCESSES):
        window, size = rng.choice(windows), rng.choice((1, 2, 4, 8))
        length = window.end - window.start
        address = window.start + rng.randrange(min(length, rng.choice((0x100, 0x1000, length))))
        with speaking_for(rng.randrange(len(machine.cpus))):
            if rng.random() < 0.5:
                assert 0 <= machine.space.read(address, size) < 1 << 8 * size
            else:
                value = rng.choice((rng.getrandbits(8 * size), 1 << rng.randrange(8 * size), 0))
                machine.space.write(address, size, value)
        met.add(window.name)
    return met


@pytest.mark.parametrize("cpu", ["e8c", "e16c"])
def test_no_access_to_a_device_raises_and_what_it_did_travels(cpu: str) -> None:
    rng = random.Random(chosen_seed())
    config = MachineConfig(cpu=cpu, smp=4, ram_size=32 << 20)
    machine: Machine = builder.build(config)
    there: Machine = builder.build(config)
    met = shake(machine, rng)
    assert len(met) >= 11
    assert {"ioepic", "cepic", "prepic"} <= met if cpu == "e16c" else {"ioapic", "apic"} <= met
    bodies = []
    for handler, other in zip(machine.save_handlers(), there.save_handlers(), strict=True):
        w = Writer()
        handler.save(w)
        other.load(BytesReader(w.getvalue()), handler.version)
        bodies.append((handler.idstr, handler.instance_id, w.getvalue()))
    for (name, number, body), other in zip(bodies, there.save_handlers(), strict=True):
        w = Writer()
        other.save(w)
        assert w.getvalue() == body, f"{name} {number}"
    machine.reset()
    assert machine.run_state == "prelaunch"
