"""Commands that QEMU had before their values became parameters (it dropped them in 6.0): scripts know them.

| old | today |
|---|---|
| migrate_set_speed | parameter max-bandwidth |
| migrate_set_downtime | parameter downtime-limit |
| migrate-set-cache-size, query-migrate-cache-size | parameter xbzrle-cache-size |

Importing this module declares them. Texts and units are QEMU 2.6's.
"""

from __future__ import annotations

import math
import re

from e2kemu.errors import CommandError
from e2kemu.migration.commands import service
from e2kemu.migration.options import PARAMETER, SIZE_MAX
from e2kemu.monitor.dispatch import Context, command, hmp_command, info_command

MAX_DOWNTIME = PARAMETER["downtime-limit"].maximum // 1000
"""Seconds."""

TIME_UNITS = {"": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


@command("migrate_set_speed")
def migrate_set_speed(ctx: Context, value: int) -> None:
    """Limit the bandwidth to ``value`` bytes per second; less than 0 is 0: no limit."""
    service(ctx).parameters.set({"max-bandwidth": max(0, min(value, SIZE_MAX))})


@command("migrate_set_downtime")
def migrate_set_downtime(ctx: Context, value: float) -> None:
    """Tolerate a downtime of ``value`` seconds."""
    if not 0 <= value <= MAX_DOWNTIME:
        raise CommandError(
            f"Parameter 'downtime_limit' expects an integer in the range of 0 to {MAX_DOWNTIME} seconds"
        )
    service(ctx).parameters.set({"downtime-limit": round(value * 1000)})


@command("migrate-set-cache-size")
def migrate_set_cache_size(ctx: Context, value: int) -> None:
    """Size of the XBZRLE cache in bytes, rounded down to a power of two."""
    service(ctx).parameters.set({"xbzrle-cache-size": 1 << (value.bit_length() - 1) if value > 0 else value})


@command("query-migrate-cache-size")
def query_migrate_cache_size(ctx: Context) -> int:
    """Size of the XBZRLE cache in bytes."""
    return int(service(ctx).parameters["xbzrle-cache-size"])


@hmp_command(
    "migrate_set_speed",
    "value:o",
    params="value",
    help="set maximum speed (in bytes) for migrations. Defaults to MB if no size suffix is specified, ie. B/K/M/G/T",
)
def hmp_migrate_set_speed(ctx: Context, value: int) -> None:
    """``migrate_set_speed 100M``."""
    migrate_set_speed(ctx, value)


@hmp_command(
    "migrate_set_downtime",
    "value:s",
    params="value",
    help="set maximum tolerated downtime (in seconds) for migrations",
)
def hmp_migrate_set_downtime(ctx: Context, value: str) -> None:
    """``migrate_set_downtime 0.3``, ``migrate_set_downtime 30ms``."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([a-z]*)", value)
    if match is None or match[2] not in TIME_UNITS or math.isinf(float(match[1])):
        raise CommandError(f"Parameter 'value' expects a number of seconds, not '{value}'")
    migrate_set_downtime(ctx, float(match[1]) * TIME_UNITS[match[2]])


@hmp_command(
    "migrate_set_cache_size",
    "value:o",
    params="value",
    help="set cache size (in bytes) for XBZRLE migrations, rounded down to a power of 2",
)
def hmp_migrate_set_cache_size(ctx: Context, value: int) -> None:
    """``migrate_set_cache_size 64M``."""
    migrate_set_cache_size(ctx, value)


@info_command("migrate_cache_size", help="show current migration xbzrle cache size")
def info_migrate_cache_size(ctx: Context) -> None:
    """``info migrate_cache_size``: with QEMU's slip of the pen, which is what scripts look for."""
    ctx.monitor.print(f"xbzrel cache size: {query_migrate_cache_size(ctx) >> 10} kbytes")
