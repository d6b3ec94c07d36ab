"""The messages of a migration as they pass, one after the other, without waiting for the end of any of them.

``Splitter`` is fed with the bytes of one direction and tells where each message begins and what it is, as soon as that
can be seen. The grammars: a stream (``stream_messages``; ``header`` false: of a recovery), a return path
(``return_messages``), and records of TLS (``tls_records``), which show nothing but their lengths.
"""

from __future__ import annotations

from collections.abc import Callable, Generator

from e2kemu.migration.stream_reader import COMMANDS, RETURN_MESSAGES

Parse = Generator[int, bytes, None]
"""Yields how many bytes it wants next."""

EOS, MEM_SIZE, ZERO, CONTINUE = 0x10, 0x04, 0x02, 0x20
FLAGS = 0xFFF
PAGE = 4096


class Splitter:
    """See the module. ``begins`` collects (offset, label) of the messages that were recognised."""

    def __init__(self, grammar: Callable[[Splitter], Parse]) -> None:
        self.begins: list[tuple[int, str]] = []
        self._buffer = bytearray()
        self._parsed = 0
        self._start = 0
        self._named = False
        self._parse = grammar(self)
        self._need = next(self._parse)

    def feed(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= self._need:
            piece = bytes(self._buffer[: self._need])
            del self._buffer[: self._need]
            self._parsed += len(piece)
            self._need = self._parse.send(piece)

    @property
    def recognised(self) -> int:
        """The offset before which every byte belongs to a message that was told."""
        return self._parsed + len(self._buffer) if self._named else self._start

    def begin(self) -> None:
        """For grammars: the next byte begins a message."""
        self._start, self._named = self._parsed, False

    def name(self, label: str) -> None:
        """For grammars: that is what it is."""
        self.begins.append((self._start, label))
        self._named = True


def stream_messages(s: Splitter, *, header: bool = True) -> Parse:
    if header:
        yield 8
        s.name("HEADER")
        s.begin()
        yield 1
        s.name("CONFIGURATION")
        yield _word((yield 4))
    while True:
        s.begin()
        kind = (yield 1)[0]
        if kind == 0:
            s.name("EOF")
        elif kind in (1, 4):
            section = yield 4
            idstr = (yield (yield 1)[0]).decode()
            instance = _word((yield 4))
            yield 4
            s.name(f"{'START' if kind == 1 else 'FULL'} {idstr}/{instance}")
            yield from _ram() if kind == 1 else _up_to(b"\x7e" + section)
            yield 5 if kind == 1 else 0
        elif kind in (2, 3):
            yield 4
            s.name("PART" if kind == 2 else "END")
            yield from _ram()
            yield 5
        elif kind == 6:
            s.name("VMDESCRIPTION")
            yield _word((yield 4))
        else:
            assert kind == 8, f"element {kind:#x}"
            number = int.from_bytes((yield 2), "big")
            payload = yield int.from_bytes((yield 2), "big")
            command = COMMANDS[number]
            s.name(f"{command} {_word(payload):#x}" if command == "PING" else command)


def _ram() -> Parse:
    """The body of a RAM section."""
    while True:
        head = int.from_bytes((yield 8), "big")
        flags = head & FLAGS
        if flags == EOS:
            return
        if flags == MEM_SIZE:
            left = head & ~FLAGS
            while left:
                yield (yield 1)[0]
                left -= int.from_bytes((yield 8), "big")
            continue
        if not flags & CONTINUE:
            yield (yield 1)[0]
        yield 1 if flags & ZERO else PAGE


def _up_to(mark: bytes) -> Parse:
    last = b""
    while last != mark:
        last = (last + (yield 1))[-len(mark) :]


def return_messages(s: Splitter) -> Parse:
    while True:
        s.begin()
        number = int.from_bytes((yield 2), "big")
        payload = yield int.from_bytes((yield 2), "big")
        message = RETURN_MESSAGES[number]
        s.name(f"{message} {_word(payload):#x}" if message in ("PONG", "SHUT") else message)
        if message == "RECV_BITMAP":
            yield int.from_bytes((yield 8), "big")
            yield 8


def tls_records(s: Splitter) -> Parse:
    while True:
        s.begin()
        head = yield 5
        s.name("record")
        yield int.from_bytes(head[3:], "big")


def _word(data: bytes) -> int:
    return int.from_bytes(data[:4], "big")
