"""The ``exec:`` transport: a command's standard input gets the stream, what it prints is the incoming stream.

The command's stderr is passed on to ours as it comes, and its last line is kept for the error message. One
thread per child waits for its end, so that no child stays a zombie, whatever becomes of the channel.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Sequence

from e2kemu.errors import ChannelError
from e2kemu.migration.address import ExecAddress
from e2kemu.migration.channel import Buffer, reason
from e2kemu.migration.channel_fd import FdChannel

GRACE_SECONDS = 1.0
"""From losing its pipes to SIGTERM, and from that to SIGKILL: what a command has to end by itself."""

STDERR_SECONDS = 0.5
"""After the child's end: a grandchild may hold its stderr open for ever."""

STDERR_KEPT = 4096
"""Bytes of stderr kept for the error message, which shows the last line."""


class Child:
    """A running command with a thread that reaps it."""

    def __init__(self, args: Sequence[str]) -> None:
        """Start ``args``. Raises OSError."""
        self._process = subprocess.Popen(
            args,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            process_group=0,  # a pipeline is put down as a whole, not only the shell that waits for it
        )
        self._tail = b""
        self._done = threading.Event()
        assert self._process.stderr is not None
        self._stderr_fd = os.dup(self._process.stderr.fileno())
        self._process.stderr.close()
        self._drain = threading.Thread(target=self._read_stderr, name="exec-stderr", daemon=True)
        self._drain.start()
        threading.Thread(target=self._reap, name="exec-reap", daemon=True).start()

    def take_pipes(self) -> tuple[int, int]:
        """(our end of its stdout, our end of its stdin), the caller's to close."""
        stdout, stdin = self._process.stdout, self._process.stdin
        assert stdout is not None
        assert stdin is not None
        fds = os.dup(stdout.fileno()), os.dup(stdin.fileno())
        stdout.close()
        stdin.close()
        return fds

    def _read_stderr(self) -> None:
        try:
            while data := os.read(self._stderr_fd, STDERR_KEPT):
                self._tail = (self._tail + data)[-STDERR_KEPT:]
                try:
                    os.write(2, data)
                except OSError:
                    pass  # our own stderr is gone; the child must not stall for it
        finally:
            os.close(self._stderr_fd)

    def _reap(self) -> None:
        self._process.wait()
        self._drain.join(STDERR_SECONDS)
        self._done.set()

    def wait(self, seconds: float) -> bool:
        """Whether it has ended within ``seconds``."""
        return self._done.wait(seconds)

    def kill(self, number: signal.Signals) -> None:
        """Send a signal to the command and what it has started."""
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            pass  # it has ended at this moment

    def failure(self) -> str | None:
        """What went wrong with a child that has ended: "exited with status 3: last line of its stderr"."""
        status = self._process.returncode
        if not status:
            return None
        if status < 0:
            text = f"was killed by signal {-status} ({signal.strsignal(-status)})"
        else:
            text = f"exited with status {status}"
        lines = self._tail.decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"{text}: {last}" if last else text


class ExecChannel(FdChannel):
    """The pipes to and from a command."""

    def __init__(self, address: ExecAddress) -> None:
        """Start the command. Raises ChannelError when that is not possible."""
        try:
            self._child = Child(address.args)
        except OSError as error:
            raise ChannelError(f"Unable to run {address}: {reason(error)}") from error
        read_fd, write_fd = self._child.take_pipes()
        super().__init__(str(address), read_fd=read_fd, write_fd=write_fd)

    def readinto(self, view: memoryview) -> int:
        size = super().readinto(view)
        if size == 0 and self._child.wait(GRACE_SECONDS):
            self._raise_failure()
        return size

    def writev(self, buffers: Sequence[Buffer]) -> None:
        try:
            super().writev(buffers)
        except ChannelError as error:
            if not self._down and not self._closed and self._child.wait(GRACE_SECONDS):
                self._raise_failure(error)
            raise

    def finish(self) -> None:
        self.close_writer()
        scratch = memoryview(bytearray(1 << 16))
        while self.readinto(scratch):  # a command that still prints must not stall for us
            pass
        while not self._child.wait(0.1):
            self._check_open("finish")
        self._raise_failure()

    def _raise_failure(self, cause: ChannelError | None = None) -> None:
        failure = self._child.failure()
        if failure:
            raise ChannelError(f"{self.name} {failure}") from cause

    def _release(self) -> None:
        super()._release()
        # Without its pipes a command ends by itself, as a rule. Nobody waits here for the others, except an
        # emulator that exits: this thread is no daemon.
        threading.Thread(target=self._put_down, name="exec-close").start()

    def _put_down(self) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._child.wait(GRACE_SECONDS):
                return
            self._child.kill(number)
