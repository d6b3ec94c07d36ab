"""Monitors beside a guest that runs the bundled firmware: events, disassembly, a command that waits."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests.monitor.processes import PROGRAM, TIMEOUT, RawHmp, RawQmp, connect, start


class Guest:
    """An emulator whose guest ticks on a Unix socket."""

    def __init__(self, directory: Path, workload: str = "ticks") -> None:
        self.directory = directory
        self.process = start(
            "-m", "32M", "-display", "none", "-append", f"workload={workload}",
            "-serial", f"unix:{directory}/serial,server=on,wait=off",
            "-monitor", f"unix:{directory}/hmp,server=on,wait=off",
            "-qmp", f"unix:{directory}/qmp,server=on,wait=off",
        )  # fmt: skip
        self.serial = connect(directory / "serial", self.process)
        self.qmp = RawQmp(directory / "qmp", self.process)
        self.qmp.negotiate()
        self.hmp = RawHmp(directory / "hmp", self.process)

    def until(self, text: bytes) -> bytes:
        """Read the console until it has printed ``text``."""
        seen = b""
        while text not in seen:
            data = self.serial.recv(4096)
            assert data
            seen += data
        return seen

    def execute(self, command: str, **arguments: object) -> object:
        request = {"execute": command, "arguments": {k.replace("_", "-"): v for k, v in arguments.items()}}
        reply = self.qmp.ask(json.dumps(request).encode())
        assert "return" in reply, reply
        return reply["return"]

    def event(self, name: str) -> dict[str, object]:
        """The next event, which must be ``name``."""
        message = self.qmp.receive()
        assert message.get("event") == name, message
        return message


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Guest]:
    running = Guest(tmp_path)
    yield running
    running.process.kill()
    running.process.wait()


def test_stop_and_cont_are_told_before_their_reply_and_the_guest_obeys(guest: Guest) -> None:
    guest.until(b"tick 2")
    guest.qmp.send(b'{"execute": "stop"}')
    guest.event("STOP")
    assert guest.qmp.receive() == {"return": {}}
    assert guest.hmp.ask("info status") == "VM status: paused\n"
    guest.qmp.send(b'{"execute": "cont"}')
    guest.event("RESUME")
    assert guest.qmp.receive() == {"return": {}}
    guest.until(b"tick 4")


def test_quit_answers_then_says_shutdown_then_ends_with_status_0(guest: Guest) -> None:
    guest.qmp.send(b'{"execute": "quit", "id": 1}')
    assert guest.qmp.receive() == {"return": {}, "id": 1}
    assert guest.event("SHUTDOWN")["data"] == {"guest": False, "reason": "host-qmp-quit"}
    with pytest.raises(EOFError):
        guest.qmp.receive()
    assert guest.process.wait(30) == 0


def test_system_reset_boots_again(guest: Guest) -> None:
    guest.until(b"tick 1")
    guest.qmp.send(b'{"execute": "system_reset"}')
    guest.event("RESET")
    guest.until(b"firmware")
    guest.until(b"tick 1")


def test_code_is_shown_as_wide_instructions(guest: Guest) -> None:
    output = guest.hmp.ask("x/3i 0x100000000")
    assert output.startswith("0x0000000100000000: {\n")
    assert output.count("\n}\n") == 3
    assert "nop" in output or "setwd" in output or "rwd" in output or "," in output


def test_a_client_that_does_not_read_the_console_holds_nobody_up_and_loses_nothing(tmp_path: Path) -> None:
    guest = Guest(tmp_path, "pages start=16M end=16388K")  # prints a letter for each page it writes
    guest.until(b"BBB")
    for _ in range(100):
        assert guest.hmp.ask("p 1") == "1\n"
    assert guest.execute("query-status") == {"running": True, "status": "running"}
    guest.qmp.send(b'{"execute": "stop"}')
    guest.event("STOP")
    guest.process.terminate()
    rest = b""
    while data := guest.serial.recv(65536):
        rest += data
    assert set(rest) <= set(b"B\r\n")
    assert guest.process.wait(30) == 0


def test_migrate_keeps_only_its_own_monitor_waiting(guest: Guest) -> None:
    guest.until(b"tick 1")
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(guest.directory / "silent"))
        silent.listen(1)  # takes the stream, until nothing fits any more, and never answers
        guest.execute("migrate-set-parameters", max_bandwidth=4096)
        guest.hmp.socket.sendall(f"migrate unix:{guest.directory}/silent\np 6*7\n".encode())
        assert guest.execute("query-status")
        while dict(guest.execute("query-migrate")).get("status") != "active":  # type: ignore[call-overload]
            pass
        guest.hmp.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            guest.hmp.until_prompt()
        guest.hmp.socket.settimeout(TIMEOUT)
        guest.execute("migrate_cancel")
        assert guest.hmp.until_prompt().endswith("(qemu) ")
        guest.until(b"tick")


def test_the_guests_status_is_the_emulators(tmp_path: Path) -> None:
    result = subprocess.run(
        [*PROGRAM, "-m", "32M", "-nographic", "-append", "workload=hello"],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert b"hello" in result.stdout
    assert result.stderr == b""


def test_no_shutdown_keeps_a_guest_that_powered_off(tmp_path: Path) -> None:
    process = start(
        "-m", "32M", "-display", "none", "-append", "workload=hello", "-no-shutdown",
        "-qmp", f"unix:{tmp_path}/qmp,server=on,wait=off",
    )  # fmt: skip
    qmp = RawQmp(tmp_path / "qmp", process)
    qmp.negotiate()
    while qmp.ask(b'{"execute": "query-status"}')["return"]["status"] != "shutdown":
        pass
    error = qmp.ask(b'{"execute": "cont"}')["error"]
    assert error["desc"] == "Resetting the Virtual Machine is required"
    qmp.send(b'{"execute": "quit"}')
    assert process.wait(30) == 0


def test_console_and_monitor_share_the_terminal() -> None:
    options = [*PROGRAM[1:], "-m", "32M", "-nographic", "-append", "workload=ticks"]
    child = pexpect.spawn(PROGRAM[0], options, timeout=TIMEOUT)
    child.expect_exact("tick 2")
    child.send("\x01c")
    child.expect_exact("(qemu) ")
    child.send("stop\r")
    child.expect_exact("stop\r")
    child.expect_exact("(qemu) ")
    child.send("info status\r")
    child.expect_exact("VM status: paused\r")
    child.send("c\r\x01c")
    child.expect(r"tick \d+\r")
    child.send("\x01x")
    child.expect_exact("Terminated")
    child.expect(pexpect.EOF)
    child.wait()
    assert child.exitstatus == 0
