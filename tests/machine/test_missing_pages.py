"""A guest that runs while its memory is still on its way."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from e2kemu import Machine
from e2kemu.memory.received import Arrivals


class Source:
    """All pages of a machine's memory are "missing"; on request they come, but for the ``withheld`` (block, page)."""

    def __init__(self, machine: Machine) -> None:
        self.withheld: set[tuple[str, int]] = set()
        self.asked: list[tuple[str, int]] = []
        self._wanted: queue.SimpleQueue[tuple[str, int, int] | None] = queue.SimpleQueue()
        blocks = [(block, np.zeros(block.pages, dtype=np.uint8)) for block in machine.ram_blocks]
        self.arrivals = Arrivals(machine.lock, blocks, lambda *request: self._wanted.put(request))
        self.arrivals.begin()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while (request := self._wanted.get()) is not None:
            block, first, count = request
            for page in range(first, first + count):
                self.asked.append((block, page))
                if (block, page) not in self.withheld:
                    self.place(block, page)

    def place(self, block: str, page: int) -> None:
        self.arrivals.blocks[block].place(np.array([page]), lambda fresh: None)

    def release(self) -> None:
        """Hold nothing back any more."""
        withheld, self.withheld = self.withheld, set()
        for block, page in withheld:
            self.place(block, page)

    def close(self) -> None:
        self._wanted.put(None)


@pytest.fixture
def machine() -> Iterator[Machine]:
    with Machine.build(ram="32M", append="workload=pages start=16M end=17M") as made:
        yield made


@pytest.fixture
def source(machine: Machine) -> Iterator[Source]:
    made = Source(machine)
    yield made
    made.close()


def _wait(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _first_page_of_code(machine: Machine) -> tuple[str, int]:
    flat = machine.space.find(machine.read_reg("pc"))
    assert flat is not None
    assert flat.block is not None
    return flat.block.idstr, flat.block_offset >> 12


def test_a_guest_boots_in_memory_that_comes_page_by_page(machine: Machine, source: Source) -> None:
    machine.run(until=b"AB", timeout=60)
    touched = {page for _, page in source.asked}
    assert set(range(0x1000, 0x1100)) <= touched
    assert source.arrivals.missing() > 0
    with machine.quiesced():
        source.arrivals.end()
    machine.run(until=b"BB", timeout=60)
    first = machine.read_mem(16 << 20, 1 << 20)[::4096]
    assert max(first) - min(first) <= 1


def test_a_guest_that_waits_can_be_stopped_looked_at_and_goes_on(machine: Machine, source: Source) -> None:
    source.withheld.add(("elbrus.ram", 0x1010))
    machine.start()
    _wait(lambda: ("elbrus.ram", 0x1010) in source.asked)
    for _ in range(3):
        machine.stop()
        assert machine.run_state == "paused"
        assert machine.read_reg("pc") >> 32
        machine.start()
    source.release()
    machine.run(until=b"B", timeout=60)
    assert "B" in machine.console.text


def test_a_guest_that_waits_can_be_reset(machine: Machine, source: Source) -> None:
    source.withheld.add(("elbrus.ram", 0x1010))
    machine.start()
    _wait(lambda: source.withheld <= set(source.asked))
    machine.stop()
    machine.reset()
    source.release()
    machine.run(until=b"AB", timeout=60)
    assert machine.console.text.count("\nA") == 2


def test_a_guest_that_waits_does_not_hold_up_the_end(machine: Machine, source: Source) -> None:
    source.withheld.add(_first_page_of_code(machine))
    machine.start()
    _wait(lambda: source.withheld <= set(source.asked))
    machine.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("CPU")]
