"""What user objects declare: the help tells it, completion offers it, and nothing else is taken."""

from __future__ import annotations

import sys
from typing import Any

import pytest

import e2kemu.cli  # noqa: F401 - declares all types
from e2kemu.errors import OptionError
from e2kemu.monitor.commands_objects import _object_words, object_help
from e2kemu.objects import TYPES, ObjectStore, Property, read_properties
from tests.framework import forked

REAL = sorted(name for name in TYPES if not name.startswith("test-"))

QEMUS = {
    "tls-creds-x509": {"dir", "endpoint", "passwordid", "priority", "sanity-check", "verify-peer"},
    "tls-creds-anon": {"dir", "endpoint", "priority", "verify-peer"},
    "tls-creds-psk": {"dir", "endpoint", "priority", "username", "verify-peer"},
    "secret": {"data", "file", "format", "iv", "keyid"},
    "authz-simple": {"identity"},
    "authz-list": {"policy", "rules"},
    "authz-list-file": {"filename", "refresh"},
}
"""What qemu-system-x86_64 7.2 lists."""


def run(*options: str) -> tuple[int, str, str]:
    result = forked.run([sys.executable, "-m", "e2kemu", *options], capture_output=True, text=True, timeout=60)
    return result.returncode, result.stdout, result.stderr


def test_every_type_lists_the_properties_that_qemus_has() -> None:
    assert len(REAL) >= 7
    assert set(QEMUS) == set(REAL)
    for name in REAL:
        text = object_help(f"{name},help")
        assert text is not None
        head, *lines = text.splitlines()
        assert head == f"{name} options:"
        assert {line.split("=")[0].strip() for line in lines} == QEMUS[name] == {p.name for p in TYPES[name].PROPERTIES}
        assert lines == sorted(lines)
        assert all(" - " in line for line in lines)


def test_on_the_command_line_it_is_printed_and_that_is_all() -> None:
    status, out, err = run("-object", "authz-list-file,help")
    assert (status, err) == (0, "")
    assert out == (
        "authz-list-file options:\n"
        "  filename=<string>      - the file, in JSON\n"
        "  refresh=<bool>         - follow its changes (default: on)\n"
    )
    assert run("-object", "help")[1].startswith("List of user creatable objects:\n")
    status, out, err = run("-object", "nothing,help")
    assert (status, out) == (1, "")
    assert err == "e2kemu: -object nothing,help: invalid object type: nothing\n"


@pytest.mark.parametrize("text", ["tls-creds-x509,help", "tls-creds-x509,?", "qom-type=tls-creds-x509,id=a,help"])
def test_all_ways_to_ask(text: str) -> None:
    assert (object_help(text) or "").startswith("tls-creds-x509 options:\n")


@pytest.mark.parametrize("text", ["help", "?", "qom-type=help", "help,id=x"])
def test_the_list_of_types(text: str) -> None:
    assert (object_help(text) or "").startswith("List of user creatable objects:\n  authz-list\n")


@pytest.mark.parametrize("text", ["secret,id=help,data=?", '{"qom-type": "secret", "id": "help"}', "secret,id=a", ""])
def test_who_does_not_ask_gets_no_answer(text: str) -> None:
    assert object_help(text) is None


def test_completion_offers_types_and_then_the_properties_not_yet_given() -> None:
    context: Any = None
    assert "secret,id=" in list(_object_words(context, ["object_add"], "sec"))
    offered = list(_object_words(context, ["object_add"], "secret,id=a,f"))
    assert offered == [f"secret,id=a,{name}=" for name in ("data", "file", "format", "keyid", "iv")]
    assert list(_object_words(context, ["object_add"], "nothing,i")) == []


def test_each_type_refuses_what_it_does_not_declare() -> None:
    for name in REAL:
        needed = {p.name: (p.choices or ("x",))[0] for p in TYPES[name].PROPERTIES if p.required}
        with pytest.raises(OptionError, match=r"^Invalid parameter 'colour'$"):
            ObjectStore().add(name, "a", {**needed, "colour": "red"})
        for one in TYPES[name].PROPERTIES:
            if one.type == "bool" or one.choices:
                with pytest.raises(OptionError, match=f"^Parameter '{one.name}'"):
                    ObjectStore().add(name, "a", {**needed, one.name: "perhaps"})


def test_defaults_are_those_that_are_declared() -> None:
    declared = (Property("a", "", default="1"), Property("b", ""), Property("list", "", structured=True))
    assert read_properties(declared, {"list.0.x": "y"}) == {"a": "1", "list.0.x": "y"}
    with pytest.raises(OptionError, match="Invalid parameter 'list'"):
        read_properties(declared, {"list": "y"})
    for name in REAL:
        for one in TYPES[name].PROPERTIES:
            if one.default is not None:
                one.check(one.default)
