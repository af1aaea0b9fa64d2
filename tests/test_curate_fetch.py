"""Released archives: whole or absent, counted, and readable as samples."""

import errno
import os
import shutil
import socket
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shapely
from servers import Faults, RangeServer, TokenRule

from salib.config import SENSOR_NAMES
from salib.curate import released
from salib.curate.released import RELEASES, Release, check_tiles, fetch_archives, index_released
from salib.files import download
from salib.files.artifact import InUseError, only_writer
from salib.files.download import FetchError, RemoteFile
from salib.tiles.archive import write_archive
from salib.tiles.codec import encode
from salib.tiles.grid import TileId, tile_bounds, tile_gsd_m
from salib.training import data


def as_png(image):
    return encode(image, "png")


ZOOM = 15
PLACES = [TileId(ZOOM, 8650 + x, 13120 + y) for x in range(2) for y in range(3)]
BLANK = as_png(np.zeros((256, 256, 3), np.uint8))
NAMES = {f"{name}.pmtiles" for name in SENSOR_NAMES}


@pytest.fixture(scope="module")
def bodies(tmp_path_factory):
    """Archives of six places; radar is blank at the last, two hires children of the fifth are."""
    folder, rng = tmp_path_factory.mktemp("served"), np.random.default_rng(3)

    def noisy(tile):
        return tile, as_png(rng.integers(0, 256, (256, 256, 3), dtype=np.uint8))

    children = [child for tile in PLACES for child in tile.children()]
    tiles = {
        "radar": [*map(noisy, PLACES[:-1]), (PLACES[-1], BLANK)],
        "lores": [noisy(tile) for tile in [*PLACES, TileId(ZOOM, 1, 1)]],
        "hires": [*map(noisy, PLACES), *map(noisy, children[:17]), *map(noisy, children[19:])],
    }
    tiles["hires"] += [(child, BLANK) for child in children[17:19]]
    for pairs in tiles.values():
        pairs.sort(key=lambda pair: pair[0].hilbert)
    paths = {n: write_archive(folder / n, pairs, metadata={}) for n, pairs in tiles.items()}
    return {f"{name}.pmtile": path.read_bytes() for name, path in paths.items()}


TILES = dict(zip(SENSOR_NAMES, (6, 7, 30), strict=True))


@pytest.fixture(scope="module")
def running(bodies, tmp_path_factory):
    with RangeServer(tmp_path_factory.mktemp("home")) as server:
        yield server


@pytest.fixture
def server(running, bodies, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setattr(time, "sleep", lambda _: None)
    running.home = Path(running._root)
    for name, body in bodies.items():
        (running.home / name).write_bytes(body)
    archives = {
        sensor: RemoteFile(
            url=f"http://x/{sensor}.pmtile", size=1_000_000, check=partial(check_tiles, tiles)
        )
        for sensor, tiles in TILES.items()
    }
    monkeypatch.setitem(RELEASES, "small", Release(zoom=ZOOM, archives=archives))
    yield running
    running.faults, running.missing = None, ()


@pytest.fixture
def fetched(server, tmp_path):
    def call(**options):
        return fetch_archives("small", tmp_path / "out", **{"base_url": server.url} | options)

    call.folder = tmp_path / "out"
    call.parts = call.folder / ".fetch"
    return call


def names(folder):
    return {path.name for path in folder.iterdir()}


def assert_whole(folder, bodies):
    for name in SENSOR_NAMES:
        assert (folder / f"{name}.pmtiles").read_bytes() == bodies[f"{name}.pmtile"]
    assert names(folder) == NAMES


def test_archives_are_the_servers_bytes_and_come_once(fetched, server, bodies):
    assert_whole(fetched(), bodies)
    before = server.requests
    fetched(base_url="http://127.0.0.1:1")
    fetched(offline=True)
    assert server.requests == before


@pytest.mark.parametrize("seed", range(3))
def test_passing_faults_of_the_server_are_outlasted(fetched, server, bodies, seed):
    server.faults = Faults(seed, unavailable=0.2, truncated=0.2)
    assert_whole(fetched(), bodies)


def test_a_later_call_brings_only_what_is_missing(fetched, server, bodies):
    server.missing = ["/lores.pmtile"]
    with pytest.raises(FetchError, match=r"Could not download .*lores\.pmtile: HTTP 404"):
        fetched()
    assert names(fetched.folder) == {"radar.pmtiles", ".fetch"}
    (fetched.parts / "tmpkilled").write_bytes(b"half")
    server.missing, before = (), len(server.requests)
    assert_whole(fetched(), bodies)
    asked = [path for _, path, *_ in server.requests[before:]]
    assert asked == ["/lores.pmtile", "/hires.pmtile"]


@pytest.mark.parametrize("rule", [{"missing": ["/radar.pmtile"]}, {"tokens": TokenRule()}])
def test_refusals_are_final_at_once_and_leave_no_archive(fetched, server, rule):
    before = len(server.requests)
    [(name, value)] = rule.items()
    setattr(server, name, value)
    with pytest.raises(FetchError, match=r"HTTP 40[34]; .*--base-url"):
        fetched()
    server.tokens = None
    assert len(server.requests) == before + 1
    assert not list(fetched.folder.rglob("*.pmtiles"))


@pytest.mark.parametrize("faults", [Faults(unavailable=1.0), Faults(truncated=1.0)])
def test_a_server_that_never_recovers_is_given_up_and_leaves_no_part(fetched, server, faults):
    server.faults, before = faults, len(server.requests)
    with pytest.raises(FetchError, match=r"Could not download .*radar.*call again later"):
        fetched()
    assert len(server.requests) == before + download.RETRIES + 1
    assert not [path for path in fetched.folder.rglob("*") if path.is_file()]


def test_an_unreachable_server_is_one_error_that_says_what_to_do(fetched):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(FetchError, match=r"refused.*call again later") as told:
        fetched(base_url=f"http://127.0.0.1:{port}")
    assert "\n" not in str(told.value)


def test_another_number_of_tiles_is_refused_saying_what_came(fetched, server, bodies, monkeypatch):
    release = RELEASES["small"]
    wrong = {"radar": replace(release.archives["radar"], check=partial(check_tiles, 1234))}
    with monkeypatch.context() as patch:
        archives = release.archives | wrong
        patch.setitem(RELEASES, "small", replace(release, archives=archives))
        with pytest.raises(FetchError, match=r"it has 6 tiles, not 1,234; delete it to"):
            fetched()
    assert (fetched.parts / "radar.pmtiles").read_bytes() == bodies["radar.pmtile"]
    assert names(fetched.folder) == {".fetch"}
    before = len(server.requests)
    assert_whole(fetched(), bodies)
    assert len(server.requests) == before + 2


@pytest.mark.parametrize("damage", ["page", "short", "index"])
def test_a_file_that_is_no_whole_archive_is_refused(fetched, server, bodies, damage):
    body = bodies["radar.pmtile"]
    broken = {
        "page": b"<html>" * 99,
        "short": body[:-1],
        "index": body[:127] + bytes(200) + body[327:],
    }
    (server.home / "radar.pmtile").write_bytes(broken[damage])
    with pytest.raises(FetchError, match=r"radar.pmtiles is not the published file: .*; delete it"):
        fetched()
    assert names(fetched.folder) == {".fetch"}


def test_too_small_a_disk_is_refused_with_what_is_needed(fetched, server, monkeypatch):
    usage, before = shutil.disk_usage(server.home), server.requests
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2_999_999))
    with pytest.raises(OSError, match="3,000,000 bytes are needed and 2,999,999 are free"):
        fetched()
    assert server.requests == before
    assert not fetched.folder.exists()


def test_a_folder_that_may_not_be_written_to_is_told(fetched, monkeypatch):
    fetched.folder.mkdir(mode=0o555)

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    monkeypatch.setattr(os, "makedirs", refuse)
    with pytest.raises(FetchError, match=r"Could not write .*Permission denied"):
        fetched()


def test_archives_from_elsewhere_are_not_replaced(fetched, server):
    fetched.folder.mkdir()
    (fetched.folder / "lores.pmtiles").write_bytes(b"mine")
    before = server.requests
    with pytest.raises(
        FetchError, match=r"lores\.pmtiles is not the published file: .*move it away"
    ):
        fetched()
    assert (fetched.folder / "lores.pmtiles").read_bytes() == b"mine"
    assert server.requests == before


def test_a_fetched_archive_that_lost_its_end_is_told(fetched):
    path = fetched() / "hires.pmtiles"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(FetchError, match=r"hires\.pmtiles is not .*; move it away and run `salib"):
        fetched()


def test_offline_what_is_missing_is_told_with_the_command(fetched):
    says = r"radar\.pmtiles, .* to work offline: run `salib fetch small --out "
    with pytest.raises(FetchError, match=says):
        fetched(offline=True)
    assert not fetched.folder.exists()


def test_two_fetches_into_one_folder_are_refused(fetched):
    with only_writer(fetched.folder), pytest.raises(InUseError, match="Another run is writing to"):
        fetched()


def test_an_unknown_release_is_refused(tmp_path):
    with pytest.raises(ValueError, match="one of full, small, micro, got 'large'"):
        fetch_archives("large", tmp_path)


def test_stated_releases_have_nine_files():
    urls = {file.url for release in RELEASES.values() for file in release.archives.values()}
    assert len(urls) == 9
    for release in RELEASES.values():
        assert list(release.archives) == list(SENSOR_NAMES)


@pytest.mark.parametrize(
    ("plain_bytes", "expected"), [(2048, PLACES[:4]), (0, [*PLACES[:4], PLACES[5]])]
)
def test_samples_read_a_released_folder_less_its_placeholders(
    fetched, monkeypatch, plain_bytes, expected
):
    monkeypatch.setattr(released, "PLAIN_BYTES", plain_bytes)
    path = index_released(fetched(), ZOOM)
    rows = pd.read_parquet(path)
    found = {TileId(*map(int, place)) for place in rows[["z", "x", "y"]].to_numpy()}
    assert found == set(expected)
    for row in rows.itertuples():
        tile = TileId(int(row.z), int(row.x), int(row.y))
        assert row.tile_id == tile.hilbert
        assert row.gsd_m == pytest.approx(tile_gsd_m(tile))
    samples = data.Samples(path.parent)
    assert len(samples) == len(found)
    for place in range(len(samples)):
        assert samples.image(place, "hires").shape == (512, 512, 3)


def test_a_released_place_needs_all_seven_tiles(tmp_path):
    """One tile is missing for each place but the last: radar, lores, hires, a finer one of four."""
    places = [TileId(ZOOM, 500 + 3 * number, 700 + number) for number in range(8)]
    needed = [
        [(name, place) for name in SENSOR_NAMES] + [("hires", tile) for tile in place.children()]
        for place in places
    ]
    held = {key for number, keys in enumerate(needed) for key in keys[:number] + keys[number + 1 :]}
    rng = np.random.default_rng(17)
    for name in SENSOR_NAMES:
        tiles = [
            (tile, as_png(rng.integers(0, 256, (31, 31, 3), np.uint8)))
            for sensor, tile in sorted(held)
            if sensor == name
        ]
        tiles.sort(key=lambda pair: pair[0].hilbert)
        write_archive(tmp_path / f"{name}.pmtiles", tiles, metadata={})
    found = pd.read_parquet(index_released(tmp_path, ZOOM))
    assert found.tile_id.tolist() == [places[7].hilbert]


def test_a_released_index_trains_on_all_unless_a_share_is_asked_for(fetched):
    folder = fetched()
    for given, share in (({}, 0), ({"valid_share": 0.3}, 0.3)):
        split = pd.read_parquet(index_released(folder, ZOOM, **given)).split
        assert (split == "valid").sum() == int(share * len(split))


def test_places_on_excluded_ground_are_left_out_of_a_released_index(fetched, tmp_path):
    ground = shapely.box(*tile_bounds(PLACES[1])).centroid.buffer(1e-4)
    path = tmp_path / "ground.geojson"
    path.write_text(shapely.to_geojson(ground))
    folder = fetched()
    whole, less = (
        set(pd.read_parquet(index_released(folder, ZOOM, exclude=files)).tile_id)
        for files in ((), [path])
    )
    assert whole - less == {PLACES[1].hilbert}
    path.write_text(shapely.to_geojson(shapely.box(-90, 30, -80, 40)))
    with pytest.raises(ValueError, match="exclude must leave a sample of the release, got none of"):
        index_released(folder, ZOOM, exclude=[path])


def test_a_zoom_without_places_is_refused(fetched):
    with pytest.raises(ValueError, match=r"zoom must be .* got none at 14"):
        index_released(fetched(), 14)
