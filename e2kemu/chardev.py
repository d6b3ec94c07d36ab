"""Character devices: everything between a byte the guest (or a monitor) writes and the outside world.

A *chardev* is the outside (a terminal, a file, a socket); a *frontend* is who uses it (a serial port, a
monitor): it calls ``open_frontend`` with the functions that take bytes and events, and ``write``. Only this
package touches terminals. ``ChardevSet.open`` makes one from QEMU's short form::

    null   stdio   pty   file:PATH   mon:stdio
    unix:PATH[,server=on|off][,wait=on|off]      tcp:HOST:PORT[,server=on|off][,wait=on|off]

Output goes through an ``OutputQueue``: bytes leave at once when they can, in order, from whatever thread
writes; what the peer is too slow for is queued and the main loop sends it. ``close`` flushes.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable

from e2kemu.errors import OptionError
from e2kemu.loop import MainLoop
from e2kemu.options import Options, escape

Receive = Callable[[bytes], None]
Event = Callable[[str], None]
"""Takes "opened", "closed" (the peer came, went), "break", "mux-in", "mux-out" (focus of a mux)."""

Sink = Callable[[bytes], int]
"""Writes some of the data and returns how much; BlockingIOError: nothing now; OSError: never again."""

HIGH_WATER = 1 << 20
"""Bytes queued for a slow peer beyond which writers outside the main loop are slowed down."""
THROTTLE = 0.02
"""Seconds one ``write`` waits at most for a peer that is ``HIGH_WATER`` behind."""
CHUNK = 4096
"""Bytes per read, and per write to a descriptor that may block (at most PIPE_BUF)."""


class Chardev:
    """Base: a device without an outside. ``write`` discards."""

    kind = "null"

    def __init__(self, label: str) -> None:
        self.label = label
        self.answers = False
        """Output answers input: a peer that does not read shall not be heard until it does (monitors)."""
        self._receive: Receive | None = None
        self._event: Event | None = None

    @property
    def has_frontend(self) -> bool:
        """Somebody uses it."""
        return self._receive is not None

    @property
    def is_terminal(self) -> bool:
        """A person sits there and wants echo and line editing."""
        return False

    def open_frontend(self, receive: Receive, event: Event | None = None) -> None:
        """Attach the one user: ``receive`` gets input, ``event`` gets the events; both in the loop.

        Raises OptionError when there is one already.
        """
        if self._receive is not None:
            raise OptionError(f"Device '{self.label}' is in use")
        self._receive = receive
        self._event = event

    def write(self, data: bytes) -> None:
        """Send ``data``. From any thread; never blocks long; nobody there: discarded."""

    def flush(self, patience: float = 5.0) -> None:
        """Wait until all written bytes have left, as long as some leave every ``patience`` seconds."""

    def close(self) -> None:
        """Flush and release everything; idempotent."""

    def take_fds(self) -> list[int]:
        """Descriptors that came with the input (SCM_RIGHTS), now the caller's."""
        return []

    def describe(self) -> str:
        """The file name of ``info chardev``."""
        return self.kind

    def input(self, data: bytes) -> None:
        """Hand input to the frontend (dropped without one)."""
        if self._receive is not None:
            self._receive(data)

    def notify(self, event: str) -> None:
        """Hand an event to the frontend."""
        if self._event is not None:
            self._event(event)


class OutputQueue:
    """Ordered output to one descriptor from any thread, without waiting for a slow reader.

    ``failed`` is called (in the writing thread) when the descriptor is dead; output is discarded then.
    """

    def __init__(self, loop: MainLoop, fd: int, sink: Sink, failed: Callable[[], None] | None = None) -> None:
        self._loop = loop
        self._fd = fd
        self._sink = sink
        self._failed = failed
        self._lock = threading.Lock()
        self._pending = bytearray()
        self._watching = False
        self._dead = False

    @property
    def queued(self) -> int:
        """Bytes that have not left yet."""
        return len(self._pending)

    def write(self, data: bytes) -> None:
        """Send or queue ``data``."""
        with self._lock:
            if self._dead:
                return
            self._pending += data
            self._push()
            if len(self._pending) > HIGH_WATER and not self._loop.in_loop():
                self._wait(THROTTLE)
                self._push()
            self._watch()

    def flush(self, patience: float) -> None:
        """Send what is queued; give up when nothing leaves for ``patience`` seconds."""
        deadline = time.monotonic() + patience
        with self._lock:
            while self._pending and not self._dead and time.monotonic() < deadline:
                before = len(self._pending)
                self._wait(min(patience, 0.1))
                self._push()
                if len(self._pending) < before:
                    deadline = time.monotonic() + patience

    def discard(self) -> None:
        """Forget the queue and take no more; the descriptor may be closed afterwards."""
        with self._lock:
            self._dead = True
            self._pending.clear()
            if self._watching:
                self._watching = False
                self._loop.remove_writer(self._fd)

    def _push(self) -> None:
        """Write as much as the descriptor takes. The lock is held."""
        while self._pending and not self._dead:
            try:
                count = self._sink(bytes(self._pending[: 16 * CHUNK]))
            except BlockingIOError:
                return
            except OSError:
                self._dead = True
                self._pending.clear()
                if self._failed is not None:
                    self._failed()
                return
            del self._pending[:count]

    def _wait(self, seconds: float) -> None:
        poller = select.poll()
        poller.register(self._fd, select.POLLOUT)
        poller.poll(int(seconds * 1000))

    def _watch(self) -> None:
        """Let the loop send the rest. The lock is held."""
        if bool(self._pending) != self._watching:
            self._watching = bool(self._pending)
            if self._watching:
                self._loop.add_writer(self._fd, self._writable)
            else:
                self._loop.remove_writer(self._fd)

    def _writable(self) -> None:
        with self._lock:
            self._push()
            self._watch()


def cautious_sink(fd: int) -> Sink:
    """Writes to a descriptor whose O_NONBLOCK is not ours to set: asks first, small pieces."""
    poller = select.poll()
    poller.register(fd, select.POLLOUT)

    def write(data: bytes) -> int:
        if not poller.poll(0):
            raise BlockingIOError
        return os.write(fd, data[:512])

    return write


class NullChardev(Chardev):
    """``null``: output vanishes, input never comes."""


class FileChardev(Chardev):
    """``file:PATH``: output goes to a file (made or cut to zero length); no input."""

    kind = "file"

    def __init__(self, label: str, path: str) -> None:
        super().__init__(label)
        self.path = path
        self._lock = threading.Lock()
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise OptionError(f"Could not open '{path}': {error.strerror}") from error

    def write(self, data: bytes) -> None:
        with self._lock:
            while data and self._fd >= 0:
                try:
                    data = data[os.write(self._fd, data) :]
                except OSError:
                    return  # disk full: the guest goes on, as with a real printer out of paper

    def close(self) -> None:
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def describe(self) -> str:
        return f"file:{self.path}"


class ChardevSet:
    """The chardevs of one emulator, by label; sees to it that stdio has one user."""

    def __init__(self, loop: MainLoop) -> None:
        self.loop = loop
        self.devices: dict[str, Chardev] = {}
        self.stdio_signals = True
        """Whether Ctrl-C on a terminal kills the emulator under plain ``stdio``; never under a mux."""
        self.stdio_refusal = ""
        """Why nobody may use ``stdio``; empty: it is free. Its first user makes it taken."""

    def frontend(self, spec: str, label: str) -> Chardev:
        """What a serial port or monitor asked for by ``spec`` shall use. Raises OptionError.

        ``chardev:ID`` is one that ``add`` made; anything else is opened under ``label``. Of a mux it is
        the next port.
        """
        if spec.startswith("chardev:"):
            device = self.find(spec.removeprefix("chardev:"))
        else:
            device = self.open(spec, label)
        return self.port(device, label)

    def find(self, label: str) -> Chardev:
        """The device called ``label``. Raises OptionError when there is none."""
        if label not in self.devices:
            raise OptionError(f'chardev "{label}" not found')
        return self.devices[label]

    @staticmethod
    def port(device: Chardev, label: str) -> Chardev:
        """The device itself, or the next port of a mux."""
        from e2kemu.chardev_mux import Mux

        return device.port(label) if isinstance(device, Mux) else device

    def open(self, spec: str, label: str) -> Chardev:
        """Make a chardev from the short form and keep it. Raises OptionError."""
        mux = spec.startswith("mon:")
        kind, _, rest = (spec[4:] if mux else spec).partition(":")
        implied = "path" if kind == "file" else "address"
        return self._keep(label, kind, Options(rest, implied), mux=mux)

    def add(self, text: str) -> Chardev:
        """Make a chardev from the long form of ``-chardev`` and keep it. Raises OptionError."""
        options = Options(text, implied="backend")
        kind = options.require("backend")
        label = options.require("id")
        mux = options.get_bool("mux", False)
        if kind == "socket":
            path = options.get("path")
            host, port = options.get("host"), options.get("port")
            if (path is None) == (port is None):
                raise OptionError("chardev: socket: no host/path given or both")
            kind = "unix" if path is not None else "tcp"
            host = f"[{host}]" if host and ":" in host else host or ""
            address = path if path is not None else f"{host}:{port}"
            rest = "".join(f",{key}={escape(value)}" for key, value in options.rest().items())
            options = Options(escape(address) + rest, implied="address")
        return self._keep(label, kind, options, mux=mux)

    def close(self) -> None:
        """Flush and close all."""
        for device in self.devices.values():
            device.close()

    def _keep(self, label: str, kind: str, options: Options, *, mux: bool) -> Chardev:
        from e2kemu.chardev_mux import Mux

        if label in self.devices:
            raise OptionError(f"Duplicate ID '{label}' for chardev")
        if kind == "stdio":
            if self.stdio_refusal:
                raise OptionError(self.stdio_refusal)
            self.stdio_refusal = "cannot use stdio by multiple character devices"
        base = _make(kind, options, label, self.loop, signals=self.stdio_signals and not mux)
        self.devices[label] = Mux(base, label) if mux else base
        return self.devices[label]


def _make(kind: str, options: Options, label: str, loop: MainLoop, *, signals: bool) -> Chardev:
    # Imported here: the subclasses build on this module.
    from e2kemu import chardev_socket, chardev_tty

    if kind in ("unix", "tcp"):
        return chardev_socket.open_socket(kind, options, label, loop)
    if kind == "stdio":
        signals = options.get_bool("signal", signals)
    path = options.require("path") if kind == "file" else ""
    for known in ("backend", "id", "mux"):
        options.get(known)
    options.finish()
    if kind == "null":
        return NullChardev(label)
    if kind == "file":
        return FileChardev(label, path)
    if kind == "pty":
        return chardev_tty.PtyChardev(label, loop)
    if kind == "stdio":
        return chardev_tty.StdioChardev(label, loop, signals=signals)
    raise OptionError(f"'{kind}' is not a valid char driver name")
