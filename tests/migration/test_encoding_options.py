"""Capabilities, parameters and texts of XBZRLE, compression and auto-converge: QEMU's names, ranges and words."""

from __future__ import annotations

import pytest

from e2kemu.errors import CommandError
from e2kemu.migration.coders import cache_size
from e2kemu.migration.counters import CompressionCounters, XbzrleCounters
from e2kemu.migration.hmp_info import migrate_text, parameters_text
from e2kemu.migration.options import MIB, Capabilities, MigrationParameters
from e2kemu.migration.statistics import Statistics
from e2kemu.migration.throttle import AutoConverge

REFUSED = [
    ("compress-level", 10, "Option compress-level expects a value between 0 and 9"),
    ("compress-threads", 0, "Option compress-threads expects a value between 1 and 255"),
    ("decompress-threads", 256, "Option decompress-threads expects a value between 1 and 255"),
    ("throttle-trigger-threshold", 0, "Option throttle-trigger-threshold expects an integer in the range of 1 to 100"),
    ("cpu-throttle-initial", 100, "Option cpu-throttle-initial expects an integer in the range of 1 to 99"),
    ("cpu-throttle-increment", 0, "Option cpu-throttle-increment expects an integer in the range of 1 to 99"),
    ("max-cpu-throttle", 100, "Option max-cpu-throttle expects an integer in the range of cpu-throttle-initial to 99"),
    ("max-cpu-throttle", 19, "Option max-cpu-throttle expects an integer in the range of cpu-throttle-initial to 99"),
    ("xbzrle-cache-size", 2048, "Option xbzrle-cache-size expects a power of two no less than the target page size"),
    ("xbzrle-cache-size", 3 * MIB, "Option xbzrle-cache-size expects a power of two"),
    ("cpu-throttle-tailslow", 1, "Invalid parameter type for 'cpu-throttle-tailslow', expected: boolean"),
]


@pytest.mark.parametrize(("name", "value", "message"), REFUSED)
def test_values_out_of_range_are_refused_with_qemus_words(name: str, value: object, message: str) -> None:
    parameters = MigrationParameters()
    before = parameters.items()
    with pytest.raises(CommandError) as caught:
        parameters.set({name: value})
    assert str(caught.value).startswith(message)
    assert parameters.items() == before
    assert not parameters.given


def test_the_largest_throttle_may_not_be_below_the_first_whichever_is_set() -> None:
    parameters = MigrationParameters()
    parameters.set({"max-cpu-throttle": 30})
    with pytest.raises(CommandError, match="Option max-cpu-throttle expects"):
        parameters.set({"cpu-throttle-initial": 31})
    parameters.set({"cpu-throttle-initial": 50, "max-cpu-throttle": 50})


def test_parameters_as_they_are_typed_and_shown() -> None:
    parameters = MigrationParameters()
    parameters.set_text("xbzrle-cache-size", "32M")
    parameters.set_text("compress-wait-thread", "off")
    text = parameters_text(parameters)
    for line in (
        "xbzrle-cache-size: 33554432 bytes",
        "compress-level: 1",
        "compress-threads: 8",
        "compress-wait-thread: off",
        "decompress-threads: 2",
        "throttle-trigger-threshold: 50",
        "cpu-throttle-initial: 20",
        "cpu-throttle-increment: 10",
        "cpu-throttle-tailslow: off",
        "max-cpu-throttle: 99",
    ):
        assert line in text.splitlines()


def test_all_three_may_be_on_together() -> None:
    capabilities = Capabilities()
    capabilities.set({"xbzrle": True, "compress": True, "auto-converge": True})
    assert all(capabilities[name] for name in ("xbzrle", "compress", "auto-converge"))


def test_info_migrate_shows_them_with_a_only() -> None:
    statistics = Statistics(xbzrle=XbzrleCounters(1 << 26, 1888, 258, 258, 3))
    statistics.compression = CompressionCounters(7, 2, 9000)
    statistics.throttle_percentage = 30
    statistics.finish()
    info = {"status": "active", **statistics.query("active")}
    text = migrate_text(info, everything=True)
    assert "XBZRLE: size=67108864, transferred=1888, pages=258, miss=258\n" in text
    assert "  miss_rate=0.50, encode_rate=559.73, overflow=3\n" in text
    assert "compression pages: 7 pages\ncompression busy: 2\ncompression busy rate: 0.22\n" in text
    assert "compressed size: 8 kbytes\ncompression rate: 3.19\n" in text
    assert "CPU Throttle (%): 30\n" in text
    plain = migrate_text(info, everything=False)
    assert not any(word in plain for word in ("XBZRLE", "compress", "Throttle"))


class Rule:
    """Auto-converge with a clock of its own; each ``look`` is a second later."""

    def __init__(self, **parameters: object) -> None:
        self.parameters = MigrationParameters()
        self.parameters.set({name.replace("_", "-"): value for name, value in parameters.items()})
        self.statistics, self.told, self.now = Statistics(), list[float](), 0.0
        self.rule = AutoConverge(self.parameters, self.statistics, self.told.append, lambda: self.now)

    def look(self, dirtied: int, sent: int, seconds: float = 1.0) -> list[float]:
        self.now += seconds
        self.statistics.transferred += sent
        self.rule.synced(dirtied)
        return self.told


def test_the_throttle_grows_each_second_time_the_guest_is_too_fast_up_to_the_limit() -> None:
    rule = Rule(max_cpu_throttle=45)
    assert [list(rule.look(51, 100)) for _ in range(8)] == [
        [], [20], [20], [20, 30], [20, 30], [20, 30, 40], [20, 30, 40], [20, 30, 40, 45]
    ]  # fmt: skip
    assert rule.statistics.throttle_percentage == 45
    rule.rule.stop()
    rule.rule.stop()
    assert rule.told[4:] == [0]
    assert rule.statistics.throttle_percentage == 0


def test_behind_the_most_that_can_be_reported_the_guest_is_given_less_and_less_time() -> None:
    rule = Rule(cpu_throttle_initial=95)
    told = [list(rule.look(51, 100)) for _ in range(40)][-1]
    assert told[:4] == [95, 99, 99.5, 99.75]
    assert told[-1] == 100 - 1 / 64
    assert len(told) == 8
    assert rule.statistics.throttle_percentage == 99
    rule.rule.stop()
    assert rule.told[-1] == 0


def test_a_guest_at_the_threshold_is_left_alone_and_one_above_it_is_not() -> None:
    rule = Rule(throttle_trigger_threshold=80)
    for _ in range(6):
        assert not rule.look(80, 100)
    rule.look(81, 100)
    assert rule.look(81, 100) == [20]


def test_looks_within_a_second_are_one_look() -> None:
    rule = Rule()
    for _ in range(15):
        assert not rule.look(100, 10, 0.1)
    for _ in range(9):
        rule.look(100, 10, 0.1)
    assert rule.told == [20]


def test_tailslow_takes_no_more_than_is_needed() -> None:
    rule = Rule(cpu_throttle_tailslow=True, cpu_throttle_increment=50)
    rule.look(1000, 100)
    rule.look(1000, 100)
    assert rule.told == [20]
    rule.look(60, 100)
    assert rule.look(60, 100) == [20, 33]  # of the 80 % left, 50/60 suffice
    rule.look(1000, 100)
    assert rule.look(1000, 100) == [20, 33, 83]  # and never more than the increment


def test_pages_that_went_small_count_whole() -> None:
    rule = Rule()
    rule.statistics.xbzrle = XbzrleCounters(4096)
    for _ in range(4):
        rule.statistics.xbzrle.pages += 100
        rule.statistics.xbzrle.bytes += 900
        assert not rule.look(200_000, 900 + 100 * 8)  # less than half of 100 pages


def test_a_throttled_guest_is_looked_at_within_a_long_round() -> None:
    rule = Rule()
    assert not rule.rule.sync_is_due()
    rule.look(100, 100)
    rule.look(100, 100)
    rule.now += 4.9
    assert not rule.rule.sync_is_due()
    rule.now += 0.2
    assert rule.rule.sync_is_due()


@pytest.mark.parametrize(("ram", "size"), [(1 << 32, 64), (1 << 30, 64), (1 << 29, 8), (1 << 28, 4), (1 << 26, 1)])
def test_the_default_cache_fits_into_a_tenth_of_the_guest_and_a_chosen_one_is_as_chosen(ram: int, size: int) -> None:
    parameters = MigrationParameters()
    wanted = cache_size(parameters, ram)
    assert wanted() == size * MIB
    parameters.set({"xbzrle-cache-size": 64 * MIB})
    assert wanted() == 64 * MIB
