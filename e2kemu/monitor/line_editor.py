"""Command lines typed by a person on a terminal.

Echoes and understands the usual keys (prompt_toolkit decodes them): arrows, Home, End, Backspace, Delete,
Ctrl-B/F/E/K/U/W/L/D, history by Up and Down, completion by Tab. (Ctrl-A belongs to the mux.)
"""

from __future__ import annotations

import codecs
from collections.abc import Callable

from prompt_toolkit.input.vt100_parser import Vt100Parser
from prompt_toolkit.key_binding.key_processor import KeyPress
from prompt_toolkit.keys import Keys

from e2kemu.loop import MainLoop, TimerHandle
from e2kemu.monitor.lines import MAX_LINE

HISTORY = 64
"""Lines remembered."""
ESCAPE_DELAY = 0.1
"""Seconds after which a lone ESC is not the beginning of a key any more."""


class EditedLines:
    """See the module. ``complete(line up to the cursor)`` gives the candidates for its last word."""

    def __init__(
        self,
        write: Callable[[str], None],
        accept: Callable[[str], None],
        complete: Callable[[str], list[str]],
        loop: MainLoop,
    ) -> None:
        self._write = write
        self._accept = accept
        self._complete = complete
        self._loop = loop
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._parser = Vt100Parser(self._key)
        self._flush: TimerHandle | None = None
        self._prompt = ""
        self._line = ""
        self._cursor = 0
        self._history: list[str] = []
        self._recalled = 0
        self._kept = ""
        self._keys: dict[Keys | str, Callable[[], None]] = {
            Keys.ControlM: self._enter, Keys.ControlJ: self._enter, Keys.ControlI: self._tab,
            Keys.ControlH: self._backspace, Keys.Delete: self._delete, Keys.ControlD: self._delete,
            Keys.Left: self._left, Keys.ControlB: self._left,
            Keys.Right: self._right, Keys.ControlF: self._right,
            Keys.Home: self._start, Keys.ControlA: self._start,
            Keys.End: self._end, Keys.ControlE: self._end,
            Keys.Up: self._older, Keys.ControlP: self._older,
            Keys.Down: self._newer, Keys.ControlN: self._newer,
            Keys.ControlK: self._cut_right, Keys.ControlU: self._cut_left,
            Keys.ControlW: self._cut_word, Keys.ControlL: self._clear_screen,
        }  # fmt: skip

    def feed(self, data: bytes) -> None:
        if self._flush is not None:
            self._flush.cancel()
        self._parser.feed(self._decoder.decode(data))
        self._flush = self._loop.call_later(ESCAPE_DELAY, self._parser.flush)

    def prompt(self, text: str) -> None:
        self._prompt = text
        self._write(text + self._line)
        self._cursor = len(self._line)

    def reset(self) -> None:
        self._line, self._cursor = "", 0
        self._decoder.reset()

    def _key(self, press: KeyPress) -> None:
        action = self._keys.get(press.key)
        if action is not None:
            action()
        elif press.key == Keys.BracketedPaste or (len(press.data) == 1 and press.data.isprintable()):
            self._insert("".join(char for char in press.data if char.isprintable()))

    def _insert(self, text: str) -> None:
        text = text[: MAX_LINE - len(self._line)]
        if self._cursor == len(self._line):
            # At the end the terminal wraps by itself; a redraw would not.
            self._line += text
            self._cursor += len(text)
            self._write(text)
        else:
            self._replace(
                self._line[: self._cursor] + text + self._line[self._cursor :], self._cursor + len(text)
            )

    def _replace(self, line: str, cursor: int) -> None:
        self._line, self._cursor = line, cursor
        back = len(line) - cursor
        self._write(f"\r{self._prompt}{line}\x1b[K" + (f"\x1b[{back}D" if back else ""))

    def _left(self) -> None:
        self._replace(self._line, max(0, self._cursor - 1))

    def _right(self) -> None:
        self._replace(self._line, min(len(self._line), self._cursor + 1))

    def _start(self) -> None:
        self._replace(self._line, 0)

    def _end(self) -> None:
        self._replace(self._line, len(self._line))

    def _enter(self) -> None:
        line, self._line, self._cursor = self._line, "", 0
        if line.strip():
            if line in self._history:
                self._history.remove(line)
            self._history = [*self._history[1 - HISTORY :], line]
        self._recalled = len(self._history)
        self._write("\n")
        self._accept(line)

    def _backspace(self) -> None:
        if self._cursor:
            self._replace(self._line[: self._cursor - 1] + self._line[self._cursor :], self._cursor - 1)

    def _delete(self) -> None:
        self._replace(self._line[: self._cursor] + self._line[self._cursor + 1 :], self._cursor)

    def _cut_right(self) -> None:
        self._replace(self._line[: self._cursor], self._cursor)

    def _cut_left(self) -> None:
        self._replace(self._line[self._cursor :], 0)

    def _cut_word(self) -> None:
        before = self._line[: self._cursor].rstrip()
        start = before.rfind(" ") + 1
        self._replace(self._line[:start] + self._line[self._cursor :], start)

    def _clear_screen(self) -> None:
        self._write("\x1b[H\x1b[J")
        self._replace(self._line, self._cursor)

    def _older(self) -> None:
        self._recall(-1)

    def _newer(self) -> None:
        self._recall(1)

    def _recall(self, step: int) -> None:
        if self._recalled == len(self._history):
            self._kept = self._line
        wanted = self._recalled + step
        if 0 <= wanted <= len(self._history):
            self._recalled = wanted
            line = self._kept if wanted == len(self._history) else self._history[wanted]
            self._replace(line, len(line))

    def _tab(self) -> None:
        before = self._line[: self._cursor]
        word = before[before.rfind(" ") + 1 :]
        found = sorted(self._complete(before))
        if not found:
            return
        # Of sorted words the first and the last differ earliest.
        pairs = zip(found[0], found[-1], strict=False)
        common = found[0][: next((i for i, (a, b) in enumerate(pairs) if a != b), len(found[0]))]
        ending = " " if len(found) == 1 and self._cursor == len(self._line) else ""
        if len(common) > len(word) or ending:
            self._insert(common[len(word) :] + ending)
        else:
            self._write("\n" + "\n".join(found) + "\n")
            self._replace(self._line, self._cursor)
