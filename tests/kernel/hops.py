"""The small operating system goes from emulator to emulator while its processes run; some of the emulators are killed.

    python -m tests.kernel.hops [--count 50] [--how tcp tls postcopy postcopy-tls] [--smp 2] [--seed N]
                                [--accel jit interp] [--image kernel-v4.elf]

A hop, chosen at random: first, or not, one or two destinations get SIGKILL in the middle of the stream (the source has
to run on); then a migration that has to succeed, over TCP or TLS; a postcopy is broken off up to twice on either side
and recovered. The source, which has no guest any more, is killed, too. After every hop all processes must have
reported laps there, on all CPUs; over the consoles of all hops no lap may be missing or reported twice; and no process
may have found a word that it had not left (the kernel would say so).

A line for each hop; exit status 0 when everything held.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from qemu.qmp.qmp_client import ExecuteError

from e2kemu.demo_kernel import PROCESSES, check_laps, cpus_of, laps_of
from e2kemu.kernel_disk import kernel_image
from e2kemu.migration.certs import make_pki
from e2kemu.process import Emulator

HOW = ("tcp", "tls", "postcopy", "postcopy-tls")
CPU_OF = {"kernel-v4.elf": "e8c", "kernel-v6.elf": "e16c"}
Start = Callable[..., Emulator]


class Hops:
    """A guest on its way. ``start(name, *options)`` starts emulators; the caller ends them."""

    def __init__(self, start: Start, keys: Path, *, smp: int = 2, seed: int = 1, accel: tuple[str, ...] = ("jit",),
                 image: str = "kernel-v4.elf") -> None:
        self._start, self._keys, self._smp, self._accel, self._image = start, keys, smp, accel, image
        self.random = random.Random(seed)
        self._started = 0
        self._text = ""
        """Consoles of the emulators that had the guest before."""
        self.killed = self.recovered = 0
        self.source = self._new()
        self._all_work()

    def _new(self, *more: str) -> Emulator:
        self._started += 1
        objects = [word for end in ("client", "server")
                   for word in ("-object", f"tls-creds-x509,id={end},dir={self._keys},endpoint={end}")]
        return self._start(
            f"hop{self._started}", "-M", "elbrus-2.0", "-cpu", CPU_OF[self._image], "-m", "64M",
            "-smp", str(self._smp), "-accel", self.random.choice(self._accel),
            "-kernel", str(kernel_image(self._image)), "-append", "loop", *objects, *more)

    def _all_work(self) -> None:
        """Every process reports laps in this emulator, and every CPU had one of them."""
        def all_work(text: str) -> bool:
            return len(laps_of(text)) == PROCESSES and len(cpus_of(text)) >= min(self._smp, PROCESSES)

        self.source.wait_for(self.source.console, all_work, 60, f"{PROCESSES} processes on {self._smp} CPUs")

    def _listen(self, destination: Emulator, how: str) -> str:
        tls, postcopy = "tls" in how, "postcopy" in how
        self.source.set_parameters(tls_creds="client" if tls else "")
        destination.set_parameters(tls_creds="server" if tls else "")
        for emulator in (self.source, destination):
            emulator.set_capability("postcopy-ram", postcopy)
        destination.qmp("migrate-incoming", uri="tcp:127.0.0.1:0")
        return self._address(destination)

    @staticmethod
    def _address(destination: Emulator) -> str:
        return f"tcp:127.0.0.1:{destination.migration()['socket-address'][0]['port']}"

    def lose_destination(self, how: str) -> None:
        """A destination is killed in the middle of the stream; the source runs on."""
        destination = self._new("-incoming", "defer")
        uri = self._listen(destination, how)
        # so slow that it cannot be over
        self.source.set_parameters(max_bandwidth=1 << 20, downtime_limit=1)
        self.source.qmp("migrate", uri=uri)
        enough = self.random.choice((0, 1 << 10, 1 << 16, 1 << 18, 1 << 19, 1 << 20))
        self.source.wait_for(
            self.source.migration,
            lambda info: info["status"] == "active" and info["ram"]["transferred"] >= enough, 30, f"{enough} bytes")
        destination.process.kill()
        info = self.source.wait_migration()
        assert info["status"] == "failed", info
        assert destination.console() == ""
        destination.close()
        assert self.source.status() == "running"
        self.killed += 1
        before = self.source.console().count("lap")
        self.source.wait_console("lap", count=before + 2 * PROCESSES)

    def hop(self, how: str, breaks: int | None = None) -> dict[str, Any]:
        """To another emulator; ``query-migrate`` of its end. A postcopy is broken off ``breaks`` times (None: up to
        twice) unless it is over before."""
        destination = self._new("-incoming", "defer")
        uri = self._listen(destination, how)
        bandwidth = self.random.choice((1 << 20, 4 << 20, 1 << 30)) if breaks is None else 1 << 20
        self.source.set_parameters(max_bandwidth=bandwidth, downtime_limit=1, max_postcopy_bandwidth=1 << 19)
        self.source.qmp("migrate", uri=uri)
        if "postcopy" in how:
            self.source.wait_migration("active", "completed")
            time.sleep(self.random.random() * 0.3)
            self._postcopy(destination, self.random.randrange(3) if breaks is None else breaks)
        else:
            time.sleep(self.random.random() * 0.3)
        self.source.set_parameters(max_bandwidth=1 << 30, downtime_limit=30_000)
        info = self.source.wait_migration()
        assert info["status"] == "completed", (info, destination.stderr())
        assert destination.wait_migration()["status"] == "completed"
        destination.wait_status("running")
        self.source.wait_status("postmigrate")
        self._text += self.source.console()
        assert self.source.stderr().count("\n") <= self.killed_here(), self.source.stderr()
        if self.random.random() < 0.5:
            self.source.process.kill()
        self.source.close()
        self.source = destination
        self._all_work()
        return info

    def killed_here(self) -> int:
        """How many lines the source may have on stderr: those about destinations that were killed."""
        return 2 * (self.killed + self.recovered)

    def _postcopy(self, destination: Emulator, breaks: int) -> None:
        try:
            self.source.qmp("migrate-start-postcopy")
        except ExecuteError:        # it is over already
            return
        for _ in range(breaks):
            if self.source.wait_migration("postcopy-active", "completed")["status"] == "completed":
                break
            time.sleep(self.random.random() * 0.1)
            try:
                self.random.choice((self.source, destination)).qmp("migrate-pause")
            except ExecuteError:
                continue
            states = [emulator.wait_migration("postcopy-paused", "completed")["status"]
                      for emulator in (self.source, destination)]
            if "completed" in states:
                assert states == ["completed"] * 2, states
                break
            destination.qmp("migrate-recover", uri="tcp:127.0.0.1:0")
            self.source.qmp("migrate", uri=self._address(destination), resume=True)
            for emulator in (self.source, destination):
                emulator.wait_migration("postcopy-active", "completed", timeout=30)
            self.recovered += 1
        self.source.set_parameters(max_postcopy_bandwidth=0)

    def random_hop(self, how: str) -> str:
        """One hop with what goes wrong before; one line about it."""
        began = time.monotonic()
        for _ in range(self.random.choice((0, 0, 1, 2))):
            self.lose_destination(how)
        info = self.hop(how)
        return (f"{how}: downtime {info.get('downtime')} ms, {info['ram']['dirty-sync-count']} rounds, "
                f"{self.killed} killed, {self.recovered} recovered, {time.monotonic() - began:.1f} s")

    def check(self) -> int:
        """All laps of all processes, none missing: how many. Raises what ``check_laps`` does."""
        self.source.qmp("stop")
        return sum(check_laps(self._text + self.source.console()).values())


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--how", nargs="+", choices=HOW, default=list(HOW))
    parser.add_argument("--smp", type=int, default=2)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--accel", nargs="+", default=["jit"])
    parser.add_argument("--image", choices=list(CPU_OF), default="kernel-v4.elf")
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        directory = Path(name)
        make_pki(directory / "pki", hosts=["localhost", "127.0.0.1"])

        def start(emulator: str, *options: str) -> Emulator:
            return stack.enter_context(Emulator(emulator, directory, *options))

        for how in given.how:
            hops = Hops(start, directory / "pki", smp=given.smp, seed=given.seed, accel=tuple(given.accel),
                        image=given.image)
            for number in range(1, given.count + 1):
                print(f"{number:3} {hops.random_hop(how)}", flush=True)
            print(f"{how}: {given.count} hops, {hops.killed} destinations killed, {hops.recovered} recoveries, "
                  f"{hops.check()} laps, none lost", flush=True)
            hops.source.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
