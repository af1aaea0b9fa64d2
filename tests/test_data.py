"""Batches: three sensors of one ground, true ground sample distances, streams by seed."""

import json
import multiprocessing
import os
import pickle
import shutil
import zlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from salib.config import SENSOR_NAMES, TRAINING
from salib.data import CHANNELS, SIDE, Crop, Samples, cut_crop, draw_batch, pack
from salib.packed import Packed

ZOOM = 14
CONFIG = replace(TRAINING["tiny"], batch=6, crop_px=(24, 80), image_px=40, jitter=0.0)


def test_three_sensors_of_a_sample_cover_the_same_ground(tiles):
    samples = Samples(tiles)
    for place in range(len(samples)):
        lores, hires = samples.image(place, "lores"), samples.image(place, "hires")
        halved = hires.reshape(256, 2, 256, 2, 3).astype(float).mean(axis=(1, 3))
        assert np.abs(halved[2:-2, 2:-2, :2] - lores[2:-2, 2:-2, :2]).max() <= 1.0
        radar = samples.image(place, "radar")
        assert (radar[..., 0] == lores[..., 1]).all()
        assert (radar[..., 1] == lores[..., 2]).all()


def test_a_triple_shows_one_place_at_both_hires_levels(tiles):
    samples = Samples(tiles)
    triple = samples.triple(3)
    assert (triple["hires"] == triple["lores"]).all()
    assert (triple["hires4x"] == samples.image(3, "hires")).all()
    assert triple["title"] == f"tile {ZOOM}/{samples.rows.x[3]}/{samples.rows.y[3]}"


def test_split_and_validity_choose_samples(tiles):
    assert len(Samples(tiles)) == 5
    assert len(Samples(tiles, split="train")) == 4
    assert len(Samples(tiles, split="train", min_valid=0.4)) == 5
    assert len(Samples(tiles, split="valid")) == 1


def test_gsd_of_a_batch_is_that_of_its_crops(tiles):
    samples = Samples(tiles)
    batch = draw_batch(samples, CONFIG, seed=0, step=0)
    torch.testing.assert_close(batch.gsd_m["radar"], batch.gsd_m["lores"])
    torch.testing.assert_close(batch.gsd_m["hires"] * 2, batch.gsd_m["lores"])
    low, high = 8.0 * 24 / 40, 8.0 * 80 / 40
    assert batch.gsd_m["lores"].min() >= low
    assert batch.gsd_m["lores"].max() <= high
    assert len(set(batch.gsd_m["lores"].tolist())) > 1
    for name in SENSOR_NAMES:
        side = CONFIG.image_px * SIDE[name]
        assert batch.images[name].shape == (6, len(CHANNELS[name]), side, side)


def test_slope_of_the_picture_agrees_with_the_stated_gsd(tiles):
    """The red ramp rises 60 levels a tile, so its slope measures metres a pixel."""
    samples = Samples(tiles)
    batch = draw_batch(samples, CONFIG, seed=3, step=1)
    for name in ("lores", "hires"):
        for image, gsd in zip(batch.images[name], batch.gsd_m[name].tolist(), strict=True):
            steps = torch.cat([image[:2].diff(dim=-1).flatten(), image[:2].diff(dim=-2).flatten()])
            slope = steps.abs()[(steps.abs() > 0) & (steps.abs() < 30)].sum() / (
                image.shape[-1] * (image.shape[-1] - 1) * 2
            )
            expected = 60 * gsd / (8.0 * 256)
            assert float(slope) == pytest.approx(expected, rel=0.25, abs=0.05)


@pytest.mark.parametrize("turn", range(8))
def test_every_turn_is_one_of_the_eight_symmetries(turn):
    image = np.arange(5 * 5 * 2, dtype=np.uint8).reshape(5, 5, 2)
    turned = cut_crop(image, Crop(0, 0, 5, turn), 1, 5)
    symmetries = [
        np.rot90(flipped, quarter) for flipped in (image, image[:, ::-1]) for quarter in range(4)
    ]
    assert sum(np.array_equal(turned, s) for s in symmetries) == 1
    others = {cut_crop(image, Crop(0, 0, 5, t), 1, 5).tobytes() for t in range(8)}
    assert len(others) == 8


def test_same_seed_gives_the_same_bytes_and_another_does_not(tiles):
    jittered = replace(CONFIG, jitter=0.1)
    one, two = (draw_batch(Samples(tiles), jittered, seed=4, step=7) for _ in range(2))
    other = draw_batch(Samples(tiles), jittered, seed=5, step=7)
    later = draw_batch(Samples(tiles), jittered, seed=4, step=8)
    for name in SENSOR_NAMES:
        assert torch.equal(one.images[name], two.images[name])
        assert not torch.equal(one.images[name], other.images[name])
        assert not torch.equal(one.images[name], later.images[name])


def test_ranks_share_out_one_batch(tiles):
    samples = Samples(tiles)
    whole = draw_batch(samples, CONFIG, seed=0, step=2)
    parts = [draw_batch(samples, CONFIG, seed=0, step=2, rank=r, ranks=3) for r in range(3)]
    for name in SENSOR_NAMES:
        for rank, part in enumerate(parts):
            assert torch.equal(part.images[name], whole.images[name][rank::3])
            assert torch.equal(part.gsd_m[name], whole.gsd_m[name][rank::3])
    with pytest.raises(ValueError, match="multiple of the ranks"):
        draw_batch(samples, CONFIG, seed=0, step=0, rank=0, ranks=4)


def test_levels_are_the_mean_and_deviation_of_the_pixels(tiles):
    samples = Samples(tiles)
    pixels = np.concatenate(
        [samples.image(i, "hires")[::4, ::4].reshape(-1, 3) for i in range(len(samples))]
    )
    hires = dict(zip(SENSOR_NAMES, samples.levels(), strict=True))["hires"]
    assert hires.mean == pytest.approx(pixels.mean(axis=0), abs=1e-3)
    assert hires.std[:2] == pytest.approx(pixels.std(axis=0)[:2], abs=1e-3)


def test_missing_or_truncated_files_are_named(tiles, tmp_path):
    with pytest.raises(ValueError, match=r"index\.parquet"):
        Samples(tmp_path)
    for path in tiles.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    data = (tmp_path / "hires.pmtiles").read_bytes()
    (tmp_path / "hires.pmtiles").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="must be whole"):
        Samples(tmp_path)
    with pytest.raises(ValueError, match="got none"):
        Samples(tiles, split="test")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda rows: rows.assign(gsd_m=0.0), "gsd_m in .* must be positive"),
        (lambda rows: rows.assign(gsd_m=float("nan")), "gsd_m in .* must be positive"),
        (lambda rows: rows.drop(columns="gsd_m"), "must have the columns"),
        (lambda rows: rows.assign(x=rows.x + 1), "must hold every tile of the index"),
    ],
)
def test_a_spoilt_index_is_refused(tiles, tmp_path, spoil, message):
    for path in tiles.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    spoil(pd.read_parquet(tiles / "index.parquet")).to_parquet(tmp_path / "index.parquet")
    with pytest.raises(ValueError, match=message):
        _read_all(tmp_path)


def _read_all(folder):
    samples = Samples(folder)
    return [samples.image(place, "lores") for place in range(len(samples))]


@pytest.fixture
def curated(tiles, tmp_path):
    """A copy of the curated folder that a test may spoil."""
    return shutil.copytree(tiles, tmp_path / "curated")


def _digests(samples):
    return [
        zlib.crc32(samples.image(place, name).tobytes())
        for place in range(len(samples))
        for name in SENSOR_NAMES
    ]


def _same_pixels(one, two):
    assert len(one) == len(two)
    for place in range(len(one)):
        for name in SENSOR_NAMES:
            image, other = one.image(place, name), two.image(place, name)
            assert image.dtype == other.dtype == np.uint8
            assert np.array_equal(image, other)


def test_packed_pixels_are_those_of_the_archives(curated, tmp_path):
    assert pack(curated) == curated / "packed"
    for chosen in ({}, {"split": "train"}, {"split": "valid"}, {"min_valid": 0.4}):
        _same_pixels(Samples(curated, packed=True, **chosen), Samples(curated, **chosen))
    elsewhere = pack(curated, tmp_path / "deep" / "elsewhere")
    _same_pixels(Samples(curated, packed=elsewhere), Samples(curated))
    one, two = (
        draw_batch(Samples(curated, packed=packed), CONFIG, seed=4, step=7)
        for packed in (True, False)
    )
    for name in SENSOR_NAMES:
        assert torch.equal(one.images[name], two.images[name])


def test_packed_samples_read_no_tile(curated, monkeypatch):
    pack(curated)
    samples = Samples(curated, packed=True)
    monkeypatch.setattr(samples, "archives", {})
    assert len(_digests(samples)) == 3 * len(samples)
    with pytest.raises(ValueError, match="read-only"):
        samples.image(0, "lores")[:] = 0


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_packed_samples_work_in_forked_and_spawned_processes(curated, method):
    pack(curated)
    plain, packed = Samples(curated), Samples(curated, packed=True)
    assert len(pickle.dumps(packed)) < len(packed) * 256 * 256
    with ProcessPoolExecutor(1, multiprocessing.get_context(method)) as pool:
        assert pool.submit(_digests, packed).result() == pool.submit(_digests, plain).result()
    _same_pixels(pickle.loads(pickle.dumps(packed)), plain)


def test_a_pack_of_the_same_archives_is_kept(curated):
    written = (pack(curated) / "hires.npy").stat().st_mtime_ns
    assert (pack(curated) / "hires.npy").stat().st_mtime_ns == written
    os.utime(curated / "hires.pmtiles", ns=(1, 1))
    assert (pack(curated) / "hires.npy").stat().st_mtime_ns == written
    Samples(curated, packed=True)


@pytest.mark.parametrize("source", ["radar.pmtiles", "hires.pmtiles", "index.parquet"])
def test_a_pack_of_other_archives_is_refused(curated, source):
    pack(curated)
    data = bytearray((curated / source).read_bytes())
    data[-9] ^= 1
    for spoilt in (bytes(data), bytes(data) + b"more"):
        (curated / source).write_bytes(spoilt)
        with pytest.raises(ValueError, match=f"made from .*{source} as it is now.*pack again"):
            Packed(curated / "packed", curated)


def test_a_stale_pack_is_made_again(curated):
    pack(curated)
    rows = pd.read_parquet(curated / "index.parquet").iloc[:-1]
    rows.to_parquet(curated / "index.parquet")
    with pytest.raises(ValueError, match=r"index\.parquet as it is now.*pack again"):
        Samples(curated, packed=True)
    pack(curated)
    _same_pixels(Samples(curated, packed=True), Samples(curated))


@pytest.mark.parametrize("name", ["radar.npy", "lores.npy", "hires.npy", "tile_id.npy"])
def test_a_truncated_or_missing_file_of_a_pack_is_refused(curated, name):
    path = pack(curated) / name
    data = path.read_bytes()
    for spoilt in (data[:-1], data[: len(data) // 2], data[:20], b"", data + b"0"):
        path.write_bytes(spoilt)
        with pytest.raises(ValueError, match=f"{name}.*pack again"):
            Samples(curated, packed=True)
    path.unlink()
    with pytest.raises(ValueError, match=f"{name}.*pack again"):
        Samples(curated, packed=True)
    pack(curated)
    _same_pixels(Samples(curated, packed=True), Samples(curated))


def test_an_interrupted_pack_leaves_nothing(curated, monkeypatch):
    kept = {path.name for path in curated.iterdir()}
    decode = Samples._decode

    def stops(self, place, sensor):
        if place == 3:
            raise KeyboardInterrupt
        return decode(self, place, sensor)

    monkeypatch.setattr(Samples, "_decode", stops)
    with pytest.raises(KeyboardInterrupt):
        pack(curated)
    assert {path.name for path in curated.iterdir()} == kept
    with pytest.raises(ValueError, match="that `pack` wrote"):
        Samples(curated, packed=True)


def test_a_pack_is_refused_where_it_does_not_fit_or_would_destroy(curated, tmp_path, monkeypatch):
    needed = 6 * (256 * 256 * 2 + 256 * 256 * 3 + 512 * 512 * 3)
    usage = shutil.disk_usage(tmp_path)._replace(free=needed - 1)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage)
        with pytest.raises(OSError, match=f"{needed:,} bytes free, got {needed - 1:,}"):
            pack(curated, tmp_path / "absent" / "out")
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("all of it")
    for out in (tmp_path / "precious", curated, tmp_path / "precious" / "thesis.txt"):
        with pytest.raises(ValueError, match="out must "):
            pack(curated, out)
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "all of it"
    with pytest.raises(ValueError, match="curate first"):
        pack(tmp_path / "precious")


def test_a_pack_that_does_not_say_what_it_is_made_from_is_refused(curated):
    stamp = pack(curated) / "made_from.json"
    for found in ({}, {"radar.pmtiles": json.loads(stamp.read_text())["radar.pmtiles"]}):
        stamp.write_text(json.dumps(found))
        with pytest.raises(ValueError, match="pack again"):
            Samples(curated, packed=True)
    stamp.unlink()
    with pytest.raises(ValueError, match="that `pack` wrote"):
        Samples(curated, packed=True)
