"""An e2kemu process driven from outside: started, asked by QMP, read on its console, ended.

The demo and the whole-process tests use it, and so may anybody who scripts several emulators. Needs
the ``qemu.qmp`` package (extra ``demo``). One object is used by one thread.

Files of an emulator called NAME in its directory: ``NAME.qmp`` (socket), ``NAME.console`` (what the
guest printed), ``NAME.stderr``.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from qemu.qmp.legacy import QEMUMonitorProtocol
from qemu.qmp.protocol import StateError as NotConnected
from qemu.qmp.qmp_client import ExecInterruptedError

T = TypeVar("T")

FINAL = ("completed", "failed", "cancelled", "none")
"""States of query-migrate in which no migration is under way."""


class EmulatorEnded(RuntimeError):
    """The process has ended where it was needed alive; ``status`` is its exit status."""

    def __init__(self, name: str, status: int, stderr: str) -> None:
        super().__init__(f"{name} exited with {status}: {stderr}")
        self.status = status


class Emulator:
    """One emulator process. ``args`` are further options of the ``e2kemu`` command."""

    popen: ClassVar[Callable[..., subprocess.Popen[Any]]] = subprocess.Popen
    """What starts it; takes the arguments of ``subprocess.Popen``."""

    def __init__(self, name: str, directory: Path, *args: str, pass_fds: tuple[int, ...] = ()) -> None:
        self.name = name
        self.directory = directory
        self.console_path = directory / f"{name}.console"
        self.stderr_path = directory / f"{name}.stderr"
        self._socket = directory / f"{name}.qmp"
        self.command = [
            sys.executable, "-m", "e2kemu", "-display", "none", "-name", name,
            "-serial", f"file:{self.console_path}", "-monitor", "none",
            "-qmp", f"unix:{self._socket},server=on,wait=off", *args,
        ]  # fmt: skip
        with open(self.stderr_path, "wb") as stderr:
            self.process = self.popen(
                self.command, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, pass_fds=pass_fds
            )
        self._qmp: QEMUMonitorProtocol | None = None

    def __enter__(self) -> Emulator:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def connect(self, timeout: float = 30.0) -> None:
        """Connect to the QMP socket. Raises EmulatorEnded, or RuntimeError when the process does not listen."""
        deadline = time.monotonic() + timeout
        while self._qmp is None:
            self._check_alive()
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} does not answer on {self._socket}")
            if not self._socket.exists():
                time.sleep(0.02)
                continue
            client = QEMUMonitorProtocol(str(self._socket))
            try:
                client.connect()
            except Exception:  # the socket file may exist before it listens
                time.sleep(0.05)
                continue
            self._qmp = client

    @property
    def monitor(self) -> QEMUMonitorProtocol:
        """The QMP client, connected at first use."""
        if self._qmp is None:
            self.connect()
        assert self._qmp is not None
        return self._qmp

    def qmp(self, command: str, **arguments: object) -> Any:
        """Execute a QMP command; ``_`` in its argument names stands for ``-``.

        Raises the ``ExecuteError`` of qemu.qmp on an error reply, EmulatorEnded when the process ends or has ended.
        """
        named = {key.replace("_", "-"): value for key, value in arguments.items()}
        try:
            return self.monitor.cmd(command, **named)
        except (ExecInterruptedError, NotConnected):
            # The connection goes a moment before the process. When that stays alive, it is the connection that broke.
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
            self._check_alive()
            raise

    def _check_alive(self) -> None:
        status = self.process.poll()
        if status is not None:
            raise EmulatorEnded(self.name, status, self.stderr())

    def hmp(self, line: str) -> str:
        """Execute a line of the human monitor and return what it prints."""
        return str(self.qmp("human-monitor-command", command_line=line))

    def set_parameters(self, **parameters: object) -> None:
        """``migrate-set-parameters``, names with ``_`` for ``-``."""
        self.qmp("migrate-set-parameters", **parameters)

    def set_capability(self, name: str, on: bool = True) -> None:
        """Switch a migration capability."""
        self.qmp("migrate-set-capabilities", capabilities=[{"capability": name, "state": on}])

    def status(self) -> str:
        """The run state."""
        return str(self.qmp("query-status")["status"])

    def migration(self) -> dict[str, Any]:
        """``query-migrate``."""
        return dict(self.qmp("query-migrate"))

    def events(self) -> list[str]:
        """Names of the events received since the last call."""
        return [str(event["event"]) for event in self.monitor.get_events()]

    def console(self) -> str:
        """All that the guest has printed in this emulator."""
        try:
            return self.console_path.read_text("ascii", "replace")
        except FileNotFoundError:
            return ""

    def stderr(self) -> str:
        """All that the emulator has printed."""
        return self.stderr_path.read_text("utf-8", "replace")

    def wait_console(self, text: str, *, count: int = 1, timeout: float = 60.0) -> str:
        """Wait until the guest has printed ``text`` ``count`` times; returns the console."""
        return self.wait_for(self.console, lambda seen: seen.count(text) >= count, timeout, repr(text))

    def wait_status(self, *states: str, timeout: float = 60.0) -> str:
        """Wait for one of the run states."""
        return self.wait_for(self.status, lambda state: state in states, timeout, f"status {states}")

    def wait_migration(self, *states: str, timeout: float = 60.0) -> dict[str, Any]:
        """Wait for one of the migration states (default: until it is over); returns query-migrate."""
        wanted = states or FINAL
        return self.wait_for(self.migration, lambda info: info.get("status", "none") in wanted, timeout,
                          f"migration state {wanted}")  # fmt: skip

    def wait_exit(self, timeout: float = 30.0) -> int:
        """Wait for the process to end; returns its exit status."""
        return self.process.wait(timeout)

    def wait_for(self, ask: Callable[[], T], enough: Callable[[T], bool], timeout: float, what: str) -> T:
        """Ask until it is enough. Raises TimeoutError, or EmulatorEnded."""
        deadline = time.monotonic() + timeout
        while not enough(seen := ask()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name}: waited {timeout} s for {what}, saw {str(seen)[-400:]!r}")
            self._check_alive()
            time.sleep(0.02)
        return seen

    def memory(self, start: int, size: int) -> bytes:
        """Guest-physical memory, by ``pmemsave``."""
        path = self.directory / f"{self.name}.memory"
        self.qmp("pmemsave", val=start, size=size, filename=str(path))
        data = path.read_bytes()
        path.unlink()
        return data

    def close(self) -> None:
        """End the process (quit, then kill) and the monitor connection."""
        if self._qmp is not None:
            try:
                if self.process.poll() is None:
                    self._qmp.cmd("quit")
            except Exception:  # it is going away: any answer will do
                pass
            try:
                self._qmp.close()
            except Exception:
                pass
            self._qmp = None
        else:
            self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
