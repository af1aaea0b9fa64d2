"""The order of samples: epochs without replacement, batches without a sample twice."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from salib.training.sampling import Order, stream

COUNT = 101


@pytest.mark.parametrize("batch", [1, 13, 67, 100, 101])
def test_each_epoch_draws_every_sample_once_in_an_order_of_its_own(batch):
    order, drawn = Order(COUNT, batch, seed=5), []
    for step in range(7 * COUNT // batch):
        found = order.batch(step)
        assert len(set(found)) == len(found) == batch
        drawn += found
    epochs = [drawn[start : start + 101] for start in range(0, 6 * 101, 101)]
    assert all(sorted(epoch) == list(range(101)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == len(epochs)


def test_other_seeds_draw_in_other_orders():
    orders = {tuple(Order(COUNT, 101, seed=seed).batch(0)) for seed in range(11)}
    assert len(orders) == 11


def test_a_late_step_is_the_same_asked_for_at_once_in_threads_or_elsewhere():
    order = Order(COUNT, 13, seed=1)
    walked = [order.batch(step) for step in range(97)]
    assert Order(COUNT, 13, seed=1).batch(96) == walked[96]
    assert pickle.loads(pickle.dumps(order)).batch(96) == walked[96]
    assert [order.batch(step) for step in (50, 3, 96)] == [walked[n] for n in (50, 3, 96)]
    shared = Order(COUNT, 13, seed=1)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(shared.batch, range(97))) == walked


@pytest.mark.parametrize("batch", [13, 89])
def test_batches_take_the_next_of_the_queue_that_they_do_not_hold_yet(batch):
    """By loops: what is put off goes first in the next batch."""
    order, queue, epoch = Order(COUNT, batch, seed=3), [], 0
    for step in range(59):
        expected, put_off = [], []
        while len(expected) < batch:
            if not queue:
                generator = stream(3, "epochs", epoch)
                queue = torch.randperm(COUNT, generator=generator).tolist()
                epoch += 1
            sample = queue.pop(0)
            (put_off if sample in expected else expected).append(sample)
        queue = put_off + queue
        assert order.batch(step) == expected


def test_a_batch_larger_than_the_samples_is_refused():
    with pytest.raises(ValueError, match="got a batch of 102 and 101 samples: choose a smaller"):
        Order(COUNT, 102, seed=0)
