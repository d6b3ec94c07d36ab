"""``e2kemu-stream FILE``: print a recorded migration stream readably.

One line per element with its offset; under it what it holds: the configuration, RAM records summed up (every
single one with ``-v``), device fields by name. ``--json`` prints the same as JSON, ``--ram`` writes the guest
memory the stream holds to files. Any stream will do: QEMU's of every version, ours, one direction of a
recorded connection (``--return-path`` for the other).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from e2kemu.errors import E2kError, OptionError
from e2kemu.migration.stream_extract import Extraction
from e2kemu.migration.stream_ram import RamBody
from e2kemu.migration.stream_reader import Record, walk, walk_return_path
from e2kemu.options import parse_size


def main(argv: list[str] | None = None) -> int:
    """The console script; returns its exit status: 1 when the stream could not be read to its end."""
    options = _parser().parse_args(argv)
    try:
        return _run(options)
    except E2kError as error:
        sys.stdout.flush()
        print(f"e2kemu-stream: {options.file}: {error}", file=sys.stderr)
    except BrokenPipeError:
        # Whoever read our output has seen enough; keep Python from complaining at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="e2kemu-stream", description="Print a recorded migration stream readably."
    )
    parser.add_argument("file", help="the stream, as 'migrate file:FILE' writes it; - for standard input")
    parser.add_argument("-v", "--verbose", action="store_true", help="show every RAM record")
    parser.add_argument("-q", "--quiet", action="store_true", help="only one line per element")
    parser.add_argument("--json", action="store_true", help="print JSON, one object per element")
    parser.add_argument("--offset", default="0", help="where the stream begins in the file (0x and suffixes)")
    parser.add_argument("--ram", metavar="DIR", help="write the contents of each RAM block to DIR")
    parser.add_argument("--extract", metavar="DIR", help="write RAM blocks, device sections and descriptions to DIR")
    parser.add_argument("--return-path", action="store_true", help="FILE is what the destination sent")
    return parser


def _run(options: argparse.Namespace) -> int:
    data = _read(options.file)
    memory: dict[str, bytearray] | None = {} if options.ram or options.extract else None
    extraction = Extraction(Path(options.extract), data) if options.extract else None
    if options.return_path:
        records = walk_return_path(data)
    else:
        start = parse_size(options.offset, name="offset")
        records = walk(data, start, details=options.verbose, memory=memory)
    if extraction is not None:
        records = extraction.watch(records)
    for line in _json_lines(records) if options.json else _text_lines(records, quiet=options.quiet):
        print(line)
    if extraction is not None and memory is not None:
        extraction.finish(memory)
    if options.ram and memory is not None:
        _write_memory(Path(options.ram), memory)
    return 0


def _read(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise OptionError(f"cannot be read: {error.strerror}") from error


def _write_memory(directory: Path, memory: dict[str, bytearray]) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in memory.items():
            (directory / name.replace("/", "_")).write_bytes(content)
    except OSError as error:
        raise OptionError(f"cannot write to {directory}: {error.strerror}") from error


# -- text ------------------------------------------------------------------------------------------


def _text_lines(records: Iterable[Record], *, quiet: bool) -> Iterator[str]:
    for record in records:
        yield f"{record.start:#010x} {_title(record)}"
        if quiet:
            continue
        if record.kind == "VMDESCRIPTION":
            yield f"    {len(record.values.get('devices', ()))} devices described"
            continue
        if record.ram is not None:
            yield from _ram_lines(record.ram)
        if record.kind not in ("COMMAND", "RETURN"):
            yield from _value_lines(record.values, "    ")


def _shown(value: object) -> str:
    """A field of a command: numbers as they are written in the description of the format."""
    if isinstance(value, list):
        return "[" + ", ".join(f"{start:#x}+{length:#x}" for start, length in value) + "]"
    return f"{value:#x}" if isinstance(value, int) else repr(value)


def _title(record: Record) -> str:
    size = record.end - record.start
    parts = [f"{record.kind:13}"]
    if record.kind == "HEADER":
        parts.append(f"version {record.version}")
    elif record.kind in ("COMMAND", "RETURN"):
        parts.append(record.name)
        if record.values:
            parts.append(", ".join(f"{name} {_shown(value)}" for name, value in record.values.items()))
        elif record.payload:
            parts.append(_short(record.payload))
    elif record.name:
        parts.append(f"'{record.name}'")
        if record.instance_id is not None:
            parts.append(f"instance {record.instance_id}, version {record.version},")
        if record.section_id is not None:
            parts.append(f"id {record.section_id},")
        parts.append(f"{size} bytes")
        if record.payload:
            parts.append(f"(not described: {_short(record.payload)})")
    return " ".join(parts).rstrip()


def _short(data: bytes, limit: int = 32) -> str:
    """The beginning of ``data`` in hexadecimal."""
    more = f"... {len(data)} bytes" if len(data) > limit else ""
    return data[:limit].hex(" ") + more


def _ram_lines(body: RamBody) -> Iterator[str]:
    for name, size in body.blocks.items():
        yield f"    block {name}: {size:#x} bytes"
    if body.records:
        for record in body.records:
            place = f" {record.block} {record.address:#x}" if record.block else ""
            yield f"    {record.start:#010x} {record.kind}{place}, {record.payload} bytes"
        return
    counts = {kind: count for kind, count in body.counts.items() if kind not in ("EOS", "MEM_SIZE")}
    if counts:
        yield "    records: " + ", ".join(f"{kind} {count}" for kind, count in counts.items())
        yield "    pages: " + ", ".join(f"{name} {count}" for name, count in body.pages_by_block.items())


def _value_lines(values: dict[str, Any], indent: str) -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield f"{indent}{name}:"
            yield from _value_lines(value, indent + "  ")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for index, element in enumerate(value):
                yield f"{indent}{name}[{index}]:"
                yield from _value_lines(element, indent + "  ")
        elif isinstance(value, list):
            yield f"{indent}{name} = [{', '.join(str(element) for element in value)}]"
        else:
            yield f"{indent}{name} = {value}"


# -- JSON ------------------------------------------------------------------------------------------


def _json_lines(records: Iterable[Record]) -> Iterator[str]:
    for record in records:
        entry: dict[str, Any] = {"kind": record.kind, "start": record.start, "end": record.end}
        for name in ("name", "section_id", "instance_id", "version"):
            value = getattr(record, name)
            if value not in (None, ""):
                entry[name.replace("_", "-")] = value
        if record.payload:
            entry["payload"] = record.payload.hex()
        if record.ram is not None:
            entry["ram"] = _json_ram(record.ram)
        elif record.values:
            entry["values"] = record.values
        yield json.dumps(entry)


def _json_ram(body: RamBody) -> dict[str, Any]:
    entry: dict[str, Any] = {"records": dict(body.counts), "pages": dict(body.pages_by_block)}
    if body.blocks:
        entry["blocks"] = body.blocks
    if body.records:
        entry["list"] = [
            {"start": one.start, "kind": one.kind, "block": one.block, "address": one.address}
            for one in body.records
        ]
    return entry


if __name__ == "__main__":
    sys.exit(main())
