"""What may happen to a migration at one of its messages, and what must have become of the guest afterwards.

A scenario (``Precopy``, ``Postcopy``, ``Recovery``) takes a chain through one migration whose connection stops at a
place, has one of the ``ACTIONS`` done to it there, and gives a verdict: one word for the way in which there is exactly
one guest. Whatever else it finds is an AssertionError.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import pytest
from qemu.qmp.qmp_client import ExecuteError

from e2kemu.process import FINAL, Emulator
from tests.framework.chain import Chain
from tests.framework.crossing import Crossing, Place

PAUSED = "postcopy-paused"
HELD = "cont starts it here"
"""What a destination says that has all of the guest, and does not know who is to run it."""

ACTIONS = ("end", "reset", "go on", "leave here", "leave there", "kill here", "kill there")
"""The connection ends, is reset, or stalls and goes on; source or destination give up by themselves (cancel, pause)
while it stalls; one of the processes is killed."""

def places(seen: Iterable[Place], *, most: int) -> list[Place]:
    """Where to stop: in front of every message and some bytes inside, in turn.

    Of messages that come again and again ``most`` are looked at: half of them the first, the others evenly spread.
    """
    groups: dict[tuple[int, str, str], list[Place]] = {}
    for place in seen:
        groups.setdefault((place.phase, place.direction, place.label), []).append(place)
    chosen = []
    for group in groups.values():
        first, others = group[: most // 2], group[most // 2 :]
        step = max(1, -(-len(others) // (most - most // 2)))
        chosen += first + others[step - 1 :: step]
    return [Place(p.phase, p.direction, p.label, p.nth, (0, 3, 7)[n % 3]) for n, p in enumerate(chosen)]


def spread(everything: list[Place], count: int, chance: random.Random) -> list[Place]:
    """``count`` of them, evenly, from a random beginning."""
    step = len(everything) / count
    first = chance.random() * step
    return [everything[int(first + n * step)] for n in range(count)] if count < len(everything) else everything


class Scenario(ABC):
    """One kind of migration. ``verdicts`` counts (action, verdict)."""

    capabilities: tuple[str, ...] = ()

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.verdicts: Counter[tuple[str, str]] = Counter()

    def reference(self) -> list[Place]:
        """The messages of a migration that nobody disturbs."""
        crossing = self.begin(None)
        with crossing:
            self.settle("none")
        return crossing.seen

    def trial(self, place: Place, action: str) -> str:
        """Stop at ``place`` and do ``action``."""
        with self.begin(place) as crossing:
            reached = crossing.stopped.is_set()
            if reached:
                self.never_two()
                self.act(crossing, action)
            verdict = self.settle(action if reached else "none")
        verdict = verdict if reached else f"not reached: {verdict}"
        self.verdicts[action, verdict] += 1
        return verdict

    def never_two(self) -> None:
        source, destination = self.chain.source.status(), self.chain.destination.status()
        assert not source == destination == "running"

    def act(self, crossing: Crossing, action: str) -> None:
        source, destination = self.chain.source, self.chain.destination
        if action in ("end", "reset"):
            crossing.cut(reset=action == "reset")
        elif action == "go on":
            crossing.go_on()
        elif action == "leave here":
            self.leave(source)
            crossing.cut()
        elif action == "leave there":
            self.leave_there(destination)
            crossing.cut(reset=True)
        else:
            victim = source if action == "kill here" else destination
            victim.process.kill()
            victim.process.wait()
            crossing.go_on()

    @abstractmethod
    def leave(self, source: Emulator) -> None:
        """The source gives up by itself while the connection stalls."""

    @abstractmethod
    def leave_there(self, destination: Emulator) -> None:
        """The destination does."""

    @abstractmethod
    def begin(self, place: Place | None) -> Crossing:
        """Begin the migration, and wait until it has come to ``place``, or to an end."""

    @abstractmethod
    def settle(self, action: str) -> str:
        """Wait for the end of what ``action`` has begun; the verdict."""

    def crossing(self, port: int, place: Place | None, *, recovery: bool = False) -> Crossing:
        return Crossing(port, place, tls=self.chain.keys is not None, recovery=recovery)

    def until(self, crossing: Crossing, *states: str) -> bool:
        """Wait for the stop, or for a state of the source; whether it has stopped."""
        source = self.chain.source
        source.wait_for(
            source.migration, lambda info: crossing.stopped.is_set() or info["status"] in states, 60, str(states)
        )
        return crossing.stopped.is_set()

    def over(self, *states: str) -> dict[str, Any]:
        """Wait for the source's end, or one of ``states``; what waits in pre-switchover goes on."""
        source = self.chain.source
        info = source.wait_migration("pre-switchover", *states, *FINAL)
        if info["status"] == "pre-switchover":
            with suppress(ExecuteError):  # it may have failed meanwhile
                source.qmp("migrate-continue", state="pre-switchover")
            info = source.wait_migration(*states, *FINAL)
        return info

    # -- verdicts that all have

    def stays_here(self) -> str:
        """The source has the guest."""
        source, destination = self.chain.source, self.chain.destination
        info = source.wait_migration("failed", "cancelled")
        assert "\n" not in info.get("error-desc", "")
        source.wait_status("running", timeout=20)
        self.chain.beats()
        there = destination.wait_migration(PAUSED, *FINAL)
        assert there["status"] in ("failed", PAUSED), "two guests"
        assert destination.status() in ("inmigrate", "paused")
        assert destination.console() == ""
        if there["status"] == PAUSED or destination.status() == "paused":
            self.chain.lose_destination()
        return "here"

    def goes_there(self) -> str:
        """The destination has it."""
        destination = self.chain.destination
        assert destination.wait_migration()["status"] == "completed"
        destination.wait_status("running", timeout=20)
        self.chain.hand_over()
        self.chain.beats()
        return "there"

    def held_there(self) -> str:
        """Neither runs it, and the destination, which has all of it, says so: it may be continued."""
        destination = self.chain.destination
        assert destination.status() == "paused"
        assert destination.console() == ""
        assert HELD in destination.migration()["error-desc"]
        destination.qmp("cont")
        destination.wait_status("running", timeout=20)
        self.chain.hand_over()
        self.chain.beats()
        return "held there"


class Precopy(Scenario):
    """Phase 1 begins when the guest has stopped."""

    capabilities = ("pause-before-switchover",)

    def begin(self, place: Place | None) -> Crossing:
        crossing = self.crossing(self.chain.listen(), place)
        source = self.chain.source
        source.set_parameters(max_bandwidth=0, downtime_limit=2000)
        source.qmp("migrate", uri=crossing.uri)
        if self.until(crossing, "pre-switchover", *FINAL) or source.migration()["status"] in FINAL:
            return crossing
        crossing.next_phase()
        source.qmp("migrate-continue", state="pre-switchover")
        self.until(crossing, *FINAL)
        return crossing

    def leave(self, source: Emulator) -> None:
        source.qmp("migrate_cancel")
        source.wait_migration()  # the network stands still: it must not need the other side

    def leave_there(self, destination: Emulator) -> None:
        """A destination of a precopy cannot be told to give up; it is there, and answers."""
        assert destination.migration()["status"] in ("setup", "active", "completed", "failed")

    def settle(self, action: str) -> str:
        source, destination = self.chain.source, self.chain.destination
        if action == "kill here":
            return self._source_is_dead(destination)
        info = self.over()
        if action == "kill there":
            self.chain.drop_destination()
            if info["status"] == "completed":
                source.wait_status("postmigrate")
                source.qmp("cont")
                self.chain.beats()
                return "lost there, cont here"
            source.wait_status("running", timeout=20)
            self.chain.beats()
            return "here"
        if info["status"] != "completed":
            return self.stays_here()
        source.wait_status("postmigrate")
        return self.goes_there() if destination.wait_migration()["status"] == "completed" else self.held_there()

    def _source_is_dead(self, destination: Emulator) -> str:
        there = destination.wait_migration()
        if there["status"] == "completed":
            return self.goes_there()
        if destination.status() == "paused":
            return self.held_there()
        self.chain.no_guest_there()
        self.chain.lose_guest()
        return "lost here"


class Postcopy(Scenario):
    """Phase 1 begins when the guest has stopped."""

    capabilities = ("pause-before-switchover", "postcopy-ram")

    def begin(self, place: Place | None) -> Crossing:
        crossing = self.crossing(self.chain.listen(), place)
        self.start(crossing.uri)
        if self.until(crossing, "pre-switchover", *FINAL) or self.chain.source.migration()["status"] in FINAL:
            return crossing
        crossing.next_phase()
        self.chain.source.qmp("migrate-continue", state="pre-switchover")
        self.until(crossing, PAUSED, *FINAL)
        return crossing

    def start(self, uri: str, push: int = 0) -> None:
        source = self.chain.source
        source.set_parameters(max_bandwidth=4 << 20, downtime_limit=0, max_postcopy_bandwidth=push)
        source.qmp("migrate", uri=uri)
        source.qmp("migrate-start-postcopy")

    def leave(self, source: Emulator) -> None:
        if source.migration()["status"].startswith("postcopy"):
            with pytest.raises(ExecuteError, match="cannot cancel"):
                source.qmp("migrate_cancel")
            source.qmp("migrate-pause")
        else:
            source.qmp("migrate_cancel")
        source.wait_migration(PAUSED, *FINAL)

    def leave_there(self, destination: Emulator) -> None:
        status = destination.migration()["status"]
        if status.startswith("postcopy") and status != PAUSED:
            try:
                destination.qmp("migrate-pause")
            except ExecuteError:
                # it was over between the question and the command
                assert destination.migration()["status"] in (PAUSED, *FINAL)
            destination.wait_migration(PAUSED, *FINAL)

    def settle(self, action: str) -> str:
        source, destination = self.chain.source, self.chain.destination
        if action == "kill here":
            return self._source_is_dead(destination)
        status = self.over(PAUSED)["status"]
        if action == "kill there":
            self.chain.drop_destination()
            if status in ("failed", "cancelled"):
                source.wait_status("running", timeout=20)
                self.chain.beats()
                return "here"
            return self._lost("lost there" if status == PAUSED else "there, then lost")
        if status == "completed":
            return self.goes_there()
        if status != PAUSED:
            return self.stays_here()
        assert source.status() == "finish-migrate"
        with pytest.raises(ExecuteError):
            source.qmp("cont")  # it has given its guest away
        if destination.wait_migration(PAUSED, *FINAL)["status"] == "completed":
            return "the last word lost, " + self.goes_there()
        return self.recovered()

    def recovered(self) -> str:
        """Both are paused: it goes on, over a new connection, and to its end."""
        source, destination = self.chain.source, self.chain.destination
        destination.qmp("migrate-recover", uri="tcp:127.0.0.1:0")
        port = destination.migration()["socket-address"][0]["port"]
        source.set_parameters(max_postcopy_bandwidth=0)
        source.qmp("migrate", uri=f"tcp:127.0.0.1:{port}", resume=True)
        assert source.wait_migration()["status"] == "completed"
        return "recovered, " + self.goes_there()

    def _source_is_dead(self, destination: Emulator) -> str:
        if destination.wait_migration(PAUSED, *FINAL)["status"] == "completed":
            return self.goes_there()
        assert "FAULT" not in destination.console()
        self.chain.drop_destination()
        return self._lost("lost here")

    def _lost(self, verdict: str) -> str:
        """Half of the guest is gone: nobody pretends to have it whole."""
        self.chain.lose_guest()
        return verdict


class Recovery(Postcopy):
    """The migration is paused, and it is the new connection that is disturbed."""

    PUSH = 1 << 20

    def __init__(self, chain: Chain) -> None:
        super().__init__(chain)
        self._paused = False

    def begin(self, place: Place | None) -> Crossing:
        source, destination = self.chain.source, self.chain.destination
        if not self._paused:
            self._pause()
            source, destination = self.chain.source, self.chain.destination
        slow = place is not None and place.label not in ("END", "EOF") and not place.label.startswith("SHUT")
        source.set_parameters(max_postcopy_bandwidth=self.PUSH if slow else 0)
        destination.qmp("migrate-recover", uri="tcp:127.0.0.1:0")
        crossing = self.crossing(int(destination.migration()["socket-address"][0]["port"]), place, recovery=True)
        source.qmp("migrate", uri=crossing.uri, resume=True)
        self.until(crossing, PAUSED, *FINAL)
        return crossing

    def _pause(self) -> None:
        port = self.chain.listen()
        source, destination = self.chain.source, self.chain.destination
        source.set_capability("pause-before-switchover", False)
        self.start(f"tcp:127.0.0.1:{port}", self.PUSH)
        for emulator in (source, destination):
            emulator.wait_migration("postcopy-active")
        source.qmp("migrate-pause")
        for emulator in (source, destination):
            emulator.wait_migration(PAUSED)
        self._paused = True

    def leave(self, source: Emulator) -> None:
        if source.migration()["status"] == "postcopy-recover-setup":
            source.qmp("migrate_cancel")
            source.wait_migration(PAUSED)
        else:
            super().leave(source)

    def leave_there(self, destination: Emulator) -> None:
        if destination.migration()["status"] == PAUSED:
            destination.qmp("migrate-recover", uri="tcp:127.0.0.1:0")  # withdraws the one that stalls
        else:
            super().leave_there(destination)

    def settle(self, action: str) -> str:
        source, destination = self.chain.source, self.chain.destination
        if action in ("kill here", "kill there"):
            self._paused = False
            return super().settle(action)
        if action == "go on":
            source.set_parameters(max_postcopy_bandwidth=0)
        if source.wait_migration(PAUSED, *FINAL)["status"] == PAUSED:
            assert source.status() == "finish-migrate"
            if destination.wait_migration(PAUSED, *FINAL)["status"] == PAUSED:
                return "still paused"
        self._paused = False
        return super().settle(action)

    def end(self) -> str:
        """The last recovery."""
        return self.recovered() if self._paused else "there"
