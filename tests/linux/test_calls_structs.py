"""Layouts against the C compiler's rules as ctypes has them, and codec round trips."""

from __future__ import annotations

import ctypes as ct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2kemu.linux import structs

KINDS_64 = {"i": ct.c_int32, "u": ct.c_uint32, "l": ct.c_int64, "p": ct.c_uint64, "h": ct.c_int16, "H": ct.c_uint16,
            "b": ct.c_uint8, "q": ct.c_int64, "Q": ct.c_uint64}
KINDS_32 = KINDS_64 | {"l": ct.c_int32, "p": ct.c_uint32}

# Members in the order of the C declarations: l long, p unsigned long or pointer, i u 32 bits, q Q 64 bits, h H 16 bits.
C_LAYOUTS: dict[str, tuple[str, str | None]] = {
    "STAT": ("upuuuuuqqqlplplp", "HpHhHHHilplplpiiuu"),
    "STAT64": ("QQuuuuQQuuQiuiuiu", None),
    "STATX": ("uuQuuuHHQQQQ" + "qui" * 4 + "uuuuQ" + "Q" * 13, None),
    "STATFS": ("llpppppiilll" + "llll", "iiiiiiiiiiiiiiii"),
    "STATFS64": ("llQQQQQii" + "lll" + "llll", None),
    "FLOCK": ("hhlli", None), "FLOCK64": ("hhqqi", None),
    "TIMESPEC": ("ll", None), "TIMESPEC64": ("qq", None), "TIMEVAL": ("ll", None), "TIMEZONE": ("ii", None),
    "ITIMERSPEC": ("llll", None), "UTIMBUF": ("ll", None), "TMS": ("llll", None), "RUSAGE": ("l" * 18, None),
    "RLIMIT": ("pp", None), "RLIMIT64": ("QQ", None), "UTSNAME": ("b" * 390, None), "OLD_UTSNAME": ("b" * 325, None),
    "SYSINFO": ("lppppppppp" + "HH" + "ppu", "lppppppppp" + "HH" + "ppu" + "b" * 8),
    "IOVEC": ("pp", None), "MSGHDR": ("pippppi", None), "CMSGHDR": ("pii", None), "POLLFD": ("ihh", None),
    "EPOLL_EVENT": ("uQ", None), "SIGNALFD_SIGINFO": ("uiiuuiuuuuiiQQQQ" + "b" * 48, None),
    "TERMIOS": ("uuuu" + "b" * 20, None), "WINSIZE": ("HHHH", None), "CAP_HEADER": ("ui", None),
    "SCHED_PARAM": ("i", None), "SCHED_ATTR": ("uiQiuQQQ", None),
}


def c_size(members: str, kinds: dict[str, Any]) -> int:
    """sizeof of a C structure with these members."""
    fields = [(f"m{n}", kinds[m]) for n, m in enumerate(members)]
    return ct.sizeof(type("C", (ct.Structure,), {"_fields_": fields}))


@pytest.mark.parametrize("name", sorted(C_LAYOUTS))
def test_a_structure_has_the_size_of_its_c_declaration_in_both_flavours(name: str) -> None:
    wide, narrow = C_LAYOUTS[name]
    layout = getattr(structs, name)
    assert layout.size(8) == c_size(wide, KINDS_64)
    assert layout.size(4) == c_size(narrow or wide, KINDS_32)


def test_every_structure_is_compared_but_those_with_a_tail() -> None:
    ours = {name for name, value in vars(structs).items() if isinstance(value, structs.Struct)}
    assert len(ours) >= 30
    assert ours - set(C_LAYOUTS) == {"DIRENT", "DIRENT64", "MMSGHDR", "SIGEVENT"}


def test_offsets_that_programs_rely_on() -> None:
    assert [structs.STAT.offset(n, 8) for n in ("ino", "mode", "rdev", "size", "atime", "ctime_nsec")] == [
        8, 16, 32, 40, 64, 104]
    assert [structs.STAT.offset(n, 4) for n in ("ino", "mode", "size", "atime", "blocks")] == [4, 8, 20, 24, 52]
    assert structs.EPOLL_EVENT.offset("data", 8) == structs.EPOLL_EVENT.offset("data", 4) == 8
    assert (structs.MMSGHDR.offset("len", 8), structs.MMSGHDR.size(8)) == (56, 64)
    assert (structs.MMSGHDR.offset("len", 4), structs.MMSGHDR.size(4)) == (28, 32)
    assert structs.DIRENT64.offset("reclen", 8) == 16
    assert structs.DIRENT.offset("reclen", 4) == 8


@given(st.sampled_from(sorted(C_LAYOUTS)), st.sampled_from([4, 8]), st.data())
def test_what_is_packed_is_unpacked(name: str, pointer_size: int, data: st.DataObject) -> None:
    layout = getattr(structs, name)
    fields = layout.unpack(pointer_size, bytes(layout.size(pointer_size)))
    values = {field: data.draw(st.integers(0, 0x7F)) for field in fields}
    assert layout.unpack(pointer_size, layout.pack(pointer_size, **values)) == values


def test_numbers_are_cut_to_their_field() -> None:
    packed = structs.TIMESPEC.pack(4, sec=1 << 33 | 7, nsec=-1)
    assert structs.TIMESPEC.unpack(4, packed) == {"sec": 7, "nsec": -1}
