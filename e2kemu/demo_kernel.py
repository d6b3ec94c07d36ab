"""The second act of ``make demo``: a small operating system on two CPUs, migrated while its processes run.

The bundled kernel (``firmware/kernel``, docs/kernel.md) runs four processes with page tables of their own; a
timer takes their CPU away, and any CPU takes any of them. In every lap a process checks each word that it left
a lap ago. They are migrated twice, over plain TCP and over TLS, while they run. What must hold:

- every process reports its laps on the consoles one after the other, none twice, none missing;
- both CPUs had processes, in every emulator;
- no process found anything that it had not left, and the kernel has nothing to complain of.
"""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from e2kemu.errors import E2kError
from e2kemu.kernel_disk import kernel_image
from e2kemu.process import Emulator

PROCESSES = 4
CPUS = 2
STEP = 500
"""Laps between two reports of a process (firmware/kernel/worker.inc)."""

OPTIONS = ("-M", "elbrus-2.0", "-cpu", "e8c", "-m", "128M", "-smp", str(CPUS), "-kernel", str(kernel_image()),
           "-append", "loop")
COMPLAINTS = ("BAD", "PANIC", "killed", "ended with")
_LAP = re.compile(r"^\[cpu(\d+)\] pid (\d+) lap (\d+)\n", re.MULTILINE)


class KernelDemoError(E2kError):
    """Something the second act promises did not hold."""


def laps_of(text: str) -> dict[int, list[int]]:
    """The laps that each process reports in the text of a console, by its number.

    Raises KernelDemoError when the kernel complains there.
    """
    for line in text.splitlines():
        if any(complaint in line for complaint in COMPLAINTS):
            raise KernelDemoError(f"the kernel says: {line}")
    found: dict[int, list[int]] = {}
    for _, pid, lap in _LAP.findall(text):
        found.setdefault(int(pid), []).append(int(lap))
    return found


def cpus_of(text: str) -> set[int]:
    """The CPUs on which processes have reported laps."""
    return {int(cpu) for cpu, _, _ in _LAP.findall(text)}


def check_laps(text: str) -> dict[int, int]:
    """The last lap that each process has reported. ``text`` are the consoles of all emulators, one after the other.

    Raises KernelDemoError when a process is missing, or one's laps have a gap or a repetition.
    """
    found = laps_of(text)
    if len(found) != PROCESSES:
        raise KernelDemoError(f"{len(found)} processes report laps, not {PROCESSES}")
    for pid, laps in found.items():
        for before, after in pairwise([1 - STEP, *laps]):
            if after != before + STEP:
                raise KernelDemoError(f"process {pid} reports lap {after} behind lap {before}")
    return {pid: laps[-1] for pid, laps in sorted(found.items())}


def wait_until_all_work(emulator: Emulator) -> None:
    """Every process has reported a lap in this emulator, and every CPU had one of them."""

    def all_work(text: str) -> bool:
        return len(laps_of(text)) == PROCESSES and len(cpus_of(text)) == CPUS

    emulator.wait_for(emulator.console, all_work, 60, f"{PROCESSES} processes on {CPUS} CPUs")


def _hop(source: Emulator, destination: Emulator) -> dict[str, Any]:
    destination.qmp("migrate-incoming", uri="tcp:127.0.0.1:0")
    port = destination.migration()["socket-address"][0]["port"]
    source.qmp("migrate", uri=f"tcp:127.0.0.1:{port}")
    info = source.wait_migration()
    if info["status"] != "completed":
        raise KernelDemoError(f"migration {info['status']}: {info.get('error-desc', 'no reason given')}")
    destination.wait_status("running")
    return info


def run(console: Console, directory: Path, pki: Path) -> None:
    """The second act. Raises E2kError when anything did not hold."""

    def tls(endpoint: str) -> tuple[str, str]:
        return "-object", f"tls-creds-x509,id=tls0,dir={pki},endpoint={endpoint},verify-peer=on"

    console.print(f"[bold]6.[/] an operating system: {PROCESSES} processes, page tables, a timer, {CPUS} CPUs")
    with (
        Emulator("first", directory, *OPTIONS) as first,
        Emulator("second", directory, *OPTIONS, "-incoming", "defer", *tls("client")) as second,
        Emulator("third", directory, *OPTIONS, "-incoming", "defer", *tls("server")) as third,
    ):
        wait_until_all_work(first)
        lines = first.console().splitlines()
        console.print("\n".join(line for line in lines[:16] if line), style="cyan", markup=False, highlight=False)

        console.print("[bold]7.[/] migrate it while they run, over TCP")
        infos = [_hop(first, second)]
        wait_until_all_work(second)

        console.print("[bold]8.[/] and again, over mutual TLS")
        for emulator in (second, third):
            emulator.set_parameters(tls_creds="tls0")
        infos.append(_hop(second, third))
        wait_until_all_work(third)
        third.qmp("stop")
        emulators = (first, second, third)
        last = check_laps("".join(emulator.console() for emulator in emulators))
        console.print(f"   no process noticed: no word lost, no lap twice; {sum(last.values())} laps")
        console.print(_report(infos, [laps_of(emulator.console()) for emulator in emulators], last))


def _report(infos: list[dict[str, Any]], laps: list[dict[int, list[int]]], last: dict[int, int]) -> Table:
    table = Table(title="Four processes on two CPUs, in three emulators", title_justify="left")
    for heading in ("", "first", "second", "third"):
        table.add_column(heading, justify="right" if heading else "left")
    for pid in last:
        table.add_row(f"process {pid}, last lap", *(str(there[pid][-1]) for there in laps))
    table.add_row("downtime of the way there", "", *(f"{info['downtime']} ms" for info in infos))
    return table
