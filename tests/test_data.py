"""Batches: three sensors of one ground, true ground sample distances, streams by seed."""

import math
import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import LEVELS_A_PX, RAMP_GSD_M, RAMP_TILES, ramp, ramp_corner

from salib.config import SENSOR_NAMES, SENSORS, TRAINING
from salib.tiles.grid import TileId
from salib.training.batches import Crop, cut_crop, draw_batch
from salib.training.data import Samples

ZOOM = 14
CONFIG = replace(TRAINING["tiny"], batch=6, crop_px=(24, 80), image_px=40, jitter=0.0)
RAMPS = replace(CONFIG, batch=5, crop_px=(61, 163), image_px=47)
FINER, COARSER = ((47, 79), 101), ((101, 191), 97)
"""Smallest and largest crop, and the side it is resampled to."""


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


def test_splits_choose_samples_and_all_of_the_index_counts(tiles):
    index = pd.read_parquet(tiles / "index.parquet")
    for split in ("train", "valid"):
        expected = set(index.tile_id[index.split == split])
        assert set(Samples(tiles, split=split).rows.tile_id) == expected
    assert set(Samples(tiles).rows.tile_id) == set(index.tile_id)


def test_samples_with_hardly_a_valid_pixel_train_if_the_index_holds_them(tiles, tmp_path):
    for path in tiles.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    rows = pd.read_parquet(tiles / "index.parquet").assign(valid_frac_hires=0.01)
    rows.to_parquet(tmp_path / "index.parquet")
    assert len(Samples(tmp_path)) == len(rows)


def numbers(batch, sensor="lores"):
    """Which sample each image of a batch of ramps shows."""
    return ((batch.images[sensor][:, 2].mean(dim=(1, 2)) - 10) / 30).round().int().tolist()


def ground_of(image, number):
    """Ground under the corners (0, 0), (1, 0) and (0, 1) of an image, in lores pixels.

    A plane is fitted to what the pixels state, two at the rim aside. Of no pixel may it be wrong by
    more than what rounding and interpolation leave.
    """
    side = image.shape[-1]
    at = (np.arange(side) + 0.5) / side
    across, down = np.meshgrid(at, at)
    inner = (slice(2, -2), slice(2, -2))
    design = np.stack([np.ones_like(across), across, down], axis=-1)[inner].reshape(-1, 3)
    levels = image[:2].numpy().transpose(1, 2, 0)[inner].reshape(-1, 2)
    stated = np.linalg.solve(LEVELS_A_PX, (levels - ramp_corner(number)).T).T
    origin, per_across, per_down = (plane := np.linalg.lstsq(design, stated, rcond=None)[0])
    assert np.abs(design @ plane - stated).max() < 2
    return np.stack([origin, origin + per_across, origin + per_down])


@pytest.mark.parametrize(("crop_px", "image_px"), [FINER, COARSER])
def test_sensors_of_a_batch_show_the_same_ground_to_a_tenth_of_a_pixel(ramps, crop_px, image_px):
    """Crop, turn, flip and zoom agree; each pixel is as large as `gsd_m` says."""
    samples, turns, sides, origins = Samples(ramps), set(), set(), set()
    config = replace(RAMPS, crop_px=crop_px, image_px=image_px)
    for step in range(30):
        batch = draw_batch(samples, config, seed=3, step=step)
        assert numbers(batch) == numbers(batch, "hires")
        for row, number in enumerate(numbers(batch)):
            seen = {n: ground_of(batch.images[n][row], number) for n in SENSOR_NAMES}
            for name in SENSOR_NAMES:
                np.testing.assert_allclose(seen[name], seen["lores"], rtol=0, atol=0.1)
                sides_px = np.diff(seen[name][[1, 0, 2]], axis=0)
                stated_m = float(batch.gsd_m[name][row]) * batch.images[name].shape[-1]
                measured_m = np.hypot(*sides_px.T) * RAMP_GSD_M[number]
                np.testing.assert_allclose(measured_m, stated_m, rtol=4e-3)
            origin, across, down = seen["lores"]
            frame = np.stack([across - origin, down - origin])
            corners = np.stack([origin, across, down, across + down - origin])
            side = np.abs(frame).max()
            turn = np.round(frame / side)
            np.testing.assert_allclose(frame, turn * side, rtol=0, atol=0.2)
            assert sorted(np.abs(turn).sum(axis=0)) == [1, 1]
            assert crop_px[0] - 0.2 < side < crop_px[1] + 0.2
            assert -0.2 < corners.min() < corners.max() < 256.2
            turns.add(tuple(turn.astype(int).flatten()))
            sides.add(round(side))
            origins.add(tuple(np.round(corners.min(axis=0))))
    assert len(turns) == 8
    assert len(sides) > 20
    assert len(origins) > 100


@pytest.mark.parametrize("ground_px", [90, 200, None])
def test_all_views_of_a_step_are_cut_from_one_square_of_a_sample(ramps, ground_px):
    """Two views of the same ground overlap; without a square they may lie anywhere in the tile."""
    config = replace(RAMPS, crop_px=(61, 88), views=3, ground_px=ground_px)
    samples, spans, corners = Samples(ramps), [], []
    for step in range(20):
        views = [draw_batch(samples, config, seed=3, step=step, view=view) for view in range(3)]
        assert len({tuple(numbers(batch)) for batch in views}) == 1
        for row, number in enumerate(numbers(views[0])):
            seen = [ground_of(batch.images["lores"][row], number) for batch in views]
            points = np.concatenate([[o, a, d, a + d - o] for o, a, d in seen])
            spans.append(np.ptp(points, axis=0).max())
            corners.append(points.min(axis=0))
    side = ground_px or 256
    assert 0.85 * side < max(spans) < side + 0.3
    assert np.ptp(corners, axis=0).min() > 0.8 * (256 - side)


def test_vv_comes_before_vh_from_tile_to_batch(ramps):
    samples = Samples(ramps)
    whole = replace(RAMPS, crop_px=(256, 256), image_px=256)
    for place in range(len(samples)):
        tile = RAMP_TILES[RAMP_GSD_M.index(samples.gsd_m(place, "lores"))]
        vv_vh = ramp("radar", tile)[..., 1:3]
        assert (samples.image(place, "radar") == vv_vh).all()
    batch = draw_batch(samples, whole, seed=0, step=0)
    for row, number in enumerate(numbers(batch)):
        radar = batch.images["radar"][row].numpy().transpose(1, 2, 0)
        vv_vh = ramp("radar", RAMP_TILES[number])[..., 1:3]
        turned = [
            np.rot90(flipped, quarter)
            for flipped in (vv_vh, vv_vh[:, ::-1])
            for quarter in range(4)
        ]
        assert sum(np.array_equal(radar, each) for each in turned) == 1


def test_hires_pixels_of_a_sample_are_those_of_its_four_finer_tiles(ramps):
    samples = Samples(ramps)
    for place in range(len(samples)):
        tile = RAMP_TILES[RAMP_GSD_M.index(2 * samples.gsd_m(place, "hires"))]
        for child in tile.children():
            top, left = 256 * (child.y % 2), 256 * (child.x % 2)
            part = samples.image(place, "hires")[top : top + 256, left : left + 256]
            assert (part == ramp("hires", child)[..., :3]).all()


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
    jittered = replace(CONFIG, jitter=0.5)
    whole = draw_batch(samples, jittered, seed=0, step=2)
    parts = [draw_batch(samples, jittered, seed=0, step=2, rank=r, ranks=3) for r in range(3)]
    for name in SENSOR_NAMES:
        for rank, part in enumerate(parts):
            assert torch.equal(part.images[name], whole.images[name][rank::3])
            assert torch.equal(part.gsd_m[name], whole.gsd_m[name][rank::3])
    with pytest.raises(ValueError, match="multiple of the ranks"):
        draw_batch(samples, CONFIG, seed=0, step=0, rank=0, ranks=4)


def test_gains_are_drawn_for_each_image_and_sensor_and_less_for_each_band(ramps):
    samples, log_gains = Samples(ramps), []
    for step in range(40):
        plain, drawn = (
            draw_batch(samples, replace(RAMPS, jitter=jitter), seed=1, step=step).images
            for jitter in (0.0, 0.1)
        )
        for row in range(RAMPS.batch):
            found = []
            for name in SENSOR_NAMES:
                for before, after in zip(plain[name][row], drawn[name][row], strict=True):
                    unclipped = (before > 0) & (after < 255)
                    gains = after[unclipped] / before[unclipped]
                    torch.testing.assert_close(gains, gains[:1].expand_as(gains))  # no offset
                    found.append(math.log(gains[0]))
            log_gains.append(found)
    radar, lores, hires = np.split(np.array(log_gains), [2, 5], axis=1)
    for one, other in ((radar, lores), (radar, hires), (lores, hires)):
        assert abs(np.corrcoef(one[:, 0], other[:, 0])[0, 1]) < 0.25
    for bands in (radar, lores, hires):
        assert abs(bands.mean()) < 0.03
        assert bands.std() == pytest.approx(0.1 * math.hypot(1, 0.3), rel=0.2)
        apart = bands[:, 0] - bands[:, 1]
        assert apart.std() == pytest.approx(0.03 * math.sqrt(2), rel=0.2)


@pytest.mark.parametrize(("places", "chosen"), [(256, range(7)), (3, (0, 3, 6)), (1, (0,))])
def test_levels_are_the_mean_and_deviation_of_the_pixels(ramps, places, chosen):
    """By loops over every fourth pixel of evenly spaced samples."""
    samples = Samples(ramps)
    for name, levels in zip(SENSOR_NAMES, samples.band_stats(count=places), strict=True):
        for band, channel in enumerate(SENSORS[name].channels):
            values = []
            for place in chosen:
                tile = RAMP_TILES[RAMP_GSD_M.index(samples.gsd_m(place, "lores"))]
                if name == "hires":
                    rows = [[ramp(name, c) for c in tile.children()[i : i + 2]] for i in (0, 2)]
                    image = np.concatenate([np.concatenate(row, axis=1) for row in rows])
                else:
                    image = ramp(name, tile)
                for row in range(0, len(image), 4):
                    for col in range(0, len(image), 4):
                        values.append(int(image[row, col, channel]))
            mean = sum(values) / len(values)
            std = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
            assert levels.mean[band] == pytest.approx(mean, abs=1e-3)
            assert levels.std[band] == pytest.approx(max(std, 1.0), abs=1e-3)


def test_batches_repeat_no_sample_and_use_all_equally(ramps):
    samples, count = Samples(ramps), [0] * len(RAMP_TILES)
    for step in range(3 * len(RAMP_TILES)):
        found = numbers(draw_batch(samples, RAMPS, seed=2, step=step))
        assert len(set(found)) == RAMPS.batch
        for number in found:
            count[number] += 1
        assert max(count) - min(count) <= 1
    assert set(count) == {3 * RAMPS.batch}


def test_seeds_draw_other_samples(ramps):
    samples = Samples(ramps)
    first = {tuple(numbers(draw_batch(samples, RAMPS, seed=seed, step=0))) for seed in range(7)}
    assert len(first) == 7


def test_a_batch_is_the_same_whichever_step_was_drawn_before(ramps):
    walked = Samples(ramps)
    for step in range(19):
        last = draw_batch(walked, RAMPS, seed=2, step=step)
    for samples in (Samples(ramps), pickle.loads(pickle.dumps(walked))):
        resumed = draw_batch(samples, RAMPS, seed=2, step=18)
        for name in SENSOR_NAMES:
            assert torch.equal(resumed.images[name], last.images[name])


def test_a_batch_larger_than_the_data_is_refused(ramps):
    message = "got a batch of 11 and 7 samples: choose a smaller batch or curate more"
    with pytest.raises(ValueError, match=message):
        draw_batch(Samples(ramps), replace(RAMPS, batch=11), seed=0, step=0)


def test_missing_or_truncated_files_are_named(tiles, tmp_path):
    with pytest.raises(ValueError, match=r"index\.parquet"):
        Samples(tmp_path)
    for path in tiles.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    data = (tmp_path / "hires.pmtiles").read_bytes()
    (tmp_path / "hires.pmtiles").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="ends after"):
        Samples(tmp_path)
    with pytest.raises(ValueError, match="got none"):
        Samples(tiles, split="test")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda rows: rows.assign(gsd_m=0.0), "gsd_m in .* got 0 where it is 7.99"),
        (lambda rows: rows.assign(gsd_m=float("nan")), "gsd_m in .* got nan where"),
        (lambda rows: rows.assign(gsd_m=float("inf")), "gsd_m in .* got inf where"),
        (lambda rows: rows.assign(gsd_m=1e9), r"gsd_m in .* got 1e\+09 where"),
        (lambda rows: rows.assign(gsd_m=2 * rows.gsd_m), r"gsd_m in .* got 1[56].* where"),
        (lambda rows: rows.assign(gsd_m="8 m"), "must hold numbers as gsd_m"),
        (lambda rows: rows.assign(gsd_m=None), "gsd_m in .* got nan where"),
        (lambda rows: rows.drop(columns="gsd_m"), "must have the columns"),
        (lambda rows: moved(rows.assign(x=rows.x + 2)), "must hold every tile of the index"),
        (lambda rows: rows.assign(x=rows.x + 1), "must list each tile once"),
        (lambda rows: rows.assign(x=rows.x + 0.5), "must list each tile once"),
        (lambda rows: rows.assign(y=-rows.y), "must list each tile once"),
        (lambda rows: rows.assign(x=1 << 14), "must list each tile once"),
        (lambda rows: rows.assign(z=99), "must list each tile once"),
        (lambda rows: rows.assign(z=float("inf")), "must list each tile once"),
        (lambda rows: rows.assign(y=None), "must list each tile once"),
        (lambda rows: rows.assign(z="fourteen"), "must hold numbers as tile_id, z, x, y"),
        (lambda rows: rows.assign(tile_id=rows.tile_id[::-1].to_numpy()), "list each tile once"),
        (lambda rows: rows.iloc[[0, 1, 1, 2]], "must list each tile once"),
    ],
)
def test_a_spoilt_index_is_refused(tiles, tmp_path, spoil, message):
    for path in tiles.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    spoil(pd.read_parquet(tiles / "index.parquet")).to_parquet(tmp_path / "index.parquet")
    with pytest.raises(ValueError, match=message):
        _read_all(tmp_path)


def moved(rows):
    """Rows with the numbers of the tiles that they name."""
    return rows.assign(
        tile_id=[TileId(*place).hilbert for place in rows[["z", "x", "y"]].values.tolist()]
    )


def _read_all(folder):
    samples = Samples(folder)
    return [samples.image(place, "lores") for place in range(len(samples))]
