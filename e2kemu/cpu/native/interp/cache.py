"""Where the interpreter's host code is kept: ``$XDG_CACHE_HOME/e2kemu/interp-<host>-<sources>.bin``.

The name is made of the version of llvmlite with the host CPU's name and features, and of the sources that the code
comes from; an entry that is no longer asked for is stale and goes when new ones are written. A file is

    magic 8   SHA-256 of the rest 32   count u32   sizes count x u64   parts

Files appear complete, by renaming; who finds one that is damaged makes it anew. Two processes that build at the same
time do the work twice and nothing else. Without a place to write the code is made at every start.
"""

from __future__ import annotations

import hashlib
import os
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import llvmlite
import llvmlite.binding as llvm

from e2kemu import trace

MAGIC = b"e2kint\0\1"
KEPT = 4
"""Entries kept, the newest: several hosts may share a home."""

_CPU = Path(__file__).parent.parent.parent
_SOURCES = ("isa/*.py", "fp/*.py", "native/interp/[bcdfhl]*.py", "native/values.py", "native/paths.py",
            "native/registers.py", "native/memory.py", "native/floating.py", "native/runtime.py", "native/layout.py",
            "wide_*.py", "memory_access.py", "config.py", "insn.py", "state.py", "values.py", "sregs.py")
"""What the code is made from, under ``e2kemu/cpu``."""

Parts = tuple[bytes, list[bytes]]


def directory() -> Path:
    """The folder of the cache; it need not exist."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "e2kemu"


def name() -> tuple[str, str]:
    """What code made here and now is called: a part for the host, a part for the sources."""
    digest = hashlib.sha256()
    for pattern in _SOURCES:
        for path in sorted(_CPU.glob(pattern)):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    host = (llvmlite.__version__, str(llvm.llvm_version_info), llvm.get_host_cpu_name(),
            llvm.get_host_cpu_features().flatten(), llvm.get_process_triple())
    return hashlib.sha256("\0".join(host).encode()).hexdigest()[:16], digest.hexdigest()[:24]


def pack(parts: Parts) -> bytes:
    """The bytes of a file."""
    pieces = [parts[0], *parts[1]]
    body = struct.pack(f"<I{len(pieces)}Q", len(pieces), *map(len, pieces)) + b"".join(pieces)
    return MAGIC + hashlib.sha256(body).digest() + body


def unpack(data: bytes) -> Parts | None:
    """The parts of a file, None when it is damaged."""
    body = memoryview(data)[len(MAGIC) + 32 :]
    if not data.startswith(MAGIC) or hashlib.sha256(body).digest() != data[len(MAGIC) : len(MAGIC) + 32]:
        return None
    (count,) = struct.unpack_from("<I", body)
    sizes = struct.unpack_from(f"<{count}Q", body, 4)
    pieces, at = [], 4 + 8 * count
    for size in sizes:
        pieces.append(bytes(body[at : at + size]))
        at += size
    return pieces[0], pieces[1:]


def _write(path: Path, data: bytes) -> None:
    """Put a file there, complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".interp-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    for old in _entries("*")[KEPT:]:
        old.unlink(missing_ok=True)


def _entries(host: str) -> list[Path]:
    """The files of a host, the newest first."""
    def age(path: Path) -> float:
        try:
            return -path.stat().st_mtime
        except OSError:         # another process has dropped it
            return 0.0

    return sorted(directory().glob(f"interp-{host}-*.bin"), key=age)


def _read(path: Path) -> Parts | None:
    """The parts in a file, None when it is not there or damaged."""
    try:
        return unpack(path.read_bytes())
    except OSError:
        return None


def load_or_build(build: Callable[[Parts | None], Parts]) -> Parts:
    """The code from disk, or from ``build``, which gets what was made for this host from other sources."""
    host, sources = name()
    path = directory() / f"interp-{host}-{sources}.bin"
    found = _read(path)
    if found is not None:
        return found
    others = (parts for entry in _entries(host) if (parts := _read(entry)) is not None)
    parts = build(next(others, None))
    try:
        _write(path, pack(parts))
    except OSError as error:
        trace.log(f"interpreter: its code cannot be kept in {path.parent}: {error.strerror}")
    return parts
