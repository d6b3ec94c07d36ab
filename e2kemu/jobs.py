"""Background jobs of the machine protocol: what query-jobs lists and JOB_STATUS_CHANGE tells.

A job is a function that waits (for a file, say) and runs in a thread of its own. Statuses, as QEMU's:

    created running waiting pending concluded        it went well
    created running aborting concluded               it failed; ``error`` says why

A concluded job stays in the list until job-dismiss; its status then is "null".
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from e2kemu.errors import CommandError, E2kError

IDENT = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")

CREATED, RUNNING, WAITING, PENDING, ABORTING, CONCLUDED, NULL = (
    "created", "running", "waiting", "pending", "aborting", "concluded", "null",
)  # fmt: skip


@dataclass
class Job:
    """One job; ``type`` is the command's name."""

    id: str
    type: str
    status: str = CREATED
    error: str | None = None


class Jobs:
    """The jobs of one emulator. ``emit(event, data)`` sends an event, from any thread."""

    def __init__(self, emit: Callable[[str, Mapping[str, Any]], None]) -> None:
        self._emit = emit
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}

    def start(self, ident: str, kind: str, work: Callable[[], object]) -> None:
        """Run ``work`` in the background. Raises CommandError for an id that is wrong or taken."""
        if not IDENT.fullmatch(ident):
            raise CommandError(f"Invalid job ID '{ident}'")
        with self._lock:
            if ident in self._jobs:
                raise CommandError(f"Job ID '{ident}' already in use")
            job = self._jobs[ident] = Job(ident, kind)
        self._move(job, CREATED)
        self._move(job, RUNNING)
        threading.Thread(target=self._run, args=(job, work), name=f"job {ident}", daemon=True).start()

    def _run(self, job: Job, work: Callable[[], object]) -> None:
        try:
            work()
        except E2kError as error:
            job.error = str(error)
        except Exception as error:  # a fault of ours: the client must not wait for ever
            job.error = f"internal error: {type(error).__name__}: {error}"
        for status in (ABORTING, CONCLUDED) if job.error is not None else (WAITING, PENDING, CONCLUDED):
            self._move(job, status)

    def _move(self, job: Job, status: str) -> None:
        job.status = status
        self._emit("JOB_STATUS_CHANGE", {"id": job.id, "status": status})

    def all(self) -> list[Job]:
        """All jobs that have not been dismissed, the newest first."""
        with self._lock:
            return list(self._jobs.values())[::-1]

    def dismiss(self, ident: str) -> None:
        """Forget a concluded job. Raises CommandError when there is none, or it is not concluded."""
        with self._lock:
            job = self._jobs.get(ident)
            if job is None:
                raise CommandError("Job not found")
            if job.status != CONCLUDED:
                raise CommandError(f"Job '{ident}' in state '{job.status}' cannot accept command verb 'dismiss'")
            del self._jobs[ident]
        self._move(job, NULL)
