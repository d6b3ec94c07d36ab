"""How fast is a migration? Whole emulators, two processes, loopback; everything is measured in one run.

    python bench/migration.py [--versus-qemu] [--quick] [--runs N] [--only ROW ...]

Times depend on the machine and on who else uses it, so every row is a ratio to a yardstick that runs in
turn with it: a migration of qemu-system-x86_64 (``--versus-qemu``; tcg, same RAM, same contents), or what two
bare processes need to carry the same bytes from one memory to another's fresh memory (``carry``), or to look at
that much untouched memory (``look``). Medians of ``--runs`` runs. Each run's line on stderr has the CPU seconds of
source and destination, too, which others disturb less.

Rows:

    plain   1 GiB of RAM that does not compress, the guest stopped, tcp
    tls     the same over TLS with certificates
    zero    4 GiB of RAM never touched, the guest stopped, tcp
    idle    1 GiB as above, a guest that runs and does nothing: its pause, from STOP at the source to RESUME
            at the destination
    memory  growth of the source's memory at its peak, in per cent of the guest's RAM (rows plain and tls)

and those of ``working_guests.py`` (half, twice, postcopy, options) and ``xbzrle.py`` (xbzrle), which run once.
"""

from __future__ import annotations

import argparse
import mmap
import os
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import working_guests
import xbzrle
from claims import verdict
from emulators import LOAD_AT, MIB, QEMU, Ours, Qemu, cpu_seconds, resident, stamp, write_contents

from e2kemu.migration.certs import make_pki
from e2kemu.process import Emulator

NO_LIMIT = 10**12

ALONE = ("plain", "tls", "zero", "idle")
WORKING = working_guests.ROWS
ROWS = (*ALONE, *WORKING, "xbzrle")


@dataclass
class Result:
    """One migration."""

    milliseconds: float
    """total-time of query-migrate."""
    pause: float = 0.0
    """STOP to RESUME, in ms; 0: the guest did not run."""
    growth: float = 0.0
    """Peak of the source's resident memory over what it was, in per cent of the guest's RAM."""
    cpu: tuple[float, float] = (0.0, 0.0)
    """CPU seconds of source and destination."""


@dataclass
class Bench:
    """The runs of one invocation. ``directory`` holds sockets, certificates and the contents of guest RAM."""

    directory: Path
    ram: int
    zero_ram: int
    count: int = 0
    results: dict[str, list[Result]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pki = self.directory / "pki"
        make_pki(self.pki, hosts=["localhost", "127.0.0.1"])
        self.image = self.directory / "contents.elf"
        write_contents(self.image, self.ram - LOAD_AT - MIB)

    def contents(self, make: type[Emulator]) -> tuple[str, ...]:
        """Options that fill the guest's RAM."""
        if make is Qemu:
            return ("-device", f"loader,file={self.image},addr={LOAD_AT:#x},force-raw=on")
        return ("-kernel", str(self.image))

    def migrate(
        self, make: type[Emulator], *, ram: int, full: bool, tls: bool = False, runs: bool = False
    ) -> Result:
        """Start two emulators, migrate, end them."""
        self.count += 1
        size = ("-m", f"{ram // MIB}M")

        def credentials(endpoint: str) -> tuple[str, ...]:
            return ("-object", f"tls-creds-x509,id=tls0,dir={self.pki},endpoint={endpoint}") if tls else ()

        contents = self.contents(make) if full else ()
        stopped = () if runs else ("-S",)
        with (
            make(f"s{self.count}", self.directory, *size, *contents, *stopped, *credentials("client")) as source,
            make(f"d{self.count}", self.directory, *size, *stopped, "-incoming", "defer",
                 *credentials("server")) as destination,
        ):  # fmt: skip
            for emulator in (source, destination):
                emulator.connect()
                if tls:
                    emulator.set_parameters(tls_creds="tls0")
            source.set_parameters(max_bandwidth=NO_LIMIT)
            destination.qmp("migrate-incoming", uri="tcp:127.0.0.1:0")
            address = destination.migration()["socket-address"][0]
            time.sleep(2.0 if runs else 0.2)  # the guest has booted and found its sleep; all is quiet
            before = resident(source, peak=False)
            cpu = [cpu_seconds(emulator) for emulator in (source, destination)]
            source.qmp("migrate", uri=f"tcp:127.0.0.1:{address['port']}")
            info = source.wait_migration(timeout=300)
            if info["status"] != "completed":
                raise SystemExit(f"{type(source).__name__}: {info}\n{destination.stderr()}")
            growth = (resident(source, peak=True) - before) * 100 / ram
            pause = 0.0
            if runs:
                destination.wait_status("running")
                pause = (stamp(destination, "RESUME") - stamp(source, "STOP")) * 1000
            spent = [cpu_seconds(emulator) - had for emulator, had in zip((source, destination), cpu, strict=True)]
            return Result(info["total-time"], pause, growth, (spent[0], spent[1]))

    def run(self, name: str, once: Callable[[], Result]) -> None:
        """One run of row ``name``."""
        result = once()
        self.results.setdefault(name, []).append(result)
        print(f"    {name:12s} {result.milliseconds:7.0f} ms  pause {result.pause:6.1f} ms  "
              f"memory {result.growth:5.2f} %  cpu {result.cpu[0]:5.2f} {result.cpu[1]:5.2f} s",
              file=sys.stderr, flush=True)  # fmt: skip

    def median(self, name: str, attribute: str = "milliseconds") -> float:
        """Of all runs of a row."""
        return float(statistics.median(getattr(result, attribute) for result in self.results[name]))


# -- yardsticks


def carry(size: int) -> Result:
    """``size`` bytes from one process's memory into fresh memory of another, by tcp and nothing else."""
    store = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    view = memoryview(store)
    np.frombuffer(store, dtype=np.uint64)[:] = 0x0123456789ABCDEF
    with socket.create_server(("127.0.0.1", 0)) as server:
        child = os.fork()
        if not child:
            _receive(server.getsockname(), size)
        peer, _ = server.accept()
        with peer:
            begin = time.monotonic()
            for at in range(0, size, 4 * MIB):
                peer.sendall(view[at : at + 4 * MIB])
            peer.recv(1)
            elapsed = time.monotonic() - begin
    os.waitpid(child, 0)
    return Result(elapsed * 1000)


def _receive(address: Any, size: int) -> None:
    try:
        with socket.create_connection(address) as peer:
            fresh = memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
            while len(fresh):
                fresh = fresh[peer.recv_into(fresh[: 4 * MIB]) :]
            peer.send(b".")
    finally:
        os._exit(0)


def look(size: int) -> Result:
    """Read ``size`` bytes of memory that nobody has touched."""
    store = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    words = np.frombuffer(store, dtype=np.uint64)
    begin = time.monotonic()
    for at in range(0, len(words), MIB):
        if words[at : at + MIB].max():
            raise SystemExit("memory that nobody has touched is not zero")
    return Result((time.monotonic() - begin) * 1000)


# -- the table


def rows(bench: Bench, versus: bool, only: Collection[str]) -> list[tuple[str, Callable[[], Result]]]:
    """One round: what is measured, in this order."""
    found: list[tuple[str, Callable[[], Result]]] = [
        ("plain/carry", partial(carry, bench.ram)),
        ("zero/look", partial(look, bench.zero_ram)),
    ]
    makers: dict[str, type[Emulator]] = {"qemu": Qemu, "ours": Ours} if versus else {"ours": Ours}
    for who, make in makers.items():
        found += [
            (f"plain/{who}", partial(bench.migrate, make, ram=bench.ram, full=True)),
            (f"tls/{who}", partial(bench.migrate, make, ram=bench.ram, full=True, tls=True)),
            (f"zero/{who}", partial(bench.migrate, make, ram=bench.zero_ram, full=False)),
            (f"idle/{who}", partial(bench.migrate, make, ram=bench.ram, full=True, runs=True)),
        ]
    wanted = [row for row in found if row[0].split("/")[0] in only]
    return sorted(wanted, key=lambda row: row[0].split("/")[0])  # the two that are compared, one after the other


def table(bench: Bench, versus: bool) -> list[str]:
    """What was found: a line for each row."""
    lines = [f"{'':10s}{'e2kemu':>12s}{'yardstick':>12s}{'':>8s}{'ratio':>8s}   must be"]
    have = bench.results.__contains__
    mark = "qemu" if versus else None

    def line(name: str, ours: float, other: float, what: str, ratio: float, least: float = 0.0) -> None:
        must = f">= {least:.2f}  {verdict(ratio >= least)}" if least else ""
        lines.append(f"{name:10s}{ours:9.1f} ms{other:9.1f} ms{what:>8s}{ratio:8.2f}   {must}")

    for name, bare in (("plain", "carry"), ("zero", "look")):
        for what in filter(None, (bare, mark)):
            if have(f"{name}/ours") and have(f"{name}/{what}"):
                ours, other = bench.median(f"{name}/ours"), bench.median(f"{name}/{what}")
                line(name, ours, other, what, other / ours, 1.0 if what == "qemu" else 0.0)
    if have("tls/ours"):
        ours = bench.median("tls/ours")
        if have("plain/ours"):
            line("tls", ours, bench.median("plain/ours"), "plain", bench.median("plain/ours") / ours, 0.7)
        if have("tls/qemu"):
            line("tls", ours, bench.median("tls/qemu"), "qemu", bench.median("tls/qemu") / ours)
    if have("idle/ours"):
        pause = bench.median("idle/ours", "pause")
        line("idle", pause, 30.0, "limit", 30.0 / pause, 1.0)
        if have("idle/qemu"):
            other = bench.median("idle/qemu", "pause")
            line("idle", pause, other, "qemu", other / pause)
    full = [result.growth for row in ("plain", "tls") for result in bench.results.get(f"{row}/ours", ())]
    if full:
        must = f"< 10 %   {verdict(max(full) < 10)}"
        lines.append(f"{'memory':10s}{max(full):9.1f} %{10.0:10.1f} %{'limit':>8s}{'':8s}   {must}")
    return lines


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure migrations of whole emulators over loopback.")
    parser.add_argument("--versus-qemu", action="store_true", help=f"compare with {QEMU} in the same run")
    parser.add_argument("--quick", action="store_true", help="a quarter of the memory, one run")
    parser.add_argument("--runs", type=int, default=5, help="runs of each row [5]")
    parser.add_argument("--only", choices=ROWS, nargs="+", default=ROWS, help="measure these rows alone")
    options = parser.parse_args()
    if options.versus_qemu and shutil.which(QEMU) is None:
        parser.error(f"--versus-qemu: there is no {QEMU}")
    if set(options.only) & set(ALONE):
        alone(options)
    if set(options.only) & set(WORKING):
        working(options)
    if "xbzrle" in options.only:
        print("\n".join(xbzrle.table()))
    return 0


def alone(options: argparse.Namespace) -> None:
    """The rows whose guest stands still or sleeps."""
    scale = 4 if options.quick else 1
    with tempfile.TemporaryDirectory(prefix="e2kemu-bench-") as name:
        bench = Bench(Path(name), 1024 * MIB // scale, 4096 * MIB // scale)
        for number in range(1 if options.quick else options.runs):
            print(f"run {number + 1}", file=sys.stderr)
            for row, once in rows(bench, options.versus_qemu, options.only):
                bench.run(row, once)
        print("\n".join(table(bench, options.versus_qemu)), flush=True)


def working(options: argparse.Namespace) -> None:
    """The rows whose guest works."""
    with tempfile.TemporaryDirectory(prefix="e2kemu-bench-") as name:
        for row, measure in WORKING.items():
            if row in options.only:
                for claim in measure(Path(name), quick=options.quick):
                    print(claim.line(), flush=True)


if __name__ == "__main__":
    sys.exit(main())
