"""Migrations of guests that work: do they converge, how fast are they in a postcopy, what does it cost the source?

    half       a guest that dirties memory at half of the link's speed converges by itself
    twice      at twice its speed it does with auto-converge, with XBZRLE when it rewrites few bytes of a page, and at
               once with postcopy; one that does nothing but dirty all of its memory (some 200 times a link of 128 MiB
               a second) converges with auto-converge, too
    postcopy   speed of a guest before and ten seconds after it has gone first, and how long it waits for a page
               (``requests``), while the rest follows as fast as it can, and at 32 MiB a second
    options    growth of the source's memory with every option on

The link is ``max-bandwidth``. A guest of the first two is the firmware's workload ``pages`` with a rate; one of the
others goes over all of its memory, which does not compress, as fast as it can, and counts its steps.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from claims import Claim
from emulators import LOAD_AT, MIB, Ours, resident, stamp, write_contents

from e2kemu.migration.certs import make_pki
from e2kemu.migration.options import CAPABILITIES
from e2kemu.process import Emulator

PAGE = 4096
LINK = 16 * MIB
"""Bytes a second."""
START, END = 16 * MIB, 48 * MIB
"""What the guest of ``pages`` works on."""
DOWNTIME = 100
"""Its downtime limit, in ms: a twentieth of that."""
PATIENCE = 120.0
"""Seconds after which a migration does not converge."""
FUTILE = 10.0
"""Seconds for which a guest at twice the link's speed is watched not to converge."""
AT_ONCE = 1000.0
"""Milliseconds from migrate-start-postcopy until the guest runs at the destination."""
TRUE = 0.6
"""A guest that dirties less than this part of what it should (a busy machine) proves nothing."""

SLOW_PUSH = 32 * MIB
"""Bytes a second."""

SETTLE = 3.0
"""Seconds in which code becomes warm."""

COUNTER = 0x00FF8000
"""Where WALKER counts: below the contents, where the firmware has nothing."""

WALKER = """
        addd,0 0, {first}, %r1
        addd,1 0, {end}, %r2
        addd,2 0, {counter}, %r3
        addd,3 0, 0, %r4
lap:
        addd,0 %r1, 0, %r5
step:
    {{
        nop 2
        ldd,0 [ %r5 + 0 ], %r6
        addd,1 %r5, 0x1000, %r7
        addd,2 %r4, 1, %r4
    }}
    {{
        nop 2
        addd,0 %r6, 1, %r6
        cmpbdb,1 %r7, %r2, %pred1
    }}
    {{
        std,2 %r6, [ %r5 + 0 ]
        std,5 %r4, [ %r3 + 0 ]
        addd,0 %r7, 0, %r5
    }}
        ibranch step ? %pred1
        ibranch lap
"""


class Row(Protocol):
    """Measures one row; ``directory`` is for its files."""

    def __call__(self, directory: Path, *, quick: bool) -> Iterator[Claim]: ...


@contextmanager
def pair(
    directory: Path, name: str, memory: int, *options: str, **own: tuple[str, ...]
) -> Iterator[tuple[Emulator, Emulator]]:
    """Two emulators; ``own`` are further options of "source" and "destination"."""
    size = ("-m", f"{memory // MIB}M")
    with ExitStack() as stack:
        source = stack.enter_context(Ours(f"{name}-s", directory, *size, *options, *own.get("source", ())))
        destination = stack.enter_context(
            Ours(f"{name}-d", directory, *size, "-incoming", "defer", *own.get("destination", ()))
        )
        for emulator in (source, destination):
            emulator.connect()
        yield source, destination


def begin(source: Emulator, destination: Emulator) -> float:
    """Start to migrate; when that was."""
    destination.qmp("migrate-incoming", uri="tcp:127.0.0.1:0")
    port = destination.migration()["socket-address"][0]["port"]
    source.qmp("migrate", uri=f"tcp:127.0.0.1:{port}")
    return time.monotonic()


# -- half and twice


def progress(source: Emulator) -> float:
    """Pages that the guest of ``pages`` has written, modulo 256 laps."""
    first = np.frombuffer(source.memory(START, END - START), dtype=np.uint8)[::PAGE]
    ahead = np.count_nonzero(first != first[-1])
    return float(int(first[-1]) * len(first) + ahead)


def dirtying(source: Emulator) -> float:
    """Bytes a second that the guest dirties, before it is migrated."""
    pages, seconds = progress(source), time.monotonic()
    time.sleep(2)
    more = (progress(source) - pages) % (256 * (END - START) // PAGE)
    return more * PAGE / (time.monotonic() - seconds)


@dataclass(frozen=True)
class Convergence:
    """A migration of ``pages``."""

    status: str
    seconds: float
    wanted: int
    """What the guest should dirty, in per cent of the link."""
    pace: float
    """What it does."""
    info: dict[str, Any]

    def claim(self, name: str, what: str = "") -> Claim:
        """That it has converged."""
        rounds = self.info.get("ram", {}).get("dirty-sync-count", 0)
        figure = f"{self.status} after {self.seconds:.1f} s, {rounds} rounds, dirtying {self.pace:.0f} % of the link"
        met = self.status == "completed" and self.pace >= TRUE * self.wanted
        return Claim(name, figure + what, f"convergence at {self.wanted} %", met)


@contextmanager
def loaded(
    directory: Path, name: str, percent: int, *capabilities: str, **parameters: object
) -> Iterator[tuple[Emulator, Emulator, float]]:
    """A guest that dirties ``percent`` of the link and is not yet migrated, and how fast it really is."""
    append = f"workload=pages start={START // MIB}M end={END // MIB}M rate={LINK * percent // 100 // PAGE}"
    with pair(directory, name, 128 * MIB, "-append", append) as (source, destination):
        for emulator in (source, destination):
            for capability in capabilities:
                emulator.set_capability(capability)
        source.set_parameters(max_bandwidth=LINK, downtime_limit=DOWNTIME, **parameters)
        source.wait_console("ok\nA")
        yield source, destination, dirtying(source) * 100 / LINK


def converge(directory: Path, name: str, percent: int, *capabilities: str, **parameters: object) -> Convergence:
    """Migrate such a guest and wait."""
    with loaded(directory, name, percent, *capabilities, **parameters) as (source, destination, pace):
        since = begin(source, destination)
        try:
            info = source.wait_migration(timeout=PATIENCE)
        except TimeoutError:
            info = source.migration()
        return Convergence(info["status"], time.monotonic() - since, percent, pace, info)


def half(directory: Path, *, quick: bool) -> Iterator[Claim]:
    """At half of the link."""
    yield converge(directory, "half", 50).claim("half")


def twice(directory: Path, *, quick: bool) -> Iterator[Claim]:
    """At twice the link."""
    found = converge(directory, "auto", 200, "auto-converge")
    yield found.claim("twice, auto-converge")
    yield flat_out(directory)
    found = converge(directory, "xbzrle", 200, "xbzrle", xbzrle_cache_size=32 * MIB)
    rate = found.info.get("xbzrle-cache", {}).get("encoding-rate", 0.0)
    yield found.claim("twice, xbzrle", f", encoding rate {rate:.0f}")
    with loaded(directory, "post", 200, "postcopy-ram") as (source, destination, pace):
        begin(source, destination)
        time.sleep(FUTILE)
        before = source.migration()
        rounds = before.get("ram", {}).get("dirty-sync-count", 0)
        figure = f"{before['status']} after {FUTILE:.1f} s, {rounds} rounds, dirtying {pace:.0f} % of the link"
        yield Claim("twice, nothing", figure)
        switch = time.time()
        source.qmp("migrate-start-postcopy")
        destination.wait_status("running")
        gone = (stamp(destination, "RESUME") - switch) * 1000
        source.wait_migration(timeout=PATIENCE)
        yield Claim("twice, postcopy", f"the guest runs at the destination after {gone:.0f} ms",
                    f"at once (< {AT_ONCE:.0f} ms)", gone < AT_ONCE and pace >= TRUE * 200)  # fmt: skip


def flat_out(directory: Path) -> Claim:
    """A guest that goes over all of its memory as fast as it can, with the default limits."""
    memory = 256 * MIB
    with pair(directory, "flat", memory, *walker(directory, memory)) as (source, destination):
        source.set_capability("auto-converge")
        source.set_parameters(max_bandwidth=128 * MIB)
        source.wait_for(lambda: steps(source), bool, 60, "a step")
        time.sleep(SETTLE)
        pace = pace_of(source, 2) * PAGE / 1e9
        since, throttle = begin(source, destination), 0
        while (info := source.migration())["status"] in ("setup", "active") and time.monotonic() < since + PATIENCE:
            throttle = max(throttle, info.get("cpu-throttle-percentage", 0))
            time.sleep(0.5)
        seconds, rounds = time.monotonic() - since, info.get("ram", {}).get("dirty-sync-count", 0)
        figure = f"{info['status']} after {seconds:.1f} s, {rounds} rounds, {pace:.1f} GB/s, throttle {throttle} %"
        return Claim("flat out, auto-converge", figure, "convergence", info["status"] == "completed")


# -- postcopy


def steps(emulator: Emulator) -> int:
    """What WALKER has counted."""
    return int.from_bytes(emulator.memory(COUNTER, 8), "little")


def pace_of(emulator: Emulator, seconds: float) -> float:
    """Steps a second, now and for so long."""
    count, since = steps(emulator), time.monotonic()
    time.sleep(seconds)
    return (steps(emulator) - count) / (time.monotonic() - since)


def walker(directory: Path, memory: int) -> tuple[str, str]:
    """Options for a guest that goes over all of its ``memory`` and has it full of random bytes."""
    image = directory / f"walker-{memory // MIB}.elf"
    size = memory - LOAD_AT - MIB
    if not image.exists():
        code = WALKER.format(first=LOAD_AT + PAGE, end=LOAD_AT + size, counter=COUNTER)
        write_contents(image, size, code)
    return "-kernel", str(image)


@contextmanager
def gone(directory: Path, name: str, memory: int, push: int) -> Iterator[tuple[Emulator, Emulator, float]]:
    """A postcopy whose guest has just begun to run at the destination, and its steps a second before it left.

    ``push``: max-postcopy-bandwidth; 0: its memory follows as fast as it can (the default).
    """
    with pair(directory, name, memory, *walker(directory, memory)) as (source, destination):
        for emulator in (source, destination):
            emulator.set_capability("postcopy-ram")
        destination.set_capability("postcopy-blocktime")
        # The first round is so slow that nearly everything is left to follow.
        source.set_parameters(max_bandwidth=LINK, max_postcopy_bandwidth=push)
        source.wait_for(lambda: steps(source), bool, 60, "a step")
        time.sleep(SETTLE)
        before = pace_of(source, 3)
        begin(source, destination)
        source.wait_migration("active")
        source.qmp("migrate-start-postcopy")
        destination.wait_status("running")
        yield source, destination, before


def latency(name: str, destination: Emulator) -> Claim:
    """How long who touched a missing page waited for it."""
    info = destination.migration()
    median, p99 = (info[f"x-postcopy-latency-{what}"] / 1000 for what in ("median", "p99"))
    count = sum(info["postcopy-latency-dist"])
    return Claim(name, f"median {median:.0f} us, p99 {p99:.0f} us, {count} of them", "reported", count > 0)


def postcopy(directory: Path, *, quick: bool) -> Iterator[Claim]:
    """As fast as it can; and once more, slowly, so that most pages have to be asked for."""
    with gone(directory, "walk", (256 if quick else 1024) * MIB, 0) as (source, destination, before):
        arrival = time.monotonic()
        first = pace_of(destination, 1)
        time.sleep(max(0.0, arrival + 10 - time.monotonic()))
        after = pace_of(destination, 3)
        total = source.wait_migration(timeout=PATIENCE)["total-time"] / 1000
        yield Claim("postcopy, first second", f"{first:.0f} pages a second, before it was {before:.0f}")
        figure = f"{after:.0f}, {after * 100 / before:.0f} %; all had come after {total:.1f} s"
        yield Claim("postcopy, ten seconds", figure, ">= 50 %", after >= before / 2)
        yield latency("requests, full push", destination)
    with gone(directory, "ask", 256 * MIB, SLOW_PUSH) as (source, destination, _):
        time.sleep(4)
        yield latency("requests, 32 MiB/s push", destination)
        source.set_parameters(max_postcopy_bandwidth=0)
        source.wait_migration(timeout=PATIENCE)


# -- memory of the source

WITHOUT = ("block", "pause-before-switchover", "release-ram")
"""Capabilities that need disks or somebody who goes on by hand, or that free the guest's memory."""
SWITCHES = tuple(row.name for row in CAPABILITIES if row.name not in WITHOUT)


def enough(info: dict[str, Any]) -> bool:
    """It is over, or in its fourth round."""
    return info["status"] not in ("setup", "active") or info.get("ram", {}).get("dirty-sync-count", 0) >= 4


def options(directory: Path, *, quick: bool) -> Iterator[Claim]:
    """All that can be switched on is, over TLS; the guest dirties all of its memory all the time."""
    memory = 1024 * MIB
    keys = directory / "keys"
    make_pki(keys, hosts=["127.0.0.1"])

    def credentials(endpoint: str) -> tuple[str, str]:
        return "-object", f"tls-creds-x509,id=tls0,dir={keys},endpoint={endpoint}"

    with pair(directory, "all", memory, *walker(directory, memory), source=credentials("client"),
              destination=credentials("server")) as (source, destination):  # fmt: skip
        for emulator in (source, destination):
            states = [{"capability": name, "state": True} for name in SWITCHES]
            emulator.qmp("migrate-set-capabilities", capabilities=states)
            emulator.set_parameters(tls_creds="tls0")
        source.set_parameters(max_bandwidth=0, downtime_limit=1)
        source.wait_for(lambda: steps(source), bool, 60, "a step")
        time.sleep(2)
        before = resident(source, peak=False)
        begin(source, destination)
        source.wait_for(source.migration, enough, PATIENCE, "four rounds")
        if source.migration()["status"] == "active":
            source.qmp("migrate-start-postcopy")
        info = source.wait_migration(timeout=PATIENCE)
        growth = (resident(source, peak=True) - before) * 100 / memory
        cache = info["xbzrle-cache"]
    figure = (
        f"{growth:.1f} % of 1 GiB, {info['status']}, cache of {cache['cache-size'] / MIB:.0f} MiB with "
        f"{cache['pages']} hits and {cache['cache-miss']} misses"
    )
    yield Claim("options, memory", figure, "< 10 %", growth < 10 and info["status"] == "completed")


ROWS: dict[str, Row] = {"half": half, "twice": twice, "postcopy": postcopy, "options": options}
