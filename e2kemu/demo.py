"""``make demo``: live migrations of running guests, everything checked.

The first act: one guest, two emulators, mutual TLS. A certificate authority is made, two ``e2kemu``
processes start, the bundled firmware boots in the first and runs the workload ``pages``, which
increments the first byte of every page of a range in address order for ever and prints ``B`` after each
lap. The guest is migrated while it runs. Then the destination is stopped and three things must hold:

- the bytes differ by at most one step, at one place (no page lost, none old);
- the letters ``B`` on both consoles together are as many as the laps the memory shows (no gap);
- the source is in ``postmigrate`` and the migration ``completed``.

The second act (``demo_kernel.py``): an operating system with several processes on two CPUs goes through three
emulators.

Exit status 0 only if all of it held.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from e2kemu import demo_kernel
from e2kemu.cpu.native.interp.build import HostCode
from e2kemu.errors import E2kError
from e2kemu.migration.certs import make_pki
from e2kemu.process import FINAL, Emulator

MIB = 1 << 20
PAGE = 4096
START, END = 16 * MIB, 80 * MIB
RATE = 5000  # pages a second: about 20 MiB/s of dirty memory
BANDWIDTH = 64 * MIB
WORKLOAD = f"workload=pages start=16M end=80M rate={RATE}"
COMMON = ("-M", "elbrus", "-cpu", "e8c", "-m", "256M")


class DemoError(E2kError):
    """Something the demo promises did not hold."""


def check_pages(memory: bytes) -> tuple[int, int]:
    """The value of the last page's byte and the number of pages ahead of it.

    Raises DemoError when the first bytes of the pages are not ``n+1 ... n+1 n ... n`` (modulo 256).
    """
    values = memory[::PAGE]
    last = values[-1]
    ahead = 0
    while ahead < len(values) and values[ahead] == (last + 1) & 0xFF and values[ahead] != last:
        ahead += 1
    for index in range(ahead, len(values)):
        if values[index] != last:
            where = START + index * PAGE
            found = f"holds {values[index]:#04x}, its neighbours {last:#04x}"
            raise DemoError(f"page {where:#x} {found}: lost or stale")
    return last, ahead


def watch(console: Console, source: Emulator, timeout: float = 90.0) -> dict[str, Any]:
    """Show the progress of the migration until it is over; returns the last query-migrate."""
    columns = (
        TextColumn("[bold]{task.fields[state]:<10}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("round {task.fields[round]}, {task.fields[remaining]:6.1f} MiB left"),
        TextColumn("{task.fields[mbps]:7.1f} Mbit/s"), TimeElapsedColumn(),
    )  # fmt: skip
    deadline = time.monotonic() + timeout
    with Progress(*columns, console=console, transient=False) as progress:
        task = progress.add_task("migration", total=1.0, state="setup", round=0, remaining=0.0, mbps=0.0)
        while True:
            info = source.migration()
            ram = info.get("ram", {})
            total, remaining = ram.get("total", 1), ram.get("remaining", 0)
            progress.update(task, completed=1 - remaining / max(total, 1), state=info.get("status", "none"),
                            round=ram.get("dirty-sync-count", 0), remaining=remaining / MIB,
                            mbps=ram.get("mbps", 0.0))  # fmt: skip
            if info.get("status") in FINAL:
                return info
            if time.monotonic() > deadline:
                raise DemoError(f"the migration did not end within {timeout:.0f} s: {info}")
            time.sleep(0.1)


def report(info: dict[str, Any], laps: tuple[int, int]) -> Table:
    """The table of figures."""
    ram = info["ram"]
    table = Table(title="Live migration over mutual TLS", title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    rows = [
        ("rounds", f"{ram['dirty-sync-count']}"),
        ("pages, normal", f"{ram['normal']}"),
        ("pages, zero", f"{ram['duplicate']}"),
        ("transferred", f"{ram['transferred'] / MIB:.1f} MiB"),
        ("throughput", f"{ram['mbps']:.1f} Mbit/s"),
        ("total time", f"{info['total-time']} ms"),
        ("downtime", f"{info['downtime']} ms"),
        ("laps on the source's console", f"{laps[0]}"),
        ("laps on the destination's console", f"{laps[1]}"),
    ]
    for name, value in rows:
        table.add_row(name, value)
    return table


def run(console: Console, directory: Path) -> None:
    """The demo. Raises E2kError when anything did not hold."""
    console.print("[bold]1.[/] a certificate authority, a server and a client certificate")
    make_pki(directory / "pki", hosts=["localhost", "127.0.0.1"])

    def tls(endpoint: str) -> tuple[str, str]:
        return "-object", f"tls-creds-x509,id=tls0,dir={directory / 'pki'},endpoint={endpoint},verify-peer=on"

    console.print(f"[bold]2.[/] two emulators; the first boots the firmware with: {WORKLOAD}")
    with (
        Emulator("source", directory, *COMMON, "-append", WORKLOAD, *tls("client")) as source,
        Emulator("destination", directory, *COMMON, "-incoming", "defer", *tls("server")) as destination,
    ):
        source.wait_console("ok\nAB")
        console.print(source.console().rstrip(), style="cyan", markup=False, highlight=False)

        console.print("[bold]3.[/] migrate it while it runs")
        for emulator in (source, destination):
            emulator.set_parameters(tls_creds="tls0")
        source.set_parameters(max_bandwidth=BANDWIDTH, downtime_limit=300)
        destination.qmp("migrate-incoming", uri="tcp:127.0.0.1:0")
        port = destination.migration()["socket-address"][0]["port"]
        source.qmp("migrate", uri=f"tcp:127.0.0.1:{port}")
        info = watch(console, source)
        if info["status"] != "completed":
            raise DemoError(f"migration {info['status']}: {info.get('error-desc', 'no reason given')}")
        source.wait_status("postmigrate")
        destination.wait_status("running")

        console.print("[bold]4.[/] the guest goes on in the second emulator")
        destination.wait_console("B", count=2)
        console.print(destination.console().rstrip(), style="green", markup=False, highlight=False)

        console.print("[bold]5.[/] stop it there and look at its memory")
        destination.qmp("stop")
        last, ahead = check_pages(destination.memory(START, END - START))
        laps = (_laps(source), _laps(destination))
        between = ahead == 0  # the lap may be done and its letter not printed yet
        if last not in (sum(laps) & 0xFF, sum(laps) + between & 0xFF):
            raise DemoError(f"the consoles show {laps[0]} + {laps[1]} laps, the memory {last}: a gap")
        console.print(
            f"   {(END - START) // PAGE} pages whole: lap {last} done, {ahead} pages into the next; "
            f"console {laps[0]} + {laps[1]} laps, no gap"
        )
        console.print(report(info, laps))


def _laps(emulator: Emulator) -> int:
    """The letters B that the workload printed here; where it began, behind the banner and its opening A."""
    banner, opening, laps = emulator.console().partition("ok\nA")
    return (laps if opening else banner).count("B")


def main() -> int:
    """Entry point of ``python -m e2kemu.demo``; the exit status."""
    console = Console()
    begin = time.monotonic()
    HostCode.get()      # once for both emulators: the first use on a host takes a moment
    with tempfile.TemporaryDirectory(prefix="e2kemu-demo-") as directory:
        try:
            run(console, Path(directory))
            demo_kernel.run(console, Path(directory), Path(directory) / "pki")
        except (E2kError, RuntimeError, TimeoutError) as error:
            console.print(f"[bold red]FAILED:[/] {error}")
            return 1
    console.print(f"[bold green]All of it held[/] ({time.monotonic() - begin:.1f} s).")
    return 0


if __name__ == "__main__":
    sys.exit(main())
