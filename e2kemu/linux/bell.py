"""What ends a wait of the vCPU thread: a pipe to itself."""

from __future__ import annotations

import os


class Bell:
    """``receive`` can be read once somebody has rung; poll it beside what else is waited for."""

    def __init__(self) -> None:
        self.receive, self._send = os.pipe()
        os.set_blocking(self.receive, False)
        os.set_blocking(self._send, False)

    @property
    def descriptors(self) -> tuple[int, int]:
        """Both ends."""
        return self.receive, self._send

    def ring(self) -> None:
        """From any thread."""
        try:
            os.write(self._send, b"w")
        except BlockingIOError:
            pass                           # full: it rings

    def quieten(self) -> None:
        """Whoever waited has heard it."""
        try:
            while os.read(self.receive, 4096):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Give the descriptors back."""
        os.close(self.receive)
        os.close(self._send)
