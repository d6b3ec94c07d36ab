"""The guest attacks its prison: no path leads out of --root, --read-only changes nothing, --deny-net has no network."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from e2kemu.linux import constants as c
from tests.linux.handlers import Guest
from tests.linux.scripts import Script

AT_FDCWD = -100
SECRET = b"out of bounds"


@pytest.fixture
def prison(tmp_path: Path) -> Path:
    """A root with links that point out of it, beside a secret."""
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "secret").write_bytes(SECRET)
    root = tmp_path / "root"
    for folder in ("a/b/c", "tmp", "etc"):
        (root / folder).mkdir(parents=True)
    (root / "etc" / "motd").write_text("inside\n")
    (root / "absolute").symlink_to(tmp_path / "secret")
    (root / "upwards").symlink_to("../secret")
    (root / "a" / "deep").symlink_to("../../../../../../../.." + str(tmp_path))
    (root / "folder").symlink_to(tmp_path / "private")
    (root / "chain").symlink_to("a/deep")
    (root / "magic").symlink_to("/proc/self/root")
    (root / "descriptor").symlink_to("/proc/self/fd/0")
    (root / "good").symlink_to("/etc/motd")
    (root / "loop").symlink_to("loop")
    return root


def escapes(prison: Path) -> list[str]:
    """Paths that lead to the secret wherever a rule is broken."""
    outside = str(prison.parent)
    ups = "/.." * 20
    return [
        f"{outside}/secret", "/absolute", "/upwards", "upwards", "../secret", f"{ups}{outside}/secret",
        f"a/b/c{ups}{outside}/secret", f"/a/deep{outside}/secret", "/a/deep/secret", "/folder/secret",
        "folder/./secret",
        "/chain/secret", "/chain/../secret", f"/magic{outside}/secret", f"/proc/self/root{outside}/secret",
        f"/proc/self/root/..{outside}/secret", f"/proc/self/cwd/..{outside}/secret", f"/proc/1/root{outside}/secret",
        f"/proc/{os.getpid()}/root{outside}/secret", f"/proc/{os.getppid()}/cwd/../secret",
        f"/proc/self/task/{os.getpid()}/root{outside}/secret", f"/proc/thread-self/root{outside}/secret",
        f"/magic/magic{outside}/secret", "/descriptor/../secret", f"//{outside}/secret", f"/./{outside}//secret",
        "/a/../../secret", "a/b/../../../secret", "/etc/../../secret", f"/proc/../..{outside}/secret",
        "/proc/self/fd/3/../../../secret", f"/proc/self/fd/3{outside}/secret", "/proc/self/fd/3/../../folder/secret",
        f"/dev/fd/3/../..{outside}/secret", "/proc/self/fd/../../../../secret",
    ]


def test_no_path_opens_what_is_outside(prison: Path) -> None:
    paths = escapes(prison)
    assert len(paths) >= 30
    with Guest(str(prison)) as guest:
        directory = guest.open("/a/b", c.O_DIRECTORY)
        assert directory > 2
        for path in paths:
            for result in (guest.open(path), guest.call("openat", directory, path, c.O_RDONLY),
                           guest.open(path, c.O_PATH)):
                if result >= 0:
                    assert guest.process.files.get(result).host_fd < 0 or SECRET not in guest.read(result), path
                    assert "root" in os.readlink(f"/proc/self/fd/{guest.process.files.get(result).host_fd}")
            assert guest.call("access", path, 4) < 0, path
            assert guest.call("stat", path, guest.space(200)) < 0, path
            assert guest.call("chdir", path) < 0, path
        assert guest.read(guest.open("/good")) == b"inside\n"
        assert guest.read(guest.open("/../../etc/motd")) == b"inside\n"


def test_no_call_that_changes_names_reaches_outside(prison: Path) -> None:
    outside = prison.parent
    before = sorted(os.listdir(outside)), sorted(os.listdir(outside / "private"))
    folder = ["/folder", "/a/deep", "/..", "../", "/chain", f"/proc/self/root{outside}", str(outside)]
    with Guest(str(prison)) as guest:
        for base in folder:
            new = f"{base}/made"
            guest.open(new, c.O_CREAT | c.O_WRONLY)
            guest.call("mkdir", new, 0o777)
            guest.call("mknod", new, c.S_IFIFO | 0o666, 0)
            guest.call("symlink", "target", new)
            guest.call("link", "/etc/motd", new)
            guest.call("rename", "/etc/motd", new)
            guest.call("rename", new, "/etc/motd")
            guest.call("unlink", f"{base}/secret")
            guest.call("rename", f"{base}/secret", "/stolen")
            guest.call("link", f"{base}/secret", "/stolen")
            guest.call("chmod", f"{base}/secret", 0o777)
            guest.call("truncate", f"{base}/secret", 1)
            guest.call("utime", f"{base}/secret", 0)
            guest.call("rmdir", f"{base}/private")
            guest.call("setxattr", f"{base}/secret", "user.x", b"1", 1, 0)
            sock = guest.call("socket", 1, 1, 0)
            guest.call("bind", sock, b"\1\0" + f"{base}/socket".encode() + b"\0", len(base) + 10)
            guest.call("close", sock)
        assert (sorted(os.listdir(outside)), sorted(os.listdir(outside / "private"))) == before
        assert (outside / "secret").read_bytes() == (outside / "private" / "secret").read_bytes() == SECRET
        assert (outside / "secret").stat().st_mode & 0o777 != 0o777


def test_a_link_that_is_made_after_the_start_leads_nowhere_either(prison: Path) -> None:
    with Guest(str(prison)) as guest:
        for target in (str(prison.parent), "../../../..", "/proc/self/root", "../root/../secret", "/proc/self/cwd/.."):
            assert guest.call("symlink", target, "/tmp/out") == 0
            assert guest.open(f"/tmp/out{prison.parent}/secret") < 0
            assert guest.open("/tmp/out/secret") < 0
            assert guest.call("unlink", "/tmp/out") == 0


def test_a_directory_that_is_moved_out_does_not_take_the_guest_along(prison: Path) -> None:
    with Guest(str(prison)) as guest:
        inner = guest.open("/a/b/c", c.O_DIRECTORY)
        assert guest.call("fchdir", inner) == 0
        (prison / "a" / "b").rename(prison.parent / "moved")
        assert guest.call("openat", inner, "../../secret", 0) == -errno.ENOENT
        assert guest.call("openat", inner, "../..", c.O_DIRECTORY) == -errno.ENOENT
        assert guest.call("openat", inner, "..", c.O_DIRECTORY) == -errno.ENOENT
        assert guest.open("../../secret") < 0


def test_a_directory_that_is_moved_within_the_root_is_still_the_same(prison: Path) -> None:
    (prison / "a" / "b" / "here").write_text("yes")
    with Guest(str(prison)) as guest:
        inner = guest.open("/a/b", c.O_DIRECTORY)
        (prison / "a" / "b").rename(prison / "tmp" / "elsewhere")
        assert guest.read(guest.call("openat", inner, "here", 0)) == b"yes"
        assert guest.read(guest.call("openat", inner, "../../etc/motd", 0)) == b"inside\n"


names = st.sampled_from(["a", "b", "c", "..", ".", "", "absolute", "upwards", "deep", "folder", "chain", "magic",
                         "loop", "etc", "motd", "proc", "self", "root", "cwd", "fd", "0", "secret", "private", "tmp"])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(names, max_size=9), st.booleans(), st.sampled_from(["/", "/a/b", "/tmp"]))
def test_any_path_stays_inside(prison: Path, parts: list[str], absolute: bool, start: str) -> None:
    path = ("/" if absolute else "") + "/".join(parts)
    with Guest(str(prison)) as guest:
        guest.process.cwd = start
        for flags in (c.O_RDONLY, c.O_PATH, c.O_PATH | c.O_NOFOLLOW):
            fd = guest.open(path, flags)
            if fd > 2 and guest.process.files.get(fd).host_fd > 2:
                found = os.readlink(f"/proc/self/fd/{guest.process.files.get(fd).host_fd}")
                assert found == str(prison) or found.startswith(f"{prison}/")


def test_read_only_changes_nothing(prison: Path) -> None:
    def picture() -> list[tuple[str, int, int, int, int]]:
        found = []
        for path in sorted([prison, *prison.rglob("*")]):
            status = path.lstat()
            found.append((str(path), status.st_mode, status.st_size, status.st_mtime_ns, status.st_nlink))
        return found

    os.mkfifo(prison / "fifo")
    before = picture()
    with Guest(str(prison), read_only=True) as guest:
        reading = guest.open("/etc/motd")
        assert guest.read(reading) == b"inside\n"
        refused = {
            "write": guest.open("/etc/motd", c.O_WRONLY), "read-write": guest.open("/etc/motd", c.O_RDWR),
            "truncate on open": guest.open("/etc/motd", c.O_RDONLY | c.O_TRUNC),
            "create": guest.open("/new", c.O_CREAT | c.O_WRONLY), "create to read": guest.open("/new", c.O_CREAT),
            "temporary": guest.open("/tmp", c.O_TMPFILE | c.O_RDWR),
            "mkdir": guest.call("mkdir", "/d", 0o777), "mknod": guest.call("mknod", "/n", c.S_IFIFO, 0),
            "symlink": guest.call("symlink", "x", "/s"), "link": guest.call("link", "/etc/motd", "/l"),
            "unlink": guest.call("unlink", "/etc/motd"), "rmdir": guest.call("rmdir", "/tmp"),
            "rename": guest.call("rename", "/etc/motd", "/m"), "chmod": guest.call("chmod", "/etc/motd", 0o777),
            "fchmod": guest.call("fchmod", reading, 0o777), "chown": guest.call("chown", "/etc/motd", 0, 0),
            "fchown": guest.call("fchown", reading, os.getuid(), os.getgid()),
            "utime": guest.call("utime", "/etc/motd", 0),
            "futimens": guest.call("utimensat", reading, 0, 0, 0), "truncate": guest.call("truncate", "/etc/motd", 0),
            "setxattr": guest.call("setxattr", "/etc/motd", "user.a", b"1", 1, 0),
            "fsetxattr": guest.call("fsetxattr", reading, "user.a", b"1", 1, 0),
            "bind": guest.call("bind", guest.call("socket", 1, 1, 0), b"\1\0/sock\0", 8),
            "access": guest.call("access", "/etc/motd", 2), "access to folder": guest.call("access", "/tmp", 2),
        }
        assert refused == dict.fromkeys(refused, -errno.EROFS)
        assert guest.open("/etc/motd", c.O_CREAT | c.O_EXCL) == -errno.EEXIST
        assert guest.open("/proc/self/fd/" + str(reading), c.O_RDWR) < 0
        assert guest.open("/proc/self/fd/" + str(reading), c.O_RDONLY | c.O_TRUNC) < 0
        assert guest.open("/fifo", c.O_RDWR) > 2, "a FIFO may be written on a read-only file system"
        assert guest.call("memfd_create", "m", 0) > 2
    assert picture() == before


def test_deny_net_leaves_socket_pairs_only() -> None:
    with Guest(deny_net=True) as guest:
        for family in (c.AF_UNIX, c.AF_INET, c.AF_INET6, c.AF_NETLINK, 17):
            for kind in (1, 2, 3, 5):
                assert guest.call("socket", family, kind, 0) == -errno.EACCES
        assert guest.call("socketcall", 1, struct.pack("<QQQ", c.AF_INET, 1, 0)) == -errno.EACCES
        assert guest.call("socketpair", c.AF_INET, 1, 0, guest.space(8)) == -errno.EACCES
        pair = guest.space(8)
        assert guest.call("socketpair", c.AF_UNIX, 1, 0, pair) == 0
        one, two = guest.memory.unpack("ii", pair)
        assert guest.call("write", one, b"x", 1) == 1
        assert guest.read(two) == b"x"


@pytest.fixture
def listener(prison: Path) -> Iterator[socket.socket]:
    """A server outside of the root."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(prison.parent / "server"))
        server.listen()
        server.setblocking(False)
        yield server


def test_a_unix_socket_outside_of_the_root_is_out_of_reach(prison: Path, listener: socket.socket) -> None:
    (prison / "server").symlink_to("../server")
    with Guest(str(prison)) as guest:
        for path in ("/server", "../server", str(prison.parent / "server"), f"/proc/self/root{prison.parent}/server",
                     "/folder/../server"):
            sock = guest.call("socket", 1, 1, 0)
            address = b"\1\0" + path.encode() + b"\0"
            assert guest.call("connect", sock, address, len(address)) < 0, path
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_a_program_in_a_prison_tries_the_same(prison: Path) -> None:
    script = Script()
    opened = [script.call("openat", AT_FDCWD, path, 0) for path in escapes(prison)]
    inside = script.call("openat", AT_FDCWD, "/good", 0)
    made = script.call("openat", AT_FDCWD, "/made", c.O_CREAT | c.O_RDWR, 0o600)
    net = script.call("socket", c.AF_INET, 1, 0)
    listing = script.space(4096)
    count = script.call("getdents64", script.call("openat", AT_FDCWD, "/..", c.O_DIRECTORY), listing, 4096)
    outcome = script.run("-root", str(prison), "-read-only", "-deny-net")
    assert max(outcome.results(*opened)) < 0
    assert outcome.result(inside) > 2
    assert outcome.results(made, net) == [-errno.EROFS, -errno.EACCES]
    names = outcome.memory(listing, outcome.result(count))
    assert b"motd" not in names
    assert b"good\0" in names
    assert b"private\0" not in names
