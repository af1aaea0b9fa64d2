"""The procedural Earth: a function of place, three consistent sensors, and real formats."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pystac
import pytest
import rasterio
from pyproj import Transformer
from rasterio.control import GroundControlPoint
from rasterio.transform import GCPTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import balanced_accuracy_score

from earth import THEMES, montage_chips, render_triple, sensors, write_geobench, write_scenes
from earth.landscape.fields import Grid
from earth.landscape.themes import paint
from earth.scenes.area import area_of_tiles
from earth.scenes.slant import two_scenes
from earth.tasks.names import TASKS

PLACE = (12_345.0, -9_870.0)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    return write_scenes(
        tmp_path_factory.mktemp("earth") / "scenes", seed=5, zoom=15, tiles=2, processes=1
    )


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "geobench"
    return write_geobench(out, seed=5, train=13, valid=3, test=2, processes=1)


@pytest.fixture(scope="module")
def twelve(tmp_path_factory):
    out = tmp_path_factory.mktemp("twelve") / "geobench"
    names = tuple(TASKS)
    return write_geobench(out, seed=5, tasks=names, train=4, valid=1, test=1, processes=1)


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
        dark = sensors.radar_levels(np.full((1,), 100, np.uint16))[0]
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
    levels = sensors.radar_levels(np.array([0, 100, 999, 1000, 5000], np.uint16))
    assert levels.tolist() == [0, 25, 255, 255, 255]


def test_the_montage_names_every_theme():
    chips = montage_chips(3, 1)
    assert set(chips) == {*THEMES, "river", "motorway"}
    assert len({chip.tobytes() for chip in chips.values()}) == len(chips)


@pytest.mark.parametrize("bad", [{"lores_px": 0}, {"lores_gsd_m": 0.0}, {"seed": -1}])
def test_a_bad_square_is_refused_by_name(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        render_triple(**{"seed": 1, "x_m": 0.0, "y_m": 0.0, **bad})


def test_the_catalog_reads_as_self_contained_stac(catalog):
    root = pystac.Catalog.from_file(str(catalog))
    counts = {c.id: len(list(c.get_items())) for c in root.get_children()}
    assert counts == {"sentinel-1-grd": 2, "sentinel-2-l2a": 3, "naip": 4}
    clouds = [i.properties["eo:cloud_cover"] for i in root.get_child("sentinel-2-l2a").get_items()]
    assert max(clouds) > 50 > sorted(clouds)[1]
    for path in catalog.parent.rglob("*.json"):
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
    x, y = 20 * (lon - area.bbox[0]) - 3, 20 * (lat - area.bbox[1]) - 3
    return np.array([x**i * y**j for i in range(4) for j in range(4 - i)])


def test_the_scenes_cover_every_tile_and_show_the_world_in_place(catalog):
    area = area_of_tiles(-98.0, 38.5, 15, 2)
    there = Transformer.from_crs(4326, area.epsg, always_xy=True)
    lon, lat = np.meshgrid(
        np.linspace(area.bbox[0], area.bbox[2], 23), np.linspace(area.bbox[1], area.bbox[3], 19)
    )
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


def test_the_tasks_pass_geobench_own_reader(bench):
    text = read(
        "import json, geobench\n"
        "from geobench.dataset import check_dataset_integrity as check\n"
        "out = {}\n"
        "for task in geobench.task_iterator('classification_v1.0'):\n"
        "    data = task.get_dataset('train', band_names=[b.name for b in task.bands_info])\n"
        "    check(data, samples=[data.get_sample(name) for name in data._sample_name_list])\n"
        "    image, names = data[0].pack_to_3d([b.name for b in task.bands_info])\n"
        "    few = task.get_dataset('train', partition_name='0.50x_train')\n"
        "    out[task.dataset_name] = [list(image.shape), str(image.dtype), len(few),\n"
        "        len(data.normalization_stats()[0]), len(task.get_label_map())]\n"
        "print(json.dumps(out))",
        bench,
    )
    assert json.loads(text) == {
        "m-pv4ger": [[320, 320, 3], "uint8", 6, 3, 2],
        "m-forestnet": [[332, 332, 6], "uint8", 12, 6, 12],
        "m-eurosat": [[64, 64, 13], "int16", 10, 13, 10],
        "m-brick-kiln": [[64, 64, 13], "float64", 6, 13, 2],
    }


@pytest.mark.real
def test_the_eurosat_task_has_the_layout_of_real_samples(bench):
    import h5py

    real = (
        Path(os.environ.get("SALIB_DATA_DIR", "")) / "geobench_real/classification_v1.0/m-eurosat"
    )
    if not real.is_dir():
        pytest.skip("SALIB_DATA_DIR does not hold the real m-eurosat samples")
    ours = bench / "classification_v1.0/m-eurosat"
    with h5py.File(real / "id_0000.hdf5") as a, h5py.File(ours / "train_00000.hdf5") as b:
        assert list(a) == list(b)
        assert [a[name].dtype for name in a] == [b[name].dtype for name in b]
        assert [a[name].shape for name in a] == [b[name].shape for name in b]
        assert b["09 - Water vapour"][:].mean() < 60 > a["09 - Water vapour"][:].mean()
    stats = [json.loads((path / "band_stats.json").read_text()) for path in (real, ours)]
    assert set(stats[0]) - {"label"} == set(stats[1])
    assert set(stats[0]["04 - Red"]) == set(stats[1]["04 - Red"])


@pytest.mark.real
def test_the_crop_task_has_the_layout_of_real_samples(twelve):
    import h5py

    real = Path(os.environ.get("SALIB_DATA_DIR", "")) / "geobench_real/segmentation_v1.0"
    if not real.is_dir():
        pytest.skip("SALIB_DATA_DIR does not hold the real m-SA-crop-type samples")
    name = "m-SA-crop-type"
    stats = [
        json.loads((root / name / "band_stats.json").read_text())
        for root in (real, twelve / "segmentation_v1.0")
    ]
    assert set(stats[0]) == set(stats[1])
    theirs = sorted((real / name).glob("*.hdf5"))[0]
    with (
        h5py.File(theirs) as a,
        h5py.File(twelve / "segmentation_v1.0" / name / "train_00000.hdf5") as b,
    ):
        assert list(a) == list(b)
        assert [a[band].dtype for band in a] == [b[band].dtype for band in b]
        assert [a[band].shape for band in a] == [b[band].shape for band in b]


# Name, bench, label type, classes, stated metres a pixel, then each run of equal bands: how many,
# shape, type. From the converters of ServiceNow/geo-bench and the sizes of the published files.
LAYOUTS = {
    "m-bigearthnet": ("c", "MultiLabel", 43, 10, [(12, (120, 120), "float32")]),
    "m-so2sat": ("c", "Classification", 17, 10, [(18, (32, 32), "float32")]),
    "m-brick-kiln": ("c", "Classification", 2, 10, [(13, (64, 64), "float64")]),
    "m-forestnet": ("c", "Classification", 12, 15, [(6, (332, 332), "uint8")]),
    "m-eurosat": ("c", "Classification", 10, 10, [(13, (64, 64), "int16")]),
    "m-pv4ger": ("c", "Classification", 2, 0.1, [(3, (320, 320), "uint8")]),
    "m-pv4ger-seg": ("s", "Segmentation", 2, 0.1, [(3, (320, 320), "uint8")]),
    "m-chesapeake": ("s", "Segmentation", 7, 1, [(4, (256, 256), "float32")]),
    "m-cashew-plant": ("s", "Segmentation", 7, 0.5, [(13, (256, 256), "float32")]),
    "m-SA-crop-type": ("s", "Segmentation", 10, 10, [(13, (256, 256), "int16")]),
    "m-nz-cattle": ("s", "Segmentation", 2, 0.1, [(3, (500, 500), "uint8")]),
    "m-NeonTree": (
        *("s", "Segmentation", 2, 0.1),
        [(3, (400, 400), "uint8"), (1, (40, 40, 1), "float32"), (1, (40, 40, 369), "int16")],
    ),
}
DATED = {"m-forestnet": 6, "m-cashew-plant": 13, "m-nz-cattle": 4}


def test_all_twelve_pass_geobench_own_checks_in_the_published_layouts(twelve):
    text = read(
        "import itertools, json, re, geobench, numpy as np\n"
        "from geobench.dataset import check_dataset_integrity as check\n"
        "out = {}\n"
        "for bench in ('classification_v1.0', 'segmentation_v1.0'):\n"
        "  for task in geobench.task_iterator(bench):\n"
        "    every = [b.name for b in task.bands_info]\n"
        "    data = task.get_dataset('train', band_names=every)\n"
        "    samples = [data.get_sample(name) for name in data._sample_name_list]\n"
        "    check(data, samples=samples)\n"
        "    bands = [(b.data.shape, str(b.data.dtype)) for b in samples[0].bands]\n"
        "    runs = [(len(list(g)), *key) for key, g in itertools.groupby(bands)]\n"
        "    label = samples[0].label\n"
        "    all_bands = samples[0].bands + ([label] if hasattr(label, 'data') else [])\n"
        "    dated = sum(b.date is not None for b in all_bands if hasattr(b, 'date'))\n"
        "    assert len(data.normalization_stats()[0]) == len(every)\n"
        "    assert len(data.rgb_stats()[0]) == 3\n"
        "    known = task.get_label_map() or task.label_stats()\n"
        "    kind = type(task.label_type).__name__\n"
        "    assert len(known) == (task.label_type.n_classes if kind[:3] == 'Cla' else 6)\n"
        "    out[task.dataset_name] = [bench[0], kind, task.label_type.n_classes,\n"
        "        task.spatial_resolution, runs, dated]\n"
        "print(json.dumps(out))",
        twelve,
    )
    found = json.loads(text)
    assert set(found) == set(LAYOUTS)
    for name, (bench, kind, classes, gsd_m, runs) in LAYOUTS.items():
        expected = [bench, classes, gsd_m, [[n, list(shape), dtype] for n, shape, dtype in runs]]
        got = found[name]
        assert [got[0], *got[2:5]] == expected, name
        assert got[1].startswith(kind)
        assert got[5] == DATED.get(name, 0), name


def test_dates_stand_in_the_names_of_data_sets_as_published(twelve):
    import h5py

    for name in LAYOUTS:
        folder = twelve / TASKS[name].benchmark / name
        with h5py.File(folder / "train_00001.hdf5") as file:
            dated = [key for key in file if re.search(r"_\d{4}-\d\d-\d\d$", key)]
            assert len(dated) == DATED.get(name, 0), name
            labelled = [key for key in file if key.startswith("label")]
        seasonal = name == "m-nz-cattle"
        segments = TASKS[name].kind == "segmentation"
        assert len(labelled) == segments
        assert not segments or (labelled[0] == "label") is not seasonal


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("m-pv4ger-seg", 0.7),
        ("m-chesapeake", 0.5),
        ("m-cashew-plant", 0.25),
        ("m-SA-crop-type", 0.35),
        ("m-nz-cattle", 0.7),
        ("m-NeonTree", 0.7),
    ],
)
def test_a_plain_classifier_of_pixels_finds_the_masks_of_unseen_samples(name, least):
    task = TASKS[name]
    seen, held_out = ([_pixels(task, number) for number in range(*r)] for r in ((0, 14), (20, 26)))
    (x, y), (x_test, y_test) = (map(np.concatenate, zip(*p, strict=True)) for p in (seen, held_out))
    model = HistGradientBoostingClassifier(
        max_iter=30, class_weight="balanced", random_state=0, early_stopping=False
    )
    recall = balanced_accuracy_score(y_test, model.fit(x, y).predict(x_test))
    chance = 1 / len(np.unique(y_test))
    assert recall > max(least, 1.4 * chance)


def _pixels(task, number):
    """Red, green and blue at three scales, and the class, of some pixels of a sample."""
    chip = task.chip(5, number % (task.strata or 1), number)
    sharp = np.stack([chip.bands[[info.name for info in task.bands].index(n)] for n in _rgb(task)])
    layers = [sharp.astype(np.float32)]
    for side in (5, 15):
        mean = [cv2.blur(band, (side, side)) for band in layers[0]]
        square = [cv2.blur(band**2, (side, side)) for band in layers[0]]
        layers += [np.stack(mean), np.stack(square) - np.stack(mean) ** 2]
    rng = np.random.default_rng(number)
    classes = chip.label.ravel()
    chosen = [rng.choice(np.flatnonzero(classes == k), 60) for k in np.unique(classes)]
    at = np.concatenate(chosen)
    return np.concatenate(layers).reshape(15, -1)[:, at].T, classes[at]


def _rgb(task):
    red = [info.name for info in task.bands if "red" in info.alt_names]
    return [*red, *(n.name for c in ("green", "blue") for n in task.bands if c in n.alt_names)]


def test_labels_of_the_multilabel_task_say_what_the_window_shows():
    task = TASKS["m-bigearthnet"]
    water, wet, counts = task.classes.index("Water bodies"), {0: [], 1: []}, []
    for number in range(45):
        chip = task.chip(5, number % task.strata, number)
        red, nir = (chip.bands[k] for k in (3, 7))
        wet[int(chip.label[water])].append((nir < 0.8 * red).mean())
        counts.append(chip.label.sum())
    assert np.median(wet[1]) > 0.05 > 0.02 > np.median(wet[0])
    assert min(counts) >= 1
    assert max(counts) >= 4


def test_radar_of_the_urban_task_is_power_with_consistent_parts():
    task = TASKS["m-so2sat"]
    names = [info.name[:2] for info in task.bands[:8]]
    assert names == [f"0{n}" for n in range(1, 9)]
    bands = {label: [] for label in range(17)}
    for number in range(68):
        chip = task.chip(5, number % 17, number)
        bands[number % 17].append(np.stack(chip.bands))
    radar = np.concatenate([np.stack(samples) for samples in bands.values()])[:, :8]
    vh_real, vh_imaginary, vv_real, vv_imaginary, vh, vv = radar[:, :6].swapaxes(0, 1)
    assert (vh_real**2 + vh_imaginary**2).mean() == pytest.approx(vh.mean(), rel=0.05)
    assert (vv_real**2 + vv_imaginary**2).mean() == pytest.approx(vv.mean(), rel=0.05)
    assert min(vv.min(), vh.min()) > 0
    assert 10 * np.log10(vv.mean() / vh.mean()) > 3
    water, city = np.stack(bands[16]), np.stack(bands[1])
    assert city[:, 5].mean() > 10 * water[:, 5].mean()
