"""Whatever a guest passes, a handler answers with a result, an errno or a wait: the emulator never falls over."""

from __future__ import annotations

import os
import random
import resource
import time
from contextlib import suppress
from pathlib import Path

import pytest

from e2kemu.linux.calls import (
    attributes,
    directory,
    file,
    ids,
    message,
    pipe,
    poll,
    scheduling,
    socket,
    status,
    system,
    timer,
    transfer,
)
from e2kemu.linux.calls import time as time_calls
from e2kemu.linux.error import LinuxError, WouldBlock
from e2kemu.linux.table import CALLS, POINTERS, Call, arguments_of
from tests.linux.handlers import Guest

MODULES = [m.__name__ for m in (attributes, directory, file, ids, message, pipe, poll, scheduling, socket, status,
                                    system, time_calls, transfer)]
assert timer.__name__ not in MODULES, "its calls need a whole kernel"
SECONDS = 2.0
ENOUGH, PATIENCE = 10, 60
"""Outcomes of each kind there must be, and seconds more to find them on a busy machine."""
NUMBERS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 16, 64, 100, 255, 1000, 4096, 65536, 1 << 20, 1 << 31, (1 << 31) - 1, (1
    << 32) - 1, 1 << 32, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, (1 << 64) - 2, (1 << 64) - 100, (1 << 64) -
    4096]
PATHS = ["", ".", "..", "/", "/f", "/d", "/d/x", "/new", "new", "/l", "/loop", "/fifo", "/proc", "/proc/self",
    "/proc/self/fd", "/proc/self/fd/3", "/proc/self/maps", "/proc/self/exe", "/f/", "/f/x", "/d/..", "a" * 255, "a"
    * 256, "x/" * 2000, "/\udcff\udcfe", "user.x", "/proc/self/task"]


def argument(guest: Guest, random: random.Random, kind: str) -> int:
    """Something for an argument of ``kind``, often sensible."""
    if random.random() < 0.15:
        return random.choice(NUMBERS)
    if kind == "path":
        return guest.put(random.choice(PATHS))
    if kind in POINTERS:
        choice = random.random()
        if choice < 0.1:
            return guest.base + (1 << 20) - random.randrange(64)
        if choice < 0.4:
            return guest.put(random.randbytes(random.choice([8, 16, 64, 256])))
        words = random.choices([0, 1, 2, 3, 5, 8, guest.base + 64, 100], k=24)
        return guest.put(b"".join(word.to_bytes(guest.process.pointer_size, "little") for word in words))
    if kind == "fd":
        return random.choice([*guest.process.files.files, (1 << 64) - 100, 77])
    return random.choice(NUMBERS)


@pytest.mark.parametrize("pointer_size", [8, 4], ids=["64-bit", "32-bit"])
def test_no_argument_upsets_a_handler(tmp_path: Path, pointer_size: int) -> None:
    seed = int(os.environ.get("E2KEMU_SEED", time.time_ns() % 10**9))
    print("E2KEMU_SEED", seed)
    rng = random.Random(seed)
    calls = [c for c in CALLS.values() if c.handler.__module__ in MODULES and c.name not in ("fchdir", "chdir")]
    assert len(calls) >= 180
    (tmp_path / "d").mkdir()
    (tmp_path / "l").symlink_to("d")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "fifo")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 24, limit[1]))
    counts = dict.fromkeys(("result", "errno", "wait"), 0)
    try:
        with Guest(str(tmp_path), pointer_size=pointer_size, deny_net=True) as guest:
            guest.process.pgid = os.getpgrp()
            for fd in range(3):
                guest.process.files.close(fd)
            end = time.monotonic() + SECONDS
            while time.monotonic() < end or (min(counts.values()) <= ENOUGH and time.monotonic() < end + PATIENCE):
                if len(guest.process.files.files) < 8:
                    with suppress(OSError):
                        (tmp_path / "f").write_bytes(b"contents" * 20)
                    refill(guest)
                one(guest, rng, rng.choice(calls), counts)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    print(counts)
    assert min(counts.values()) > ENOUGH


def refill(guest: Guest) -> None:
    """Descriptors of many kinds."""
    guest.open("/f", 2)
    guest.open("/", 0o200000)
    guest.open("/proc/self/maps")
    guest.call("pipe", guest.space(8))
    guest.call("socketpair", 1, 1, 0, guest.space(8))
    guest.call("socketpair", 1, 2, 0, guest.space(8))
    guest.call("eventfd2", 1, 0)
    guest.call("timerfd_create", 1, 0)
    guest.call("epoll_create1", 0)
    guest.call("memfd_create", "m", 0)


def one(guest: Guest, rng: random.Random, call: Call, counts: dict[str, int]) -> None:
    """Execute ``call`` once, with anything."""
    registers = [argument(guest, rng, a.kind) for a in call.arguments]
    registers += [rng.choice(NUMBERS) for _ in range(9 - len(registers))]
    values = arguments_of(call, registers, guest.process.pointer_size)
    guest.task.progress, guest.task.timer, guest.task.saved_mask = 0, None, None
    try:
        assert isinstance(call.handler(guest.task, *values), int)
        counts["result"] += 1
    except WouldBlock:
        counts["wait"] += 1
    except (LinuxError, OSError, ValueError, OverflowError):
        counts["errno"] += 1
    except BaseException:
        print(call.name, [hex(v) for v in values])
        raise
