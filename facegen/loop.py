"""What a training loop needs around its steps: checked arguments, batches, a clock."""

import inspect
import time
from numbers import Integral

import numpy as np

COUNTS = ('epoch_count', 'batch_size', 'z_dim', 'print_every', 'show_every', 'show_n_images')
CHANNELS = {'L': 1, 'RGB': 3}


def check_arguments(
    *, data_shape, data_image_mode, recipe, learning_rate, beta1, max_steps, minutes, **others
):
    """Raise ValueError for arguments of `train` that cannot work, saying which would."""
    counts = {name: others[name] for name in COUNTS} | {
        'max_steps': 1 if max_steps is None else max_steps
    }
    for name, value in counts.items():
        if not (isinstance(value, Integral) and value >= 1):
            raise ValueError(f'{name} is {value!r}; expected a whole number of at least 1')
    if minutes is not None and not minutes > 0:
        raise ValueError(f'minutes is {minutes}; expected more than 0')
    if not learning_rate > 0:
        raise ValueError(f'learning_rate is {learning_rate}; expected more than 0, such as 3e-4')
    if not 0 <= beta1 < 1:
        raise ValueError(f'beta1 is {beta1}; expected 0 or more, and below 1')
    if len(data_shape) != 4:
        raise ValueError(
            f'data_shape is {tuple(data_shape)}; expected (count, height, width, channels)'
        )
    count, *size, channels = data_shape
    if counts['batch_size'] > count:
        raise ValueError(
            f'batch_size is {counts["batch_size"]}, but there are only {count} pictures; '
            f'choose at most {count}'
        )
    if data_image_mode not in CHANNELS:
        raise ValueError(f"data_image_mode is {data_image_mode!r}; expected 'L' or 'RGB'")
    if CHANNELS[data_image_mode] != channels:
        raise ValueError(
            f'pictures of mode {data_image_mode!r} have {CHANNELS[data_image_mode]} channel(s), '
            f'but data_shape says {channels}'
        )
    if size != [recipe.image_size] * 2:
        raise ValueError(
            f'pictures are {size[0]}x{size[1]}, but the recipe draws '
            f'{recipe.image_size}x{recipe.image_size}; make both equal'
        )


def training_batches(
    get_batches, batch_size, epoch_count, *, max_steps=None, minutes=None, clock=time.monotonic
):
    """Yield (epoch, step, images) over all epochs, both counted from 1.

    Ends early after `max_steps` steps, or once `minutes` have passed since the first was asked
    for. A classic `get_batches(batch_size)` is called anew for every epoch; one that takes `epoch`,
    as `helper.Dataset` does, is told which, so that its order depends on nothing but the epoch.

    Raises ValueError if an epoch brings no batch.
    """
    by_epoch = 'epoch' in inspect.signature(get_batches).parameters
    started = clock()
    step = 0
    for epoch in range(1, epoch_count + 1):
        batches = get_batches(batch_size, epoch=epoch) if by_epoch else get_batches(batch_size)
        steps_before = step
        for images in batches:
            if step == max_steps or (minutes and clock() - started > 60 * minutes):
                return
            step += 1
            yield epoch, step, images
        if step == steps_before:
            raise ValueError(f'get_batches({batch_size}) gave no batch in epoch {epoch}')


def augment(images, recipe, seed):
    """Return images [batch, h, w, c] changed at random as the recipe says; `seed` is a list.

    `random_flip` mirrors each picture, left to right, with probability 1/2.
    """
    if not recipe.random_flip:
        return images
    flipped = np.random.default_rng([*seed, 1]).random(len(images)) < 0.5  # 1: not the latents'
    return np.where(flipped[:, None, None, None], images[:, :, ::-1], images)
