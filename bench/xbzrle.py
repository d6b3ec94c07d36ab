"""How fast are pages encoded and decoded by XBZRLE? By what has changed in them, against copying them.

One core, 256 pages at a time (that is how a migration gives them), the best of several turns; ``memcpy`` is
numpy's copy of the same pages in the same process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from e2kemu.migration.xbzrle import RECORD_HEAD, decode_pages, encode_pages, prepare

PAGE, COUNT, TURNS = 4096, 256, 9
Pages = npt.NDArray[np.uint8]


def runs(rng: np.random.Generator, old: Pages, count: int, size: int) -> Pages:
    """Pages with ``count`` changes of ``size`` bytes each, anywhere."""
    new = old.copy()
    for page in new:
        for at in rng.choice(PAGE // (2 * size), count, replace=False) * 2 * size:
            page[at : at + size] ^= 0x55
    return new


def kinds(rng: np.random.Generator, old: Pages) -> Iterator[tuple[str, Pages]]:
    """Old pages as they have become."""
    yield "unchanged", old.copy()
    yield "1 byte", runs(rng, old, 1, 1)
    yield "8 words", runs(rng, old, 8, 8)
    yield "200 words", runs(rng, old, 200, 8)
    yield "256 bytes, apart", runs(rng, old, 256, 1)
    yield "1000 bytes, apart", runs(rng, old, 1000, 1)
    yield "half of the page", runs(rng, old, 1, PAGE // 2)
    yield "all of it: overflow", old ^ np.uint8(0x55)


def speed(work: Callable[[], object]) -> float:
    """MiB of pages a second."""
    best = float("inf")
    for _ in range(TURNS):
        begin = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - begin)
    return COUNT * PAGE / best / (1 << 20)


def table() -> list[str]:
    """A line for each kind."""
    rng = np.random.default_rng(20161)
    old = rng.integers(0, 256, (COUNT, PAGE), dtype=np.uint8)
    begin = time.perf_counter()
    prepare()
    lines = [f"xbzrle: compiled in {(time.perf_counter() - begin) * 1000:.0f} ms, with loading LLVM"]
    target = np.empty_like(old)
    copy = speed(lambda: np.copyto(target, old))
    lines.append(f"{'':22s}{'bytes/page':>10s}{'encode':>15s}{'memcpy':>8s}{'decode':>15s}{'memcpy':>8s}")
    lines.append(f"{'memcpy':22s}{PAGE:10d}{copy:9.0f} MiB/s{1:8.2f}")
    for name, new in kinds(rng, old):
        encoded = encode_pages(old, new)
        rate = speed(lambda: encode_pages(old, new))  # noqa: B023 - called here
        line = f"{name:22s}{encoded.lengths.mean():10.0f}{rate:9.0f} MiB/s{rate / copy:8.2f}"
        sent = np.flatnonzero(encoded.lengths > 0)
        if len(sent):
            starts = encoded.starts + RECORD_HEAD
            ends, memory = starts + encoded.lengths[sent], old.reshape(-1).copy()
            code = encoded.records
            rate = speed(lambda: decode_pages(code, starts, ends, sent * PAGE, memory))  # noqa: B023 - called here
            assert (memory.reshape(-1, PAGE)[sent] == new[sent]).all()
            line += f"{rate:9.0f} MiB/s{rate / copy:8.2f}"
        lines.append(line)
    return lines
