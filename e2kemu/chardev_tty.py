"""Terminals: ``stdio`` and ``pty``.

A terminal on stdin is put into raw input mode and restored on every exit (``close``, and ``atexit`` as the
last resort). With ``signals`` Ctrl-C still raises SIGINT; without, it is a byte for the guest.
Standard output is written through a description of its own where the system gives one: O_NONBLOCK on the
inherited one would also hit the shell and whoever else holds it.
"""

from __future__ import annotations

import atexit
import os
import signal
import stat
import termios
import threading
import tty

from e2kemu.chardev import CHUNK, Chardev, Event, OutputQueue, Receive, Sink, cautious_sink
from e2kemu.errors import OptionError
from e2kemu.loop import MainLoop, TimerHandle

PTY_POLL = 0.2
"""Seconds between looks whether somebody has opened a pty nobody had open."""


class RawTerminal:
    """Holds a terminal in raw input mode until ``restore``."""

    def __init__(self, fd: int, *, signals: bool) -> None:
        self._fd = fd
        self._signals = signals
        self._saved: list[object] | None = termios.tcgetattr(fd)
        atexit.register(self.restore)
        self.enter()

    def enter(self) -> None:
        """Set the mode; again after the process was suspended and continued."""
        if self._saved is None:
            return
        mode = termios.tcgetattr(self._fd)
        mode[0] &= ~(
            termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP
            | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
        )  # fmt: skip
        mode[1] |= termios.OPOST  # the shell's and our own messages still get their carriage returns
        mode[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.IEXTEN)
        if not self._signals:
            mode[3] &= ~termios.ISIG
        mode[2] = (mode[2] & ~(termios.CSIZE | termios.PARENB)) | termios.CS8
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
        self._set(termios.TCSANOW, mode)

    def restore(self) -> None:
        """Put the terminal back; idempotent."""
        if self._saved is not None:
            self._set(termios.TCSADRAIN, self._saved)
            self._saved = None
        atexit.unregister(self.restore)

    def _set(self, when: int, mode: list[object]) -> None:
        # A background process that sets the mode is stopped by SIGTTOU; ours must never be.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTTOU])
        try:
            termios.tcsetattr(self._fd, when, mode)  # type: ignore[arg-type]
        except termios.error:
            pass  # the terminal is gone, there is nothing to put back
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _own_description(fd: int) -> tuple[int, Sink, bool]:
    """A descriptor and sink for writing to what ``fd`` is, and whether the descriptor is ours to close."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        try:
            own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            return fd, cautious_sink(fd), False
        return own, lambda data: os.write(own, data), True
    if stat.S_ISREG(mode):
        return fd, lambda data: os.write(fd, data), False  # never waits, and keeps the shared offset
    return fd, cautious_sink(fd), False


class StdioChardev(Chardev):
    """``stdio``: input from descriptor 0, output to descriptor 1."""

    kind = "stdio"

    def __init__(self, label: str, loop: MainLoop, *, signals: bool) -> None:
        super().__init__(label)
        self._loop = loop
        self._closed = False
        self._terminal: RawTerminal | None = None
        if os.isatty(0):
            self._terminal = RawTerminal(0, signals=signals)
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGCONT, lambda signum, frame: self._continue())
        self._out, sink, self._own = _own_description(1)
        self._queue = OutputQueue(loop, self._out, sink)
        self._reading = False

    @property
    def is_terminal(self) -> bool:
        return self._terminal is not None

    def open_frontend(self, receive: Receive, event: Event | None = None) -> None:
        super().open_frontend(receive, event)
        self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        self.notify("opened")
        if not self._closed:
            self._reading = True
            self._loop.add_reader(0, self._readable)

    def write(self, data: bytes) -> None:
        self._queue.write(data)

    def flush(self, patience: float = 5.0) -> None:
        self._queue.flush(patience)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self.flush(10.0)
        self._queue.discard()
        if self._reading:
            self._loop.remove_reader(0)
        if self._terminal is not None:
            self._terminal.restore()
        if self._own:
            os.close(self._out)

    def _continue(self) -> None:
        if self._terminal is not None and not self._closed:
            self._terminal.enter()

    def _readable(self) -> None:
        try:
            data = os.read(0, CHUNK)
        except OSError:
            data = b""
        if data:
            self.input(data)
        else:
            # End of input: the machine runs on, as it does under QEMU.
            self._loop.remove_reader(0)
            self._reading = False
            self.notify("closed")


class PtyChardev(Chardev):
    """``pty``: a new pseudo-terminal; its name is printed and shown by ``info chardev``.

    While nobody has the other side open, output is discarded and the loop looks for a peer now and then
    (a hung-up pty is always "ready": watching it would spin).
    """

    kind = "pty"

    def __init__(self, label: str, loop: MainLoop) -> None:
        super().__init__(label)
        self._loop = loop
        try:
            self._master, slave = os.openpty()
        except OSError as error:
            raise OptionError(f"Failed to create PTY: {error.strerror}") from error
        self.path = os.ttyname(slave)
        tty.setraw(slave)
        os.close(slave)
        os.set_blocking(self._master, False)
        os.set_inheritable(self._master, False)
        self._queue: OutputQueue | None = None
        self._timer: TimerHandle | None = None
        self._closed = False
        print(f"char device redirected to {self.path} (label {label})", flush=True)

    def open_frontend(self, receive: Receive, event: Event | None = None) -> None:
        super().open_frontend(receive, event)
        self._loop.call_soon(self._look)  # whoever is there already has waited for its user

    @property
    def is_terminal(self) -> bool:
        return True

    @property
    def connected(self) -> bool:
        """Somebody has the other side open."""
        return self._queue is not None

    def write(self, data: bytes) -> None:
        queue = self._queue
        if queue is not None:
            queue.write(data)

    def flush(self, patience: float = 2.0) -> None:
        if self._queue is not None:
            self._queue.flush(patience)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self.flush()
        self._disconnect(look_again=False)
        os.close(self._master)

    def describe(self) -> str:
        return f"pty:{self.path}"

    def _look(self) -> None:
        """Has somebody opened the other side? EIO from a non-blocking read says no."""
        if self._closed or self._queue is not None:
            return
        try:
            data = os.read(self._master, CHUNK)
        except BlockingIOError:
            data = b""
        except OSError:
            self._timer = self._loop.call_later(PTY_POLL, self._look)
            return
        self._queue = OutputQueue(self._loop, self._master, lambda out: os.write(self._master, out))
        self._loop.add_reader(self._master, self._readable)
        self.notify("opened")
        if data:
            self.input(data)

    def _readable(self) -> None:
        try:
            data = os.read(self._master, CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.input(data)
        else:
            self._disconnect(look_again=True)

    def _disconnect(self, *, look_again: bool) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._queue is not None:
            self._queue.discard()
            self._queue = None
            self._loop.remove_reader(self._master)
            self.notify("closed")
        if look_again:
            self._timer = self._loop.call_later(PTY_POLL, self._look)
