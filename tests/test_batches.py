"""What steps are fed with: batches, mirrored images, a learning rate."""

import itertools

import numpy as np
import pytest

from facegen.batches import Batches, flipped, scheduled_rate, total_steps
from facegen.recipes import CLASSIC, DIGITS, FACES, Recipe
from facegen.run import Position
from facegen.stopping import Stop


def classic(batch_size):
    """A get_batches of the exercise: one positional argument, a new pass at every call."""
    yield from (np.full([batch_size, 1], i / 8) for i in range(3))


def test_a_classic_get_batches_is_called_for_every_epoch():
    seen = [(epoch, step, images[0, 0]) for epoch, step, _, images in Batches(classic, 2, 2)]
    values = [(1, 1, 0), (1, 2, 1 / 8), (1, 3, 2 / 8), (2, 4, 0), (2, 5, 1 / 8), (2, 6, 2 / 8)]
    assert seen == values


def test_get_batches_is_told_the_epoch():
    def get_batches(batch_size, *, epoch=None):
        yield epoch

    seen = [(epoch, images) for epoch, _, _, images in Batches(get_batches, 1, 3)]
    assert seen == [(1, 0), (2, 1), (3, 2)]


def test_max_steps_ends_within_an_epoch():
    assert [step for _, step, *_ in Batches(classic, 2, 2, max_steps=4)] == [1, 2, 3, 4]


def test_minutes_end_by_the_clock():
    ticks = itertools.count(step=30)  # seconds from one look at the clock to the next
    steps = Batches(classic, 2, 99, minutes=2, clock=lambda: next(ticks))
    assert [step for _, step, *_ in steps] == [1, 2, 3, 4]


def test_there_is_always_a_first_step():
    ticks = itertools.count(step=3600)
    steps = Batches(classic, 2, None, minutes=1e-9, clock=lambda: next(ticks))
    assert [step for _, step, *_ in steps] == [1]


def test_batches_behind_a_position():
    """A classic function is replayed, one that takes the epoch is told it, and the first batch too."""

    def by_epoch(batch_size, *, epoch):
        yield from ([epoch, number] for number in range(3))

    def from_start(batch_size, *, epoch, start):
        yield from ([epoch, number] for number in range(start, 3))

    calls = []

    def stateful(batch_size):
        for number in range(3):
            calls.append(number)
            yield np.full([1], len(calls) / 99)

    start = Position(step=5, epoch=1, batch=2)
    for get_batches in by_epoch, from_start:
        seen = list(Batches(get_batches, 2, 3, start=start))
        assert [(epoch, step) for epoch, step, *_ in seen] == [(2, 6), (3, 7), (3, 8), (3, 9)]
        assert [images for *_, images in seen] == [[1, 2], [2, 0], [2, 1], [2, 2]]
    seen = [round(images[0] * 99) for *_, images in Batches(stateful, 2, 3, start=start)]
    assert seen == [6, 7, 8, 9]
    assert not list(Batches(by_epoch, 2, 3, start=Position(step=9, epoch=2, batch=3)))


def test_going_back():
    """It also ends an epoch early, and does not give the time back."""
    ticks = itertools.count(step=30)
    batches = Batches(classic, 2, 2, minutes=9, clock=lambda: next(ticks))
    seen = []
    for epoch, step, *_ in batches:
        seen.append((epoch, step))
        if len(seen) in (2, 5):
            batches.go_to(Position(step=1, batch=1, divergences=1))
    assert seen == [(1, 1), (1, 2), (1, 2), (1, 3), (2, 4), (1, 2), (1, 3), (2, 4), (2, 5), (2, 6)]
    assert batches.position == Position(step=6, epoch=2, batch=0, seconds=8 * 30, divergences=1)


def test_a_stop_ends_behind_the_current_step():
    stop = Stop()
    batches = Batches(classic, 2, 2)
    for _, step, *_ in batches.until(stop):
        assert not batches.is_ending()
        stop.requested = step == 2
    assert batches.position.step == 2
    assert batches.is_ending()
    assert not list(batches.until(stop))


def test_without_epochs_something_else_ends_the_training():
    steps = Batches(classic, 2, None, max_steps=10)
    assert [(epoch, step) for epoch, step, *_ in steps][-1] == (4, 10)


def test_the_share_of_the_training_that_is_over():
    steps = Batches(classic, 2, 2, steps=6)
    assert [done for _, _, done, _ in steps] == [i / 6 for i in range(6)]
    ticks = itertools.count(step=30)
    steps = Batches(classic, 2, 99, minutes=2, clock=lambda: next(ticks))
    assert [done for _, _, done, _ in steps] == [0, 0.25, 0.5, 0.75]
    assert [done for _, _, done, _ in Batches(classic, 2, 1)] == [0, 0, 0]


def test_scheduled_rate():
    decaying = Recipe(learning_rate=8.0, rate_decay=True)
    assert [scheduled_rate(decaying, 1, done) for done in (0, 0.25, 1, 1.5)] == [8, 6, 0, 0]
    rising = Recipe(learning_rate=8.0, rate_warmup=40, batch_size=10)
    assert [scheduled_rate(rising, step, 0) for step in (1, 2, 4, 5, 99)] == [2, 4, 8, 8, 8]
    assert [scheduled_rate(rising, 1, done) for done in (0.01, 0.05, 0.1, 0.5)] == [2, 4, 8, 8]
    both = Recipe(learning_rate=8.0, rate_warmup=400, batch_size=10, rate_decay=True)
    assert scheduled_rate(both, 20, 0.05) == 8 * 0.5 * 0.95
    assert scheduled_rate(both, 40, 0.75) == 2
    assert scheduled_rate(CLASSIC, 1, 0.5) == CLASSIC.learning_rate


def test_total_steps():
    assert total_steps(100, 30, 2, None) == 6
    assert total_steps(100, 30, 2, 4) == 4
    assert total_steps(100, 30, None, 4) == 4
    assert total_steps(100, 30, None, None) is None


@pytest.mark.parametrize('value', [255, -1, float('nan')])
def test_batches_out_of_range(value):
    batches = Batches(lambda batch_size: iter([np.full([2, 4, 4, 1], value)]), 2, 1)
    with pytest.raises(ValueError, match=r'expected \[-0.5, 0.5\]: divide images of 0 to 255'):
        next(iter(batches))


def test_no_batches():
    with pytest.raises(ValueError, match='gave no batch in epoch 1'):
        list(Batches(lambda batch_size: iter(()), 64, 1))


def test_half_of_the_faces_are_flipped():
    images = np.arange(1000 * 2 * 3 * 1).reshape(1000, 2, 3, 1)
    once = flipped(images, FACES, seed=[1, 2])
    mirrored = (once == images[:, :, ::-1]).all(axis=(1, 2, 3))
    same = (once == images).all(axis=(1, 2, 3))
    assert (mirrored ^ same).all()
    assert 400 < mirrored.sum() < 600
    np.testing.assert_array_equal(once, flipped(images, FACES, seed=[1, 2]))
    assert (once != flipped(images, FACES, seed=[1, 3])).any()


def test_digits_are_left_alone():
    images = np.arange(8 * 2 * 3 * 1).reshape(8, 2, 3, 1)
    assert flipped(images, DIGITS, seed=[1, 2]) is images
