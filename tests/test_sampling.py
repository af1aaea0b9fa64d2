"""The order of samples: epochs without replacement, batches without common ground."""

import pickle
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import pytest
import torch

from salib.training.sampling import Order, stream

FLAT = [(14, 30 + n % 13, 7 + n // 13) for n in range(101)]
"""One zoom, a prime number of tiles."""
MIXED = [(9, 4 * n, 3) for n in range(53)]
MIXED += [(10, 8 * n + n % 2, 6) for n in range(0, 53, 3)]
MIXED += [(12, 32 * n + n % 8, 24 + n % 8) for n in range(0, 53, 2)]
"""Three zooms: some tiles hold one or two of the others."""
CHAIN = [(z, 0, 0) for z in (3, 5, 6)] + [(5, x, 2) for x in (7, 8, 9, 11)]
"""Three tiles one within another, and four apart: five at most share no ground."""


def overlap(one, other):
    """Whether two tiles share ground, by the edges of their squares at zoom 20."""
    edges = [
        ((x << 20 - z, (x + 1) << 20 - z), (y << 20 - z, (y + 1) << 20 - z))
        for z, x, y in (one, other)
    ]
    return all(max(a[0], b[0]) < min(a[1], b[1]) for a, b in zip(*edges, strict=True))


def overlapping(batch, tiles):
    return sum(overlap(tiles[a], tiles[b]) for a, b in combinations(batch, 2))


@pytest.mark.parametrize("batch", [1, 13, 67, 100, 101])
def test_each_epoch_draws_every_sample_once_in_an_order_of_its_own(batch):
    order, drawn = Order(FLAT, batch, seed=5), []
    for step in range(7 * len(FLAT) // batch):
        found = order.batch(step)
        assert len(set(found)) == len(found) == batch
        drawn += found
    epochs = [drawn[start : start + 101] for start in range(0, 6 * 101, 101)]
    assert all(sorted(epoch) == list(range(101)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == len(epochs)


def test_other_seeds_draw_in_other_orders():
    orders = {tuple(Order(FLAT, 101, seed=seed).batch(0)) for seed in range(11)}
    assert len(orders) == 11


@pytest.mark.parametrize(("tiles", "batch"), [(FLAT, 13), (MIXED, 17), (CHAIN, 3)])
def test_a_late_step_is_the_same_asked_for_at_once_in_threads_or_elsewhere(tiles, batch):
    order = Order(tiles, batch, seed=1)
    walked = [order.batch(step) for step in range(97)]
    assert Order(tiles, batch, seed=1).batch(96) == walked[96]
    assert pickle.loads(pickle.dumps(order)).batch(96) == walked[96]
    assert [order.batch(step) for step in (50, 3, 96)] == [walked[n] for n in (50, 3, 96)]
    shared = Order(tiles, batch, seed=1)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(shared.batch, range(97))) == walked


@pytest.mark.parametrize(("tiles", "batch"), [(FLAT, 13), (FLAT, 89), (MIXED, 17)])
def test_batches_take_the_next_of_the_queue_that_share_no_ground(tiles, batch):
    """By loops: what is put off goes first in the next batch."""
    order, queue, epoch = Order(tiles, batch, seed=3), [], 0
    for step in range(59):
        expected, put_off = [], []
        while len(expected) < batch:
            if not queue:
                generator = stream(3, "epochs", epoch)
                queue = torch.randperm(len(tiles), generator=generator).tolist()
                epoch += 1
            sample = queue.pop(0)
            apart = not any(overlap(tiles[sample], tiles[other]) for other in expected)
            (expected if apart else put_off).append(sample)
        queue = put_off + queue
        assert order.batch(step) == expected
    assert order.remark() == ""


def test_tiles_of_several_zooms_share_no_ground_in_a_batch_and_are_used_alike():
    order, count = Order(MIXED, 17, seed=0), Counter(dict.fromkeys(range(len(MIXED)), 0))
    for step in range(211):
        found = order.batch(step)
        assert overlapping(found, MIXED) == 0
        count.update(found)
        assert max(count.values()) - min(count.values()) <= 2


@pytest.mark.parametrize(("batch", "least", "share"), [(5, 0, 0.4), (6, 1, 0.4), (7, 3, 1.0)])
def test_where_data_leave_no_choice_samples_overlap_and_one_line_says_so(batch, least, share):
    """All seven are used alike, so three of five tiles within one another must meet at times."""
    order, count = Order(CHAIN, batch, seed=0), Counter(dict.fromkeys(range(len(CHAIN)), 0))
    shared = []
    for step in range(301):
        found = order.batch(step)
        assert len(set(found)) == batch
        count.update(found)
        assert max(count.values()) - min(count.values()) <= 2
        shared.append(overlapping(found, CHAIN))
    assert min(shared) == least
    assert shared.count(least) >= share * len(shared)
    told = shared[0] > 0
    assert (order.remark() != "") == told
    assert not told or "overlap on the ground in 1 of the first 1 batches" in order.remark()


def test_of_samples_that_all_overlap_the_one_that_overlaps_the_fewest_is_drawn():
    """Everything lies in one tile, and half of the rest in its north-west quarter."""
    tiles = [(3, 0, 0), (4, 0, 0), *((7, n % 8, n // 8) for n in range(11))]
    tiles += [(7, 8 + n % 8, n // 8) for n in range(11)]
    overlaps = set()
    for seed in range(101):
        *others, last = Order(tiles, 17, seed=seed).batch(0)
        counts = {
            sample: sum(overlap(tiles[sample], tiles[other]) for other in others)
            for sample in set(range(len(tiles))) - set(others)
        }
        assert counts[last] == min(counts.values())
        overlaps.add(counts[last])
    assert len(overlaps) > 1


def test_a_batch_larger_than_the_samples_is_refused():
    with pytest.raises(ValueError, match="got a batch of 102 and 101 samples: choose a smaller"):
        Order(FLAT, 102, seed=0)
