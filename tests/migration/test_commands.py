"""The migration commands as the monitors run them, with the answers a client of QEMU expects."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import e2kemu.migration.commands
import e2kemu.monitor.commands  # noqa: F401 - declares "info"
from e2kemu.errors import CommandError
from e2kemu.monitor.dispatch import HMP, INFO, QMP, Context, Monitor, run_qmp, schema
from e2kemu.monitor.hmp import complete, execute
from e2kemu.objects import ObjectStore
from tests.migration.conftest import MakeSide, Side
from tests.migration.toy import PAGE, LapWriter


class Paper(Monitor):
    """A monitor that writes down what it is told, and is suspended like a real one."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.awake = threading.Event()
        self.awake.set()

    def print(self, text: str, end: str = "\n") -> None:
        self.text += text + end

    def suspend(self) -> None:
        self.awake.clear()

    def resume(self) -> None:
        self.awake.set()


class Desk:
    """Both monitors of one machine."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.paper = Paper()
        self.ctx = Context(
            vm=side.machine,
            loop=side.machine.loop,  # type: ignore[arg-type]
            objects=ObjectStore(),
            services={"migration": side.service},
            monitor=self.paper,
        )

    def qmp(self, name: str, **arguments: Any) -> Any:
        return run_qmp(self.ctx, name, {key.replace("_", "-"): value for key, value in arguments.items()})

    def hmp(self, line: str) -> str:
        self.paper.text = ""
        execute(self.ctx, line)
        return self.paper.text


@pytest.fixture
def desk(side: MakeSide) -> Desk:
    return Desk(side(16 * PAGE, LapWriter(16)))


@pytest.fixture
def there(side: MakeSide) -> Iterator[Desk]:
    """A machine that waits for a migration."""
    return Desk(side(16 * PAGE, incoming=True))


def test_all_commands_are_declared_in_both_monitors() -> None:
    assert {
        "migrate",
        "migrate_cancel",
        "migrate-continue",
        "migrate-incoming",
        "query-migrate",
        "migrate-set-capabilities",
        "query-migrate-capabilities",
        "migrate-set-parameters",
        "query-migrate-parameters",
    } <= set(QMP)
    assert {
        "migrate",
        "migrate_cancel",
        "migrate_continue",
        "migrate_incoming",
        "migrate_set_capability",
        "migrate_set_parameter",
        "migrate_set_str_parameter",
    } <= set(HMP)
    assert {"migrate", "migrate_capabilities", "migrate_parameters"} <= set(INFO)
    assert len(schema()) > 20


def test_a_migration_by_qmp(desk: Desk, there: Desk) -> None:
    assert desk.qmp("query-migrate") == {}
    assert there.qmp("migrate-incoming", uri="tcp:127.0.0.1:0") == {}
    port = there.qmp("query-migrate")["socket-address"][0]["port"]
    assert int(port) > 0
    desk.qmp("migrate-set-capabilities", capabilities=[{"capability": "return-path", "state": True}])
    assert {"capability": "return-path", "state": True} in desk.qmp("query-migrate-capabilities")
    desk.qmp("migrate-set-parameters", max_bandwidth=1 << 30, downtime_limit=1000)
    parameters = desk.qmp("query-migrate-parameters")
    assert parameters["max-bandwidth"] == 1 << 30
    assert parameters["downtime-limit"] == 1000
    assert parameters["tls-creds"] == ""
    assert desk.qmp("migrate", uri=f"tcp:127.0.0.1:{port}") == {}
    assert desk.side.service.wait(30) == "completed"
    info = desk.qmp("query-migrate")
    assert info["status"] == "completed"
    assert set(info) == {"status", "total-time", "downtime", "setup-time", "ram"}
    assert len(info["ram"]) == 17
    assert there.side.wait_incoming() == "completed"


def test_channels_are_another_way_to_say_where(desk: Desk, there: Desk) -> None:
    def channels(port: str) -> list[dict[str, Any]]:
        address = {"transport": "socket", "type": "inet", "host": "127.0.0.1", "port": port}
        return [{"channel-type": "main", "addr": address}]

    there.qmp("migrate-incoming", channels=channels("0"))
    port = there.qmp("query-migrate")["socket-address"][0]["port"]
    with pytest.raises(CommandError, match="need either 'uri' or 'channels' argument"):
        desk.qmp("migrate", uri="tcp:127.0.0.1:1", channels=channels(port))
    with pytest.raises(CommandError, match="need either 'uri' or 'channels' argument"):
        desk.qmp("migrate")
    desk.qmp("migrate", channels=channels(port))
    assert desk.side.service.wait(30) == "completed"


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("migrate", {"uri": "foo:bar"}, "unknown migration protocol: foo:bar"),
        ("migrate", {"uri": 5}, "Invalid parameter type for 'uri', expected: string"),
        ("migrate", {"uri": "file:/x,offset=0x20M"}, "file URI has bad offset 0x20M: Invalid argument"),
        ("migrate", {"uri": "fd:zz"}, "File descriptor named 'zz' has not been found"),
        ("migrate-incoming", {"uri": "tcp:127.0.0.1:0"}, "'-incoming' was not specified on the command line"),
        ("migrate-continue", {"state": "pre-switchover"}, "Migration not in expected state: none"),
        ("migrate-continue", {"state": "asleep"}, "Parameter 'state' does not accept value 'asleep'"),
        ("migrate-set-parameters", {"warp": 1}, "Parameter 'warp' is unexpected"),
        ("migrate-set-parameters", {"max-bandwidth": "x"}, "Invalid parameter type for 'max-bandwidth'"),
        ("migrate-set-parameters", {"downtime-limit": 9999999}, "Option downtime-limit expects an integer"),
        (
            "migrate-set-capabilities",
            {"capabilities": [{"capability": "warp", "state": True}]},
            "Parameter 'capability' does not accept value 'warp'",
        ),
    ],
)
def test_errors_are_qemus(desk: Desk, command: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(CommandError) as error:
        run_qmp(desk.ctx, command, arguments)
    assert str(error.value).startswith(message)
    assert error.value.qmp_class == "GenericError"
    assert desk.qmp("query-migrate") == {}


def test_a_migration_by_hand(desk: Desk, there: Desk) -> None:
    assert desk.hmp("info migrate") == ""
    assert there.hmp("migrate_incoming tcp:127.0.0.1:0") == ""
    assert there.hmp("info migrate").startswith("Status: \t\tsetup\nSockets: [\n\ttcp:127.0.0.1:")
    port = there.qmp("query-migrate")["socket-address"][0]["port"]
    assert desk.hmp("migrate_set_parameter max-bandwidth 1G") == ""
    assert desk.hmp("migrate_set_capability return-path on") == ""
    assert "return-path: on\n" in desk.hmp("info migrate_capabilities")
    assert "max-bandwidth: 1073741824 bytes/second\n" in desk.hmp("info migrate_parameters")
    assert desk.hmp(f"migrate -d tcp:127.0.0.1:{port}") == ""
    assert desk.side.service.wait(30) == "completed"
    text = desk.hmp("info migrate -a")
    assert text.startswith("Status: \t\tcompleted\n")
    assert "Globals:\n" in text


def test_without_d_only_this_monitor_waits_and_then_tells_the_error(desk: Desk) -> None:
    assert desk.hmp("migrate tcp:127.0.0.1:1") == ""
    assert desk.paper.awake.wait(30)
    assert desk.paper.text == "Error: Failed to connect to '127.0.0.1:1': Connection refused\n"


def test_without_d_the_monitor_comes_back_when_the_migration_is_done(desk: Desk, tmp_path: Path) -> None:
    for number in range(2):
        desk.hmp(f"migrate file:{tmp_path}/{number}")
        assert desk.paper.awake.wait(30)
        assert desk.paper.text == ""
        assert desk.side.status() == "completed"
        desk.side.machine.run_state = "paused"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("migrate_set_parameter foo 1", "Error: invalid parameter value: foo\n"),
        ("migrate_set_capability foo on", "Error: invalid parameter value: foo\n"),
        ("migrate_set_str_parameter max-bandwidth 1", "Error: invalid parameter value: max-bandwidth\n"),
        ("migrate_set_parameter downtime-limit many", "Error: Parameter 'downtime-limit' expects an integer"),
        ("migrate_continue asleep", "Error: invalid parameter value: asleep\n"),
        ("migrate_incoming tcp::0", "Error: '-incoming' was not specified on the command line\n"),
    ],
)
def test_errors_by_hand(desk: Desk, line: str, message: str) -> None:
    assert desk.hmp(line).startswith(message)


def test_the_old_name_for_string_parameters_works(desk: Desk) -> None:
    assert desk.hmp("migrate_set_str_parameter tls-creds tls0") == ""
    assert desk.qmp("query-migrate-parameters")["tls-creds"] == "tls0"
    desk.qmp("migrate-set-parameters", tls_creds=None)
    assert desk.qmp("query-migrate-parameters")["tls-creds"] == ""


def test_names_complete(desk: Desk) -> None:
    assert complete(desk.ctx, "migrate_set_capability ret") == ["return-path"]
    assert complete(desk.ctx, "migrate_set_capability events o") == ["on", "off"]
    assert complete(desk.ctx, "migrate_set_parameter downtime") == ["downtime-limit"]
    assert complete(desk.ctx, "migrate_set_parameter zero-page-detection l") == ["legacy"]
    assert set(complete(desk.ctx, "migrate_set_str_parameter tls-")) == {"tls-creds", "tls-hostname", "tls-authz"}


def test_a_destinations_capabilities_may_be_switched_until_a_source_comes(desk: Desk, there: Desk) -> None:
    there.qmp("migrate-incoming", uri="tcp:127.0.0.1:0")
    for one in (desk, there):
        for name in ("postcopy-ram", "xbzrle"):
            assert one.hmp(f"migrate_set_capability {name} on") == ""
    port = there.qmp("query-migrate")["socket-address"][0]["port"]
    # the discard and the package are refused by a destination that was not told before
    desk.qmp("migrate-set-parameters", max_bandwidth=1, downtime_limit=0)
    desk.qmp("migrate", uri=f"tcp:127.0.0.1:{port}")
    desk.side.wait_status("active")
    there.side.service.incoming_state.wait_until(lambda status: status == "active", 30)
    for one in (desk, there):
        assert one.hmp("migrate_set_capability xbzrle off") == "Error: There's a migration process in progress\n"
    desk.qmp("migrate-start-postcopy")
    assert there.side.wait_incoming() == "completed"
    assert desk.side.service.wait(30) == "completed"
