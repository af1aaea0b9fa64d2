"""Curation over the network: an API searched, files read by range, faults survived or told."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import dask
import distributed
import numpy as np
import pandas as pd
import pytest
import shapely
from curate_scenes import write_small_world
from planetary_computer import sas
from servers import Faults, RangeServer, TokenRule, files_from_a_thread, stac_api

from salib.config import SENSOR_NAMES
from salib.curate import Engine, Rules, curate, run, shards
from salib.curate.output import outputs
from salib.curate.plan import estimate_bytes, make_blocks, make_plan
from salib.curate.search.catalog import search, search_all
from salib.curate.search.sources import find_items
from salib.files.artifact import file_digest
from salib.rasters import remote
from salib.rasters.reader import BlockReader, Span
from salib.tiles.checks import verify
from salib.tiles.grid import tile_bounds, tiles_of_bbox

ZOOM = 14
ARCHIVES = ("radar.pmtiles", "lores.pmtiles", "hires.pmtiles")
AREA = shapely.box(-98.5, 38.3, -98.2, 38.6)
OUTPUTS = outputs(SENSOR_NAMES)
WHOLE = {*OUTPUTS, "made_from.json"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_small_world(folder, km=7)
    return folder


@pytest.fixture(scope="module")
def quiet(world, tmp_path_factory):
    """What a serial run over the same files on disk gives."""
    return curate(world / "catalog.json", tmp_path_factory.mktemp("quiet") / "t", zoom=ZOOM)


QUICK = {"GDAL_HTTP_RETRY_DELAY": "0.01", "GDAL_HTTP_CONNECTTIMEOUT": "5"}


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr("salib.files.jobs.FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(remote, "GDAL", remote.GDAL | QUICK)
    monkeypatch.setattr("salib.curate.search.sources.RETRIES", 0)


def in_workers(text):
    """A context in which Dask's worker processes begin with this code."""
    return dask.config.set({"distributed.worker.preload": [f"{text}\n# not a module's name"]})


def online(world, url):
    items = find_items(world / "catalog.json", Rules(), None)
    for item in items:
        for asset in item.assets.values():
            asset.href = f"{url}/{Path(asset.href).name}"
    return items


def same(folder, quiet):
    assert [file_digest(folder / name) for name in ARCHIVES] == [
        file_digest(quiet / name) for name in ARCHIVES
    ]
    for name in ("index.parquet", "tiles.parquet"):
        found, expected = (pd.read_parquet(path / name) for path in (folder, quiet))
        pd.testing.assert_frame_equal(found, expected)


@pytest.mark.parametrize("name", ["processes", "threads", "dask"])
def test_an_api_and_files_by_range_give_the_bytes_of_files_on_disk(world, quiet, tmp_path, name):
    with RangeServer(world) as server, stac_api(online(world, server.url)) as api:
        how = Engine(name=name, workers=1 if name == "processes" else 2)
        out = curate(api, tmp_path / "out", zoom=ZOOM, area=AREA, engine=how)
        asked = len(server.requests)
        curate(api, out, zoom=ZOOM, area=AREA)
        assert len(server.requests) == asked
    same(out, quiet)
    curate(api, out, zoom=ZOOM, area=AREA)  # the servers are gone; nothing is asked of them


def test_a_snapshot_repeats_the_run(world, quiet, tmp_path):
    with RangeServer(world) as server, stac_api(online(world, server.url)) as api:
        out = curate(api, tmp_path / "out", zoom=ZOOM, area=AREA)
        again = curate(out / "scenes.json", tmp_path / "again", zoom=ZOOM, area=AREA)
    same(again, quiet)


@pytest.mark.parametrize("name", ["processes", "threads", "dask"])
def test_unavailable_and_truncated_answers_are_asked_again(world, quiet, tmp_path, name):
    quick = "from salib.rasters import remote; from salib.files import jobs\n"
    quick += f"jobs.FIRST_WAIT_S = 0.01; remote.GDAL |= {QUICK}"
    with RangeServer(world) as server, stac_api(online(world, server.url)) as api:
        server.faults = Faults(seed=5, unavailable=0.3, truncated=0.1)
        how = Engine(name=name, workers=1 if name == "processes" else 2, retries=30)
        with in_workers(quick):
            out = curate(api, tmp_path / "out", zoom=ZOOM, area=AREA, engine=how)
        assert {503} & {status for *_, status in server.requests}
    same(out, quiet)


def test_overviews_that_could_not_be_read_are_asked_for_again(world, monkeypatch):
    monkeypatch.setattr(remote, "GDAL", remote.GDAL | {"GDAL_HTTP_MAX_RETRY": "0"})
    with RangeServer(world, faults=Faults(seed=75, unavailable=0.4)) as server:
        href = f"{server.url}/naip-0.tif"
        with remote.reading([href], requester_pays=False):
            reader = BlockReader(href, bands=3, how="linear")
        assert [status for *_, status in server.requests][:4] == [200, 206, 503, 206]
    assert reader.facts.overviews == [2, 4]  # as the world is written


def test_a_read_that_failed_for_good_may_be_asked_again_in_the_same_process(world, monkeypatch):
    monkeypatch.setattr(remote, "GDAL", remote.GDAL | {"GDAL_HTTP_MAX_RETRY": "0"})
    with RangeServer(world, faults=Faults(unavailable=1.0)) as server:
        href = f"{server.url}/naip-0.tif"
        for faults in (server.faults, None):
            server.faults = faults
            with remote.reading([href], requester_pays=False):
                if faults:
                    with pytest.raises(remote.ReadError, match="HTTP 503"):
                        BlockReader(href, bands=3, how="linear")
                else:
                    BlockReader(href, bands=3, how="linear")


@pytest.mark.parametrize("zoom", [ZOOM, ZOOM - 2])
def test_no_request_is_waited_for_under_the_interpreters_lock(world, monkeypatch, zoom):
    short = {"GDAL_HTTP_MAX_RETRY": "0", "GDAL_HTTP_TIMEOUT": "5"}
    monkeypatch.setattr(remote, "GDAL", remote.GDAL | remote.FRESH | short)
    span = Span.around(tiles_of_bbox(AREA.centroid.buffer(1e-6).bounds, zoom))
    on_disk = BlockReader(str(world / "naip-0.tif"), bands=3, how="linear")
    start = time.monotonic()
    with files_from_a_thread(world) as url, remote.reading([url], requester_pays=False):
        reader = BlockReader(f"{url}/naip-0.tif", bands=3, how="linear")
        found = reader.read(span)
    assert time.monotonic() - start < 5
    assert reader.facts.overviews == [2, 4]
    for values, expected in zip(found, on_disk.read(span), strict=True):
        assert expected.any()
        np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize(
    ("text", "again"),
    [
        ("InvalidCredentials: No valid AWS credentials found", False),
        ("Access Denied", False),
        ("NoSuchKey: The specified key does not exist.", False),
        ("HTTP response code: 404", False),
        ("HTTP response code: 503", True),
        ("TIFFReadEncodedTile() failed", True),
    ],
)
def test_of_a_bucket_only_what_may_pass_is_asked_again(text, again):
    assert remote.failure("s3://sentinel-s1-l1c/GRD/vv.tiff", OSError(text)).again == again


def test_an_api_that_never_answers_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("salib.curate.search.sources.TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ValueError, match=f"can be reached, got {address}"):
            find_items(address, Rules(), AREA)


def test_a_missing_file_is_final_and_a_refusal_of_an_unsigned_one_too(world):
    with RangeServer(world, missing={"/naip-0.tif"}) as server:
        asked = f"{server.url}/naip-0.tif"
        gone = remote.failure(asked, OSError("404"))
        server.missing, server.tokens = set(), TokenRule()
        refused = remote.failure(asked, OSError("403"))
    lost = remote.failure(asked, OSError("timeout"))
    assert (gone.again, refused.again, lost.again) == (False, False, True)
    assert "gone (HTTP 404)" in str(gone)
    assert "Could not reach" in str(lost)


@pytest.fixture
def signed(world, monkeypatch):
    """A server whose files need tokens, with an API in front of it."""
    with RangeServer(world.parent, tokens=TokenRule()) as server:
        monkeypatch.setattr(remote, "SIGNED_HOST", server.url.removeprefix("http://"))
        monkeypatch.setenv("PC_SDK_SAS_URL", f"{server.url}/sas")
        sas.Settings.get.cache_clear()
        with stac_api(online(world, f"{server.url}/{world.name}")) as api:
            yield server, api
    sas.Settings.get.cache_clear()
    sas.TOKEN_CACHE.clear()


def test_a_token_that_ran_out_is_renewed(signed, quiet, tmp_path, monkeypatch):
    server, api = signed
    rendering = shards.commit

    def expire_first(block):
        if getattr(expire_first, "done", None) != block.path:
            expire_first.done = block.path
            server.tokens.expire()
        return rendering(block)

    monkeypatch.setattr(run, "commit", expire_first)
    out = curate(api, tmp_path / "out", zoom=ZOOM, area=AREA)
    assert server.tokens.issued > 1
    same(out, quiet)


def test_tokens_that_are_always_refused_end_the_run_with_the_reason(signed, tmp_path):
    server, api = signed
    server.tokens = TokenRule(refuses=True)
    with pytest.raises(ValueError, match=r"SAS token for .* is refused \(HTTP 403\)"):
        curate(api, tmp_path / "out", zoom=ZOOM, area=AREA, engine=Engine(retries=1))
    assert server.tokens.issued > 1


def test_a_token_that_is_not_to_be_had_ends_the_run_with_the_reason(signed, tmp_path):
    server, api = signed
    server.missing = {f"/sas/127/{Path(server._root, 'x').parent.name}"}
    server.tokens = None
    with pytest.raises(ValueError, match=r"Could not obtain a SAS token for .*tif: 404"):
        curate(api, tmp_path / "out", zoom=ZOOM, area=AREA)


def test_a_busy_token_server_is_not_waited_for_as_long_as_it_asks(signed, monkeypatch):
    server, _ = signed
    server.faults, slept = Faults(unavailable=1.0, retry_after=86_400), []
    monkeypatch.setattr(time, "sleep", slept.append)
    with pytest.raises(remote.ReadError, match="Could not obtain a SAS token for") as caught:
        remote.location(f"{server.url}/container/scene.tif")
    assert caught.value.again
    assert 1 <= len(slept) == len(set(slept))
    assert max(slept) <= 60


def test_blocks_that_fail_are_listed_and_tried_again_later(world, quiet, tmp_path):
    said = []
    with RangeServer(world) as server, stac_api(online(world, server.url)) as api:
        server.missing = {"/naip-1.tif", "/s1-1-vh.tif"}
        how = Engine(max_failed=0.9)
        out = curate(api, tmp_path / "out", zoom=ZOOM, area=AREA, engine=how, report=said.append)
        listed = pd.read_csv(out / "quarantine.csv")
        assert listed.reason.str.contains("HTTP 404").all()
        assert "run again" in said[-1]
        assert len(pd.read_parquet(out / "index.parquet")) < len(
            pd.read_parquet(quiet / "index.parquet")
        )
        assert all(verify(out / name) == [] for name in ARCHIVES)
        server.missing = set()
        curate(api, out, zoom=ZOOM, area=AREA)
    assert not (out / "quarantine.csv").exists()
    same(out, quiet)


def test_too_many_failed_blocks_end_the_run_and_keep_what_was_rendered(world, quiet, tmp_path):
    with RangeServer(world) as server, stac_api(online(world, server.url)) as api:
        server.broken = {"/naip-1.tif"}
        with pytest.raises(ValueError, match=r"1 of .* blocks failed, .* 0\.0% allows; block"):
            curate(
                api,
                tmp_path / "out",
                zoom=ZOOM,
                area=AREA,
                engine=Engine(retries=1, max_failed=0.0),
            )
        kept = list((tmp_path / "out").glob(".shards/*.arrow"))
        assert "HTTP 500" in (tmp_path / "out" / "quarantine.csv").read_text()
        assert not any((tmp_path / "out" / name).exists() for name in ARCHIVES)
        server.broken = set()
        out = curate(api, tmp_path / "out", zoom=ZOOM, area=AREA)
    assert kept
    same(out, quiet)


RUN = (
    "import sys\nfrom salib.curate import curate\n"
    "curate(*sys.argv[1:3], zoom=14, area=tuple(map(float, sys.argv[3:])))\n"
)


def test_a_run_killed_while_it_searches_leaves_a_lock_and_searches_again(world, quiet, tmp_path):
    asked, folder = [], tmp_path / "0"

    def kill_third():
        asked.append(1)
        if len(asked) == 3:
            process.kill()
            process.wait()

    with RangeServer(world) as server, stac_api(online(world, server.url), kill_third) as api:
        command = [sys.executable, "-c", RUN, api, str(folder), *map(str, AREA.bounds)]
        process = subprocess.Popen(command)
        assert process.wait() == -signal.SIGKILL
        assert [path.name for path in folder.iterdir()] == [".lock"]
        kill_at_puts(api, tmp_path, [0])
        assert [path.suffix for path in folder.iterdir() if path.name != ".lock"] == [".part"]
        curate(api, folder, zoom=ZOOM, area=AREA)
    assert {path.name for path in folder.iterdir()} == WHOLE
    same(folder, quiet)


def test_a_run_killed_while_it_finishes_goes_on_without_a_request(world, quiet, tmp_path):
    counts = (1, 2, 3, 4, len(WHOLE) - 1, len(WHOLE))
    with RangeServer(world) as server, stac_api(online(world, server.url)) as api:
        kill_at_puts(api, tmp_path, counts)
    for placed in counts:
        folder = tmp_path / str(placed)
        found = {path.name: file_digest(path) for path in folder.glob("[!.]*")}
        assert len(found) == placed
        assert "index.parquet" not in found or {*ARCHIVES, "tiles.parquet"} < {*found}
        curate(api, folder, zoom=ZOOM, area=AREA)  # the servers are gone
        assert {path.name for path in folder.iterdir()} == WHOLE
        assert found == {name: file_digest(folder / name) for name in found}
        same(folder, quiet)


def kill_at_puts(api, base, counts):
    """Runs that a signal 9 ends when so many files are in place in `base`/count, the next one not.

    The first begins with nothing, the others with what it left. With all files in place the signal
    comes before the shards are cleared away.
    """
    script = """if True:
        import os, shutil, signal, sys
        from pathlib import Path
        from salib.curate import curate

        def die(*_, **__):
            os.kill(os.getpid(), signal.SIGKILL)

        def put(part, path):
            if path.parent == folder:
                left.pop() if left else die()
            return replace(part, path)

        replace, first = Path.replace, Path(sys.argv[2], sys.argv[7])
        for count in sys.argv[7:]:
            folder, left = Path(sys.argv[2], count), [None] * int(count)
            if folder != first:
                shutil.copytree(first, folder)
            child = os.fork()
            if not child:
                Path.replace, shutil.rmtree = put, die
                curate(sys.argv[1], folder, zoom=14, area=tuple(map(float, sys.argv[3:7])))
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.wait()[1]) == -signal.SIGKILL, count
    """
    numbers = map(str, (*AREA.bounds, *counts))
    subprocess.run([sys.executable, "-c", script, api, str(base), *numbers], check=True)


def kill_a_worker(world, folder, name):
    """Run over two workers, kill one once there is a file; the exit status and what was said."""
    script = (
        "import sys\nfrom salib.curate import curate, Engine\n"
        "if __name__ == '__main__':\n"
        "    curate(*sys.argv[1:3], zoom=14, engine=Engine(name=sys.argv[3], workers=2))\n"
    )
    path = folder.with_name("run.py")
    path.write_text(script)
    command = [sys.executable, path, world / "catalog.json", folder, name]
    with folder.with_name("said").open("w+") as said:
        process = subprocess.Popen(list(map(str, command)), stdout=said, stderr=said)
        killed = None
        while killed is None and process.poll() is None:
            if list(folder.glob(".shards/*.arrow")):
                workers = [child for child in descendants(process.pid) if is_worker(child)]
                killed = workers[0] if workers else None
            time.sleep(0.002)
        assert killed, "the run was over before a worker was killed"
        os.kill(killed, signal.SIGKILL)
        status = process.wait(120)
        said.seek(0)
        return status, said.read()


def test_a_killed_dask_worker_changes_nothing(world, quiet, tmp_path):
    assert kill_a_worker(world, tmp_path / "out", "dask")[0] == 0
    same(tmp_path / "out", quiet)


def test_a_block_that_kills_its_workers_is_left_out_alone(world, quiet, tmp_path):
    plan = make_plan(search_all(find_items(world / "catalog.json", Rules(), None)), zoom=ZOOM)
    blocks = make_blocks(plan, tmp_path)
    name = blocks[len(blocks) // 2].path.stem
    begun = tmp_path / "begun"
    deadly = f"""if True:
        import os
        from salib.curate import shards

        def commit(block, render=getattr(shards.commit, "render", shards.commit)):
            with open({str(begun)!r}, "a") as file:
                file.write(block.path.stem + " ")
            os.kill(os.getpid(), 9) if block.path.stem == {name!r} else render(block)

        shards.commit, commit.render = commit, *commit.__defaults__
    """
    how = Engine(name="dask", max_failed=0.9)
    with in_workers(deadly), dask.config.set({"distributed.scheduler.allowed-failures": 0}):
        out = curate(world / "catalog.json", tmp_path / "out", zoom=ZOOM, engine=how)
    listed = pd.read_csv(out / "quarantine.csv")
    assert listed.block.tolist() == [name]
    assert listed.reason.str.contains("it killed its workers").all()
    rendered = [block for block in begun.read_text().split() if block != name]
    assert len(rendered) == len(set(rendered)) == len(blocks) - 1
    same(curate(world / "catalog.json", out, zoom=ZOOM), quiet)


USED = []


def noting_the_worker(block):
    USED.append(distributed.get_worker().address)
    return shards.commit(block)


def test_blocks_go_to_the_cluster_of_the_scheduler_and_leave_it(
    world, quiet, tmp_path, monkeypatch
):
    monkeypatch.setattr(run, "commit", noting_the_worker)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=":0"
    ) as cluster:
        how = Engine(name="dask", scheduler=cluster.scheduler_address)
        out = curate(world / "catalog.json", tmp_path / "out", zoom=ZOOM, engine=how)
        assert set(USED) == {worker.address for worker in cluster.workers.values()}
        with distributed.Client(cluster) as client:
            assert client.submit(pow, 3, 4).result() == 81
    same(out, quiet)


def test_a_scheduler_out_of_reach_is_told(world, tmp_path):
    how = Engine(name="dask", scheduler="tcp://127.0.0.1:9")
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "100ms"}),
        pytest.raises(ValueError, match="Could not reach the Dask scheduler tcp://127"),
    ):
        curate(world / "catalog.json", tmp_path / "out", zoom=ZOOM, engine=how)


def test_a_killed_worker_of_the_pool_is_told_and_the_run_goes_on(world, quiet, tmp_path):
    status, said = kill_a_worker(world, tmp_path / "out", "processes")
    assert status
    assert "A worker was killed (out of memory?). Finished blocks are kept" in said
    same(curate(world / "catalog.json", tmp_path / "out", zoom=ZOOM), quiet)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"name": "spark"}, "engine must be one of processes, threads, dask"),
        ({"workers": 0}, "workers must be at least 1, got 0"),
        ({"retries": -1}, "retries must not be negative, got -1"),
        ({"max_failed": 1.0}, "max_failed must be at least 0 and below 1"),
        ({"scheduler": "tcp://x:1"}, "scheduler must go with engine dask"),
    ],
)
def test_an_engine_out_of_range_is_refused(options, says):
    with pytest.raises(ValueError, match=says):
        Engine(**options)


def descendants(process):
    lists = [path.read_text() for path in Path(f"/proc/{process}/task").glob("*/children")]
    children = [int(child) for text in lists for child in text.split()]
    return children + [deeper for child in children for deeper in descendants(child)]


def is_worker(process):
    return b"spawn_main" in Path(f"/proc/{process}/cmdline").read_bytes()


def test_a_full_disk_is_told_and_the_run_goes_on_when_there_is_room(world, quiet, tmp_path):
    script = (
        "import resource, signal, sys\nfrom salib.curate import curate\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, 1_500_000))\n"
        "try:\n    curate(sys.argv[1], sys.argv[2], zoom=14)\n"
        "except OSError as error:\n    print(error)\n    sys.exit(3)\n"
    )
    folder = tmp_path / "out"
    run = subprocess.run(
        [sys.executable, "-c", script, str(world / "catalog.json"), str(folder)],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 3, run.stderr
    assert "is full. Finished work is kept: free space" in run.stdout
    assert not any((folder / name).exists() for name in ARCHIVES)
    curate(world / "catalog.json", folder, zoom=ZOOM)
    same(folder, quiet)


def test_a_disk_far_too_full_is_refused_before_any_work(world, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OSError, match=r"Not enough disk space in .* 1,000,000 are free"):
        curate(world / "catalog.json", tmp_path / "out", zoom=ZOOM)


def test_what_is_rendered_needs_no_room_again(world, quiet, tmp_path, monkeypatch):
    catalog, out = world / "catalog.json", tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("salib.curate.run.write_output", lambda *a, **k: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            curate(catalog, out, zoom=ZOOM)
    tiles = len(make_plan(search_all(find_items(catalog, Rules(), None)), zoom=ZOOM).tiles)
    needed = 7 * run.TILE_BYTES * tiles  # of the archives alone
    usage = shutil.disk_usage(tmp_path)
    for free, fits in ((needed - 1, False), (needed, True)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: usage._replace(free=free))
        if fits:
            same(curate(catalog, out, zoom=ZOOM), quiet)
        else:
            with pytest.raises(OSError, match="Not enough disk space"):
                curate(catalog, out, zoom=ZOOM)


def test_every_matching_item_is_found_whatever_the_page(world, monkeypatch):
    items = online(world, "http://127.0.0.1:9")
    template = next(item for item in items if item.id == "S2_0")
    rng = np.random.default_rng(8)
    wide, inside = [], 0
    area = shapely.box(-99.0, 38.0, -97.0, 39.4)
    for number in range(317):
        west, south = rng.uniform(-101, -96), rng.uniform(37, 40)
        place = shapely.box(west, south, west + 0.3, south + 0.2)
        copy = template.clone()
        copy.id, copy.bbox = f"S2_{number:03d}", list(place.bounds)
        copy.geometry = shapely.geometry.mapping(place)
        inside += place.intersects(area)
        wide.append(copy)
    monkeypatch.setattr("salib.curate.search.sources.PAGE", 23)
    others = [item for item in items if item.collection_id != "sentinel-2-l2a"]
    with stac_api(wide + others) as api:
        found = find_items(api, Rules(), area)
    lores = [item for item in found if item.collection_id == "sentinel-2-l2a"]
    assert len({item.id for item in lores}) == len(lores) == inside
    assert len(search(found, "lores", area=area)) == inside


def test_an_api_out_of_reach_or_without_the_collections_is_told(world, tmp_path):
    with pytest.raises(ValueError, match=r"can be reached, got http://127\.0\.0\.1:9"):
        curate("http://127.0.0.1:9", tmp_path / "out", zoom=ZOOM, area=AREA)
    lores = [i for i in online(world, "http://x") if i.collection_id == "sentinel-2-l2a"]
    with stac_api(lores) as api:
        with pytest.raises(ValueError, match="search must find a scene: the catalogue has 0"):
            curate(api, tmp_path / "out", zoom=ZOOM, area=AREA)
        with pytest.raises(ValueError, match="area must be given to search"):
            curate(api, tmp_path / "out", zoom=ZOOM)
    assert not (tmp_path / "out").exists()


def test_an_area_outside_naip_says_so(world, tmp_path):
    items = [i for i in online(world, "http://x") if i.collection_id != "naip"]
    far = shapely.box(10.0, 50.0, 10.4, 50.3)
    for item in items:
        item.geometry, item.bbox = shapely.geometry.mapping(far.buffer(1)), [9, 49, 12, 52]
    naip = [i for i in online(world, "http://x") if i.collection_id == "naip"]
    with (
        stac_api(items + naip) as api,
        pytest.raises(ValueError, match=r"naip search must find a scene: .* NAIP flies"),
    ):
        curate(api, tmp_path / "out", zoom=ZOOM, area=far.bounds)
    assert not (tmp_path / "out").exists()


def test_files_that_are_billed_need_consent(world, tmp_path):
    items = online(world, "s3://naip-analytic/ks")
    says = r"requester_pays must be set to read up to .* GB of"
    with stac_api(items) as api, pytest.raises(ValueError, match=says):
        curate(api, tmp_path / "out", zoom=ZOOM, area=AREA)
    assert remote.location("s3://naip-analytic/ks/a.tif") == "/vsis3/naip-analytic/ks/a.tif"


@pytest.mark.parametrize(("zoom", "sensor", "native_m"), [(14, "lores", 10), (16, "hires", 0.6)])
def test_the_bill_is_bounded_by_what_the_sensor_resolves(world, zoom, sensor, native_m):
    plan = make_plan(search_all(online(world, "http://x")), zoom=zoom, area=AREA)
    lat = sum(tile_bounds(plan.tiles[0])[1::2]) / 2
    tile_m = 40075016.7 * np.cos(np.radians(lat)) / 2**zoom
    tiles = len(plan.tiles) * (5 if sensor == "hires" else 1)
    expected = 3 * tiles * min(tile_m / native_m, 512) ** 2
    assert estimate_bytes(plan, sensor) == pytest.approx(expected, rel=0.01)


def test_places_without_a_scene_are_told(world, tmp_path):
    said = []
    with RangeServer(world) as server, stac_api(online(world, server.url)) as api:
        curate(api, tmp_path / "out", zoom=ZOOM, area=AREA, report=said.append)
    items = find_items(world / "catalog.json", Rules(), None)
    tiles = {name: 0 for name in SENSOR_NAMES}
    for name in tiles:
        seen = shapely.union_all([scene.footprint for scene in search(items, name)])
        boxes = [shapely.box(*tile_bounds(tile)) for tile in tiles_of_bbox(AREA.bounds, ZOOM)]
        tiles[name] = sum(seen.intersection(box).area < 0.95 * box.area for box in boxes)
    counts = ", ".join(f"{count} by {name}" for name, count in tiles.items())
    assert said[1] == f"further tiles of the area are not covered: {counts}"
