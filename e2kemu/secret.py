"""``-object secret``: a password or key that other objects name by its id: it need not be in their options.

=====================  ====================================================================================
data=TEXT, file=PATH   the secret itself, one of the two; a file is read once, when the object is made
format=raw|base64      how it is written (raw)
keyid=ID               it is encrypted with AES-256-CBC (padding of PKCS #7); this other secret is the key of
                       32 bytes. A command line can be seen by all users of the machine, so what is given
                       there as ``data`` should be encrypted
iv=BASE64              the 16 bytes of the initialization vector, needed with keyid
=====================  ====================================================================================

First decoded, then decrypted: ``secret,id=master,format=base64,file=KEY`` and with it
``secret,id=sec0,keyid=master,format=base64,data=...,iv=...``.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path

from e2kemu.errors import OptionError
from e2kemu.objects import ObjectStore, Property, read_properties, user_object

KEY_SIZE = 32
IV_SIZE = 16
MAX_SIZE = 1 << 20
"""Bytes that a secret's file may have: no password or key comes near, a wrong file name might."""


@user_object("secret")
class Secret:
    """``value`` is the secret, in bytes."""

    PROPERTIES = (
        Property("data", "the secret itself"),
        Property("file", "or the file that holds it"),
        Property("format", "how it is written", "QCryptoSecretFormat", "raw", ("raw", "base64")),
        Property("keyid", "the secret with the key, when it is encrypted with AES-256-CBC"),
        Property("iv", "the initialization vector, in base64"),
    )

    def __init__(self, ident: str, properties: Mapping[str, str], store: ObjectStore | None = None) -> None:
        """Raises OptionError: wrong property, unreadable file, what cannot be decoded or decrypted."""
        form = read_properties(self.PROPERTIES, properties)["format"]
        self.id = ident
        data = _given(properties)
        if form == "base64":
            data = _from_base64(data, f"secret '{ident}'")
        if "keyid" in properties:
            key = find_secret(store or ObjectStore(), properties["keyid"])
            data = _decrypt(data, key.value, properties.get("iv"), ident)
        elif "iv" in properties:
            raise OptionError("Parameter 'iv' needs 'keyid'")
        self.value: bytes = data

    @property
    def text(self) -> str:
        """The secret as a text. Raises OptionError when it is none."""
        try:
            return self.value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise OptionError(f"Data from secret '{self.id}' is not valid UTF-8") from error

    def unload(self) -> None:
        """May go at any time: whoever named it has read it."""
        return


def find_secret(store: ObjectStore, ident: str) -> Secret:
    """The secret called ``ident``. Raises OptionError."""
    found = store.get(ident)
    if found is None:
        raise OptionError(f"No secret with id '{ident}'")
    if not isinstance(found, Secret):
        raise OptionError(f"Object with id '{ident}' is not a secret")
    return found


def _given(properties: Mapping[str, str]) -> bytes:
    """What ``data`` or ``file`` holds."""
    if ("data" in properties) == ("file" in properties):
        both = "data" in properties
        raise OptionError(
            "'file' and 'data' are mutually exclusive" if both else "Must provide 'file' or 'data' property"
        )
    if "data" in properties:
        return properties["data"].encode("utf-8", "surrogateescape")
    path = Path(properties["file"])
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SIZE + 1)
    except (OSError, ValueError) as error:
        raise OptionError(f"Unable to read {path}: {getattr(error, 'strerror', error)}") from error
    if len(data) > MAX_SIZE:
        raise OptionError(f"Unable to read {path}: more than {MAX_SIZE} bytes are no secret")
    return data


def _from_base64(text: bytes, what: str) -> bytes:
    """Decode; white space, such as a file's last newline, does not count. Raises OptionError."""
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise OptionError(f"Base64 data of {what} is not valid") from error


def _decrypt(data: bytes, key: bytes, iv: str | None, ident: str) -> bytes:
    """AES-256-CBC with PKCS #7 padding. Raises OptionError."""
    from cryptography.hazmat.primitives import padding  # costs a start without secrets 10 ms
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    if len(key) != KEY_SIZE:
        raise OptionError(f"Key for secret '{ident}' has {len(key)} bytes, AES-256 needs {KEY_SIZE}")
    if iv is None:
        raise OptionError("IV is required to decrypt secret")
    vector = _from_base64(iv.encode("utf-8", "surrogateescape"), f"the IV of secret '{ident}'")
    if len(vector) != IV_SIZE:
        raise OptionError(f"IV of secret '{ident}' has {len(vector)} bytes, AES needs {IV_SIZE}")
    try:
        decryptor = Cipher(algorithms.AES(key), modes.CBC(vector)).decryptor()
        plain = decryptor.update(data) + decryptor.finalize()
        unpadder = padding.PKCS7(8 * IV_SIZE).unpadder()
        return unpadder.update(plain) + unpadder.finalize()
    except ValueError as error:
        raise OptionError(f"Secret '{ident}' cannot be decrypted: wrong key, IV or data") from error
