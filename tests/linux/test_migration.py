"""A process travels between two emulators in the middle of its run, or into a file: what it prints stays the same."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.framework import forked
from tests.linux.program import Code, numbers, run
from tests.linux.test_threads import join_thread, start_thread

SMALL = ("-m", "64")


class Emulator:
    """``e2kemu-run`` with a QMP socket."""

    def __init__(self, directory: Path, name: str, *options: str, program: Path | None = None) -> None:
        self.path = directory / f"{name}.qmp"
        command = [sys.executable, "-m", "e2kemu.run_cli", *SMALL, "-qmp", f"unix:{self.path},server=on,wait=off",
                   *options, *([str(program)] if program else [])]
        # without a buffer: ``communicate`` would not look into it
        self.process = forked.Popen(command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                    stderr=subprocess.PIPE)
        self._socket = socket.socket(socket.AF_UNIX)
        until = time.monotonic() + 60
        while True:
            try:
                self._socket.connect(str(self.path))
                break
            except OSError:
                assert time.monotonic() < until
                assert self.process.poll() is None, self.process.communicate()
                time.sleep(0.02)
        self._file = self._socket.makefile("rw")
        self._file.readline()
        self.command("qmp_capabilities")

    def command(self, name: str, **arguments: Any) -> Any:
        """The answer to a command: its "return", or its "error"."""
        self._file.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
        self._file.flush()
        while True:
            answer = json.loads(self._file.readline())
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                return answer["error"]

    def migrate(self, uri: str) -> dict[str, Any]:
        """Send the process away; the end of ``query-migrate``."""
        answer = self.command("migrate", uri=uri)
        if answer:
            return dict(answer)
        while True:
            info = self.command("query-migrate")
            if info.get("status") in ("completed", "failed"):
                return dict(info)
            time.sleep(0.02)

    def read_line(self) -> bytes:
        """The next line the program prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def end(self) -> tuple[int, bytes, bytes]:
        """Status, output and messages once it has ended by itself."""
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err

    def close(self) -> None:
        """Whatever happened, it is gone."""
        self._file.close()
        self._socket.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def emulators(tmp_path: Path) -> Iterator[Any]:
    """Makes emulators that are ended with the test."""
    made: list[Emulator] = []

    def make(name: str, *options: str, program: Path | None = None) -> Emulator:
        made.append(Emulator(tmp_path, name, *options, program=program))
        return made[-1]

    yield make
    for one in made:
        one.close()


def travel(make: Any, program: Path, directory: Path, *, after: int) -> tuple[int, bytes]:
    """Run ``program``, move it to another emulator after so many lines; its status and whole output."""
    target = make("target", "-incoming", f"unix:{directory}/channel")
    source = make("source", program=program)
    printed = b"".join(source.read_line() for _ in range(after))
    info = source.migrate(f"unix:{directory}/channel")
    assert info.get("status") == "completed", info
    source.command("quit")
    _, rest, messages = source.end()
    assert messages == b""
    status, out, messages = target.end()
    assert messages == b""
    return status, printed + rest + out


def busy(code: Code) -> Code:
    """Computes, sleeps and prints, with a deep stack, its memory and globals in use."""
    code.space("ts", 16, 0, 3_000_000).call("mmap", 0, 0x8000, 3, 0x12, 0xFFFFFFFF, 0, result="%dr7")
    code("addd,0 0, 0, %dg17").invoke("deep", 40, "%dr7").number("%dr16").exit(3)
    code.function("deep")("addd,0 0, %dr1, %dr7").branch("work", "cmpedb %dr0, 0")("subd,0 %dr0, 1, %dr5")
    code.invoke("deep", "%dr5", "%dr7")("addd,0 %dr16, %dr5, %dr6").leave("%dr6")
    code("work:")("addd,0 0, 0, %dr10")
    code("loop:")("shld,0 %dr10, 3, %dr11")("std,2 %dr10, [ %dr7 + %dr11 ]")("addd,0 %dg17, %dr10, %dg17")
    code("{ nop 4; ldd,0 %dr7, %dr11, %dr12 }").number("%dr12").number("%dg17").call("nanosleep", "ts", 0)
    code("addd,0 %dr10, 1, %dr10").branch("ready", "cmpedb %dr10, 60").goto("loop")
    code("ready:").leave("%dg17")
    return code


def test_a_process_that_moves_prints_the_same(tmp_path: Path, emulators: Any) -> None:
    program = busy(Code()).build(tmp_path)
    alone = run(program)
    assert alone.returncode == 3
    assert len(numbers(alone.stdout)) == 121
    assert travel(emulators, program, tmp_path, after=20) == (3, alone.stdout)


def test_threads_locks_and_sleepers_move(tmp_path: Path, emulators: Any) -> None:
    code = Code().space("turn", 16).space("ts", 16, 0, 2_000_000).space("count", 8)
    start_thread(code, "one", "body", 0x777)
    # the two take turns by a futex: turn is whose
    for name, mine, other, label in (("main", 0, 1, "m"), ("body", 1, 0, "b")):
        if name == "body":
            code("body:")
        code("addd,0 0, 0, %dr10")("addd,0 0, 0, %dr9")
        code(f"{label}_wait:")("{ nop 4; ldw,0 0, turn, %dr1 }").branch(f"{label}_go", f"cmpedb %dr1, {mine}")
        code.call("futex", "turn", 0, other, 0).goto(f"{label}_wait")
        code(f"{label}_go:").load("count", "%dr2")("addd,0 %dr2, 1, %dr2")("std,2 %dr2, [ 0 + count ]").number("%dr2")
        code.number("%dg13").call("nanosleep", "ts", 0)(f"addd,0 0, {other}, %dr3")("stw,2 %r3, [ 0 + turn ]")
        code.call("futex", "turn", 1, 1)("addd,0 %dr10, 1, %dr10").branch(f"{label}_end", "cmpedb %dr10, 20")
        code.goto(f"{label}_wait")(f"{label}_end:")
        if name == "main":
            join_thread(code, "one")
            code.exit(8)
        else:
            code.call("exit", 0)
    program = code.build(tmp_path)
    alone = run(program)
    assert numbers(alone.stdout)[::2] == list(range(1, 41))
    assert set(numbers(alone.stdout)[1::2]) == {0, 0x777}
    assert travel(emulators, program, tmp_path, after=21) == (8, alone.stdout)


def test_files_timers_and_signals_move(tmp_path: Path, emulators: Any) -> None:
    log = tmp_path / "log"
    code = Code().space("act", 32).space("it", 32, 0, 4000, 0, 4000).space("buffer", 16).space("many", 8)
    code.call("openat", 0xFFFFFF9C, code.text(str(log)), 0x241, 0o644, result="%dr8")
    code.store("act", "handler").store("act + 8", 4).call("rt_sigaction", 14, "act", 0, 8)
    code.call("setitimer", 0, "it", 0)
    code("wait:").call("pause").load("many", "%dr1").number("%dr1")("{ nop 4; stb,2 %r1, [ 0 + buffer ] }")
    code.call("write", "%dr8", "buffer", 1).branch("done", "cmpedb %dr1, 100").goto("wait")
    code("done:").exit(2)
    code.function("handler").load("many", "%dr1")("addd,0 %dr1, 1, %dr1")("std,2 %dr1, [ 0 + many ]").leave()
    program = code.build(tmp_path)
    status, out = travel(emulators, program, tmp_path, after=30)
    values = numbers(out)
    assert status == 2
    assert values[-1] == 100
    assert values == sorted(set(values))
    # every one was written once, and behind the one before
    assert list(log.read_bytes()) == values


def test_a_process_is_saved_and_goes_on_later(tmp_path: Path, emulators: Any) -> None:
    program = busy(Code()).build(tmp_path)
    alone = run(program)
    state = tmp_path / "state"
    source = emulators("source", program=program)
    printed = b"".join(source.read_line() for _ in range(10))
    info = source.migrate(f"file:{state}")
    assert info.get("status") == "completed", info
    source.command("quit")
    _, rest, _ = source.end()
    target = emulators("target", "-incoming", f"file:{state}")
    status, out, messages = target.end()
    assert (status, printed + rest + out, messages) == (3, alone.stdout, b"")


def test_a_snapshot_is_where_a_later_run_begins(tmp_path: Path, emulators: Any) -> None:
    program = busy(Code()).build(tmp_path)
    directory = tmp_path / "snapshots"
    directory.mkdir()
    source = emulators("source", "-snapshot-dir", str(directory), program=program)
    printed = b"".join(source.read_line() for _ in range(10))
    assert source.command("human-monitor-command", **{"command-line": "savevm here"}) == ""
    status, rest, _ = source.end()
    target = emulators("target", "-snapshot-dir", str(directory), "-loadvm", "here", program=program)
    again, out, messages = target.end()
    assert (status, again, messages) == (3, 3, b"")
    assert len(out) > 17 * 20
    assert (printed + rest).endswith(out)


def test_a_stopped_process_stands_still_and_its_time_too(tmp_path: Path, emulators: Any) -> None:
    code = Code().space("ts", 16).space("nap", 16, 0, 1_000_000)
    code("loop:").call("clock_gettime", 1, "ts").load("ts", "%dr1").load("ts + 8", "%dr2").number("%dr1").number("%dr2")
    code.call("nanosleep", "nap", 0).goto("loop")
    emulator = emulators("one", program=code.build(tmp_path))
    for _ in range(6):
        emulator.read_line()
    assert emulator.command("stop") == {}
    assert emulator.command("query-status")["status"] == "paused"
    time.sleep(1.0)
    emulator.command("cont")
    times = []
    for _ in range(60):
        seconds, ns = int(emulator.read_line(), 16), int(emulator.read_line(), 16)
        times.append(seconds * 10**9 + ns)
    # what was written before the stop was read before: the pause would show as a gap
    assert times == sorted(times)
    registers = emulator.command("human-monitor-command", **{"command-line": "info registers"})
    assert "pc=" in registers


@pytest.mark.parametrize(("call", "reason"), [
    ("socket", "socket"), ("fork", "child process"), ("shared", "shared mapping"),
])
def test_what_cannot_follow_is_a_blocker_with_its_name(call: str, reason: str, tmp_path: Path, emulators: Any) -> None:
    code = Code().space("nap", 16, 60)
    if call == "socket":               # a connection that was tried: to port 1 of 127.0.0.1
        code.space("address", 16, 0x0100007F01000002).call("socket", 2, 1, 0).call("connect", "%dr16", "address", 16)
    elif call == "fork":
        code.call("fork").branch("child", "cmpedb %dr16, 0")
    else:
        (tmp_path / "data").write_bytes(bytes(4096))
        code.call("openat", 0xFFFFFF9C, code.text(str(tmp_path / "data")), 2, 0)
        code.call("mmap", 0, 0x1000, 3, 1, "%dr16", 0)
    code.say("ready\n").call("nanosleep", "nap", 0)("child:").call("nanosleep", "short", 0).exit(0)
    code.space("short", 16, 3)
    emulator = emulators("one", program=code.build(tmp_path))
    assert emulator.read_line() == b"ready\n"
    answer = emulator.migrate(f"file:{tmp_path}/state")
    assert reason in json.dumps(answer)
    assert "cannot be migrated" in json.dumps(answer)
    assert emulator.command("query-status")["status"] == "running"


def test_a_server_moves_while_it_waits_and_its_clients_find_it(tmp_path: Path, emulators: Any) -> None:
    """A listening socket, and a pair of sockets with bytes in it."""
    code = Code().space("address", 16, 0x0100007F00000002).space("size", 8, 16).space("ends", 8).space("buffer", 16)
    code.call("socketpair", 1, 1, 0, "ends")("{ nop 4; ldw,0 0, ends, %dr10; ldw,2 0, ends + 4, %dr11 }")
    code.call("write", "%dr10", code.text("in the pair\n"), 12)
    code.call("socket", 2, 1, 0, result="%dr8").call("bind", "%dr8", "address", 16).call("listen", "%dr8", 4)
    code.call("getsockname", "%dr8", "address", "size")("{ nop 4; ldh,0 0, address + 2, %dr1 }").number("%dr1")
    code.call("accept", "%dr8", 0, 0, result="%dr9").call("write", "%dr9", code.text("served\n"), 7)
    code.call("read", "%dr11", "buffer", 16, result="%dr12").call("write", 1, "buffer", "%dr12").exit(6)
    program = code.build(tmp_path)
    target = emulators("target", "-incoming", f"unix:{tmp_path}/channel")
    source = emulators("source", program=program)
    port = int.from_bytes(int(source.read_line(), 16).to_bytes(2, "little"), "big")
    info = source.migrate(f"unix:{tmp_path}/channel")
    assert info.get("status") == "completed", info
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        assert client.recv(16) == b"served\n"
    status, out, messages = target.end()
    assert (status, out, messages) == (6, b"in the pair\n", b"")


def _connected(port: int) -> socket.socket:
    """Connect to the program; who goes on listens again when its thread runs, some time after ``cont`` has answered."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=30)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def test_a_listening_socket_goes_on_where_it_was_when_only_its_state_is_taken(tmp_path: Path, emulators: Any) -> None:
    code = Code().space("address", 16, 0x0100007F00000002).space("size", 8, 16)
    code.call("socket", 2, 1, 0, result="%dr8").call("bind", "%dr8", "address", 16).call("listen", "%dr8", 4)
    code.call("getsockname", "%dr8", "address", "size")("{ nop 4; ldh,0 0, address + 2, %dr1 }").number("%dr1")
    code.call("accept", "%dr8", 0, 0, result="%dr9").call("write", "%dr9", code.text("served\n"), 7).exit(6)
    source = emulators("source", program=code.build(tmp_path))
    port = int.from_bytes(int(source.read_line(), 16).to_bytes(2, "little"), "big")
    assert source.migrate(f"file:{tmp_path}/state").get("status") == "completed"
    assert source.command("cont") == {}
    with _connected(port) as client:
        assert client.recv(16) == b"served\n"
    assert source.end()[0] == 6


def test_damage_to_the_process_section_ends_the_destination_with_one_line(tmp_path: Path, emulators: Any) -> None:
    state = tmp_path / "state"
    source = emulators("source", program=busy(Code()).build(tmp_path))
    source.read_line()
    assert source.migrate(f"file:{state}").get("status") == "completed"
    data = state.read_bytes()
    at = data.index(b'{"pid":')
    for old, new in ((b'"brk_start"', b'"brk_stert"'), (b'"areas":[[', b'"areas":[{'), (b'"umask":1', b'"umask":['),
                     (b'"current":true', b'"current":null')):
        assert old in data[at:]
        state.write_bytes(data[:at] + data[at:].replace(old, new, 1))
        done = forked.run([sys.executable, "-m", "e2kemu.run_cli", *SMALL, "-incoming", f"file:{state}"],
                              capture_output=True, timeout=60, check=False)
        assert done.returncode == 1
        assert b"Traceback" not in done.stderr
        assert b"process" in done.stderr
