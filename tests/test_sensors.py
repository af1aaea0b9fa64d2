"""A sensor is one row: twelve bands of 16 bits are cut, trained on, embedded and evaluated."""

from dataclasses import replace

import cv2
import h5py
import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from labelled import LAYOUTS, SPLIT_NAMES, write_layout

import salib
from earth import write_geobench, write_scenes
from exhibits import sensors as shown
from salib.config import S2_BANDS, SENSORS, TrainConfig, check_sensors, preset
from salib.curate import Rules, curate
from salib.curate.search.catalog import scene_of
from salib.curate.search.sources import find_items
from salib.evaluate.columns import Candidate, embed_split
from salib.evaluate.croma import PublishedCroma, with_task_stats
from salib.evaluate.tasks.inputs import TWELVE_BAND_RULES
from salib.evaluate.tasks.task import geobench_task, iter_split
from salib.files.images import resize_bands
from salib.training.batches import draw_batch
from salib.training.data import Samples
from salib.training.train import pretrain

FOUR = ("radar", "lores", "hires", "s2")
MODEL = replace(
    preset("tiny"), dim=16, depth=2, heads=2, decoder_dim=16, sensors=("radar", "s2", "hires")
)
TRAIN = TrainConfig(steps=2, batch=2, learning_rate=1e-3, crop_px=(48, 96), image_px=32)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    out = tmp_path_factory.mktemp("spectral") / "world"
    options = {"tiles": 2, "hires_native_gsd_m": 5.0, "spectral": True, "processes": 1}
    return write_scenes(out, seed=3, **options)


@pytest.fixture(scope="module")
def tiles(catalog, tmp_path_factory):
    out = tmp_path_factory.mktemp("four") / "tiles"
    return curate(catalog, out, zoom=14, rules=Rules(sensors=FOUR))


def test_a_tile_holds_the_reflectance_of_each_band_where_the_colours_are(tiles):
    """Level 255 of true colour is reflectance 0.2; the product's offset must be gone."""
    samples = Samples(tiles)
    assert samples.sensors == FOUR
    for number in range(len(samples)):
        colours, bands = samples.image(number, "lores"), samples.image(number, "s2")
        assert bands.dtype == np.uint16
        assert bands.shape == (256, 256, 12)
        for channel, band in enumerate(("B04", "B03", "B02")):
            expected = colours[..., channel].astype(float).ravel() * 2000 / 255
            found = {name: bands[..., n].astype(float).ravel() for n, name in enumerate(S2_BANDS)}
            alike = {name: np.corrcoef(expected, values)[0, 1] for name, values in found.items()}
            assert alike[band] > 0.98
            assert alike[band] >= max(alike["B03"], alike["B02"], alike["B04"])
            assert np.abs(found[band] - expected).mean() < 12  # noise of TCI is a level or less


def test_coarser_bands_lie_where_the_finer_ones_do(tiles, catalog):
    """Near infrared at 10 m and at 20 m is one quantity in this world, but for a factor."""
    bands = Samples(tiles).image(0, "s2").astype(float)
    fine, coarse = bands[..., S2_BANDS.index("B08")], bands[..., S2_BANDS.index("B8A")]
    blurred = cv2.GaussianBlur(fine, (0, 0), 1.2)
    right = np.corrcoef(blurred.ravel(), coarse.ravel())[0, 1]
    for shift in (-3, 3):
        for axis in (0, 1):
            moved = np.roll(coarse, shift, axis)
            assert np.corrcoef(blurred.ravel(), moved.ravel())[0, 1] < right
    sizes = {}
    for path in sorted(catalog.parent.rglob("B*.tif")):
        with rasterio.open(path) as file:
            sizes.setdefault(path.stem, file.res[0])
    assert {sizes[band] for band in ("B02", "B8A", "B09")} == {10.0, 20.0, 60.0}


@pytest.mark.parametrize(
    ("properties", "offset"),
    [
        ({"s2:processing_baseline": "03.01"}, 0),
        ({"s2:processing_baseline": 4.0}, -1000),
        ({"s2:processing_baseline": "N0400"}, -1000),
        ({"s2:processing_baseline": "0399"}, 0),
        ({"processing:version": "05.10"}, -1000),
        ({"s2:product_uri": "S2A_MSIL2A_20200611T080611_N0212_R078_T35MNM_20200826T230619"}, 0),
        ({"s2:product_uri": "S2A_MSIL2A_20230611T080611_N0509_R078_T35MNM_20230826T230619"}, -1000),
        ({"s2:processing_baseline": "05.09"}, -1000),
        ({"s2:processing_baseline": "05.09", "earthsearch:boa_offset_applied": True}, 0),
        ({"s2:processing_baseline": "05.09", "earthsearch:boa_offset_applied": False}, -1000),
    ],
)
def test_the_offset_of_a_product_depends_on_its_baseline(catalog, properties, offset):
    rules = Rules(sensors=FOUR)
    items = find_items(catalog, rules, None)
    item = next(item for item in items if item.collection_id == "sentinel-2-l2a")
    item.properties.pop("s2:processing_baseline")
    item.properties.update(properties)
    scene = scene_of(item, "s2")
    assert scene.offset_dn == offset
    assert scene_of(item, "lores").offset_dn == 0
    assert [href.rsplit("/", 1)[1] for href in scene.hrefs] == [f"{band}.tif" for band in S2_BANDS]


def test_the_index_holds_what_all_sensors_see_and_days_from_the_second(tiles):
    index = pd.read_parquet(tiles / "index.parquet")
    assert {f"valid_frac_{name}" for name in FOUR} <= {*index}
    assert {"days_radar", "days_hires", "days_s2", "cloud_frac_lores", "cloud_frac_s2"} <= {*index}
    assert "days_lores" not in index
    assert (index["days_s2"] == 0).all()  # one product


def test_a_model_trains_on_it_and_embeds_alone_and_jointly(tiles, tmp_path):
    out = pretrain(MODEL, TRAIN, tiles=tiles, out=tmp_path / "model", seed=1)
    losses = pd.read_csv(out / "log.csv")
    assert np.isfinite(losses[["contrastive", "reconstruction"]]).all(axis=None)
    model = salib.load_model(out)
    batch = draw_batch(Samples(tiles), TRAIN, seed=1, step=0)
    assert set(batch.images) == {*FOUR}
    assert batch.images["s2"].max() > 255 >= batch.images["lores"].max()
    alone = model.embed(batch.images["s2"], "s2", batch.gsd_m["s2"])
    given = {name: batch.images[name] for name in ("radar", "s2")}
    metres = {name: batch.gsd_m[name] for name in given}
    joint = model.embed(given, gsd_m=metres)
    moved = model.embed(given | {"s2": given["s2"].flip(1)}, gsd_m=metres)
    assert alone.shape == joint.shape == (2, 16)
    assert not torch.allclose(joint, moved)


def test_drawing_a_further_sensor_changes_nothing_for_the_others(tiles):
    samples = Samples(tiles)
    few = draw_batch(samples, TRAIN, seed=4, step=1, sensors=("radar", "lores"))
    every = draw_batch(samples, TRAIN, seed=4, step=1)
    for name, images in few.images.items():
        assert torch.equal(images, every.images[name])


def test_tiles_without_a_sensor_of_the_model_are_refused(ramps, tmp_path):
    with pytest.raises(
        ValueError, match=r"must hold radar, s2, hires, got radar, lores, hires: .*--sensors"
    ):
        pretrain(MODEL, TRAIN, tiles=ramps, out=tmp_path / "model", seed=1)


def test_sensors_that_make_no_sample_are_refused():
    for wrong in (("s2", "radar"), ("radar",), ("radar", "hires", "s2"), ("radar", "s2", "s2")):
        with pytest.raises(ValueError, match="sensors must"):
            Rules(sensors=wrong)
    check_sensors(("radar", "s2"))


def test_resizing_many_bands_is_resizing_each():
    image = np.random.default_rng(2).integers(0, 9000, (37, 37, 12), dtype=np.uint16)
    for how in (cv2.INTER_AREA, cv2.INTER_CUBIC):
        whole = resize_bands(image, 23, how)
        for band in range(12):
            alone = cv2.resize(image[..., band], (23, 23), interpolation=how)
            np.testing.assert_allclose(whole[..., band], alone, atol=1)  # rounding of ties


@pytest.mark.parametrize("name", TWELVE_BAND_RULES)
def test_a_task_of_twelve_bands_is_read_in_the_sensors_order_and_units(tmp_path, name):
    folder = write_layout(tmp_path, name)
    task = geobench_task(folder, procedural=False)
    assert "s2" in task.sensors
    rule = TWELVE_BAND_RULES[name]
    numbers = ["08A" if band == "B8A" else band[1:] for band in S2_BANDS]
    by_number = {band.name.split(" ")[0]: band.name for band in LAYOUTS[name].bands}
    wanted = [by_number[number] for number in numbers]
    stored = {band.name: band.name for band in LAYOUTS[name].bands}
    if name == "m-eurosat":  # published channels stand under shifted names (geo-bench issue 28)
        names = [band.name for band in LAYOUTS[name].bands]
        true = [*names[:8], *names[9:], names[8]]
        stored = dict(zip(true, names, strict=True))
    for sample, (image, _) in zip(
        SPLIT_NAMES["train"], iter_split(task, "train", modality="multispectral"), strict=True
    ):
        with h5py.File(folder / f"{sample}.hdf5") as file:
            raw = np.stack(
                [file[key][()].squeeze() for key in (_key(file, stored[band]) for band in wanted)],
                axis=-1,
            )
        expected = np.rint(np.clip(raw.astype(float) * 10_000 / rule.full_scale, 1, 65535))
        np.testing.assert_array_equal(image, expected.astype(np.uint16))


def _key(file, band):
    (key,) = [key for key in file if key.startswith(band)]
    return key


class Bands(torch.nn.Module):
    """A model whose embedding of an image is the mean of each band that it is given."""

    def __init__(self):
        super().__init__()
        self.attention_used = set()

    def embed(self, bands, sensor, gsd_m):
        assert sensor == "s2"
        return bands.mean((2, 3))


def test_published_weights_are_given_all_twelve_bands_by_the_tasks_own_statistics(tmp_path):
    sizes = {"train": 12, "valid": 10, "test": 10}
    tasks = ("m-eurosat",)
    root = write_geobench(tmp_path / "geobench", seed=1, tasks=tasks, **sizes, processes=1)
    task = geobench_task(root / "classification_v1.0/m-eurosat", procedural=True)
    columns = {"twelve": Candidate(model=PublishedCroma(Bands()), sensor="s2")}
    columns["colours"] = Candidate(model=PublishedCroma(Bands()), sensor="lores")
    fitted = with_task_stats(columns, task)
    features = embed_split(task, "test", fitted, image_px=64).features
    train = [image for image, _ in iter_split(task, "train", modality="multispectral")]
    mean = np.concatenate([image.reshape(-1, 12) for image in train]).astype(float).mean(0)
    std = np.concatenate([image.reshape(-1, 12) for image in train]).astype(float).std(0)
    for row, (image, _) in enumerate(iter_split(task, "test", modality="multispectral")):
        scaled = np.clip((image - mean + 2 * std) / (4 * std), 0, 1).mean((0, 1))
        np.testing.assert_allclose(features["twelve"][row], scaled, atol=1e-4)
    others = [n for n in range(12) if n not in SENSORS["s2"].shown]
    assert (features["colours"][:, others] == 0.5).all()
    assert (features["twelve"][:, others] != 0.5).all()


def test_the_page_draws_bands_by_their_names():
    bands = np.zeros((4, 4, 12), np.uint16)
    bands[..., S2_BANDS.index("B08")] = 4000
    views = shown.band_views(np.zeros((4, 4, 3), np.uint8), bands)
    assert (views["infrared"][..., 0] == 255).all()
    assert not views["red, green, blue"].any()
    assert shown.sensor_rows(SENSORS).loc["s2", "bands"] == 12
