"""Latents, and the pictures that a generator makes of them."""

from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from facegen import averaging, notebook, session
from facegen.checkpoint import misfit
from facegen.session import tf


def latents(seed, count, z_dim):
    """Return float32 latents [count, z_dim], uniform in [-1, 1].

    The first rows of a longer request are the rows of a shorter one. `seed` is an integer of 0 or
    more, or a sequence of them.
    """
    return np.random.default_rng(seed).uniform(-1, 1, [count, z_dim]).astype(np.float32)


def slerp(a, b, t):
    """Return what lies between latents on the arc from a to b, a share t of its angle behind a.

    slerp(a, b, t) = ((1 - t) |a| + t |b|) (cos(t w) a / |a| + sin(t w) p)

    w is the angle between a and b, and p the unit vector at a right angle to a in the plane of both
    (Shoemake 1985). Between latents of equal length the length stays, as it is where the generator
    has learnt; straight lines lead through shorter ones (White 2016, arXiv:1609.04468). Of the many
    half circles between opposite latents it takes one. A latent of zeros takes the direction of
    the other.

    a and b are [..., z_dim], t is [...] in [0, 1]; they are broadcast against each other. Returns
    [..., z_dim] of the type of a.
    """
    kind, t = np.asarray(a).dtype, np.asarray(t, float)[..., None]
    a, b = np.asarray(a, float), np.asarray(b, float)
    (a_length, a), (b_length, b) = with_length(a), with_length(b)
    a, b = np.where(a_length, a, b), np.where(b_length, b, a)
    cosine = (a * b).sum(-1, keepdims=True)
    sine, side = with_length(b - cosine * a)
    opposite = (sine < 1e-12) & (cosine < 0)
    side = np.where(opposite, with_length(at_right_angle(a))[1], side)
    angle = t * np.arctan2(sine, cosine)
    length = (1 - t) * a_length + t * b_length
    return (length * (np.cos(angle) * a + np.sin(angle) * side)).astype(kind)


def with_length(x):
    """Return (length [..., 1], unit vector [..., n]) of x [..., n]; zeros stay zeros."""
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    return length, x / np.where(length, length, 1)


def at_right_angle(x):
    """Return a vector at a right angle to each unit vector x [..., n], n of 2 or more."""
    axis = np.eye(x.shape[-1])[np.abs(x).argmin(-1)]  # the one that is least along x
    return axis - (axis * x).sum(-1, keepdims=True) * x


def walk(z, frames):
    """Return latents [n * frames, z_dim] on the way through latents z [n, z_dim] and back to the first.

    From each one to the next are `frames` steps by `slerp`; z[i] is the latent i * frames.
    """
    share = np.arange(frames) / frames
    between = slerp(z[:, None], np.roll(z, -1, axis=0)[:, None], share)
    return between.reshape(-1, z.shape[1])


def to_uint8(images):
    """Return images of the range [-1, 1] as uint8, -1 as 0 and 1 as 255."""
    return np.rint((np.clip(images, -1, 1) + 1) * 127.5).astype(np.uint8)


def draw(sess, input_z, z, *, batch_size=100):
    """Return what the graph's sampling tensor makes of latents z [n, z_dim], uint8 [n, h, w, c].

    That tensor is the one of the collection 'samples', which `build_graph` fills.
    """
    (samples,) = sess.graph.get_collection('samples')
    return np.concatenate(
        [
            to_uint8(sess.run(samples, {input_z: z[start : start + batch_size]}))
            for start in range(0, len(z), batch_size)
        ]
    )


class Restored(NamedTuple):
    """A trained generator: its session, the placeholder of latents, and the pictures it makes of them.

    Called with latents [n, z_dim] it returns uint8 pictures [n, h, w, c].
    """

    sess: tf.Session
    input_z: tf.Tensor  # [None, z_dim]
    samples: tf.Tensor  # [None, h, w, c] in [-1, 1]

    @property
    def z_dim(self):
        """The length of a latent."""
        return self.input_z.shape[1]

    def __call__(self, z):
        """Return the pictures of latents."""
        return draw(self.sess, self.input_z, z)


@contextmanager
def restored(run, weights='last'):
    """Yield the `Restored` generator of a run folder, in float32 arithmetic, in a graph of its own.

    It has its averaged weights where the recipe averages. `weights` are the 'last' or the 'best'.

    Raises FileNotFoundError for a folder without a run or weights, ValueError for a run that is
    damaged or was trained with another generator than the notebook's.
    """
    recipe, config = run.recipe(), run.config()
    try:
        z_dim, channels = config['z_dim'], config['data_shape'][-1]
        known = type(z_dim) is int and z_dim >= recipe.z_categories and channels in (1, 3)
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f'{run.path} has a damaged config.json ({error!r})') from error
    if not known:
        raise ValueError(
            f'{run.path} has a damaged config.json (z_dim {z_dim!r}, channels {channels!r})'
        )
    checkpoint = run.checkpoint(weights)
    generator = notebook.definitions().generator
    with tf.Graph().as_default() as graph:
        input_z = tf.placeholder(tf.float32, [None, z_dim])
        generator(input_z, channels, recipe=recipe)
        samples = generator(input_z, channels, is_train=False, recipe=recipe)
        tf.add_to_collection('samples', samples)
        variables = averaging.variables_to_restore(tf.global_variables('generator/'), recipe)
        saver = tf.train.Saver(variables)
    with tf.Session(graph=graph, config=session.config('float32')) as sess:
        try:
            if others := misfit(checkpoint, variables):
                raise ValueError(others)
            saver.restore(sess, checkpoint)
        except (tf.errors.OpError, ValueError) as error:
            raise ValueError(
                f'the weights in {run.path} are damaged, or those of another generator than '
                f'that of {notebook.NOTEBOOK.name} ({type(error).__name__})'
            ) from error
        yield Restored(sess, input_z, samples)


def generate(run, count, seed, *, weights='last'):
    """Return `count` pictures of a trained generator, uint8 [count, height, width, channels].

    They are its raw output for the latents `latents(seed, count, z_dim)`. Raises like `restored`.
    """
    with restored(run, weights) as trained:
        return trained(latents(seed, count, trained.z_dim))
