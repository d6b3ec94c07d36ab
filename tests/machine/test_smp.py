"""What several CPUs see of one another's memory accesses, in every tier: locks, fences, order, code that changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2kemu.cpu.asm import assemble
from e2kemu.cpu.native.layout import NEVER
from e2kemu.cpu.wide_control import TAG_NUMERIC
from tests.machine.smp_guest import DATA, smp

TIERS = ("reference", "interp", "jit", "eager")
ROUNDS = {"reference": 300, "interp": 300, "jit": 20_000, "eager": 20_000}
MEETINGS = {"reference": 200, "interp": 200, "jit": 1500, "eager": 1500}
"""Rounds in which the CPUs wait for one another: they take long where there are fewer cores than CPUs."""


def options(tier: str) -> dict[str, object]:
    """``-accel`` of a tier; "eager": everything is translated at its first execution."""
    return {"accel": "jit" if tier == "eager" else tier, "eager": tier == "eager"}


def loop(count: int, body: str) -> str:
    """``body`` ``count`` times; it may use %dr4 to %dr30."""
    return f"""
        addd,0 0, {count}, %dr31
        disp %ctpr2, turn
turn:
{body}
        subd,0 %dr31, 1, %dr31
        cmpesb,0 %r31, 0, %pred9
        ct %ctpr2 ? ~%pred9
"""


def increment(letter: str, register: str, label: str, *, channel: int = 2, mas: str = "2") -> str:
    """Add 1 to the variable that %dr8 points to, atomically."""
    return f"""
{label}:
        ld{letter},0 [ %dr8 + 0 ], %dr9, mas=7
        addd,0 %dr9, 1, %dr9
        {{
          st{letter},{channel} %{register}9, [ %dr8 + 0 ], mas={mas}
          ibranch {label} ? %MLOCK
        }}
"""


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("cpus", [2, 4])
def test_atomic_increments_of_all_cpus_sum_exactly(tmp_path: Path, tier: str, cpus: int) -> None:
    rounds = ROUNDS[tier]
    with smp(tmp_path, f"        addd,0 0, {DATA:#x}, %dr8\n" + loop(rounds, increment("d", "dr", "add")), cpus,
             **options(tier)) as guest:
        guest.run()
        assert guest.word(0) == rounds * cpus


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize(("letter", "register", "size"), [("b", "r", 1), ("h", "r", 2), ("w", "r", 4)])
def test_locks_of_every_size_leave_the_neighbours_alone(tmp_path: Path, tier: str, letter: str, register: str,
                                                        size: int) -> None:
    rounds = ROUNDS[tier] // 2
    program = f"""
        muld,0 %dr0, {size}, %dr8
        addd,0 %dr8, {DATA:#x}, %dr8
""" + loop(rounds, increment(letter, register, "mine") + f"        addd,0 0, {DATA + 64:#x}, %dr10\n" +
           increment(letter, register, "ours").replace("%dr8", "%dr10"))
    with smp(tmp_path, program, 2, **options(tier)) as guest:
        guest.run()
        bits = (1 << 8 * size) - 1
        assert [guest.word(size * cpu, size) for cpu in range(2)] == [rounds & bits] * 2
        assert guest.word(64, size) == 2 * rounds & bits
        assert guest.word(64 + size, size) == guest.word(2 * size, size) == 0


@pytest.mark.parametrize("tier", TIERS)
def test_two_double_words_are_exchanged_as_one(tmp_path: Path, tier: str) -> None:
    """Both halves are counted: whoever sees them apart would lose a turn."""
    rounds = min(ROUNDS[tier], 3000)
    program = f"        addd,0 0, {DATA:#x}, %dr8\n" + loop(rounds, """
again16:
        ldq,0 [ %dr8 + 0 ], %qr10, mas=5
        {
          addd,0 %dr10, 1, %dr10
          addd,1 %dr11, 2, %dr11
        }
        {
          stq,2 %qr10, [ %dr8 + 0 ], mas=2
          ibranch again16 ? %MLOCK
        }
""")
    with smp(tmp_path, program, 2, cpu="e8c2", **options(tier)) as guest:
        guest.run()
        assert (guest.word(0), guest.word(8)) == (2 * rounds, 4 * rounds)


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("cpu", ["e8c", "e16c"])
def test_a_spin_lock_lets_one_cpu_in_at_a_time(tmp_path: Path, tier: str, cpu: str) -> None:
    """Two plain counters under a lock; a v6 CPU gives it back with a store that releases."""
    rounds = ROUNDS[tier] // 4
    free = ("stw,2 %r12, [ %dr8 + 0 ], mas=0x13" if cpu == "e16c" else
            "wait st_c = 1, ld_c = 1\n        stw,2 %r12, [ %dr8 + 0 ]")
    program = f"""
        addd,0 0, {DATA:#x}, %dr8
        addd,0 0, {DATA + 0x400:#x}, %dr13
        addd,0 0, 0, %dr12
        addd,0 0, 1, %dr11
""" + loop(rounds, f"""
take:
        ldw,0 [ %dr8 + 0 ], %dr9, mas=7
        cmpesb,0 %r9, 0, %pred1
        {{
          stw,2 %r11, [ %dr8 + 0 ], mas={'0x73' if cpu == 'e16c' else '2'} ? %pred1
          ibranch take ? %MLOCK
        }}
        ibranch take ? ~%pred1
        ldd,0 [ %dr13 + 0 ], %dr14
        ldd,0 [ %dr13 + 8 ], %dr15
        addd,0 %dr14, 1, %dr14
        addd,0 %dr15, 3, %dr15
        std,2 %dr14, [ %dr13 + 0 ]
        std,2 %dr15, [ %dr13 + 8 ]
        {free}
""")
    with smp(tmp_path, program, 2, cpu=cpu, **options(tier)) as guest:
        guest.run()
        assert (guest.word(0x400), guest.word(0x408)) == (2 * rounds, 6 * rounds)


@pytest.mark.parametrize("tier", TIERS)
def test_a_message_behind_its_flag_has_arrived(tmp_path: Path, tier: str) -> None:
    """Message passing: the flag is read in a loop of plain loads, which nobody may take out of the loop."""
    rounds = MEETINGS[tier]
    program = f"""
        addd,0 0, {DATA:#x}, %dr8
        addd,0 0, 0, %dr20
        cmpesb,0 %r0, 0, %pred2
        ibranch reader ? ~%pred2
""" + f"""
        addd,0 0, {rounds}, %dr31
write:
        addd,0 %dr20, 1, %dr20
        std,2 %dr20, [ %dr8 + 0x200 ]
        wait st_c = 1
        std,2 %dr20, [ %dr8 + 0 ]
answer:
        ldd,0 [ %dr8 + 0x100 ], %dr10
        cmpedb,0 %dr10, %dr20, %pred1
        ibranch answer ? ~%pred1
        cmpedb,0 %dr20, %dr31, %pred3
        ibranch write ? ~%pred3
        ibranch over
reader:
        addd,0 %dr20, 1, %dr20
flag:
        ldd,0 [ %dr8 + 0 ], %dr10
        cmpedb,0 %dr10, %dr20, %pred1
        ibranch flag ? ~%pred1
        wait ld_c = 1
        ldd,0 [ %dr8 + 0x200 ], %dr11
        xord,0 %dr11, %dr20, %dr11
        ord,0 %dr12, %dr11, %dr12
        std,2 %dr20, [ %dr8 + 0x100 ]
        cmpesb,0 %r20, {rounds}, %pred3
        ibranch reader ? ~%pred3
        std,2 %dr12, [ %dr8 + 0x300 ]
over:
"""
    program = program.replace("addd,0 0, 0, %dr20\n", "addd,0 0, 0, %dr20\n        addd,0 0, 0, %dr12\n")
    with smp(tmp_path, program, 2, **options(tier)) as guest:
        guest.run()
        assert (guest.word(0), guest.word(0x100), guest.word(0x300)) == (rounds, rounds, 0)


@pytest.mark.parametrize("tier", TIERS)
def test_fences_keep_a_store_before_a_load(tmp_path: Path, tier: str) -> None:
    """Store buffering (Dekker): with a full fence between them one of two CPUs sees the other's store, in every
    round."""
    rounds = MEETINGS[tier]
    program = f"""
        addd,0 0, {DATA:#x}, %dr8
        shld,0 %dr0, 8, %dr4
        addd,0 %dr8, %dr4, %dr9             // mine
        xord,0 %dr4, 0x100, %dr5
        addd,0 %dr8, %dr5, %dr10            // the other's
        addd,0 0, 0, %dr20
        addd,0 0, 0, %dr21
""" + loop(rounds, """
        addd,0 %dr20, 1, %dr20
        std,2 %dr20, [ %dr9 + 0 ]
        wait st_c = 1, ld_c = 1
        ldd,0 [ %dr10 + 0 ], %dr11
        std,2 %dr11, [ %dr9 + 8 ]
        wait all_c = 1
        std,2 %dr20, [ %dr9 + 16 ]          // this round is over
both:
        ldd,0 [ %dr10 + 16 ], %dr12
        cmpldb,0 %dr12, %dr20, %pred1
        ibranch both ? %pred1
        wait ld_c = 1
        ldd,0 [ %dr10 + 8 ], %dr13          // what the other has seen of mine
        cmpldb,0 %dr11, %dr20, %pred2
        cmpldb,0 %dr13, %dr20, %pred3
        {
          pass %pred2, @p0
          pass %pred3, @p1
          andp @p0, @p1, @p4
          pass @p4, %pred4
        }
        addd,0 %dr21, 1, %dr21 ? %pred4
        wait ld_c = 1, st_c = 1
        std,2 %dr20, [ %dr9 + 24 ]          // and looked at
look:
        ldd,0 [ %dr10 + 24 ], %dr12
        cmpldb,0 %dr12, %dr20, %pred1
        ibranch look ? %pred1
""") + """
        std,2 %dr21, [ %dr9 + 32 ]
"""
    with smp(tmp_path, program, 2, **options(tier)) as guest:
        guest.run()
        assert (guest.word(0x20), guest.word(0x120)) == (0, 0), "neither CPU saw the other's store"
        assert guest.word(0) == guest.word(0x100) == rounds


@pytest.mark.parametrize("tier", TIERS)
def test_a_store_without_a_lock_is_suppressed(tmp_path: Path, tier: str) -> None:
    """No lock, another address, another size, a lock used up, a value that changed: MLOCK, and nothing is stored."""
    attempts = ["", "ldd,0 [ %dr8 + 8 ], %dr9, mas=7", "ldw,0 [ %dr8 + 0 ], %dr9, mas=7",
                "ldd,0 [ %dr8 + 0 ], %dr9, mas=7\n std,2 %dr9, [ %dr8 + 0 ], mas=2",
                "ldd,0 [ %dr8 + 0 ], %dr9, mas=7\n std,2 %dr11, [ %dr8 + 0 ]\n addd,0 %dr11, 1, %dr11",
                "ldd,0 [ %dr8 + 0 ], %dr9, mas=7"]
    body = "        addd,0 0, 0, %dr20\n"
    for number, before in enumerate(attempts):
        body += f"""
        {before}
        {{
          std,2 %dr10, [ %dr8 + 0 ], mas=2
          ibranch held{number} ? %MLOCK
        }}
        ord,0 %dr20, {1 << number}, %dr20
held{number}:
        ldd,0 [ %dr8 + 0 ], %dr12
        std,2 %dr12, [ %dr8 + {0x100 + 8 * number} ]
"""
    program = f"""
        addd,0 0, {DATA:#x}, %dr8
        addd,0 0, 77, %dr10
        addd,0 0, 5, %dr11
{body}
        std,2 %dr20, [ %dr8 + 0x80 ]
"""
    with smp(tmp_path, program, 1, **options(tier)) as guest:
        guest.run()
        assert guest.word(0x80) == 1 << 5, "only the store under a lock happens"
        assert [guest.word(0x100 + 8 * number) for number in range(6)] == [0, 0, 0, 0, 5, 77]


@pytest.mark.parametrize("tier", TIERS)
def test_code_that_another_cpu_patches_is_seen_after_its_flush(tmp_path: Path, tier: str) -> None:
    """One CPU writes a function again and again, flushes the instruction cache and tells so; the other calls it each
    time, and must get the new number. (The function is in RAM; between two patches it is called often.)"""
    rounds = 20 if tier == "eager" else MEETINGS[tier] // 10  # which translates in each round
    # {addd,0 0, N, %dr9} with N in 16 bits, twice, and a return: the words are patched below
    code = assemble("addd,0 0, 0x1234, %dr9\nct %ctpr2\n", version=4, base=0).data
    first, second = (int.from_bytes(code[at : at + 8], "little") for at in (0, 8))
    rest = [int.from_bytes(code[at : at + 8], "little") for at in range(16, len(code), 8)]
    number_at = code.index(b"\x34\x12") * 8
    assert (number_at // 64, len(code) % 8) == (1, 0)
    patched = second & ~(0xFFFF << number_at - 64)
    program = f"""
        addd,0 0, {DATA:#x}, %dr8
        addd,0 0, {DATA + 0x4000:#x}, %dr10
        addd,0 0, {patched:#x}, %dr11
        addd,0 0, 0, %dr20
        addd,0 0, 0, %dr21
        addd,0 0, 0, %dr12
        cmpesb,0 %r0, 0, %pred2
        ibranch caller ? ~%pred2
        addd,0 0, {first:#x}, %dr4
        std,2 %dr4, [ %dr10 + 0 ]
""" + "".join(f"        addd,0 0, {word:#x}, %dr4\n        std,2 %dr4, [ %dr10 + {16 + 8 * number} ]\n"
              for number, word in enumerate(rest)) + f"""
write:
        addd,0 %dr20, 1, %dr20
        shld,0 %dr20, {number_at - 64}, %dr4
        ord,0 %dr4, %dr11, %dr4
        std,2 %dr4, [ %dr10 + 8 ]
        wait st_c = 1
        std,2 %dr12, [ %dr12 + 0 ], mas=0x27
        wait fl_c = 1, ma_c = 1
        std,2 %dr20, [ %dr8 + 0 ]
answer:
        ldd,0 [ %dr8 + 0x100 ], %dr4
        cmpedb,0 %dr4, %dr20, %pred1
        ibranch answer ? ~%pred1
        cmpesb,0 %r20, {rounds}, %pred3
        ibranch write ? ~%pred3
        ibranch over
caller:
        addd,0 0, {TAG_NUMERIC << 54:#x}, %dr13
        ord,0 %dr13, %dr10, %dr13
        addd,0 %dr20, 1, %dr20
flag:
        ldd,0 [ %dr8 + 0 ], %dr4
        cmpedb,0 %dr4, %dr20, %pred1
        ibranch flag ? ~%pred1
        wait ld_c = 1
        addd,0 0, 40, %dr22
often:
        disp %ctpr2, back
        rwd,0 %dr13, %ctpr1
        ct %ctpr1
back:
        xord,0 %dr9, %dr20, %dr14
        ord,0 %dr21, %dr14, %dr21
        subd,0 %dr22, 1, %dr22
        cmpesb,0 %r22, 0, %pred4
        ibranch often ? ~%pred4
        std,2 %dr20, [ %dr8 + 0x100 ]
        cmpesb,0 %r20, {rounds}, %pred3
        ibranch caller ? ~%pred3
        std,2 %dr21, [ %dr8 + 0x300 ]
over:
"""
    with smp(tmp_path, program, 2, **options(tier)) as guest:
        guest.run()
        assert (guest.word(0), guest.word(0x100)) == (rounds, rounds)
        assert guest.word(0x300) == 0, "an old function was called"


def test_a_cpu_that_closes_anothers_tlb_leaves_the_addends(tmp_path: Path) -> None:
    """The other one may have compared the tag and not yet read the addend: that was a write to a wild address."""
    with smp(tmp_path, "", 2) as guest:
        contexts = [cpu.translator.context for cpu in guest.machine.cpus]
        for context in contexts:
            for page in range(0x100, 0x200):
                context.remember_page(page, 0x7F00_0000_0000 + (page << 12), write=page % 2 == 1, user=page % 4 > 1)
        before = [bytes(context.tlbs[1::2].tobytes()) for context in contexts]
        guest.machine.cpus[0].core.paging = True
        guest.machine.cpus[1].core.paging = True
        guest.machine.cpus[0].core.mark_code(0x1000)
        contexts[1].forget_page(0x100)
        assert [bytes(context.tlbs[1::2].tobytes()) for context in contexts] == before
        tags = [set(context.tlbs[::2].tolist()) for context in contexts]
        assert all(tag >> 12 & 1 == 0 or tag == NEVER for one in tags for tag in one)
        assert 0x102 << 12 in tags[1]
        assert 0x100 << 12 not in tags[1]
