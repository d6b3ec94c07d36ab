"""Two small emulators and the method of QEMU's own migration tests.

The guest dirties 8 MiB for ever, faster than the source may send at first ("ensure non converge"); when it was seen
to go round after round, and to make a whole lap meanwhile, the limits are lifted ("ensure converge"). Then its
memory and both consoles must agree.
"""

from __future__ import annotations

from e2kemu.process import Emulator
from tests.framework.guests import MIB, check_pages_guest

SMALL = ("-M", "elbrus", "-cpu", "e8c", "-m", "64M")
END = 24 * MIB
GUEST = (*SMALL, "-append", "workload=pages start=16M end=24M rate=20000")
"""Its arguments: about 80 MiB of dirty memory a second."""

SLOW = 32 * MIB
FAST = 1 << 30
ROUNDS = 3


def options(*objects: str) -> list[str]:
    """``-object`` for each."""
    return [word for text in objects for word in ("-object", text)]


def ready(source: Emulator) -> Emulator:
    """Its guest has made a lap."""
    source.wait_console("ok\nAB")
    return source


def uri_of(destination: Emulator) -> str:
    """Where the destination listens."""
    address = destination.migration()["socket-address"][0]
    return f"tcp:127.0.0.1:{address['port']}" if address["type"] == "inet" else f"unix:{address['path']}"


def listen(destination: Emulator, uri: str = "tcp:127.0.0.1:0", **more: object) -> str:
    """Let it listen; where to migrate to."""
    destination.qmp("migrate-incoming", uri=uri, **more)
    return uri_of(destination)


def capabilities(*names: str, on: tuple[Emulator, ...]) -> None:
    for emulator in on:
        for name in names:
            emulator.set_capability(name)


def do_not_converge(source: Emulator) -> None:
    source.set_parameters(max_bandwidth=SLOW, downtime_limit=1)


def converge(source: Emulator) -> None:
    source.set_parameters(max_bandwidth=FAST, downtime_limit=30_000)


def wait_rounds(source: Emulator, count: int = ROUNDS) -> None:
    """Wait for the beginning of a round (or an end that should not have come)."""

    def passed(info: dict) -> bool:
        over = info["status"] not in ("setup", "active")
        return over or int(info.get("ram", {}).get("dirty-sync-count", 0)) >= count

    source.wait_for(source.migration, passed, 30, f"round {count}")
    assert source.migration()["status"] == "active", source.migration()


def live(source: Emulator, uri: str, **more: object) -> dict:
    """Migrate live by the standard method; returns the last query-migrate, which says completed."""
    do_not_converge(source)
    source.qmp("migrate", uri=uri, **more)
    laps = source.console().count("B")
    wait_rounds(source)
    source.wait_console("B", count=laps + 1)
    converge(source)
    return completed(source)


def completed(source: Emulator) -> dict:
    """Wait for the end, which must be the good one."""
    info = source.wait_migration()
    assert info["status"] == "completed", info
    source.wait_status("postmigrate")
    return info


def goes_on(source: Emulator, destination: Emulator) -> None:
    """The guest has come over whole and works there."""
    destination.wait_status("running")
    destination.wait_console("B", count=2)
    assert source.status() == "postmigrate"
    check_pages_guest([source, destination], END)


def runs_on(source: Emulator) -> None:
    """The guest is where it was, and works."""
    source.wait_status("running")
    laps = source.console().count("B")
    source.wait_console("B", count=laps + 2)


def exits(destination: Emulator) -> str:
    """It ends with status 1 and one line, which is returned."""
    assert destination.wait_exit() == 1
    (line,) = destination.stderr().strip().splitlines()
    return line
