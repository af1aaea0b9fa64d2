"""The servers behind the tests of curation: honest ranges, faults as asked, every item once."""

import datetime as dt
import time

import curate_scenes
import numpy as np
import pystac
import pytest
import rasterio
import servers
import shapely

requests = pytest.importorskip("requests")


@pytest.fixture
def root(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a b.bin").write_bytes(rng.bytes(10_007))
    (tmp_path / "small.bin").write_bytes(rng.bytes(101))
    return tmp_path


@pytest.fixture
def session():
    with requests.Session() as session:
        yield session


@pytest.mark.parametrize(
    ("span", "part"),
    [
        ("0-0", slice(0, 1)),
        ("17-4098", slice(17, 4099)),
        ("9973-", slice(9973, None)),
        ("-31", slice(-31, None)),
        ("10000-99999", slice(10_000, None)),
        ("-99999", slice(None)),
    ],
)
def test_a_range_is_that_slice_of_the_file(root, session, span, part):
    data = (root / "deep" / "a b.bin").read_bytes()
    with servers.RangeServer(root) as server:
        got = session.get(f"{server.url}/deep/a%20b.bin", headers={"Range": f"bytes={span}"})
    first, _, _ = part.indices(len(data))
    last = first + len(data[part]) - 1
    assert (got.status_code, got.content) == (206, data[part])
    assert got.headers["Content-Range"] == f"bytes {first}-{last}/{len(data)}"
    assert server.requests == [("GET", "/deep/a b.bin", f"bytes={span}", 206)]
    assert server.bytes_sent == len(data[part])


def test_whole_files_heads_and_refusals_share_one_connection(root, session):
    with servers.RangeServer(root, missing={"/gone.bin"}, broken={"/bad.bin"}) as server:
        (root / "gone.bin").write_bytes(b"here, but hidden")
        whole = session.get(f"{server.url}/small.bin")
        head = session.head(f"{server.url}/small.bin")
        past = session.get(f"{server.url}/small.bin", headers={"Range": "bytes=101-"})
        for path, status in {"gone.bin": 404, "bad.bin": 500, "never.bin": 404}.items():
            assert session.get(f"{server.url}/{path}").status_code == status
        pools = session.adapters["http://"].poolmanager.pools
        [server_of] = pools.keys()
        assert pools[server_of].num_connections == 1
    assert whole.content == (root / "small.bin").read_bytes()
    assert (head.content, head.headers["Content-Length"]) == (b"", "101")
    assert (past.status_code, past.headers["Content-Range"]) == (416, "bytes */101")
    assert server.bytes_sent == 101


def test_faults_come_in_the_share_and_order_asked_for(root, session):
    def outcomes():
        faults = servers.Faults(3, unavailable=0.3, truncated=0.1, retry_after=7)
        seen = []
        with servers.RangeServer(root, faults=faults) as server:
            for _ in range(499):
                try:
                    got = session.get(f"{server.url}/small.bin")
                    assert got.status_code == 200 or got.headers["Retry-After"] == "7"
                    seen.append(got.status_code)
                except requests.exceptions.ChunkedEncodingError:
                    seen.append("truncated")
        assert server.bytes_sent == 101 * seen.count(200) + 50 * seen.count("truncated")
        return seen

    seen = outcomes()
    assert seen == outcomes()
    assert seen.count(503) / 499 == pytest.approx(0.3, abs=0.07)
    assert seen.count("truncated") / 499 == pytest.approx(0.1, abs=0.045)


def test_a_file_needs_a_token_in_force(root, session):
    with servers.RangeServer(root, tokens=servers.TokenRule(lifetime_s=600)) as server:
        file = f"{server.url}/small.bin"
        assert session.get(file).status_code == 403
        assert session.get(f"{file}?sig=1").status_code == 403
        before = dt.datetime.now(dt.UTC)
        old = session.get(f"{server.url}/sas/account/container").json()
        left_s = (dt.datetime.fromisoformat(old["msft:expiry"]) - before).total_seconds()
        assert left_s == pytest.approx(600, abs=5)
        assert session.get(f"{file}?{old['token']}").status_code == 200
        server.tokens.expire()
        assert session.get(f"{file}?{old['token']}").status_code == 403
        new = session.get(f"{server.url}/sas/account/container").json()
        assert session.get(f"{file}?{new['token']}").status_code == 200
        assert session.get(f"{file}?{old['token']}").status_code == 403
        assert server.tokens.issued == 2
        server.tokens = servers.TokenRule(lifetime_s=0.05)
        brief = session.get(f"{server.url}/sas/account/container").json()
        time.sleep(0.06)
        assert session.get(f"{file}?{brief['token']}").status_code == 403


def test_gdal_is_answered_while_it_holds_the_interpreter(root):
    bands = np.random.default_rng(0).integers(0, 255, (1, 1024, 1024), dtype=np.uint8)
    curate_scenes.write_utm(root / "a.tif", bands, 32613, 5e5, 4e6, 1)  # overviews at the end
    options = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_HTTP_TIMEOUT": "5"}
    with (
        servers.RangeServer(root) as server,
        rasterio.Env(**options),
        rasterio.open(f"/vsicurl/{server.url}/a.tif") as file,
    ):
        assert file.overviews(1) == [2, 4]
        assert np.array_equal(file.read(), bands)


def scene(index):
    """A tenth of a degree wide, one a day eastwards, with a gap between neighbours."""
    box = shapely.box(-100 + index * 0.2, 40, -99.9 + index * 0.2, 40.1)
    day = dt.datetime(2021, 6, 1, 12, tzinfo=dt.UTC) + dt.timedelta(days=index)
    geometry = shapely.geometry.mapping(box)
    item = pystac.Item(f"scene-{index:02d}", geometry, list(box.bounds), day, {}, collection="naip")
    item.add_asset("image", pystac.Asset(f"http://127.0.0.1/{index}.tif"))
    return item


@pytest.fixture(scope="module")
def client():
    pystac_client = pytest.importorskip("pystac_client")
    other = scene(3)
    other.id, other.collection_id = "other", "sentinel-2-l2a"
    with servers.stac_api([other, *map(scene, range(42))]) as url:
        client = pystac_client.Client.open(url)
        yield client
        client._stac_io.session.close()


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_pages_of_a_search_hold_every_item_once(client, method):
    everywhere = shapely.geometry.mapping(shapely.box(-101, 39, -80, 42))
    search = client.search(
        method=method,
        collections=["naip"],
        intersects=everywhere,
        datetime="2021-01-01/2021-12-31",
        limit=10,
    )
    pages = [[item.id for item in page] for page in search.pages()]
    assert [len(page) for page in pages] == [10, 10, 10, 10, 2]
    assert [id for page in pages for id in page] == [f"scene-{index:02d}" for index in range(42)]
    assert search.matched() == 42
    assert {item.assets["image"].href for item in search.items()} == {
        f"http://127.0.0.1/{index}.tif" for index in range(42)
    }


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_search_keeps_only_what_was_asked_for(client, method):
    def ids(**asked):
        found = client.search(method=method, limit=3, **asked)
        names = [item.id for item in found.items()]
        assert found.matched() == len(names)
        return names

    first = [f"scene-{index:02d}" for index in range(5)]
    west = shapely.box(-101, 39, -99.15, 42)
    assert ids(collections=["sentinel-2-l2a"]) == ["other"]
    assert ids(collections=["naip"], bbox=west.bounds) == first
    assert ids(collections=["naip"], intersects=shapely.geometry.mapping(west)) == first
    assert ids(collections=["naip"], datetime="../2021-06-05T12:00:00Z") == first
    assert ids(collections=["naip"], datetime="2021-06-03") == ["scene-02"]
    assert ids(collections=["naip"], datetime="2021-07-12/..") == ["scene-41"]
    assert ids(ids=["scene-07", "other"]) == ["other", "scene-07"]
    assert ids(bbox=[0, 0, 1, 1]) == []
