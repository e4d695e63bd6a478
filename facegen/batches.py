"""What the steps of a training run are fed with: batches, latents, a learning rate."""

import inspect
import itertools
import time
from collections import deque
from dataclasses import replace

import numpy as np

from facegen.images import mirrored
from facegen.run import START


def total_steps(count, batch_size, epoch_count, max_steps):
    """Return the number of steps over `count` images, None where only the clock decides."""
    by_epochs = epoch_count and epoch_count * (count // batch_size)
    return min((steps for steps in (by_epochs, max_steps) if steps), default=None)


class Batches:
    """The batches of a training run, from any position on.

    Iterating gives (epoch, step, done, images). Epochs and steps count from 1. `done` is the share of
    the training that is over, 0 or more and below 1: of `steps`, or of the minutes if these run
    out sooner. `position` is the one after the batch that was given last.
    """

    def __init__(
        self, get_batches, batch_size, epoch_count, steps=None, max_steps=None, minutes=None,
        start=START, *, clock=time.monotonic,
    ):  # fmt: skip
        """Take `epoch_count` epochs of batches (None: endlessly), from the position `start` on.

        They end early after `max_steps` steps, or with the first step that ends `minutes` or more
        after the first batch was requested. A plain `get_batches(batch_size)` is called anew for
        every epoch; for a later start, its earlier batches are requested again and dropped. One
        that takes `epoch`, as that of `helper.Dataset` does, is told the epoch, from 0, so that its
        order depends on nothing else; one that takes `start` too is told how many batches to skip.
        """
        self.get_batches, self.batch_size, self.epoch_count = get_batches, batch_size, epoch_count
        self.steps, self.max_steps, self.minutes = steps, max_steps, minutes
        self.options = {'epoch', 'start'} & set(inspect.signature(get_batches).parameters)
        self.position, self.clock = start, clock
        self.moved, self.stop = False, None
        if 'epoch' not in self.options:
            for _ in range(start.epoch):
                deque(get_batches(batch_size), maxlen=0)

    def go_to(self, position):
        """Continue from an earlier position; the time spent since then still counts."""
        self.position = replace(position, seconds=self.position.seconds)
        self.moved = True

    def until(self, stop):
        """Return an iterator like that of the batches, which ends when `stop.requested`."""
        self.stop = stop
        return iter(self)

    def __iter__(self):
        """Yield the batches. Raise ValueError if an epoch has none, or the first is out of range."""
        started = self.clock() - self.position.seconds
        while not (self.is_over() or self.is_stopped()):
            first = self.position
            for batch, images in enumerate(self.rest_of_epoch(), first.batch + 1):
                step = self.position.step + 1
                if step == 1:
                    check_range(images)
                self.position = replace(self.position, step=step, batch=batch)
                self.moved = False
                yield first.epoch + 1, step, self.done(), images
                if self.moved:
                    break
                self.position = replace(self.position, seconds=self.clock() - started)
                if self.is_over() or self.is_stopped():
                    return
            else:
                if self.position.batch == 0:
                    raise ValueError(
                        f'get_batches({self.batch_size}) gave no batch in epoch {first.epoch + 1}'
                    )
                self.position = replace(self.position, epoch=first.epoch + 1, batch=0)

    def done(self):
        """Return the share of the training that was over before the current step."""
        by_steps = (self.position.step - 1) / self.steps if self.steps else 0
        return max(by_steps, self.share_of_minutes())

    def is_ending(self):
        """Tell whether the current step is the last, as far as that is known."""
        return self.position.step == self.steps or self.is_stopped()

    def is_stopped(self):
        """Tell whether somebody has asked to stop."""
        return self.stop is not None and self.stop.requested

    def is_over(self):
        """Tell whether a limit is reached."""
        return (
            (self.epoch_count is not None and self.position.epoch >= self.epoch_count)
            or (self.max_steps is not None and self.position.step >= self.max_steps)
            or self.share_of_minutes() >= 1
        )

    def share_of_minutes(self):
        """Return what share of the minutes has passed, 0 where there is no such limit."""
        return self.position.seconds / (60 * self.minutes) if self.minutes else 0

    def rest_of_epoch(self):
        """Return an iterator over the batches after the position in its epoch."""
        options = {'epoch': self.position.epoch, 'start': self.position.batch}
        if self.options == set(options):
            return iter(self.get_batches(self.batch_size, **options))
        options = {name: options[name] for name in self.options & {'epoch'}}
        batches = self.get_batches(self.batch_size, **options)
        return itertools.islice(batches, self.position.batch, None)


def scheduled_rate(recipe, step, done):
    """Return the learning rate of a step, from 1 on, when a share `done` of the training is over.

    It rises linearly over the first `rate_warmup` images, or the first tenth of the training if
    that is shorter, and, where the recipe lets it decay, falls linearly to 0 at the end.
    """
    rate = recipe.learning_rate
    if recipe.rate_warmup:
        rate *= min(1.0, max(step * recipe.batch_size / recipe.rate_warmup, 10 * done))
    if recipe.rate_decay:
        rate *= max(0.0, 1.0 - done)
    return rate


def check_range(images):
    """Raise ValueError if images do not lie in [-0.5, 0.5], but for rounding."""
    low, high = np.min(images), np.max(images)
    if not (low >= -0.501 and high <= 0.501):
        raise ValueError(
            f'get_batches gave values from {low} to {high}; expected [-0.5, 0.5]: '
            'divide images of 0 to 255 by 255 and subtract 0.5'
        )


def random_keys(seed, position):
    """Return the seeds, as lists, of the latents and of the flips of a step.

    They depend on nothing but the seed, the step and how often the training has diverged.
    """
    return [[seed, position.step, use, position.divergences] for use in (0, 1)]


def flipped(images, recipe, seed, first=0):
    """Return real images [batch, h, w, c], mirrored at random as the recipe says; `seed` is a list.

    `random_flip` mirrors each image, left to right, with probability 1/2. Of images that are a part of a
    batch, `first` is the place of the first of them in it. (What changes real and generated images
    alike is in augment.py.)
    """
    if not recipe.random_flip:
        return images
    chosen = np.random.default_rng(seed).random(first + len(images))[first:] < 0.5
    return np.where(chosen[:, None, None, None], mirrored(images), images)
