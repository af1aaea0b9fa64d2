"""Intervals cover, baselines equal loops, two runs with one seed are one."""

import io
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from salib import build_model, preset
from salib.evaluate import PROTOCOLS, Candidate, evaluate, features
from salib.evaluate.probes.table import PROBES
from salib.evaluate.scores import metrics, statistics
from salib.evaluate.tasks.class_folders import CHIP_ZIPS
from salib.evaluate.tasks.task import chip_task


class Colour(torch.nn.Module):
    """An encoder of six numbers, for the run as a whole."""

    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def embed(self, images, *, sensor, gsd_m):
        levels = self.scale * images.float()
        return torch.cat([levels.mean((2, 3)), levels.std((2, 3))], 1) + 0 * gsd_m[:, None]


QUICK = replace(PROTOCOLS["default"], hidden=64, epochs=15)


def test_bootstrap_interval_covers_the_true_accuracy():
    rng = np.random.default_rng(11)
    runs, n, p = 600, 301, 0.73
    indices = rng.integers(n, size=(400, n))
    covered = 0
    for _ in range(runs):
        right = (rng.random(n) < p)[:, None].astype(np.int64)
        share = metrics.of_sums(right, lambda sums: sums[:, 0] / n)
        interval = statistics.bootstrap(share, indices)
        covered += interval.low <= p <= interval.high
    assert 0.93 <= covered / runs <= 0.97


def test_paired_interval_is_narrower_than_two_apart():
    rng = np.random.default_rng(0)
    first = rng.random(401) < 0.6
    second = np.where(rng.random(401) < 0.05, ~first, first)
    paired = statistics.paired_accuracy_interval(first, second)
    apart = statistics.accuracy_interval(first)
    assert paired.value == pytest.approx(first.mean() - second.mean())
    assert paired.high - paired.low < apart.high - apart.low


def test_image_statistics_equal_a_loop():
    images = np.random.default_rng(0).integers(0, 256, (3, 7, 5, 3)).astype(np.uint8)
    ours = features.image_statistics(images)
    for row, image in zip(ours, images.astype(np.float64), strict=True):
        bands = [image[..., band] for band in range(3)]
        expected = [f(b) for f in (np.mean, np.std, np.min, np.max) for b in bands]
        np.testing.assert_allclose(row, expected, rtol=1e-5)


def test_random_convolution_equals_scipy_and_does_not_depend_on_the_batch(monkeypatch):
    from scipy.signal import correlate

    images = np.random.default_rng(0).integers(0, 256, (3, 13, 11, 3)).astype(np.uint8)

    def ours(batch):
        monkeypatch.setattr(features, "BATCH", batch)
        return features.random_convolution(images, 4, filters=2)

    weights = torch.randn((2, 3, 5, 5), generator=torch.Generator().manual_seed(4)) / 75**0.5
    for number, image in enumerate(images):
        levels = np.moveaxis(image.astype(np.float64) / 127.5 - 1, -1, 0)
        maps = [correlate(levels, w, mode="valid")[0, ::2, ::2] for w in weights.double().numpy()]
        expected = [np.maximum(s * m, 0).mean() for s in (1, -1) for m in maps]
        np.testing.assert_allclose(ours(2)[number], expected, atol=1e-5)
    np.testing.assert_allclose(ours(1), ours(3), atol=1e-6)


def lores(images, gsd_m):
    """What `embed` is given of one sensor."""
    return {"images": {"lores": images}, "gsd_m": {"lores": gsd_m}, "sensor": "lores"}


def test_embedding_does_not_depend_on_the_batch():
    model = Colour(1.0)
    images = np.random.default_rng(0).integers(0, 256, (7, 5, 3, 3)).astype(np.uint8)
    alone = [features.embed(model, **lores(image[None], np.full(1, 10.0))) for image in images]
    all_at_once = features.embed(model, **lores(images, np.full(7, 10.0)))
    np.testing.assert_allclose(np.concatenate(alone), all_at_once, rtol=1e-5)


def test_embeddings_that_are_not_finite_are_refused():
    images = np.zeros((3, 5, 7, 3), np.uint8)
    with pytest.raises(ValueError, match="embeddings of lores must be finite"):
        features.embed(Colour(np.inf), **lores(images, np.ones(3)))


def test_bfloat16_embeddings_are_those_of_float32_within_their_rounding():
    model = build_model(preset("tiny"), seed=0).eval()
    images = np.random.default_rng(0).integers(0, 256, (5, 24, 40, 3)).astype(np.uint8)
    exact, half = (
        features.embed(model, precision=precision, **lores(images, np.full(5, 7.0)))
        for precision in ("float32", "bf16")
    )
    assert 0 < np.linalg.norm(half - exact) < 1e-2 * np.linalg.norm(exact)


@pytest.fixture
def task(tmp_path):
    path = tmp_path / CHIP_ZIPS["ucmerced"].file
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for level, label in ((60, "dark"), (190, "light")):
            for number in range(71):
                pixels = rng.normal(level, 10, (9, 11, 3)).clip(0, 255).astype(np.uint8)
                buffer = io.BytesIO()
                Image.fromarray(pixels).save(buffer, "PNG")
                archive.writestr(f"{label}/{label}{number}.png", buffer.getvalue())
    return chip_task(path, source="ucmerced")


def _models():
    return {
        "CROMA": Candidate(model=Colour(1.0), sensor="lores"),
        "SA-high": Candidate(model=Colour(0.5), sensor="hires"),
        "SA-high untrained": Candidate(model=Colour(0.1), sensor="hires", trained=False),
    }


def test_two_runs_with_one_seed_write_the_same_bytes_and_rows_stand_alone(task, tmp_path):
    options = {"image_px": 8, "seed": 3, "protocol": QUICK}
    frame = evaluate(_models(), [task], out=tmp_path / "a.csv", **options)
    evaluate(_models(), [task], out=tmp_path / "b.csv", **options)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    fewer = {name: model for name, model in _models().items() if name != "SA-high"}
    alone = evaluate(fewer, [task], **options)
    both = frame[frame["model"] != "SA-high"].reset_index(drop=True)
    assert both.equals(alone)
    # Nine pixels of 0.3 m seen as 8 and as 16 pixels.
    side = frame.drop_duplicates("model").set_index("model")
    assert side.loc["CROMA", "gsd_m"] == pytest.approx(0.3 * 9 / 8)
    assert side.loc["SA-high", "gsd_m"] == pytest.approx(0.3 * 9 / 16)
    probed = frame[frame["model"] != "majority class"].groupby("model")["probe"].agg(set)
    assert len(probed) == 5
    assert all(names == set(PROBES) for names in probed)
    kinds = {"trained", "untrained", "baseline"}
    assert set(frame["kind"]) == kinds
    assert frame.loc[frame["model"] == "majority class", "value"].tolist() == [0.5]
    assert (frame.loc[frame["probe"] == "knn", "value"] == 1).all()


def test_models_without_an_untrained_one_are_refused(task, tmp_path):
    trained = {"CROMA": _models()["CROMA"]}
    with pytest.raises(ValueError, match="untrained"):
        evaluate(trained, [task], image_px=8, seed=0, out=tmp_path / "a.csv")
    with pytest.raises(ValueError, match="must end in"):
        evaluate(_models(), [task], image_px=8, seed=0, out=tmp_path / "a.txt")
    assert not list(tmp_path.glob("a.*"))
