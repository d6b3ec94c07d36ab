"""Streams that are wrong, and what a machine says of them."""

from __future__ import annotations

import random
from typing import Any

from e2kemu.errors import StreamError
from e2kemu.migration.globalstate import GlobalState
from e2kemu.migration.load import StreamLoader
from e2kemu.migration.qemufile import StreamReader
from e2kemu.migration.ram_load import RamLoader
from e2kemu.migration.registry import Registry
from e2kemu.migration.stream import Configuration
from tests.migration.toy import PAGE, ToyMachine


class _Bytes:
    """A stream in memory that comes in pieces of odd sizes."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def readinto(self, buffer: memoryview) -> int:
        size = min(len(buffer), 5003, len(self._data) - self._at)
        buffer[:size] = self._data[self._at : self._at + size]
        self._at += size
        return size


class _NoCommands:
    def open_return_path(self) -> None: ...

    def ping(self, value: int) -> None: ...

    def switchover_start(self) -> None: ...


def load_error(stream: bytes, machine: Any = None) -> StreamError | None:
    """Load ``stream`` into a machine; the error, or None when it was accepted."""
    made = machine or ToyMachine(16 * PAGE, incoming=True)
    try:
        StreamLoader(
            StreamReader(_Bytes(stream)),
            Configuration(made.machine_type),
            Registry([*made.save_handlers(), GlobalState()]),
            RamLoader(made.ram_blocks),
            _NoCommands(),
        ).load()
    except StreamError as error:
        return error
    finally:
        if machine is None:
            made.close()
    return None


def damage(stream: bytes, chance: random.Random, interesting: list[int], *, scatter: float = 0.2) -> bytes:
    """``stream`` with a few bytes changed, cut out, doubled or put in, mostly where it matters."""
    data = bytearray(stream)
    for _ in range(chance.randint(1, 3)):
        near = chance.choice(interesting) + chance.randint(0, 24)
        at = min(near if chance.random() >= scatter else chance.randrange(len(data)), len(data) - 1)
        kind = chance.randrange(5)
        if kind == 0:
            data[at] = chance.randrange(256)
        elif kind == 1:
            data[at] ^= 1 << chance.randrange(8)
        elif kind == 2:
            del data[at : at + chance.randint(1, 16)]
        elif kind == 3:
            data[at:at] = data[at : at + chance.randint(1, 64)]
        else:
            data[at : at + 4] = chance.choice([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", b"\0\0\0\x10"])
    return bytes(data)
