"""Records of TLS 1.3 without OpenSSL's record layer: its keys, and an AEAD straight on our buffers.

A migration moves gigabytes in records of 16 KiB. OpenSSL behind two memory BIOs copies each of them several times and,
up to version 3.0, does not use the widest instructions of the processor: that was as much work as all the rest of the
migration. What is done here is what a kernel does with "kTLS": OpenSSL agrees on keys and judges certificates, and when
its handshake is over the traffic secrets are taken (`tls_secrets`) and records are made and opened here (RFC 8446,
section 5): decrypted to where the text is wanted, encrypted from a copy in the processor's cache. The ciphers are
those of ``cryptography``. TLS 1.2 stays with OpenSSL (`tls_session`).

    record: u8 23 | u16 0x0303 | u16 length | ciphertext of (text | u8 type | zeros), tag of 16 bytes

``type`` is 23 for data, 21 for an alert (two bytes: level, description), 22 for a message of the handshake, of which
two may come now: NewSessionTicket (ignored) and KeyUpdate. The nonce is the record's number in its direction, from 0
with every key, xor the IV; the header is authenticated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, HashAlgorithm
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from e2kemu.migration.channel import Buffer
from e2kemu.migration.tls_errors import (
    ALERT_CODES,
    ALERT_NAMES,
    EndOfSession,
    SessionFault,
    alert_sentence,
    fault_sentence,
)

HEADER = 5
TAG = 16
MAX_TEXT = 1 << 14
"""Bytes of data in a record."""
MAX_BODY = MAX_TEXT + 256
"""Bytes of a record after its header, at most."""
FULL_BODY = MAX_TEXT + 1 + TAG
FULL_RECORD = HEADER + FULL_BODY
"""A record of ours that carries as much as it can."""

ALERT, HANDSHAKE, DATA = 21, 22, 23
NEW_SESSION_TICKET, KEY_UPDATE = 4, 24
CLOSE_NOTIFY, USER_CANCELED = 0, 90
WARNING, FATAL = 1, 2

LONGEST_MESSAGE = 1 << 16
"""Bytes of a handshake message that somebody may make us keep: tickets are smaller."""

REKEY_AFTER = 1 << 23
"""Records (128 GiB) after which our key is changed; RFC 8446 5.5 allows 2^24.5 with AES-GCM."""

ROOM = 2 << 20
"""Bytes read from the transport at once: what they hold is what the loader of RAM gets at a time, and it likes many
pages."""

AT_ONCE = 65
"""Records that are made and sent at once, in the processor's cache still: what `ram.PIECE` makes, and a bit."""


class Aead(Protocol):
    """A cipher of ``cryptography`` with a key."""

    def encrypt_into(self, nonce: bytes, data: memoryview, associated_data: bytes, buf: memoryview) -> int: ...

    def decrypt_into(self, nonce: bytes, data: memoryview, associated_data: Buffer, buf: memoryview) -> int: ...


@dataclass(frozen=True)
class Suite:
    """A cipher suite."""

    cipher: Callable[[bytes], Aead]
    key_size: int
    hash: HashAlgorithm


def _suites() -> dict[str, Suite]:
    if not hasattr(AESGCM, "decrypt_into"):
        return {}  # an older ``cryptography``
    return {
        "TLS_AES_256_GCM_SHA384": Suite(AESGCM, 32, SHA384()),
        "TLS_AES_128_GCM_SHA256": Suite(AESGCM, 16, SHA256()),
        "TLS_CHACHA20_POLY1305_SHA256": Suite(ChaCha20Poly1305, 32, SHA256()),
    }


SUITES = _suites()
"""By the names that RFC 8446 gives them."""


def expand_label(algorithm: HashAlgorithm, secret: bytes, label: str, length: int) -> bytes:
    """HKDF-Expand-Label(secret, label, "", length) of RFC 8446, section 7.1."""
    name = b"tls13 " + label.encode()
    info = length.to_bytes(2, "big") + bytes([len(name)]) + name + b"\0"
    return HKDFExpand(algorithm, length, info).derive(secret)


def header_of(length: int) -> bytes:
    """That of a record with a body of so many bytes."""
    return bytes([DATA, 3, 3, length >> 8, length & 0xFF])


FULL_HEADER = header_of(FULL_BODY)


def _slots(store: memoryview) -> list[tuple[memoryview, memoryview]]:
    """Header and body of each of the records of full length that ``store`` may be full of."""
    return [
        (store[at : at + HEADER], store[at + HEADER : at + FULL_RECORD])
        for at in range(0, len(store) - FULL_RECORD + 1, FULL_RECORD)
    ]


class Keys:
    """Those of one direction, and the number of the next record."""

    def __init__(self, suite: Suite, secret: bytes) -> None:
        self._suite, self._secret = suite, secret
        self._set()

    def _set(self) -> None:
        suite = self._suite
        self.cipher = suite.cipher(expand_label(suite.hash, self._secret, "key", suite.key_size))
        self._iv = int.from_bytes(expand_label(suite.hash, self._secret, "iv", 12), "big")
        self.number = 0

    def nonce(self) -> bytes:
        """That of the next record, which it counts. Every nonce is handed out once."""
        number = self.number
        self.number = number + 1
        return (self._iv ^ number).to_bytes(12, "big")

    def nonces(self, count: int) -> list[bytes]:
        """Those of the next records."""
        first, iv = self.number, self._iv
        self.number = first + count
        return [(iv ^ number).to_bytes(12, "big") for number in range(first, first + count)]

    def update(self) -> None:
        """The next generation (KeyUpdate)."""
        suite = self._suite
        self._secret = expand_label(suite.hash, self._secret, "traffic upd", suite.hash.digest_size)
        self._set()


class RecordSession:
    """A session after its handshake (a `tls_session.Session`). ``received``: what the transport has brought already."""

    most = AT_ONCE * MAX_TEXT

    def __init__(self, suite: Suite, send_secret: bytes, receive_secret: bytes, received: bytes) -> None:
        self._send, self._receive = Keys(suite, send_secret), Keys(suite, receive_secret)
        # receiving
        self._store = memoryview(bytearray(max(ROOM, len(received)) + MAX_BODY))
        self._store[: len(received)] = received
        self._start, self._end = 0, len(received)
        self._slots = _slots(self._store)
        self._scratch = memoryview(bytearray(MAX_BODY))
        self._plain = self._scratch[:0]  # text that its reader had no room for
        self._handshake = b""  # the beginning of a message
        self._over: SessionFault | EndOfSession | None = None
        # sending
        self._made: list[memoryview] = []
        self._records = memoryview(bytearray((FULL_HEADER + bytes(FULL_BODY)) * AT_ONCE))
        self._bodies = [body for _, body in _slots(self._records)]
        self._update_wanted = False  # the peer wants a new key of us before our next data

    # -- receiving

    def room(self) -> memoryview:
        left = self._end - self._start
        if self._start:
            self._store[:left] = bytes(self._store[self._start : self._end])
            self._start, self._end = 0, left
        return self._store[left:]

    def arrived(self, size: int) -> None:
        self._end += size

    def read(self, view: memoryview) -> int:
        if self._over is not None:
            raise self._ending()
        store, receive = self._store, self._receive
        size, room = 0, len(view)
        # No name may hold an exception here, whose traceback holds this frame, and so ``view``.
        try:
            while size < room:
                if self._plain:
                    size += self._give(view[size:])
                    continue
                if full := self._read_full(view[size:]):
                    size += full
                    continue
                at, length = self._start, self._next_length()
                if not length:
                    break
                body, after = at + HEADER, at + HEADER + length
                self._start = after
                fits = room - size >= length - TAG
                text = view[size : size + length - TAG] if fits else self._scratch[: length - TAG]
                receive.cipher.decrypt_into(receive.nonce(), store[body:after], store[at:body], text)
                if fits and text[-1] == DATA and length <= FULL_BODY and not self._handshake:
                    size += length - TAG - 1
                else:
                    size += self._look_at(text, fits=fits)
        except InvalidTag:
            self._over = self._refuse("BAD_RECORD_MAC", "RECORD_LAYER_FAILURE")
        except (SessionFault, EndOfSession) as over:
            self._over = over.with_traceback(None)
        if self._over is not None and not size:
            raise self._ending()
        return size

    def _read_full(self, view: memoryview) -> int:
        """The text of those records at the front that carry as much data as they can, as far as they are here and
        there is room. Nearly all do, so this is the short way to the same end."""
        first, off = divmod(self._start, FULL_RECORD)
        count = min((self._end - self._start) // FULL_RECORD, (len(view) - 1) // MAX_TEXT)
        if count <= 0 or off or self._handshake:
            return 0
        receive, header, size = self._receive, FULL_HEADER, 0
        decrypt, nonce = receive.cipher.decrypt_into, receive.nonce
        for head, body in islice(self._slots, first, first + count):
            if head != header:
                break
            self._start += FULL_RECORD
            text = view[size : size + MAX_TEXT + 1]
            decrypt(nonce(), body, header, text)
            if text[MAX_TEXT] != DATA:
                return size + self._look_at(text, fits=True)
            size += MAX_TEXT
        return size

    def _ending(self) -> SessionFault | EndOfSession:
        """What has ended the session behind the data that was given."""
        over, self._over = self._over, None
        assert over is not None
        return over

    def _give(self, view: memoryview) -> int:
        """Text that there was no room for."""
        taken = min(len(self._plain), len(view))
        view[:taken] = self._plain[:taken]
        self._plain = self._plain[taken:]
        return taken

    def _next_length(self) -> int:
        """Of the body of the next record; 0: it is not here yet."""
        store, at = self._store, self._start
        left = self._end - at
        if left < HEADER:
            return 0
        length = store[at + 3] << 8 | store[at + 4]
        if store[at] != DATA:
            raise self._refuse("UNEXPECTED_MESSAGE", "UNEXPECTED_MESSAGE")
        if length > MAX_BODY:
            raise self._refuse("RECORD_OVERFLOW", "PACKET_LENGTH_TOO_LONG")
        if length <= TAG:
            raise self._refuse("BAD_RECORD_MAC", "RECORD_LAYER_FAILURE")
        return length if left >= HEADER + length else 0

    def _look_at(self, text: memoryview, *, fits: bool) -> int:
        """What a record carries besides full measures of data; returns how many bytes of it are where they shall be."""
        size = len(text) - 1
        while size >= 0 and not text[size]:  # padding
            size -= 1
        kind = text[size] if size >= 0 else 0
        if size > MAX_TEXT:
            raise self._refuse("RECORD_OVERFLOW", "PACKET_LENGTH_TOO_LONG")
        if kind == DATA and not self._handshake:
            if fits:
                return size
            self._plain = text[:size]
        elif kind == ALERT and size == 2 and not self._handshake:
            self._alert(text[1])
        elif kind == HANDSHAKE and size:
            self._messages(bytes(text[:size]))
        else:
            raise self._refuse("UNEXPECTED_MESSAGE", "UNEXPECTED_MESSAGE")
        return 0

    def _alert(self, code: int) -> None:
        if code == USER_CANCELED:
            return  # close_notify follows
        if code == CLOSE_NOTIFY:
            raise EndOfSession
        raise SessionFault(alert_sentence(ALERT_NAMES.get(code, f"NUMBER {code}")), alert=True)

    def _messages(self, data: bytes) -> None:
        data = self._handshake + data
        while len(data) >= 4:
            kind, length = data[0], int.from_bytes(data[1:4], "big")
            if length > LONGEST_MESSAGE:
                raise self._refuse("DECODE_ERROR", "EXCESSIVE_MESSAGE_SIZE")
            if len(data) < 4 + length:
                break
            body, data = data[4 : 4 + length], data[4 + length :]
            if kind == KEY_UPDATE:
                if data or body not in (b"\0", b"\1"):
                    raise self._refuse("UNEXPECTED_MESSAGE", "UNEXPECTED_MESSAGE")
                self._receive.update()
                self._update_wanted |= body == b"\1"
            elif kind != NEW_SESSION_TICKET:
                raise self._refuse("UNEXPECTED_MESSAGE", "UNEXPECTED_MESSAGE")
        self._handshake = data

    def _refuse(self, alert: str, reason: str) -> SessionFault:
        """What to raise for a record that cannot be; the peer is told."""
        self._seal(ALERT, bytes([FATAL, ALERT_CODES[alert]]))
        return SessionFault(fault_sentence(reason))

    # -- sending

    @property
    def pending(self) -> bool:
        return bool(self._made)

    def take(self) -> list[memoryview]:
        made, self._made = self._made, []
        return made

    def write(self, chunk: bytes | memoryview) -> None:
        # One byte behind each text, which is that of the next for a moment, is its type.
        ours = memoryview(chunk)
        if ours.readonly:
            ours = memoryview(bytearray(chunk))
        size = len(ours)
        count = (size - 1) // MAX_TEXT  # behind the last there is no byte
        self._freshen(count + 1)
        encrypt, header, at = self._send.cipher.encrypt_into, FULL_HEADER, 0
        for body, nonce in zip(self._bodies, self._send.nonces(count), strict=False):
            end = at + MAX_TEXT
            kept, ours[end] = ours[end], DATA
            try:
                encrypt(nonce, ours[at : end + 1], header, body)
            finally:
                ours[end] = kept
            at = end
        if count:
            self._made.append(self._records[: count * FULL_RECORD])
        self._seal(DATA, bytes(ours[at:]))

    def _seal(self, kind: int, text: bytes) -> None:
        """One record."""
        text += bytes([kind])
        header = header_of(len(text) + TAG)
        keys = self._send
        out = bytearray(HEADER + len(text) + TAG)
        out[:HEADER] = header
        keys.cipher.encrypt_into(keys.nonce(), memoryview(text), header, memoryview(out)[HEADER:])
        self._made.append(memoryview(out))

    def _freshen(self, records: int) -> None:
        """Before so many records of data: a new key, if it is time or the peer has asked for one. It is told under the
        old one."""
        if self._update_wanted or self._send.number + records > REKEY_AFTER:
            self._update_wanted = False
            self._seal(HANDSHAKE, bytes([KEY_UPDATE, 0, 0, 1, 0]))
            self._send.update()

    def say_goodbye(self) -> None:
        self._seal(ALERT, bytes([WARNING, CLOSE_NOTIFY]))
