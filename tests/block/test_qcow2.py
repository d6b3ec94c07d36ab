"""qcow2 against a model in memory, against qemu-img where it is installed, and against damage."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from e2kemu.block.image import BlockImage, open_image
from e2kemu.block.qcow2 import create
from e2kemu.block.qcow2_format import REFUSED, Header
from e2kemu.errors import E2kError, ImageError, OptionError

QEMU_IMG = shutil.which("qemu-img")
needs_qemu_img = pytest.mark.skipif(QEMU_IMG is None, reason="qemu-img is not installed (package qemu-utils)")

KIB = 1 << 10
SIZE = 300 * KIB + 512


def qemu_img(*args: object) -> str:
    assert QEMU_IMG is not None
    result = subprocess.run([QEMU_IMG, *map(str, args)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, (args, result.stdout, result.stderr)
    return result.stdout


def opened(path: Path, **options: bool) -> BlockImage:
    image = open_image(str(path), "qcow2", **options)
    image.activate()
    return image


def check_counts(path: Path) -> None:
    """Every cluster of the file is counted exactly as often as it is used: no leak, nothing missing."""
    data = path.read_bytes()
    header = Header.parse(data, str(path))
    cluster = header.cluster_size
    used = [0] * (-(-len(data) // cluster) + 1)

    def use(offset: int, size: int = cluster) -> None:
        for number in range(offset // cluster, -(-(offset + size) // cluster)):
            used[number] += 1

    def words(offset: int, count: int) -> tuple[int, ...]:
        return struct.unpack_from(f">{count}Q", data.ljust(offset + 8 * count, b"\0"), offset)

    use(0)
    use(header.l1_offset, 8 * header.l1_size)
    use(header.refcount_table_offset, header.refcount_table_clusters * cluster)
    mask = (1 << 56) - 512
    blocks = [
        word & mask for word in words(header.refcount_table_offset, header.refcount_table_clusters * cluster // 8)
    ]
    for block in filter(None, blocks):
        use(block)
    for l1 in words(header.l1_offset, header.l1_size):
        if l1 & mask:
            use(l1 & mask)
            for entry in words(l1 & mask, header.l2_entries):
                if entry & mask:
                    use(entry & mask)
    per_block = cluster // 2
    for number, expected in enumerate(used):
        block = blocks[number // per_block] if number // per_block < len(blocks) else 0
        place = block + 2 * (number % per_block)
        found = int.from_bytes(data[place : place + 2], "big") if block else 0
        assert found == expected, f"cluster {number} is counted {found} times and used {expected} times"


OPERATION = st.tuples(
    st.sampled_from(["write", "write", "write", "zero", "read", "flush", "reopen", "hand over"]),
    st.integers(0, SIZE - 1),
    st.integers(1, 20_000),
    st.integers(1, 255),
)


@pytest.mark.parametrize(("cluster_bits", "version"), [(9, 3), (12, 3), (16, 3), (10, 2)])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=st.lists(OPERATION, max_size=40), backing=st.booleans())
def test_it_holds_what_a_model_holds(
    operations: list[tuple[str, int, int, int]], backing: bool, cluster_bits: int, version: int, tmp_path: Path
) -> None:
    base, path = tmp_path / "base", tmp_path / "image"
    path.unlink(missing_ok=True)
    model = bytearray(SIZE)
    if backing:
        model[: 100 * KIB] = random.Random(1).randbytes(100 * KIB)
        base.write_bytes(model[: 100 * KIB])
    named = {"backing": "base", "backing_format": "raw"} if backing else {}
    create(str(path), SIZE, cluster_bits=cluster_bits, version=version, **named)
    image = opened(path)
    for what, offset, size, byte in operations:
        size = min(size, SIZE - offset)
        if what == "write":
            model[offset : offset + size] = bytes([byte]) * size
            image.write(offset, bytes([byte]) * size)
        elif what == "zero":
            model[offset : offset + size] = bytes(size)
            image.write_zeroes(offset, size)
        elif what == "read":
            assert image.read(offset, size) == model[offset : offset + size]
            assert not image.is_zero(offset, size) or not any(model[offset : offset + size])
        elif what == "flush":
            image.flush()
        elif what == "hand over":
            image.inactivate()
            image.activate()
        else:
            image.close()
            image = opened(path)
    assert image.read(0, SIZE) == model
    image.close()
    check_counts(path)
    image = opened(path, readonly=True)
    assert image.read(0, SIZE) == model
    image.close()


@needs_qemu_img
@pytest.mark.parametrize("cluster_size", ["512", "4k", "64k"])
def test_qemu_img_finds_no_error_and_the_same_contents(cluster_size: str, tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng, size = random.Random(seed), 12 << 20  # with clusters of 512 bytes the reference count table must grow
    path, model = tmp_path / "image", bytearray(size)
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"cluster_size={cluster_size}", path, size)
    image = opened(path)
    for _ in range(150):
        offset = rng.randrange(size)
        count = min(rng.randrange(1, 200_000), size - offset)
        if rng.random() < 0.8:
            data = rng.randbytes(count)
            image.write(offset, data)
        else:
            data = bytes(count)
            image.write_zeroes(offset, count)
        model[offset : offset + count] = data
    image.close()
    qemu_img("check", path)
    qemu_img("convert", "-O", "raw", path, tmp_path / "raw")
    assert (tmp_path / "raw").read_bytes() == model


@needs_qemu_img
def test_compressed_clusters_and_snapshots_of_qemu_img_are_read_and_copied_on_write(tmp_path: Path) -> None:
    rng, size = random.Random(5), 2 << 20
    model = bytearray(b"".join(bytes([rng.randrange(4)]) * 1000 for _ in range(size // 1000 + 1))[:size])
    (tmp_path / "raw").write_bytes(model)
    path, before = tmp_path / "image", bytes(model)
    qemu_img("convert", "-c", "-f", "raw", "-O", "qcow2", tmp_path / "raw", path)
    qemu_img("snapshot", "-c", "then", path)
    image = opened(path)
    assert image.read(0, size) == model
    for _ in range(60):
        offset = rng.randrange(size - 3000)
        image.write(offset, b"new" * 1000)
        model[offset : offset + 3000] = b"new" * 1000
    assert image.read(0, size) == model
    image.close()
    qemu_img("check", path)
    qemu_img("convert", "-O", "raw", path, tmp_path / "now")
    assert (tmp_path / "now").read_bytes() == model
    qemu_img("snapshot", "-a", "then", path)
    qemu_img("convert", "-O", "raw", path, tmp_path / "then")
    assert (tmp_path / "then").read_bytes() == before


@needs_qemu_img
def test_qemu_img_opens_what_we_create(tmp_path: Path) -> None:
    (tmp_path / "base").write_bytes(b"x" * 4096)
    create(str(tmp_path / "image"), 1 << 30, backing="base", backing_format="raw")
    info = json.loads(qemu_img("info", "--output=json", tmp_path / "image"))
    assert (info["virtual-size"], info["backing-filename"], info["cluster-size"]) == (1 << 30, "base", 65536)
    qemu_img("check", tmp_path / "image")


def test_a_compressed_cluster_is_inflated_and_a_damaged_one_named(tmp_path: Path) -> None:
    path = tmp_path / "image"
    create(str(path), 1 << 20)
    image = opened(path)
    image.write(0, b"x" * 65536)
    image.close()
    data = bytearray(path.read_bytes())
    header = Header.parse(bytes(data), str(path))
    packer = zlib.compressobj(9, zlib.DEFLATED, -12)
    packed = packer.compress(b"packed! " * 8192) + packer.flush()
    (l2,) = struct.unpack_from(">Q", data, header.l1_offset)
    l2 &= (1 << 56) - 512
    (entry,) = struct.unpack_from(">Q", data, l2)
    place = entry & ((1 << 56) - 512)
    data[place : place + len(packed)] = packed
    sectors = (len(packed) - 1) // 512
    struct.pack_into(">Q", data, l2, 1 << 62 | sectors << 54 | place)
    path.write_bytes(data)
    image = opened(path)
    assert image.read(8, 65528) == (b"packed! " * 8192)[8:]
    image.write(0, b"new")
    assert image.read(0, 16) == b"newked! packed! "
    image.close()
    check_counts(path)
    data[place] ^= 0xFF
    path.write_bytes(data)
    image = opened(path)
    with pytest.raises(ImageError, match="compressed cluster at"):
        image.read(0, 512)
    image.close()


@pytest.mark.parametrize("bit", sorted(REFUSED))
def test_features_that_are_not_there_are_refused_by_name(bit: int, tmp_path: Path) -> None:
    path = tmp_path / "image"
    create(str(path), 1 << 20)
    with open(path, "r+b") as file:
        file.seek(72)
        file.write((1 << bit).to_bytes(8, "big"))
    with pytest.raises(ImageError) as caught:
        open_image(str(path))
    assert str(caught.value) == f"Could not open '{path}': {REFUSED[bit]}"


@pytest.mark.parametrize(
    ("at", "value", "reason"),
    [
        (0, b"QFI\xfa", "Image is not in qcow2 format"),
        (4, b"\0\0\0\4", "Unsupported qcow2 version 4"),
        (20, b"\0\0\0\x20", "Unsupported cluster size: 2^32"),
        (32, b"\0\0\0\1", "encryption is not supported"),
        (32, b"\0\0\0\2", "encryption is not supported"),
        (36, b"\0\0\0\0", "Active L1 table of 0 entries, 1 are needed"),
        (36, b"\xff\xff\xff\xff", "Active L1 table of"),
        (40, b"\0\0\0\0\0\0\0\1", "Active L1 table offset invalid"),
        (48, b"\0\0\0\0\0\0\0\1", "Reference count table offset invalid"),
        (56, b"\0\0\0\0", "Reference count table of 0 clusters"),
        (72, b"\0\0\1\0\0\0\0\0", "Unsupported qcow2 feature(s): incompatible bit 40"),
        (96, b"\0\0\0\7", "Reference count entry width too large"),
    ],
)
def test_a_header_that_makes_no_sense_is_one_line(at: int, value: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "image"
    create(str(path), 1 << 20)
    data = bytearray(path.read_bytes())
    data[at : at + len(value)] = value
    path.write_bytes(data)
    with pytest.raises(ImageError) as caught:
        open_image(str(path), "qcow2")
    assert str(caught.value).startswith(f"Could not open '{path}': {reason}")


def test_damaged_images_never_do_worse_than_an_error(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng, path = random.Random(seed), tmp_path / "image"
    create(str(path), 1 << 20, cluster_bits=9)
    image = opened(path)
    image.write(1000, b"data" * 5000)
    image.close()
    whole = path.read_bytes()
    refused = 0
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(rng.choice((104, 4096, len(data))))] = rng.randrange(256)
        path.write_bytes(data)
        try:
            image = opened(path)
        except E2kError:
            refused += 1
            continue
        try:
            image.read(0, min(image.size, 1 << 20))
            image.write(5000, bytes(3000))
            image.close()
        except (E2kError, OSError):
            refused += 1
    assert refused > 20


def test_a_table_beyond_every_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "image"
    create(str(path), 1 << 20)
    data = bytearray(path.read_bytes())
    data[40:48] = (0xE5 << 56).to_bytes(8, "big")  # header: l1_table_offset
    path.write_bytes(data)
    with pytest.raises(E2kError, match="L1 table offset 0xe500000000000000"):
        open_image(str(path))


def test_backing_files_in_a_ring_and_missing_ones_are_one_line(tmp_path: Path) -> None:
    create(str(tmp_path / "a"), 1 << 20, backing="b", backing_format="qcow2")
    with pytest.raises(OptionError, match=r"^Could not open backing file: Could not open '.*b': No such file"):
        open_image(str(tmp_path / "a"))
    create(str(tmp_path / "b"), 1 << 20, backing="a", backing_format="qcow2")
    with pytest.raises(OptionError, match="more than 64 images behind one another"):
        open_image(str(tmp_path / "a"))
    create(str(tmp_path / "c"), 1 << 20, backing="nbd://host/x")
    with pytest.raises(OptionError, match="'nbd://host/x' is not a file"):
        open_image(str(tmp_path / "c"))


WRITER = """
import random, sys
from e2kemu.block.image import open_image
image = open_image(sys.argv[1], "qcow2")
image.activate()
rng = random.Random(int(sys.argv[2]))
print("ready", flush=True)
while True:
    number = rng.randrange(2000)
    image.write(number * 512, number.to_bytes(4, "big") * 128)
    if rng.random() < 0.05:
        image.flush()
"""


def test_a_killed_writer_leaves_an_image_that_holds_only_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "image"
    for round_number in range(6):
        path.unlink(missing_ok=True)
        create(str(path), 2000 * 512, cluster_bits=10)
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(round_number)], stdout=subprocess.PIPE, cwd=os.getcwd()
        )
        assert process.stdout is not None
        process.stdout.readline()
        try:
            process.wait(0.1 + 0.05 * round_number)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.wait()
        image = opened(path)
        for number in range(2000):
            sector = image.read(number * 512, 512)
            assert sector in (bytes(512), number.to_bytes(4, "big") * 128), number
        image.write(0, b"x" * 100_000)
        assert image.read(0, 100_000) == b"x" * 100_000
        image.close()
        if QEMU_IMG:
            result = subprocess.run([QEMU_IMG, "check", str(path)], capture_output=True, text=True, check=False)
            assert result.returncode in (0, 3), result.stdout + result.stderr  # 3: leaked clusters only
