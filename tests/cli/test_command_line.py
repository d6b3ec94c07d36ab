"""The command as a process: help, versions, and every mistake as one line with status 1."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from e2kemu import cli, objects
from e2kemu.cli import main
from e2kemu.cli_table import OPTIONS, REFUSED, SECTIONS
from tests.monitor.processes import PROGRAM, connect, machine_options, start

Refused = Callable[..., str]


def run(*options: str) -> subprocess.CompletedProcess[str]:
    command = [*PROGRAM, *options]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False
    )


def one_line(status: int, output: str, errors: str) -> str:
    """The line of a start that failed, without the program's name."""
    assert status == 1, errors
    assert output == ""
    lines = errors.splitlines()
    assert len(lines) == 1, errors
    assert lines[0].startswith("e2kemu: ")
    return lines[0].removeprefix("e2kemu: ")


@pytest.fixture
def refused(capfd: pytest.CaptureFixture[str]) -> Refused:
    """Start with options that must be refused; the line."""

    def start_and_fail(*options: str) -> str:
        capfd.readouterr()
        status = main(options)
        return one_line(status, *capfd.readouterr())

    return start_and_fail


def test_a_process_that_cannot_start_says_so_in_one_line_with_status_1(tmp_path: Path) -> None:
    for options in (("-foo",), ("-nographic", "-kernel", str(tmp_path / "missing"))):
        result = run(*options)
        assert options[-1] in one_line(result.returncode, result.stdout, result.stderr)


def test_help_shows_every_option_in_qemus_shape(capfd: pytest.CaptureFixture[str]) -> None:
    text = run("-help").stdout
    assert text.startswith("e2kemu emulator version 1.0.0\nusage: e2kemu [options]\n\nStandard options:\n")
    assert "-h or -help     display this help and exit\n" in text
    assert "-machine [type=]name[,suppress-vmdesc=on|off]\n" in text
    assert len(OPTIONS) > 25
    for _, options in SECTIONS:
        for option in options:
            assert f"-{option.names[0]}" in text
            assert option.help
    assert max(map(len, text.splitlines())) <= 100
    for option in ("--help", "-h"):
        assert main([option]) == 0
        assert capfd.readouterr().out == text


@pytest.mark.parametrize(
    ("option", "word"),
    [("-M", "elbrus-1.0"), ("-machine", "elbrus"), ("-cpu", "e8c"), ("-accel", "reference"),
     ("-d", "guest_errors"), ("-object", "tls-creds-x509"), ("-display", "none"), ("-chardev", "socket")],
)  # fmt: skip
def test_help_as_a_value_lists_the_choices(
    capfd: pytest.CaptureFixture[str], option: str, word: str
) -> None:
    assert main([option, "help"]) == 0
    output, errors = capfd.readouterr()
    assert word in output
    assert errors == ""


def test_version(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["-version"]) == 0
    assert capfd.readouterr().out == "e2kemu emulator version 1.0.0\n"


def test_wrong_options_are_one_line(tmp_path: Path, refused: Refused) -> None:
    missing = str(tmp_path / "missing")
    assert refused("-foo") == "-foo: invalid option"
    assert refused("-m") == "-m: requires an argument"
    assert refused("disk.img").startswith("disk.img: ")
    assert refused("-m", "1Z") == "-m 1Z: Parameter 'size' expects a non-negative number below 2^64"
    assert refused("-m", "256M,slots=2") == "-m 256M,slots=2: Invalid parameter 'slots'"
    assert refused("-m", "1M").startswith("-m 1M: 1 MiB of RAM is too little")
    assert refused("-M", "pc").startswith('-machine pc: unsupported machine type: "pc"')
    assert refused("-cpu", "486") == "-cpu 486: unable to find CPU model '486'"
    assert refused("-accel", "kvm") == "-accel kvm: invalid accelerator kvm"
    assert refused("-smp", "99").startswith("-smp 99: Invalid SMP CPUs 99.")
    assert refused("-display", "gtk") == "-display gtk: there is no graphics"
    assert refused("-uuid", "1") == "-uuid 1: failed to parse UUID string: wrong format"
    assert refused("-d", "nothing").startswith("-d nothing: invalid log item 'nothing'")
    assert refused("-D", f"{missing}/x").startswith(f"-D {missing}/x: cannot open log file")
    assert refused("-echr", "77") == "-echr 77: expects the number of a control character, 0 to 31"
    assert refused("-object", "zz,id=a") == "-object zz,id=a: invalid object type: zz"
    assert refused("-chardev", "zz,id=a") == "-chardev zz,id=a: 'zz' is not a valid char driver name"
    assert refused("-serial", "zz") == "-serial zz: 'zz' is not a valid char driver name"
    assert refused("-serial", "chardev:a") == '-serial chardev:a: chardev "a" not found'
    assert refused("-mon", "chardev=a") == '-mon chardev=a: chardev "a" not found'
    assert "-pidfile" in refused("-pidfile", f"{missing}/pid", "-S", "-nographic")


def test_two_users_of_the_terminal_are_refused_in_qemus_words(refused: Refused) -> None:
    for serial in ("stdio", "mon:stdio"):
        line = refused("-serial", serial, "-monitor", "stdio")
        assert line == "-monitor stdio: cannot use stdio by multiple character devices"


def test_files_that_cannot_be_used_are_named(tmp_path: Path, refused: Refused) -> None:
    missing, foreign = tmp_path / "missing", tmp_path / "foreign.elf"
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\x3e\x00\x01\x00\x00\x00" + bytes(24)
    foreign.write_bytes(header + b"\x00\x00\x00\x00\x40\x00\x38\x00\x00\x00\x40\x00\x00\x00\x00\x00")
    assert refused("-kernel", str(missing)).endswith("No such file or directory")
    assert refused("-bios", str(missing)).startswith(f"-bios {missing}: ")
    assert "not for e2k" in refused("-kernel", str(foreign))
    assert "ELF" in refused("-kernel", __file__)
    creds = f"tls-creds-x509,id=tls0,dir={missing},endpoint=server"
    assert refused("-object", creds).endswith("ca-cert.pem: No such file or directory")


def test_a_busy_port_is_named(tmp_path: Path, refused: Refused) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        for option in ("-qmp", "-monitor", "-serial"):
            line = refused(*machine_options(tmp_path), option, f"tcp:127.0.0.1:{port},server=on,wait=off")
            assert line.startswith(f"{option} tcp:127.0.0.1:{port}")
            assert line.endswith("Address already in use")
        line = refused(*machine_options(tmp_path), "-nographic", "-incoming", f"tcp:127.0.0.1:{port}")
        assert line.startswith(f"-incoming tcp:127.0.0.1:{port}: ")


def test_an_incoming_channel_may_be_written_in_json(tmp_path: Path, refused: Refused) -> None:
    address = {"transport": "socket", "type": "unix", "path": str(tmp_path / "in")}
    text = json.dumps({"channel-type": "main", "addr": address})
    process = start(*machine_options(tmp_path), "-display", "none", "-incoming", text)
    connect(tmp_path / "in", process).close()  # a source that says nothing
    assert process.wait(30) == 1
    assert "JSON parse error" in refused(*machine_options(tmp_path), "-nographic", "-incoming", "{")
    assert "'addr' is missing" in refused(
        *machine_options(tmp_path), "-nographic", "-incoming", '{"channel-type": "main"}'
    )


def test_every_refused_option_of_qemu_says_why(refused: Refused) -> None:
    assert len(REFUSED) > 50
    assert not set(REFUSED) & set(OPTIONS)
    assert refused("-fw_cfg", "x") == "-fw_cfg x: no machine type has a device that could be added"
    assert refused("-snapshot") == "-snapshot: not supported"
    assert refused("-vga", "std") == "-vga std: not supported"
    assert refused("-net", "user") == "-net user: network cards are given with -nic or -netdev and -device"


def test_options_that_ask_for_what_is_not_there_are_fine(tmp_path: Path) -> None:
    process = start(
        *machine_options(tmp_path), "-vga", "none", "-net", "none", "-parallel", "none",
        "-display", "none", "-qmp", f"unix:{tmp_path}/qmp,server=on,wait=off",
    )  # fmt: skip
    connect(tmp_path / "qmp", process).close()
    process.terminate()
    assert process.wait(30) == 0


def test_signals_end_it_orderly(tmp_path: Path) -> None:
    for signum in (2, 15, 1):
        pidfile, path = tmp_path / "pid", tmp_path / "qmp"
        process = start(
            *machine_options(tmp_path), "-display", "none", "-no-shutdown", "-pidfile", str(pidfile),
            "-qmp", f"unix:{path},server=on,wait=off", stderr=subprocess.PIPE,
        )  # fmt: skip
        with connect(path, process) as peer:
            assert peer.recv(1)  # the greeting: the main loop runs
        assert int(pidfile.read_text()) == process.pid
        process.send_signal(signum)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 0
        assert errors.decode() == f"e2kemu: terminating on signal {signum}\n"
        assert not pidfile.exists()
        assert not path.exists()


def test_daemonize_returns_when_it_is_ready_or_has_failed(tmp_path: Path) -> None:
    options = (*machine_options(tmp_path), "-daemonize", "-pidfile", str(tmp_path / "pid"))
    sockets = ("-qmp", f"unix:{tmp_path}/qmp,server=on,wait=off", "-incoming", "defer")
    result = run(*options, *sockets)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    pid = int((tmp_path / "pid").read_text())
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "qmp"))
            assert client.recv(100).startswith(b'{"QMP"')
        assert os.getsid(pid) == pid
    finally:
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 30
    while (tmp_path / "pid").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    for wrong in (("-serial", "stdio"), ("-nographic",), ("-kernel", str(tmp_path / "missing"))):
        result = run(*options, *wrong)
        assert wrong[0] in one_line(result.returncode, result.stdout, result.stderr)


def test_every_object_type_can_be_created() -> None:
    source = Path(cli.__file__).parent
    declared = re.findall(r'(?m)^@user_object\("([a-z0-9-]+)"\)', "".join(p.read_text() for p in source.rglob("*.py")))
    assert len(declared) >= 4
    assert sorted(objects.TYPES) == sorted(declared)


def test_it_lives_on_when_stderr_has_gone(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    options = ("-display", "none", "-qmp", f"unix:{tmp_path}/qmp,server=on,wait=off")
    process = start(*machine_options(tmp_path), *options, stderr=writing)
    os.close(writing)
    client = connect(tmp_path / "qmp", process)
    os.close(reading)
    process.terminate()
    assert process.wait(30) == 0
    client.close()
