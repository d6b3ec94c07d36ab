"""One TCP connection of the guest, ended here: its bytes go on through a host socket.

Towards the guest this is a TCP endpoint of its own (RFC 9293): in-order segments only, no window scaling, no delayed
acknowledgements, retransmission of the first segment on time-out or at the third repeated acknowledgement. There is
no congestion control, as there is no network between: the guest's window bounds what is under way. Time-outs do not
count while the guest takes no frames (a stopped machine).

Bounds: ``BUFFER`` bytes from the host wait for the guest, one window (64 KiB) from the guest waits for the host; each
side is slowed down by the other. Half-closed connections work both ways. A reset travels through.
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from enum import Enum
from typing import Protocol

from e2kemu.loop import MainLoop, TimerHandle
from e2kemu.net.packets import ACK, FIN, PSH, RST, SYN, Endpoint, Segment

BUFFER = 128 << 10
WINDOW = 65535
OUR_MSS = 1460
DEFAULT_MSS = 536
"""RFC 9293: of a peer that names none."""
RETRIES = 12
RTO_MAX = 8.0
LINGER = 2.0
"""Seconds a finished connection answers repeated FINs (a short TIME-WAIT)."""
CONNECT_SECONDS = 30.0

MASK = 0xFFFF_FFFF


def distance(later: int, earlier: int) -> int:
    """``later - earlier`` of sequence numbers, which wrap around: from -2^31 to 2^31 - 1."""
    return (later - earlier + 0x8000_0000 & MASK) - 0x8000_0000


class State(Enum):
    """Where a connection is; the value is the word in ``info usernet``."""

    CONNECTING = "CONNECTING"
    """The guest wants it, the host's connect is under way."""
    SYN_RECEIVED = "SYN_RECEIVED"
    """The guest wants it, it has our SYN and has not acknowledged it."""
    SYN_SENT = "SYN_SENT"
    """A client of the host wants it (port forwarding), the guest has not answered."""
    OPEN = "ESTABLISHED"
    LINGERING = "TIME_WAIT"
    CLOSED = "CLOSED"


class Network(Protocol):
    """What a connection needs of the back end."""

    loop: MainLoop
    rto: float
    """Seconds until the first retransmission."""

    @property
    def stalled(self) -> bool: ...
    def initial_sequence(self) -> int: ...
    def send_segment(self, connection: TcpConnection, segment: Segment) -> None: ...
    def forget(self, connection: TcpConnection) -> None: ...


class TcpConnection:
    """See the module. ``guest`` and ``remote`` are the ends as the guest sees them."""

    def __init__(self, net: Network, guest: Endpoint, remote: Endpoint, host: socket.socket, label: str = "") -> None:
        self.net, self.guest, self.remote, self.host = net, guest, remote, host
        self.label = label
        self.state = State.CONNECTING
        self._iss = net.initial_sequence()
        self._una = self._iss  # the first number that is not acknowledged
        self._send_window = 0
        self._wl = (0, 0)  # sequence and acknowledgement of the segment the window is from
        self._mss = DEFAULT_MSS
        self._buffer = bytearray()  # from the host, what is not acknowledged; its first byte is _una
        self._flying = 0  # bytes of it that were sent
        self._host_end = False  # the host sends no more
        self._fin_sent = self._fin_acked = False
        self._recover: int | None = None
        self._repeated = 0
        self._retries = 0
        self._irs = 0
        self._next = 0  # the next number expected of the guest
        self._to_host = bytearray()
        self._guest_end = False  # the guest sends no more
        self._shut = False
        self._advertised = WINDOW
        self._reading = self._writing = False
        self._timer: TimerHandle | None = None
        host.setblocking(False)

    # -- beginnings

    def open_by_guest(self, syn: Segment, address: tuple[str, int]) -> None:
        """The guest's SYN: connect to the host's ``address``; the guest hears of it when that is done."""
        self._irs, self._next = syn.sequence, syn.sequence + 1 & MASK
        self._learn(syn)
        try:
            self.host.connect(address)
        except BlockingIOError:
            pass
        except OSError:
            self.abort()
            return
        self._write_when_ready(True)
        self._timer = self.net.loop.call_later(CONNECT_SECONDS, self.abort)

    def open_by_host(self) -> None:
        """A client of the host has connected to a forwarded port: knock at the guest."""
        self.state = State.SYN_SENT
        self._send(SYN, sequence=self._iss, mss=OUR_MSS)
        self._arm()

    def _connected(self) -> None:
        error = self.host.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if not error:
            try:
                self.host.getpeername()
            except OSError:
                return  # called for an earlier socket of the same number
        self._cancel()
        if error:
            self.abort()
            return
        with suppress(OSError):
            self.host.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.state = State.SYN_RECEIVED
        self._write_when_ready(False)
        self._send(SYN | ACK, sequence=self._iss, mss=OUR_MSS)
        self._arm()

    def _open(self, segment: Segment) -> None:
        self.state = State.OPEN
        self._una = segment.acknowledgement
        self._send_window, self._wl = segment.window, (segment.sequence, segment.acknowledgement)
        self._retries = 0
        self._cancel()
        self._read_when_ready(True)

    def _learn(self, syn: Segment) -> None:
        if syn.mss:
            self._mss = max(64, min(OUR_MSS, syn.mss))

    # -- ends

    def abort(self, *, tell_guest: bool = True) -> None:
        """End it at once, on both sides with a reset."""
        if self.state is State.CLOSED:
            return
        if tell_guest:
            # In the first two states our SYN has been sent and is not acknowledged.
            syn = self.state in (State.SYN_SENT, State.SYN_RECEIVED)
            sequence = self._una + self._flying + self._fin_sent + syn
            self._send(RST if self.state is State.SYN_SENT else RST | ACK, sequence=sequence)
        with suppress(OSError):
            self.host.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._finish()

    def _finish(self) -> None:
        """Release everything."""
        self.state = State.CLOSED
        self._cancel()
        self._close_host()
        self.net.forget(self)

    def _close_host(self) -> None:
        self._read_when_ready(False)
        self._write_when_ready(False)
        self.host.close()

    def _check_end(self) -> None:
        """Both directions ended and acknowledged: only repeated FINs are answered now, for a while."""
        if self._fin_acked and self._guest_end and not self._to_host and self.state is State.OPEN:
            self.state = State.LINGERING
            self._cancel()
            self._close_host()
            self._timer = self.net.loop.call_later(LINGER, self._finish)

    def gives_way(self, syn: Segment) -> bool:
        """A new SYN for the same ends: a connection that only lingers goes, to make room for it."""
        if self.state is State.LINGERING and distance(syn.sequence, self._next) > 0:
            self._finish()
            return True
        return False

    # -- what the guest sends

    def receive(self, segment: Segment) -> None:
        """One segment of the guest for this connection."""
        if self.state in (State.CONNECTING, State.CLOSED):
            if segment.flags & RST and self.state is State.CONNECTING:
                self.abort(tell_guest=False)
            return
        if self.state is State.SYN_SENT:
            self._receive_in_syn_sent(segment)
            return
        if segment.flags & RST:
            if segment.sequence == self._next:  # RFC 5961: any other may be somebody's guess
                self.abort(tell_guest=False)
            elif 0 <= distance(segment.sequence, self._next) <= WINDOW:
                self._acknowledge()
            return
        if segment.flags & SYN:
            if self.state is State.SYN_RECEIVED and segment.sequence == self._irs:
                self._send(SYN | ACK, sequence=self._iss, mss=OUR_MSS)
            else:
                self._acknowledge()
            return
        if not segment.flags & ACK:
            return
        if self.state is State.SYN_RECEIVED:
            if segment.acknowledgement != self._iss + 1 & MASK:
                reset = Segment(self.remote.port, self.guest.port, segment.acknowledgement, 0, RST, 0)
                self.net.send_segment(self, reset)
                return
            self._open(segment)
        if self.state is State.OPEN and not self._take_acknowledgement(segment):
            return
        self._take_data(segment)

    def _receive_in_syn_sent(self, segment: Segment) -> None:
        answers = segment.flags & ACK and segment.acknowledgement == self._iss + 1 & MASK
        if segment.flags & ACK and not answers:
            if not segment.flags & RST:
                reset = Segment(self.remote.port, self.guest.port, segment.acknowledgement, 0, RST, 0)
                self.net.send_segment(self, reset)
        elif segment.flags & RST:
            if answers:
                self.abort(tell_guest=False)
        elif segment.flags & SYN and answers:
            self._irs, self._next = segment.sequence, segment.sequence + 1 & MASK
            self._learn(segment)
            self._open(segment)
            self._acknowledge()

    def _take_acknowledgement(self, segment: Segment) -> bool:
        """False: the segment acknowledges what was never sent and is not looked at further."""
        acked = distance(segment.acknowledgement, self._una)
        if acked > self._flying + self._fin_sent:
            self._acknowledge()
            return False
        newer = distance(segment.sequence, self._wl[0])
        same_window = segment.window == self._send_window
        if newer > 0 or (newer == 0 and distance(segment.acknowledgement, self._wl[1]) >= 0):
            self._send_window, self._wl = segment.window, (segment.sequence, segment.acknowledgement)
        if acked > 0:
            self._advance(acked)
        elif acked == 0 and self._flying and not segment.length and same_window:
            self._repeated += 1
            if self._repeated == 3:
                self._recover = self._una + self._flying & MASK
                self._send_first()
        self._output()
        self._check_end()
        return self.state is not State.CLOSED

    def _advance(self, acked: int) -> None:
        data = min(acked, self._flying)
        del self._buffer[:data]
        self._flying -= data
        if acked > data:
            self._fin_acked = True
            self._fin_sent = False
        self._una = self._una + acked & MASK
        self._retries = self._repeated = 0
        self._cancel()
        if self._recover is not None and distance(self._recover, self._una) > 0:
            self._send_first()  # more than one was lost
        else:
            self._recover = None
        if not self._host_end and len(self._buffer) < BUFFER:
            self._read_when_ready(True)

    def _take_data(self, segment: Segment) -> None:
        if not segment.length:
            return
        had = distance(self._next, segment.sequence)
        if had < 0 or had >= segment.length or self._guest_end or self.state is not State.OPEN:
            self._acknowledge()  # a gap, or a repetition
            return
        data = segment.data[had : had + WINDOW - len(self._to_host)]
        whole = had + len(data) == len(segment.data)
        self._next = self._next + len(data) & MASK
        self._to_host += data
        if segment.flags & FIN and whole:
            self._next = self._next + 1 & MASK
            self._guest_end = True
        if not self._write():
            return
        self._acknowledge()
        self._check_end()

    # -- what goes to the guest

    def _send(self, flags: int, data: bytes = b"", *, sequence: int, mss: int | None = None) -> None:
        self._advertised = WINDOW - len(self._to_host)
        acknowledgement = self._next if flags & ACK else 0
        segment = Segment(
            self.remote.port, self.guest.port, sequence & MASK, acknowledgement, flags, self._advertised, data, mss
        )
        self.net.send_segment(self, segment)

    def _acknowledge(self) -> None:
        self._send(ACK, sequence=self._una + self._flying + self._fin_sent)

    def _output(self) -> None:
        """Send what the guest's window has room for."""
        if self.state is not State.OPEN:
            return
        while self._flying < len(self._buffer) and not self._fin_sent:
            room = min(self._mss, self._send_window - self._flying)
            if room <= 0:
                break
            data = bytes(self._buffer[self._flying : self._flying + room])
            at = self._una + self._flying
            self._flying += len(data)
            self._send(ACK | PSH, data, sequence=at)
        if self._host_end and not self._fin_sent and not self._fin_acked and self._flying == len(self._buffer):
            self._fin_sent = True
            self._send(ACK | FIN, sequence=self._una + self._flying)
        if (self._buffer or self._fin_sent) and self._timer is None:
            self._arm()

    def _send_first(self) -> None:
        """Once more, what the guest has to acknowledge next (at least a byte: a closed window is asked so)."""
        data = bytes(self._buffer[: max(1, min(self._mss, self._send_window))])
        self._flying = max(self._flying, len(data))
        if data:
            self._send(ACK | PSH, data, sequence=self._una)
        elif self._fin_sent:
            self._send(ACK | FIN, sequence=self._una)

    def _arm(self) -> None:
        self._cancel()
        self._timer = self.net.loop.call_later(min(self.net.rto * 2**self._retries, RTO_MAX), self._expired)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expired(self) -> None:
        self._timer = None
        if not self.net.stalled:
            closed_window = self.state is State.OPEN and self._send_window == 0
            if self._retries >= RETRIES and not closed_window:
                self.abort()
                return
            self._retries = min(self._retries + 1, RETRIES)
            if self.state is State.SYN_SENT:
                self._send(SYN, sequence=self._iss, mss=OUR_MSS)
            elif self.state is State.SYN_RECEIVED:
                self._send(SYN | ACK, sequence=self._iss, mss=OUR_MSS)
            else:
                self._recover = self._una + self._flying & MASK
                self._send_first()
        self._arm()

    # -- the host's socket

    def _read_when_ready(self, wanted: bool) -> None:
        if wanted != self._reading:
            self._reading = wanted
            if wanted:
                self.net.loop.add_reader(self.host.fileno(), self._read)
            else:
                self.net.loop.remove_reader(self.host.fileno())

    def _write_when_ready(self, wanted: bool) -> None:
        if wanted != self._writing:
            self._writing = wanted
            if wanted:
                self.net.loop.add_writer(self.host.fileno(), self._writable)
            else:
                self.net.loop.remove_writer(self.host.fileno())

    def _read(self) -> None:
        try:
            data = self.host.recv(BUFFER)
        except BlockingIOError:
            return
        except OSError:
            self.abort()
            return
        if not data:
            self._host_end = True
        self._buffer += data
        if not data or len(self._buffer) >= BUFFER:
            self._read_when_ready(False)
        self._output()

    def _writable(self) -> None:
        if self.state is State.CONNECTING:
            self._connected()
        elif self._write():
            if self._advertised < 2 * OUR_MSS and WINDOW - len(self._to_host) >= WINDOW // 2:
                self._acknowledge()  # the window has opened again
            self._check_end()

    def _write(self) -> bool:
        """Hand on what the guest has sent; False when the connection has ended by that."""
        try:
            while self._to_host:
                del self._to_host[: self.host.send(self._to_host)]
            if self._guest_end and not self._shut:
                self._shut = True
                self.host.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            pass
        except OSError:
            self.abort()
            return False
        self._write_when_ready(bool(self._to_host))
        return True

    # -- for the monitor

    @property
    def queued(self) -> tuple[int, int]:
        """Bytes that wait: for the guest, for the host."""
        return len(self._buffer), len(self._to_host)
