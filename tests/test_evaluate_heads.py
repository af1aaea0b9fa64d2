"""Heads agree with scikit-learn and umap-learn; bad features have one error or a known result."""

import itertools
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import binom
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score, log_loss
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from salib.evaluate import PROTOCOLS
from salib.evaluate.columns import Split
from salib.evaluate.probes import multilabel, neural, segmentation
from salib.evaluate.probes import neighbours as probes
from salib.evaluate.probes.linear import linear
from salib.evaluate.probes.predict import Splits, run_multilabel_probe, run_probe
from salib.evaluate.probes.segmentation import SegmentationSweep
from salib.evaluate.protocol import PROBES
from salib.evaluate.scores import metrics

QUICK = replace(PROTOCOLS["default"], hidden=64, epochs=15)
CLUSTERS = {"n_classes": 3, "restarts": 3, "match": "hungarian", "seed": 1}


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
    features = probes.standardise(*(features for features, _ in parts))
    return tuple(zip(features, (labels for _, labels in parts), strict=True))


def several(seed, n=211, dim=13, classes=5, noise=0.5):
    rng = np.random.default_rng(seed)
    directions = np.random.default_rng(98).normal(size=(dim, classes)) / dim**0.5
    features = rng.normal(size=(n, dim))
    logits = features @ directions + noise * rng.normal(size=(n, classes))
    return features.astype(np.float32), (logits > 0.4).astype(np.int64)


def heads(train, valid, test, n_classes=3):
    """Predictions of every head for one class an item."""
    (x, y), (x_valid, y_valid), (x_test, _) = train, valid, test
    named = {"n_classes": n_classes}
    clusters = CLUSTERS | named
    return {
        "knn": probes.knn(x, y, x_test, k=9, metric="cosine"),
        "knn l2": probes.knn(x, y, x_test, k=9, metric="l2"),
        "weighted": probes.knn(x, y, x_test, k=9, metric="cosine", temperature=0.07),
        "kmeans": probes.kmeans(x, y, x_test, **clusters).predicted,
        "neural": neural.neural(x, y, x_valid, y_valid, x_test, protocol=QUICK, seed=1, **named),
        "linear": linear(x, y, x_valid, y_valid, x_test, **named).predicted,
    }


def test_separable_data_score_one_and_shuffled_labels_chance():
    parts = splits(spread=0.05)
    for name, predicted in heads(*parts).items():
        assert (predicted == parts[2][1]).all(), name
    parts = splits(shuffle=True, sizes=(211, 103, 601))
    low, high = binom.ppf([1e-4, 1 - 1e-4], 601, 1 / 3)
    for name, predicted in heads(*parts).items():
        assert low <= (predicted == parts[2][1]).sum() <= high, name


@pytest.mark.parametrize("k", [1, 7, 20])
def test_weighted_knn_equals_sklearn_with_the_same_weights(k):
    (x, y), _, (x_test, _) = splits()
    ours = probes.knn(x, y, x_test, k=k, metric="cosine", temperature=0.07)
    theirs = KNeighborsClassifier(
        k, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.07)
    ).fit(x, y)
    np.testing.assert_array_equal(ours, theirs.predict(x_test))
    with pytest.raises(ValueError, match="temperature"):
        probes.knn(x, y, x_test, k=k, metric="l2", temperature=0.07)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("c", [0.003, 0.3])
def test_linear_probe_equals_sklearn_fitted_on_train_and_valid(classes, c):
    (x, y), (x_valid, y_valid), (x_test, _) = splits(classes=classes)
    ours = linear(x, y, x_valid, y_valid, x_test, n_classes=classes, cs=(c,))
    both = (np.concatenate([x, x_valid]), np.concatenate([y, y_valid]))
    theirs = LogisticRegression(C=c, tol=1e-6, max_iter=1000).fit(*both)
    np.testing.assert_allclose(ours.probabilities, theirs.predict_proba(x_test), atol=2e-3)
    assert (ours.predicted == theirs.predict(x_test)).mean() > 0.99


def test_linear_probe_takes_the_c_of_best_valid_accuracy_then_least_valid_loss():
    (x, y), (x_valid, y_valid), (x_test, _) = splits(classes=4)
    cs = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    ours = linear(x, y, x_valid, y_valid, x_test, n_classes=4, cs=cs[::-1])
    ranks = []
    for c, score in zip(cs, ours.scores, strict=True):
        model = LogisticRegression(C=c, tol=1e-6, max_iter=1000).fit(x, y)
        # One valid item may fall the other way at the edge of two classes.
        assert score == pytest.approx(model.score(x_valid, y_valid), abs=1.5 / len(y_valid))
        ranks.append((score, -log_loss(y_valid, model.predict_proba(x_valid))))
    assert ours.c == cs[max(range(len(cs)), key=ranks.__getitem__)]
    with pytest.raises(ValueError, match="cs must hold positive"):
        linear(x, y, x_valid, y_valid, x_test, n_classes=4, cs=(0.0,))


def test_paper_probe_is_adam_with_the_last_weights():
    """The paper's protocol against the loop it stands for, with torch's own Adam."""
    (x, y), (x_valid, y_valid), (x_test, _) = splits()
    protocol = replace(PROTOCOLS["paper"], hidden=31, epochs=4)
    tensors = [torch.from_numpy(part) for part in (x, y, x_valid, y_valid)]
    found = neural.neural_logits(
        neural.Data(*tensors), x_test, 3, neural.ONE_CLASS, protocol, seed=3
    )
    generator = torch.Generator().manual_seed(3)
    layers = [layer.requires_grad_() for layer in neural._initial(17, 31, 3, generator)]
    adam = torch.optim.Adam(layers, lr=1e-3)
    for _ in range(4):
        for chosen in torch.randperm(len(x), generator=generator).split(protocol.batch):
            hidden = torch.relu(tensors[0][chosen] @ layers[0].T + layers[1])
            loss = F.cross_entropy(hidden @ layers[2].T + layers[3], tensors[1][chosen])
            adam.zero_grad()
            loss.backward()
            adam.step()
    expected = torch.relu(torch.from_numpy(x_test) @ layers[0].T + layers[1])
    expected = (expected @ layers[2].T + layers[3]).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_neural_probe_keeps_the_epoch_and_the_rate_that_do_best_on_valid_items():
    """Against a loop over epochs and rates; the train items would choose otherwise."""
    (x, y), (x_valid, y_valid), (x_test, _) = splits(spread=3.0, sizes=(61, 103, 127))
    data = neural.Data(*map(torch.from_numpy, (x, y, x_valid, y_valid)))
    best = replace(PROTOCOLS["default"], hidden=31, batch=17, epochs=7, patience=7)
    rates = (1e-4, 3e-2, 3e-3)

    def logits(items, **changes):
        protocol = replace(best, **changes)
        found = neural.neural_logits(data, items, 3, neural.ONE_CLASS, protocol, seed=3)
        return torch.from_numpy(found)

    def chosen(items, labels):
        """Epoch of least loss at each rate, then the rate of best accuracy and least loss."""
        truth, fits = torch.from_numpy(labels), []
        for rate in rates:
            runs = []
            for epochs in range(1, 8):
                last = {"keep": "last", "epochs": epochs, "learning_rates": (rate,)}
                found = logits(items, **last)
                loss = F.cross_entropy(found, truth).item()
                runs.append((loss, (found.argmax(1) == truth).float().mean().item(), last))
            loss, right, last = min(runs, key=lambda run: run[0])
            fits.append((right, -loss, last))
        return max(fits, key=lambda fit: fit[:2])[2]

    choice = chosen(x_valid, y_valid)
    assert choice != chosen(x, y)
    torch.testing.assert_close(logits(x_test, learning_rates=rates), logits(x_test, **choice))


def embedded(parts):
    """Splits as probes get them, of one column."""
    return Splits(*(Split({"a": features}, labels, {}, {}) for features, labels in parts))


# UMAP takes half a minute to compile, and is held against umap-learn itself.
WITHOUT_UMAP = [name for name in PROBES["classification"] if name != "kmeans_umap"]


@pytest.mark.parametrize("what", WITHOUT_UMAP)
def test_labels_of_test_items_do_not_reach_a_probe_of_one_class(what):
    parts = splits(spread=3.0, sizes=(61, 53, 67))
    options = {"n_classes": 3, "protocol": QUICK, "seed": 1}
    true = run_probe(what, embedded(parts), "a", **options).predicted
    other = (*parts[:2], (parts[2][0], (parts[2][1] + 1) % 3))
    np.testing.assert_array_equal(run_probe(what, embedded(other), "a", **options).predicted, true)


@pytest.mark.parametrize("what", PROBES["multilabel"])
def test_labels_of_test_items_do_not_reach_a_probe_of_several_labels(what):
    parts = (several(0, 61), several(1, 53), several(2, 67))
    options = {"protocol": QUICK, "seed": 1}
    true = run_multilabel_probe(what, embedded(parts), "a", **options)
    other = (*parts[:2], (parts[2][0], 1 - parts[2][1]))
    np.testing.assert_array_equal(run_multilabel_probe(what, embedded(other), "a", **options), true)


@pytest.mark.parametrize("what", WITHOUT_UMAP)
def test_the_class_of_a_test_item_does_not_depend_on_the_other_test_items(what):
    parts = splits(spread=3.0, sizes=(61, 53, 67))
    options = {"n_classes": 3, "protocol": QUICK, "seed": 1}
    whole = run_probe(what, embedded(parts), "a", **options).predicted
    few = (*parts[:2], tuple(part[40:] for part in parts[2]))
    np.testing.assert_array_equal(
        run_probe(what, embedded(few), "a", **options).predicted, whole[40:]
    )


@pytest.mark.parametrize("name", ["default", "paper"])
def test_each_protocol_asks_20_neighbours_in_its_own_space(name):
    """Cosine between z-scored features by default; the distance of raw ones in the paper's."""
    scales = np.geomspace(0.01, 100, 17, dtype=np.float32)
    parts = [(scales * (x + 3), y) for x, y in splits(spread=3.0)]
    found = run_probe("knn", embedded(parts), "a", n_classes=3, protocol=PROTOCOLS[name], seed=1)
    (x, y), _, (x_test, _) = parts
    if name == "default":
        scaler = StandardScaler().fit(x)
        model = KNeighborsClassifier(20, metric="cosine", algorithm="brute")
        model.fit(scaler.transform(x), y)
        votes = model.predict_proba(scaler.transform(x_test))
    else:
        votes = KNeighborsClassifier(20).fit(x, y).predict_proba(x_test)
    first, second = np.sort(votes, axis=1)[:, :-3:-1].T
    assert (first > second).mean() > 0.8
    decided = first > second
    np.testing.assert_array_equal(found.predicted[decided], votes.argmax(1)[decided])


@pytest.mark.parametrize("name", ["default", "paper"])
def test_clusters_are_renamed_with_the_classes_by_default_and_never_under_the_paper_s(name):
    parts = splits()
    renamed = [(x, (y + 1) % 3) for x, y in parts]
    first, second = (
        run_probe("kmeans", embedded(p), "a", n_classes=3, protocol=PROTOCOLS[name], seed=1)
        for p in (parts, renamed)
    )
    np.testing.assert_array_equal(first.clusters, second.clusters)
    turned = (first.predicted + 1) % 3 if name == "default" else first.predicted
    np.testing.assert_array_equal(second.predicted, turned)


def test_neighbours_and_clusters_do_not_look_at_the_valid_split():
    train, valid, test = blobs(0, 97), blobs(1, 41), blobs(2, 31)
    for what in ("knn", "knn_weighted", "kmeans"):
        answers = [
            run_probe(what, own, "a", n_classes=3, protocol=QUICK, seed=3).predicted
            for own in (
                embedded([train, valid, test]),
                embedded([train, (1000 - 9 * test[0], 2 - test[1]), test]),
            )
        ]
        np.testing.assert_array_equal(*answers, err_msg=what)


def test_multilabel_knn_equals_sklearn_class_by_class():
    (x, y), (x_test, _) = several(0), several(1, n=101)
    shares = multilabel.multilabel_knn(x, y, x_test, k=9, temperature=0.07)
    for number, column in enumerate(y.T):
        model = KNeighborsClassifier(
            9, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.07)
        ).fit(x, column)
        np.testing.assert_allclose(shares[:, number], model.predict_proba(x_test)[:, 1], atol=1e-5)
    counted = multilabel.multilabel_knn(x, y, x_test, k=9)
    np.testing.assert_allclose(counted * 9, (counted * 9).round(), atol=1e-5)


@pytest.mark.parametrize("c", [0.01, 1.0])
def test_multilabel_linear_equals_one_sklearn_model_a_class(c):
    (x, y), (x_valid, y_valid), (x_test, _) = several(0), several(1, 101), several(2, 89)
    ours = multilabel.multilabel_linear(x, y, x_valid, y_valid, x_test, cs=(c,))
    model = OneVsRestClassifier(LogisticRegression(C=c, tol=1e-6, max_iter=1000))
    model.fit(np.concatenate([x, x_valid]), np.concatenate([y, y_valid]))
    np.testing.assert_allclose(ours, model.predict_proba(x_test), atol=5e-3)


def test_multilabel_heads_beat_the_shares_of_classes_and_score_chance_when_shuffled():
    train, valid, test = several(0, noise=0.01), several(1, 101, noise=0.01), several(2, 307)
    rng = np.random.default_rng(0)
    for shuffle in (False, True):
        (x, y), (x_valid, y_valid) = (
            (x, rng.permutation(y) if shuffle else y) for x, y in (train, valid)
        )
        options = {"protocol": QUICK, "seed": 2}
        found = {
            "knn": multilabel.multilabel_knn(x, y, test[0], k=20, temperature=0.07),
            "linear": multilabel.multilabel_linear(x, y, x_valid, y_valid, test[0]),
            "neural": multilabel.multilabel_neural(x, y, x_valid, y_valid, test[0], **options),
        }
        for name, scores in found.items():
            value = metrics.micro_average_precision(scores, test[1])(np.ones((1, 307))).item()
            assert value == pytest.approx(
                average_precision_score(test[1], scores, average="micro"), abs=1e-9
            )
            counts = metrics.label_counts(scores, test[1]).sum(0)
            expected = f1_score(test[1], scores > 0.5, average="micro", zero_division=0)
            assert metrics.micro_f1(counts) == pytest.approx(expected)
            chance = test[1].mean()
            assert (value > chance + 0.2) != shuffle, name


def test_every_head_refuses_features_that_are_not_finite_and_empty_splits():
    train, valid, test = splits()
    broken = test[0].copy()
    broken[3, 4] = np.nan
    with pytest.raises(ValueError, match="in 1 of 127 items"):
        probes.knn(*train, broken, k=3, metric="l2")
    with pytest.raises(ValueError, match="finite"):
        probes.umap_reduce(train[0], broken, dim=2, neighbours=5, seed=0)
    with pytest.raises(ValueError, match="finite"):
        probes.kmeans(*train, broken, **CLUSTERS)
    with pytest.raises(ValueError, match="finite"):
        linear(*train, *valid, broken, n_classes=3)
    with pytest.raises(ValueError, match="finite"):
        neural.neural(*train, *valid, broken, n_classes=3, protocol=QUICK, seed=0)
    none = (np.zeros((0, 17), np.float32), np.zeros(0, np.int64))
    for empty in ((none, valid, test), (train, none, test), (train, valid, none)):
        with pytest.raises(ValueError, match="must hold items"):
            linear(*empty[0], *empty[1], empty[2][0], n_classes=3)
        with pytest.raises(ValueError, match="must hold items"):
            neural.neural(*empty[0], *empty[1], empty[2][0], n_classes=3, protocol=QUICK, seed=0)
    for empty in ((none, test), (train, none)):
        with pytest.raises(ValueError, match="must hold items"):
            probes.knn(*empty[0], empty[1][0], k=3, metric="cosine")
        with pytest.raises(ValueError, match="must hold items"):
            probes.kmeans(*empty[0], empty[1][0], **CLUSTERS)


def test_labels_outside_the_task_are_refused():
    train, valid, test = splits()
    with pytest.raises(ValueError, match=r"train labels must lie in 0\.\.1, got 0\.\.2"):
        linear(*train, *valid, test[0], n_classes=2)
    with pytest.raises(ValueError, match=r"valid labels must lie in 0\.\.2"):
        neural.neural(*train, valid[0], valid[1] - 1, test[0], n_classes=3, protocol=QUICK, seed=0)
    with pytest.raises(ValueError, match="train labels must be 0 or 1"):
        multilabel.multilabel_knn(train[0], np.stack([train[1]] * 2, 1), test[0], k=3)


def test_constant_features_give_the_majority_class_or_the_class_of_the_first_items():
    (x, y), (x_valid, y_valid), (x_test, _) = splits()
    parts = probes.standardise(*(np.full_like(part, 2.5) for part in (x, x_valid, x_test)))
    y = np.where(np.arange(len(y)) < 120, 2, y)
    y_valid = np.where(np.arange(len(y_valid)) < 60, 2, y_valid)
    found = heads((parts[0], y), (parts[1], y_valid), (parts[2], y_valid))
    assert all((predicted == 2).all() for predicted in found.values())
    laid = probes.umap_reduce(parts[0], parts[2], dim=2, neighbours=15, seed=0)
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
            if number == 0 and name in ("knn", "knn l2", "weighted"):
                assert not (predicted == 1).any(), name
    (x, y), (x_valid, y_valid) = train, valid
    alone = linear(x[y == 1], y[y == 1], x_valid[:9], y_valid[:9] * 0 + 1, test[0], n_classes=3)
    assert (alone.predicted == 1).all()
    assert (alone.probabilities == [0, 1, 0]).all()


def test_one_sample_a_class_is_fitted_and_too_many_neighbours_are_refused():
    train, valid, test = splits(spread=0.05)
    first = np.array([np.flatnonzero(train[1] == label)[0] for label in range(3)])
    x, y = train[0][first], train[1][first]
    assert (probes.knn(x, y, test[0], k=1, metric="cosine") == test[1]).all()
    assert (linear(x, y, *valid, test[0], n_classes=3).predicted == test[1]).all()
    assert (probes.kmeans(x, y, test[0], **CLUSTERS).predicted == test[1]).all()
    protocol = replace(QUICK, epochs=60)
    found = neural.neural(x, y, *valid, test[0], n_classes=3, protocol=protocol, seed=0)
    assert (found == test[1]).all()
    for metric in ("cosine", "l2"):
        with pytest.raises(ValueError, match="between 1 and 3 train items, got 4"):
            probes.knn(x, y, test[0], k=4, metric=metric)
    with pytest.raises(ValueError, match="more than 15 items"):
        probes.umap_reduce(train[0][:15], test[0], dim=2, neighbours=15, seed=0)
    with pytest.raises(ValueError, match="3 items, one a cluster"):
        probes.kmeans(x[:2], y[:2], test[0], **CLUSTERS)


def test_a_candidate_that_diverges_is_dropped_and_all_of_them_refused():
    train, valid, test = splits(spread=0.05)
    huge = replace(QUICK, learning_rates=(1e38, 3e-3))
    found = neural.neural(*train, *valid, test[0], n_classes=3, protocol=huge, seed=0)
    assert (found == test[1]).all()
    with pytest.raises(ValueError, match="one that converges"):
        neural.neural(
            *train,
            *valid,
            test[0],
            n_classes=3,
            protocol=replace(QUICK, learning_rates=(1e38,)),
            seed=0,
        )


def scenes(seed, n=23, grid=(5, 7), dim=11, classes=3, noise=0.3, zoom=4):
    """Masks of one class a token, and tokens that tell it."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(classes, size=(n, *grid))
    directions = np.random.default_rng(97).normal(size=(classes, dim))
    tokens = directions[coarse] + noise * rng.normal(size=(n, *grid, dim)) + 40
    return tokens.astype(np.float32), coarse.repeat(zoom, 1).repeat(zoom, 2)


SWEEP = SegmentationSweep(learning_rates=(3e-2,), epochs=12, patience=3, batch=5, width=16)


@pytest.mark.parametrize("kind", ["linear", "decoder"])
def test_segmentation_learns_masks_that_tokens_tell_and_chance_where_they_do_not(kind):
    train, valid, test = scenes(0, 47), scenes(1), scenes(2)
    options = {"kind": kind, "n_classes": 3, "sweep": SWEEP, "seed": 1}
    state = torch.get_rng_state()
    head = segmentation.fit_segmentation(*train, *valid, **options)
    again = segmentation.fit_segmentation(*train, *valid, **options)
    assert torch.equal(torch.get_rng_state(), state)
    counts = segmentation.segmentation_counts(head, *test, n_classes=3)
    np.testing.assert_array_equal(
        counts, segmentation.segmentation_counts(again, *test, n_classes=3)
    )
    assert metrics.mean_iou(counts.sum(0)) > 0.6
    middle = segmentation.segment(head, test[0], (20, 28))[:, 1::4, 1::4]
    assert (middle == test[1][:, 1::4, 1::4]).mean() > 0.95
    rng = np.random.default_rng(0)
    wrong = [(x, rng.permuted(masks, axis=0)) for x, masks in (train, valid, test)]
    head = segmentation.fit_segmentation(*wrong[0], *wrong[1], **options)
    counts = segmentation.segmentation_counts(head, *wrong[2], n_classes=3).sum(0)
    # Of three equal classes chance is 1/3 right: an IoU of 1/5 at most, less if one is preferred.
    assert metrics.mean_iou(counts) < 0.22


def test_linear_segmentation_equals_a_loop_over_tokens_spread_by_torch():
    train, valid, test = scenes(0), scenes(1, 9), scenes(2, 3)
    head = segmentation.fit_segmentation(
        *train, *valid, kind="linear", n_classes=3, sweep=SWEEP, seed=1
    )
    flat = train[0].reshape(-1, 11).astype(np.float64)
    z = (test[0] - flat.mean(0)) / flat.std(0)
    weight, bias = (w.double().numpy() for w in head.weights)
    logits = torch.from_numpy(np.moveaxis(z @ weight[:, :, 0, 0].T + bias, -1, 1))
    spread = F.interpolate(logits, size=(13, 17), mode="bilinear", align_corners=False)
    found = segmentation.segment(head, test[0], (13, 17))
    assert (found == spread.argmax(1).numpy()).mean() > 0.999


def test_unlabelled_pixels_do_not_matter_and_masks_need_not_be_multiples_of_the_grid():
    train, valid, test = scenes(0), scenes(1, 9), scenes(2, 9)
    options = {"kind": "linear", "n_classes": 3, "sweep": SWEEP, "seed": 1}
    hide = np.random.default_rng(0).random(train[1].shape) < 0.95
    heads_of = [
        segmentation.fit_segmentation(train[0], np.where(hide, value, train[1]), *valid, **options)
        for value in (-1, -9)
    ]
    assert all(
        torch.equal(a, b) for a, b in zip(heads_of[0].weights, heads_of[1].weights, strict=True)
    )
    middle = segmentation.segment(heads_of[0], test[0], (20, 28))[:, 1::4, 1::4]
    assert (middle == test[1][:, 1::4, 1::4]).mean() > 0.95
    cut = (test[0], np.where(test[1] == 1, -1, test[1])[:, :19, :23])
    counts = segmentation.segmentation_counts(heads_of[0], *cut, n_classes=3)
    np.testing.assert_array_equal(counts.sum((1, 2)), (cut[1] >= 0).sum((1, 2)))
    assert not counts[:, 1].any()


@pytest.mark.parametrize("shuffled", [False, True])
def test_segmentation_keeps_the_epoch_of_least_valid_loss(shuffled):
    """More epochs never give a head of greater valid loss, and a lesser one if masks are told."""
    (x, masks), (x_valid, truth) = scenes(0, 23), scenes(1, 9)
    if shuffled:
        truth = np.random.default_rng(0).permuted(truth, axis=0)
    losses = []
    for epochs in range(1, 6):
        sweep = replace(SWEEP, learning_rates=(1e-2,), epochs=epochs, patience=5)
        options = {"kind": "linear", "n_classes": 3, "sweep": sweep, "seed": 1}
        head = segmentation.fit_segmentation(x, masks, x_valid, truth, **options)
        z = (torch.from_numpy(x_valid) - head.mean) / head.deviation
        weight, bias = (w.detach() for w in head.weights)
        logits = torch.einsum("nrcd,kd->nkrc", z, weight[:, :, 0, 0]) + bias[:, None, None]
        spread = F.interpolate(logits, size=truth.shape[1:], mode="bilinear")
        losses.append(F.cross_entropy(spread, torch.from_numpy(truth)).item())
    assert all(after <= before + 1e-6 for before, after in itertools.pairwise(losses))
    assert (losses[-1] < 0.9 * losses[0]) != shuffled


def test_segmentation_of_a_memory_map_holds_batches_not_the_split(tmp_path):
    tokens, masks = scenes(0, 301, grid=(8, 8), dim=64, zoom=2)
    path = tmp_path / "tokens.npy"
    np.save(path, tokens)
    mapped = np.load(path, mmap_mode="r")
    options = {"kind": "linear", "n_classes": 3, "seed": 1}
    sweep = replace(SWEEP, epochs=2)
    small = scenes(1, 9, grid=(8, 8), dim=64, zoom=2)
    tracemalloc.start()
    segmentation.fit_segmentation(mapped, masks, *small, sweep=sweep, **options)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < tokens.nbytes / 4


def test_bad_segmentation_input_is_refused():
    train, valid, test = scenes(0, 7), scenes(1, 5), scenes(2, 3)
    options = {"kind": "linear", "n_classes": 3, "sweep": SWEEP, "seed": 1}

    def fit(x=train[0], masks=train[1], **others):
        return segmentation.fit_segmentation(x, masks, *valid, **(options | others))

    broken = train[0].copy()
    broken[2, 0, 0, 0] = np.inf
    for change, message in (
        ({"x": broken}, "train tokens must be finite"),
        ({"masks": train[1] + 1}, "classes below 3, got 3"),
        ({"masks": np.full_like(train[1], -1)}, "a labelled pixel"),
        ({"masks": train[1][:5]}, "a mask a grid, got 7 and 5"),
        ({"x": train[0][:0], "masks": train[1][:0]}, "must hold images"),
        ({"x": train[0][:, :4]}, "one shape"),
        ({"sweep": replace(SWEEP, learning_rates=(1e38,))}, "one that converges"),
    ):
        with pytest.raises(ValueError, match=message):
            fit(**change)
    with pytest.raises(ValueError, match="width 11, got 5"):
        segmentation.segment(fit(), test[0][..., :5], (20, 28))
    with pytest.raises(ValueError, match="multiple of 16"):
        SegmentationSweep(width=24)
    same = np.full_like(train[0], 3.0)
    constant = segmentation.segment(fit(x=same), np.full_like(test[0], 3.0), (20, 28))
    assert (constant == constant[0, 0, 0]).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is at hand")
def test_heads_on_a_gpu_predict_what_they_do_on_the_cpu():
    """Classes of all but two items; probabilities of several labels within 0.02."""
    (train, y), (valid, y_valid), (x, _) = splits()
    one = {"n_classes": 3}
    several_labels = (*several(0), *several(1, 101), several(2, 89)[0])
    options = {"protocol": QUICK, "seed": 1}
    classes, scores, pixels = {}, {}, {}
    for device in ("cpu", "cuda"):
        on = {"device": device}
        classes[device] = (
            linear(train, y, valid, y_valid, x, **one, **on).predicted,
            neural.neural(train, y, valid, y_valid, x, **one, **options, **on),
        )
        scores[device] = (
            multilabel.multilabel_linear(*several_labels, **on),
            multilabel.multilabel_neural(*several_labels, **options, **on),
        )
        pixels[device] = []
        for kind in ("linear", "decoder"):
            fit = {"kind": kind, "sweep": SWEEP, "seed": 1, **one, **on}
            head = segmentation.fit_segmentation(*scenes(0), *scenes(1, 9), **fit)
            pixels[device].append(segmentation.segment(head, scenes(2, 9)[0], (20, 28)))
    for ours, theirs in zip(classes["cuda"], classes["cpu"], strict=True):
        assert (ours != theirs).sum() <= 2
    for ours, theirs in zip(scores["cuda"], scores["cpu"], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=0.02)
    for ours, theirs in zip(pixels["cuda"], pixels["cpu"], strict=True):
        assert (ours == theirs).mean() > 0.98
