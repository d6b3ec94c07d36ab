"""Several CPUs in the monitors: the selected one, all of them, and counted time."""

from __future__ import annotations

from pathlib import Path

from e2kemu.api import Machine
from e2kemu.devices.core import current_cpu
from e2kemu.monitor import commands, commands_memory, info
from e2kemu.monitor.dispatch import QMP, Context, Monitor
from e2kemu.monitor.hmp import CaptureMonitor, execute
from e2kemu.objects import ObjectStore
from tests.interrupts.guest import LOCAL
from tests.machine.smp_guest import smp

DECLARED = (commands, commands_memory, info)


class Typed:
    """A monitor of which several lines are asked."""

    def __init__(self, machine: Machine) -> None:
        self.monitor = CaptureMonitor(Monitor())
        self.ctx = Context(machine, machine.loop, ObjectStore(), monitor=self.monitor)

    def __call__(self, line: str) -> list[str]:
        self.monitor.text = ""
        execute(self.ctx, line)
        return self.monitor.text.splitlines()


def test_a_monitor_s_commands_are_about_the_cpu_it_has_selected(tmp_path: Path) -> None:
    with smp(tmp_path, "        addd,0 %dr0, 40, %dr9\n", 3) as guest:
        guest.run()
        one, other = Typed(guest.machine), Typed(guest.machine)
        assert [line[0] for line in one("info cpus")] == ["*", " ", " "]
        assert one("cpu 2") == []
        assert [line[:9] for line in one("info cpus")] == ["  CPU #0:", "  CPU #1:", "* CPU #2:"]
        assert one("p $r9") == ["42"]
        assert one("info registers")[:2] == ["", "CPU#2"]
        assert [line for line in one("info registers -a") if line.startswith("CPU#")] == ["CPU#0", "CPU#1", "CPU#2"]
        assert other("p $r9") == ["40"], "another monitor has its own"
        assert one("cpu 3") == ["Error: invalid CPU index"]
        ids = []
        for number in range(3):
            one(f"cpu {number}")
            ids.append(int(one(f"xp/1xw {LOCAL + 0x20:#x}")[0].split()[-1], 16) >> 24)
        assert ids == [0, 1, 2], "the local controller of each"
        assert current_cpu() == 0


def test_qmp_tells_where_each_cpu_is(tmp_path: Path) -> None:
    with smp(tmp_path, "", 4) as guest:
        guest.run()
        ctx = Typed(guest.machine).ctx
        cpus = QMP["query-cpus-fast"].run(ctx, {})
        assert [cpu["cpu-index"] for cpu in cpus] == [0, 1, 2, 3]
        assert len({cpu["thread-id"] for cpu in cpus}) == 4
        assert cpus[3]["props"] == {"socket-id": 0, "core-id": 3, "thread-id": 0}
        text = QMP["human-monitor-command"].run(ctx, {"command-line": "info registers", "cpu-index": 2})
        assert text.startswith("\nCPU#2\n")


def test_info_icount_tells_where_time_is(tmp_path: Path) -> None:
    with smp(tmp_path, "", 2) as guest:
        assert Typed(guest.machine)("info icount") == ["virtual time follows the host's clock"]
    with smp(tmp_path, "", 2, icount="4,sleep=off") as guest:
        guest.run()
        lines = Typed(guest.machine)("info icount")
        counts = [cpu.executed for cpu in guest.machine.cpus]
        assert lines[:2] == ["shift 4: 16 ns for each wide instruction", "sleep=off,align=off"]
        assert lines[2:5] == [f"executed: {sum(counts)} wide instructions", f"  CPU #0: {counts[0]}",
                              f"  CPU #1: {counts[1]}"]
        assert lines[5] == f"virtual time: {guest.machine.clock.now()} ns"
        assert lines[6].startswith("turn: CPU #")
