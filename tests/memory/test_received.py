"""Memory of which pages are missing: who touches one waits for just that page."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from e2kemu.errors import StateError
from e2kemu.memory import received
from e2kemu.memory.ram import RAMBlock
from e2kemu.memory.received import Arrivals
from e2kemu.memory.space import AddressSpace, RAMRegion

PAGE = 4096
PAGES = 16


class Fixture:
    """One block of which nothing is here, in an address space; ``wanted`` gets the requests."""

    def __init__(self) -> None:
        self.block = RAMBlock("ram", PAGES * PAGE)
        self.space = AddressSpace("memory", threading.RLock())
        self.space.map(0, RAMRegion(self.block), "ram")
        self.present = np.zeros(PAGES, dtype=np.uint8)
        self.wanted: queue.SimpleQueue[tuple[str, int, int]] = queue.SimpleQueue()
        self.lock = threading.RLock()
        self.arrivals = Arrivals(
            self.lock, [(self.block, self.present)], lambda *request: self.wanted.put(request)
        )
        self.arrivals.begin()

    def place(self, page: int, fill: int) -> bool:
        """A page comes; whether it was stored."""
        stored = []

        def store(fresh: np.ndarray) -> None:
            if fresh[0]:
                self.block.view[page * PAGE : (page + 1) * PAGE] = fill
                stored.append(page)

        self.arrivals.blocks["ram"].place(np.array([page]), store)
        return bool(stored)

    def serve(self, count: int) -> threading.Thread:
        """Answer ``count`` requests, with pages full of their number."""

        def answer() -> None:
            for _ in range(count):
                _, first, pages = self.wanted.get(timeout=20)
                for page in range(first, first + pages):
                    self.place(page, page)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        return thread


@pytest.fixture
def missing() -> Iterator[Fixture]:
    fixture = Fixture()
    yield fixture
    fixture.arrivals.pause("the test is over")


def test_every_accessor_waits_for_its_pages(missing: Fixture) -> None:
    accesses = [
        lambda page: missing.block.read(page * PAGE, 1)[0],
        lambda page: missing.space.read(page * PAGE + 8, 8) & 0xFF,
        lambda page: missing.space.read_bytes(page * PAGE, 4)[0],
        lambda page: (missing.block.write(page * PAGE + 7, b"x"), missing.block.mem[page * PAGE])[1],
        lambda page: (missing.space.write(page * PAGE, 1, page), missing.block.mem[page * PAGE + 1])[1],
        lambda page: (missing.space.write_bytes(page * PAGE, bytes([page])), missing.block.mem[page * PAGE + 9])[1],
    ]
    server = missing.serve(len(accesses))
    for page, access in enumerate(accesses, 1):
        assert access(page) == page
    server.join(20)
    assert np.flatnonzero(missing.present).tolist() == list(range(1, len(accesses) + 1))


def test_an_access_over_many_pages_asks_for_runs_of_what_is_missing(missing: Fixture) -> None:
    missing.place(3, 3)
    server = missing.serve(2)
    data = missing.block.read(1 * PAGE, 6 * PAGE)
    server.join(20)
    assert [data[at * PAGE] for at in range(6)] == [1, 2, 3, 4, 5, 6]
    assert missing.arrivals.missing() == PAGES - 6


def test_a_page_that_is_here_is_not_overwritten(missing: Fixture) -> None:
    assert missing.place(2, 7)
    missing.block.write(2 * PAGE, b"guest")
    assert not missing.place(2, 7)
    assert missing.block.read(2 * PAGE, 5) == b"guest"


def test_waiting_releases_the_lock_however_deep_it_was_taken(missing: Fixture) -> None:
    held = threading.Event()

    def device() -> None:
        with missing.lock, missing.lock:
            held.set()
            missing.block.read(5 * PAGE, 1)

    thread = threading.Thread(target=device, daemon=True)
    thread.start()
    assert held.wait(20)
    assert missing.wanted.get(timeout=20) == ("ram", 5, 1)
    assert missing.lock.acquire(timeout=20)
    missing.lock.release()
    missing.place(5, 5)
    thread.join(20)
    assert not thread.is_alive()


def test_a_paused_migration_is_an_error_that_names_the_page(missing: Fixture) -> None:
    missing.arrivals.pause("the migration is paused")
    with pytest.raises(StateError, match=r"page at 0x9000 of block 'ram' has not been received yet: .* paused"):
        missing.block.read(0x9123, 4)
    assert missing.wanted.get(timeout=20) == ("ram", 9, 1)
    missing.arrivals.pause("")
    server = missing.serve(1)
    assert missing.block.read(0xA000, 1) == b"\n"
    server.join(20)
    assert list(missing.arrivals.outstanding()) == [("ram", 9, 1)]


def test_a_source_that_sends_nothing_is_an_error(missing: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(received, "PATIENCE", 0.01)
    with pytest.raises(StateError, match="the source does not send it"):
        missing.block.read(0, 1)


def test_who_keeps_a_way_to_the_bytes_hears_when_pages_begin_and_cease_to_be_missing(missing: Fixture) -> None:
    before = missing.space.generation
    missing.arrivals.end()
    assert missing.space.generation > before
    assert missing.block.arrivals is None
    assert missing.block.read(15 * PAGE, 1) == b"\0"
