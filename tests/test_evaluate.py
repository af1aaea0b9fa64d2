"""Probes agree with other libraries; intervals cover; two runs with one seed are one."""

import io
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.cluster import KMeans
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler, normalize

from salib import build_model, preset
from salib.evaluate import PROTOCOLS, Encoder, evaluate, features
from salib.evaluate.probes import neighbours as probes
from salib.evaluate.probes.neural import neural
from salib.evaluate.protocol import PROBES
from salib.evaluate.scores import statistics
from salib.evaluate.tasks.chip_zips import CHIP_ZIPS
from salib.evaluate.tasks.task import chip_task


def blobs(seed, n=211, dim=17, classes=3, spread=1.0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=n)
    centres = np.random.default_rng(99).normal(size=(classes, dim))
    noise = spread * rng.normal(size=(n, dim)) * np.linspace(1, 5, dim)
    return (centres[labels] + noise + 3).astype(np.float32), labels


class Colour(torch.nn.Module):
    """An encoder of six numbers, for the run as a whole."""

    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def embed(self, images, *, sensor, gsd_m):
        levels = self.scale * images.float()
        return torch.cat([levels.mean((2, 3)), levels.std((2, 3))], 1) + 0 * gsd_m[:, None]


@pytest.mark.parametrize("k", [1, 7, 21])
def test_cosine_knn_equals_sklearn_on_scaled_unit_features_where_no_vote_ties(k):
    (train, y), (test, _) = blobs(0, classes=2), blobs(1, n=103, classes=2)
    scaler = StandardScaler().fit(train)
    ours = probes.knn(*_scaled(train, y, test), k=k, metric="cosine")
    theirs = KNeighborsClassifier(k, metric="cosine", algorithm="brute")
    theirs.fit(normalize(scaler.transform(train)), y)
    np.testing.assert_array_equal(ours, theirs.predict(normalize(scaler.transform(test))))


def _scaled(train, y, test):
    z_train, z_test = probes.standardise(train, test)
    return z_train, y, z_test


@pytest.mark.parametrize("k", [1, 7, 90])
def test_equal_similarities_are_ordered_by_place_in_the_train_split(k):
    rng = np.random.default_rng(3)
    # Axes and their opposites: every similarity is exactly -1, 0 or 1, most of them tie.
    axes = np.concatenate([np.eye(4), -np.eye(4)]).astype(np.float32)
    train, test = axes[rng.integers(8, size=90)], axes[rng.integers(8, size=11)]
    found = probes.cosine_neighbours(train, test, k=k)
    for row, places in zip(test @ train.T, found.places, strict=True):
        assert places.tolist() == sorted(range(90), key=lambda place: (-row[place], place))[:k]


def test_a_tied_vote_goes_to_the_class_whose_member_is_nearest():
    angles = np.deg2rad([50, 40, 10, 20])
    train = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    labels = np.array([0, 0, 1, 1])
    test = np.array([[np.cos(0.6), np.sin(0.6)], [np.cos(0.4), np.sin(0.4)]], np.float32)
    assert probes.knn(train, labels, test, k=4, metric="cosine").tolist() == [0, 1]
    assert probes.knn(train, labels, test, k=4, metric="l2").tolist() == [0, 0]


def test_standardise_equals_sklearn_and_zeroes_a_constant_feature():
    (train, _), (test, _) = blobs(0), blobs(1, n=103)
    train[:, 4] = test[:, 4] = 0.7
    scaler = StandardScaler().fit(np.delete(train, 4, 1).astype(np.float64))
    ours = probes.standardise(train, test)[1]
    expected = scaler.transform(np.delete(test, 4, 1))
    np.testing.assert_allclose(np.delete(ours, 4, 1), expected, atol=1e-5)
    assert not ours[:, 4].any()


def test_kmeans_clusters_equal_sklearn_and_matching_is_learnt_on_train_only():
    (train, y), (test, y_test) = blobs(0), blobs(1, n=103)
    options = {"n_classes": 3, "restarts": 10, "seed": 5}
    matched = probes.kmeans(train, y, test, match="hungarian", **options)
    model = KMeans(3, n_init=10, random_state=5).fit(train)
    np.testing.assert_array_equal(matched.clusters, model.predict(test))
    renamed = probes.kmeans(train, (y + 1) % 3, test, match="hungarian", **options)
    np.testing.assert_array_equal(renamed.predicted, (matched.predicted + 1) % 3)
    assert set(map(tuple, zip(matched.clusters, matched.predicted, strict=True))) == set(
        enumerate(_best_permutation(model.labels_, y))
    )
    assert len(y_test) == len(matched.predicted)


def _best_permutation(clusters, labels):
    from itertools import permutations

    return max(permutations(range(3)), key=lambda p: (np.array(p)[clusters] == labels).sum())


def test_raw_cluster_ids_change_accuracy_when_labels_are_renamed_but_matched_ones_do_not():
    (train, y), (test, y_test) = blobs(0, spread=0.05), blobs(1, n=103, spread=0.05)
    options = {"n_classes": 3, "restarts": 10, "seed": 5}
    raw, matched = [], []
    for shift in range(3):
        for match, scores in (("none", raw), ("hungarian", matched)):
            found = probes.kmeans(train, (y + shift) % 3, test, match=match, **options)
            scores.append((found.predicted == (y_test + shift) % 3).mean())
    assert matched == [1.0, 1.0, 1.0]
    assert sum(raw) == pytest.approx(1.0)


def test_umap_equals_umap_learn_run_directly():
    with _quiet():
        from umap import UMAP
    (train, _), (test, _) = blobs(0), blobs(1, n=53)
    ours = probes.umap_reduce(train, test, dim=2, neighbours=15, seed=3)
    direct = UMAP(random_state=3, n_jobs=1)
    np.testing.assert_array_equal(ours[0], direct.fit_transform(train))
    np.testing.assert_array_equal(ours[1], direct.transform(test))


def _quiet():
    import warnings

    return warnings.catch_warnings(action="ignore", category=ImportWarning)


QUICK = replace(PROTOCOLS["default"], hidden=64, epochs=15)


def _all_probes(train, y, valid, y_valid, test):
    train, valid, test = probes.standardise(train, valid, test)
    options = {"n_classes": 3, "restarts": 10, "match": "hungarian", "seed": 1}
    return {
        "knn": probes.knn(train, y, test, k=20, metric="cosine"),
        "kmeans": probes.kmeans(train, y, test, **options).predicted,
        "neural": neural(train, y, valid, y_valid, test, n_classes=3, protocol=QUICK, seed=1),
    }


def test_separable_data_score_one():
    parts = [blobs(seed, spread=0.05) for seed in range(3)]
    for predicted in _all_probes(*parts[0], *parts[1], parts[2][0]).values():
        assert (predicted == parts[2][1]).all()


def test_shuffled_labels_score_chance():
    rng = np.random.default_rng(0)
    parts = [(x, rng.permutation(y)) for x, y in (blobs(s, n=601) for s in range(3))]
    for predicted in _all_probes(*parts[0], *parts[1], parts[2][0]).values():
        # Five standard errors of a binomial of 1/3 over 601 items.
        assert abs((predicted == parts[2][1]).mean() - 1 / 3) < 5 * (2 / 9 / 601) ** 0.5


def test_neural_probe_is_repeatable_and_leaves_the_global_state():
    parts = [blobs(seed, spread=2.0) for seed in range(3)]
    state = torch.get_rng_state()
    first, second = (_all_probes(*parts[0], *parts[1], parts[2][0])["neural"] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)


def test_bootstrap_interval_covers_the_true_accuracy():
    rng = np.random.default_rng(11)
    runs, n, p = 600, 301, 0.73
    indices = statistics.resample(n, 400, rng)
    covered = 0
    for _ in range(runs):
        right = (rng.random(n) < p)[:, None].astype(np.int64)
        share = statistics.of_sums(right, lambda sums: sums[:, 0] / n)
        interval = statistics.bootstrap_statistic(share, indices)
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


def test_random_convolution_equals_scipy_and_does_not_depend_on_the_batch():
    from scipy.signal import correlate

    images = np.random.default_rng(0).integers(0, 256, (3, 13, 11, 3)).astype(np.uint8)

    def ours(batch):
        generator = torch.Generator().manual_seed(4)
        return features.random_convolution(images, generator, filters=2, batch=batch)

    weights = torch.randn((2, 3, 5, 5), generator=torch.Generator().manual_seed(4)) / 75**0.5
    for number, image in enumerate(images):
        levels = np.moveaxis(image.astype(np.float64) / 127.5 - 1, -1, 0)
        maps = [correlate(levels, w, mode="valid")[0, ::2, ::2] for w in weights.double().numpy()]
        expected = [np.maximum(s * m, 0).mean() for s in (1, -1) for m in maps]
        np.testing.assert_allclose(ours(2)[number], expected, atol=1e-5)
    np.testing.assert_allclose(ours(1), ours(3), atol=1e-6)


def test_embedding_restores_the_mode_and_does_not_depend_on_the_batch():
    model = Colour(1.0).train()
    images = np.random.default_rng(0).integers(0, 256, (7, 5, 3, 3)).astype(np.uint8)
    gsd_m = np.full(7, 10.0)
    one = features.embed(model, images, sensor="lores", gsd_m=gsd_m, batch=1)
    all_at_once = features.embed(model, images, sensor="lores", gsd_m=gsd_m)
    np.testing.assert_allclose(one, all_at_once, rtol=1e-5)
    assert model.training


def test_bfloat16_embeddings_are_those_of_float32_within_their_rounding():
    model = build_model(preset("tiny"), seed=0).eval()
    images = np.random.default_rng(0).integers(0, 256, (5, 24, 40, 3)).astype(np.uint8)
    look = {"sensor": "lores", "gsd_m": np.full(5, 7.0)}
    exact, half = (
        features.embed(model, images, precision=precision, **look)
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
        "CROMA": Encoder(model=Colour(1.0), sensor="lores"),
        "SA-high": Encoder(model=Colour(0.5), sensor="hires", zoom=2),
        "SA-high untrained": Encoder(model=Colour(0.1), sensor="hires", zoom=2, trained=False),
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
    assert all(found == set(PROBES["classification"]) for found in probed)
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
