"""The commands that every emulator has: asking what it is, running and stopping it, leaving it.

Both forms where QEMU has both. Memory and arithmetic are in ``commands_memory``, objects, descriptors and the
log in ``commands_objects``, ``info`` in ``info``. The migration commands declare themselves in
``e2kemu/migration/commands.py``.
"""

from __future__ import annotations

from typing import Any

from e2kemu.devices.iohub import Spmc
from e2kemu.errors import CommandError
from e2kemu.monitor.dispatch import HMP, INFO, QMP, Context, command, find_hmp, hmp_command, schema
from e2kemu.monitor.hmp import CaptureMonitor, execute
from e2kemu.monitor.qmp import VersionInfo, version_info
from e2kemu.monitor.schema import Qapi


class StatusInfo(Qapi):
    """Result of query-status."""

    running: bool
    status: str


class CommandInfo(Qapi):
    """One of query-commands."""

    name: str


# -- what it is ------------------------------------------------------------------------------------


@command("query-version")
def query_version(ctx: Context) -> VersionInfo:
    """The protocol's version and ours."""
    return version_info()


@command("query-commands")
def query_commands(ctx: Context) -> list[CommandInfo]:
    """All QMP commands."""
    return [CommandInfo(name=name) for name in QMP]


@command("query-qmp-schema")
def query_qmp_schema(ctx: Context) -> list[dict[str, Any]]:
    """Introspection: commands, events and their types."""
    return schema()


@command("query-status")
def query_status(ctx: Context) -> StatusInfo:
    """The run state."""
    return StatusInfo(running=ctx.vm.is_running(), status=ctx.vm.run_state)


# -- running and stopping --------------------------------------------------------------------------


@command("stop")
def stop(ctx: Context) -> None:
    """Stop the guest; during an incoming migration: do not start it at the end."""
    ctx.vm.pause()


@command("cont")
def cont(ctx: Context) -> None:
    """Let the guest run; during an incoming migration: start it at the end."""
    ctx.vm.cont()


@command("system_reset")
def system_reset(ctx: Context) -> None:
    """Reset the machine."""
    ctx.vm.reset()


@command("system_powerdown")
def system_powerdown(ctx: Context) -> None:
    """Press the power button: the guest is told, if it wants to be."""
    button = next((device for device in ctx.vm.devices if isinstance(device, Spmc)), None)
    if button is None:
        raise CommandError(f"machine '{ctx.vm.machine_type}' has no power button")
    button.press_button()
    ctx.vm.emit("POWERDOWN")


@command("quit")
def quit_(ctx: Context) -> None:
    """End the emulator with status 0."""
    ctx.vm.shutdown(0, guest=False, reason="host-qmp-quit")
    ctx.monitor.suspend()  # what has been typed ahead is not for a dead machine


@hmp_command("cpu", "index:i", params="index", help="set the default CPU")
def hmp_cpu(ctx: Context, index: int) -> None:
    """``cpu``: later commands of this monitor are about that CPU."""
    if not 0 <= index < len(ctx.vm.cpus):
        raise CommandError("invalid CPU index")
    ctx.monitor.cpu = index


hmp_command("stop", help="stop emulation", aliases=("s",))(stop)
hmp_command("cont", help="resume emulation", aliases=("c",))(cont)
hmp_command("system_reset", help="reset the system")(system_reset)
hmp_command("system_powerdown", help="send system power down event")(system_powerdown)
hmp_command("quit", help="quit the emulator", aliases=("q",))(quit_)


# -- the human monitor itself ----------------------------------------------------------------------


@command("human-monitor-command")
def human_monitor_command(ctx: Context, command_line: str, cpu_index: int | None = None) -> str:
    """Run an HMP line and return what it prints."""
    if cpu_index is not None and not 0 <= cpu_index < len(ctx.vm.cpus):
        raise CommandError("Parameter 'cpu-index' expects a CPU number")
    capture = CaptureMonitor(ctx.monitor)
    if cpu_index is not None:
        capture.cpu = cpu_index
    execute(ctx.at(capture), command_line)
    return capture.text


@hmp_command("help", "name:S?", params="[cmd]", help="show the help", aliases=("?",))
def hmp_help(ctx: Context, name: str | None) -> None:
    """``help``, ``help cmd``, ``help info``, ``help info item``."""
    words = (name or "").split()
    if not words:
        for entry in sorted(HMP.values(), key=lambda entry: entry.name):
            ctx.monitor.print(entry.usage())
        return
    table, prefix = (INFO, "info ") if words[0] == "info" else (HMP, "")
    if words == ["info"]:
        for entry in sorted(INFO.values(), key=lambda entry: entry.name):
            ctx.monitor.print(entry.usage(prefix))
        return
    found = find_hmp(words[-1], table)
    if found is None:
        raise CommandError(f"unknown command: '{' '.join(words)}'")
    ctx.monitor.print(found.usage(prefix))
    if found.details is not None:
        ctx.monitor.print(found.details(), end="")


@hmp_command(
    "info", "item:s?", params="[subcommand]", help="show various information about the system state",
    aliases=("i",),
)  # fmt: skip
def hmp_info(ctx: Context, item: str | None) -> None:
    """``info`` alone: what there is. (With an item the line goes to the table of ``info``.)"""
    hmp_help(ctx, "info")
