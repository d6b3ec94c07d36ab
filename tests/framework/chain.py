"""One guest and the emulators that it goes through: one has it, another waits for it.

When a migration fails, the guest must run on where it was and the other side must have none; when it succeeds, the
other side has it and is the source of the next attempt. In the end all consoles together must read as if there had been
one computer.
"""

from __future__ import annotations

from pathlib import Path

from e2kemu.process import Emulator
from tests.conftest import StartEmulator
from tests.framework.guests import check_ticks
from tests.framework.pairs import listen, options

SMALL = ("-M", "elbrus", "-cpu", "e8c", "-m", "32M")
TICKS = ("workload=ticks", "tick 2\n", "tick")
VERIFY = ("workload=verify start=16M end=28M seed=1", "ok\nV", "V")
"""Command line, what it prints when it works, what it prints again and again."""


class Chain:
    """The emulator with the guest, the one without, and what became of all that had it before."""

    def __init__(
        self,
        start: StartEmulator,
        guest: tuple[str, str, str],
        keys: Path | None = None,
        capabilities: tuple[str, ...] = (),
    ) -> None:
        self._start = start
        self._append, self._ready, self._beat = guest
        self.keys = keys
        self._capabilities = capabilities
        self._count = 0
        self._text = ""
        self.failures = 0
        self._waiting: Emulator | None = None
        self.source = self.new_guest()

    def new(self, *more: str) -> Emulator:
        self._count += 1
        objects: list[str] = []
        if self.keys is not None:
            ends = ("client", "server")
            objects = options(*(f"tls-creds-x509,id={end},dir={self.keys},endpoint={end}" for end in ends))
        return self._start(f"e{self._count}", *SMALL, *objects, *more)

    def new_guest(self) -> Emulator:
        """The guest, begun anew."""
        self._text = ""
        emulator = self.new("-append", self._append)
        emulator.wait_console(self._ready)
        return emulator

    @property
    def destination(self) -> Emulator:
        """Started when it is wanted."""
        if self._waiting is None:
            self._waiting = self.new("-incoming", "defer")
        return self._waiting

    def listen(self) -> int:
        """Prepare both ends; the port at which the destination waits."""
        for emulator in (self.source, self.destination):
            for name in self._capabilities:
                emulator.set_capability(name)
        if self.keys is not None:
            self.source.set_parameters(tls_creds="client")
            self.destination.set_parameters(tls_creds="server")
        return int(listen(self.destination, exit_on_error=False).rpartition(":")[2])

    def one_guest(self) -> None:
        """Whatever the outcome was: exactly one side runs the guest. A successful side becomes the next source."""
        info = self.source.wait_migration()
        there = self.destination.wait_migration()
        if info["status"] == "completed":
            assert there["status"] == "completed", there
            assert self.destination.wait_status("running", timeout=20)
            assert self.source.status() == "postmigrate"
            self.hand_over()
        else:
            self.failures += 1
            assert info["status"] in ("failed", "cancelled"), info
            assert "\n" not in info.get("error-desc", "")
            assert there["status"] == "failed", there
            assert self.source.wait_status("running", timeout=20)
            self.no_guest_there()
        self.beats()

    def no_guest_there(self) -> None:
        assert self.destination.status() == "inmigrate"
        assert self.destination.console() == ""

    def beats(self) -> None:
        """The guest works."""
        self.source.wait_console(self._beat, count=self.source.console().count(self._beat) + 1)

    def hand_over(self) -> None:
        """The destination has the guest now."""
        self._text += self.source.console()
        assert "Traceback" not in self.source.stderr()
        self.source.close()
        one_line_for_each_failure(self.destination)
        self.source, self._waiting = self.destination, None

    def lose_destination(self) -> None:
        """It has ended, or is to: another one takes its place. It never had the guest."""
        assert self.destination.console() == ""
        self.drop_destination()

    def drop_destination(self) -> None:
        """It has ended, with whatever it had; another one takes its place."""
        assert "Traceback" not in self.destination.stderr()
        self.destination.close()
        self._waiting = None

    def lose_guest(self) -> None:
        """Its emulator was killed, and nobody else has it: begin anew."""
        self.source.close()
        self.source = self.new_guest()

    def check(self) -> None:
        """The guest was one and the same all the time."""
        text = self._text + self.source.console()
        assert "FAULT" not in text
        if self._beat == "tick":
            assert check_ticks(text) > 3
        assert "Traceback" not in self.source.stderr()


def one_line_for_each_failure(emulator: Emulator) -> int:
    """Whatever it complains of takes one line; returns how many."""
    lines = emulator.stderr().splitlines()
    for line in lines:
        assert line.startswith(("e2kemu: load of migration failed: ", "e2kemu: postcopy paused: ")), line
    return len(lines)
