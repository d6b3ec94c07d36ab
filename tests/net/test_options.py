"""Options, monitors and machines with network cards; an emulator is a process."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from e2kemu import Machine
from e2kemu.cli import main
from e2kemu.devices.virtio_net import VirtioNet

BARE = ("-display", "none", "-serial", "null", "-m", "32M")


@pytest.fixture
def rom(tmp_path: Path) -> str:
    path = tmp_path / "empty.rom"
    path.write_bytes(bytes(4096))
    return str(path)


def test_the_monitor_shows_cards_connections_and_changes_forwarded_ports(rom: str, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    commands = [
        "info network", "info usernet", f"hostfwd_add n0 tcp:127.0.0.1:{port}-:22", "info usernet",
        f"hostfwd_add tcp:127.0.0.1:{port}-:22", f"hostfwd_remove n0 tcp:127.0.0.1:{port}",
        f"hostfwd_remove tcp:127.0.0.1:{port}", "hostfwd_add n1 tcp::1-:2", "hostfwd_add x", "set_link n0 off",
        "info network", "set_link nobody on", "info qtree", "quit",
    ]  # fmt: skip
    result = subprocess.run(
        [sys.executable, "-m", "e2kemu", *BARE, "-S", "-monitor", "stdio", "-bios", rom,
         "-netdev", "user,id=n0", "-device", "virtio-net-device,netdev=n0,id=card",
         "-nic", f"stream,server=on,addr.type=unix,addr.path={tmp_path}/wire,mac=52:54:00:00:00:09"],
        input="\n".join(commands) + "\n", capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    out = result.stdout
    for line in (
        "card: index=0,type=nic,model=virtio-net-device,macaddr=52:54:00:12:34:56",
        " \\ n0: index=0,type=user,net=10.0.2.0,restrict=off",
        "virtio-net-device.1: index=0,type=nic,model=virtio-net-device,macaddr=52:54:00:00:00:09",
        f" \\ nic1: index=0,type=stream,wait from {tmp_path}/wire",
        "  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ",
        f"host forwarding rule for tcp:127.0.0.1:{port} removed",
        f"host forwarding rule for tcp:127.0.0.1:{port} not found",
        "Error: unrecognized netdev id 'n1'", "Error: Device 'nobody' not found", "macaddr=52:54:00:12:34:56,link=down",
        "Could not set up host forwarding rule", "Error: Invalid host forwarding rule 'x'", "Hub -1 (n0):",
    ):  # fmt: skip
        assert line in out, line
    assert f"{port:5d}       10.0.2.15    22     0     0" in out
    assert not (tmp_path / "wire").exists()
    assert result.stderr == ""


def test_wrong_options_are_one_line_that_names_them(capsys: pytest.CaptureFixture[str]) -> None:
    cases = (
        (("-netdev", "user"), "-netdev user: Parameter 'id' is missing"),
        (("-netdev", "user,id=a", "-netdev", "user,id=a"), "-netdev user,id=a: Duplicate ID 'a' for netdev"),
        (("-netdev", "tap,id=a"), "-netdev tap,id=a: Parameter 'type' expects a netdev backend type"),
        (("-device", "virtio-net-device,netdev=a"), "can't find value 'a'"),
        (("-device", "virtio-net-device,foo=a"), "Property 'virtio-net-device.foo' not found"),
        (("-device", "virtio-net-device,mac=1"), "invalid MAC address '1'"),
        (("-nic", "user,mac=01:00:00:00:00:00"), "multicast"),
        (("-nic", "user,model=e1000"), "-nic user,model=e1000: Unsupported NIC model: e1000"),
        (("-nic", "user,hostfwd=tcp::1"), "-nic user,hostfwd=tcp::1: Invalid host forwarding rule 'tcp::1'"),
        (("-nic", "user,id=q", "-nic", "user,id=q"), "it's in use"),
        (tuple(["-nic", "user"] * 9), "too many virtio devices, max 8"),
    )
    for options, expected in cases:
        assert main([*BARE, *options]) == 1
        error = capsys.readouterr().err
        assert expected in error
        assert error.count("\n") == 1
    assert len(cases) > 10
    assert main(["-device", "help"]) == 0
    assert 'name "virtio-net-device"' in capsys.readouterr().out


def test_a_machine_moves_with_its_card(rom: str, tmp_path: Path) -> None:
    stream = str(tmp_path / "stream")
    with Machine.build(ram="32M", bios=rom, nics=["user,mac=52:54:00:aa:bb:cc", "user"]) as source:
        cards = [device for device in source.devices if isinstance(device, VirtioNet)]
        assert [card.base for card in cards] == [0x81301000, 0x81301200]
        for status in (1, 3):
            source.space.write(0x81301070, 4, status)
        source.save(stream)
    with Machine.build(ram="32M", bios=rom, incoming=True, nics=["user", "user,restrict=on"]) as target:
        target.load(stream)
        assert target.nics[0].mac_bytes == bytes.fromhex("525400aabbcc")
        assert target.space.read(0x81301070, 4) == 3
        assert target.space.read(0x81301100, 4) == 0xAA005452
        assert target.space.read(0x81301304, 2) == 0x5734
    with Machine.build(ram="32M", bios=rom, incoming=True) as other, pytest.raises(Exception, match="virtio-net"):
        other.load(stream)


def test_set_link_in_qmp(rom: str) -> None:
    lines = [
        {"execute": "qmp_capabilities"},
        {"execute": "set_link", "arguments": {"name": "nic0", "up": False}},
        {"execute": "set_link", "arguments": {"name": "x", "up": False}},
        {"execute": "quit"},
    ]
    result = subprocess.run(
        [sys.executable, "-m", "e2kemu", *BARE, "-S", "-qmp", "stdio", "-bios", rom, "-nic", "user"],
        input="\n".join(map(json.dumps, lines)) + "\n", capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert answers[2] == {"return": {}}
    assert answers[3]["error"]["class"] == "DeviceNotFound"
