"""QMP over a real socket: the session, its errors, descriptors, and what must never end it."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import subprocess
from pathlib import Path

import pytest
from qemu.qmp import ExecuteError, QMPClient

from e2kemu.monitor.dispatch import QMP
from tests.monitor.conftest import Emulator
from tests.monitor.processes import RawQmp, machine_options, start


def error(reply: dict[str, object]) -> tuple[str, str]:
    """Class and text of an error reply."""
    found = reply["error"]
    assert isinstance(found, dict)
    return found["class"], found["desc"]


def test_the_reference_client_is_pleased(emulator: Emulator) -> None:
    async def talk() -> None:
        client = QMPClient("tested")
        await client.connect(str(emulator.qmp_path))
        assert client.greeting is not None
        assert client.greeting.QMP.version["package"].startswith("e2kemu-")
        assert (await client.execute("query-status")) == {"running": False, "status": "prelaunch"}
        names = {entry["name"] for entry in await client.execute("query-commands")}
        assert {"query-status", "migrate", "quit", "human-monitor-command"} <= names
        with pytest.raises(ExecuteError, match="The command nonsense has not been found"):
            await client.execute("nonsense")
        await client.disconnect()

    asyncio.run(talk())


def test_nothing_goes_before_the_negotiation_and_it_goes_once(emulator: Emulator) -> None:
    client = emulator.qmp()
    assert set(client.greeting) == {"QMP"}
    assert error(client.ask(b'{"execute": "query-status", "id": 7}')) == (
        "CommandNotFound",
        "Expecting capabilities negotiation with 'qmp_capabilities'",
    )
    assert client.ask(b'{"execute": "qmp_capabilities", "arguments": {"enable": ["oob"]}}') == {"return": {}}
    assert error(client.ask(b'{"execute": "qmp_capabilities"}'))[0] == "CommandNotFound"
    client.close()


def test_ids_of_every_type_come_back(qmp: RawQmp) -> None:
    for ident in ("text", 5, 1.5, None, True, ["a"], {"b": 1}):
        request = {"execute": "query-name", "id": ident}
        assert qmp.ask(json.dumps(request).encode()) == {"return": {"name": "tested"}, "id": ident}
        request = {"execute": "nonsense", "id": ident}
        assert qmp.ask(json.dumps(request).encode())["id"] == ident


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ({"execute": "stop", "arguments": {"x": 1}}, "Parameter 'x' is unexpected"),
        ({"execute": "memsave"}, "Parameter 'val' is missing"),
        (
            {"execute": "human-monitor-command", "arguments": {"command-line": 5}},
            "Invalid parameter type for 'command-line', expected: string",
        ),
        (
            {"execute": "migrate-set-capabilities",
             "arguments": {"capabilities": [{"capability": "events", "state": 1}]}},
            "Invalid parameter type for 'capabilities[0].state', expected: boolean",
        ),
        ({"execute": 5}, "QMP input member 'execute' must be a string"),
        ({"execute": "stop", "arguments": []}, "QMP input member 'arguments' must be an object"),
        ({"execute": "stop", "extra": 1}, "QMP input member 'extra' is unexpected"),
        ({"arguments": {}}, "QMP input lacks member 'execute'"),
        ([1], "QMP input must be a JSON object"),
        ("text", "QMP input must be a JSON object"),
        ({"execute": "closefd", "arguments": {"fdname": "zz"}}, "File descriptor named 'zz' not found"),
        ({"execute": "getfd", "arguments": {"fdname": "zz"}}, "No file descriptor supplied via SCM_RIGHTS"),
        ({"execute": "object-del", "arguments": {"id": "zz"}}, "object 'zz' not found"),
        (
            {"execute": "object-add", "arguments": {"qom-type": "zz", "id": "a"}},
            "invalid object type: zz",
        ),
    ],
)  # fmt: skip
def test_errors_are_in_the_words_of_qemu(qmp: RawQmp, request_: object, text: str) -> None:
    assert error(qmp.ask(json.dumps(request_).encode())) == ("GenericError", text)


def test_requests_may_come_in_any_pieces(qmp: RawQmp) -> None:
    text = b'{"execute":"query-name","id":"{\\"}"}{"execute":"query-name"}  \n {"execute":"query-name"}'
    for at in range(0, len(text), 3):
        qmp.send(text[at : at + 3])
    assert qmp.reply()["id"] == '{"}'
    assert [qmp.reply(), qmp.reply()] == [{"return": {"name": "tested"}}] * 2


def test_garbage_is_answered_and_the_session_goes_on(qmp: RawQmp) -> None:
    for garbage in (b"{]", b"foo ", b"}", b'{"a": nope}', b'{"a":1,"a":2}', b"[" * 600 + b"]" * 600):
        assert error(qmp.ask(garbage))[0] == "GenericError"
    assert error(qmp.ask(b'{"execute": "bro\nken'))[1].startswith("JSON parse error")
    qmp.send(b"\xff")  # whatever was under way is over
    while "return" not in (answer := qmp.ask(b'{"execute":"query-name"}')):
        pass
    assert answer["return"] == {"name": "tested"}


def test_random_bytes_never_end_the_emulator(emulator: Emulator) -> None:
    seed = 20261
    print(f"seed {seed}")
    source = random.Random(seed)
    alphabet = b'{}[]":,\\ \n\xff\x00truefalsenull0123.e-execute'
    for _ in range(20):
        client = emulator.qmp()
        client.negotiate()
        client.send(bytes(source.choice(alphabet) for _ in range(2000)))
        client.close()
    client = emulator.qmp()
    client.negotiate()
    client.close()


def test_a_giant_request_is_refused_and_the_next_one_answered(qmp: RawQmp) -> None:
    qmp.send(b'{"execute": "' + b"x" * 3_000_000 + b'"}{"execute":"query-name","id":1}')
    assert error(qmp.reply())[1] == "JSON token size limit exceeded"
    assert qmp.reply() == {"return": {"name": "tested"}, "id": 1}


def test_clients_take_turns_and_start_afresh(emulator: Emulator) -> None:
    first = emulator.qmp()
    first.negotiate()
    first.send(b'{"execute": "half')
    first.close()
    second = emulator.qmp()
    assert error(second.ask(b'{"execute": "query-name"}'))[0] == "CommandNotFound"
    second.negotiate()
    second.close()


def test_a_descriptor_sent_along_gets_its_name(qmp: RawQmp) -> None:
    reading, writing = os.pipe()
    request = b'{"execute": "getfd", "arguments": {"fdname": "pipe"}}'
    socket.send_fds(qmp.socket, [request], [writing])
    os.close(writing)
    assert qmp.reply() == {"return": {}}
    assert qmp.ask(b'{"execute": "closefd", "arguments": {"fdname": "pipe"}}') == {"return": {}}
    assert os.read(reading, 1) == b"", "the emulator has closed its end"
    os.close(reading)


def test_events_and_replies_come_in_order_with_a_timestamp(qmp: RawQmp) -> None:
    qmp.send(b'{"execute": "system_reset"}')
    messages = [qmp.receive(), qmp.receive()]
    event = next(message for message in messages if "event" in message)
    assert event["event"] == "RESET"
    assert event["data"] == {"guest": False, "reason": "host-qmp-system-reset"}
    assert event["timestamp"]["seconds"] > 1_700_000_000
    assert 0 <= event["timestamp"]["microseconds"] < 1_000_000


def test_objects_come_and_go(qmp: RawQmp, emulator: Emulator) -> None:
    rules = [{"match": "CN=a", "policy": "allow"}]
    arguments = {"qom-type": "authz-list", "id": "who", "policy": "deny", "rules": rules}
    request = json.dumps({"execute": "object-add", "arguments": arguments}).encode()
    assert qmp.ask(request) == {"return": {}}
    assert error(qmp.ask(request))[1].startswith("attempt to add duplicate property 'who'")
    listing = b'{"execute": "qom-list", "arguments": {"path": "/objects"}}'
    assert qmp.ask(listing)["return"] == [{"name": "who", "type": "child<authz-list>"}]
    hmp = emulator.hmp()
    assert hmp.ask("object_del who") == ""
    assert hmp.ask('object_add {"qom-type":"authz-simple","id":"one","identity":"x"}') == ""
    assert hmp.ask("object_del one") == ""
    for wrong in ('{"qom-type":"authz-simple"}', "{zz", "authz-simple,id=a,colour=red", "authz-simple,id=9"):
        assert hmp.ask(f"object_add {wrong}").startswith("Error: ")
    hmp.socket.close()
    assert qmp.ask(listing)["return"] == []


def test_out_of_band_needs_its_capability_and_a_command_that_allows_it(emulator: Emulator) -> None:
    client = emulator.qmp()
    client.negotiate()
    assert error(client.ask(b'{"exec-oob": "stop"}'))[1] == "QMP input member 'exec-oob' is unexpected"
    client.close()
    client = emulator.qmp()
    client.ask(b'{"execute": "qmp_capabilities", "arguments": {"enable": ["oob"]}}')
    assert error(client.ask(b'{"exec-oob": "stop"}'))[1] == "The command stop does not support OOB"
    client.close()


def test_the_schema_describes_every_command_with_types_that_exist(qmp: RawQmp) -> None:
    entries = qmp.ask(b'{"execute": "query-qmp-schema"}')["return"]
    commands = {entry["name"] for entry in entries if entry["meta-type"] == "command"}
    assert len(commands) > 30
    assert commands == {entry["name"] for entry in qmp.ask(b'{"execute": "query-commands"}')["return"]}
    assert set(QMP) <= commands
    types = {entry["name"] for entry in entries if entry["meta-type"] not in ("command", "event")}
    for entry in entries:
        used = [entry[key] for key in ("arg-type", "ret-type", "element-type") if key in entry]
        if entry["meta-type"] in ("object", "alternate"):
            used += [member["type"] for member in entry["members"]]
        assert set(used) <= types, entry
    events = {entry["name"] for entry in entries if entry["meta-type"] == "event"}
    assert {"STOP", "RESUME", "SHUTDOWN", "RESET", "MIGRATION", "MIGRATION_PASS"} <= events


def test_every_query_without_arguments_answers(qmp: RawQmp) -> None:
    queries = [name for name, entry in QMP.items() if name.startswith("query-")]
    assert len(queries) >= 12
    for name in queries:
        assert "return" in qmp.ask(json.dumps({"execute": name}).encode()), name


def test_memory_is_saved_to_a_file(qmp: RawQmp, emulator: Emulator) -> None:
    path = emulator.directory / "memory"
    for name in ("memsave", "pmemsave"):
        request = {"execute": name, "arguments": {"val": 0xFF0000, "size": 4096, "filename": str(path)}}
        assert qmp.ask(json.dumps(request).encode()) == {"return": {}}
        data = path.read_bytes()
        assert len(data) == 4096
        assert data[:2] == b"\x00\xe2", "the signature of the boot information block"
    request["arguments"] = {"val": 0x7FFF0000, "size": 4, "filename": str(path)}
    assert error(qmp.ask(json.dumps(request).encode()))[1].startswith("Invalid addr 0x000000007fff0000")
    request["arguments"] = {"val": 0, "size": 4, "filename": "/nonexistent/file"}
    assert error(qmp.ask(json.dumps(request).encode()))[1].startswith("Could not open '/nonexistent/file'")


def test_a_client_that_asks_and_never_reads_costs_no_memory(emulator: Emulator) -> None:
    def resident() -> int:
        with open(f"/proc/{emulator.process.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * 4096

    client = emulator.qmp()
    client.negotiate()
    before = resident()
    client.socket.settimeout(1.0)
    with pytest.raises(TimeoutError):
        client.send(b'{"execute": "query-qmp-schema"}' * 100_000)
    assert resident() - before < 64 << 20
    hmp = emulator.hmp()
    assert hmp.ask("p 1") == "1\n"
    hmp.socket.close()
    client.close()


def test_server_on_alone_waits_for_the_first_client(tmp_path: Path) -> None:
    path = tmp_path / "qmp"
    options = (*machine_options(tmp_path), "-display", "none", "-qmp", f"unix:{path},server=on")
    process = start(*options, stderr=subprocess.PIPE)
    assert process.stderr is not None
    line = process.stderr.readline().decode()
    assert line == f"e2kemu: info: waiting for connection on: disconnected:unix:{path},server=on\n"
    client = RawQmp(path, process)
    client.negotiate()
    client.send(b'{"execute": "quit"}')
    assert process.wait(30) == 0
    process.stderr.close()
