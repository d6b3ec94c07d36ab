"""The machine monitor (QMP) on a chardev: JSON requests in, JSON replies and events out.

Per connection: greeting; ``qmp_capabilities`` must come before anything else; then requests, each answered in
order with its ``id``, and events as they happen. Nothing a client sends ends the session or the emulator.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from e2kemu.chardev import Chardev
from e2kemu.errors import CommandError
from e2kemu.monitor.dispatch import Context, Monitor, command, run_qmp
from e2kemu.monitor.json_stream import JsonError, JsonStream
from e2kemu.monitor.schema import Qapi
from e2kemu.version import __version__

QEMU_VERSION = (11, 1, 3)
"""The QEMU whose protocol this is: names, units and texts."""


class VersionTriple(Qapi):
    """A version number."""

    major: int
    minor: int
    micro: int


class VersionInfo(Qapi):
    """Result of query-version, and part of the greeting."""

    qemu: VersionTriple
    package: str


def version_info() -> VersionInfo:
    """What we say we are."""
    major, minor, micro = QEMU_VERSION
    return VersionInfo(
        qemu=VersionTriple(major=major, minor=minor, micro=micro), package=f"e2kemu-{__version__}"
    )


class QmpMonitor(Monitor):
    """See the module; one client at a time, as its chardev."""

    is_qmp = True

    def __init__(self, ctx: Context, chardev: Chardev) -> None:
        super().__init__()
        self._ctx = ctx.at(self)
        self._chardev = chardev
        self._stream = JsonStream()
        self._negotiated = False
        self._oob = False
        self._suspended = 0
        self._requests: deque[Any] = deque()
        chardev.answers = True
        chardev.open_frontend(self._receive, self._event)

    # -- Monitor

    def suspend(self) -> None:
        self._suspended += 1

    def resume(self) -> None:
        self._ctx.loop.call_soon(self._resumed)

    def received_fds(self) -> list[int]:
        return self._chardev.take_fds()

    def send_event(self, name: str, data: Mapping[str, Any] | None, when: float) -> None:
        """Tell the client of an event that happened at host time ``when``."""
        if not self._negotiated:
            return
        seconds, rest = divmod(when, 1)
        stamp = {"seconds": int(seconds), "microseconds": int(rest * 1_000_000)}
        event: dict[str, Any] = {"timestamp": stamp, "event": name}
        if data:
            event["data"] = dict(data)
        self._send(event)

    def negotiate(self, enable: list[str]) -> None:
        """``qmp_capabilities``."""
        for capability in enable:
            if capability != "oob":
                raise CommandError(f"Parameter 'enable' does not accept value '{capability}'")
        self._negotiated = True
        self._oob = "oob" in enable

    # -- chardev

    def _event(self, event: str) -> None:
        if event in ("opened", "closed"):
            self._stream = JsonStream()
            self._negotiated = self._oob = False
            self._requests.clear()
        if event == "opened":
            version = {
                "qemu": dict(zip(("major", "minor", "micro"), QEMU_VERSION, strict=True)),
                "package": version_info().package,
            }
            self._send({"QMP": {"version": version, "capabilities": ["oob"]}})

    def _receive(self, data: bytes) -> None:
        self._requests.extend(self._stream.feed(data))
        self._work()

    def _work(self) -> None:
        while self._requests and not self._suspended and not self._ctx.loop.quitting:
            self._send(self._answer(self._requests.popleft()))

    def _resumed(self) -> None:
        self._suspended = max(0, self._suspended - 1)
        self._work()

    def _send(self, value: Mapping[str, Any]) -> None:
        self._chardev.write(json.dumps(value).encode() + b"\r\n")

    # -- requests

    def _answer(self, request: Any) -> dict[str, Any]:
        reply: dict[str, Any] = {}
        if isinstance(request, dict) and "id" in request:
            reply["id"] = request["id"]
        try:
            if isinstance(request, JsonError):
                raise CommandError(str(request))
            return {"return": self._execute(request), **reply}
        except CommandError as error:
            return {**reply, "error": {"class": error.qmp_class, "desc": str(error)}}

    def _execute(self, request: Any) -> Any:
        if not isinstance(request, dict):
            raise CommandError("QMP input must be a JSON object")
        execute = "exec-oob" if self._oob and "exec-oob" in request else "execute"
        for key, value in request.items():
            if key == execute:
                if not isinstance(value, str):
                    raise CommandError(f"QMP input member '{key}' must be a string")
            elif key == "arguments":
                if not isinstance(value, dict):
                    raise CommandError("QMP input member 'arguments' must be an object")
            elif key != "id":
                raise CommandError(f"QMP input member '{key}' is unexpected")
        if execute not in request:
            raise CommandError("QMP input lacks member 'execute'")
        name = request[execute]
        if not self._negotiated and name != "qmp_capabilities":
            raise CommandError(
                "Expecting capabilities negotiation with 'qmp_capabilities'", "CommandNotFound"
            )
        return run_qmp(self._ctx, name, request.get("arguments", {}), oob=execute == "exec-oob")

    @property
    def negotiated(self) -> bool:
        """The client has said qmp_capabilities."""
        return self._negotiated


class EventBroadcast:
    """Carries a machine's events to the QMP monitors, in order, from whatever thread they happen in."""

    def __init__(self, ctx: Context) -> None:
        self._loop = ctx.loop
        self.monitors: list[QmpMonitor] = []
        self._events: deque[tuple[str, Mapping[str, Any] | None, float]] = deque()
        ctx.vm.listeners.append(self.emit)

    def emit(self, name: str, data: Mapping[str, Any] | None = None) -> None:
        """An event happens now."""
        self._events.append((name, data, time.time()))
        if self._loop.in_loop():
            self._deliver()
        else:
            self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        while self._events:
            name, data, when = self._events.popleft()
            for monitor in self.monitors:
                monitor.send_event(name, data, when)


@command("qmp_capabilities", oob=False)
def qmp_capabilities(ctx: Context, enable: list[str] | None = None) -> None:
    """Leave the negotiation; ``enable`` may hold "oob"."""
    monitor = ctx.monitor
    if not isinstance(monitor, QmpMonitor) or monitor.negotiated:
        raise CommandError(
            "Capabilities negotiation is already complete, command ignored", "CommandNotFound"
        )
    monitor.negotiate(enable or [])
