"""A guest that dirties at half of the link's speed converges; at twice its speed with what there is for that.

The link is ``max-bandwidth``; how fast the guest dirties is its workload's ``rate``, in pages a second.
"""

from __future__ import annotations

from e2kemu.process import Emulator
from tests.conftest import StartEmulator
from tests.framework.guests import MIB, check_pages_guest
from tests.framework.pairs import SMALL, capabilities, completed, listen, ready

LINK = 32 * MIB
PAGE = 4096
END = 32 * MIB
DOWNTIME = 100
"""Milliseconds: 3.2 MiB of the link, a fifth of what the guest works on."""


def _begin(start: StartEmulator, percent: int, *names: str, **parameters: object) -> tuple[Emulator, Emulator]:
    """A guest dirtying at ``percent`` of the link is being migrated, with the capabilities."""
    rate = LINK * percent // 100 // PAGE
    source = start("source", *SMALL, "-append", f"workload=pages start=16M end=32M rate={rate}")
    destination = start("destination", *SMALL, "-incoming", "defer")
    ready(source)
    capabilities(*names, on=(source, destination))
    source.set_parameters(max_bandwidth=LINK, downtime_limit=DOWNTIME, **parameters)
    source.qmp("migrate", uri=listen(destination))
    return source, destination


def _check(source: Emulator, destination: Emulator) -> None:
    destination.wait_status("running")
    destination.wait_console("B", count=2)
    check_pages_guest([source, destination], END)


def _wait_round(source: Emulator, count: int) -> None:
    def passed(info: dict) -> bool:
        return info["status"] != "setup" and info["ram"]["dirty-sync-count"] >= count

    source.wait_for(source.migration, passed, 60, f"round {count}")


def test_at_half_of_the_link_it_converges_by_itself(start: StartEmulator) -> None:
    source, destination = _begin(start, 50)
    info = completed(source)
    assert info["ram"]["dirty-sync-count"] >= 3
    _check(source, destination)


def test_at_twice_the_link_it_does_not_and_then_does_at_once_with_postcopy(start: StartEmulator) -> None:
    source, destination = _begin(start, 200, "postcopy-ram")
    _wait_round(source, 5)
    info = source.migration()
    assert info["status"] == "active"
    # a page counts once a round, however often it was written: all of them, in the time it takes to send them
    assert info["ram"]["dirty-pages-rate"] * PAGE > LINK * 0.7
    source.qmp("migrate-start-postcopy")
    info = completed(source)
    assert info["ram"]["postcopy-bytes"] > 0
    _check(source, destination)


def test_at_twice_the_link_it_converges_with_auto_converge(start: StartEmulator) -> None:
    source, destination = _begin(start, 200, "auto-converge", cpu_throttle_initial=40, cpu_throttle_increment=20)
    throttled = source.wait_for(source.migration, lambda info: "cpu-throttle-percentage" in info, 60, "the throttle")
    assert throttled["status"] == "active"
    info = completed(source)
    assert info["ram"]["dirty-sync-count"] >= 3
    _check(source, destination)


def test_at_twice_the_link_it_converges_with_xbzrle(start: StartEmulator) -> None:
    """It rewrites one byte of each page: what goes over is small."""
    source, destination = _begin(start, 200, "xbzrle", xbzrle_cache_size=32 * MIB)
    info = completed(source)
    assert info["xbzrle-cache"]["pages"] > 1000
    assert info["xbzrle-cache"]["encoding-rate"] > 10
    _check(source, destination)
