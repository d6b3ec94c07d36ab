"""JSON values out of a byte stream that has no frames: QMP clients send no newline after a request.

``JsonStream.feed`` gives the complete values and ``JsonError``s in order. A value ends when its brackets
close. After an error reading goes on behind the offending bytes: a raw control character inside a string or
the byte 0xff ends whatever was under way, so a client can always resynchronise. Memory is bounded by
``MAX_SIZE`` and ``MAX_NESTING``.
"""

from __future__ import annotations

import json
import re
from typing import Any

MAX_SIZE = 1 << 20
"""Bytes of one request."""
MAX_NESTING = 512

_OUTSIDE = re.compile(rb'[\[\]{}"\xff]')
_IN_STRING = re.compile(rb'[\x00-\x1f"\\\xff]')
_BETWEEN = re.compile(rb"[ \t\r\n]*")
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_WORD = re.compile(rb'[^\s\[\]{}"\xff]+')


class JsonError(Exception):
    """Something that is no JSON value; the text is for the client."""


class JsonStream:
    """See the module."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0
        self._depth = 0
        self._in_string = False
        self._skipping = False

    @property
    def buffered(self) -> int:
        """Bytes kept."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Any | JsonError]:
        """Take ``data``; what is complete now, in order."""
        self._buffer += data
        found: list[Any | JsonError] = []
        while self._step(found):
            pass
        if len(self._buffer) > MAX_SIZE and not self._skipping:
            found.append(JsonError("JSON token size limit exceeded"))
            self._skipping = True
        if self._skipping:
            # Only the bracket count matters until the giant is over.
            del self._buffer[: self._scanned]
            self._scanned = 0
        return found

    def _step(self, found: list[Any | JsonError]) -> bool:
        """Scan to the next point of interest; False when more input is needed."""
        if self._depth == 0 and not self._in_string:
            begun = self._begin(found)
            if begun is not None:
                return begun
        pattern = _IN_STRING if self._in_string else _OUTSIDE
        match = pattern.search(self._buffer, self._scanned)
        if match is None:
            self._scanned = len(self._buffer)
            return False
        char = match[0]
        if char == b"\\":
            if match.end() == len(self._buffer):
                self._scanned = match.start()
                return False  # what it escapes has not come yet
            self._scanned = match.end() + 1
            return True
        self._scanned = match.end()
        if char == b'"':
            self._in_string = not self._in_string
        elif char in (b"{", b"["):
            self._depth += 1
            if self._depth == MAX_NESTING + 1 and not self._skipping:
                found.append(JsonError("JSON nesting depth limit exceeded"))
                self._skipping = True
        elif char in (b"}", b"]"):
            self._depth -= 1
        else:
            self._cut(found, JsonError("JSON parse error, stray control character"))
            return True
        if self._depth == 0 and not self._in_string:
            self._cut(found, None)
        return True

    def _begin(self, found: list[Any | JsonError]) -> bool | None:
        """Between values: drop blanks, refuse words. None when a bracket or string begins, else as _step."""
        blank = _BETWEEN.match(self._buffer)
        assert blank is not None  # it matches nothing at all too
        del self._buffer[: blank.end()]
        self._scanned = 0
        if not self._buffer:
            return False
        word = _WORD.match(self._buffer)
        if word is not None:
            if word.end() == len(self._buffer) and len(self._buffer) < MAX_SIZE:
                return False  # it may go on
            self._scanned = word.end()
            self._cut(found, self._parse(word[0].decode("utf-8", "replace")))
            return True
        first = bytes(self._buffer[:1])
        if first in (b"}", b"]", b"\xff"):
            self._scanned = 1
            wrong = JsonError(f"JSON parse error, unexpected '{first.decode('latin-1')}'")
            self._cut(found, wrong, silent=first == b"\xff")
            return True
        return None

    def _cut(self, found: list[Any | JsonError], value: Any, silent: bool = False) -> None:
        """The bytes up to here are one value (``value`` None: parse them) or one error."""
        text = bytes(self._buffer[: self._scanned])
        del self._buffer[: self._scanned]
        self._scanned = self._depth = 0
        self._in_string = False
        skipped, self._skipping = self._skipping, False
        if skipped or silent:
            return
        found.append(self._parse(text.decode("utf-8", "replace")) if value is None else value)

    @staticmethod
    def _parse(text: str) -> Any | JsonError:
        def refuse(constant: str) -> None:
            raise ValueError(f"invalid keyword '{constant}'")

        def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            result = dict(pairs)
            if len(result) < len(pairs):
                raise ValueError("duplicate key")
            return result

        if _NUL.search(text):
            return JsonError("JSON parse error, a string holds the character 0")
        try:
            value = json.loads(text, parse_constant=refuse, object_pairs_hook=unique)
            json.dumps(value, ensure_ascii=False).encode()
            return value
        except UnicodeEncodeError:
            return JsonError("JSON parse error, invalid surrogate in a string")
        except json.JSONDecodeError as error:
            return JsonError(f"JSON parse error, {error.msg[:1].lower()}{error.msg[1:]}")
        except (ValueError, RecursionError) as error:
            return JsonError(f"JSON parse error, {error}")
