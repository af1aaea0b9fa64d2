"""PMTiles archives that others wrote or that are damaged: no number in them is trusted."""

import gzip
import io
import json
import tracemalloc
import zlib

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import ground, write_samples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pmtiles.tile import (
    Compression,
    Entry,
    TileType,
    serialize_directory,
    serialize_header,
    write_varint,
    zxy_to_tileid,
)

from salib.files.tables import write_table
from salib.tiles.archive import Archive, write_archive
from salib.tiles.checks import verify
from salib.tiles.grid import MAX_ZOOM, TileId, hilbert_numbers, tile_gsd_m
from salib.training.data import Samples

PNG = cv2.imencode(".png", np.random.default_rng(3).integers(0, 255, (256, 256, 3), np.uint8))[1]
PNG = PNG.tobytes()
ONE = [Entry(TileId(3, 2, 5).hilbert, 0, len(PNG), 1)]
NONE, GZIP = Compression.NONE, Compression.GZIP


def packed(entries, internal=GZIP):
    data = serialize_directory(entries)
    return data if internal == GZIP else gzip.decompress(data)


def numbers(*values):
    """A directory of these numbers."""
    buffer = io.BytesIO()
    for value in values:
        write_varint(buffer, value)
    return gzip.compress(buffer.getvalue())


def archive(
    path, root=None, *, leaves=b"", metadata=b"", data=PNG, internal=GZIP, tile=NONE, **header
):
    """Write an archive out of its sections as they are."""
    root = packed(ONE, internal) if root is None else root
    starts = np.cumsum([127, len(root), len(metadata), len(leaves)]).tolist()
    sections = {"root": root, "metadata": metadata, "leaf_directory": leaves, "tile_data": data}
    told = {"clustered": True, "internal_compression": internal, "tile_compression": tile}
    told |= {"tile_type": TileType.PNG, "min_zoom": 3, "max_zoom": 3}
    for start, (name, content) in zip(starts, sections.items(), strict=True):
        told |= {f"{name}_offset": start, f"{name}_length": len(content)}
    path.write_bytes(serialize_header(told | header) + root + metadata + leaves + data)
    return path


@pytest.mark.parametrize("internal", [NONE, GZIP])
def test_directories_packed_by_gzip_or_not_at_all_are_read(tmp_path, internal):
    told = json.dumps({"name": "x"}).encode()
    metadata = told if internal == NONE else gzip.compress(told)
    leaf = packed(ONE, internal)
    root = packed([Entry(0, 0, len(leaf), 0)], internal)
    parts = {"leaves": leaf, "metadata": metadata, "internal": internal}
    for path in (
        archive(tmp_path / "leaf.pmtiles", root, **parts),
        archive(tmp_path / "plain.pmtiles", metadata=metadata, internal=internal),
    ):
        read = Archive(path)
        assert read.tiles() == [TileId(3, 2, 5)]
        assert read.read(3, 2, 5) == PNG
        assert read.metadata == {"name": "x"}


def test_a_directory_may_hold_tiles_and_leaves(tmp_path):
    late = [Entry(ONE[0].tile_id + 7, 0, len(PNG), 2)]
    leaf = packed(late)
    path = archive(
        tmp_path / "a.pmtiles", packed([*ONE, Entry(late[0].tile_id, 0, len(leaf), 0)]), leaves=leaf
    )
    first = ONE[0].tile_id
    assert Archive(path).ids.tolist() == [first, first + 7, first + 8]


@pytest.mark.parametrize("told", [{}, None, {"name": None}])
@pytest.mark.parametrize("length", [None, 0])
def test_metadata_that_says_nothing_is_empty(tmp_path, told, length):
    metadata = gzip.compress(json.dumps(told).encode()) if length is None else b""
    assert Archive(archive(tmp_path / "a.pmtiles", metadata=metadata)).metadata == {}


@pytest.mark.parametrize(
    "metadata",
    [
        gzip.compress(b"[]"),
        gzip.compress(b'"text"'),
        gzip.compress(b"{"),
        gzip.compress(b"\xff\xfe"),
        gzip.compress(b"[" * 200_000),
        gzip.compress(bytes(1 << 26)),
        gzip.compress(b"{}")[:-3],
        b"{}",
    ],
    ids=["list", "text", "cut", "bytes", "deep", "bomb", "short", "plain"],
)
def test_metadata_that_cannot_be_read_is_one_line(tmp_path, metadata):
    read = Archive(archive(tmp_path / "a.pmtiles", metadata=metadata))
    with pytest.raises(ValueError, match=r"Could not read the metadata of .*a\.pmtiles") as error:
        _ = read.metadata
    assert "\n" not in str(error.value)


FIRST = ONE[0].tile_id
ODD = {
    "empty directory": (numbers(0), {}, "it holds no tile"),
    "no bytes": (b"", {}, "ends early"),
    "no numbers": (gzip.compress(b""), {}, "has no directory"),
    "a number cut": (gzip.compress(b"\x01\x80"), {}, "has no directory"),
    "a number without end": (gzip.compress(b"\xff" * 30 + b"\x01"), {}, "has no directory"),
    "entries that claim billions": (numbers(10**10, 1, 1, 1, 1), {}, "for 10000000000 entries"),
    "fewer entries than numbers": (numbers(1, 1, 1, 1, 1, 1), {}, "numbers for 1 entries"),
    "runs that claim billions": (numbers(1, 5, 10**10, 9, 1), {}, "more than memory can hold"),
    "runs that overflow": (numbers(2, 5, 6, 2**55, 2**55, 9, 9, 1, 0), {}, "more than memory"),
    "a bomb": (gzip.compress(bytes(1 << 26)), {}, "unpacks to more than"),
    "no first offset": (numbers(1, 5, 1, 9, 0), {}, "numbers that no archive holds"),
    "a tile outside the file": (numbers(1, FIRST, 1, 9, 2**40), {}, "tiles outside the file"),
    "a long tile": (numbers(1, FIRST, 1, len(PNG) + 1, 1), {}, "tiles outside the file"),
    "an empty tile": (numbers(1, FIRST, 1, 0, 1), {}, "tiles outside the file"),
    "a tile twice": (numbers(2, FIRST, 0, 1, 1, 9, 9, 1, 1), {}, "a tile more than once"),
    "runs that overlap": (numbers(2, FIRST, 1, 2, 1, 9, 9, 1, 1), {}, "a tile more than once"),
    "no zoom's": (numbers(1, 4**27, 1, 9, 1), {}, "one that no zoom has"),
    "a leaf that points to itself": (numbers(1, 0, 0, 40, 1), {"leaf": True}, "more than the file"),
    "a leaf outside": (numbers(1, 0, 0, 2**30, 1), {}, "more than the file holds"),
}


@pytest.mark.parametrize(("root", "options", "message"), ODD.values(), ids=ODD)
def test_an_odd_directory_is_refused_in_bounded_memory(tmp_path, root, options, message):
    if options:  # the root is its own leaf
        options = {"leaf_directory_offset": 127, "leaf_directory_length": 10 * len(root)}
        root = numbers(1, 0, 0, len(root), 1)
    path = archive(tmp_path / "a.pmtiles", root, **options)
    tracemalloc.start()
    with pytest.raises(ValueError, match=f"Could not read the index of .*{message}") as error:
        Archive(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 30
    assert "\n" not in str(error.value)
    assert [tile for tile, _ in verify(path)] == [None]


U64 = st.integers(0, 2**64 - 1) | st.integers(0, 400)
HEADER = st.dictionaries(st.sampled_from([*range(8, 97, 8)]), U64, max_size=4)
DIRECTORY = st.lists(st.integers(0, 2**63) | st.integers(0, 9), max_size=13)


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[*HealthCheck])
@given(HEADER, DIRECTORY, st.sampled_from([0, 1, 2, 3]), st.binary(max_size=40))
def test_whatever_header_and_directory_say_an_archive_is_read_or_refused(
    tmp_path, header, directory, entries, leaves
):
    root = numbers(entries, *directory[: 4 * entries])
    path = archive(tmp_path / "a.pmtiles", root, leaves=leaves)
    data = bytearray(path.read_bytes())
    for at, value in header.items():
        data[at : at + 8] = value.to_bytes(8, "little")
    path.write_bytes(data)
    try:
        read = Archive(path)
    except ValueError as error:
        read = str(error)
    if isinstance(read, str):
        assert str(path) in read
        return
    sizes = [len(read.read(*tile)) for tile in read.tiles()[:9]]
    assert sizes == read.lengths[:9].tolist()


@pytest.mark.parametrize("kind", ["brotli", "zstd"])
def test_other_ways_to_pack_directories_are_named(tmp_path, kind):
    path = archive(tmp_path / "a.pmtiles", internal_compression=Compression[kind.upper()])
    with pytest.raises(ValueError, match=f"directories .* must not be packed by {kind}, got .*a"):
        Archive(path)


@pytest.mark.parametrize("kind", ["gzip", "brotli", "zstd"])
def test_packed_tiles_are_named(tmp_path, kind):
    path = archive(tmp_path / "a.pmtiles", tile=Compression[kind.upper()])
    with pytest.raises(ValueError, match=f"tiles .* must not be packed by {kind}, got .*a"):
        Archive(path)


@pytest.mark.parametrize("at", [97, 98, 99])
def test_a_header_of_unknown_numbers_is_refused(tmp_path, at):
    path = archive(tmp_path / "a.pmtiles")
    data = bytearray(path.read_bytes())
    data[at] = 77
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"Could not read the header of .*a\.pmtiles: 77"):
        Archive(path)


def test_numbers_of_many_tiles_are_those_of_the_reference_library():
    rng = np.random.default_rng(5)
    z = rng.integers(0, MAX_ZOOM + 1, 997)
    x, y = ((rng.random(997) * (1 << z)).astype(np.int64) for _ in range(2))
    tiles = np.stack([z, x, y], axis=1)
    expected = [zxy_to_tileid(*tile) for tile in tiles.tolist()]
    assert hilbert_numbers(tiles).tolist() == expected
    strange = [[3, 8, 1], [3, 1, 8], [2, -1, 0], [2, 0, -1], [MAX_ZOOM + 1, 0, 0], [-1, 0, 0]]
    assert hilbert_numbers(np.array([*strange, [1, 1, 1]])).tolist() == [-1] * 6 + [3]


PLACES = [TileId(14, x, y) for x in (0, 1) for y in (6588, 6589)]


def changed(image):
    """How an image of another program may come as a tile."""
    return {
        "one band": image[..., :1],
        "512 px": cv2.resize(image[..., :3], (512, 512)),
        "128 px": image[:128, :128, :3],
        "not square": image[:128, :, :3],
        "16 bits": image[..., 0].astype(np.uint16),
    }


@pytest.mark.parametrize("kind", changed(np.zeros((256, 256, 4), np.uint8)))
@pytest.mark.parametrize("sensor", ["radar", "lores"])
def test_tiles_of_another_layout_are_told_by_verify_and_refused_in_training(tmp_path, kind, sensor):
    def picture(name, tile):
        return ground(tile.x, tile.y, tile.z)

    folder = write_samples(tmp_path, PLACES, picture, [tile_gsd_m(tile) for tile in PLACES])
    ordered = sorted(PLACES, key=lambda tile: tile.hilbert)
    odd = [(tile, changed(picture(sensor, tile))[kind]) for tile in ordered]
    tiles = [(tile, cv2.imencode(".png", image)[1].tobytes()) for tile, image in odd]
    path = write_archive(folder / f"{sensor}.pmtiles", tiles, metadata={})
    problems = verify(path)
    assert [tile for tile, _ in problems] == ordered
    assert all(
        "tiles must be 256 px squared, uint8 with the bands of" in text for _, text in problems
    )
    with pytest.raises(ValueError, match=rf"{sensor}\.pmtiles, tile 14/.*must be 256 px.*verify"):
        Samples(folder).image(0, sensor)


def test_an_archive_copied_over_another_sensors_is_refused(tmp_path):
    def picture(name, tile):
        image = ground(tile.x, tile.y, tile.z)
        image[0, 0, 2] = ord(name[0])
        return image

    folder = write_samples(tmp_path, PLACES, picture, [tile_gsd_m(tile) for tile in PLACES])
    rows = []
    for name in ("radar", "lores", "hires"):
        each = Archive(folder / f"{name}.pmtiles")
        crc = {tile: zlib.crc32(each.read(*tile)) for tile in each.tiles()}
        rows += [{"sensor": name, **tile._asdict(), "crc32": crc[tile]} for tile in each.tiles()]
    write_table(folder / "tiles.parquet", pd.DataFrame(rows))
    whole = Samples(folder).image(1, "radar")
    assert whole.any()
    (folder / "radar.pmtiles").write_bytes((folder / "lores.pmtiles").read_bytes())
    with pytest.raises(ValueError, match=r"radar\.pmtiles.* other bytes .*another sensor"):
        Samples(folder).image(1, "radar")
    (folder / "radar.pmtiles").write_bytes((folder / "hires.pmtiles").read_bytes())
    with pytest.raises(ValueError, match=r"radar\.pmtiles must hold the tiles that tiles\.parquet"):
        Samples(folder)
    write_table(folder / "tiles.parquet", pd.DataFrame(rows).drop(columns="z"))
    with pytest.raises(ValueError, match=r"tiles\.parquet must have the columns \['z'\]"):
        Samples(folder)
