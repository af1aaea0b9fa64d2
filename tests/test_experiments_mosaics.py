"""Mosaics whose cells have a physical size, and classifiers that differ in positions alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import earth.mosaics
from earth.mosaics import draw_mosaic
from exhibits.experiments import mosaics
from exhibits.experiments.mosaics import (
    CELLS_M,
    SPREAD,
    TRAINED,
    Classifier,
    Pictures,
    blind_optimum,
    gain,
    scores,
    train,
)


def edges(picture):
    """Share of neighbouring pixels that differ by much: each cell's border, seen once."""
    steps = np.abs(np.diff(picture.astype(float), axis=1)).max(axis=2)
    return float((steps > 40).mean())


def test_borders_are_half_as_many_where_cells_are_twice_as_wide():
    """A line crosses a border each cell: per pixel, gsd_m / cell_m of them, but for a factor."""
    found = {}
    for gsd_m, cell_m in ((5.0, 40.0), (5.0, 80.0), (10.0, 80.0), (10.0, 160.0)):
        rng = np.random.default_rng(7)
        drawn = [draw_mosaic(rng, gsd_m=gsd_m, cell_m=cell_m, side_px=96) for _ in range(60)]
        found[gsd_m, cell_m] = np.mean([edges(picture) for picture in drawn])
    assert found[5.0, 80.0] / found[5.0, 40.0] == pytest.approx(0.5, abs=0.1)
    assert found[10.0, 160.0] / found[10.0, 80.0] == pytest.approx(0.5, abs=0.1)
    assert found[10.0, 80.0] / found[5.0, 40.0] == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("kind", ["_voronoi", "_bricks"])
def test_a_square_of_ground_holds_as_many_cells_as_its_area_asks_for(kind, monkeypatch):
    """640 m of cells of 40 m: 256 of them, and those that the border cuts."""
    draw, counts = getattr(earth.mosaics, kind), []

    def counted(u, v, salt):
        counts.append(len(np.unique(draw(u, v, salt))))
        return draw(u, v, salt)

    for name in ("_voronoi", "_bricks"):
        monkeypatch.setattr(earth.mosaics, name, counted)
    for seed in range(5):
        draw_mosaic(np.random.default_rng(seed), gsd_m=5.0, cell_m=40.0, side_px=128)
    assert 256 * 0.95 < np.mean(counts) < 256 + 64


def test_pictures_are_of_the_intervals_and_classes_in_equal_numbers():
    shown = Pictures.draw(41, intervals=TRAINED, side_px=16, seed=[3])
    inside = np.logical_or.reduce([(a <= shown.gsd_m) & (shown.gsd_m <= b) for a, b in TRAINED])
    assert inside.all()
    counts = np.bincount(shown.labels, minlength=len(CELLS_M))
    assert counts.max() - counts.min() <= 1
    again, other = (Pictures.draw(5, intervals=TRAINED, side_px=16, seed=[n]) for n in (3, 4))
    assert np.array_equal(again.gsd_m, Pictures.draw(5, intervals=TRAINED, seed=[3]).gsd_m)
    assert not np.array_equal(again.images, other.images)
    one = Pictures.draw(3, intervals=((7.0, 7.0),), side_px=16, seed=[3])
    assert one.gsd_m.tolist() == pytest.approx([7, 7, 7])


def test_gsds_are_log_uniform_over_all_intervals():
    """Each interval gets pictures by its length in octaves."""
    shown = Pictures.draw(900, intervals=TRAINED, side_px=8, seed=[3])
    lengths = np.array([np.log(high / low) for low, high in TRAINED])
    shares = [float(((a <= shown.gsd_m) & (shown.gsd_m <= b)).float().mean()) for a, b in TRAINED]
    assert shares == pytest.approx(lengths / lengths.sum(), abs=0.05)


def test_batches_turn_flip_and_recolour_and_keep_what_belongs_together():
    """Each picture is flat but for one corner, so that any turn shows in where it went."""
    images = np.zeros((7, 8, 8, 3), np.uint8)
    images[..., :] = np.arange(7)[:, None, None, None] * 10
    images[:, 0, 0] = (201, 202, 203)
    shown = Pictures(images, torch.arange(7.0) + 1, torch.arange(7) % 4)
    corners, colours, seen = set(), set(), []
    for pixels, gsd_m, labels in shown.batches(3, 40, seed=5):
        number = pixels[:, 4, 4, 0] // 10
        assert torch.equal(gsd_m, number + 1.0)
        assert torch.equal(labels, number % 4)
        bright = (pixels[0] > 200).all(dim=-1).nonzero()[0]
        corners.add(tuple(bright.tolist()))
        colours.add(tuple(pixels[0][*bright].tolist()))
        seen += number.tolist()
    assert corners == {(0, 0), (0, 7), (7, 0), (7, 7)}
    assert len(colours) == 6
    assert np.bincount(seen[:6], minlength=7).max() == 1  # none twice within an epoch


def test_the_blind_optimum_is_that_of_a_classifier_of_pixel_sizes():
    """Nearest neighbours by the cells' size in pixels, drawn apart from the function."""
    rng = np.random.default_rng(1)

    def draw(count):
        lengths = [np.log(high / low) for low, high in TRAINED]
        which = rng.choice(3, count, p=np.array(lengths) / sum(lengths))
        low, high = np.log2(np.array(TRAINED)[which]).T
        labels = rng.integers(0, 4, count)
        sizes = np.log2(np.array(CELLS_M)[labels]) + rng.uniform(-SPREAD, SPREAD, count)
        return sizes - rng.uniform(low, high), labels

    (known, labels), (asked, answers) = draw(200_000), draw(4_000)
    order = np.argsort(known)
    at = np.searchsorted(known[order], asked)
    near = labels[order][np.clip(at[:, None] + np.arange(-200, 200), 0, len(order) - 1)]
    votes = np.stack([(near == label).sum(axis=1) for label in range(4)]).argmax(axis=0)
    assert blind_optimum() == pytest.approx((votes == answers).mean(), abs=0.02)
    assert blind_optimum(((7.75, 7.75),)) == pytest.approx(1.0)


class Told(torch.nn.Module):
    """Answers with octaves of the stated GSD above 4 m times `share`, and no look at the pixels."""

    def __init__(self, share):
        super().__init__()
        self.share = share

    def forward(self, images, gsd_m):
        octave = (gsd_m / 4).log2() * self.share
        lower = octave.floor().clamp(0, 2)
        part = (octave - lower).clamp(0, 1)
        near = torch.stack([lower == n for n in range(4)], dim=1).float()
        above = torch.stack([lower + 1 == n for n in range(4)], dim=1).float()
        return (near * (1 - part[:, None]) + above * part[:, None] + 1e-9).log()


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_gain_is_octaves_of_the_answer_per_octave_of_the_stated_gsd(share):
    """Up and down, of pictures whose stated GSDs lie where the made-up model answers linearly."""
    shown = Pictures.draw(83, intervals=((9.0, 15.0),), side_px=16, seed=[2])
    for times in (2.0, 0.5):
        assert gain(Told(share), shown, times=times) == pytest.approx(share, abs=1e-4)


def test_gain_leaves_out_pictures_whose_answer_has_no_room():
    """Of the class at the end, and of those whose stated GSD would lie outside."""
    shown = Pictures.draw(40, intervals=((5.0, 15.0),), side_px=16, seed=[2])
    seen = []

    class Watched(Told):
        def forward(self, images, gsd_m):
            seen.append(gsd_m)
            return super().forward(images, gsd_m)

    gain(Watched(1.0), shown, within=(3.0, 20.0))
    assert 2 * seen[0].max() <= 20
    assert len(seen[0]) == ((shown.labels < 3) & (2 * shown.gsd_m <= 20)).sum()
    gain(Watched(1.0), shown, times=0.5)
    assert len(seen[2]) == (shown.labels > 0).sum()


def test_scores_do_not_depend_on_how_pictures_are_grouped(monkeypatch):
    shown = Pictures.draw(9, intervals=TRAINED, side_px=32, seed=[4])
    model = Classifier({}, seed=0).eval()
    whole = scores(model, shown)
    assert whole.sum(dim=1) == pytest.approx(torch.ones(9))
    for row in (0, 8):
        part = Pictures(
            shown.images[row : row + 1], shown.gsd_m[row : row + 1], shown.labels[row : row + 1]
        )
        assert scores(model, part)[0].numpy() == pytest.approx(whole[row].numpy(), abs=2e-2)


def moved(arm, side_px=32):
    """By how much an untrained arm's answers move when only the stated GSD doubles."""
    shown = Pictures.draw(3, intervals=TRAINED, side_px=side_px, seed=[4])
    model = Classifier(arm, seed=0).eval()
    if model.told is not None:
        with torch.no_grad():
            model.told.fill_(0.1)
    with torch.no_grad():
        images = torch.from_numpy(shown.images)
        return float((model(images, 2 * shown.gsd_m) - model(images, shown.gsd_m)).abs().max())


def test_arms_that_cannot_know_the_gsd_do_not_and_the_others_may():
    from exhibits.experiments.scale import ARMS

    blind = {"2D-ALiBi", "2D-ALiBi, steep slopes", "no position"}
    for name, arm in ARMS.items():
        assert (moved(arm) == 0) == (name in blind), name


def test_training_learns_and_the_same_seed_gives_the_same_model():
    """Two classes, the darker and the brighter half, which need few steps."""
    shown = Pictures.draw(200, intervals=((5.0, 5.0),), side_px=32, seed=[6])
    brightness = torch.from_numpy(shown.images.mean(axis=(1, 2, 3)))
    shown = replace(shown, labels=(brightness > brightness.median()).long())
    arm = {"dim": 24, "heads": 2, "depth": 2}
    how = {"steps": 30, "rate": 3e-3, "seed": 2, "batch": 32}
    model, loss = train(arm, shown, **how)
    again, same = train(arm, shown, **how)
    assert loss == same
    assert torch.equal(model.head.weight, again.head.weight)
    assert loss < 0.6 * np.log(4)
    assert mosaics.accuracy(model, shown) > 0.8
