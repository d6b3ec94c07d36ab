"""Addresses: every URI of QEMU's and its MigrationAddress say the same thing, and wrong ones are named."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2kemu.errors import OptionError
from e2kemu.migration.address import (
    INT64_MAX,
    Address,
    ExecAddress,
    FdAddress,
    FileAddress,
    InetAddress,
    UnixAddress,
    from_channels,
    from_qmp,
    parse_uri,
)

SHELL = ("/bin/sh", "-c")

GOOD: dict[str, Address] = {
    "tcp:localhost:9000": InetAddress("localhost", "9000"),
    "tcp::0": InetAddress("", "0"),
    "tcp:[::1]:4444": InetAddress("::1", "4444"),
    "tcp:0:4444,to=4450": InetAddress("0", "4444", to=4450),
    "tcp:h:1,ipv4": InetAddress("h", "1", ipv4=True),
    "tcp:h:1,ipv4=off,ipv6=on": InetAddress("h", "1", ipv4=False, ipv6=True),
    "tcp:h:1,keep-alive=on": InetAddress("h", "1", keep_alive=True),
    "tcp:h:ssh": InetAddress("h", "ssh"),
    "unix:/tmp/a,b:c": UnixAddress("/tmp/a,b:c"),
    "fd:7": FdAddress("7"),
    "fd:migration": FdAddress("migration"),
    "exec:cat > a:b": ExecAddress((*SHELL, "cat > a:b")),
    "file:/tmp/x": FileAddress("/tmp/x"),
    "file:/tmp/x,offset=0x1000": FileAddress("/tmp/x", 0x1000),
    "file:/tmp/x,offset=1M": FileAddress("/tmp/x", 1 << 20),
    "file:/tmp/x,offset=1.5k": FileAddress("/tmp/x", 1536),
}

BAD = {
    "foo:bar": "unknown migration protocol: foo:bar",
    "foo": "unknown migration protocol: foo",
    "": "unknown migration protocol: ",
    "tcp:": "error parsing address ''",
    "tcp:localhost": "error parsing address 'localhost'",
    "tcp:a:b:c:": "error parsing address",
    "tcp::": "error parsing port in address ':'",
    "tcp:[::1:1": "error parsing IPv6 address '[::1:1'",
    "tcp:h:99999": "port number '99999' is out of range: it must be at most 65535",
    "tcp:h:1,to=x": "error parsing to= argument 'x'",
    "tcp:h:1,to=70000": "error parsing to= argument '70000'",
    "tcp:h:1,ipv4=maybe": "Parameter 'ipv4' expects 'on' or 'off'",
    "tcp:h:1,ipv4=off,ipv6=off": "Cannot disable IPv4 and IPv6 at same time",
    "tcp:h:1,mptcp": "error parsing address 'h:1,mptcp': unknown option 'mptcp'",
    "unix:": "invalid Unix socket address",
    "fd:": "fd: needs the number of a file descriptor, or the name that getfd gave it",
    "exec: ": "exec: needs a command",
    "file:": "file: needs the name of a file",
    "file:x,offset=zz": "file URI has bad offset zz: Invalid argument",
    "file:x,offset=-1": "file URI has bad offset -1: Invalid argument",
    "file:x,offset=0x1M": "file URI has bad offset 0x1M: Invalid argument",
    "file:x,offset=8E": "file URI has bad offset 8E: Numerical result out of range",
    "rdma:h:1": "rdma:h:1: RDMA is not available in this build",
    "vsock:2:1": "vsock:2:1: vsock is not available in this build",
}


@pytest.mark.parametrize(("uri", "address"), GOOD.items())
def test_uri_gives_its_address(uri: str, address: Address) -> None:
    assert parse_uri(uri) == address


@pytest.mark.parametrize(("uri", "message"), BAD.items())
def test_wrong_uri_is_refused_with_one_line_of_qemu(uri: str, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_uri(uri)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tables_are_not_empty() -> None:
    assert len(GOOD) >= 15
    assert len(BAD) >= 20


switches = st.none() | st.booleans()
names = st.text(string.ascii_letters + string.digits + ".-_", max_size=64)
hosts = names | st.sampled_from(["::1", "fe80::1%lo"])
paths = st.text(min_size=1, max_size=80).filter(lambda text: "\0" not in text and text.strip())
addresses = st.one_of(
    st.builds(
        InetAddress,
        host=hosts,
        port=st.integers(0, 65535).map(str),
        to=st.none() | st.integers(0, 65535),
        ipv4=switches,
        ipv6=switches,
        keep_alive=switches,
    ).filter(lambda address: not (address.ipv4 is False and address.ipv6 is False)),
    st.builds(UnixAddress, paths),
    st.builds(FdAddress, paths),
    st.builds(ExecAddress, paths.map(lambda text: (*SHELL, text))),
    st.builds(FileAddress, paths.filter(lambda text: ",offset=" not in text), st.integers(0, INT64_MAX)),
)


@given(addresses)
def test_text_of_an_address_parses_to_the_same_address(address: Address) -> None:
    assert parse_uri(str(address)) == address


@given(addresses)
def test_qmp_object_of_an_address_gives_the_same_address(address: Address) -> None:
    assert from_qmp(address.to_qmp()) == address
    assert from_channels([{"channel-type": "main", "addr": address.to_qmp()}]) == address


@given(st.text())
def test_any_text_is_an_address_or_one_line(text: str) -> None:
    for uri in (text, f"tcp:{text}", f"file:x,offset={text}", f"tcp:h:1,{text}"):
        try:
            parse_uri(uri)
        except OptionError:
            pass


QMP_BAD = [
    ({}, "Parameter 'addr.transport' is missing"),
    ({"transport": "pigeon"}, "Parameter 'addr.transport' does not accept value 'pigeon'"),
    ({"transport": "rdma", "host": "h", "port": "1"}, "rdma: RDMA is not available in this build"),
    ({"transport": "socket"}, "Parameter 'addr.type' is missing"),
    ({"transport": "socket", "type": "x"}, "Parameter 'addr.type' does not accept value 'x'"),
    ({"transport": "socket", "type": "inet", "host": "h"}, "Parameter 'addr.port' is missing"),
    (
        {"transport": "socket", "type": "inet", "host": "h", "port": 1},
        "Invalid parameter type for 'addr.port', expected: string",
    ),
    (
        {"transport": "socket", "type": "unix", "path": "p", "color": 1},
        "Parameter 'addr.color' is unexpected",
    ),
    ({"transport": "exec", "args": []}, "expected: array of strings"),
    ({"transport": "exec", "args": [1]}, "expected: array of strings"),
    (
        {"transport": "file", "filename": "x", "offset": True},
        "Invalid parameter type for 'addr.offset', expected: integer",
    ),
    ({"transport": "file", "filename": "x", "offset": -1}, "file URI has bad offset -1"),
]


@pytest.mark.parametrize(("members", "message"), QMP_BAD)
def test_wrong_qmp_object_is_refused_with_its_member(members: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        from_qmp(members)
    assert message in str(caught.value)


def test_channel_list_must_be_one_main_channel() -> None:
    main = {"channel-type": "main", "addr": UnixAddress("p").to_qmp()}
    for channels in ([], [main, main], [{**main, "channel-type": "cpr"}], [{"channel-type": "main"}]):
        with pytest.raises(OptionError):
            from_channels(channels)
