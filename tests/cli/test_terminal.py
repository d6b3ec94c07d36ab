"""The terminal as a person uses it: Ctrl-A, the monitor's line editing, and the tty afterwards."""

from __future__ import annotations

import os
import pty
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest
from pexpect.fdpexpect import fdspawn

from tests.monitor.processes import PROGRAM, TIMEOUT, machine_options, start


@pytest.fixture
def console(tmp_path: Path) -> Iterator[pexpect.spawn]:
    """``-nographic`` with a machine that does not run."""
    options = [*PROGRAM[1:], *machine_options(tmp_path), "-nographic"]
    child = pexpect.spawn(PROGRAM[0], options, timeout=TIMEOUT)
    child.delaybeforesend = None
    yield child
    child.close(force=True)


def to_monitor(console: pexpect.spawn) -> None:
    # Input may come before the emulator has the terminal: the help answers as soon as it does.
    while console.expect(["switch between console and monitor", pexpect.TIMEOUT], timeout=0.5):
        console.send("\x01h")
    console.send("\x01c")
    console.expect_exact("(qemu) ")


@pytest.fixture
def monitor(console: pexpect.spawn) -> pexpect.spawn:
    to_monitor(console)
    return console


def test_ctrl_a_c_switches_and_the_monitor_greets_once(console: pexpect.spawn) -> None:
    while console.expect(["exit emulator", pexpect.TIMEOUT], timeout=0.5):
        console.send("\x01h")
    console.send("\x01c")
    console.expect_exact("e2kemu 1.0.0 monitor - type 'help' for more information\r")
    console.expect_exact("(qemu) ")
    console.send("\x01c")
    console.send("to the guest\r")
    console.send("\x01c")
    console.expect_exact("(qemu) ")
    assert b"monitor -" not in console.before
    assert b"unknown command" not in console.before
    console.send("quit\r")
    console.expect(pexpect.EOF)
    console.wait()
    assert console.exitstatus == 0


def test_ctrl_a_x_ends_the_emulator(console: pexpect.spawn) -> None:
    while console.expect(["exit emulator", pexpect.TIMEOUT], timeout=0.5):
        console.send("\x01h")
    console.send("\x01x")
    console.expect_exact("e2kemu: Terminated")
    console.expect(pexpect.EOF)
    console.wait()
    assert console.exitstatus == 0


def test_ctrl_c_does_not_kill_the_guests_console(monitor: pexpect.spawn) -> None:
    monitor.sendintr()
    monitor.send("info status\r")
    monitor.expect_exact("VM status: paused (prelaunch)")


def test_lines_can_be_edited_recalled_and_completed(monitor: pexpect.spawn) -> None:
    monitor.send("p 1+X\x7f1\r")
    monitor.expect("\r\n2\r")
    monitor.expect_exact("(qemu) ")
    monitor.send("2+5\x1b[H" + "p \r")  # Home
    monitor.expect("\r\n7\r")
    monitor.expect_exact("(qemu) ")
    monitor.send("\x1b[A\x1b[A\x1b[B\x15p 4\x1b[D9\x05\r")  # Up Up Down, Ctrl-U, Left, Ctrl-E
    monitor.expect("\r\n94\r")
    monitor.expect_exact("(qemu) ")
    monitor.send("\x1b[A\r")
    monitor.expect("\r\n94\r")
    monitor.expect_exact("(qemu) ")
    monitor.send("inf\tstat\t\r")
    monitor.expect_exact("VM status: paused (prelaunch)")
    monitor.expect_exact("(qemu) ")
    monitor.send("migrate_set_par\tdownt\t\t")
    monitor.expect_exact("downtime-limit")
    monitor.send("\x15migrate_set_cap\t")
    monitor.expect_exact("migrate_set_capability ")
    monitor.send("\x15system_\t")
    monitor.expect(r"system_powerdown[\r\n]+system_reset")


def test_another_escape_character(tmp_path: Path) -> None:
    options = [*PROGRAM[1:], *machine_options(tmp_path), "-nographic", "-echr", "0x14"]
    child = pexpect.spawn(PROGRAM[0], options, timeout=TIMEOUT)
    while child.expect(["C-t x", pexpect.TIMEOUT], timeout=0.5):
        child.send("\x14h")
    child.send("\x14x")
    child.expect_exact("Terminated")
    child.expect(pexpect.EOF)


@pytest.mark.parametrize(
    "options",
    [("-nographic",), ("-monitor", "stdio", "-serial", "null"), ("-nographic", "-kernel", "/nonexistent")],
    ids=["console", "monitor", "error"],
)
def test_the_terminal_is_as_before_however_it_ends(tmp_path: Path, options: tuple[str, ...]) -> None:
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    process = start(*machine_options(tmp_path), *options, stdin=slave, stdout=slave, stderr=subprocess.PIPE)
    if "-kernel" not in options:
        while termios.tcgetattr(slave) == before:
            assert process.poll() is None
            time.sleep(0.01)
        assert not termios.tcgetattr(slave)[3] & (termios.ICANON | termios.ECHO)
        os.set_blocking(master, False)
        process.terminate()
    process.communicate(timeout=30)
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


def test_ctrl_c_kills_under_plain_stdio(tmp_path: Path) -> None:
    options = [*PROGRAM[1:], *machine_options(tmp_path), "-display", "none", "-monitor", "stdio"]
    child = pexpect.spawn(PROGRAM[0], options, timeout=TIMEOUT)
    child.expect_exact("(qemu) ")
    child.sendintr()
    child.expect_exact("terminating on signal 2")
    child.expect(pexpect.EOF)
    child.wait()
    assert child.exitstatus == 0


def test_scripts_may_use_a_pipe(tmp_path: Path) -> None:
    result = subprocess.run(
        [*PROGRAM, *machine_options(tmp_path), "-display", "none", "-monitor", "stdio"],
        input=b"info status\np 6*7\nquit\nnot reached\n", capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    assert result.stdout.decode() == (
        "e2kemu 1.0.0 monitor - type 'help' for more information\r\n"
        "(qemu) VM status: paused (prelaunch)\r\n(qemu) 42\r\n(qemu) "
    )


def test_a_pty_has_an_echo_and_a_prompt(tmp_path: Path) -> None:
    process = start(*machine_options(tmp_path), "-display", "none", "-monitor", "pty", stdout=subprocess.PIPE)
    assert process.stdout is not None
    line = process.stdout.readline().decode()
    assert line.startswith("char device redirected to /dev/pts/")
    fd = os.open(line.split()[4], os.O_RDWR | os.O_NOCTTY)
    terminal = fdspawn(fd, timeout=TIMEOUT)
    terminal.expect_exact("(qemu) ")
    terminal.send("p 6*7\r")
    terminal.expect_exact("p 6*7\r\n42\r\n(qemu) ")
    terminal.send("quit\r")
    process.stdout.close()
    assert process.wait(30) == 0
