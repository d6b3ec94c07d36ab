"""``info migrate`` is, for the figures that QEMU had, byte for byte the text that QEMU printed."""

from __future__ import annotations

import json

import pytest

from e2kemu.migration.hmp_info import migrate_text, parameters_text, size_text
from e2kemu.migration.options import MigrationParameters
from tests.migration.conftest import Samples


def test_recorded_answers_give_the_recorded_texts(samples: Samples) -> None:
    cases = json.loads(samples.files["info-migrate.json"])
    assert len(cases) >= 20
    for name, case in cases.items():
        assert migrate_text(case["info"], everything=False) == case["hmp"], name
        if "hmp_all" in case and "machine-pc" not in name:  # an older machine has other globals
            assert migrate_text(case["info"], everything=True) == case["hmp_all"], name


def test_before_any_migration_there_is_nothing_to_tell() -> None:
    assert migrate_text({}, everything=False) == ""


def test_failures_blockers_and_sockets_have_their_lines() -> None:
    info = {
        "status": "failed",
        "error-desc": "no route to host",
        "blocked-reasons": ["because", "of this"],
        "socket-address": [{"type": "inet", "host": "::1", "port": "44321"}, {"type": "unix", "path": "/x"}],
    }
    assert migrate_text(info, everything=False) == (
        "Outgoing migration blocked:\n  because\n  of this\n"
        "Status: \t\tfailed (no route to host)\n"
        "Sockets: [\n\ttcp:::1:44321\n\tunix:/x\n]\n"
    )


def test_latencies_of_page_requests_have_a_line_of_ours() -> None:
    info = {"status": "completed", "x-postcopy-latency-median": 85_123, "x-postcopy-latency-p99": 1_300_000}
    text = "Status: \t\tcompleted\nPage requests (us): \tmedian=85.1, p99=1300.0\n"
    assert migrate_text(info, everything=False) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (4096, "4 KiB"),
        (34086912, "32.5 MiB"),
        (1 << 30, "1 GiB"),
        (1023 << 20, "0.999 GiB"),
    ],
)
def test_sizes_have_three_digits_and_a_unit(size: int, text: str) -> None:
    assert size_text(size) == text


def test_parameters_are_shown_with_their_units() -> None:
    text = parameters_text(MigrationParameters())
    assert "tls-creds: ''\n" in text
    assert "max-bandwidth: 134217728 bytes/second\n" in text
    assert "downtime-limit: 300 ms\n" in text
