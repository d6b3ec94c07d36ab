"""Peers that lie in a postcopy and in its recovery: real processes lose nothing, and say what is wrong in one line."""

from __future__ import annotations

import random
import re
import socket
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import pytest

from e2kemu.migration.stream_reader import walk
from e2kemu.process import FINAL, Emulator, EmulatorEnded
from tests.conftest import StartEmulator
from tests.framework.chain import SMALL
from tests.framework.gate import Gate
from tests.framework.liar import Act, Liar, message, word
from tests.framework.pairs import capabilities, listen
from tests.framework.seeds import chosen_seed
from tests.integration.test_hostile_peers import MEMORY_LIMIT, peak
from tests.migration.damage import damage

VERIFY = ("-append", "workload=verify start=16M end=20M seed=1")
RAM = b"elbrus.ram"
SIZE = 32 << 20
PAUSED = "postcopy-paused"
LAST_WORDS = {3: "\nTRAP", 4: "\nFAULT"}
"""What the firmware prints before it ends the emulator with that status."""

pytestmark = pytest.mark.usefixtures("started_afresh")  # memory is measured


def ping(value: int) -> bytes:
    return b"\x08\0\2\0\4" + word(value)


def pong(value: int) -> bytes:
    return message(2, word(value))


def pages(start: int, size: int, name: bytes = RAM) -> bytes:
    return message(3, start.to_bytes(8, "big") + word(size) + bytes([len(name)]) + name)


def more(start: int, size: int) -> bytes:
    return message(4, start.to_bytes(8, "big") + word(size))


def bitmap(name: bytes = RAM, size: int = SIZE >> 15, bits: int | None = None, end: int = 0x0123456789ABCDEF) -> bytes:
    named = bytes([len(name)]) + name
    return message(5, named) + size.to_bytes(8, "big") + bytes(size if bits is None else bits) + end.to_bytes(8, "big")


OPENED, WILL_COMMIT, PUSHING, COMMITTED = ping(1), ping(0x43), ping(4), ping(0x44)

Says = Callable[[], Iterable[bytes]]

REQUESTS: dict[str, tuple[Says, str]] = {
    "unknown block": (lambda: [pages(0, 4096, b"nowhere")], "block 'nowhere'"),
    "behind the block": (lambda: [pages(SIZE, 4096)], "not in block 'elbrus.ram'"),
    "over its end": (lambda: [pages(SIZE - 4096, 8192)], "not in block 'elbrus.ram'"),
    "at the end of 64 bits": (lambda: [pages((1 << 64) - 4096, 4096)], "not in block 'elbrus.ram'"),
    "unaligned": (lambda: [pages(0, 4096), more(2048, 4096)], "not in block 'elbrus.ram'"),
    "half a page": (lambda: [pages(0, 2048)], "not in block 'elbrus.ram'"),
    "no page": (lambda: [pages(0, 0)], "not in block 'elbrus.ram'"),
    "block of none before": (lambda: [more(0, 4096)], "block ''"),
    "a name cut short": (lambda: [message(3, bytes(8) + word(4096) + b"\xffram")], "REQ_PAGES_ID of 16 bytes"),
    "a bitmap nobody asked for": (lambda: [bitmap()], "nobody asked for"),
    "RESUME_ACK out of turn": (lambda: [message(6, word(1))], "RESUME_ACK"),
    "a long message": (lambda: [message(4, bytes(513))], "513 bytes"),
    "end": (list, "closed the connection"),
}  # fmt: skip
"""By what they are: what is sent, and what the source says of it."""


def flood(chance: random.Random, count: int = 200_000) -> Iterator[bytes]:
    """Pages that exist, asked for again and again."""
    yield pages(0, 4096)
    for _ in range(count // 1000):
        yield b"".join(more(chance.randrange(SIZE >> 12) << 12, 4096) for _ in range(1000))


def nonsense(chance: random.Random) -> Iterator[bytes]:
    """Messages with a meaning and without."""
    for _ in range(chance.randint(1, 12)):
        kind = chance.randrange(6)
        if kind == 0:
            yield pages(chance.randrange(SIZE >> 12) << 12, 4096)
        elif kind == 1:
            size = chance.getrandbits(chance.choice([12, 20, 32]))
            yield pages(chance.getrandbits(chance.choice([24, 33, 64])), size)
        elif kind == 2:
            yield pong(chance.getrandbits(chance.choice([3, 7, 32])))
        elif kind == 3:
            length = chance.choice([None, 4, 12, 600])
            yield message(chance.randrange(9), chance.randbytes(chance.randrange(40)), length)
        elif kind == 4:
            yield bitmap(chance.choice([RAM, b"x"]), chance.choice([1024, 8, 1 << 40]), 1024)
        else:
            yield chance.randbytes(chance.randrange(1, 60))


@pytest.fixture
def source(start: StartEmulator) -> Emulator:
    emulator = start("source", *SMALL, *VERIFY)
    emulator.set_capability("postcopy-ram")
    emulator.wait_console("ok\nV")
    return emulator


def lie(source: Emulator, acts: list[Act], *, switch: bool = True, push: int = 1 << 20) -> dict[str, object]:
    """Migrate to a liar; query-migrate when that is over."""
    source.set_parameters(max_bandwidth=4 << 20, downtime_limit=0, max_postcopy_bandwidth=push)
    liar = Liar(acts)
    source.qmp("migrate", uri=liar.uri)
    if switch:
        source.qmp("migrate-start-postcopy")
    info = source.wait_migration(PAUSED, *FINAL)
    liar.thread.join(30)
    assert not liar.thread.is_alive()
    assert info["error-desc"]
    assert "\n" not in info["error-desc"]
    return info


def runs(source: Emulator) -> None:
    source.wait_status("running")
    source.wait_console("V", count=source.console().count("V") + 1)
    assert "FAULT" not in source.console()


@pytest.mark.parametrize("when", ["while it runs", "when it stands"])
def test_until_it_has_loaded_a_lying_destination_does_not_get_the_guest(when: str, source: Emulator) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    before: list[Act] = [(OPENED, [])] if when == "while it runs" else [(OPENED, [pong(1)]), (PUSHING, [])]
    answers = [*REQUESTS.values(), *((partial(nonsense, chance), ".") for _ in range(6))]
    answers += [(partial(flood, chance), "requests for pages at once|closed the connection")]
    memory = 0
    for says, text in answers:
        info = lie(source, [*before, (b"", says())], switch=when == "when it stands")
        print(info["error-desc"])
        assert info["status"] == "failed", info
        assert re.search(text, str(info["error-desc"])), (text, info)
        runs(source)
        memory = memory or peak(source)
    assert peak(source) < memory + MEMORY_LIMIT
    assert source.stderr() == ""


@pytest.mark.parametrize("name", ["unknown block", "unaligned", "end", "flood", "nonsense"])
def test_once_it_has_the_guest_a_lying_destination_stops_the_migration_and_nothing_else(
    name: str, source: Emulator
) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    says: tuple[Says, str]
    if name == "flood":
        says = partial(flood, chance), "requests for pages at once|closed the connection|has not said"
    else:
        says = REQUESTS[name] if name in REQUESTS else (partial(nonsense, chance), ".")
    before = peak(source)
    loads: list[Act] = [(OPENED, [pong(1)]), (WILL_COMMIT, [pong(0x43), pong(0x42)])]
    info = lie(source, [*loads, (COMMITTED, says[0]())], push=1 << 16)
    print(info["error-desc"])
    assert info["status"] == PAUSED
    assert re.search(says[1], str(info["error-desc"])), info
    assert source.status() == "finish-migrate"
    assert peak(source) < before + MEMORY_LIMIT
    assert source.stderr() == ""
    # Whoever says next that he is the destination is heard: it may be the real one.
    for acts, text in ((bad_recovery(), "has 8 bytes instead of 1024"), (bad_recovery(end=0), "ends with 0x0")):
        liar = Liar(acts)
        source.qmp("migrate", uri=liar.uri, resume=True)
        info = source.wait_migration(PAUSED)
        assert text in info["error-desc"], info


def bad_recovery(end: int | None = None) -> list[Act]:
    return [(RAM, [bitmap(size=8) if end is None else bitmap(end=end)])]


def _paused_pair(start: StartEmulator, source: Emulator) -> Emulator:
    destination = start("destination", *SMALL, "-incoming", "defer")
    capabilities("postcopy-ram", on=(destination,))
    source.set_parameters(max_bandwidth=4 << 20, downtime_limit=0, max_postcopy_bandwidth=1 << 20)
    source.qmp("migrate", uri=listen(destination))
    source.qmp("migrate-start-postcopy")
    for emulator in (source, destination):
        emulator.wait_migration("postcopy-active")
    source.qmp("migrate-pause")
    for emulator in (source, destination):
        emulator.wait_migration(PAUSED)
    return destination


def _recover_port(destination: Emulator) -> int:
    destination.qmp("migrate-recover", uri="tcp:127.0.0.1:0")
    return int(destination.migration()["socket-address"][0]["port"])


RESUME = b"\x08\0\x09\0\0"
PART = b"\x02\0\0\0\1"


def _strange_recoveries(chance: random.Random) -> dict[str, bytes]:
    def record(flags: int, rest: bytes = b"", offset: int = 0) -> bytes:
        return RESUME + PART + (offset | flags).to_bytes(8, "big") + bytes([len(RAM)]) + RAM + rest

    def asks(name: bytes) -> bytes:
        return b"\x08\0\x0a" + (len(name) + 1).to_bytes(2, "big") + bytes([len(name)]) + name

    return {
        "nothing": b"",
        "a migration from the beginning": b"QEVM\0\0\0\3",
        "bitmap of an unknown block": asks(b"nowhere"),
        "bitmap of a name cut short": b"\x08\0\x0a\0\3\x09ab",
        "RESUME twice": RESUME * 2,
        "a package": RESUME + b"\x08\0\7\0\4" + word(100) + bytes(100),
        "discards": RESUME + b"\x08\0\6\0\x1b\0" + bytes([len(RAM)]) + RAM + b"\0" + bytes(16),
        "a device": RESUME + b"\x04" + word(2) + b"\5timer" + bytes(8),
        "the list of blocks again": RESUME + b"\x01" + word(1) + b"\3ram" + bytes(4) + word(4) + bytes(8),
        "page behind the block": record(8, bytes(4096), SIZE),
        "XBZRLE": record(0x40, b"\1\0\4\0\1ab"),
        "a compressed page": record(0x100, word(20) + bytes(20)),
        "the end, with pages missing": RESUME + b"\x03\0\0\0\1" + (0x10).to_bytes(8, "big") + b"\x7e\0\0\0\1\0",
        "no RESUME": b"\0",
        **{f"nonsense {n}": chance.randbytes(chance.randrange(1, 300)) for n in range(8)},
        **{f"nonsense behind RESUME {n}": RESUME + chance.randbytes(chance.randrange(1, 300)) for n in range(8)},
    }


def test_strange_peers_of_a_recovery_are_sent_away_and_the_true_one_completes_it(
    start: StartEmulator, source: Emulator
) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    destination = _paused_pair(start, source)
    before = peak(destination)
    strange = _strange_recoveries(chance)
    assert len(strange) > 25
    for name, data in strange.items():
        lines = len(destination.stderr().splitlines())
        port = _recover_port(destination)
        with socket.create_connection(("127.0.0.1", port)) as peer:
            peer.settimeout(20)
            try:
                peer.sendall(data)
                peer.shutdown(socket.SHUT_WR)
                while peer.recv(1 << 16):
                    pass
            except OSError:
                pass  # it has hung up first
        destination.wait_for(
            destination.stderr, lambda text, lines=lines: len(text.splitlines()) > lines, 20, f"a line about {name}"
        )
        destination.wait_migration(PAUSED)
        (line,) = destination.stderr().splitlines()[lines:]
        print(name, "-", line)
        assert line.startswith("e2kemu: postcopy paused: ")
    assert peak(destination) < before + MEMORY_LIMIT
    for number in range(6):  # the source's side: blocks, bitmaps, then whatever comes to mind
        liar = Liar([(RAM, nonsense(chance))])
        source.qmp("migrate", uri=liar.uri, resume=True)
        info = source.wait_migration(PAUSED)
        print(number, info["error-desc"])
        assert "\n" not in info["error-desc"]
        liar.thread.join(30)
    source.set_parameters(max_postcopy_bandwidth=0)
    port = _recover_port(destination)
    source.qmp("migrate", uri=f"tcp:127.0.0.1:{port}", resume=True)
    for emulator in (source, destination):
        assert emulator.wait_migration()["status"] == "completed"
    destination.wait_console("V", count=3)
    assert "FAULT" not in destination.console()
    assert source.stderr() == ""


@pytest.fixture
def recorded(start: StartEmulator, source: Emulator) -> bytes:
    """The stream of a postcopy that completed."""
    destination = start("recorder", *SMALL, "-incoming", "defer")
    destination.set_capability("postcopy-ram")
    source.set_parameters(max_bandwidth=4 << 20, downtime_limit=0)
    with Gate(int(listen(destination).rpartition(":")[2])) as gate:
        source.qmp("migrate", uri=gate.uri)
        source.qmp("migrate-start-postcopy")
        assert source.wait_migration()["status"] == "completed"
    destination.close()
    return bytes(gate.stream)


def _send(destination: Emulator, stream: bytes) -> None:
    """All of it, and hang up."""
    port = int(listen(destination, exit_on_error=False).rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as peer:
        peer.settimeout(20)
        try:
            peer.sendall(stream)
            peer.shutdown(socket.SHUT_WR)
            while peer.recv(1 << 16):
                pass
        except OSError:
            pass  # it has hung up first


def test_all_pages_without_the_sources_word_or_without_a_device_start_no_guest(
    start: StartEmulator, recorded: bytes
) -> None:
    destination = start("destination", *SMALL, "-incoming", "defer")
    destination.set_capability("postcopy-ram")
    assert recorded.count(b"\x06serial") == 1
    _send(destination, recorded.replace(b"\x06serial", b"\x06cereal"))
    info = destination.wait_migration("failed")
    assert "Unknown savevm section or instance 'cereal'" in info["error-desc"]
    assert destination.status() == "inmigrate"
    assert recorded.count(COMMITTED) == 1
    _send(destination, recorded.replace(COMMITTED, ping(5)))
    info = destination.wait_migration(PAUSED)
    assert "the stream ends before the source has given its guest away" in info["error-desc"]
    assert destination.status() == "inmigrate"
    assert len(destination.stderr().splitlines()) == 2
    with socket.create_connection(("127.0.0.1", _recover_port(destination))) as peer:
        peer.sendall(RESUME + b"\x03\0\0\0\1" + (0x10).to_bytes(8, "big") + b"\x7e\0\0\0\1\0")
        assert destination.wait_migration()["status"] == "completed"
    destination.wait_status("running")
    destination.wait_console("V", count=2)


def _outcome(victim: Emulator) -> str:
    """The migration's; "completed" too when the guest came and then ended its machine itself, with its own words."""
    try:
        return str(victim.wait_migration("failed", PAUSED, "completed")["status"])
    except EmulatorEnded as error:
        ended = error
    assert ended.status in LAST_WORDS, ended
    assert LAST_WORDS[ended.status] in victim.console(), ended
    return "completed"


def test_a_damaged_postcopy_stream_is_refused_or_paused_with_one_line(start: StartEmulator, recorded: bytes) -> None:
    chance = random.Random(chosen_seed())
    stream = recorded
    records = list(walk(stream))
    package = next(record for record in records if record.name == "PACKAGED")
    loaded = stream.index(ping(0x42), package.start)
    outcomes = {"failed": 0, PAUSED: 0}
    places = [record.start for record in records if package.end <= record.start < loaded]
    assert len(places) > 6
    victim: Emulator | None = None
    for number in range(18):
        if victim is None:
            victim = start(f"victim{number}", *SMALL, "-incoming", "defer")
            victim.set_capability("postcopy-ram")
        if number % 3 == 2:
            data = damage(stream, chance, places, scatter=0.05)
        else:  # the package is told to be as long as it is, and has no end: nothing is started
            inside = damage(stream[package.end : loaded], chance, [place - package.end for place in places])
            data = stream[: package.start] + b"\x08\0\7\0\4" + word(len(inside)) + inside
        before = len(victim.stderr().splitlines())
        _send(victim, data)
        status = _outcome(victim)
        lines = victim.stderr().splitlines()[before:]
        print(number, status, lines)
        assert "Traceback" not in victim.stderr()
        if status == "completed":
            victim.close()  # the damage was harmless to the migration: a bit of a page, of a register
            victim = None
            continue
        outcomes[status] += 1
        assert len(lines) == 1, lines
        if status == "failed":
            assert victim.status() == "inmigrate"
        else:
            victim.close()
            victim = None
    assert outcomes["failed"] > 8
