"""Emulator processes for the tests of monitors and consoles: stopped machines with an empty boot ROM."""

from __future__ import annotations

import atexit
import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.framework import forked

PROGRAM = [sys.executable, "-m", "e2kemu"]
TIMEOUT = 30.0


def machine_options(directory: Path) -> list[str]:
    """A small machine that does not run: its ROM is empty."""
    rom = directory / "empty-rom.bin"
    rom.write_bytes(bytes(4096))
    return ["-m", "32M", "-S", "-bios", str(rom)]


def start(*options: str, **kwargs: Any) -> subprocess.Popen[bytes]:
    """Start the program; the caller ends it (at the latest it ends with the test run)."""
    process = forked.Popen([*PROGRAM, *options], **kwargs)
    atexit.register(process.kill)  # a test that fails half-way leaves nothing behind
    return process


def connect(path: Path, process: subprocess.Popen[bytes]) -> socket.socket:
    """Connect to a Unix socket that the process is about to serve."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(TIMEOUT)
        try:
            client.connect(str(path))
            return client
        except OSError:
            client.close()
            assert process.poll() is None, "the emulator has ended"
            assert time.monotonic() < deadline, f"nobody listens on {path}"
            time.sleep(0.02)


class RawQmp:
    """A QMP client that can misbehave: it sends what it is told."""

    def __init__(self, path: Path, process: subprocess.Popen[bytes]) -> None:
        self.socket = connect(path, process)
        self._buffer = b""
        self.greeting = self.receive()

    def receive(self) -> dict[str, Any]:
        """The next message, events included."""
        while b"\r\n" not in self._buffer:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        message = json.loads(line)
        assert isinstance(message, dict)
        return message

    def reply(self) -> dict[str, Any]:
        """The next message that is not an event."""
        while "event" in (message := self.receive()):
            pass
        return message

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, data: bytes) -> dict[str, Any]:
        """Send and wait for one reply."""
        self.send(data)
        return self.reply()

    def negotiate(self) -> None:
        assert self.ask(b'{"execute": "qmp_capabilities"}') == {"return": {}}

    def close(self) -> None:
        self.socket.close()


class RawHmp:
    """A human monitor over a socket."""

    def __init__(self, path: Path, process: subprocess.Popen[bytes]) -> None:
        self.socket = connect(path, process)
        self.banner = self.until_prompt()

    def until_prompt(self) -> str:
        text = b""
        while not text.endswith(b"(qemu) "):
            data = self.socket.recv(65536)
            if not data:
                raise EOFError(text)
            text += data
        return text.decode()

    def ask(self, line: str) -> str:
        """The output of one command, without the prompt."""
        self.socket.sendall(line.encode() + b"\n")
        return self.until_prompt().removesuffix("(qemu) ").replace("\r\n", "\n")
