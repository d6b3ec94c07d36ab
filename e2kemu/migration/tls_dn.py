"""The subject of a certificate as GnuTLS prints it, which is the identity that tls-authz checks.

``gnutls_x509_crt_get_dn`` writes ``C=GB,O=Example,CN=client``: RFC 4514's escapes and hexadecimal forms, but in
the order of the certificate, where RFC 4514 wants it reversed; several attributes of one part are joined by
``+``. Names of attributes are GnuTLS's (EMAIL, surName). An attribute it does not know, or whose string type
is not the one that the standard gives it, is ``#`` and its DER in hexadecimal. Seen with GnuTLS 3.7.9.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from cryptography import x509

from e2kemu.errors import TlsError

_NUMERIC, _PRINTABLE, _TELETEX, _IA5, _UNIVERSAL, _BMP = 0x12, 0x13, 0x14, 0x16, 0x1C, 0x1E

_DECODERS = {
    0x0C: "utf-8",
    _NUMERIC: "ascii",
    _PRINTABLE: "ascii",
    _TELETEX: "ascii",
    _IA5: "ascii",
    _BMP: "utf-16-be",
}
"""String types by their DER tags (X.680)."""

_DIRECTORY = frozenset({0x0C, _PRINTABLE, _TELETEX, _UNIVERSAL, _BMP})
"""What an attribute of type DirectoryString (RFC 5280) may be."""

_NAMES: dict[str, tuple[str, frozenset[int]]] = {
    oid: (name, tags)
    for tags, rows in (
        (
            _DIRECTORY,
            "2.5.4.3=CN 2.5.4.4=surName 2.5.4.7=L 2.5.4.8=ST 2.5.4.9=street 2.5.4.10=O 2.5.4.11=OU 2.5.4.12=title "
            "2.5.4.13=description 2.5.4.15=businessCategory 2.5.4.17=postalCode 2.5.4.41=name 2.5.4.42=givenName "
            "2.5.4.43=initials 2.5.4.44=generationQualifier 2.5.4.65=pseudonym 0.9.2342.19200300.100.1.1=UID "
            "1.3.6.1.4.1.311.60.2.1.1=jurisdictionOfIncorporationLocalityName "
            "1.3.6.1.4.1.311.60.2.1.2=jurisdictionOfIncorporationStateOrProvinceName",
        ),
        (
            frozenset({_PRINTABLE}),
            "2.5.4.5=serialNumber 2.5.4.6=C 2.5.4.20=telephoneNumber 2.5.4.46=dnQualifier 1.3.6.1.5.5.7.9.3=gender "
            "1.3.6.1.5.5.7.9.4=countryOfCitizenship 1.3.6.1.5.5.7.9.5=countryOfResidence "
            "1.3.6.1.4.1.311.60.2.1.3=jurisdictionOfIncorporationCountryName",
        ),
        (frozenset({_IA5}), "1.2.840.113549.1.9.1=EMAIL 0.9.2342.19200300.100.1.25=DC"),
        (frozenset({_NUMERIC}), "1.2.643.3.131.1.1=INN 1.2.643.100.1=OGRN 1.2.643.100.3=SNILS"),
    )
    for oid, name in (row.split("=") for row in rows.split())
}


def subject_of(certificate: bytes) -> str:
    """The subject of a certificate in DER. Raises TlsError when it is none, or has no subject."""
    try:
        subject = x509.load_der_x509_certificate(certificate).subject.public_bytes()
        text = distinguished_name(subject)
    except ValueError as error:
        raise TlsError("The subject of the peer's certificate cannot be read") from error
    if not text:
        raise TlsError("The peer's certificate has no subject")
    return text


def distinguished_name(name: bytes) -> str:
    """``name``, an X.501 Name in DER, as a text. Raises ValueError."""
    (content,) = [value for _, value, _ in _elements(name)]
    return ",".join(
        "+".join(_attribute(attribute) for _, attribute, _ in _elements(part))
        for _, part, _ in _elements(content)
    )


def _elements(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Tag, contents and whole of the DER elements in ``data``. Raises ValueError."""
    at = 0
    while at < len(data):
        try:
            tag, size, start = data[at], data[at + 1], at + 2
        except IndexError as error:
            raise ValueError("DER ends early") from error
        if size & 0x80:
            octets = size & 0x7F
            size = int.from_bytes(data[start : start + octets], "big")
            start += octets
        end = start + size
        if end > len(data):
            raise ValueError("DER ends early")
        yield tag, data[start:end], data[at:end]
        at = end


def _attribute(sequence: bytes) -> str:
    (_, oid_bytes, _), (tag, content, whole) = _elements(sequence)
    oid = _dotted(oid_bytes)
    name, tags = _NAMES.get(oid, (oid, frozenset[int]()))
    if tag not in tags:
        return f"{name}=#{whole.hex()}"
    if tag == _UNIVERSAL or (tag == _TELETEX and not re.fullmatch(rb"[ -~]*", content)):
        return f"{name}=\\#{content.hex()}"  # characters that GnuTLS does not know: their bytes, as a text
    return f"{name}={_escape(content.decode(_DECODERS[tag]))}"


def _dotted(content: bytes) -> str:
    """An object identifier (X.690, 8.19)."""
    arcs: list[int] = []
    value = 0
    for octet in content:
        value = value << 7 | octet & 0x7F
        if not octet & 0x80:
            arcs.append(value)
            value = 0
    if not arcs:
        raise ValueError("empty object identifier")
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, [first, arcs[0] - 40 * first, *arcs[1:]]))


def _escape(text: str) -> str:
    """RFC 4514, section 2.4."""
    escaped = re.sub(r'([,+"\\<>;\0])', lambda match: "\\00" if match[0] == "\0" else "\\" + match[0], text)
    return re.sub(r"^[ #]| \Z", lambda match: "\\" + match[0], escaped)
