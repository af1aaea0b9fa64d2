"""Heads agree with scikit-learn and umap-learn; bad features have one error or a known result."""

import itertools
import tracemalloc
import warnings
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import binom
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score, log_loss
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from salib.evaluate import PROTOCOLS
from salib.evaluate.probes import segmentation
from salib.evaluate.probes.clusters import umap_reduce
from salib.evaluate.probes.data import ProbeData, Setting, standardise
from salib.evaluate.probes.fitting import Examples
from salib.evaluate.probes.linear import choose_c
from salib.evaluate.probes.table import PROBES
from salib.evaluate.scores import metrics

QUICK = replace(PROTOCOLS["default"], knn_k=9, hidden=64, epochs=15, kmeans_restarts=3)
# UMAP takes half a minute to compile, and is held against umap-learn itself.
SINGLE = [name for name in PROBES if name != "kmeans_umap"]
SEVERAL = [name for name, probe in PROBES.items() if "multilabel" in probe.kinds]


def blobs(seed, n=211, dim=17, classes=3, spread=1.0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=n)
    centres = np.random.default_rng(99).normal(size=(classes, dim))
    return (centres[labels] + spread * rng.normal(size=(n, dim))).astype(np.float32), labels


def splits(spread=2.0, classes=3, shuffle=False, sizes=(211, 103, 127)):
    """Train, valid and test, features z-scored by train."""
    parts = [blobs(seed, n, classes=classes, spread=spread) for seed, n in enumerate(sizes)]
    if shuffle:
        rng = np.random.default_rng(7)
        parts = [(features, rng.permutation(labels)) for features, labels in parts]
    features = standardise(*(features for features, _ in parts))
    return tuple(zip(features, (labels for _, labels in parts), strict=True))


def several(seed, n=211, dim=13, classes=5, noise=0.5):
    rng = np.random.default_rng(seed)
    directions = np.random.default_rng(98).normal(size=(dim, classes)) / dim**0.5
    features = rng.normal(size=(n, dim))
    logits = features @ directions + noise * rng.normal(size=(n, classes))
    return features.astype(np.float32), (logits > 0.4).astype(np.int64)


def data(train, valid, test, n_classes=3):
    """What a probe is given of (features, labels) of three splits."""
    return ProbeData(
        train=train[0],
        train_labels=train[1],
        valid=valid[0],
        valid_labels=valid[1],
        test=test[0],
        n_classes=n_classes,
    )


def run(name, given, seed=1, **changes):
    return PROBES[name].run(given, Setting(replace(QUICK, **changes), seed))


def heads(*parts, **changes):
    """Predictions of every head that has enough train items, for one class per item."""
    given, protocol = data(*parts), replace(QUICK, **changes)
    least = {name: PROBES[name].least_train(protocol, given.n_classes) for name in SINGLE}
    enough = [name for name in SINGLE if least[name] <= len(given.train)]
    return {name: run(name, given, **changes).classes for name in enough}


def test_separable_data_score_one_and_shuffled_labels_chance():
    parts = splits(spread=0.05)
    for name, predicted in heads(*parts).items():
        assert (predicted == parts[2][1]).all(), name
    parts = splits(shuffle=True, sizes=(211, 103, 601))
    low, high = binom.ppf([1e-4, 1 - 1e-4], 601, 1 / 3)
    for name, predicted in heads(*parts).items():
        assert low <= (predicted == parts[2][1]).sum() <= high, name


def test_standardise_equals_sklearn_and_zeroes_a_constant_feature():
    (train, _), (test, _) = blobs(0), blobs(1, n=103)
    train[:, 4] = test[:, 4] = 0.7
    scaler = StandardScaler().fit(np.delete(train, 4, 1).astype(np.float64))
    ours = standardise(train, test)[1]
    expected = scaler.transform(np.delete(test, 4, 1))
    np.testing.assert_allclose(np.delete(ours, 4, 1), expected, atol=1e-5)
    assert not ours[:, 4].any()


@pytest.mark.parametrize("k", [1, 7, 20])
@pytest.mark.parametrize("name", ["knn", "knn_weighted"])
def test_knn_equals_sklearn_with_the_same_weights(k, name):
    weights = "uniform" if name == "knn" else lambda d: np.exp((1 - d) / 0.07)
    (x, y), valid, (x_test, _) = splits()
    model = KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights=weights)
    shares = model.fit(x, y).predict_proba(x_test)
    found = run(name, data((x, y), valid, (x_test, None)), knn_k=k)
    np.testing.assert_allclose(found.scores, shares, atol=1e-5)
    (x, y), valid, (x_test, _) = several(0), several(1), several(2, n=101)
    found = run(name, data((x, y), valid, (x_test, None), 5), knn_k=k).scores
    for number, column in enumerate(y.T):
        shares = model.fit(x, column).predict_proba(x_test)[:, 1]
        np.testing.assert_allclose(found[:, number], shares, atol=1e-5)


@pytest.mark.parametrize("name", ["default", "paper"])
def test_knn5_asks_five_by_l2_whatever_the_protocol(name):
    parts = splits(spread=3.0)
    (x, y), _, (x_test, _) = parts
    votes = KNeighborsClassifier(5, metric="euclidean").fit(x, y).predict_proba(x_test)
    found = PROBES["knn5"].run(data(*parts), Setting(PROTOCOLS[name], 1))
    np.testing.assert_allclose(found.scores, votes, atol=1e-6)


@pytest.mark.parametrize("name", ["default", "paper"])
def test_each_protocol_asks_20_neighbours_in_its_metric(name):
    parts = splits(spread=3.0)
    (x, y), _, (x_test, _) = parts
    metric = {"default": "cosine", "paper": "euclidean"}[name]
    votes = KNeighborsClassifier(20, metric=metric).fit(x, y).predict_proba(x_test)
    found = PROBES["knn"].run(data(*parts), Setting(PROTOCOLS[name], 1))
    np.testing.assert_allclose(found.scores, votes, atol=1e-6)


def test_kmeans_clusters_equal_sklearn_and_matching_is_learnt_on_train_only():
    train, valid, (test, _) = blobs(0), blobs(1), blobs(2, n=103)
    found = run("kmeans", data(train, valid, (test, None)), seed=5)
    model = KMeans(3, n_init=3, random_state=5).fit(train[0])
    np.testing.assert_array_equal(found.clusters, model.predict(test))
    best = max(permutations(range(3)), key=lambda p: (np.array(p)[model.labels_] == train[1]).sum())
    np.testing.assert_array_equal(found.classes, np.array(best)[found.clusters])


def test_raw_cluster_ids_change_accuracy_when_labels_are_renamed_but_matched_ones_do_not():
    (x, y), valid, (test, y_test) = (blobs(seed, spread=0.05) for seed in range(3))
    raw, matched = [], []
    for shift in range(3):
        for match, scores in (("none", raw), ("hungarian", matched)):
            given = data((x, (y + shift) % 3), valid, (test, None))
            found = run("kmeans", given, match=match)
            scores.append((found.classes == (y_test + shift) % 3).mean())
    assert matched == [1.0, 1.0, 1.0]
    assert sum(raw) == pytest.approx(1.0)
    assert PROTOCOLS["default"].match == "hungarian"
    assert PROTOCOLS["paper"].match == "none"


def test_umap_equals_umap_learn_run_directly():
    with warnings.catch_warnings(action="ignore", category=ImportWarning):
        from umap import UMAP
    (train, _), (test, _) = blobs(0), blobs(1, n=53)
    ours = umap_reduce(train, test, QUICK, seed=3)
    direct = UMAP(random_state=3, n_jobs=1)
    np.testing.assert_array_equal(ours[0], direct.fit_transform(train))
    np.testing.assert_array_equal(ours[1], direct.transform(test))


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("c", [0.003, 0.3])
def test_linear_probe_equals_sklearn_fitted_on_train_and_valid(classes, c):
    (x, y), (x_valid, y_valid), (x_test, _) = parts = splits(classes=classes)
    ours = run("linear", data(*parts, classes), cs=(c,))
    both = (np.concatenate([x, x_valid]), np.concatenate([y, y_valid]))
    theirs = LogisticRegression(C=c, tol=1e-6, max_iter=1000).fit(*both)
    np.testing.assert_allclose(ours.scores, theirs.predict_proba(x_test), atol=2e-3)
    assert (ours.classes == theirs.predict(x_test)).mean() > 0.99


def test_linear_probe_takes_the_c_of_best_valid_accuracy_then_least_valid_loss():
    (x, y), (x_valid, y_valid), _ = parts = splits(classes=4)
    cs = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    best, scores = choose_c(data(*parts, 4), cs[::-1])
    assert tuple(scores) == cs
    ranks = {}
    for c, score in scores.items():
        model = LogisticRegression(C=c, tol=1e-6, max_iter=1000).fit(x, y)
        # One valid item may fall the other way at the edge of two classes.
        assert score == pytest.approx(model.score(x_valid, y_valid), abs=1.5 / len(y_valid))
        ranks[c] = (score, -log_loss(y_valid, model.predict_proba(x_valid)))
    assert best == max(ranks, key=ranks.get)


@pytest.mark.parametrize("c", [0.01, 1.0])
def test_multilabel_linear_equals_one_sklearn_model_per_class(c):
    (x, y), (x_valid, y_valid), (x_test, _) = parts = several(0), several(1, 101), several(2, 89)
    ours = run("linear", data(*parts, 5), cs=(c,))
    model = OneVsRestClassifier(LogisticRegression(C=c, tol=1e-6, max_iter=1000))
    model.fit(np.concatenate([x, x_valid]), np.concatenate([y, y_valid]))
    np.testing.assert_allclose(ours.scores, model.predict_proba(x_test), atol=5e-3)


def test_paper_probe_is_adam_with_the_last_weights():
    """The paper's protocol against the loop it stands for, with torch's own Adam."""
    (x, y), _, (x_test, _) = parts = splits()
    protocol = replace(PROTOCOLS["paper"], hidden=31, epochs=4)
    found = PROBES["neural"].run(data(*parts), Setting(protocol, 3))
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = torch.nn.Sequential(
            torch.nn.Linear(17, 31), torch.nn.ReLU(), torch.nn.Linear(31, 3)
        )
        adam = torch.optim.Adam(model.parameters(), lr=1e-3)
        inputs, labels = torch.from_numpy(x), torch.from_numpy(y)
        for _ in range(4):
            for chosen in torch.randperm(len(x)).split(protocol.batch):
                loss = F.cross_entropy(model(inputs[chosen]), labels[chosen])
                adam.zero_grad()
                loss.backward()
                adam.step()
    expected = model(torch.from_numpy(x_test)).softmax(1).detach().numpy()
    np.testing.assert_allclose(found.scores, expected, rtol=1e-3, atol=1e-5)


def test_neural_probe_keeps_the_epoch_and_the_rate_that_do_best_on_valid_items():
    """Against a loop over epochs and rates; the train items would choose otherwise."""
    train, valid, test = splits(spread=3.0, sizes=(61, 103, 127))
    rates, best = (1e-4, 3e-2, 3e-3), {"hidden": 31, "batch": 17, "epochs": 7, "patience": 7}

    def probabilities(items, **changes):
        found = run("neural", data(train, valid, items), **(best | changes))
        return torch.from_numpy(found.scores)

    def chosen(items):
        """Epoch of least loss at each rate, then the rate of best accuracy and least loss."""
        truth, fits = torch.from_numpy(items[1]), []
        for rate in rates:
            runs = []
            for epochs in range(1, 8):
                last = {"keep": "last", "epochs": epochs, "learning_rates": (rate,)}
                found = probabilities(items, **last)
                loss = F.nll_loss(found.log(), truth).item()
                runs.append((loss, (found.argmax(1) == truth).float().mean().item(), last))
            loss, right, last = min(runs, key=lambda run: run[0])
            fits.append((right, -loss, last))
        return max(fits, key=lambda fit: fit[:2])[2]

    choice = chosen(valid)
    assert choice != chosen(train)
    torch.testing.assert_close(
        probabilities(test, learning_rates=rates), probabilities(test, **choice)
    )


def test_neural_probe_is_repeatable_and_leaves_the_global_state():
    given, state = data(*splits()), torch.get_rng_state()
    first, second = (run("neural", given).scores for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", SINGLE)
def test_the_class_of_a_test_item_does_not_depend_on_the_other_test_items(name):
    train, valid, test = splits(spread=3.0, sizes=(61, 53, 67))
    whole, few = (run(name, data(train, valid, (test[0][at:], None))).classes for at in (0, 40))
    np.testing.assert_array_equal(few, whole[40:])


@pytest.mark.parametrize("name", ["knn", "knn_weighted", "knn5", "kmeans"])
def test_neighbours_and_clusters_do_not_look_at_the_valid_split(name):
    train, valid, test = blobs(0, 97), blobs(1, 41), blobs(2, 31)
    other = (1000 - 9 * test[0], 2 - test[1])
    answers = [run(name, data(train, each, test)).classes for each in (valid, other)]
    np.testing.assert_array_equal(*answers)


def test_multilabel_heads_beat_the_shares_of_classes_and_score_chance_when_shuffled():
    train, valid, test = several(0, noise=0.01), several(1, 101, noise=0.01), several(2, 307)
    rng = np.random.default_rng(0)
    for shuffle in (False, True):
        parts = [(x, rng.permutation(y) if shuffle else y) for x, y in (train, valid)]
        for name in SEVERAL:
            scores = run(name, data(*parts, test, 5), knn_k=20).scores
            value = metrics.micro_average_precision(scores, test[1])(np.ones((1, 307))).item()
            assert value == pytest.approx(
                average_precision_score(test[1], scores, average="micro"), abs=1e-9
            )
            expected = f1_score(test[1], scores > 0.5, average="micro", zero_division=0)
            found = metrics.micro_f1(scores, test[1])(np.ones((1, 307))).item()
            assert found == pytest.approx(expected)
            assert (value > test[1].mean() + 0.2) != shuffle, name


def test_a_valid_split_without_a_label_is_refused():
    (x, y), (x_valid, y_valid), test = several(0), several(1, 101), several(2, 89)
    for name in ("linear", "neural"):
        with pytest.raises(ValueError, match="at least one positive"):
            run(name, data((x, y), (x_valid, 0 * y_valid), test, 5))


def test_constant_features_give_the_majority_class():
    (x, y), (x_valid, y_valid), (x_test, _) = splits()
    parts = standardise(*(np.full_like(part, 2.5) for part in (x, x_valid, x_test)))
    y, y_valid = (
        np.where(np.arange(len(each)) < 0.9 * len(each), 2, each) for each in (y, y_valid)
    )
    found = heads((parts[0], y), (parts[1], y_valid), (parts[2], None))
    assert all((predicted == 2).all() for predicted in found.values())
    laid = umap_reduce(parts[0], parts[2], QUICK, seed=0)
    assert not laid[0].any()
    assert laid[1].shape == (127, 2)


def test_a_class_absent_from_train_or_test_or_valid_is_a_result_not_an_error():
    train, valid, test = splits(spread=0.05)
    for number in range(3):
        parts = [train, valid, test]
        x, y = parts[number]
        parts[number] = (x[y != 1], y[y != 1])
        for name, predicted in heads(*parts).items():
            true = parts[2][1]
            kept = true != 1
            if number > 0 or name != "kmeans":  # there is a cluster too many
                assert (predicted[kept] == true[kept]).all(), name
            if number == 0 and name in ("knn", "knn_weighted", "knn5"):
                assert not (predicted == 1).any(), name
    (x, y), (x_valid, y_valid) = train, valid
    one = (x[y == 1], y[y == 1]), (x_valid[:9], y_valid[:9] * 0 + 1)
    assert (run("linear", data(*one, test)).scores == [0, 1, 0]).all()
    (x, y), few = several(0), several(1, 101)
    found = run(
        "linear", data((x, y * [0, 1, 1, 1, 1]), (few[0], few[1] * [0, 1, 1, 1, 1]), (x, y), 5)
    )
    assert not found.scores[:, 0].any()


def test_one_sample_per_class_is_fitted():
    train, valid, test = splits(spread=0.05)
    first = np.array([np.flatnonzero(train[1] == label)[0] for label in range(3)])
    few = (train[0][first], train[1][first])
    for name, predicted in heads(few, valid, test, knn_k=1, epochs=60).items():
        assert (predicted == test[1]).all(), name


def test_a_candidate_that_diverges_is_dropped_and_all_of_them_refused():
    parts = splits(spread=0.05)
    found = run("neural", data(*parts), learning_rates=(1e38, 3e-3))
    assert (found.classes == parts[2][1]).all()
    with pytest.raises(ValueError, match="one that converges"):
        run("neural", data(*parts), learning_rates=(1e38,))


def scenes(seed, n=23, grid=(5, 7), dim=11, classes=3, noise=0.3, zoom=4):
    """Masks of one class per token, and tokens that tell it."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(classes, size=(n, *grid))
    directions = np.random.default_rng(97).normal(size=(classes, dim))
    tokens = directions[coarse] + noise * rng.normal(size=(n, *grid, dim)) + 40
    return Examples(tokens.astype(np.float32), coarse.repeat(zoom, 1).repeat(zoom, 2))


SCHEDULE = replace(QUICK, learning_rates=(3e-2,), epochs=12, patience=3, batch=5)


def fit(train, valid, kind="linear", **changes):
    options = {"kind": kind, "n_classes": 3, "schedule": SCHEDULE, "seed": 1, **changes}
    return segmentation.fit_segmentation(train, valid, **options)


@pytest.fixture
def narrow(monkeypatch):
    monkeypatch.setattr(segmentation, "WIDTH", 16)


@pytest.mark.parametrize("kind", segmentation.HEADS)
def test_segmentation_learns_masks_that_tokens_tell_and_chance_where_they_do_not(kind, narrow):
    train, valid, test = scenes(0, 47), scenes(1), scenes(2)
    state = torch.get_rng_state()
    predicted, again = (
        segmentation.segment(fit(train, valid, kind), test.inputs, (20, 28)) for _ in range(2)
    )
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(predicted, again)
    assert metrics.mean_iou(metrics.mask_counts(predicted, test.targets, 3).sum(0)) > 0.6
    assert (predicted == test.targets)[:, 1::4, 1::4].mean() > 0.95
    rng = np.random.default_rng(0)
    wrong = [Examples(x, rng.permuted(masks, axis=0)) for x, masks in (train, valid, test)]
    predicted = segmentation.segment(fit(*wrong[:2], kind), wrong[2].inputs, (20, 28))
    # Of three equal classes chance is 1/3 right: an IoU of 1/5 at most, less if one is preferred.
    assert metrics.mean_iou(metrics.mask_counts(predicted, wrong[2].targets, 3).sum(0)) < 0.22


def linear_logits(head, tokens, train, size):
    """Logits of a linear head by hand, spread over a mask by torch."""
    flat = train.inputs.reshape(-1, 11).astype(np.float64)
    z = (tokens - flat.mean(0)) / flat.std(0)
    weight, bias = (parameter.detach().double().numpy() for parameter in head.parameters())
    logits = torch.from_numpy(np.moveaxis(z @ weight[:, :, 0, 0].T + bias, -1, 1))
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


def test_linear_segmentation_equals_a_loop_over_tokens_spread_by_torch():
    train, valid, test = scenes(0), scenes(1, 9), scenes(2, 3)
    head = fit(train, valid)
    expected = linear_logits(head, test.inputs, train, (13, 17)).argmax(1).numpy()
    assert (segmentation.segment(head, test.inputs, (13, 17)) == expected).mean() > 0.999


def test_unlabelled_pixels_do_not_matter_and_masks_need_not_be_multiples_of_the_grid():
    train, valid, test = scenes(0), scenes(1, 9), scenes(2, 9)
    hide = np.random.default_rng(0).random(train.targets.shape) < 0.95
    first, second = (
        fit(Examples(train.inputs, np.where(hide, value, train.targets)), valid)
        for value in (-1, -9)
    )
    assert all(map(torch.equal, first.parameters(), second.parameters()))
    predicted = segmentation.segment(first, test.inputs, (20, 28))
    assert (predicted == test.targets)[:, 1::4, 1::4].mean() > 0.95
    cut = np.where(test.targets == 1, -1, test.targets)[:, :19, :23]
    counts = metrics.mask_counts(segmentation.segment(first, test.inputs, (19, 23)), cut, 3)
    np.testing.assert_array_equal(counts.sum((1, 2)), (cut >= 0).sum((1, 2)))
    assert not counts[:, 1].any()


@pytest.mark.parametrize("shuffled", [False, True])
def test_segmentation_keeps_the_epoch_of_least_valid_loss(shuffled):
    """More epochs never give a head of greater valid loss, and a lesser one if masks are told."""
    train, (x_valid, truth) = scenes(0, 23), scenes(1, 9)
    if shuffled:
        truth = np.random.default_rng(0).permuted(truth, axis=0)
    losses = []
    for epochs in range(1, 6):
        schedule = replace(SCHEDULE, learning_rates=(1e-2,), epochs=epochs, patience=5)
        head = fit(train, Examples(x_valid, truth), schedule=schedule)
        spread = linear_logits(head, x_valid, train, truth.shape[1:])
        losses.append(F.cross_entropy(spread, torch.from_numpy(truth)).item())
    assert all(after <= before + 1e-6 for before, after in itertools.pairwise(losses))
    assert (losses[-1] < 0.9 * losses[0]) != shuffled


def test_segmentation_of_a_memory_map_holds_batches_not_the_split(tmp_path):
    tokens, masks = scenes(0, 301, grid=(8, 8), dim=64, zoom=2)
    path = tmp_path / "tokens.npy"
    np.save(path, tokens)
    mapped = Examples(np.load(path, mmap_mode="r"), masks)
    valid = scenes(1, 9, grid=(8, 8), dim=64, zoom=2)
    tracemalloc.start()
    fit(mapped, valid, schedule=replace(SCHEDULE, epochs=2))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < tokens.nbytes / 4


def test_segmentation_that_diverges_is_refused_and_constant_tokens_give_one_class():
    (x, masks), valid = scenes(0, 7), scenes(1, 5)
    with pytest.raises(ValueError, match="one that converges"):
        fit(Examples(x, masks), valid, schedule=replace(SCHEDULE, learning_rates=(1e38,)))
    same = np.full_like(x, 3.0)
    constant = segmentation.segment(fit(Examples(same, masks), valid), same, (20, 28))
    assert (constant == constant[0, 0, 0]).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is at hand")
def test_heads_on_a_gpu_predict_what_they_do_on_the_cpu():
    """Classes of all but two items; probabilities of several labels within 0.02."""
    one, more = data(*splits()), data(several(0), several(1, 101), several(2, 89), 5)
    classes, scores, pixels = {}, {}, {}
    for device in ("cpu", "cuda"):
        setting = Setting(QUICK, 1, device)
        classes[device] = PROBES["neural"].run(one, setting).classes
        scores[device] = PROBES["neural"].run(more, setting).scores
        for kind in segmentation.HEADS:
            head = fit(scenes(0), scenes(1, 9), kind, device=device)
            pixels[device, kind] = segmentation.segment(head, scenes(2, 9).inputs, (20, 28))
    assert (classes["cuda"] != classes["cpu"]).sum() <= 2
    np.testing.assert_allclose(scores["cuda"], scores["cpu"], atol=0.02)
    for kind in segmentation.HEADS:
        assert (pixels["cuda", kind] == pixels["cpu", kind]).mean() > 0.98
