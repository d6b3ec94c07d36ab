"""Every number has a handler, or a reason in the documentation."""

from __future__ import annotations

from pathlib import Path

import e2kemu.linux.calls  # noqa: F401 - fills the table
from e2kemu.linux.calls_doc import REASONS, document
from e2kemu.linux.numbers import NUMBERS
from e2kemu.linux.table import CALLS, POINTERS

DOC = Path(__file__).parents[2] / "docs" / "linux-user-calls.md"


def test_every_call_is_there_or_its_absence_is_explained() -> None:
    assert len(NUMBERS) >= 415
    missing = {name for name, number in NUMBERS.items() if number not in CALLS}
    assert missing == set(REASONS), "calls_doc.REASONS has to name exactly the calls without a handler"
    assert all(len(reason) > 5 for reason in REASONS.values())


def test_most_calls_are_there() -> None:
    assert len(CALLS) >= 290


def test_the_documentation_is_what_the_table_says() -> None:
    assert DOC.read_text() == document(), "python -m e2kemu.linux.calls_doc > docs/linux-user-calls.md"


SCALARS = {
    "int", "uint", "long", "size", "ulong", "off", "hex", "octal", "fd", "signal", "high", "how", "prot",
    "map_flags", "clone_flags", "futex_op", "open_flags", "open_mode", "at_flags", "msg_flags", "event_flags",
    "flock", "seek", "fcntl", "fcntl_arg", "ioctl", "access", "family", "socket_type", "sol", "so", "shutdown",
    "socketcall", "epoll_op", "clock", "rlimit", "rusage_who", "prctl",
}


def test_every_kind_of_argument_is_known_to_be_an_address_or_not() -> None:
    """An address that is taken for a number would be cut to 32 bits."""
    kinds = {a.kind for call in CALLS.values() for a in call.arguments}
    assert len(kinds) >= 40
    assert kinds - SCALARS - set(POINTERS) == set()
    assert not SCALARS & set(POINTERS)


def test_no_signature_has_more_arguments_than_registers() -> None:
    for call in CALLS.values():
        assert len(call.arguments) <= 8, call.name
