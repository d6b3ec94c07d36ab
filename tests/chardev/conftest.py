"""A main loop that runs in a thread of its own, as the emulator's does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from e2kemu.chardev import ChardevSet
from e2kemu.loop import MainLoop

T = TypeVar("T")


class RunningLoop:
    """The loop, its chardevs, and a way to do something in it and wait for the result."""

    def __init__(self) -> None:
        self.loop = MainLoop()
        self.chardevs = ChardevSet(self.loop)
        self.status: int | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self.status = self.loop.run()

    def do(self, function: Callable[[], T]) -> T:
        """Run ``function`` in the loop; its result or exception."""
        done = threading.Event()
        results: list[T] = []
        errors: list[Exception] = []

        def call() -> None:
            try:
                results.append(function())
            except Exception as error:
                errors.append(error)
            done.set()

        self.loop.call_soon(call)
        assert done.wait(30)
        if errors:
            raise errors[0]
        return results[0]

    def stop(self) -> None:
        self.do(self.chardevs.close)
        self.loop.quit(0)
        self._thread.join(30)
        assert not self._thread.is_alive()


class Frontend:
    """A user of a chardev that remembers what it was told."""

    def __init__(self) -> None:
        self.data = b""
        self.events: list[str] = []

    def receive(self, data: bytes) -> None:
        self.data += data

    def event(self, name: str) -> None:
        self.events.append(name)


def eventually(claim: Callable[[], bool]) -> None:
    """Wait until ``claim`` holds."""
    deadline = time.monotonic() + 30
    while not claim():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


@pytest.fixture
def running() -> Iterator[RunningLoop]:
    loop = RunningLoop()
    yield loop
    loop.stop()
