"""Every way a stream can travel between two emulators, each set up for one migration."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

from e2kemu.process import Emulator

COMMON = ("-M", "elbrus", "-cpu", "e8c", "-m", "256M")

Prepare = Callable[[Emulator, Emulator, Path], str]


def tls_object(pki: Path, endpoint: str, *more: str) -> tuple[str, str]:
    """The option pair that makes credentials ``tls0``."""
    return "-object", ",".join([f"tls-creds-x509,id=tls0,dir={pki},endpoint={endpoint}", *more])


def tcp(source: Emulator, destination: Emulator, _directory: Path) -> str:
    destination.qmp("migrate-incoming", uri="tcp:127.0.0.1:0")
    address = destination.migration()["socket-address"][0]
    return f"tcp:127.0.0.1:{address['port']}"


def unix(source: Emulator, destination: Emulator, directory: Path) -> str:
    path = directory / f"{destination.name}.migration"
    destination.qmp("migrate-incoming", uri=f"unix:{path}")
    return f"unix:{path}"


def fd(source: Emulator, destination: Emulator, _directory: Path) -> str:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for emulator, end in ((source, ours), (destination, theirs)):
            emulator.monitor.send_fd_scm(end.fileno())
            emulator.qmp("getfd", fdname="stream")
    destination.qmp("migrate-incoming", uri="fd:stream")
    return "fd:stream"


def execute(source: Emulator, destination: Emulator, directory: Path) -> str:
    path = directory / f"{destination.name}.fifo"
    os.mkfifo(path)
    destination.qmp("migrate-incoming", uri=f"exec:cat {path}")
    return f"exec:cat > {path}"


def _with_tls(plain: Prepare, hostname: str | None = None) -> Prepare:
    def prepare(source: Emulator, destination: Emulator, directory: Path) -> str:
        for emulator in (source, destination):
            emulator.set_parameters(tls_creds="tls0")
        if hostname:
            source.set_parameters(tls_hostname=hostname)
        return plain(source, destination, directory)

    return prepare


def _without_tls(plain: Prepare) -> Prepare:
    def prepare(source: Emulator, destination: Emulator, directory: Path) -> str:
        source.set_parameters(tls_creds="", tls_hostname="")
        return plain(source, destination, directory)

    return prepare


PLAIN: dict[str, Prepare] = {
    "tcp": _without_tls(tcp), "unix": _without_tls(unix), "fd": _without_tls(fd), "exec": _without_tls(execute)
}  # fmt: skip
TLS: dict[str, Prepare] = {
    "tls-tcp": _with_tls(tcp),
    "tls-unix": _with_tls(unix, "localhost"),
    "tls-fd": _with_tls(fd, "localhost"),
}
ALL = {**PLAIN, **TLS}


def migrate(source: Emulator, destination: Emulator, directory: Path, how: str, timeout: float = 90) -> None:
    """Migrate live, so that it must run several rounds first and must converge then.

    As QEMU's own tests do: a low bandwidth and downtime limit until a pass was made, then none.
    Raises AssertionError (with both ends' words) when it did not complete.
    """
    source.set_parameters(max_bandwidth=200 << 20, downtime_limit=1)
    uri = ALL[how](source, destination, directory)
    source.qmp("migrate", uri=uri)
    _wait_for_round(source, 2, timeout)
    source.set_parameters(max_bandwidth=1 << 30, downtime_limit=30_000)
    info = source.wait_migration(timeout=timeout)
    assert info["status"] == "completed", f"{how}: {info} / {destination.stderr()}"
    source.wait_status("postmigrate")
    destination.wait_status("running", timeout=timeout)


def _wait_for_round(source: Emulator, count: int, timeout: float) -> None:
    def passed(info: dict[str, object]) -> bool:
        ram = info.get("ram")
        over = info.get("status") not in ("setup", "active", "wait-unplug", None)
        return over or (isinstance(ram, dict) and int(ram.get("dirty-sync-count", 0)) >= count)

    source.wait_for(source.migration, passed, timeout, f"round {count}")
