"""A TLS migration that must not happen: the source says why and runs on, the destination says why and ends."""

from __future__ import annotations

import datetime
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from e2kemu.migration.certs import LeafShape, Validity, make_ca, make_leaf, make_pki, read_ca, write_pair
from tests.conftest import StartEmulator
from tests.framework.transports import tcp, tls_object

SMALL = ("-M", "elbrus", "-cpu", "e8c", "-m", "32M")
LONG_AGO = Validity(
    datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC), datetime.datetime(2002, 1, 1, tzinfo=datetime.UTC)
)


def _foreign_ca(server: Path, client: Path) -> None:
    make_pki(client, hosts=["localhost"], force=True)


def _other_host(server: Path, client: Path) -> None:
    leaf = make_leaf(read_ca(server), "elsewhere", LeafShape(("elsewhere.example",), ("server",)))
    write_pair(server, "server", leaf)


def _expired_server(server: Path, client: Path) -> None:
    leaf = make_leaf(read_ca(server), "localhost", LeafShape(("127.0.0.1",), ("server",), validity=LONG_AGO))
    write_pair(server, "server", leaf)


def _expired_client(server: Path, client: Path) -> None:
    leaf = make_leaf(read_ca(server), "client", LeafShape((), ("client",), validity=LONG_AGO))
    write_pair(client, "client", leaf)


def _no_client_certificate(server: Path, client: Path) -> None:
    for name in ("client-cert.pem", "client-key.pem"):
        (client / name).unlink()


CASES: dict[str, tuple[Callable[[Path, Path], None], str, str]] = {
    "wrong-ca": (_foreign_ca, "hasn't got a known issuer", "CA is unknown"),
    "hostname": (_other_host, "does not match the hostname 127.0.0.1", "."),
    "expired-server": (_expired_server, "has expired", "expired"),
    "expired-client": (_expired_client, "expired", "has expired"),
    "no-client-certificate": (_no_client_certificate, "Certificate is required|failed", "No certificate was found"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_certificate_that_is_no_good_stops_the_migration_not_the_guest(
    case: str, start: StartEmulator, pki: Path, tmp_path: Path
) -> None:
    server, client = tmp_path / "server-pki", tmp_path / "client-pki"
    shutil.copytree(pki, server)
    shutil.copytree(pki, client)
    spoil, at_source, at_destination = CASES[case]
    spoil(server, client)
    unchecked = "sanity-check=off"
    source = start("source", *SMALL, "-append", "workload=ticks", *tls_object(client, "client", unchecked))
    destination = start("destination", *SMALL, "-incoming", "defer", *tls_object(server, "server", unchecked))
    source.wait_console("tick 1\n")
    for emulator in (source, destination):
        emulator.set_parameters(tls_creds="tls0")
    source.qmp("migrate", uri=tcp(source, destination, tmp_path))
    info = source.wait_migration()
    assert info["status"] == "failed"
    assert re.search(at_source, info["error-desc"]), info["error-desc"]
    assert info["error-desc"] in source.hmp("info migrate")
    assert source.status() == "running"
    assert destination.wait_exit() == 1
    lines = destination.stderr().strip().splitlines()
    assert len(lines) == 1
    assert re.search(at_destination, lines[0]), lines
    source.wait_console("tick", count=source.console().count("tick") + 2)


def test_credentials_for_the_other_endpoint_are_refused(start: StartEmulator, pki: Path, tmp_path: Path) -> None:
    source = start("source", *SMALL, "-append", "workload=ticks", *tls_object(pki, "server"))
    destination = start("destination", *SMALL, "-incoming", "defer", *tls_object(pki, "server"))
    for emulator in (source, destination):
        emulator.set_parameters(tls_creds="tls0")
    uri = tcp(source, destination, tmp_path)
    try:
        source.qmp("migrate", uri=uri)
        reason = source.wait_migration()["error-desc"]
    except Exception as error:  # refused at once is as good as failed
        reason = str(error)
    assert "Expected TLS credentials for a client endpoint" in reason
    assert source.status() == "running"


def test_a_certificate_authority_that_is_none_is_found_when_the_object_is_made(
    start: StartEmulator, tmp_path: Path
) -> None:
    directory = tmp_path / "bad"
    make_pki(directory, hosts=["localhost"])
    pretender = make_ca(is_ca=False)
    write_pair(directory, "ca", pretender)
    write_pair(directory, "client", make_leaf(pretender, "client", LeafShape((), ("client",))))
    emulator = start("emulator", *SMALL, *tls_object(directory, "client"))
    assert emulator.wait_exit() == 1
    lines = emulator.stderr().strip().splitlines()
    assert len(lines) == 1
    assert "basic constraints do not show a CA" in lines[0]
