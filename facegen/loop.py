"""What a training loop needs around its steps: checked arguments, batches, a clock, reports."""

import inspect
import itertools
import math
import time
from collections import deque
from dataclasses import replace
from numbers import Integral, Real

import numpy as np

import helper
from facegen import session
from facegen.recipes import Recipe
from facegen.run import START

EVALUATED = 1000  # pictures that are drawn for every evaluation of a training
COUNTS = ('batch_size', 'z_dim', 'print_every', 'show_every', 'show_n_images', 'steps_per_call')
LIMITS = ('epoch_count', 'max_steps')  # may be None, but not all of these and `minutes`


def check_arguments(
    *, data_shape, data_image_mode, recipe, seed, learning_rate, beta1, minutes, data_on_device,
    **counts,
):  # fmt: skip
    """Return the recipe that arguments of `train` make, which override four of its settings.

    Raises ValueError for arguments that cannot work, saying which would.
    """
    if not isinstance(recipe, Recipe):
        raise ValueError(f"recipe is {recipe!r}; expected a Recipe, such as recipe_named('digits')")
    limits = [name for name in LIMITS if counts[name] is not None]
    for name in (*COUNTS, *limits):
        if not (isinstance(counts[name], Integral) and counts[name] >= 1):
            raise ValueError(f'{name} is {counts[name]!r}; expected a whole number of at least 1')
    if not (isinstance(seed, Integral) and seed >= 0):
        raise ValueError(f'seed is {seed!r}; expected a whole number of at least 0')
    if minutes is not None and not (isinstance(minutes, Real) and 0 < minutes < math.inf):
        raise ValueError(f'minutes is {minutes!r}; expected a number of more than 0')
    if minutes is None and not limits:
        raise ValueError('nothing ends this training; give epoch_count, max_steps or minutes')
    if counts['steps_per_call'] > 1 and recipe.updates != 'together':
        raise ValueError(
            f'steps_per_call is {counts["steps_per_call"]}, but the updates of the recipe are '
            f"{recipe.updates!r}; expected 1, or updates 'together'"
        )
    if counts['z_dim'] < recipe.z_categories:
        raise ValueError(
            f'z_dim is {counts["z_dim"]}; expected at least {recipe.z_categories}, the categories of '
            'the recipe'
        )
    side = math.isqrt(counts['show_n_images'])
    if side**2 != counts['show_n_images']:
        raise ValueError(
            f'show_n_images is {counts["show_n_images"]}; '
            f'expected a square number, such as {side**2} or {(side + 1) ** 2}'
        )
    if not (isinstance(learning_rate, Real) and 0 < learning_rate < math.inf):
        raise ValueError(f'learning_rate is {learning_rate!r}; expected more than 0, such as 3e-4')
    if not (isinstance(beta1, Real) and 0 <= beta1 < 1):
        raise ValueError(f'beta1 is {beta1!r}; expected 0 or more, and below 1')
    if len(data_shape) != 4:
        raise ValueError(
            f'data_shape is {tuple(data_shape)}; expected (count, height, width, channels)'
        )
    count, *size, channels = data_shape
    if counts['batch_size'] > count:
        raise ValueError(
            f'batch_size is {counts["batch_size"]}, but the data set holds {count}; '
            f'choose at most {count}'
        )
    if data_image_mode not in helper.CHANNELS:
        raise ValueError(f"data_image_mode is {data_image_mode!r}; expected 'L' or 'RGB'")
    if helper.CHANNELS[data_image_mode] != channels:
        raise ValueError(
            f'pictures of mode {data_image_mode!r} have {helper.CHANNELS[data_image_mode]} channel(s), '
            f'but data_shape says {channels}'
        )
    if size != [recipe.image_size] * 2:
        raise ValueError(
            f'pictures are {size[0]}x{size[1]}, but the recipe draws '
            f'{recipe.image_size}x{recipe.image_size}; make both equal'
        )
    return replace(
        recipe,
        batch_size=counts['batch_size'],
        z_dim=counts['z_dim'],
        learning_rate=learning_rate,
        beta1=beta1,
    )


def checked_settings(*, get_batches, evaluation, resume, **settings):
    """Return what decides the numbers of a training, from the arguments of `train`.

    With versions, and the identity of the data where that is a `helper.Dataset`. Raises ValueError
    like `check_arguments`.
    """
    dataset = getattr(get_batches, '__self__', None)
    about = {'recipe': check_arguments(**settings), 'data': getattr(dataset, 'identity', None)}
    return settings | about | session.versions()


def total_steps(count, batch_size, epoch_count, max_steps):
    """Return the number of steps over `count` pictures, None where only the clock decides."""
    by_epochs = epoch_count and epoch_count * (count // batch_size)
    return min((steps for steps in (by_epochs, max_steps) if steps), default=None)


class Batches:
    """The batches of a training, from any position on.

    Iterating gives (epoch, step, done, images). Epochs and steps count from 1. `done` is the share of
    the training that lies behind, 0 or more and below 1: of `steps`, or of the minutes if these run
    out sooner. `position` is the one behind the batch that was given last.
    """

    def __init__(
        self, get_batches, batch_size, epoch_count, steps=None, max_steps=None, minutes=None,
        start=START, *, clock=time.monotonic,
    ):  # fmt: skip
        """Take `epoch_count` epochs of batches, None for ever, behind the position `start`.

        They end early after `max_steps` steps, or with the first step that ends `minutes` or more
        after the first was asked for. A classic `get_batches(batch_size)` is called anew for every
        epoch, and behind a later start what it gave before is asked for again. One that takes
        `epoch`, as `helper.Dataset` does, is told which, from 0, so that its order depends on nothing
        else; one that takes `start` too, how many batches to leave out.
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
        """Continue behind an earlier position; its time is not given back."""
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
                if step == 1 and np.ndim(images) > 1:  # indices have one dimension
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
        """Return the share of the training that lies behind the step before the current one."""
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
        """Return which share of the minutes is over, 0 where these do not matter."""
        return self.position.seconds / (60 * self.minutes) if self.minutes else 0

    def rest_of_epoch(self):
        """Return an iterator over the batches behind the position in its epoch."""
        options = {'epoch': self.position.epoch, 'start': self.position.batch}
        if self.options == set(options):
            return iter(self.get_batches(self.batch_size, **options))
        options = {name: options[name] for name in self.options & {'epoch'}}
        batches = self.get_batches(self.batch_size, **options)
        return itertools.islice(batches, self.position.batch, None)


def scheduled_rate(recipe, step, done):
    """Return the learning rate of a step, from 1 on, when a share `done` of the training is over.

    It rises in a line over the first `rate_warmup` pictures, or the first tenth of the training if that
    is shorter, and, where the recipe lets it decay, falls in a line to 0 at the end.
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
            'divide pictures of 0 to 255 by 255 and subtract 0.5'
        )


def report(run, bar, noted):
    """Log steps, [(epoch, step, {name: number})], and show them."""
    for epoch, step, numbers in noted:
        line = {'step': step, 'epoch': epoch, **numbers}
        run.log(**line)
        bar.note(line)


def random_keys(seed, position):
    """Return the seeds, as lists, of the latents and of the flips of a step.

    They depend on nothing but the seed, the step and how often the training has diverged.
    """
    return [[seed, position.step, use, position.divergences] for use in (0, 1)]


def augment(images, recipe, seed):
    """Return images [batch, h, w, c] changed at random as the recipe says; `seed` is a list.

    `random_flip` mirrors each picture, left to right, with probability 1/2. Of indices [batch], in
    place of images, those of mirrored pictures become ~index.
    """
    if not recipe.random_flip:
        return images
    flipped = np.random.default_rng(seed).random(len(images)) < 0.5
    if images.ndim == 1:
        return np.where(flipped, ~images, images)
    return np.where(flipped[:, None, None, None], images[:, :, ::-1], images)


def assess(run, bar, step, scores):
    """Note the scores of a step, keep the weights if they are the best yet, and show what to know."""
    run.add_scores(step, scores)
    bar.note_scores()


def say_how_to_go_on(run, step):
    """Print how to continue a training that was stopped."""
    print(
        f'stopped after step {step:,}, all is saved; to go on, repeat it with resume=True '
        f'(on the command line: --resume --run-dir {run.path})'
    )
