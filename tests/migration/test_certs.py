"""e2kemu-certs: the directory it makes, what stands in it, and what it refuses."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from e2kemu.errors import OptionError
from e2kemu.migration.certs import default_hosts, main, make_pki

ALL = {f"{name}-{kind}.pem" for name in ("ca", "server", "client") for kind in ("cert", "key")}


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_command_makes_a_whole_directory_and_prints_its_files(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "e2kemu.migration.certs", str(tmp_path / "new" / "pki")],
        capture_output=True,
        text=True,
        check=True,
    )
    directory = tmp_path / "new" / "pki"
    assert {path.name for path in directory.iterdir()} == ALL
    assert set(done.stdout.split()) == {str(directory / name) for name in ALL}
    for path in directory.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == (0o600 if "key" in path.name else 0o644)


def test_certificates_say_what_qemu_wants_to_read(tmp_path: Path) -> None:
    make_pki(tmp_path, hosts=["vm.example.org", "10.1.2.3", "fd00::1"], client_name="source")
    ca = load(tmp_path / "ca-cert.pem")
    constraints = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value.ca
    assert ca.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    purposes = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}
    for side, purpose in purposes.items():
        leaf = load(tmp_path / f"{side}-cert.pem")
        leaf.verify_directly_issued_by(ca)
        extensions = leaf.extensions
        assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
        assert usage.digital_signature
        assert usage.key_encipherment
        assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [purpose]
        assert isinstance(leaf.public_key(), ec.EllipticCurvePublicKey)
    names = load(tmp_path / "server-cert.pem").extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert [str(name.value) for name in names.value] == ["vm.example.org", "10.1.2.3", "fd00::1"]
    assert "CN=source" in load(tmp_path / "client-cert.pem").subject.rfc4514_string()


def test_default_hosts_are_this_machine() -> None:
    assert {"localhost", "127.0.0.1", "::1"} <= set(default_hosts())


def test_rsa_days_and_only(tmp_path: Path) -> None:
    assert main([str(tmp_path), "--rsa", "--days", "7", "--only", "server"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {name for name in ALL if "client" not in name}
    leaf = load(tmp_path / "server-cert.pem")
    assert isinstance(leaf.public_key(), rsa.RSAPublicKey)
    assert (leaf.not_valid_after_utc - leaf.not_valid_before_utc).days == 8


def test_ca_can_be_used_again_in_place_and_for_another_directory(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert main([str(first), "--only", "server"]) == 0
    ca = (first / "ca-cert.pem").read_bytes()
    assert main([str(first), "--only", "client", "--ca", str(first)]) == 0
    assert main([str(second), "--only", "client", "--ca", str(first)]) == 0
    assert (first / "ca-cert.pem").read_bytes() == ca == (second / "ca-cert.pem").read_bytes()
    assert not (second / "ca-key.pem").exists()
    for directory in (first, second):
        load(directory / "client-cert.pem").verify_directly_issued_by(load(first / "ca-cert.pem"))


def test_nothing_is_overwritten_without_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_pki(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / "ca-cert.pem").unlink()
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"e2kemu-certs: {tmp_path}/ca-key.pem exists; --force overwrites it\n"
    assert not (tmp_path / "ca-cert.pem").exists()
    assert main([str(tmp_path), "--force"]) == 0
    assert (tmp_path / "server-key.pem").read_bytes() != before["server-key.pem"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "a b"], "'a b' is not a host name or an IP address"),
        (["--host", ""], "'' is not a host name or an IP address"),
        (["--host", "x" * 64 + ".org"], "is not a host name or an IP address"),
        (["--days", "0"], "0 days is too short"),
        (["--days", "99999999"], "99999999 days from now is no date"),
        (["--client-name", "x" * 65], "cannot be a common name: 1 to 64 characters can"),
        (["--ca", "/nowhere"], "cannot read the CA: /nowhere/ca-cert.pem: No such file or directory"),
        (["--ca", "/dev/null"], "cannot read the CA: /dev/null/ca-cert.pem: Not a directory"),
    ],
)
def test_wrong_argument_is_one_line_and_leaves_nothing(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "pki"), *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("e2kemu-certs: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "pki").exists()


def test_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match=f"cannot make the directory {tmp_path}/file/pki: Not a directory"):
        make_pki(tmp_path / "file" / "pki")


def test_ca_with_the_wrong_key_is_refused(tmp_path: Path) -> None:
    make_pki(tmp_path / "a")
    make_pki(tmp_path / "b")
    (tmp_path / "a" / "ca-key.pem").write_bytes((tmp_path / "b" / "ca-key.pem").read_bytes())
    with pytest.raises(OptionError, match=r"ca-key.pem is not the key of .*ca-cert.pem"):
        make_pki(tmp_path / "c", ca_from=tmp_path / "a")
    (tmp_path / "a" / "ca-key.pem").write_text("no key")
    with pytest.raises(OptionError, match="cannot use the CA in"):
        make_pki(tmp_path / "c", ca_from=tmp_path / "a")
