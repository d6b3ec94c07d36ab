"""The object type secret: raw, base64, from a file, encrypted; and the key file that a secret opens."""

from __future__ import annotations

import base64
import secrets
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from e2kemu.errors import OptionError
from e2kemu.objects import ObjectStore
from e2kemu.secret import Secret


def make(store: ObjectStore | None = None, ident: str = "sec0", **properties: str) -> Secret:
    created = (store or ObjectStore()).add("secret", ident, properties)
    assert isinstance(created, Secret)
    return created


def encrypted(data: bytes, key: bytes, iv: bytes) -> bytes:
    """By the openssl command, as QEMU's manual tells its users to."""
    command = ["openssl", "enc", "-aes-256-cbc", "-K", key.hex(), "-iv", iv.hex()]
    return subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout


def test_data_is_the_secret(tmp_path: Path) -> None:
    assert make(data="let me in").text == "let me in"
    assert make(data="bGV0IG1lIGlu", format="base64").text == "let me in"
    file = tmp_path / "password"
    file.write_bytes(b"let me in\n")
    assert make(file=str(file)).value == b"let me in\n"
    file.write_bytes(b"bGV0IG1l\nIGlu\n")
    assert make(file=str(file), format="base64").text == "let me in"


@given(st.binary(max_size=200))
def test_base64_carries_any_bytes(data: bytes) -> None:
    assert make(data=base64.b64encode(data).decode(), format="base64").value == data


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 1000])
def test_encrypted_secret_opens_with_its_key(size: int, tmp_path: Path) -> None:
    store = ObjectStore()
    key, iv, plain = secrets.token_bytes(32), secrets.token_bytes(16), secrets.token_bytes(size)
    make(store, "master", data=base64.b64encode(key).decode(), format="base64")
    vector = base64.b64encode(iv).decode()
    data = encrypted(plain, key, iv)
    text = base64.b64encode(data).decode()
    assert make(store, "text", keyid="master", iv=vector, format="base64", data=text).value == plain
    (tmp_path / "raw").write_bytes(data)
    assert make(store, "file", keyid="master", iv=vector, file=str(tmp_path / "raw")).value == plain


REFUSED = [
    ({}, "Must provide 'file' or 'data' property"),
    ({"data": "x", "file": "y"}, "'file' and 'data' are mutually exclusive"),
    ({"data": "x", "format": "hex"}, "Parameter 'format' does not accept value 'hex'"),
    ({"data": "x", "loaded": "on"}, "Invalid parameter 'loaded'"),
    ({"data": "???", "format": "base64"}, "Base64 data of secret 'sec0' is not valid"),
    ({"data": "x", "iv": "AAAA"}, "Parameter 'iv' needs 'keyid'"),
    ({"data": "x", "keyid": "nobody"}, "No secret with id 'nobody'"),
    ({"data": "x", "keyid": "short"}, "Key for secret 'sec0' has 3 bytes, AES-256 needs 32"),
    ({"data": "x", "keyid": "master"}, "IV is required to decrypt secret"),
    ({"data": "x", "keyid": "master", "iv": "?"}, "Base64 data of the IV of secret 'sec0' is not valid"),
    ({"data": "x", "keyid": "master", "iv": "AAAA"}, "IV of secret 'sec0' has 3 bytes, AES needs 16"),
    (
        {"data": "x", "keyid": "master", "iv": "A" * 22 + "=="},
        "Secret 'sec0' cannot be decrypted: wrong key, IV or data",
    ),
    ({"file": "/nowhere"}, "Unable to read /nowhere: No such file or directory"),
    ({"file": "/"}, "Unable to read /: Is a directory"),
    ({"file": "/dev/zero"}, "Unable to read /dev/zero: more than 1048576 bytes are no secret"),
]


@pytest.mark.parametrize(("properties", "message"), REFUSED)
def test_what_cannot_be_a_secret_is_refused_by_name(properties: dict[str, str], message: str) -> None:
    store = ObjectStore()
    make(store, "master", data="k" * 32)
    make(store, "short", data="abc")
    with pytest.raises(OptionError) as caught:
        make(store, **properties)
    assert str(caught.value) == message
    assert store.get("sec0") is None


def test_encrypted_key_file_opens_with_passwordid(pki: Path, tmp_path: Path) -> None:
    directory = tmp_path / "pki"
    shutil.copytree(pki, directory)
    key = serialization.load_pem_private_key((directory / "server-key.pem").read_bytes(), None)
    (directory / "server-key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"let me in"),
        )
    )
    store = ObjectStore()
    make(store, "right", data="let me in")
    make(store, "wrong", data="let me out")
    make(store, "binary", data="//8=", format="base64")
    store.add("authz-simple", "authz", {"identity": "x"})

    def creds(password: str | None) -> None:
        properties = {"dir": str(directory), "endpoint": "server"}
        if password is not None:
            properties["passwordid"] = password
        store.add("tls-creds-x509", "tls0", properties)

    for ident, message in (
        (None, "server-key.pem: it is encrypted"),
        ("wrong", "server-key.pem: wrong password"),
        ("binary", "Data from secret 'binary' is not valid UTF-8"),
        ("nobody", "No secret with id 'nobody'"),
        ("authz", "Object with id 'authz' is not a secret"),
    ):
        with pytest.raises(OptionError) as caught:
            creds(ident)
        assert str(caught.value).endswith(message), str(caught.value)
    creds("right")
    store.delete("right")  # it has been read
