"""Migration inside TLS: what arrives is the same, and what fails says on both sides why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from e2kemu.errors import OptionError
from e2kemu.migration.certs import make_pki
from e2kemu.migration.service import MigrationService
from e2kemu.objects import ObjectStore
from tests.migration.conftest import MakeSide, Side
from tests.migration.toy import MIB, LapWriter, laps_are_whole


def give_tls(side: Side, directory: Path, endpoint: str, **more: str) -> None:
    """Let the side use the credentials in ``directory``."""
    store = ObjectStore()
    store.add("tls-creds-x509", "tls0", {"dir": str(directory), "endpoint": endpoint, **more})
    side.service = MigrationService(side.machine, store)
    side.service.capabilities.set({"events": True})
    side.service.parameters.set({"tls-creds": "tls0"})


@pytest.fixture(scope="session")
def other_pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of a CA that nobody knows."""
    directory = tmp_path_factory.mktemp("other-pki")
    make_pki(directory, hosts=["127.0.0.1"])
    return directory


def test_a_destination_that_listens_already_may_still_be_told_to_want_tls(side: MakeSide, pki: Path) -> None:
    source, destination = side(4 * MIB, LapWriter(16)), side(4 * MIB, incoming=True)
    give_tls(destination, pki, "server")
    destination.service.parameters.set({"tls-creds": ""})
    target = destination.listen(exit_on_error=False)
    destination.service.parameters.set({"tls-creds": "tls0"})
    source.machine.start()
    source.service.migrate(target)
    assert source.service.wait(30) == "failed"
    assert destination.wait_incoming() == "failed"
    assert "TLS" in destination.service.query()["error-desc"]
    give_tls(source, pki, "client")
    target = destination.listen()
    source.service.migrate(target)
    assert source.service.wait(30) == "completed"


@pytest.mark.parametrize("transport", ["tcp", "unix"])
def test_a_running_guest_migrates_over_mutual_tls(
    side: MakeSide, pki: Path, tmp_path: Path, transport: str
) -> None:
    pages = 1024
    source, destination = side(8 * MIB, LapWriter(pages)), side(8 * MIB, incoming=True)
    give_tls(source, pki, "client")
    give_tls(destination, pki, "server")
    source.service.parameters.set({"max-bandwidth": 0})
    source.machine.ram.view[4 * MIB : 6 * MIB] = np.random.default_rng(5).integers(0, 256, 2 * MIB, np.uint8)
    source.machine.start()
    if transport == "unix":
        source.service.parameters.set({"tls-hostname": "localhost"})
        target = destination.listen(f"unix:{tmp_path}/sock")
    else:
        target = destination.listen()
    source.service.migrate(target)
    assert source.service.wait(30) == "completed", source.service.query()
    assert destination.wait_incoming() == "completed"
    assert (source.machine.ram.view == destination.machine.ram.view).all()
    assert laps_are_whole(destination.machine, pages)
    assert destination.machine.run_state == "running"


def test_a_host_name_is_needed_where_the_address_has_none(side: MakeSide, pki: Path, tmp_path: Path) -> None:
    source, destination = side(), side(incoming=True)
    give_tls(source, pki, "client")
    give_tls(destination, pki, "server")
    source.service.migrate(destination.listen(f"unix:{tmp_path}/sock"))
    assert source.service.wait(30) == "failed"
    assert source.service.query()["error-desc"] == "No hostname for certificate validation"
    assert destination.wait_incoming() == "failed"


def test_a_server_of_another_ca_is_refused_and_both_sides_say_so(
    side: MakeSide, pki: Path, other_pki: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, destination = side(4 * MIB, LapWriter(64)), side(incoming=True)
    give_tls(source, pki, "client")
    give_tls(destination, other_pki, "server")
    source.machine.start()
    source.service.migrate(destination.listen())
    assert source.service.wait(30) == "failed"
    assert "certificate" in source.service.query()["error-desc"]
    assert source.machine.is_running()
    assert destination.wait_incoming() == "failed"
    assert "TLS handshake failed" in capsys.readouterr().err
    give_tls(source, pki, "client")
    again = side(incoming=True)
    give_tls(again, pki, "server")
    source.service.migrate(again.listen())
    assert source.service.wait(30) == "completed"


def test_a_client_that_the_server_refuses_learns_it_from_tls_and_not_from_the_cut(
    side: MakeSide, pki: Path, other_pki: Path, tmp_path: Path
) -> None:
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    (mixed / "ca-cert.pem").write_bytes((pki / "ca-cert.pem").read_bytes())
    for name in ("client-cert.pem", "client-key.pem"):
        (mixed / name).write_bytes((other_pki / name).read_bytes())
    source, destination = side(16 * MIB), side(16 * MIB, incoming=True)
    source.machine.ram.view[:] = 3
    give_tls(source, mixed, "client", **{"sanity-check": "off"})
    give_tls(destination, pki, "server")
    source.service.migrate(destination.listen())
    assert source.service.wait(30) == "failed"
    assert "TLS handshake failed" in source.service.query()["error-desc"]
    assert destination.wait_incoming() == "failed"
    assert source.machine.run_state == "prelaunch"


def test_tls_on_one_side_only_fails_with_a_reason(side: MakeSide, pki: Path) -> None:
    source, destination = side(), side(incoming=True)
    give_tls(destination, pki, "server")
    source.service.migrate(destination.listen())
    assert source.service.wait(30) == "failed"
    assert destination.wait_incoming() == "failed"
    assert "TLS" in destination.service.query()["error-desc"]


def test_credentials_of_the_wrong_endpoint_are_refused_at_once(side: MakeSide, pki: Path) -> None:
    source, destination = side(), side(incoming=True)
    give_tls(source, pki, "server")
    give_tls(destination, pki, "client")
    with pytest.raises(OptionError, match="Expected TLS credentials for a client endpoint"):
        source.service.migrate("tcp:127.0.0.1:1")
    with pytest.raises(OptionError, match="Expected TLS credentials for a server endpoint"):
        destination.listen()
