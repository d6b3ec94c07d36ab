"""System calls of a guest have the results that the host's kernel gives: 850 calls, most of them wrong in some way.

Six calls that differ are not in the scenarios: docs/linux-user.md names them, and why the host may not be right.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest

from tests.framework import forked
from tests.linux import scenarios_files, scenarios_processes, scenarios_waiting
from tests.linux.differential import Scenario, in_guest, on_host

HERE = Path(__file__).parent
SCENARIOS = (scenarios_files.files, scenarios_files.names, scenarios_files.memory, scenarios_waiting.pipes,
             scenarios_waiting.epolls, scenarios_waiting.timers, scenarios_waiting.more, scenarios_processes.signals,
             scenarios_processes.process, scenarios_processes.nets)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("agent") / "agent")
    forked.run([sys.executable, "-m", "e2kemu.cpu.asm_cli", "-I", str(HERE), "-o", path, str(HERE / "agent.s")],
                   check=True)
    return path


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers of the host's calls are x86_64's")
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.__name__)
def test_the_host_and_the_guest_get_the_same_results(scenario: Scenario, agent: str, tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    (tmp_path / "guest").mkdir()
    host, guest = on_host(scenario, str(tmp_path / "host")), in_guest(scenario, agent, str(tmp_path / "guest"))
    assert len(host) == len(guest) >= 25
    wrong = [f"{call}: {theirs} on the host, {ours} in a guest"
             for (call, theirs), (_, ours) in zip(host, guest, strict=True) if theirs != ours]
    assert not wrong, "\n".join(wrong)
