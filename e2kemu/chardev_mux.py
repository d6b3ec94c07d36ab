"""Several frontends on one chardev, told apart by an escape character (Ctrl-A unless ``-echr`` says else).

Each user takes a port by ``Mux.port()``; input goes to the port that has the focus, output of all goes out
(a monitor holds its own back while it has no focus: it gets "mux-in" and "mux-out"). After the escape
character: ``h`` help, ``x`` exit, ``s`` save disk data, ``t`` time stamps, ``b`` break, ``c`` next port, and
the escape character itself sends it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from e2kemu.chardev import Chardev, Event, Receive
from e2kemu.errors import OptionError

CTRL_A = 0x01

HELP = (
    ("h", "print this help"),
    ("x", "exit emulator"),
    ("s", "save disk data back to file (if -snapshot)"),
    ("t", "toggle console timestamps"),
    ("b", "send break (magic sysrq)"),
    ("c", "switch between console and monitor"),
)


class MuxPort(Chardev):
    """One frontend's view of a mux."""

    kind = "mux"

    def __init__(self, mux: Mux, label: str) -> None:
        super().__init__(label)
        self._mux = mux

    @property
    def focused(self) -> bool:
        """Input comes here."""
        return self._mux.focus is self

    @property
    def is_terminal(self) -> bool:
        return self._mux.is_terminal

    def write(self, data: bytes) -> None:
        self._mux.write(data)

    def flush(self, patience: float = 5.0) -> None:
        self._mux.flush(patience)

    def take_fds(self) -> list[int]:
        return self._mux.take_fds()

    def describe(self) -> str:
        return self._mux.describe()


class Mux(Chardev):
    """See the module. As a Chardev it stands for its first port."""

    kind = "mux"

    def __init__(self, base: Chardev, label: str) -> None:
        super().__init__(label)
        self.base = base
        self.escape = CTRL_A
        self.on_exit: Callable[[], object] = lambda: None
        """Called for the escape sequence "x"."""
        self.ports: list[MuxPort] = []
        self.focus: MuxPort | None = None
        self._escaped = False
        self._lock = threading.Lock()
        self._stamps = False
        self._stamp_start = 0.0
        self._line_start = True
        base.open_frontend(self._from_base, self._base_event)

    @property
    def is_terminal(self) -> bool:
        return self.base.is_terminal

    def port(self, label: str) -> MuxPort:
        """A new port; the first has the focus."""
        port = MuxPort(self, label)
        self.ports.append(port)
        if self.focus is None:
            self.focus = port
        return port

    def open_frontend(self, receive: Receive, event: Event | None = None) -> None:
        self.port(self.label).open_frontend(receive, event)

    @property
    def has_frontend(self) -> bool:
        return bool(self.ports)

    def write(self, data: bytes) -> None:
        with self._lock:  # stamps and data of two threads must not mix
            self.base.write(self._stamped(data) if self._stamps else data)

    def flush(self, patience: float = 5.0) -> None:
        self.base.flush(patience)

    def close(self) -> None:
        self.base.close()

    def take_fds(self) -> list[int]:
        return self.base.take_fds()

    def describe(self) -> str:
        return "mux"

    def set_focus(self, port: MuxPort) -> None:
        """Give the input to ``port``."""
        if port is self.focus:
            return
        if self.focus is not None:
            self.focus.notify("mux-out")
        self.focus = port
        port.notify("mux-in")

    def _from_base(self, data: bytes) -> None:
        plain = bytearray()
        for byte in data:
            if self._escaped:
                self._escaped = False
                if byte == self.escape:
                    plain.append(byte)
                    continue
                # What came before belongs to the port that had the focus then.
                self._to_focus(plain)
                plain.clear()
                self._command(chr(byte))
            elif byte == self.escape:
                self._escaped = True
            else:
                plain.append(byte)
        self._to_focus(plain)

    def _to_focus(self, data: bytearray) -> None:
        if data and self.focus is not None:
            self.focus.input(bytes(data))

    def _command(self, key: str) -> None:
        if key in ("h", "?"):
            self.base.write(self._help().encode())
        elif key == "x":
            self.base.write(b"e2kemu: Terminated\r\n")
            self.on_exit()
        elif key == "t":
            self._stamps = not self._stamps
            self._stamp_start = time.monotonic()
            self._line_start = False
        elif key == "b" and self.focus is not None:
            self.focus.notify("break")
        elif key == "c" and self.focus is not None:
            self.set_focus(self.ports[(self.ports.index(self.focus) + 1) % len(self.ports)])
        # "s" has nothing to do: there is no -snapshot whose changes could be written back.

    def _help(self) -> str:
        name = f"C-{chr(self.escape + 96)}"
        rows = [f"{name} {key:4s} {text}" for key, text in HELP]
        return "\r\n" + "\r\n".join([*rows, f"{name} {name}  sends {name}"]) + "\r\n"

    def _stamped(self, data: bytes) -> bytes:
        """``data`` with the time since stamps were switched on before each line."""
        result = bytearray()
        for byte in data:
            if self._line_start:
                total = int((time.monotonic() - self._stamp_start) * 1000)
                seconds, milliseconds = divmod(total, 1000)
                clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
                result += f"[{clock}.{milliseconds:03d}] ".encode()
                self._line_start = False
            result.append(byte)
            if byte == 0x0A:
                self._line_start = True
        return bytes(result)

    def _base_event(self, event: str) -> None:
        for port in self.ports:
            port.notify(event)


def parse_echr(text: str) -> int:
    """The escape character of ``-echr``: its number (``1``, ``0x14``), 0 to 31."""
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if not 0 <= value <= 31:
        raise OptionError("expects the number of a control character, 0 to 31")
    return value
