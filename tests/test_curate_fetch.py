"""Released archives: resumed, whole or absent, counted, listed, and readable as samples."""

import collections
import re
import shutil
import socket
import struct
import subprocess
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pandas as pd
import pytest
import shapely

from salib.config import SENSOR_NAMES
from salib.curate.released.fetch import Published, Release, fetch_archives
from salib.curate.released.index import fetch, index_released
from salib.curate.released.index import index as released
from salib.files import download
from salib.files.artifact import InUseError, only_writer
from salib.files.download import FetchError
from salib.tiles.archive import write_archive
from salib.tiles.codec import encode_png
from salib.tiles.grid import TileId, tile_bounds, tile_gsd_m
from salib.training import data

ZOOM = 15
PLACES = [TileId(ZOOM, 8650 + x, 13120 + y) for x in range(2) for y in range(3)]
BLANK = encode_png(np.zeros((256, 256, 3), np.uint8))


class Files:
    """What the server has, the faults it still owes, and what it did: (name, range, sent)."""

    def __init__(self, bodies):
        self.bodies, self.tags = bodies, dict.fromkeys(bodies, '"1"')
        self.owed = collections.defaultdict(list)
        self.ranges, self.compares, self.stated = True, True, True
        self.log, self.times = [], []

    def sent(self, name):
        return [count for file, _, count in self.log if file == name]

    def asked(self, name):
        return [asked for file, asked, _ in self.log if file == name]


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        files, name = self.server.files, self.path[1:]
        fault, part = (files.owed[name] or [(None, 0)]).pop(0)
        files.times.append(time.monotonic())
        if isinstance(fault, int):
            files.log.append((name, self.headers.get("Range"), 0))
            self.send_response(fault)
            for key, value in (part or {}).items():
                self.send_header(key, value.format(port=self.server.server_port))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = self.body_from(files, name)
        cut = body[: int(len(body) * part)] if fault else body
        files.log.append((name, self.headers.get("Range"), len(cut)))
        self.end_headers()
        self.wfile.write(cut)
        if fault == "stall":
            time.sleep(1.0)
        elif fault == "reset":
            time.sleep(0.1)  # so that the client has read what was sent
            abort = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, abort)
            self.connection.close()

    def body_from(self, files, name):
        body, tag = files.bodies[name], files.tags[name]
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        fresh = not files.compares or self.headers.get("If-Range") == tag
        start = int(asked[1]) if asked and fresh and files.ranges else 0
        self.send_response(206 if start else 200)
        if tag:
            self.send_header("ETag", tag)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if files.stated:
            self.send_header("Content-Length", str(len(body) - start))
        return body[start:]


@pytest.fixture(scope="module")
def bodies(tmp_path_factory):
    """Archives of six places; radar is blank at the last, two hires children of the fifth are."""
    folder, rng = tmp_path_factory.mktemp("served"), np.random.default_rng(3)

    def noisy(tile):
        return tile, encode_png(rng.integers(0, 256, (256, 256, 3), dtype=np.uint8))

    children = [child for tile in PLACES for child in tile.children()]
    tiles = {
        "radar": [*map(noisy, PLACES[:-1]), (PLACES[-1], BLANK)],
        "lores": [noisy(tile) for tile in [*PLACES, TileId(ZOOM, 1, 1)]],
        "hires": [*map(noisy, PLACES), *map(noisy, children[:17]), *map(noisy, children[19:])],
    }
    tiles["hires"] += [(child, BLANK) for child in children[17:19]]
    paths = {n: write_archive(folder / n, pairs, metadata={}) for n, pairs in tiles.items()}
    return {f"{name}.pmtile": path.read_bytes() for name, path in paths.items()}


SPEC = Release(
    name="test",
    zoom=ZOOM,
    joint=4,
    archives={
        name: Published(file=f"{name}.pmtile", tiles=tiles, gigabytes=0.001)
        for name, tiles in zip(SENSOR_NAMES, (6, 7, 30), strict=True)
    },
)


class Server(ThreadingHTTPServer):
    def handle_error(self, request, address):
        """Say nothing of clients that leave."""


@pytest.fixture
def server(bodies, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setattr(download, "BACKOFF_S", 0.01)
    with Server(("127.0.0.1", 0), Handler) as http:
        http.files = Files(dict(bodies))
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield http
        http.shutdown()
        thread.join()


@pytest.fixture
def files(server):
    return server.files


@pytest.fixture
def fetched(server, tmp_path):
    lines = []

    def call(spec=SPEC, **options):
        url = f"http://127.0.0.1:{server.server_port}"
        return fetch_archives(spec, tmp_path, **{"base_url": url, "report": lines.append} | options)

    call.folder, call.lines = tmp_path, lines
    return call


def final(folder):
    return {path.name for path in folder.glob("*.pmtiles")}


def assert_whole(folder, files):
    for name in SENSOR_NAMES:
        assert (folder / f"{name}.pmtiles").read_bytes() == files.bodies[f"{name}.pmtile"]
    assert {path.name for path in folder.iterdir()} == {
        *(f"{name}.pmtiles" for name in SENSOR_NAMES),
        "sha256sums.txt",
    }


def test_archives_are_the_servers_bytes_and_their_sums_check(fetched, files):
    folder = fetched()
    assert_whole(folder, files)
    check = ["sha256sum", "--strict", "-c", "sha256sums.txt"]
    assert subprocess.run(check, cwd=folder, capture_output=True, check=False).returncode == 0
    assert len(fetched.lines) == 3


def test_a_second_call_asks_the_server_for_nothing(fetched, files):
    fetched()
    before = list(files.log)
    fetched(base_url="http://127.0.0.1:1")
    assert files.log == before


@pytest.mark.parametrize("code", [429, 503])
def test_retry_after_is_waited_for(fetched, files, code):
    files.owed["radar.pmtile"] = [(code, {"Retry-After": "1"})]
    assert_whole(fetched(), files)
    assert files.times[1] - files.times[0] >= 1


def test_passing_faults_of_the_server_are_outlasted(fetched, files):
    files.owed["lores.pmtile"] = [(code, None) for code in (500, 502, 504)]
    assert_whole(fetched(), files)


@pytest.mark.parametrize("fault", ["cut", "reset", "stall"])
def test_a_body_broken_off_goes_on_where_it_ended_within_one_call(
    fetched, files, monkeypatch, fault
):
    monkeypatch.setattr(download, "TIMEOUT_S", (1.0, 0.3))
    files.owed["hires.pmtile"] = [(fault, 0.5), (fault, 0.3)]
    assert_whole(fetched(), files)
    body = files.bodies["hires.pmtile"]
    first, *later = files.asked("hires.pmtile")
    assert first is None
    starts = [int(asked.removeprefix("bytes=").rstrip("-")) for asked in later]
    assert len(starts) == 2
    assert 0 < starts[0] < starts[1]
    assert files.sent("hires.pmtile")[-1] == len(body) - starts[1]


def stopped(fetched, files, name="lores.pmtile", part=0.6):
    """A call that ends with a part of one archive: the bytes that are kept."""
    files.owed[name] = [("cut", part), (404, None)]
    with pytest.raises(FetchError, match="HTTP 404"):
        fetched()
    kept = (fetched.folder / name.replace(".pmtile", ".pmtiles.part")).stat().st_size
    assert 0 < kept < len(files.bodies[name])
    files.log.clear()
    return kept


def test_a_later_call_brings_only_the_remainder(fetched, files):
    kept = stopped(fetched, files)
    assert final(fetched.folder) == {"radar.pmtiles"}
    assert_whole(fetched(), files)
    assert files.sent("radar.pmtile") == []
    assert files.sent("lores.pmtile") == [len(files.bodies["lores.pmtile"]) - kept]


@pytest.mark.parametrize("compares", [True, False])
def test_a_file_that_changed_starts_anew_even_if_the_server_ignores_if_range(
    fetched, files, compares
):
    stopped(fetched, files)
    changed = bytearray(files.bodies["lores.pmtile"])
    changed[5000:5100] = bytes(100)
    files.bodies["lores.pmtile"], files.tags["lores.pmtile"] = bytes(changed), '"2"'
    files.compares = compares
    assert_whole(fetched(), files)


def test_bytes_of_another_address_are_not_joined(server, fetched, files):
    stopped(fetched, files)
    assert_whole(fetched(base_url=f"http://localhost:{server.server_port}"), files)
    assert files.asked("lores.pmtile") == [None]


@pytest.mark.parametrize("tag", ['W/"1"', None])
def test_without_a_strong_tag_or_date_bytes_are_not_joined(fetched, files, tag):
    files.tags = dict.fromkeys(files.tags, tag)
    stopped(fetched, files)
    assert_whole(fetched(), files)
    assert files.asked("lores.pmtile") == [None]


def test_a_server_without_ranges_is_read_from_the_start(fetched, files):
    files.ranges = False
    stopped(fetched, files)
    assert_whole(fetched(), files)
    assert files.sent("lores.pmtile") == [len(files.bodies["lores.pmtile"])]


@pytest.mark.parametrize("extra", [0, 5])
def test_a_part_already_of_full_length_costs_a_byte(fetched, files, extra):
    stopped(fetched, files)
    body = files.bodies["lores.pmtile"]
    (fetched.folder / "lores.pmtiles.part").write_bytes(body + bytes(extra))
    assert_whole(fetched(), files)
    assert files.sent("lores.pmtile") == [1]


@pytest.mark.parametrize("code", [403, 404, 410])
def test_refusals_are_final_at_once_and_leave_no_archive(fetched, files, code):
    files.owed["radar.pmtile"] = [(code, None)] * 9
    with pytest.raises(FetchError, match=f"HTTP {code}.*give another base_url"):
        fetched()
    assert len(files.log) == 1
    assert final(fetched.folder) == set()


def test_a_server_that_never_recovers_is_given_up_and_the_part_kept(fetched, files):
    kept = stopped(fetched, files)
    files.owed["lores.pmtile"] = [(503, None)] * 99
    with pytest.raises(FetchError, match=f"cannot be reached.*{kept:,} bytes are kept"):
        fetched()
    assert len(files.log) == download.ATTEMPTS + 1
    files.owed.clear()
    files.log.clear()
    fetched()
    assert files.sent("lores.pmtile") == [len(files.bodies["lores.pmtile"]) - kept]


def test_a_body_that_always_breaks_off_without_gain_is_given_up(fetched, files):
    files.ranges = False
    files.owed["radar.pmtile"] = [("cut", 0.5)] * 99
    with pytest.raises(FetchError, match=f"broke off {download.ATTEMPTS} times"):
        fetched()
    assert len(files.log) <= download.ATTEMPTS + 1
    assert final(fetched.folder) == set()


def test_an_unreachable_server_is_one_error_that_says_what_to_do(fetched, files):
    kept = stopped(fetched, files)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(FetchError, match=r"cannot be reached.*call again later"):
        fetched(base_url=f"http://127.0.0.1:{port}")
    assert (fetched.folder / "lores.pmtiles.part").stat().st_size == kept


def test_a_redirect_to_a_signed_address_keeps_the_range(fetched, files):
    files.bodies["signed"], files.tags["signed"] = files.bodies["lores.pmtile"], '"1"'
    kept = stopped(fetched, files)
    files.owed["lores.pmtile"] = [(302, {"Location": "http://127.0.0.1:{port}/signed"})]
    fetched()
    assert files.sent("signed") == [len(files.bodies["signed"]) - kept]


def test_another_number_of_tiles_is_refused_saying_what_came(fetched, files):
    wrong = replace(SPEC.archives["radar"], tiles=1234)
    with pytest.raises(FetchError, match=r"1,234 tiles.*got 6 in the header and 6 listed"):
        fetched(replace(SPEC, archives=SPEC.archives | {"radar": wrong}))
    assert final(fetched.folder) == set()
    kept = (fetched.folder / "radar.pmtiles.part").read_bytes()
    assert kept == files.bodies["radar.pmtile"]
    files.log.clear()
    assert_whole(fetched(), files)
    assert files.sent("radar.pmtile") == [1]


@pytest.mark.parametrize("damage", ["page", "short", "index"])
def test_a_file_that_is_no_whole_archive_is_refused(fetched, files, damage):
    body = files.bodies["radar.pmtile"]
    broken = {
        "page": b"<html>" * 99,
        "short": body[:-1],
        "index": body[:127] + bytes(200) + body[327:],
    }
    files.bodies["radar.pmtile"] = broken[damage]
    with pytest.raises(FetchError, match=r"radar must be a whole archive.*kept in .*\.part"):
        fetched()
    assert final(fetched.folder) == set()


@pytest.mark.parametrize(("gigabytes", "asked"), [(0.001, 0), (0.0, 1)])
def test_too_small_a_disk_is_refused_with_what_is_needed(
    fetched, files, monkeypatch, gigabytes, asked
):
    needed = len(files.bodies["radar.pmtile"]) if asked else 3_000_000
    usage = shutil.disk_usage(fetched.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))
    spec = replace(
        SPEC, archives={n: replace(a, gigabytes=gigabytes) for n, a in SPEC.archives.items()}
    )
    with pytest.raises(OSError, match=f"{needed:,} bytes are needed and {needed - 1:,} are free"):
        fetched(spec)
    assert len(files.log) == asked
    assert not list(fetched.folder.glob("*.pmtiles*"))


def test_only_the_remainder_needs_room(fetched, files, monkeypatch):
    kept = stopped(fetched, files)
    rooms = []
    for module in (fetch, download):
        monkeypatch.setattr(module, "check_disk_space", lambda folder, needed: rooms.append(needed))
    fetched()
    assert rooms[0] == 2_000_000 - kept
    assert rooms[1] == len(files.bodies["lores.pmtile"]) - kept


def test_an_answer_without_a_length_is_refused(fetched, files):
    files.stated = False
    with pytest.raises(FetchError, match="does not state its length"):
        fetched()


def test_archives_from_elsewhere_are_not_replaced(fetched, files):
    (fetched.folder / "lores.pmtiles").write_bytes(b"mine")
    with pytest.raises(FetchError, match=r"fetched archives only, got .*lores\.pmtiles"):
        fetched()
    assert (fetched.folder / "lores.pmtiles").read_bytes() == b"mine"
    assert files.log == []


def test_a_fetched_archive_that_lost_its_end_is_told(fetched):
    path = fetched() / "hires.pmtiles"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(FetchError, match=r"hires must be a whole archive.*delete .* to fetch"):
        fetched()


def test_offline_what_is_there_is_used_and_what_is_not_is_told_with_the_command(fetched, files):
    with pytest.raises(FetchError, match=r"hold radar, lores, hires .* `salib fetch test --out "):
        fetched(offline=True)
    assert not list(fetched.folder.iterdir())
    fetched()
    before = list(files.log)
    fetched(offline=True)
    assert files.log == before


def test_two_fetches_into_one_folder_are_refused(fetched):
    with only_writer(fetched.folder), pytest.raises(InUseError, match="Another run is writing to"):
        fetched()


def test_an_unknown_release_is_refused(tmp_path):
    with pytest.raises(ValueError, match="one of full, small, micro, got 'large'"):
        fetch_archives("large", tmp_path)


def test_stated_releases_have_five_hires_tiles_a_place_or_more():
    assert len({a.file for r in fetch.RELEASES.values() for a in r.archives.values()}) == 9
    for release in fetch.RELEASES.values():
        assert list(release.archives) == list(SENSOR_NAMES)
        assert release.joint <= min(a.tiles for a in release.archives.values())
        assert 5 * release.joint <= release.archives["hires"].tiles


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
            (tile, encode_png(rng.integers(0, 256, (31, 31, 3), np.uint8)))
            for sensor, tile in sorted(held)
            if sensor == name
        ]
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
    with pytest.raises(ValueError, match="exclude must leave a place of the release, got none of"):
        index_released(folder, ZOOM, exclude=[path])


def test_a_zoom_without_places_is_refused(fetched):
    with pytest.raises(ValueError, match=r"zoom must be .* got none at 14"):
        index_released(fetched(), 14)
