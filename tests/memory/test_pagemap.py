"""The kernel's word on which pages were never touched."""

from __future__ import annotations

import os

import numpy as np
import pytest

from e2kemu.memory import pagemap
from e2kemu.memory.ram import RAMBlock

PAGE = 4096
PAGES = 3000

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/pagemap"), reason="the kernel does not tell")


def test_pages_that_were_written_are_never_called_untouched() -> None:
    block = RAMBlock("a", PAGES * PAGE)
    written = np.random.default_rng(1).choice(PAGES, 700, replace=False)
    block.view.reshape(-1, PAGE)[written, 17] = 1
    assert not block.untouched(0, PAGES)[written].any()


def test_asking_touches_nothing() -> None:
    block = RAMBlock("a", PAGES * PAGE)
    block.write(5 * PAGE, b"x")
    first = block.untouched(0, PAGES)
    assert int(np.count_nonzero(~first)) < PAGES // 2
    assert (block.untouched(0, PAGES) == first).all()


def test_a_part_is_asked_by_page_number() -> None:
    block = RAMBlock("a", PAGES * PAGE)
    block.write(1000 * PAGE, b"x")
    assert (block.untouched(900, 200) == block.untouched(0, PAGES)[900:1100]).all()
    with pytest.raises(ValueError, match="do not fit"):
        block.untouched(PAGES - 1, 2)


def test_released_pages_are_untouched_again() -> None:
    block = RAMBlock("a", PAGES * PAGE)
    block.write(0, b"x" * PAGES * PAGE)
    assert not block.untouched(0, PAGES).any()
    block.release(512 * PAGE, 1024 * PAGE)
    assert block.untouched(512, 1024).all()


def test_a_forked_process_is_told_about_itself() -> None:
    block = RAMBlock("a", PAGES * PAGE)
    block.untouched(0, 1)  # opens the parent's file
    child = os.fork()
    if not child:
        block.view[2000 * PAGE] = 1
        os._exit(int(block.untouched(2000, 1)[0]))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert block.untouched(2000, 1).all()


def test_without_the_file_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pagemap, "_file", (os.getpid(), 0))
    assert not RAMBlock("a", PAGES * PAGE).untouched(0, PAGES).any()
