"""Peers that lie: real processes answer nonsense with one clear line, little memory, and keep what they have."""

from __future__ import annotations

import random
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2kemu.migration.stream_reader import walk
from e2kemu.process import Emulator
from tests.conftest import StartEmulator
from tests.framework.gate import Gate
from tests.framework.guests import check_ticks
from tests.framework.liar import Liar, message
from tests.framework.pairs import listen
from tests.migration.damage import damage

SMALL = ("-M", "elbrus", "-cpu", "e8c", "-m", "32M")
TICKS = ("-append", "workload=ticks")
MIB = 1 << 20
MEMORY_LIMIT = 64 * MIB
"""Bytes that a process may grow by, whatever its peer says."""


def peak(emulator: Emulator) -> int:
    """The most memory it has ever had, bytes."""
    status = Path(f"/proc/{emulator.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024


# -- a hostile destination ---------------------------------------------------------------------------


def _pages(start: int, size: int, name: bytes = b"e2k.ram", length: int | None = None) -> bytes:
    named = bytes([len(name) if length is None else length]) + name
    return message(3, start.to_bytes(8, "big") + size.to_bytes(4, "big") + named)


ANSWERS: dict[str, tuple[Callable[[], Iterator[bytes]], str]] = {
    "refusal": (lambda: iter([message(1, b"\0\0\0\1")]), "Sibling indicated error 1"),
    "refusal by another number": (lambda: iter([message(1, b"\xff\xff\xff\xfe")]), "Sibling indicated error"),
    "refusal of no length": (lambda: iter([message(1, b"")]), "SHUT of 0 bytes instead of 4"),
    "refusal of 8 bytes": (lambda: iter([message(1, bytes(8))]), "SHUT of 8 bytes instead of 4"),
    "consent before the end": (lambda: iter([message(1, bytes(4))]), "before everything was sent"),
    "a message too long": (lambda: iter([message(3, b"a" * 4000)]), "4000 bytes"),
    "half a message": (lambda: iter([message(2, b"ab", 4)]), "return path|ends early|closed"),
    "unknown message": (lambda: iter([message(0x77, b"")]), "0x77"),
    "page of no block": (lambda: iter([_pages(0, 4096, b"nowhere")]), "nowhere"),
    "name that is not all there": (lambda: iter([_pages(0, 4096, b"ab", 200)]), "REQ_PAGES_ID"),
    "bitmap nobody asked for": (lambda: iter([message(5, b"\3ram") + b"\xff" * 4096]), "RECV_BITMAP"),
    "acknowledged resume": (lambda: iter([message(6, b"\0\0\0\1")]), "RESUME_ACK"),
    "flood of pongs": (lambda: (b"".join(message(2, (n * 4096 + k).to_bytes(4, "big")) for k in range(4096))
                                for n in range(100)), "closed the connection before it confirmed"),
    "flood of acknowledgements": (lambda: (message(7, b"") * 4096 for _ in range(50)), "closed the connection"),
}  # fmt: skip
"""By what it is: what is sent, and what the source says of it."""


def _random_answers(chance: random.Random) -> Iterator[bytes]:
    for _ in range(chance.randint(1, 20)):
        length = chance.choice([0, 4, 12, 20, chance.randint(0, 600)])
        payload = chance.choice([b"\0\0\0", b"\xff" * 3, chance.randbytes(3)]) + b"\1" + chance.randbytes(600)
        declared = chance.choice([length, length, length, chance.randrange(1 << 16)])
        yield message(chance.randint(0, 9), payload[:length], declared)


def _source_stays(source: Emulator, pieces: Iterator[bytes]) -> str:
    """Migrate to a liar; returns what the source says of it. Its guest is where it was."""
    liar = Liar([(b"", pieces)])
    source.qmp("migrate", uri=liar.uri)
    info = source.wait_migration()
    assert info["status"] == "failed", info
    source.wait_status("running")
    assert info["error-desc"]
    assert "\n" not in info["error-desc"]
    liar.thread.join(30)
    assert not liar.thread.is_alive()
    return str(info["error-desc"])


@pytest.mark.usefixtures("started_afresh")
def test_a_lying_destination_never_gets_the_guest_and_costs_no_memory(start: StartEmulator) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    source = start("source", *SMALL, *TICKS)
    source.wait_console("tick 2\n")
    # Slow enough that what a liar says comes while there is something left to send.
    source.set_parameters(max_bandwidth=MIB)
    source.set_capability("postcopy-ram")
    _source_stays(source, iter(()))
    before = peak(source)
    for name, (pieces, says) in ANSWERS.items():
        print(name)
        assert re.search(says, said := _source_stays(source, pieces())), said
    source.set_parameters(max_bandwidth=0)
    for number in range(40):
        source.set_capability("postcopy-ram", bool(number & 1))
        source.set_capability("return-path", bool(number & 2))
        print(number, _source_stays(source, _random_answers(chance)))
    assert peak(source) < before + MEMORY_LIMIT
    assert source.stderr() == ""
    source.wait_console("tick", count=source.console().count("tick") + 2)
    check_ticks(source.console())


# -- a hostile source --------------------------------------------------------------------------------


def port_of(destination: Emulator) -> int:
    return int(listen(destination, exit_on_error=False).rpartition(":")[2])


def _refused(destination: Emulator, stream: bytes) -> str:
    """Send it and hang up; returns the one line that the destination says."""
    port = port_of(destination)
    before = len(destination.stderr())
    with socket.create_connection(("127.0.0.1", port)) as peer:
        peer.settimeout(20)
        try:
            peer.sendall(stream)
            peer.shutdown(socket.SHUT_WR)
            while peer.recv(1 << 16):
                pass
        except OSError:
            pass  # it has hung up first
    info = destination.wait_migration()
    assert info["status"] == "failed", info
    assert destination.status() == "inmigrate"
    (line,) = destination.stderr()[before:].splitlines()
    assert line.startswith("e2kemu: load of migration failed: "), line
    assert info["error-desc"] in line
    return line


@pytest.fixture
def recorded(start: StartEmulator) -> bytes:
    """The stream of a small guest that a real source has sent to a real destination."""
    source, destination = start("recorded", *SMALL, *TICKS), start("recorder", *SMALL, "-incoming", "defer")
    source.wait_console("tick 2\n")
    with Gate(port_of(destination)) as gate:
        source.qmp("migrate", uri=gate.uri)
        assert source.wait_migration()["status"] == "completed"
        destination.wait_status("running")
    source.close()
    destination.close()
    return bytes(gate.stream)


HUGE = b"\xff" * 4
PAGE = (0x20 | 8).to_bytes(8, "big")


def _wrong(stream: bytes) -> dict[str, tuple[bytes, str]]:
    """For each limit of the format: a stream that breaks it, and what is said of it."""
    records = list(walk(stream))
    setup = next(record for record in records if record.kind == "START")
    part = next(record for record in records if record.kind == "PART")
    device = next(record for record in records if record.kind == "FULL")
    description = next(record for record in records if record.kind == "VMDESCRIPTION")
    body = setup.start + 1 + 4 + 1 + len("ram") + 4 + 4
    head, blocks, inside = stream[: setup.start], stream[: body + 8], stream[: part.start + 5]
    configuration = stream[:8]
    block = stream[body + 8 : body + 9 + stream[body + 8]]

    def ram(flags: int, rest: bytes = b"", offset: int = 0, name: bytes = block) -> bytes:
        return inside + (offset | flags).to_bytes(8, "big") + name + rest + bytes(64)

    advice = (4096).to_bytes(8, "big") * 2

    def command(number: int, payload: bytes, length: int | None = None) -> bytes:
        return head + b"\x08" + message(number, payload, length)

    first = device.start + 1 + 4
    return {
        "magic": (b"QEVN" + stream[4:], "Not a migration stream"),
        "old version": (stream[:4] + b"\0\0\0\2", "v2 format is obsolete"),
        "no such version": (stream[:4] + HUGE, "Unsupported migration stream version"),
        "machine name of 4 GiB": (configuration + b"\x07" + HUGE + b"elbrus", "configuration"),
        "another machine": (configuration + b"\x07\0\0\0\2pc", "[Mm]achine"),
        "unknown element": (head + b"\x55", "Unknown savevm section type 85"),
        "total of RAM": (stream[:body] + b"\x7f" + bytes(6) + b"\4" + stream[body + 8 :], "ram"),
        "length of a block": (blocks + block + b"\x7f" + bytes(7), "(?i)length|size|bytes"),
        "unknown block": (blocks + b"\7nothing" + bytes(8), "nothing"),
        "name of a block cut": (blocks + b"\xffabc", "ram"),
        "page behind the block": (ram(8, offset=1 << 40), "(?i)offset"),
        "page at the end of the block": (ram(8, offset=32 * MIB), "(?i)offset"),
        "page of an unknown block": (ram(8, name=b"\4none"), "none"),
        "two kinds of page": (ram(8 | 2), "Unknown combination of migration flags"),
        "obsolete flag": (ram(1), "Unknown combination of migration flags"),
        "flag of multifd": (ram(0x200), "multifd"),
        "no flag": (ram(0), "Unknown combination of migration flags"),
        "CONTINUE of nothing": (inside + PAGE + bytes(4096), "CONTINUE without a block"),
        "zero page that is not": (ram(2, b"\x07"), "(?i)zero"),
        "XBZRLE of 64 KiB": (ram(0x40, b"\1\xff\xff"), "(?i)xbzrle"),
        "XBZRLE of another kind": (ram(0x40, b"\2\0\4"), "(?i)xbzrle"),
        "XBZRLE behind the page": (ram(0x40, b"\1\0\4\xff\x7f\1a"), "(?i)xbzrle"),
        "XBZRLE of empty runs": (ram(0x40, b"\1\0\4\0\0\0\0"), "(?i)xbzrle"),
        "compressed page of 4 GiB": (ram(0x100, HUGE), "(?i)compress|inflate"),
        "compressed nonsense": (ram(0x100, b"\0\0\0\4abcd"), "(?i)compress|inflate"),
        "footer": (stream[: part.end - 5] + b"\2" + bytes(4), "Missing section footer for ram"),
        "number in a footer": (stream[: part.end - 4] + HUGE, "Mismatched section id in footer for ram"),
        "unknown device": (stream[:first] + b"\4toys" + bytes(7) + b"\1", "Unknown savevm section or instance 'toys'"),
        "version of a device": (stream[: first + 1 + stream[first] + 4] + HUGE + bytes(99), "unsupported version"),
        "unknown section": (head + b"\x02\0\0\0\x63", "Unknown savevm section 99"),
        "unknown command": (command(0x7777, b""), "MIG_CMD 0x7777 unknown"),
        "ping of a length": (command(2, b"a"), "PING received with bad length"),
        "package before postcopy": (command(7, HUGE), "(?i)packag|postcopy"),
        "advice of a length": (command(3, b"abc"), "POSTCOPY_ADVISE invalid length"),
        "advice of huge pages": (command(3, bytes(5) + b"\x20" + bytes(8) + b"\x10\0"), "(?i)page size"),
        "package of 4 GiB": (command(3, advice) + b"\x08" + message(7, HUGE) + b"x" * 99, "(?i)packag"),
        "end of RAM only": (stream[: device.start] + b"\0", "is missing from the stream"),
        "description of 4 GiB": (stream[: description.start] + b"\x06" + HUGE + b"{", "vmdescription of 4294967295"),
    }  # fmt: skip


@pytest.mark.usefixtures("started_afresh")
def test_a_lying_source_is_refused_with_one_line_and_costs_no_memory(start: StartEmulator, recorded: bytes) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    destination = start("destination", *SMALL, "-incoming", "defer")
    destination.set_capability("postcopy-ram")
    _refused(destination, recorded[:-100])
    before = peak(destination)
    wrong = _wrong(recorded)
    assert len(wrong) > 30
    for name, (stream, says) in wrong.items():
        line = _refused(destination, stream)
        print(name, "-", line)
        assert re.search(says, line), (name, line)
    records = list(walk(recorded))
    described = next(record.start for record in records if record.kind == "VMDESCRIPTION")
    places = [place for record in records for place in (record.start, record.start, max(0, record.end - 5))]
    for number in range(60):
        # Without its description no stream is good, wherever the damage may have been.
        print(number, _refused(destination, damage(recorded[:described], chance, places)))
    for number in range(10):
        print(number, _refused(destination, chance.randbytes(chance.randrange(5000))))
    assert peak(destination) < before + MEMORY_LIMIT
    with socket.create_connection(("127.0.0.1", port_of(destination))) as peer:
        peer.sendall(recorded)
        destination.wait_status("running")
        destination.wait_console("tick", count=2)
