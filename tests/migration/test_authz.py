"""The object types authz-*: who may, by options and by a file that changes; and names as GnuTLS prints them."""

from __future__ import annotations

import ctypes
import ctypes.util
import datetime
import json
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from e2kemu.authz import Authz, find_authz
from e2kemu.errors import OptionError, TlsError
from e2kemu.migration import transport
from e2kemu.migration.tls_dn import _NAMES, subject_of
from e2kemu.monitor.commands_objects import add_from_text
from e2kemu.objects import ObjectStore

assert transport  # importing it declares the types


def make(text: str) -> Authz:
    """The object called ``a`` that ``-object text`` makes."""
    store = ObjectStore()
    add_from_text(store, text)
    return find_authz(store, "a")


# -- rules


def test_simple_allows_one_identity() -> None:
    authz = make("authz-simple,id=a,identity=O=e2kemu,,CN=client")
    assert authz.is_allowed("O=e2kemu,CN=client")
    for other in ("", "O=e2kemu,CN=clien", "O=e2kemu,CN=client2", "o=e2kemu,cn=client"):
        assert not authz.is_allowed(other)


LIST = (
    "rules.0.match=CN=bad*,rules.0.policy=deny,rules.0.format=glob,"
    "rules.1.match=CN=b*,rules.1.policy=allow,rules.1.format=glob,"
    "rules.2.match=CN=*,rules.2.policy=allow,"
    "rules.3.match=CN=v?,rules.3.policy=allow,rules.3.format=glob"
)


@pytest.mark.parametrize("policy", ["", "deny", "allow"])
def test_first_rule_that_fits_decides_and_else_the_policy(policy: str) -> None:
    authz = make(f"authz-list,id=a,{f'policy={policy},' if policy else ''}{LIST}")
    expected = {
        "CN=bad": False,
        "CN=bad guy": False,
        "CN=bob": True,
        "CN=b": True,
        "CN=*": True,
        "CN=vm": True,
        "CN=b\nob": True,
    }
    for identity, allowed in expected.items():
        assert authz.is_allowed(identity) == allowed, identity
    for identity in ("CN=c", "CN=v", "CN=vmx", "xCN=bob", "CN=", ""):
        assert authz.is_allowed(identity) == (policy == "allow"), identity


def test_list_can_be_given_in_json_as_in_options() -> None:
    rules = [{"match": "CN=b*", "policy": "allow", "format": "glob"}, {"match": "x", "policy": "allow"}]
    authz = make(json.dumps({"qom-type": "authz-list", "id": "a", "policy": "deny", "rules": rules}))
    assert [authz.is_allowed(name) for name in ("CN=bob", "x", "y")] == [True, True, False]


@given(st.text(max_size=20), st.text(max_size=20))
def test_glob_has_no_other_special_characters(text: str, other: str) -> None:
    """What is neither * nor ? stands for itself, also brackets and backslashes."""
    literal = text.replace("*", "").replace("?", "")
    rule = {"match": literal + "*", "policy": "allow", "format": "glob"}
    store = ObjectStore()
    store.add("authz-list", "a", {f"rules.0.{key}": value for key, value in rule.items()})
    authz = find_authz(store, "a")
    assert authz.is_allowed(literal)
    assert authz.is_allowed(literal + "tail")
    for identity in (other, "[" + literal, literal[1:]):
        assert authz.is_allowed(identity) == identity.startswith(literal)


REFUSED = [
    ("authz-simple,id=a", "Parameter 'identity' is missing"),
    ("authz-simple,id=a,identity=x,policy=deny", "Invalid parameter 'policy'"),
    ("authz-list,id=a,policy=maybe", "Parameter 'policy' does not accept value 'maybe'"),
    ("authz-list,id=a,rules.0.match=x", "Parameter 'policy' is missing"),
    ("authz-list,id=a,rules.0.policy=allow", "Parameter 'match' is missing"),
    ("authz-list,id=a,rules.0.match=x,rules.0.policy=no", "Parameter 'policy' does not accept value 'no'"),
    (
        "authz-list,id=a,rules.0.match=x,rules.0.policy=deny,rules.0.format=regex",
        "Parameter 'format' does not accept value 'regex'",
    ),
    ("authz-list,id=a,rules.1.match=x,rules.1.policy=deny", "Parameter 'rules.0' is missing"),
    ("authz-list,id=a,rules.x.match=x", "Invalid parameter 'rules.x.match'"),
    ("authz-list,id=a,rules.0=x", "Invalid parameter 'rules.0'"),
    ("authz-list,id=a,rules.0.match.y=x", "Invalid parameter 'rules.0.match.y'"),
    ("authz-list,id=a,identity=x", "Invalid parameter 'identity'"),
    ("authz-list-file,id=a", "Parameter 'filename' is missing"),
    ("authz-list-file,id=a,filename=/nowhere", "Unable to read /nowhere: No such file or directory"),
    ('{"qom-type": "authz-list", "id": "a", "policy": null}', "Invalid parameter type for 'policy', expected: string"),
    ('{"qom-type": "authz-list"}', "invalid JSON object: Object missing required field `id`"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_wrong_property_is_named(text: str, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        make(text)
    assert str(caught.value) == message


def test_only_authz_objects_are_found() -> None:
    store = ObjectStore()
    add_from_text(store, "secret,id=s,data=x")
    with pytest.raises(OptionError, match=r"^Cannot find QAuthZ object ID nope$"):
        find_authz(store, "nope")
    with pytest.raises(OptionError, match=r"^Object 's' is not a QAuthZ subclass$"):
        find_authz(store, "s")


# -- the file


def write(path: Path, *names: str, **more: Any) -> None:
    """Put a list that allows ``names`` at ``path``, as an editor does: a new file."""
    rules = [{"match": name, "policy": "allow"} for name in names]
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps({"rules": rules, **more}))
    os.replace(temporary, path)


def test_list_file_follows_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "acl.json"
    write(path, "alice", policy="deny")
    authz = make(f"authz-list-file,id=a,filename={path}")
    fixed = make(f"authz-list-file,id=a,filename={path},refresh=off")
    assert authz.is_allowed("alice")
    write(path, "bob")
    assert [authz.is_allowed(name) for name in ("alice", "bob")] == [False, True]
    path.write_text("{")
    assert not authz.is_allowed("bob")
    assert "object 'a' denies everybody: Unable to parse" in capsys.readouterr().err
    path.unlink()
    assert not authz.is_allowed("bob")
    assert "No such file or directory" in capsys.readouterr().err
    write(path, policy="allow")
    assert authz.is_allowed("bob")
    assert [fixed.is_allowed(name) for name in ("alice", "bob")] == [True, False]
    assert capsys.readouterr().err == ""


BAD_FILES = {
    "": "Unable to parse",
    "[]": "is not a JSON object with a list 'rules'",
    '{"rules": {}}': "is not a JSON object with a list 'rules'",
    '{"rules": ["x"]}': "Invalid parameter 'rules.0'",
    '{"rules": [{"match": "x"}]}': "Parameter 'policy' is missing",
    '{"rules": [{"match": null, "policy": "deny"}]}': "Invalid parameter type for 'rules.0.match'",
    '{"policy": "perhaps"}': "does not accept value 'perhaps'",
    '{"ruls": []}': "Invalid parameter 'ruls",
    "[" * 100_000: "Unable to parse",
    "\x00\xff": "Unable to parse",
}


@pytest.mark.parametrize("content", BAD_FILES)
def test_bad_file_is_refused_by_name(content: str, tmp_path: Path) -> None:
    path = tmp_path / "acl.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(OptionError) as caught:
        make(f"authz-list-file,id=a,filename={path}")
    text = str(caught.value)
    assert str(path) in text
    assert BAD_FILES[content] in text
    assert "\n" not in text


# -- names

KEY = ec.generate_private_key(ec.SECP256R1())
DAY = datetime.timedelta(days=1)


def certificate(*parts: list[tuple[str, str, _ASN1Type]]) -> bytes:
    """A certificate in DER; each part is a list of (OID, text, string type)."""
    name = x509.Name(
        [
            x509.RelativeDistinguishedName(
                [x509.NameAttribute(x509.ObjectIdentifier(oid), text, _type=kind) for oid, text, kind in part]
            )
            for part in parts
        ]
    )
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, KEY.public_key(), 7, now, now + DAY)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


UTF8, PRINTABLE, IA5, T61, BMP = (
    _ASN1Type.UTF8String,
    _ASN1Type.PrintableString,
    _ASN1Type.IA5String,
    _ASN1Type.T61String,
    _ASN1Type.BMPString,
)
CN, ORG, C, EMAIL = (
    oid.dotted_string
    for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME, NameOID.COUNTRY_NAME, NameOID.EMAIL_ADDRESS)
)

SEEN: list[tuple[list[list[tuple[str, str, _ASN1Type]]], str]] = [
    # what gnutls_x509_crt_get_dn of GnuTLS 3.7.9 printed
    ([[(C, "GB", PRINTABLE)], [(ORG, "e2kemu", UTF8)], [(CN, "client", UTF8)]], "C=GB,O=e2kemu,CN=client"),
    ([[(CN, 'a,b+c"d\\e<f>g;h=i#j', UTF8)]], 'CN=a\\,b\\+c\\"d\\\\e\\<f\\>g\\;h=i#j'),
    ([[(CN, " lead", UTF8)], [(ORG, "trail ", UTF8)]], "CN=\\ lead,O=trail\\ "),
    ([[(CN, "#x", UTF8)], [(ORG, "  ", UTF8)]], "CN=\\#x,O=\\ \\ "),
    ([[(ORG, "o", UTF8), (CN, "multi", UTF8)], [(CN, "z", UTF8)]], "O=o+CN=multi,CN=z"),
    ([[("1.2.3.4.5", "custom", UTF8)]], "1.2.3.4.5=#0c06637573746f6d"),
    ([[(C, "RU", UTF8)]], "C=#0c025255"),
    ([[(CN, "Müller ф", UTF8)], [(CN, "Жx", BMP)]], "CN=Müller ф,CN=Жx"),
    ([[(EMAIL, "a@b", IA5)], [(EMAIL, "a@b", UTF8)]], "EMAIL=a@b,EMAIL=#0c03614062"),
    ([[(CN, "a\tb", T61)]], "CN=\\#610962"),
]


@pytest.mark.parametrize(("parts", "text"), SEEN)
def test_subject_is_printed_as_gnutls_does(parts: list[list[tuple[str, str, _ASN1Type]]], text: str) -> None:
    assert subject_of(certificate(*parts)) == text


def test_certificate_without_a_subject_has_no_identity() -> None:
    with pytest.raises(TlsError, match=r"^The peer's certificate has no subject$"):
        subject_of(certificate())
    with pytest.raises(TlsError, match=r"^The subject of the peer's certificate cannot be read$"):
        subject_of(b"0\x03abc")


class _Datum(ctypes.Structure):
    _fields_ = (("data", ctypes.c_char_p), ("size", ctypes.c_uint))


LIBRARY = ctypes.util.find_library("gnutls")

ATTRIBUTES = st.tuples(
    st.sampled_from([*sorted(_NAMES), "1.2.3.4.5", "2.5.4.54", "2.999.1"]).filter(lambda oid: oid[:5] != "1.2.6"),
    st.text(st.sampled_from("abcXYZ09 ,+\"\\<>;#='/()-\n*Жé"), min_size=2, max_size=12),
    st.sampled_from([UTF8, BMP]),
)


@pytest.mark.skipif(LIBRARY is None, reason="libgnutls is not installed")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ATTRIBUTES, min_size=1, max_size=5))
def test_any_subject_is_printed_as_libgnutls_does(attributes: list[tuple[str, str, _ASN1Type]]) -> None:
    countries = (C, "1.3.6.1.4.1.311.60.2.1.3")
    der = certificate(*([(oid, "RU" if oid in countries else text, kind)] for oid, text, kind in attributes))
    library = ctypes.CDLL(LIBRARY)
    handle = ctypes.c_void_p()
    assert library.gnutls_x509_crt_init(ctypes.byref(handle)) == 0
    try:
        assert library.gnutls_x509_crt_import(handle, ctypes.byref(_Datum(der, len(der))), 0) == 0
        buffer, size = ctypes.create_string_buffer(8192), ctypes.c_size_t(8192)
        assert library.gnutls_x509_crt_get_dn(handle, buffer, ctypes.byref(size)) == 0
        assert subject_of(der) == buffer.raw[: size.value].decode()
    finally:
        library.gnutls_x509_crt_deinit(handle)
