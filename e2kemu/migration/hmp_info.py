"""The texts of ``info migrate``, ``info migrate_capabilities`` and ``info migrate_parameters``.

Layout, tabs and number formats are those of QEMU 11, byte for byte: management scripts read them. All are
made from the answer of query-migrate, so that both monitors tell the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from e2kemu.migration.compat import DEFAULTS, MigrationSettings
from e2kemu.migration.options import PARAMETER, Capabilities, MigrationParameters


def size_text(size: int) -> str:
    """``size`` bytes with three significant digits and a binary unit: "32.5 MiB" (QEMU: size_to_str)."""
    value, units = float(size), ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
    index = 0
    # QEMU leaves a unit at 1000/1024 of the next, so that three digits suffice.
    while value >= 1000 and index < len(units) - 1:
        value /= 1024
        index += 1
    return f"{value:.3g} {units[index]}"


def migrate_text(
    info: Mapping[str, Any], *, everything: bool, settings: MigrationSettings = DEFAULTS
) -> str:
    """``info migrate`` from the answer of query-migrate; empty before the first migration."""
    lines: list[str] = []
    if "blocked-reasons" in info:
        lines.append("Outgoing migration blocked:")
        lines += [f"  {reason}" for reason in info["blocked-reasons"]]
    if "status" in info:
        error = f" ({info['error-desc']})" if "error-desc" in info else ""
        lines.append(f"Status: \t\t{info['status']}{error}")
    if info.get("total-time"):
        times = [f"total={info['total-time']}"]
        for name, label in (("setup-time", "setup"), ("expected-downtime", "exp_down"), ("downtime", "down")):
            if name in info:
                times.append(f"{label}={info[name]}")
        lines.append("Time (ms): \t\t" + ", ".join(times))
    if "socket-address" in info:
        lines.append("Sockets: [")
        lines += [f"\t{_socket_text(address)}" for address in info["socket-address"]]
        lines.append("]")
    if "x-postcopy-latency-median" in info:  # ours; QEMU's figures of the same are shown with everything
        median, p99 = (info[f"x-postcopy-latency-{what}"] / 1000 for what in ("median", "p99"))
        lines.append(f"Page requests (us): \tmedian={median:.1f}, p99={p99:.1f}")
    if "ram" in info:
        lines += _ram_lines(info["ram"])
    if "disk" in info:
        lines += [f"{name} disk: {info['disk'][name] >> 10} kbytes" for name in ("transferred", "remaining", "total")]
    if everything:
        lines.append("Globals:")
        lines += [f"  {name}: {value}" for name, value in settings.shown().items()]
        lines += _encoding_lines(info)
        lines += _blocktime_lines(info)
    return "".join(line + "\n" for line in lines)


def _socket_text(address: Mapping[str, Any]) -> str:
    if address["type"] == "inet":
        return f"tcp:{address['host']}:{address['port']}"
    return f"unix:{address['path']}"


def _ram_lines(ram: Mapping[str, Any]) -> list[str]:
    rates = f"  Page Rates (pps): \ttransfer={ram['pages-per-second']}"
    if ram["dirty-pages-rate"]:
        rates += f", dirty={ram['dirty-pages-rate']}"
    others = f"  Others: \t\tdirty_syncs={ram['dirty-sync-count']}"
    if ram["postcopy-requests"]:
        others += f", postcopy_req={ram['postcopy-requests']}"
    if ram["downtime-bytes"]:
        others += f", downtime_bytes={ram['downtime-bytes']}"
    return [
        "RAM info:",
        f"  Throughput (Mbps): \t{ram['mbps']:.2f}",
        f"  Sizes: \t\tpagesize={size_text(ram['page-size'])}, total={size_text(ram['total'])}",
        f"  Transfers: \t\ttransferred={size_text(ram['transferred'])}, remain={size_text(ram['remaining'])}",
        f"    Channels: \t\tprecopy={size_text(ram['precopy-bytes'])}, "
        f"multifd={size_text(ram['multifd-bytes'])}, postcopy={size_text(ram['postcopy-bytes'])}",
        f"    Page Types: \tnormal={ram['normal']}, zero={ram['duplicate']}",
        rates,
        others,
    ]


def _blocktime_lines(info: Mapping[str, Any]) -> list[str]:
    if "postcopy-blocktime" not in info:
        return []
    return [
        f"Postcopy Blocktime (ms): {info['postcopy-blocktime']}",
        "Postcopy vCPU Blocktime (ms):",
        *_ten_a_line(info["postcopy-vcpu-blocktime"]),
        f"Postcopy Latency (ns): {info['postcopy-latency']}",
        f"Postcopy non-vCPU Latencies (ns): {info['postcopy-non-vcpu-latency']}",
        "Postcopy vCPU Latencies (ns):",
        *_ten_a_line(info["postcopy-vcpu-latency"]),
        "Postcopy Latency Distribution:",
        *(
            f"  [ {_microseconds(1 << n):>8} - {_microseconds(2 << n):>8} ]: {count:10}"
            for n, count in enumerate(info["postcopy-latency-dist"])
        ),
    ]


def _ten_a_line(numbers: Sequence[int]) -> list[str]:
    rows = [", ".join(map(str, numbers[at : at + 10])) for at in range(0, len(numbers), 10)]
    return (" [" + ",\n  ".join(rows) + "]").split("\n")


def _microseconds(count: int) -> str:
    """ "1 us", "1 ms", "1 s": in the largest unit of 1024 that fits, as QEMU shows bounds of latencies."""
    for unit in ("us", "ms", "s"):
        if count < 1024 or unit == "s":
            break
        count //= 1024
    return f"{count} {unit}"


def _encoding_lines(info: Mapping[str, Any]) -> list[str]:
    """XBZRLE, compression (as the QEMUs printed it that had it) and auto-converge."""
    lines = []
    if "xbzrle-cache" in info:
        cache = info["xbzrle-cache"]
        lines += [
            f"XBZRLE: size={cache['cache-size']}, transferred={cache['bytes']}, pages={cache['pages']}, "
            f"miss={cache['cache-miss']}",
            f"  miss_rate={cache['cache-miss-rate']:.2f}, encode_rate={cache['encoding-rate']:.2f}, "
            f"overflow={cache['overflow']}",
        ]
    if "compression" in info:
        compression = info["compression"]
        lines += [
            f"compression pages: {compression['pages']} pages",
            f"compression busy: {compression['busy']}",
            f"compression busy rate: {compression['busy-rate']:.2f}",
            f"compressed size: {compression['compressed-size'] >> 10} kbytes",
            f"compression rate: {compression['compression-rate']:.2f}",
        ]
    if "cpu-throttle-percentage" in info:
        lines.append(f"CPU Throttle (%): {info['cpu-throttle-percentage']}")
    return lines


def capabilities_text(capabilities: Capabilities) -> str:
    """``info migrate_capabilities``."""
    return "".join(f"{name}: {'on' if value else 'off'}\n" for name, value in capabilities.items())


def parameters_text(parameters: MigrationParameters) -> str:
    """``info migrate_parameters``."""
    return "".join(f"{name}: {PARAMETER[name].show(value)}\n" for name, value in parameters.items())
