"""``info block`` and ``query-block``: the drives and the images behind them."""

from __future__ import annotations

import os
from contextlib import suppress

from e2kemu.block.drive import Drive
from e2kemu.block.image import BlockImage
from e2kemu.monitor.dispatch import Context, command, info_command
from e2kemu.monitor.schema import UNSET, Qapi, UnsetType


class ImageInfo(Qapi, kw_only=True):
    """ImageInfo: one file of the chain."""

    filename: str
    format: str
    virtual_size: int
    actual_size: int | UnsetType = UNSET
    backing_filename: str | UnsetType = UNSET
    backing_image: ImageInfo | UnsetType = UNSET


class BlockDeviceInfo(Qapi, kw_only=True):
    """BlockDeviceInfo: what is in a drive."""

    file: str
    ro: bool
    drv: str
    encrypted: bool = False
    active: bool
    backing_file: str | UnsetType = UNSET
    backing_file_depth: int
    image: ImageInfo


class BlockInfo(Qapi, kw_only=True):
    """BlockInfo: one drive."""

    device: str
    qdev: str | UnsetType = UNSET
    type: str = "unknown"
    removable: bool = False
    locked: bool = False
    inserted: BlockDeviceInfo


def _drives(ctx: Context) -> list[Drive]:
    found: list[Drive] = ctx.services.get("drives", [])
    return found


def _image_info(image: BlockImage) -> ImageInfo:
    answer = ImageInfo(filename=image.path, format=image.format, virtual_size=image.size)
    with suppress(OSError):
        answer.actual_size = os.stat(image.path).st_blocks * 512
    if image.backing is not None:
        answer.backing_filename = image.backing.path
        answer.backing_image = _image_info(image.backing)
    return answer


def _depth(image: BlockImage) -> int:
    return 0 if image.backing is None else 1 + _depth(image.backing)


@command("query-block")
def query_block(ctx: Context) -> list[BlockInfo]:
    """All drives."""
    return [
        BlockInfo(
            device=drive.id,
            qdev=drive.attached or UNSET,
            inserted=BlockDeviceInfo(
                file=drive.image.path,
                ro=drive.readonly,
                drv=drive.image.format,
                active=drive.active,
                backing_file=UNSET if drive.image.backing is None else drive.image.backing.path,
                backing_file_depth=_depth(drive.image),
                image=_image_info(drive.image),
            ),
        )
        for drive in _drives(ctx)
    ]


@info_command("block", help="show info of the drives")
def info_block(ctx: Context) -> None:
    """``info block``."""
    for number, drive in enumerate(_drives(ctx)):
        lines = [f"{drive.id}: {drive.image.describe()}"]
        if drive.attached:
            lines.append(f"    Attached to:      {drive.attached}")
        lines.append(f"    Cache mode:       {'writeback' if drive.active else 'inactive'}")
        if drive.image.backing is not None:
            lines.append(f"    Backing file:     {drive.image.backing.path} (chain depth: {_depth(drive.image)})")
        ctx.monitor.print(("\n" if number else "") + "\n".join(lines))
