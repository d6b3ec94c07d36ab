"""Migrations in a row leave nothing behind: no descriptor, no thread, no memory.

As many as fit into a few seconds, the count printed; ``E2KEMU_MIGRATIONS=1000`` makes it a thousand.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from e2kemu.migration.certs import make_pki, make_psk
from tests.migration.conftest import Side
from tests.migration.toy import PAGE, LapWriter, ToyMachine, laps_are_whole

PAGES = 64
SECONDS = 12.0
WANTED = int(os.environ.get("E2KEMU_MIGRATIONS", "0"))
"""How many there must be; 0: as many as fit into SECONDS."""

WARM_UP = 3
"""Rounds over all kinds after which everything that is made once has been made."""

OBJECTS = 100
"""Objects that the garbage collector knows more than before that are allowed in the end, whatever the count: a leak
would be at least one for each migration of a kind."""

BLOCKS = 2000
"""The same for all blocks of memory of Python's: about a thousand come, and no more, as its caches fill."""

ROOM = 1 << 20
"""Bytes more that all others (numpy, OpenSSL, threads) may have."""


MALLINFO = ["arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"]


class _MallInfo(ctypes.Structure):
    """mallinfo2 of glibc: over all arenas."""

    _fields_ = [(name, ctypes.c_size_t) for name in MALLINFO]


class Held(NamedTuple):
    """What the process holds. Its resident size would tell nothing: free memory stays with the allocators."""

    descriptors: int
    threads: int
    objects: int
    blocks: int
    allocated: int

    @classmethod
    def now(cls) -> Held:
        gc.collect()
        mallinfo = ctypes.CDLL(None).mallinfo2
        mallinfo.restype = _MallInfo
        info = mallinfo()
        return cls(
            len(os.listdir("/proc/self/fd")),
            threading.active_count(),
            len(gc.get_objects()),
            sys.getallocatedblocks(),
            int(info.uordblks + info.hblkhd),
        )


class Pair:
    """Two machines for one migration; the guest works."""

    def __init__(self, *capabilities: str) -> None:
        self.source = Side(ToyMachine(PAGES * PAGE, LapWriter(PAGES, 8)))
        self.destination = Side(ToyMachine(PAGES * PAGE, incoming=True))
        for side in (self.source, self.destination):
            side.service.capabilities.set(dict.fromkeys(capabilities, True))
        self.source.service.parameters.set({"max-bandwidth": 0})
        self.source.machine.ram.view[:] = np.arange(PAGES * PAGE, dtype=np.uint32).astype(np.uint8)
        self.source.machine.ram.view.reshape(-1, PAGE)[:, 0] = 0
        self.source.machine.start()

    def tls(self, kind: str, directory: Path) -> None:
        for side, endpoint in ((self.source, "client"), (self.destination, "server")):
            properties = {"dir": str(directory), "endpoint": endpoint}
            if kind == "psk" and endpoint == "client":
                properties["username"] = "alice"
            side.service._objects.add(f"tls-creds-{kind}", "tls0", properties)
            side.service.parameters.set({"tls-creds": "tls0"})

    def completes(self, uri: str = "tcp:127.0.0.1:0") -> None:
        self.source.service.migrate(self.destination.listen(uri))
        assert self.source.service.wait(30) == "completed", self.source.service.query()
        assert self.destination.wait_incoming() == "completed"
        assert self.source.machine.run_state == "postmigrate"
        self.destination.machine.stop()
        assert laps_are_whole(self.destination.machine, PAGES)

    def close(self) -> None:
        for side in (self.source, self.destination):
            for thread in (side.service._outgoing, side.service._incoming):
                if thread is not None:
                    thread.join(30)
            side.service.close()
            side.machine.close()


def _cancelled(pair: Pair) -> None:
    pair.source.service.parameters.set({"max-bandwidth": 1000})
    pair.source.service.migrate(pair.destination.listen(exit_on_error=False))
    pair.source.wait_status("active")
    pair.source.service.cancel()
    assert pair.source.service.wait(30) == "cancelled"
    assert pair.destination.wait_incoming() == "failed"
    pair.source.service.parameters.set({"max-bandwidth": 0})
    pair.completes()


def _refused(pair: Pair) -> None:
    pair.destination.machine.devices[0].idstr = "another"
    pair.source.service.migrate(pair.destination.listen(exit_on_error=False))
    assert pair.source.service.wait(30) == "failed"
    assert pair.destination.wait_incoming() == "failed"
    assert pair.source.machine.is_running()


def _nobody(pair: Pair) -> None:
    pair.source.service.migrate("tcp:127.0.0.1:1")
    assert pair.source.service.wait(30) == "failed"


Kind = Callable[[Path], None]


def _kind(run: Callable[[Pair], None], *capabilities: str, tls: str = "") -> Kind:
    def once(directory: Path) -> None:
        pair = Pair(*capabilities)
        try:
            if tls:
                pair.tls(tls, directory)
            run(pair)
        finally:
            pair.close()

    return once


def _unix(directory: Path) -> None:
    pair = Pair()
    try:
        pair.completes(f"unix:{directory}/socket")
    finally:
        pair.close()


KINDS: dict[str, Kind] = {
    "tcp": _kind(Pair.completes),
    "unix": _unix,
    "return-path": _kind(Pair.completes, "return-path"),
    "xbzrle": _kind(Pair.completes, "xbzrle"),
    "compress": _kind(Pair.completes, "compress"),
    "auto-converge": _kind(Pair.completes, "auto-converge"),
    "x509": _kind(Pair.completes, tls="x509"),
    "psk": _kind(Pair.completes, tls="psk"),
    "cancelled": _kind(_cancelled),
    "cancelled x509": _kind(_cancelled, tls="x509"),
    "refused": _kind(_refused),
    "nobody there": _kind(_nobody),
}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("keys")
    make_pki(directory, hosts=["127.0.0.1"])
    make_psk(directory, "alice")
    return directory


def _enough(count: int, end: float) -> bool:
    return count >= WANTED if WANTED else count >= 5 * len(KINDS) and time.monotonic() >= end


@pytest.mark.timeout(900)
def test_migrations_in_a_row_leave_nothing_behind(keys: Path) -> None:
    for _ in range(WARM_UP):
        for kind in KINDS.values():
            kind(keys)
    before = Held.now()
    end = time.monotonic() + SECONDS
    kinds = cycle(KINDS.values())
    count = 0
    while not _enough(count, end):
        next(kinds)(keys)
        count += 1
    after = Held.now()
    print(f"{count} migrations: before {before}, after {after}")
    assert after.descriptors <= before.descriptors
    assert after.threads <= before.threads
    assert after.objects < before.objects + OBJECTS
    assert after.blocks < before.blocks + BLOCKS
    assert after.allocated < before.allocated + ROOM
