"""Fixtures for all tests: real emulator processes, real certificates."""

from __future__ import annotations

import ctypes
import gc
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from e2kemu.cpu.native.interp.build import HostCode
from e2kemu.migration.certs import make_pki
from e2kemu.process import Emulator
from tests.framework.forked import ForkServer, Popen

StartEmulator = Callable[..., Emulator]


def pytest_configure(config: pytest.Config) -> None:
    # once, before the workers: every emulator of every test would make it, and say so where a test reads its stderr
    if not hasattr(config, "workerinput"):
        HostCode.get()
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        ForkServer.start()
        Emulator.popen = Popen


def pytest_collection_finish() -> None:
    # what was imported and collected stays: looking for garbage among it is what a collection costs
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def no_machine_is_left() -> Iterator[None]:
    """Machines are cycles with 32 MiB of RAM and more, and the collector knows nothing of that; nor does malloc give
    back by itself what a compiler had: a worker would have 3 GiB in the end."""
    yield
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--matrix", action="store_true", help="every action at every message of a migration (long)")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartEmulator]:
    """Start emulator processes (``start(name, *options)``); whatever happens they are ended."""
    with ExitStack() as stack:

        def start_one(name: str, *options: str, pass_fds: tuple[int, ...] = ()) -> Emulator:
            return stack.enter_context(Emulator(name, tmp_path, *options, pass_fds=pass_fds))

        yield start_one


@pytest.fixture
def started_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Emulators of this test are no forks: their memory is theirs alone, and can be measured."""
    monkeypatch.setattr(Emulator, "popen", subprocess.Popen)


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a CA, a server and a client certificate for localhost."""
    directory = tmp_path_factory.mktemp("pki")
    make_pki(directory, hosts=["localhost", "127.0.0.1", "::1"])
    return directory
