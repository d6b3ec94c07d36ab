"""The source's side of a postcopy: from the package to the destination's last page, over as many connections
as it takes.

    switch       DISCARD what is out of date, PING 2, PACKAGED, PING 4        status postcopy-device
                 pages, until the destination has loaded the package
    (commit)     from here on the guest lives at the destination              status postcopy-active
    run          requested pages first, otherwise on behind the last request; END, EOF; wait for SHUT
    pause        the connection has failed; everything stays as it is         status postcopy-paused
    recover      new connection                                               status postcopy-recover-setup
                 which pages have arrived? RESUME                             status postcopy-recover

All in the thread "migration out". An error before the commit is the caller's: its guest runs on. Afterwards no
error ends the migration: it pauses until ``resume``, again and again.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from e2kemu import trace
from e2kemu.errors import ChannelError, E2kError
from e2kemu.migration import state as status
from e2kemu.migration.channel import Channel
from e2kemu.migration.options import MigrationParameters
from e2kemu.migration.postcopy import (
    PING_COMMITTED,
    PING_DISCARDED,
    PING_LOADED,
    PING_PACKAGE,
    PING_PUSHING,
    PING_WILL_COMMIT,
    block_name,
    discards,
    page_runs,
)
from e2kemu.migration.qemufile import Buffer, StreamWriter
from e2kemu.migration.ram import PAGE_RECORD, Flag, RamSaver
from e2kemu.migration.registry import RAM_SECTION_ID
from e2kemu.migration.returnpath import ReturnPath
from e2kemu.migration.state import MigrationState
from e2kemu.migration.statistics import Statistics
from e2kemu.migration.stream import Command, ElementType, FrameWriter
from e2kemu.trace import Log

CHUNK_PAGES = 64
"""Pages that are pushed before requests are looked at again."""

CAUSE_SECONDS = 1.0
"""How long a broken write waits for the return path to tell the reason."""


@dataclass
class Link:
    """One connection."""

    channel: Channel
    frames: FrameWriter
    path: ReturnPath

    def close(self) -> None:
        """End it."""
        self.channel.shutdown()
        self.path.join(CAUSE_SECONDS)
        self.channel.close()


class Meter(Protocol):
    """Measures the throughput of one connection."""

    def update(self, out: StreamWriter) -> None:
        """Look at what has gone out, now and then."""


class _UnconfirmedError(ChannelError):
    """The connection ended before the destination's last word."""


class _Package:
    """Takes the elements of the package."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writev(self, buffers: list[Buffer]) -> None:
        for buffer in buffers:
            self.data += buffer


Connect = Callable[[], Link]
"""Makes a new connection; its return path is not started yet. Raises E2kError."""


class PostcopySource:
    """One postcopy. ``release``: give the memory of sent pages back (then it cannot be recovered)."""

    def __init__(
        self,
        state: MigrationState,
        statistics: Statistics,
        parameters: MigrationParameters,
        ram: RamSaver,
        make_meter: Callable[[], Meter],
        *,
        release: bool,
    ) -> None:
        self._state = state
        self._statistics = statistics
        self._parameters = parameters
        self._ram = ram
        self._make_meter = make_meter
        self._meter = make_meter()
        self._release = release
        self._before = 0  # bytes that went through earlier connections
        self._resumes: queue.SimpleQueue[Connect] = queue.SimpleQueue()

    # -- from other threads

    def resume(self, connect: Connect) -> None:
        """Try to go on, over a new connection; the status is ``postcopy-recover-setup`` already."""
        self._resumes.put(connect)

    # -- before the commit

    def send_discards(self, frames: FrameWriter) -> None:
        """The guest stands and the log is harvested: tell what the destination has to throw away."""
        for block in self._ram.block_pages:
            for payload in discards(block, page_runs(self._ram.dirty_index(block))):
                frames.command(Command.POSTCOPY_RAM_DISCARD, payload)
        frames.command(Command.PING, _word(PING_DISCARDED))

    def send_package(self, frames: FrameWriter, save_devices: Callable[[FrameWriter], object]) -> None:
        """The package and PING 4; not flushed."""
        package = _Package()
        inner = FrameWriter(StreamWriter(package), frames.format)
        inner.command(Command.POSTCOPY_LISTEN)
        save_devices(inner)
        for value in (PING_PACKAGE, PING_WILL_COMMIT, PING_LOADED):
            inner.command(Command.PING, _word(value))
        inner.command(Command.POSTCOPY_RUN)
        inner.out.flush()
        frames.command(Command.PACKAGED, _word(len(package.data)))
        frames.out.raw(bytes(package.data))
        frames.command(Command.PING, _word(PING_PUSHING))

    def until_loaded(self, link: Link) -> None:
        """Send pages until the destination has all state. Raises E2kError: the guest is still ours."""
        self._ram.postcopy = True
        link.channel.be_prompt()
        link.frames.out.flush()
        path = link.path
        while PING_LOADED not in path.pongs:
            if not self._step(link):
                path.wait(lambda path: PING_LOADED in path.pongs or bool(path.requests))

    # -- after the commit

    def run(self, link: Link) -> None:
        """The guest is the destination's: send the rest, however often the connection breaks."""
        self._ram.release = self._release
        self._log("the guest runs at the destination")
        committed = False
        while True:
            try:
                if not committed:
                    committed = True
                    link.frames.command(Command.PING, _word(PING_COMMITTED))
                    link.frames.out.flush()
                    stopped = self._statistics.stopped_at
                    self._statistics.downtime = 0.0 if stopped is None else time.monotonic() - stopped
                while self._step(link):
                    pass
                self._end(link)
                link.close()
                return
            except E2kError as error:
                self._pause(link, error)
            link = self._recover()

    def _step(self, link: Link) -> bool:
        """Requests, or the next pages, or a wait for the bandwidth limit; False: there are no pages left."""
        path, rate = link.path, link.frames.out.rate
        if path.over():
            raise path.problem or ChannelError("RP: the destination ended the migration early")
        if path.requests:
            self._serve(link)
        elif self._ram.remaining:
            budget = rate.budget(self._parameters.max_postcopy_bandwidth)
            if budget <= 0:
                path.wait(lambda path: bool(path.requests), rate.remaining_time())
                return True
            with link.frames.section_more(ElementType.SECTION_PART, RAM_SECTION_ID) as out:
                self._ram.save_next(out, max(1, min(budget // PAGE_RECORD, CHUNK_PAGES)))
                out.be64(Flag.EOS)
            self._flush(link)
        else:
            return False
        return True

    def _serve(self, link: Link) -> None:
        """Send what was asked for, as far as it is not on its way already."""
        requests = link.path.requests
        with link.frames.section_more(ElementType.SECTION_PART, RAM_SECTION_ID) as out:
            while requests:
                request = requests.popleft()
                self._statistics.ram.postcopy_requests += 1
                self._ram.save_requested(out, request.block, request.first, request.count)
            out.be64(Flag.EOS)
        self._flush(link)

    def _flush(self, link: Link) -> None:
        out = link.frames.out
        out.flush()
        self._statistics.transferred = self._before + out.transferred
        self._meter.update(out)

    def _end(self, link: Link) -> None:
        """All pages are sent: say so, and wait for the destination's word."""
        with link.frames.section_more(ElementType.SECTION_END, RAM_SECTION_ID) as out:
            out.be64(Flag.EOS)
        link.frames.out.be8(ElementType.EOF)
        self._flush(link)
        link.path.wait(ReturnPath.over)
        problem = link.path.problem
        if problem is not None and link.path.verdict is None:
            raise _UnconfirmedError(f"all is sent, but the destination has not said that it has everything: {problem}")
        if problem is not None:
            raise problem

    # -- pause and recovery

    def _pause(self, link: Link, error: E2kError) -> None:
        link.path.wait(ReturnPath.over, CAUSE_SECONDS)
        # A write that fails is no cause where the return path has seen one: it is what made us hang up.
        cause = link.path.problem if type(error) is ChannelError else None
        self._before += link.frames.out.transferred
        link.close()
        self._back_to_paused(cause or error)

    def _back_to_paused(self, error: E2kError) -> None:
        self._log(f"paused: {error}")
        self._state.record_error(str(error))
        self._state.move(status.POSTCOPY_PAUSED)

    def _recover(self) -> Link:
        """Wait for ``resume`` until one succeeds."""
        while True:
            connect = self._resumes.get()
            try:
                link = connect()
            except E2kError as error:
                self._back_to_paused(error)
                continue
            self._state.move(status.POSTCOPY_RECOVER)
            try:
                self._handshake(link)
            except E2kError as error:
                self._pause(link, error)
                continue
            link.channel.be_prompt()
            self._meter = self._make_meter()
            self._state.move(status.POSTCOPY_ACTIVE)
            self._log(f"recovered, {self._ram.remaining} bytes left")
            return link

    def _handshake(self, link: Link) -> None:
        """Ask what has arrived; everything else is to be sent."""
        path, frames = link.path, link.frames
        blocks: Sequence[str] = list(self._ram.block_pages)
        path.bitmaps_wanted.update(blocks)
        path.resume_wanted = True
        path.start()
        for block in blocks:
            frames.command(Command.RECV_BITMAP, block_name(block))
        frames.out.flush()
        self._wait(path, lambda path: not path.bitmaps_wanted)
        self._ram.resume(path.bitmaps)
        frames.command(Command.POSTCOPY_RESUME)
        frames.out.flush()
        self._wait(path, lambda path: path.resumed)

    @staticmethod
    def _wait(path: ReturnPath, condition: Callable[[ReturnPath], bool]) -> None:
        path.wait(condition)
        if not condition(path):
            raise path.problem or ChannelError("RP: the destination ended the migration early")

    def _log(self, text: str) -> None:
        if trace.mask & Log.MIGRATION:
            trace.log(f"migration: out: postcopy: {text}")


def _word(value: int) -> bytes:
    return value.to_bytes(4, "big")
