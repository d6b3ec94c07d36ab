"""Command lines as they come from pipes and sockets: cut at line ends, nothing echoed.

``Lines`` is what a monitor needs of these and of the edited ones (``line_editor``); both hand complete lines
to ``accept``.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from typing import Protocol

MAX_LINE = 65536
"""Characters of one line; more are dropped."""


class Lines(Protocol):
    """What a monitor needs of either kind."""

    def feed(self, data: bytes) -> None:
        """Take input."""

    def prompt(self, text: str) -> None:
        """Show the prompt and take a new line."""

    def reset(self) -> None:
        """Forget a half-typed line (the peer has gone)."""


class PlainLines:
    """Lines from a pipe or a socket."""

    def __init__(self, write: Callable[[str], None], accept: Callable[[str], None]) -> None:
        self._write = write
        self._accept = accept
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._line = ""
        self._after_return = False

    def feed(self, data: bytes) -> None:
        for char in self._decoder.decode(data):
            if char in "\r\n":
                # The second half of a CR LF is not an empty line of its own.
                second = char == "\n" and self._after_return
                self._after_return = char == "\r"
                if not second:
                    line, self._line = self._line, ""
                    self._accept(line)
                continue
            self._after_return = False
            if char in "\b\x7f":
                self._line = self._line[:-1]
            elif len(self._line) < MAX_LINE and (char.isprintable() or char == "\t"):
                self._line += char

    def prompt(self, text: str) -> None:
        self._write(text)

    def reset(self) -> None:
        self._line = ""
        self._decoder.reset()
