"""The snapshot commands of both monitors, and query-jobs for the one that makes jobs of them.

``ctx.services["snapshots"]`` is the machine's SnapshotService, ``ctx.services["jobs"]`` the emulator's Jobs. On the
human monitor savevm and loadvm keep their monitor waiting; the others live on. QMP's snapshot-save, -load and
-delete are jobs. QEMU's ``vmstate`` and ``devices`` name block devices; here all snapshots are in the snapshot
directory, which may be named as "snapshot-dir".
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from e2kemu.errors import CommandError, E2kError, OptionError, StateError
from e2kemu.jobs import Jobs
from e2kemu.migration.commands import service
from e2kemu.migration.hmp_info import size_text
from e2kemu.migration.snapshot import SnapshotService
from e2kemu.migration.snapshot_store import SnapshotInfo
from e2kemu.monitor.dispatch import Context, command, declare_event, hmp_command, info_command
from e2kemu.monitor.schema import UNSET, Qapi, UnsetType

PLACE = "snapshot-dir"
"""The name under which the directory counts as a device."""

COLUMNS = "{:<10}{:<17}{:>8}{:>20}{:>13}{:>11}"
"""QEMU's layout of the table of snapshots."""


def snapshots(ctx: Context) -> SnapshotService:
    """The service of this emulator's machine."""
    found = ctx.services["snapshots"]
    assert isinstance(found, SnapshotService)
    return found


def _jobs(ctx: Context) -> Jobs:
    found = ctx.services["jobs"]
    assert isinstance(found, Jobs)
    return found


# -- HMP -------------------------------------------------------------------------------------------


def _wait_for(ctx: Context, work: Callable[[], object]) -> None:
    """Run ``work`` while this monitor waits. Errors are the command's."""
    if ctx.monitor.captured:
        work()  # the answer is the whole text, so there is nobody who could be kept waiting
        return
    ctx.monitor.suspend()

    def run() -> None:
        try:
            work()
        except E2kError as error:
            text = f"Error: {error}"
            ctx.loop.call_soon(lambda: ctx.monitor.print(text))
        finally:
            ctx.monitor.resume()

    threading.Thread(target=run, name="snapshot", daemon=True).start()


@hmp_command(
    "savevm",
    "name:s?",
    params="tag",
    help="save a VM snapshot. If no tag is provided, a new snapshot is created",
)
def hmp_savevm(ctx: Context, name: str | None) -> None:
    """``savevm before-update``; an older one of that tag is replaced."""
    _wait_for(ctx, lambda: snapshots(ctx).save(name))


def _complete_tags(ctx: Context, before: list[str], text: str) -> Iterable[str]:
    try:
        infos, _ = snapshots(ctx).store.entries()
    except E2kError:
        return []
    return [info.tag for info in infos if info.tag.startswith(text)] if len(before) == 1 else []


@hmp_command(
    "loadvm", "name:s", params="tag", help="restore a VM snapshot from its tag", completion=_complete_tags
)
def hmp_loadvm(ctx: Context, name: str) -> None:
    """``loadvm before-update``."""
    _wait_for(ctx, lambda: snapshots(ctx).load(name))


@hmp_command(
    "delvm", "name:s", params="tag", help="delete a VM snapshot from its tag", completion=_complete_tags
)
def hmp_delvm(ctx: Context, name: str) -> None:
    """``delvm before-update``."""
    snapshots(ctx).delete(name)


@info_command("snapshots", help="show the currently saved VM snapshots")
def info_snapshots(ctx: Context) -> None:
    """``info snapshots``, in QEMU's layout."""
    try:
        infos, problems = snapshots(ctx).store.entries()
    except StateError as error:  # no directory: QEMU shows that as the answer
        ctx.monitor.print(str(error))
        return
    if infos:
        ctx.monitor.print("List of snapshots present on all disks:")
        ctx.monitor.print(snapshot_table(infos), end="")
    else:
        ctx.monitor.print("There is no snapshot available.")
    for problem in problems:
        ctx.monitor.print(problem)


def snapshot_table(infos: Iterable[SnapshotInfo]) -> str:
    """The table of ``info snapshots``. Like QEMU it shows no ids: tags are what the commands take."""
    lines = [COLUMNS.format("ID", "TAG", "VM SIZE", "DATE", "VM CLOCK", "ICOUNT")]
    for info in infos:
        date = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(info.date_sec))
        # a tag that fills its column still ends before the next one
        tag = info.tag if len(info.tag) < 17 else info.tag + " "
        lines.append(COLUMNS.format("--", tag, size_text(info.vm_state_size), date, _clock(info.vm_clock_nsec), ""))
    return "".join(line + "\n" for line in lines)


def _clock(nanoseconds: int) -> str:
    seconds = nanoseconds // 10**9
    hours, minutes = seconds // 3600, seconds // 60 % 60
    return f"{hours:02}:{minutes:02}:{seconds % 60:02}.{nanoseconds // 10**6 % 1000:03}"


# -- QMP -------------------------------------------------------------------------------------------


class JobInfo(Qapi, kw_only=True):
    """JobInfo: one job of query-jobs."""

    id: str
    type: str
    status: str
    current_progress: int
    total_progress: int = 1
    error: str | UnsetType = UNSET


class JobStatusChange(Qapi):
    """Data of JOB_STATUS_CHANGE."""

    id: str
    status: str


declare_event("JOB_STATUS_CHANGE", JobStatusChange)


def _check_place(*names: str) -> None:
    for name in names:
        if name != PLACE:
            raise CommandError(f"No block device node '{name}'")


@command("snapshot-save")
def snapshot_save(
    ctx: Context, job_id: str, tag: str, vmstate: str = PLACE, devices: list[str] | UnsetType = UNSET
) -> None:
    """Save a snapshot that does not exist yet, as a job."""
    _check_place(vmstate, *(devices or ()))
    work = snapshots(ctx)
    _jobs(ctx).start(job_id, "snapshot-save", lambda: work.save(tag, replace=False))


@command("snapshot-load")
def snapshot_load(
    ctx: Context, job_id: str, tag: str, vmstate: str = PLACE, devices: list[str] | UnsetType = UNSET
) -> None:
    """Go back to a snapshot, as a job."""
    _check_place(vmstate, *(devices or ()))
    work = snapshots(ctx)
    _jobs(ctx).start(job_id, "snapshot-load", lambda: work.load(tag))


@command("snapshot-delete")
def snapshot_delete(ctx: Context, job_id: str, tag: str, devices: list[str] | UnsetType = UNSET) -> None:
    """Delete a snapshot, as a job."""
    _check_place(*(devices or ()))
    work = snapshots(ctx)
    _jobs(ctx).start(job_id, "snapshot-delete", lambda: work.delete(tag))


@command("query-jobs")
def query_jobs(ctx: Context) -> list[JobInfo]:
    """All jobs that were not dismissed."""
    answer = []
    for job in _jobs(ctx).all():
        info = JobInfo(
            id=job.id, type=job.type, status=job.status, current_progress=int(job.status == "concluded")
        )
        if job.error is not None:
            info.error = job.error
        answer.append(info)
    return answer


@command("job-dismiss")
def job_dismiss(ctx: Context, id: str) -> None:
    """Forget a concluded job."""
    _jobs(ctx).dismiss(id)


# -- the dirty bitmap ------------------------------------------------------------------------------


def dump_bitmap(pages: dict[str, list[tuple[int, int]]], totals: dict[str, int]) -> str:
    """The text of a bitmap dump: JSON, per block its size in pages, how many are dirty, and the runs of them."""
    blocks = [
        {"block": name, "pages": totals[name], "dirty": sum(count for _, count in runs), "runs": runs}
        for name, runs in pages.items()
    ]
    return json.dumps({"page-size": 4096, "blocks": blocks}) + "\n"


def _dump(ctx: Context, filename: str) -> None:
    runs: dict[str, list[tuple[int, int]]] = {}
    for name, index in service(ctx).dirty_pages().items():
        found: list[tuple[int, int]] = []
        for page in index.tolist():
            if found and sum(found[-1]) == page:
                found[-1] = (found[-1][0], found[-1][1] + 1)
            else:
                found.append((page, 1))
        runs[name] = found
    totals = {block.idstr: block.size // block.page_size for block in ctx.vm.ram_blocks}
    try:
        Path(filename).write_text(dump_bitmap(runs, totals))
    except (OSError, ValueError) as error:
        raise OptionError(f"Could not open '{filename}': {getattr(error, 'strerror', None) or error}") from error


@hmp_command(
    "migrate_dump_bitmap",
    "filename:F",
    params="file",
    help="write which pages the migration in progress has yet to send to 'file' (JSON)",
)
def hmp_migrate_dump_bitmap(ctx: Context, filename: str) -> None:
    """``migrate_dump_bitmap /tmp/dirty.json``."""
    _dump(ctx, filename)


@command("x-migrate-dump-bitmap")
def x_migrate_dump_bitmap(ctx: Context, filename: str) -> None:
    """Write which pages the migration in progress has yet to send to a file."""
    _dump(ctx, filename)
