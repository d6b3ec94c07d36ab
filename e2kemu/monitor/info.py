"""``info ITEM`` and the queries that say the same to QMP: names, CPUs, registers, the map, the devices."""

from __future__ import annotations

from e2kemu.cpu.isa.models import MODELS
from e2kemu.cpu.isa.registers import GLOBALS, PREDICATES, STATE_REGISTERS
from e2kemu.cpu.mmu.info import mem_lines, tlb_lines
from e2kemu.cpu.state import CpuState
from e2kemu.machine.boards import BOARDS
from e2kemu.machine.icount import IcountClock
from e2kemu.monitor.commands_objects import query_chardev
from e2kemu.monitor.dispatch import Context, command, info_command
from e2kemu.monitor.qmp import QEMU_VERSION
from e2kemu.monitor.schema import UNSET, Qapi, UnsetType
from e2kemu.version import __version__

NO_UUID = "00000000-0000-0000-0000-000000000000"


class NameInfo(Qapi):
    """Result of query-name."""

    name: str | UnsetType = UNSET


class UuidInfo(Qapi, rename={"uuid": "UUID"}):
    """Result of query-uuid."""

    uuid: str


class TargetInfo(Qapi):
    """Result of query-target."""

    arch: str


class CpuInfo(Qapi):
    """One of query-cpus-fast."""

    cpu_index: int
    qom_path: str
    thread_id: int
    target: str
    props: dict[str, int]


class MachineInfo(Qapi, kw_only=True):
    """One of query-machines."""

    name: str
    alias: str | UnsetType = UNSET
    is_default: bool | UnsetType = UNSET
    cpu_max: int
    hotpluggable_cpus: bool = False
    numa_mem_supported: bool = False
    deprecated: bool = False
    default_cpu_type: str
    default_ram_id: str


class CpuDefinitionInfo(Qapi, kw_only=True):
    """One of query-cpu-definitions."""

    name: str
    static: bool = False
    typename: str
    deprecated: bool = False


# -- names -----------------------------------------------------------------------------------------


@command("query-name")
def query_name(ctx: Context) -> NameInfo:
    """``-name``."""
    return NameInfo(name=ctx.vm.config.name or UNSET)


@command("query-uuid")
def query_uuid(ctx: Context) -> UuidInfo:
    """``-uuid``."""
    return UuidInfo(uuid=str(ctx.vm.config.uuid or NO_UUID))


@command("query-target")
def query_target(ctx: Context) -> TargetInfo:
    """The architecture."""
    return TargetInfo(arch="e2k")


@command("query-machines")
def query_machines(ctx: Context) -> list[MachineInfo]:
    """What ``-M`` takes."""
    return [
        MachineInfo(
            name=board.name, alias=board.alias or UNSET, is_default=board.is_default or UNSET,
            cpu_max=board.max_cpus, default_cpu_type=board.default_cpu, default_ram_id=board.ram_name,
        )
        for board in BOARDS
    ]  # fmt: skip


@command("query-cpu-definitions")
def query_cpu_definitions(ctx: Context) -> list[CpuDefinitionInfo]:
    """What ``-cpu`` takes."""
    return [CpuDefinitionInfo(name=model.name, typename=f"{model.name}-e2k-cpu") for model in MODELS.values()]


@command("query-cpus-fast")
def query_cpus_fast(ctx: Context) -> list[CpuInfo]:
    """The CPUs and their host threads."""
    return [
        CpuInfo(
            cpu_index=cpu.index, qom_path=f"/machine/cpu[{cpu.index}]", thread_id=ctx.vm.thread_id(cpu.index),
            target="e2k", props=ctx.vm.config.topology.place(cpu.index),
        )
        for cpu in ctx.vm.cpus
    ]  # fmt: skip


@info_command("version", help="show the version of e2kemu")
def info_version(ctx: Context) -> None:
    """``info version``."""
    ctx.monitor.print(f"{__version__} (protocols of QEMU {'.'.join(map(str, QEMU_VERSION))})")


@info_command("name", help="show the current VM name")
def info_name(ctx: Context) -> None:
    """``info name``."""
    if ctx.vm.config.name:
        ctx.monitor.print(ctx.vm.config.name)


@info_command("uuid", help="show the current VM UUID")
def info_uuid(ctx: Context) -> None:
    """``info uuid``."""
    ctx.monitor.print(str(ctx.vm.config.uuid or NO_UUID))


@info_command("status", help="show the current VM status (running|paused)")
def info_status(ctx: Context) -> None:
    """``info status``."""
    if ctx.vm.is_running():
        ctx.monitor.print("VM status: running")
    else:
        state = ctx.vm.run_state
        ctx.monitor.print("VM status: paused" + ("" if state == "paused" else f" ({state})"))


@info_command("cpus", help="show infos for each CPU")
def info_cpus(ctx: Context) -> None:
    """``info cpus``."""
    for cpu in ctx.vm.cpus:
        mark = "*" if cpu.index == ctx.monitor.cpu else " "
        ctx.monitor.print(f"{mark} CPU #{cpu.index}: thread_id={ctx.vm.thread_id(cpu.index)}")


@info_command("icount", help="show how virtual time is counted")
def info_icount(ctx: Context) -> None:
    """``info icount``: time and turn of ``-icount``."""
    clock = ctx.vm.clock
    if not isinstance(clock, IcountClock):
        ctx.monitor.print("virtual time follows the host's clock")
        return
    with ctx.vm.quiesced():
        auto = " (auto)" if clock.icount.auto else ""
        ctx.monitor.print(f"shift {clock.shift}{auto}: {1 << clock.shift} ns for each wide instruction")
        switches = {"sleep": clock.icount.sleep, "align": clock.icount.align}
        ctx.monitor.print(",".join(f"{name}={'on' if on else 'off'}" for name, on in switches.items()))
        ctx.monitor.print(f"executed: {clock.executed()} wide instructions")
        for cpu in ctx.vm.cpus:
            ctx.monitor.print(f"  CPU #{cpu.index}: {cpu.executed}")
        ctx.monitor.print(f"virtual time: {clock.now()} ns")
        ctx.monitor.print(f"turn: CPU #{clock.turn}, {clock.turn_left} more")


@info_command("jit", help="show dynamic compiler info")
def info_jit(ctx: Context) -> None:
    """``info jit``: generated code, by CPU."""
    with ctx.vm.quiesced():
        for cpu in ctx.vm.cpus:
            if cpu.translator is None:
                ctx.monitor.print("JIT information is only available with accel=jit")
                return
            ctx.monitor.print(f"CPU #{cpu.index}")
            for line in cpu.translator.describe():
                ctx.monitor.print(line)


# -- what the machine is made of -------------------------------------------------------------------


@info_command("mtree", "flatview:-f", params="[-f]", help="show memory tree (-f: dump flat view)")
def info_mtree(ctx: Context, flatview: bool) -> None:
    """``info mtree``."""
    ctx.monitor.print(ctx.vm.space.mtree(flatview), end="")


@info_command("qtree", help="show device tree")
def info_qtree(ctx: Context) -> None:
    """``info qtree``."""
    ctx.monitor.print(ctx.vm.info_qtree(), end="")


@info_command("chardev", help="show the character devices")
def info_chardev(ctx: Context) -> None:
    """``info chardev``."""
    for device in query_chardev(ctx):
        ctx.monitor.print(f"{device.label}: filename={device.filename}")


# -- registers -------------------------------------------------------------------------------------


@info_command("registers", "cpustate_all:-a", params="[-a]", help="show the cpu registers (-a: of all CPUs)")
def info_registers(ctx: Context, cpustate_all: bool) -> None:
    """``info registers``: the position, the window, the globals, the predicates, the state registers."""
    with ctx.vm.quiesced():
        for cpu in ctx.vm.cpus if cpustate_all else [ctx.cpu]:
            ctx.monitor.print(f"\nCPU#{cpu.index}")
            for line in register_lines(cpu.state):
                ctx.monitor.print(line)


@info_command("tlb", help="show virtual to physical memory mappings")
def info_tlb(ctx: Context) -> None:
    """``info tlb``: what the page tables of this CPU map, page by page."""
    with ctx.vm.quiesced():
        for line in tlb_lines(ctx.cpu.mmu):
            ctx.monitor.print(line)


@info_command("mem", help="show the active virtual memory mappings")
def info_mem(ctx: Context) -> None:
    """``info mem``: ranges that the page tables of this CPU map with the same rights."""
    with ctx.vm.quiesced():
        for line in mem_lines(ctx.cpu.mmu):
            ctx.monitor.print(line)


QUIET_GROUPS = ("segment", "debug", "guest")
"""Groups of state registers that are shown only when one of them is not zero."""


def register_lines(state: CpuState) -> list[str]:
    """The registers of one CPU, in columns; a general register is followed by its tag nibble."""
    lines = [f"pc={state.pc:016x}"]
    for letter, count in (("r", state.window_size), ("g", GLOBALS)):
        names = [f"{letter}{number}" for number in range(count)]
        lines += _columns([f"{name:>4s}={state[name]:016x}.{state[name + '.tag']:x}" for name in names])
    values = [state[f"pred{n}"] for n in range(PREDICATES)]
    lines.append("pred=" + "".join("x" if value & 2 else str(value & 1) for value in values))
    for group in dict.fromkeys(register.group for register in STATE_REGISTERS):
        rows = [
            (register.name, state[register.name])
            for register in STATE_REGISTERS
            if register.group == group and register.since <= state.model.version <= register.until
        ]
        if group not in QUIET_GROUPS or any(value for _, value in rows):
            lines += _columns([f"{name:>9s}={value:016x}" for name, value in rows])
    return lines


def _columns(cells: list[str], number: int = 4) -> list[str]:
    return [" ".join(cells[first : first + number]) for first in range(0, len(cells), number)]
