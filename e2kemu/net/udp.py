"""UDP of the user-mode network: flows of the guest through connected host sockets, and forwarded ports.

A flow is the guest's address and port and the peer's; its host socket is connected, so that only that peer can
answer. Flows end when they have been idle for a minute, and the longest idle one when there are too many. A client of
a forwarded port is seen by the guest under its own port at the gateway's address.
"""

from __future__ import annotations

import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from e2kemu.loop import MainLoop, TimerHandle
from e2kemu.net.packets import Endpoint, ip_text

FLOWS = 256
IDLE_SECONDS = 60.0
BURST = 64
"""Datagrams read at once: other descriptors get their turn."""

Deliver = Callable[[Endpoint, Endpoint, bytes], None]
"""Called with source, destination (the guest's) and data."""


@dataclass
class Flow:
    """One conversation; ``label`` is what ``info usernet`` calls it."""

    guest: Endpoint
    peer: Endpoint
    host: socket.socket
    used: float


class UdpFlows:
    """The guest's own conversations."""

    def __init__(self, loop: MainLoop, deliver: Deliver, refused: Callable[[Flow], None]) -> None:
        self._loop, self._deliver, self._refused = loop, deliver, refused
        self.flows: OrderedDict[tuple[Endpoint, Endpoint], Flow] = OrderedDict()
        self._sweeper: TimerHandle | None = None

    def send(self, guest: Endpoint, peer: Endpoint, address: tuple[str, int], data: bytes) -> bool:
        """The guest sends ``data`` to ``peer``, which is ``address`` for the host; False: it cannot be reached."""
        flow = self.flows.get((guest, peer))
        try:
            if flow is None:
                flow = self._make(guest, peer, address)
            flow.used = time.monotonic()
            self.flows.move_to_end((guest, peer))
            flow.host.send(data)
        except BlockingIOError:
            pass  # dropped, as UDP may be
        except ConnectionRefusedError:
            if flow is not None:
                self._refused(flow)
        except OSError:
            return False
        return True

    def _make(self, guest: Endpoint, peer: Endpoint, address: tuple[str, int]) -> Flow:
        host = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            host.setblocking(False)
            host.connect(address)
        except OSError:
            host.close()
            raise
        while len(self.flows) >= FLOWS:
            self._end(next(iter(self.flows.values())))
        flow = Flow(guest, peer, host, time.monotonic())
        self.flows[guest, peer] = flow
        self._loop.add_reader(host.fileno(), lambda: self._readable(flow))
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(IDLE_SECONDS, self._sweep)
        return flow

    def _readable(self, flow: Flow) -> None:
        try:
            for _ in range(BURST):
                data = flow.host.recv(65535)
                flow.used = time.monotonic()
                self._deliver(flow.peer, flow.guest, data)
        except BlockingIOError:
            pass
        except ConnectionRefusedError:
            self._refused(flow)
        except OSError:
            self._end(flow)

    def _sweep(self) -> None:
        self._sweeper = None
        limit = time.monotonic() - IDLE_SECONDS
        for flow in [flow for flow in self.flows.values() if flow.used <= limit]:
            self._end(flow)
        if self.flows:
            self._sweeper = self._loop.call_later(IDLE_SECONDS / 4, self._sweep)

    def _end(self, flow: Flow) -> None:
        if self.flows.pop((flow.guest, flow.peer), None) is not None:
            self._loop.remove_reader(flow.host.fileno())
            flow.host.close()

    def close(self) -> None:
        """End all flows."""
        for flow in list(self.flows.values()):
            self._end(flow)
        if self._sweeper is not None:
            self._sweeper.cancel()


class UdpForward:
    """One forwarded port: its socket, and who has sent to it by the port the guest knows it under."""

    def __init__(
        self, loop: MainLoop, host: Endpoint, guest: Endpoint, gateway: int, deliver: Deliver
    ) -> None:
        """Raises OSError when the port cannot be had."""
        self.guest = guest
        self._loop, self._gateway, self._deliver = loop, gateway, deliver
        self._clients: OrderedDict[int, tuple[str, int]] = OrderedDict()
        self.host = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self.host.setblocking(False)
            self.host.bind((ip_text(host.address), host.port))
        except OSError:
            self.host.close()
            raise
        loop.add_reader(self.host.fileno(), self._readable)

    @property
    def port(self) -> int:
        """The host's port."""
        return int(self.host.getsockname()[1])

    def _readable(self) -> None:
        try:
            for _ in range(BURST):
                data, client = self.host.recvfrom(65535)
                port = client[1]
                while self._clients.get(port, client) != client:
                    port = port % 65535 + 1  # two clients with one port
                self._clients[port] = client
                self._clients.move_to_end(port)
                if len(self._clients) > FLOWS:
                    self._clients.popitem(last=False)
                self._deliver(Endpoint(self._gateway, port), self.guest, data)
        except OSError:
            pass  # nothing more, or an error of an earlier answer

    def answer(self, guest: Endpoint, peer: Endpoint, data: bytes) -> bool:
        """Whether ``data`` from the guest was an answer to one of the clients."""
        client = self._clients.get(peer.port)
        if guest != self.guest or peer.address != self._gateway or client is None:
            return False
        try:
            self.host.sendto(data, client)
        except OSError:
            pass
        return True

    def close(self) -> None:
        """Give the port back."""
        self._loop.remove_reader(self.host.fileno())
        self.host.close()
