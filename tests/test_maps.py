"""Interactive maps: images within their bound, every scene and sample told, one set of colours."""

import re
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
from curate_scenes import write_small_world

from exhibits.figures.style import OTHER, SERIES
from exhibits.maps import map_layers
from exhibits.overview import Pyramid, overviews
from salib.config import SENSOR_NAMES, SENSORS
from salib.curate import Rules, curate
from salib.curate.search.sources import find_items
from salib.tiles.archive import Archive, write_archive
from salib.tiles.codec import encode, image_format
from salib.tiles.grid import TileId, tile_bounds

ZOOM = 14
ASSETS = Path(__file__).parent.parent / "book" / "_assets"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    world = write_small_world(tmp_path_factory.mktemp("world"))
    return curate(world, tmp_path_factory.mktemp("tiles") / "out", zoom=ZOOM)


@pytest.fixture(scope="module")
def layers(folder):
    return map_layers(folder)


def paths(folder):
    return {name: folder / f"{name}.pmtiles" for name in SENSOR_NAMES}


def opened(tiles, folder):
    """The archives that a map brings, as files."""
    for name, data in tiles.items():
        (folder / f"{name}.pmtiles").write_bytes(data)
    return {name: Archive(folder / f"{name}.pmtiles") for name in tiles}


def zooms_of(archive):
    return sorted({tile.z for tile in archive.tiles()})


def image_bytes(archives):
    return sum(len(a.read(*tile)) for a in archives.values() for tile in a.tiles())


def block_means(image):
    """Colours of squares of 16 pixels, in which the losses of WebP average out."""
    return image[..., :3].reshape(16, 16, 16, 16, 3).mean(axis=(1, 3))


def ground(seed, spread):
    """A smooth picture with noise of some spread, so that bounds cut between zooms."""
    ramp = np.add.outer(np.arange(64), np.arange(64))[..., None] + np.array([0, 40, 80, 0])
    noise = np.random.default_rng(seed).normal(0, spread, (64, 64, 4))
    image = (ramp + noise).clip(0, 255).astype(np.uint8)
    image[..., 3] = 255
    return encode(image, "png")


@pytest.fixture(scope="module")
def strips(tmp_path_factory):
    """Two archives of eleven by three tiles at zoom 9, one noisier; the first has zoom 10 too."""
    folder = tmp_path_factory.mktemp("strips")
    coarse = [TileId(9, 101 + x, 203 + y) for x in range(11) for y in range(3)]
    fine = [child for tile in coarse for child in tile.children()]
    made = {}
    for name, spread, tiles in (("rough", 20, coarse + fine), ("calm", 2, coarse)):
        tiles.sort(key=lambda tile: tile.hilbert)
        images = [(tile, ground(n, spread)) for n, tile in enumerate(tiles)]
        made[name] = write_archive(folder / f"{name}.pmtiles", images, metadata={"name": name})
    return made


def test_a_map_begins_where_the_area_fits_one_tile_and_ends_with_the_finest(strips, tmp_path):
    archives = opened(overviews(strips), tmp_path)
    assert zooms_of(archives["rough"]) == [5, 6, 7, 8, 9, 10]
    assert zooms_of(archives["calm"]) == [5, 6, 7, 8, 9]
    for name, archive in archives.items():
        source, level = Archive(strips[name]), {}
        for tile in source.tiles():
            for zoom in range(5, tile.z + 1) if tile.z == 9 else [tile.z]:
                level.setdefault(zoom, set()).add(tile.parent(tile.z - zoom))
        assert {*archive.tiles()} == {tile for tiles in level.values() for tile in tiles}
        pyramid = Pyramid(strips[name])
        for tile in archive.tiles():
            assert image_format(archive.read(*tile)) == "webp"
            alpha = np.asarray(pyramid.image(tile))[..., 3]
            shown = archive.get(*tile)
            if shown.shape[2] == 4:
                np.testing.assert_array_equal(shown[..., 3], alpha)
            else:
                assert (alpha == 255).all()


def test_a_lower_zoom_is_the_alpha_weighted_mean_of_four(tmp_path):
    parent, rng = TileId(8, 77, 99), np.random.default_rng(1)
    children = {tile: rng.integers(0, 256, (16, 16, 4), np.uint8) for tile in parent.children()}
    del children[parent.children()[1]]
    tiles = sorted(children, key=lambda tile: tile.hilbert)
    encoded = [(tile, encode(children[tile], "png")) for tile in tiles]
    pyramid = Pyramid(write_archive(tmp_path / "a.pmtiles", encoded, metadata={}))
    found = np.asarray(pyramid.image(parent)).astype(int)
    whole = np.zeros((32, 32, 4))
    for tile, image in children.items():
        top, left = (tile.y - 2 * parent.y) * 16, (tile.x - 2 * parent.x) * 16
        whole[top : top + 16, left : left + 16] = image
    for row, col in np.ndindex(16, 16):
        four = whole[2 * row : 2 * row + 2, 2 * col : 2 * col + 2].reshape(4, 4)
        alpha = four[:, 3].sum()
        assert abs(found[row, col, 3] - alpha / 4) <= 0.51
        if alpha >= 40:
            mean = (four[:, :3] * four[:, 3:]).sum(0) / alpha
            rounded = 0.51 + 255 / (alpha / 4)  # Pillow weights by alpha in 8 bits
            assert np.abs(found[row, col, :3] - mean).max() <= rounded
    assert (found[:8, 8:, 3] == 0).all(), "the absent child is transparent"


@pytest.mark.parametrize("share", [0.9, 0.4, 0.1])
def test_images_stay_within_the_bound_and_all_archives_lose_the_same_zooms(strips, tmp_path, share):
    whole = opened(overviews(strips), tmp_path)
    bound = int(image_bytes(whole) * share)
    archives = opened(overviews(strips, max_bytes=bound), tmp_path)
    kept = zooms_of(archives["rough"])
    assert kept == [5, 6, 7, 8, 9, 10][: len(kept)]
    assert len(kept) < 6
    assert zooms_of(archives["calm"]) == kept
    assert image_bytes(archives) <= bound
    for archive in archives.values():
        assert all(archive.get(*tile).shape[:2] == (64, 64) for tile in archive.tiles())


def test_a_bound_below_the_first_zoom_is_refused(strips):
    with pytest.raises(ValueError, match="max_bytes must hold the tiles of zoom 5, got 100"):
        overviews(strips, max_bytes=100)


def test_an_overview_shows_what_the_archive_shows(folder, layers, tmp_path):
    for name, archive in opened(layers["tiles"], tmp_path).items():
        source = Archive(folder / f"{name}.pmtiles")
        assert source.metadata["attribution"] == layers["attribution"][name]
        tiles = [tile for tile in archive.tiles() if tile.z == ZOOM]
        assert tiles
        for tile in tiles:
            seen, shown = source.get(*tile), archive.get(*tile)
            if (seen[..., 3] == 255).all():
                assert np.abs(block_means(seen) - block_means(shown)).mean() < 4


def test_a_map_tells_every_scene_that_was_found_and_which_were_taken(folder, layers):
    features = layers["scenes"]["features"]
    items = {item.id: item for item in find_items(folder / "scenes.json", Rules(), None)}
    assert sorted(feature["properties"]["id"] for feature in features) == sorted(items)
    for name, path in paths(folder).items():
        mine = [f["properties"] for f in features if f["properties"]["sensor"] == name]
        taken = [about["id"] for about in mine if about["used"]]
        assert sorted(taken) == sorted(Archive(path).metadata["scenes"])
    for feature in features:
        item = items[feature["properties"]["id"]]
        assert feature["properties"]["date"] == item.datetime.date().isoformat()
        there = shapely.geometry.shape(item.geometry)
        assert shapely.geometry.shape(feature["geometry"]).equals_exact(there, 1e-6)


def test_a_map_tells_of_every_sample_what_the_index_holds(folder, layers):
    index = geopandas.read_parquet(folder / "index.parquet")
    features = layers["samples"]["features"]
    assert len(features) == len(index) == sum(layers["splits"].values())
    for feature, row in zip(features, index.to_dict(orient="records"), strict=True):
        about = feature["properties"]
        tile = TileId(about["z"], about["x"], about["y"])
        assert tile.hilbert == row["tile_id"]
        box = shapely.geometry.shape(feature["geometry"]).bounds
        assert box == pytest.approx(tile_bounds(tile), abs=1e-6)
        assert (about["split"], about["gsd_m"]) == (row["split"], pytest.approx(row["gsd_m"], 1e-3))
        for name in SENSOR_NAMES:
            assert about[name]["scenes"] == list(row[f"scene_ids_{name}"])
            assert about[name]["date"] == row[f"datetime_{name}"].date().isoformat()
            assert about[name]["valid_frac"] == pytest.approx(row[f"valid_frac_{name}"], abs=1e-4)


def test_of_too_many_samples_some_are_drawn_and_all_are_counted(folder, layers, monkeypatch):
    monkeypatch.setattr("exhibits.maps.MAP_SAMPLES", 7)
    few = map_layers(folder)
    features = layers["samples"]["features"]
    assert few["splits"] == layers["splits"]
    assert len(few["samples"]["features"]) == 7
    assert few["samples"]["features"][0] == features[0]
    assert few["samples"]["features"][-1] == features[-1]
    assert few["bounds"] == layers["bounds"]


def test_the_map_has_the_colours_of_the_figures():
    style = (ASSETS / "map.css").read_text()
    drawn = dict(re.findall(r"--sa-(\w+): (#\w+);", style.partition("}")[0]))
    sensors = {name: SENSORS[name].colour for name in SENSOR_NAMES}
    splits = {"train": SERIES[0], "valid": SERIES[1]}
    assert drawn.items() >= (sensors | splits | {"other": OTHER}).items()
