"""The procedural Earth: a function of place, three consistent sensors, and real formats."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import h5py
import numpy as np
import pystac
import pytest
import rasterio
from labelled import LAYOUTS
from pyproj import Transformer
from rasterio.control import GroundControlPoint
from rasterio.transform import GCPTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import balanced_accuracy_score

from earth import THEMES, montage_chips, render_triple, sensors, write_geobench, write_scenes
from earth.landscape.fields import Grid
from earth.landscape.themes import paint
from earth.scenes.area import area_of_tiles
from earth.scenes.satellites import two_scenes
from earth.tasks.table import PAINTED_TASKS
from salib.evaluate import geobench_task
from salib.evaluate.tasks import SPLITS
from salib.evaluate.tasks.task import check_disjoint, iter_split
from salib.tiles.grid import tile_bounds, tiles_of_bbox

PLACE = (12_345.0, -9_870.0)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    return write_scenes(
        tmp_path_factory.mktemp("earth") / "scenes", seed=5, zoom=15, tiles=2, processes=1
    )


@pytest.fixture(scope="module")
def painted(tmp_path_factory):
    out = tmp_path_factory.mktemp("painted") / "geobench"
    names = tuple(PAINTED_TASKS)
    return write_geobench(out, seed=5, tasks=names, train=4, valid=2, test=1, processes=1)


def read(command: str, folder: Path) -> str:
    env = {**os.environ, "GEO_BENCH_DIR": str(folder), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", command], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_scenes_and_tasks_of_others_are_not_replaced(tmp_path):
    catalog, bench = tmp_path / "stac", tmp_path / "bench"
    for path in (catalog / "S1.tif", catalog / "catalog.json", bench / "classification_v1.0" / "x"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("real")
    with pytest.raises(ValueError, match=r"out must be new.*'S1\.tif'"):
        write_scenes(catalog, seed=1)
    with pytest.raises(ValueError, match="out must be new"):
        write_geobench(bench, seed=1, train=1, valid=1, test=1, processes=1)
    assert (catalog / "S1.tif").read_text() == "real"
    assert (bench / "classification_v1.0" / "x").read_text() == "real"


def test_same_seed_and_place_give_the_same_bytes_and_another_seed_does_not():
    one, two, other = (render_triple(seed, *PLACE) for seed in (3, 3, 4))
    assert all(a.tobytes() == b.tobytes() for a, b in zip(one, two, strict=True))
    assert all(a.tobytes() != b.tobytes() for a, b in zip(one, other, strict=True))
    assert [image.shape for image in one] == [(64, 64, 2), (64, 64, 3), (128, 128, 3)]


@pytest.mark.parametrize(("gsd_m", "top", "left"), [(2.5, 31, 17), (10.0, 13, 29)])
def test_the_ground_is_a_function_of_place(gsd_m, top, left):
    whole = Grid(x_m=PLACE[0], y_m=PLACE[1], gsd_m=gsd_m, rows=97, cols=113)
    part = whole.box(top, 89, left, 103)
    a, b = paint(7, whole)[:, top:89, left:103], paint(7, part)
    assert np.mean(np.abs(a - b).max(0) < 1.0) > 0.995


def test_a_coarse_window_is_the_average_of_a_fine_one():
    fine = Grid(x_m=PLACE[0], y_m=PLACE[1], gsd_m=2.5, rows=404, cols=292)
    coarse = Grid(x_m=PLACE[0], y_m=PLACE[1], gsd_m=10.0, rows=101, cols=73)
    small = paint(7, fine)[0].reshape(101, 4, 73, 4).mean((1, 3))
    assert np.corrcoef(small.ravel(), paint(7, coarse)[0].ravel())[0, 1] > 0.85


def test_three_sensors_see_the_same_ground():
    aligned, shifted, radar = [], [], []
    for number in range(12):
        triple = render_triple(3, 2_311.0 * number, 1_709.0 * number)
        small = cv2.resize(triple.hires[..., 1], (64, 64), interpolation=cv2.INTER_AREA)
        lores = triple.lores[..., 1]
        aligned.append(np.corrcoef(small.ravel(), lores.ravel())[0, 1])
        shifted.append(np.corrcoef(small[:-7].ravel(), lores[7:].ravel())[0, 1])
        dark = sensors.radar_uint8(np.full((1,), 100, np.uint16))[0]
        radar.append((triple.radar[..., 0] > dark).mean())
    assert np.median(aligned) > 0.8
    assert np.median(aligned) > np.median(shifted) + 0.2
    assert np.std(radar) > 0.02


def test_hires_shows_more_detail_than_lores():
    gains = []
    for number in range(8):
        hires = render_triple(3, 3_001.0 * number, 0.0).hires[..., 0].astype(float)
        small = cv2.resize(hires, (64, 64), interpolation=cv2.INTER_AREA)
        lost = hires - np.kron(small, np.ones((2, 2)))
        gains.append(lost.std())
    assert np.median(gains) > 2.5


def test_speckle_over_flat_ground_is_gamma_with_4_4_looks():
    rng = np.random.default_rng(0)
    power = np.full((2, 307, 401), 0.1, np.float32)
    dn = sensors.amplitude(rng, power).astype(float)
    intensity = (dn / sensors.DN_AT_0_DB) ** 2
    looks = intensity.mean() ** 2 / intensity.var()
    assert looks == pytest.approx(4.4, rel=0.03)
    assert intensity.mean() == pytest.approx(0.1 + 10 ** (sensors.NOISE_DB / 10), rel=0.01)


def test_bright_radar_targets_saturate_instead_of_wrapping():
    levels = sensors.radar_uint8(np.array([0, 100, 999, 1000, 5000], np.uint16))
    assert levels.tolist() == [0, 25, 255, 255, 255]


def test_the_montage_names_every_theme():
    chips = montage_chips(3, 1)
    assert set(chips) == {*THEMES, "river", "motorway"}
    assert len({chip.tobytes() for chip in chips.values()}) == len(chips)


def test_a_negative_seed_of_a_square_is_refused_by_name():
    with pytest.raises(ValueError, match="seed"):
        render_triple(-1, 0.0, 0.0)


def test_the_catalog_reads_as_self_contained_stac(catalog):
    root = pystac.Catalog.from_file(str(catalog))
    counts = {c.id: len(list(c.get_items())) for c in root.get_children()}
    assert counts == {"sentinel-1-grd": 2, "sentinel-2-l2a": 3, "naip": 4}
    clouds = [i.properties["eo:cloud_cover"] for i in root.get_child("sentinel-2-l2a").get_items()]
    assert max(clouds) > 50 > sorted(clouds)[1]
    for path in {*catalog.parent.rglob("*.json")} - {catalog.parent / "made_from.json"}:
        for link in json.loads(path.read_text())["links"]:
            assert not link["href"].startswith("/")
    for item in root.get_items(recursive=True):
        for asset in item.assets.values():
            assert Path(asset.get_absolute_href()).is_file()


def test_every_file_is_a_tiled_geotiff_with_overviews(catalog):
    paths = sorted(catalog.parent.rglob("*.tif"))
    assert len(paths) == 4 + 2 * 2 + 3 * 2
    for path in paths:
        with rasterio.open(path) as file:
            layout = file.tags(ns="IMAGE_STRUCTURE").get("LAYOUT")
            assert layout == "COG"
            assert set(file.block_shapes) == {(512, 512)}
            assert file.overviews(1) or max(file.shape) <= 512


def test_control_points_of_order_3_invert_to_a_tenth_of_a_pixel():
    area = area_of_tiles(-98.0, 38.5, 14, 16)
    for slant in two_scenes(area):
        points = slant.points()
        assert len(points) == 121
        rows, cols = np.mgrid[50 : slant.rows : 331, 50 : slant.cols : 397].reshape(2, -1) + 0.5
        lon, lat = area.lonlat(slant.utm(cols, rows)).T
        fit = [GroundControlPoint(row=p.row, col=p.col, x=p.x, y=p.y) for p in points]
        basis = np.stack([_powers(p.x, p.y, area) for p in fit])
        design = np.stack([_powers(x, y, area) for x, y in zip(lon, lat, strict=True)])
        for true, known in ((rows, [p.row for p in fit]), (cols, [p.col for p in fit])):
            weights = np.linalg.lstsq(basis, np.array(known), rcond=None)[0]
            assert np.abs(design @ weights - true).max() < 0.1
        with GCPTransformer(points) as transform:
            x, y = transform.xy(points[60].row, points[60].col, offset="ul")
        assert (x, y) == pytest.approx((points[60].x, points[60].y), abs=1e-3)


def _powers(lon: float, lat: float, area) -> np.ndarray:
    west, south = area.lonlat(area.corners)[0]
    x, y = 20 * (lon - west) - 3, 20 * (lat - south) - 3
    return np.array([x**i * y**j for i in range(4) for j in range(4 - i)])


def test_the_scenes_cover_every_tile_and_show_the_world_in_place(catalog):
    area = area_of_tiles(-98.0, 38.5, 15, 2)
    there = Transformer.from_crs(4326, area.epsg, always_xy=True)
    (middle,) = tiles_of_bbox((-98.0, 38.5, -98.0 + 1e-9, 38.5 + 1e-9), 15)
    west, _, _, north = tile_bounds(middle._replace(x=middle.x - 1, y=middle.y - 1))
    _, south, east, _ = tile_bounds(middle)
    lon, lat = np.meshgrid(np.linspace(west, east, 23), np.linspace(south, north, 19))
    east, north = there.transform(lon.ravel(), lat.ravel())
    covered = np.zeros(east.size, bool)
    for path in sorted((catalog.parent / "naip").rglob("*.tif")):
        with rasterio.open(path) as file:
            box = file.bounds
            covered |= (
                (box.left < east) & (east < box.right) & (box.bottom < north) & (north < box.top)
            )
            red = file.read(1, out_shape=(file.height // 4, file.width // 4)).astype(float)
            grid = Grid(
                x_m=box.left, y_m=1e7 - box.top, gsd_m=10.0, rows=red.shape[0], cols=red.shape[1]
            )
            truth = paint(5, grid)[0]
        assert np.corrcoef(red.ravel(), truth.ravel())[0, 1] > 0.8
    assert covered.all()


def test_a_block_that_leaves_its_utm_zone_is_refused(tmp_path):
    with pytest.raises(ValueError, match="UTM zone"):
        write_scenes(tmp_path / "no", seed=1, lon=-96.01, zoom=14, tiles=4)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.real
def test_the_eurosat_task_has_the_layout_of_real_samples(painted):
    real = (
        Path(os.environ.get("SALIB_DATA_DIR", "")) / "geobench_real/classification_v1.0/m-eurosat"
    )
    if not real.is_dir():
        pytest.skip("SALIB_DATA_DIR does not hold the real m-eurosat samples")
    ours = painted / "classification_v1.0/m-eurosat"
    with h5py.File(real / "id_0000.hdf5") as a, h5py.File(ours / "train_00000.hdf5") as b:
        assert list(a) == list(b)
        assert [a[name].dtype for name in a] == [b[name].dtype for name in b]
        assert [a[name].shape for name in a] == [b[name].shape for name in b]
        assert b["09 - Water vapour"][:].mean() < 60 > a["09 - Water vapour"][:].mean()
    stats = [json.loads((path / "band_stats.json").read_text()) for path in (real, ours)]
    assert set(stats[0]) - {"label"} == set(stats[1])
    assert set(stats[0]["04 - Red"]) == set(stats[1]["04 - Red"])


SIDES = {"m-pv4ger": 320, "m-forestnet": 332, "m-eurosat": 64, "m-brick-kiln": 64, "m-so2sat": 32}
SIDES |= {"m-bigearthnet": 120, "m-cashew-plant": 256}


def test_the_tasks_pass_geobench_own_checks_in_the_published_layouts(painted):
    text = read(
        "import json, geobench\n"
        "from geobench.dataset import check_dataset_integrity as check\n"
        "out = {}\n"
        "for bench in ('classification_v1.0', 'segmentation_v1.0'):\n"
        "  for task in geobench.task_iterator(bench):\n"
        "    every = [b.name for b in task.bands_info]\n"
        "    data = task.get_dataset('train', band_names=every)\n"
        "    samples = [data.get_sample(name) for name in data._sample_name_list]\n"
        "    check(data, samples=samples)\n"
        "    bands, label = samples[0].bands, samples[0].label\n"
        "    mask = [label.data.shape[0], str(label.data.dtype)] if bench[0] == 's' else None\n"
        "    assert len(data.normalization_stats()[0]) == len(every)\n"
        "    assert len(data.rgb_stats()[0]) == 3\n"
        "    out[task.dataset_name] = [bench, type(task.label_type).__name__,\n"
        "        task.label_type.n_classes, task.spatial_resolution, every, mask,\n"
        "        sorted({(b.data.shape[0], str(b.data.dtype), bool(b.date)) for b in bands})]\n"
        "print(json.dumps(out))",
        painted,
    )
    found = json.loads(text)
    assert set(found) == set(SIDES)
    for name, side in SIDES.items():
        layout = LAYOUTS[name]
        bands = [info.name for info in layout.bands]
        label = [type(layout.label).__name__, layout.label.n_classes, layout.gsd_m]
        mask = [side, layout.mask] if layout.kind == "segmentation" else None
        expected = [layout.benchmark, *label, bands, mask, [[side, layout.dtype, layout.dated]]]
        assert found[name] == expected


@pytest.mark.parametrize("name", PAINTED_TASKS)
def test_the_stretch_of_each_task_neither_darkens_nor_saturates_its_images(painted, name):
    task = geobench_task(painted / PAINTED_TASKS[name].benchmark / name, procedural=True)
    assert (task.kind, task.n_classes) == (LAYOUTS[name].kind, PAINTED_TASKS[name].label.n_classes)
    names = getattr(PAINTED_TASKS[name].label, "class_names", None)
    assert names is None or task.class_names == tuple(names)
    values = np.concatenate([image.ravel() for image, _ in iter_split(task, "train")])
    assert 25 < np.median(values) < 235
    assert (values == 255).mean() < 0.25


@pytest.mark.parametrize("name", PAINTED_TASKS)
def test_no_sample_of_a_written_task_stands_in_two_splits_by_name_or_by_pixels(painted, name):
    task = geobench_task(painted / PAINTED_TASKS[name].benchmark / name, procedural=True)
    check_disjoint(task)
    splits = [{image.tobytes() for image, _ in iter_split(task, split)} for split in SPLITS]
    assert [len(images) for images in splits] == [4, 2, 1]
    assert len(set().union(*splits)) == 7


def test_a_task_does_not_depend_on_the_tasks_written_beside_it(painted, tmp_path):
    sizes = {"train": 4, "valid": 2, "test": 1, "processes": 2}
    alone = write_geobench(tmp_path / "alone", seed=5, tasks=("m-so2sat",), **sizes)
    for path in alone.glob("*/*/*.hdf5"):
        other = painted / path.relative_to(alone)
        with h5py.File(path) as a, h5py.File(other) as b:
            assert list(a) == list(b)
            assert all((a[key][()] == b[key][()]).all() for key in a)


def test_a_plain_classifier_of_pixels_finds_the_masks_of_unseen_samples():
    task = PAINTED_TASKS["m-cashew-plant"]
    seen, held_out = ([_pixels(task, number) for number in range(*r)] for r in ((0, 14), (20, 26)))
    (x, y), (x_test, y_test) = (map(np.concatenate, zip(*p, strict=True)) for p in (seen, held_out))
    model = HistGradientBoostingClassifier(
        max_iter=30, class_weight="balanced", random_state=0, early_stopping=False
    )
    recall = balanced_accuracy_score(y_test, model.fit(x, y).predict(x_test))
    assert recall > max(0.25, 1.4 / len(np.unique(y_test)))


def _pixels(task, number):
    """Red, green and blue at three scales, and the class, of some pixels of a sample."""
    bands, label = task.chip(5, number % task.strata, number)
    layers = [bands[[3, 2, 1]].astype(np.float32)]
    for side in (5, 15):
        mean = [cv2.blur(band, (side, side)) for band in layers[0]]
        square = [cv2.blur(band**2, (side, side)) for band in layers[0]]
        layers += [np.stack(mean), np.stack(square) - np.stack(mean) ** 2]
    rng = np.random.default_rng(number)
    classes = label.ravel()
    chosen = [rng.choice(np.flatnonzero(classes == k), 60) for k in np.unique(classes)]
    at = np.concatenate(chosen)
    return np.concatenate(layers).reshape(15, -1)[:, at].T, classes[at]


def test_labels_of_the_multilabel_task_say_what_the_window_shows():
    task = PAINTED_TASKS["m-bigearthnet"]
    water, wet, counts = 39, {0: [], 1: []}, []
    for number in range(45):
        bands, label = task.chip(5, number % task.strata, number)
        red, nir = bands[3], bands[7]
        wet[int(label[water])].append((nir < 0.8 * red).mean())
        counts.append(label.sum())
    assert np.median(wet[1]) > 0.05 > 0.02 > np.median(wet[0])
    assert min(counts) >= 1
    assert max(counts) >= 4


def test_radar_of_the_urban_task_is_power_with_consistent_parts():
    task = PAINTED_TASKS["m-so2sat"]
    names = [info.name[:2] for info in task.bands.infos[:8]]
    assert names == [f"0{n}" for n in range(1, 9)]
    bands = {label: [] for label in range(17)}
    for number in range(68):
        bands[number % 17].append(task.chip(5, number % 17, number)[0])
    radar = np.concatenate([np.stack(samples) for samples in bands.values()])[:, :8]
    vh_real, vh_imaginary, vv_real, vv_imaginary, vh, vv = radar[:, :6].swapaxes(0, 1)
    assert (vh_real**2 + vh_imaginary**2).mean() == pytest.approx(vh.mean(), rel=0.05)
    assert (vv_real**2 + vv_imaginary**2).mean() == pytest.approx(vv.mean(), rel=0.05)
    assert min(vv.min(), vh.min()) > 0
    assert 10 * np.log10(vv.mean() / vh.mean()) > 3
    water, city = np.stack(bands[16]), np.stack(bands[1])
    assert city[:, 5].mean() > 10 * water[:, 5].mean()
