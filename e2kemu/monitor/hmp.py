"""The human monitor (HMP): a prompt on a chardev, lines in, text out.

``execute`` runs one line in a context and is all that ``human-monitor-command`` needs. ``HmpMonitor`` puts a
prompt, a line editor and a suspended state around it. Output uses CR LF as a terminal does. On a mux the
monitor shows nothing until it has the focus: what it says meanwhile is kept for then.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Iterable, Mapping

from e2kemu.chardev import Chardev
from e2kemu.chardev_mux import MuxPort
from e2kemu.devices.core import speaking_for
from e2kemu.errors import E2kError, OptionError
from e2kemu.loop import report
from e2kemu.monitor.dispatch import HMP, INFO, Context, HmpCommand, Monitor, find_hmp
from e2kemu.monitor.hmp_args import ArgumentReader, arguments
from e2kemu.monitor.lines import Lines, PlainLines
from e2kemu.monitor.registers import lookup
from e2kemu.version import __version__

PROMPT = "(qemu) "
BANNER = f"e2kemu {__version__} monitor - type 'help' for more information\n"
MAX_HELD = 1 << 20
"""Characters kept for a monitor without focus, bytes kept for a suspended one."""


def execute(ctx: Context, line: str) -> None:
    """Run one command line; output and errors go to ``ctx.monitor``. Never raises."""
    words = line.split(None, 1)
    if not words:
        return
    name, rest = words[0], words[1] if len(words) > 1 else ""
    # "x/4i" and "p/x": the format may stick to the command.
    if "/" in name:
        name, slash, attached = name.partition("/")
        rest = f"{slash}{attached} {rest}"
    table: Mapping[str, HmpCommand] = HMP
    typed = name
    found = find_hmp(name, HMP)
    if found is not None and found.name == "info" and rest:
        words = rest.split(None, 1)
        table, typed, rest = INFO, f"info {words[0]}", words[1] if len(words) > 1 else ""
        found = find_hmp(words[0], INFO)
    if found is None:
        ctx.monitor.print(f"unknown command: '{typed}'")
        return
    try:
        values = ArgumentReader(found, rest, lambda register: lookup(ctx, register)).read()
    except OptionError as error:
        ctx.monitor.print(str(error))
        shown = f"info {found.name}" if table is INFO else found.name
        ctx.monitor.print(f'Try "help {shown}" for more information')
        return
    try:
        with speaking_for(ctx.monitor.cpu):
            found.handler(ctx, **values)
    except E2kError as error:
        ctx.monitor.print(f"Error: {error}")
    except Exception as error:
        # A fault of ours must not cost the user his guest: say it, go on.
        report(f"e2kemu: internal error in '{typed}'\n{traceback.format_exc()}")
        ctx.monitor.print(f"Error: internal error in '{typed}': {error}")


def complete(ctx: Context, before: str) -> list[str]:
    """Candidates for the last word of ``before``."""
    *words, word = before.split(" ")
    words = [w for w in words if w]
    found: Iterable[str]
    if not words:
        found = [name for entry in HMP.values() for name in entry.names]
    elif words[0] in ("help", "?") and len(words) == 1:
        found = HMP
    elif words == ["info"] or words in (["help", "info"], ["?", "info"]):
        found = INFO
    else:
        table = INFO if words[0] == "info" else HMP
        entry = find_hmp(words[1] if table is INFO else words[0], table)
        if entry is None:
            return []
        given = words[1:] if table is INFO else words
        if entry.completion is not None:
            found = entry.completion(ctx, given, word)
        else:
            wanted = [a for a in arguments(entry.args_type) if not a.letter.startswith("-")]
            at = len([w for w in given[1:] if not w.startswith("-")])
            found = ("on", "off") if at < len(wanted) and wanted[at].letter == "b" else ()
    return [candidate for candidate in found if candidate.startswith(word)]


class CaptureMonitor(Monitor):
    """Collects the output of a line (``human-monitor-command``); named descriptors are the caller's."""

    captured = True

    def __init__(self, owner: Monitor) -> None:
        super().__init__()
        self.fds = owner.fds
        self.cpu = owner.cpu
        self._owner = owner
        self.text = ""

    def print(self, text: str, end: str = "\n") -> None:
        self.text += text + end

    def received_fds(self) -> list[int]:
        return self._owner.received_fds()


class HmpMonitor(Monitor):
    """An interactive monitor on ``chardev``; ``edited``: a person's terminal, with echo and line editing."""

    def __init__(self, ctx: Context, chardev: Chardev, *, edited: bool) -> None:
        super().__init__()
        self._ctx = ctx.at(self)
        self._loop = ctx.loop
        self._chardev = chardev
        self._held = ""
        self._focused = not isinstance(chardev, MuxPort) or chardev.focused
        self._greeted = False
        self._suspended = 0
        self._prompting = False
        self._waiting = bytearray()
        self._queue: deque[str] = deque()
        self._working = False
        self._lines: Lines
        if edited:
            # Only people need it: its library takes a while to load.
            from e2kemu.monitor.line_editor import EditedLines

            self._lines = EditedLines(self._show, self._accept, self._complete, ctx.loop)
        else:
            self._lines = PlainLines(self._show, self._accept)
        chardev.answers = True
        chardev.open_frontend(self._receive, self._event)

    # -- Monitor

    def print(self, text: str, end: str = "\n") -> None:
        if not self._loop.in_loop():
            self._loop.call_soon(lambda: self.print(text, end))
            return
        if self._prompting:
            # Nobody asked just now (a message from the background): keep the prompt line whole.
            self._show("\n" + text + end)
            self._lines.prompt(PROMPT)
        else:
            self._show(text + end)

    def suspend(self) -> None:
        self._suspended += 1

    def resume(self) -> None:
        self._loop.call_soon(self._resumed)

    def received_fds(self) -> list[int]:
        return self._chardev.take_fds()

    # -- chardev

    def _receive(self, data: bytes) -> None:
        if self._suspended or self._queue:
            self._waiting += data[: MAX_HELD - len(self._waiting)]
        else:
            self._lines.feed(data)

    def _event(self, event: str) -> None:
        if event == "mux-out":
            if self._prompting:
                self._show("\n")
                self._prompting = False
            self._focused = False
        elif event == "mux-in" or (event == "opened" and self._focused):
            self._focused = True
            self._greet()
        elif event == "closed":
            self._lines.reset()
            self._greeted = self._prompting = False
            # Whole lines that were sent before the client went are still carried out: a script may hang up (or a
            # pipe end) while a command keeps it waiting.
            del self._waiting[max(self._waiting.rfind(b"\n"), self._waiting.rfind(b"\r")) + 1 :]

    def _greet(self) -> None:
        if not self._greeted:
            self._greeted = True
            self._send(BANNER)
        if self._held:
            held, self._held = self._held, ""
            self._send(held)
        self._prompt()

    def _show(self, text: str) -> None:
        if self._focused:
            self._send(text)
        else:
            self._held += text[: MAX_HELD - len(self._held)]

    def _send(self, text: str) -> None:
        self._chardev.write(text.replace("\n", "\r\n").encode("utf-8", "backslashreplace"))

    # -- lines

    def _prompt(self) -> None:
        if not self._suspended and self._focused and not self._loop.quitting:
            self._prompting = True
            self._lines.prompt(PROMPT)

    def _complete(self, before: str) -> list[str]:
        return complete(self._ctx, before)

    def _accept(self, line: str) -> None:
        """A line is complete. Further ones of the same input wait while a command is suspended."""
        self._queue.append(line)
        if not self._working:
            self._work()

    def _work(self) -> None:
        self._working = True
        while self._queue and not self._suspended and not self._loop.quitting:
            self._prompting = False
            execute(self._ctx, self._queue.popleft())
            self._prompt()
        self._working = False

    def _resumed(self) -> None:
        self._suspended = max(0, self._suspended - 1)
        if self._suspended:
            return
        self._prompt()
        self._work()
        while self._waiting and not self._suspended and not self._queue:
            data, self._waiting = bytes(self._waiting), bytearray()
            self._lines.feed(data)
