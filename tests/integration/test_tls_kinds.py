"""Whole processes migrate with pre-shared keys, anonymously, and not at all when tls-authz says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from e2kemu.migration.certs import make_pki, make_psk
from e2kemu.process import Emulator
from tests.conftest import StartEmulator
from tests.framework.guests import check_ticks

SMALL = ("-M", "elbrus", "-cpu", "e8c", "-m", "32M")
NAME = "O=e2kemu,CN=source.example.org"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates, and a key of alice."""
    directory = tmp_path_factory.mktemp("keys")
    make_pki(directory, hosts=["127.0.0.1"], client_name="source.example.org")
    make_psk(directory, "alice")
    return directory


def ticking(start: StartEmulator, *objects: str) -> Emulator:
    """A running source that uses ``tls0``."""
    source = start("source", *SMALL, "-append", "workload=ticks", *options(*objects))
    source.wait_console("tick 2\n")
    source.set_parameters(tls_creds="tls0")
    return source


def waiting(start: StartEmulator, name: str, *objects: str, authz: str = "") -> tuple[Emulator, str]:
    """A destination that uses ``tls0``, and its URI."""
    destination = start(name, *SMALL, "-incoming", "defer", *options(*objects))
    destination.set_parameters(tls_creds="tls0", tls_authz=authz)
    destination.qmp("migrate-incoming", uri="tcp:127.0.0.1:0")
    return destination, f"tcp:127.0.0.1:{destination.migration()['socket-address'][0]['port']}"


def options(*objects: str) -> list[str]:
    return [word for text in objects for word in ("-object", text)]


def succeed(source: Emulator, destination: Emulator, uri: str) -> None:
    source.qmp("migrate", uri=uri)
    info = source.wait_migration()
    assert info["status"] == "completed", (info, destination.stderr())
    destination.wait_status("running")
    seen = destination.console().count("tick")
    destination.wait_console("tick", count=seen + 3)
    destination.qmp("stop")
    assert check_ticks(source.console() + destination.console()) > 3


def refused(source: Emulator, destination: Emulator, uri: str) -> tuple[str, str]:
    """What source and destination say; the source's guest must run on."""
    source.qmp("migrate", uri=uri)
    info = source.wait_migration()
    assert info["status"] == "failed", info
    assert source.status() == "running"
    seen = source.console().count("tick")
    source.wait_console("tick", count=seen + 3)
    assert destination.wait_exit() == 1
    (line,) = destination.stderr().strip().splitlines()
    return info["error-desc"], line


def test_guest_migrates_with_a_pre_shared_key_and_not_with_another(
    start: StartEmulator, keys: Path, tmp_path: Path
) -> None:
    make_psk(tmp_path / "others", "alice")
    source = ticking(start, f"tls-creds-psk,id=tls0,dir={keys},endpoint=client,username=alice")
    other, uri = waiting(start, "other", f"tls-creds-psk,id=tls0,dir={tmp_path / 'others'},endpoint=server")
    ours, theirs = refused(source, other, uri)
    assert ours.endswith("Illegal parameter (the server may have another key of PSK user 'alice', or none)")
    assert "The client's key of PSK user 'alice' is not the one in" in theirs
    succeed(source, *waiting(start, "destination", f"tls-creds-psk,id=tls0,dir={keys},endpoint=server"))


def test_guest_migrates_anonymously_and_not_to_who_speaks_no_tls(start: StartEmulator) -> None:
    source = ticking(start, "tls-creds-anon,id=tls0,endpoint=client")
    plain = start("plain", *SMALL, "-incoming", "defer")
    plain.qmp("migrate-incoming", uri="tcp:127.0.0.1:0")
    port = plain.migration()["socket-address"][0]["port"]
    source.qmp("migrate", uri=f"tcp:127.0.0.1:{port}")
    info = source.wait_migration()
    assert info["status"] == "failed", info
    assert "TLS handshake failed" in info["error-desc"]
    assert plain.wait_exit() == 1
    assert len(plain.stderr().strip().splitlines()) == 1
    assert source.status() == "running"
    succeed(source, *waiting(start, "destination", "tls-creds-anon,id=tls0,endpoint=server"))


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_client_that_may_not_is_told_and_keeps_its_guest(
    version: str, start: StartEmulator, keys: Path, tmp_path: Path
) -> None:
    priority = f"NORMAL:-VERS-ALL:+VERS-TLS{version}"
    source = ticking(start, f"tls-creds-x509,id=tls0,dir={keys},endpoint=client,priority={priority}")
    server = f"tls-creds-x509,id=tls0,dir={keys},endpoint=server"
    acl = tmp_path / "acl.json"
    acl.write_text(json.dumps({"policy": "allow", "rules": [{"match": NAME, "policy": "deny"}]}))
    strict, uri = waiting(start, "strict", server, f"authz-list-file,id=acl,filename={acl}", authz="acl")
    ours, theirs = refused(source, strict, uri)
    assert theirs == f"e2kemu: load of migration failed: TLS x509 authz check for {NAME} is denied"
    alert = "Access was denied" if version == "1.2" else "Unexpected message"
    assert ours == f"TLS handshake failed: A TLS fatal alert has been received: {alert}"
    identity = NAME.replace(",", ",,")
    succeed(source, *waiting(start, "open", server, f"authz-simple,id=who,identity={identity}", authz="who"))


def test_lists_are_taken_from_qmp_and_from_json_options(start: StartEmulator, keys: Path) -> None:
    rules = [{"match": "O=e2kemu,CN=*.example.org", "policy": "allow", "format": "glob"}]
    source = ticking(start, f"tls-creds-x509,id=tls0,dir={keys},endpoint=client")
    destination = start(
        "destination", *SMALL, "-incoming", "defer", *options(f"tls-creds-x509,id=tls0,dir={keys},endpoint=server"),
        "-object", json.dumps({"qom-type": "secret", "id": "sec0", "data": "x"}),
    )  # fmt: skip
    destination.qmp("object-add", qom_type="authz-list", id="list", policy="deny", rules=rules)
    destination.hmp("migrate_set_parameter tls-creds tls0")
    destination.hmp("migrate_set_parameter tls-authz list")
    assert "tls-authz: 'list'" in destination.hmp("info migrate_parameters")
    kinds = {item["name"]: item["type"] for item in destination.qmp("qom-list", path="/objects")}
    assert kinds == {"tls0": "child<tls-creds-x509>", "sec0": "child<secret>", "list": "child<authz-list>"}
    destination.qmp("migrate-incoming", uri="tcp:127.0.0.1:0")
    port = destination.migration()["socket-address"][0]["port"]
    succeed(source, destination, f"tcp:127.0.0.1:{port}")
