"""The human monitor over a real socket: prompt, arguments, help, dumps, errors."""

from __future__ import annotations

import json
import random
import re

import pytest

from e2kemu.monitor.dispatch import HMP, INFO
from tests.monitor.conftest import Emulator
from tests.monitor.processes import RawHmp, RawQmp

EXTRA = "extraneous characters at the end of line"


def test_it_greets_and_prompts(emulator: Emulator) -> None:
    client = emulator.hmp()
    assert client.banner == "e2kemu 1.0.0 monitor - type 'help' for more information\r\n(qemu) "
    client.socket.close()


@pytest.mark.parametrize(
    ("line", "output"),
    [
        ("", ""),
        ("info status", "VM status: paused (prelaunch)\n"),
        ("info name", "tested\n"),
        ("info uuid", "12345678-9abc-def0-1234-56789abcdef0\n"),
        ("p 2+3*4", "14\n"),
        ("p/x 0x10 | 3", "0x13\n"),
        ("print/c 65", "'A'\n"),
        ("p /x -1", "0xffffffffffffffff\n"),
        ("p $pc", f"{0x1_0000_0000}\n"),
        ("p/x $%pc + 8", "0x100000008\n"),
        ("p $nonsense", 'unknown register\nTry "help print" for more information\n'),
        ("p 1/0", 'division by zero\nTry "help print" for more information\n'),
        ("p", 'unexpected end of expression\nTry "help print" for more information\n'),
        ("p 1 2", f"print: {EXTRA}\nTry \"help print\" for more information\n"),
        ("foo", "unknown command: 'foo'\n"),
        ("foo bar", "unknown command: 'foo'\n"),
        ("info foo", "unknown command: 'info foo'\n"),
        ("stop now", f"stop: {EXTRA}\nTry \"help stop\" for more information\n"),
        ("closefd zz", "Error: File descriptor named 'zz' not found\n"),
        ("object_del zz", "Error: object 'zz' not found\n"),
        ("object_add zz,id=a", "Error: invalid object type: zz\n"),
        ("object_add zz", "Error: Parameter 'id' is missing\n"),
        ("log nonsense", "Error: invalid log item 'nonsense' (help log lists them)\n"),
        ("x/2xw 0xff0000", "0000000000ff0000: 0x0107e200 0x00001000\n"),
        ("xp/4xb 0xff0000", "0000000000ff0000: 0x00 0xe2 0x07 0x01\n"),
        ("xp/1dh 0xff0000", "0000000000ff0000: -7680\n"),
        ("xp/1uh 0xff0000", "0000000000ff0000: 57856\n"),
        ("xp/1oh 0xff0000", "0000000000ff0000: 0161000\n"),
        ("xp/2c 0xff0090", "0000000000ff0090: 'e' 'l'\n"),
        ("xp/1tb 0xff0002", "0000000000ff0002: 00000111\n"),
        ("xp/1xg 0xff0000", "0000000000ff0000: 0x000010000107e200\n"),
        ("x/1xb 0x7fff0000", "Error: Invalid addr 0x000000007fff0000/size 1 specified\n"),
        ("x/1z 0", 'invalid char in format: \'z\'\nTry "help x" for more information\n'),
        ("migrate_set_capability events maybe",
         "Expected 'on' or 'off'\nTry \"help migrate_set_capability\" for more information\n"),
        ("help stop", "stop|s  -- stop emulation\n"),
        ("help info status", "info status  -- show the current VM status (running|paused)\n"),
        ("help nonsense", "Error: unknown command: 'nonsense'\n"),
        ('memsave 0 16 "/nonexistent/a b"',
         "Error: Could not open '/nonexistent/a b': No such file or directory\n"),
        ('memsave 0 16 "open', 'unterminated string\nTry "help memsave" for more information\n'),
        ("system_powerdown", ""),
        ("migrate -x tcp:1:2", 'migrate: unsupported option -x\nTry "help migrate" for more information\n'),
    ],
)  # fmt: skip
def test_a_line_has_this_output(hmp: RawHmp, line: str, output: str) -> None:
    assert hmp.ask(line) == output


def test_help_lists_every_command_and_every_item(hmp: RawHmp) -> None:
    # a line that begins with a space goes on with the command before it
    commands = [line for line in hmp.ask("help").splitlines() if not line[0].isspace()]
    items = hmp.ask("info").splitlines()
    assert len(commands) >= 20
    assert len(items) >= 10
    assert {line.split()[0].split("|")[0] for line in commands} == set(HMP)
    assert {line.split()[1] for line in items} == set(INFO)
    assert hmp.ask("?") == hmp.ask("help")
    assert items == hmp.ask("help info").splitlines()
    for name in set(HMP) - {"info"}:
        assert hmp.ask(f"help {name}").splitlines()[0] in commands


def test_every_info_item_prints_without_an_error(hmp: RawHmp) -> None:
    assert len(INFO) >= 10
    for name in INFO:
        output = hmp.ask(f"info {name}")
        assert "Error" not in output, name
        assert "internal" not in output, name


def test_registers_are_shown_for_the_person(hmp: RawHmp) -> None:
    output = hmp.ask("info registers")
    assert "pc=0000000100000000" in output
    assert re.search(r"\busd\.hi=[0-9a-f]{16}", output)
    assert "pred=" in output


def test_aliases_and_beginnings_find_the_command(hmp: RawHmp) -> None:
    for line in ("i status", "info status", "inf status", "info stat"):
        assert hmp.ask(line) == "VM status: paused (prelaunch)\n"
    assert hmp.ask("migrate_set") == "unknown command: 'migrate_set'\n", "more than one begins so"


def test_many_lines_at_once_are_answered_in_order(hmp: RawHmp) -> None:
    hmp.socket.sendall(b"p 1\np 2\r\np 3\r")
    text = ""
    while text.count("(qemu) ") < 3:
        text += hmp.until_prompt()
    assert text == "1\r\n(qemu) 2\r\n(qemu) 3\r\n(qemu) "


def test_the_other_monitor_runs_lines_too_and_returns_their_output(qmp: RawQmp) -> None:
    request = {"execute": "human-monitor-command", "arguments": {"command-line": "p 6*7"}}
    assert qmp.ask(json.dumps(request).encode()) == {"return": "42\r\n".replace("\r", "")}


def test_running_and_stopping_is_seen_in_both_monitors(emulator: Emulator, qmp: RawQmp) -> None:
    hmp = emulator.hmp()
    assert hmp.ask("c") == ""
    assert qmp.ask(b'{"execute": "query-status"}')["return"]["running"] in (True, False)
    assert hmp.ask("stop") == ""
    qmp.ask(b'{"execute": "system_reset"}')
    assert hmp.ask("info status") == "VM status: paused (prelaunch)\n"
    hmp.socket.close()


def test_random_lines_are_answered_and_never_break_anything(emulator: Emulator) -> None:
    seed = 20262
    print(f"seed {seed}")
    source = random.Random(seed)
    lasting = {"quit", "logfile", "memsave", "pmemsave", "migrate", "migrate_incoming", "cont"}
    harmless = sorted(set(HMP) - lasting)
    words = [*INFO, "-d", "-a", "/4xg", "/3i", "0xff0000", "$r0", "(1+2", '"a b"', "on", "=,=", "id=a", "-1",
             "\x7f", "é", "%s%n", "tls-creds-x509,id=a", "/", "''", "9" * 30, "/" + "9" * 5000]  # fmt: skip
    hmp = emulator.hmp()
    for _ in range(300):
        line = " ".join([source.choice(harmless), *source.choices(words, k=source.randrange(4))])
        output = hmp.ask(line)
        assert "internal error" not in output, line
        assert "Traceback" not in output, line
    assert hmp.ask("p 1") == "1\n"
    hmp.socket.close()
