"""The migration commands of both monitors: thin and typed; the work is ``MigrationService``'s.

Importing this module declares them. ``ctx.services["migration"]`` is the machine's service. Names, types, help and
completion of capabilities and parameters come from the tables in ``options.py``.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any

import msgspec

from e2kemu.errors import CommandError
from e2kemu.migration import state as status
from e2kemu.migration.address import Address, from_channels, parse_uri
from e2kemu.migration.hmp_info import capabilities_text, migrate_text, parameters_text
from e2kemu.migration.options import (
    CAPABILITIES,
    CAPABILITY,
    PARAMETER,
    PARAMETERS,
    STRING_PARAMETERS,
    Parameter,
    Value,
    explanations,
)
from e2kemu.migration.service import MigrationService
from e2kemu.monitor.dispatch import Context, command, declare_event, hmp_command, info_command
from e2kemu.monitor.schema import UNSET, Qapi, UnsetType


def service(ctx: Context) -> MigrationService:
    """The service of this emulator's machine."""
    found = ctx.services["migration"]
    assert isinstance(found, MigrationService)
    return found


# -- types -----------------------------------------------------------------------------------------


def _enum(name: str, values: Iterable[str]) -> Any:
    return enum.StrEnum(name, {value: value for value in values})


MigrationCapability: Any = _enum("MigrationCapability", CAPABILITY)
MigrationStatus: Any = _enum("MigrationStatus", status.OUTGOING)
"""The source has all that the destination has."""


class CapabilityStatus(Qapi):
    """MigrationCapabilityStatus."""

    capability: MigrationCapability
    state: bool


class RamInfo(Qapi):
    """MigrationStats: pages and bytes of RAM."""

    transferred: int
    remaining: int
    total: int
    duplicate: int
    normal: int
    normal_bytes: int
    dirty_pages_rate: int
    mbps: float
    dirty_sync_count: int
    postcopy_requests: int
    page_size: int
    multifd_bytes: int
    pages_per_second: int
    precopy_bytes: int
    downtime_bytes: int
    postcopy_bytes: int
    dirty_sync_missed_zero_copy: int


class XbzrleCacheInfo(Qapi):
    """XBZRLECacheStats."""

    cache_size: int
    bytes: int
    pages: int
    cache_miss: int
    cache_miss_rate: float
    encoding_rate: float
    overflow: int


class CompressionInfo(Qapi):
    """CompressionStats."""

    pages: int
    busy: int
    busy_rate: float
    compressed_size: int
    compression_rate: float


class MigrationInfo(Qapi):
    """Result of query-migrate; members that do not apply are left out."""

    status: MigrationStatus | UnsetType = UNSET
    ram: RamInfo | UnsetType = UNSET
    disk: RamInfo | UnsetType = UNSET
    xbzrle_cache: XbzrleCacheInfo | UnsetType = UNSET
    compression: CompressionInfo | UnsetType = UNSET
    cpu_throttle_percentage: int | UnsetType = UNSET
    remaining: int | UnsetType = UNSET
    total_time: int | UnsetType = UNSET
    expected_downtime: int | UnsetType = UNSET
    downtime: int | UnsetType = UNSET
    setup_time: int | UnsetType = UNSET
    postcopy_blocktime: int | UnsetType = UNSET
    postcopy_vcpu_blocktime: list[int] | UnsetType = UNSET
    postcopy_latency: int | UnsetType = UNSET
    postcopy_latency_dist: list[int] | UnsetType = UNSET
    postcopy_vcpu_latency: list[int] | UnsetType = UNSET
    postcopy_non_vcpu_latency: int | UnsetType = UNSET
    x_postcopy_latency_median: int | UnsetType = UNSET
    x_postcopy_latency_p99: int | UnsetType = UNSET
    error_desc: str | UnsetType = UNSET
    blocked_reasons: list[str] | UnsetType = UNSET
    socket_address: list[dict[str, Any]] | UnsetType = UNSET


class MigrationEvent(Qapi):
    """MIGRATION: a change of the status."""

    status: MigrationStatus


class MigrationPassEvent(Qapi):
    """MIGRATION_PASS: the dirty log was looked at."""

    pass_: int


declare_event("MIGRATION", MigrationEvent)
declare_event("MIGRATION_PASS", MigrationPassEvent)

CHOICES = {row.name: _enum(row.name.title().replace("-", ""), row.choices) for row in PARAMETERS if row.choices}
"""QAPI's types of the parameters that have few values."""


def _parameter_type(row: Parameter, *, setting: bool) -> Any:
    kind: Any = type(row.default)
    if row.choices:
        kind = CHOICES[row.name]
    elif kind is str:
        kind = str | None  # null takes the value back
    return kind | UnsetType if setting else kind


def _parameters_struct(name: str, *, setting: bool) -> type[msgspec.Struct]:
    fields: list[Any] = []
    for row in PARAMETERS:
        default = UNSET if setting else msgspec.NODEFAULT
        field = msgspec.field(default=default, name=row.name)
        fields.append((row.name.replace("-", "_"), _parameter_type(row, setting=setting), field))
    return msgspec.defstruct(name, fields, kw_only=True, forbid_unknown_fields=True, module=__name__)


MigrateSetParameters = _parameters_struct("MigrateSetParameters", setting=True)
MigrationParametersInfo: Any = _parameters_struct("MigrationParameters", setting=False)


# -- QMP -------------------------------------------------------------------------------------------


def _address(uri: str | UnsetType, channels: list[dict[str, Any]] | UnsetType) -> Address:
    """The target: exactly one of the two must be given."""
    if isinstance(uri, UnsetType) == isinstance(channels, UnsetType):
        raise CommandError("need either 'uri' or 'channels' argument")
    if not isinstance(uri, UnsetType):
        return parse_uri(uri)
    assert not isinstance(channels, UnsetType)
    return from_channels(channels)


@command("migrate")
def migrate(
    ctx: Context,
    uri: str | UnsetType = UNSET,
    channels: list[dict[str, Any]] | UnsetType = UNSET,
    blk: bool = False,
    inc: bool = False,
    resume: bool = False,
) -> None:
    """Start to migrate the machine; the reply comes at once. With `blk` (or `inc`) its disks, too.

    With `resume` a paused postcopy goes on.
    """
    address = _address(uri, channels)
    if resume:
        service(ctx).resume(address, ctx.monitor.take_fd)
    else:
        service(ctx).migrate(address, ctx.monitor.take_fd, blk=blk, inc=inc)


@command("migrate-start-postcopy")
def migrate_start_postcopy(ctx: Context) -> None:
    """Let the guest go on at the destination before all of its memory is there."""
    service(ctx).start_postcopy()


@command("migrate-pause")
def migrate_pause(ctx: Context) -> None:
    """Break the connection of a postcopy off; it can be recovered."""
    service(ctx).pause()


@command("migrate-recover")
def migrate_recover(ctx: Context, uri: str) -> None:
    """At the destination of a paused postcopy: wait for its source on another address."""
    service(ctx).recover(uri, ctx.monitor.take_fd)


@command("migrate_cancel")
def migrate_cancel(ctx: Context) -> None:
    """Cancel the migration; no error if there is none."""
    service(ctx).cancel()


@command("migrate-continue")
def migrate_continue(ctx: Context, state: MigrationStatus) -> None:
    """Go on from the status ``state``."""
    service(ctx).proceed(str(state))


@command("migrate-incoming")
def migrate_incoming(
    ctx: Context,
    uri: str | UnsetType = UNSET,
    channels: list[dict[str, Any]] | UnsetType = UNSET,
    exit_on_error: bool = True,
) -> None:
    """Listen for the source of a migration."""
    service(ctx).start_incoming(_address(uri, channels), ctx.monitor.take_fd, exit_on_error=exit_on_error)


@command("query-migrate")
def query_migrate(ctx: Context) -> MigrationInfo:
    """Progress of the migration; nothing before the first."""
    return msgspec.convert(service(ctx).query(), MigrationInfo)


@command("migrate-set-capabilities")
def migrate_set_capabilities(ctx: Context, capabilities: list[CapabilityStatus]) -> None:
    """Switch capabilities; all or none."""
    service(ctx).capabilities.set({str(entry.capability): entry.state for entry in capabilities})


@command("query-migrate-capabilities")
def query_migrate_capabilities(ctx: Context) -> list[CapabilityStatus]:
    """All capabilities and whether they are on."""
    items = service(ctx).capabilities.items()
    return [CapabilityStatus(capability=MigrationCapability(name), state=value) for name, value in items]


@command("migrate-set-parameters", arguments=MigrateSetParameters)
def migrate_set_parameters(ctx: Context, arguments: Any) -> None:
    """Change parameters; all or none. Acts on a migration that runs."""
    changes: dict[str, object] = {}
    for row in PARAMETERS:
        value = getattr(arguments, row.name.replace("-", "_"))
        if value is not UNSET:
            changes[row.name] = str(value) if row.choices else value
    service(ctx).parameters.set(changes)


@command("query-migrate-parameters")
def query_migrate_parameters(ctx: Context) -> MigrationParametersInfo:
    """All parameters."""
    return MigrationParametersInfo(**_attributes(service(ctx).parameters.items()))


def _attributes(items: Iterable[tuple[str, Value]]) -> dict[str, Value]:
    return {name.replace("-", "_"): value for name, value in items}


# -- HMP -------------------------------------------------------------------------------------------


@hmp_command(
    "migrate",
    "detach:-d,blk:-b,inc:-i,resume:-r,uri:s",
    params="[-d] [-b] [-i] [-r] uri",
    help="migrate to URI (using -d to not wait for completion)\n"
    "\t\t\t -b for migration without shared storage with full copy of disk\n"
    "\t\t\t -i for migration without shared storage with incremental copy of disk"
    " (base image shared between src and destination)\n"
    "\t\t\t -r to resume a paused postcopy migration",
)
def hmp_migrate(ctx: Context, detach: bool, blk: bool, inc: bool, resume: bool, uri: str) -> None:
    """Without ``-d`` this monitor waits for the end and shows the error, if there is one."""
    migration = service(ctx)
    if resume:
        migration.resume(uri, ctx.monitor.take_fd)
    else:
        migration.migrate(uri, ctx.monitor.take_fd, blk=blk, inc=inc)
    if detach:
        return
    if ctx.monitor.captured:  # nobody waits at this monitor: its output goes back in one reply
        ctx.monitor.print("terminal does not allow synchronous migration, continuing detached")
        return
    ctx.monitor.suspend()
    state = migration.outgoing_state

    def finished() -> None:
        if state.error is not None and state.status in (status.FAILED, status.POSTCOPY_PAUSED):
            ctx.monitor.print(f"Error: {state.error}")
        ctx.monitor.resume()

    def changed(to: str) -> None:
        if (to not in status.RUNNING or to == status.POSTCOPY_PAUSED) and changed in state.listeners:
            state.listeners.remove(changed)
            ctx.loop.call_soon(finished)

    state.listeners.append(changed)
    if not state.running():  # it was faster than the listener
        changed(state.status)


@hmp_command("migrate_cancel", help="cancel the current VM migration")
def hmp_migrate_cancel(ctx: Context) -> None:
    """``migrate_cancel``."""
    service(ctx).cancel()


def _complete_states(ctx: Context, before: list[str], text: str) -> Iterable[str]:
    return [name for name in status.OUTGOING if name.startswith(text)]


@hmp_command(
    "migrate_continue",
    "state:s",
    params="state",
    help="Continue migration from the given paused state",
    completion=_complete_states,
)
def hmp_migrate_continue(ctx: Context, state: str) -> None:
    """``migrate_continue pre-switchover``."""
    if state not in status.OUTGOING:
        raise CommandError(f"invalid parameter value: {state}")
    service(ctx).proceed(state)


@hmp_command(
    "migrate_incoming",
    "uri:s",
    params="uri",
    help="Continue an incoming migration from an -incoming defer",
)
def hmp_migrate_incoming(ctx: Context, uri: str) -> None:
    """``migrate_incoming tcp::4444``."""
    service(ctx).start_incoming(uri, ctx.monitor.take_fd)


def _complete_capability(ctx: Context, before: list[str], text: str) -> Iterable[str]:
    names: Iterable[str] = ("on", "off") if len(before) > 1 else CAPABILITY
    return [name for name in names if name.startswith(text)]


@hmp_command(
    "migrate_set_capability",
    "capability:s,state:b",
    params="capability state",
    help="Enable/Disable the usage of a capability for migration",
    completion=_complete_capability,
    details=lambda: explanations(CAPABILITIES),
)
def hmp_migrate_set_capability(ctx: Context, capability: str, state: bool) -> None:
    """``migrate_set_capability events on``."""
    if capability not in CAPABILITY:
        raise CommandError(f"invalid parameter value: {capability}")
    service(ctx).capabilities.set({capability: state})


def _complete_parameter(ctx: Context, before: list[str], text: str) -> Iterable[str]:
    names: Iterable[str] = PARAMETER
    if len(before) > 1:
        names = PARAMETER[before[1]].values if before[1] in PARAMETER else ()
    return [name for name in names if name.startswith(text)]


def _complete_string_parameter(ctx: Context, before: list[str], text: str) -> Iterable[str]:
    if len(before) > 1:
        return _complete_parameter(ctx, before, text)
    return [name for name in STRING_PARAMETERS if name.startswith(text)]


@hmp_command(
    "migrate_start_postcopy",
    help="Followup to a migration command to switch the migration to postcopy mode. The postcopy-ram"
    " capability must be set on both source and destination before the original migration command.",
)
def hmp_migrate_start_postcopy(ctx: Context) -> None:
    """``migrate_start_postcopy``."""
    service(ctx).start_postcopy()


@hmp_command("migrate_pause", help="Pause an ongoing migration (postcopy-only)")
def hmp_migrate_pause(ctx: Context) -> None:
    """``migrate_pause``."""
    service(ctx).pause()


@hmp_command(
    "migrate_recover", "uri:s", params="uri", help="Continue a paused incoming postcopy migration using the uri"
)
def hmp_migrate_recover(ctx: Context, uri: str) -> None:
    """``migrate_recover tcp:0:4444``."""
    service(ctx).recover(uri, ctx.monitor.take_fd)


@hmp_command(
    "migrate_set_parameter",
    "parameter:s,value:s",
    params="parameter value",
    help="Set the parameter for migration",
    completion=_complete_parameter,
    details=lambda: explanations(PARAMETERS),
)
def hmp_migrate_set_parameter(ctx: Context, parameter: str, value: str) -> None:
    """``migrate_set_parameter max-bandwidth 100`` (MiB/s without a suffix)."""
    service(ctx).parameters.set_text(parameter, value)


@hmp_command(
    "migrate_set_str_parameter",
    "parameter:s,value:s",
    params="parameter value",
    help="Set a parameter for migration whose value is a string",
    completion=_complete_string_parameter,
    details=lambda: explanations(PARAMETER[name] for name in STRING_PARAMETERS),
)
def hmp_migrate_set_str_parameter(ctx: Context, parameter: str, value: str) -> None:
    """``migrate_set_str_parameter tls-creds tls0``: the name it had before its first release."""
    if parameter not in STRING_PARAMETERS:
        raise CommandError(f"invalid parameter value: {parameter}")
    service(ctx).parameters.set_text(parameter, value)


@info_command("migrate", "all:-a", params="[-a]", help="show migration status (-a: all, dump all status)")
def info_migrate(ctx: Context, all: bool) -> None:
    """``info migrate``."""
    migration = service(ctx)
    text = migrate_text(migration.query(), everything=all, settings=migration.settings)
    ctx.monitor.print(text, end="")


@info_command("migrate_capabilities", help="show current migration capabilities")
def info_migrate_capabilities(ctx: Context) -> None:
    """``info migrate_capabilities``."""
    ctx.monitor.print(capabilities_text(service(ctx).capabilities), end="")


@info_command("migrate_parameters", help="show current migration parameters")
def info_migrate_parameters(ctx: Context) -> None:
    """``info migrate_parameters``."""
    ctx.monitor.print(parameters_text(service(ctx).parameters), end="")
