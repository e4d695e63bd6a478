"""Latents, and the images that the generator of a run makes of them."""

from contextlib import closing, contextmanager
from typing import NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from facegen import averaging, notebook, session
from facegen.checkpoint import restore_fitting
from facegen.images import to_uint8
from facegen.run import GENERATOR
from facegen.session import tf

SIGNATURE = 'samples'  # of a stored graph
DRAWN_AT_ONCE = 100  # images


def latents(seed, count, z_dim):
    """Return float32 latents [count, z_dim], uniform in [-1, 1].

    The first rows of a longer request are the rows of a shorter one. `seed` is an integer of 0 or
    more, or a sequence of them.
    """
    return np.random.default_rng(seed).uniform(-1, 1, [count, z_dim]).astype(np.float32)


def slerp(a, b, t):
    """Return what lies between latents on the arc from a to b, a share t of its angle away from a.

    slerp(a, b, t) = ((1 - t) |a| + t |b|) (cos(t w) a / |a| + sin(t w) p)

    w is the angle between a and b, and p the unit vector at a right angle to a in the plane of both
    (Shoemake 1985). Between latents of equal length the length stays the same, as in training;
    straight lines lead through shorter ones (White 2016, arXiv:1609.04468). Of the many
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


def sampling_graph(input_z, samples):
    """Return a MetaGraph of what makes `samples` of the latents `input_z`, and of nothing else.

    It holds the operations and the variables that they read, under their names in checkpoints. Its
    signature 'samples' names the two tensors, as 'latents' and 'images'. `tf.train.import_meta_graph`
    makes it a graph again, without the code that built the generator, and returns a Saver to restore it.
    """
    names = [tensor.name for tensor in (input_z, samples)]
    whole = input_z.graph.as_graph_def()
    for node in whole.node:  # else the nodes that it is colocated with would come along
        node.attr.pop('_class', None)
    part = tf.graph_util.extract_sub_graph(whole, [name.split(':')[0] for name in names])
    nodes = {node.name: node for node in part.node}
    variables = input_z.graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)
    with tf.Graph().as_default():
        # Variables of its own, since those of the training are initialised from what is left out.
        handles = {}
        for variable in variables:
            if (name := variable.op.name) in nodes:
                part.node.remove(nodes[name])
                copy = tf.get_variable(
                    name, variable.shape, variable.dtype.base_dtype, tf.zeros_initializer(),
                    trainable=False, use_resource=nodes[name].op == 'VarHandleOp',
                )  # fmt: skip
                handles[name] = copy.op.outputs[0]
        input_z, samples = tf.import_graph_def(part, handles, names, name='')
        meta_graph = tf.train.export_meta_graph(clear_devices=True)
    signature = tf.saved_model.predict_signature_def({'latents': input_z}, {'images': samples})
    meta_graph.signature_def[SIGNATURE].CopyFrom(signature)
    return meta_graph


class Sampler(NamedTuple):
    """A generator in a session: the placeholder of its latents, and the images it makes of them.

    Called with latents [n, z_dim] it returns uint8 images [n, h, w, c].
    """

    sess: tf.Session
    input_z: tf.Tensor  # [None, z_dim]
    samples: tf.Tensor  # [None, h, w, c] in [-1, 1]

    @property
    def z_dim(self):
        """The length of a latent."""
        return self.input_z.shape[1]

    def __call__(self, z):
        """Return the images of latents."""
        return np.concatenate(
            [
                to_uint8(self.sess.run(self.samples, {self.input_z: z[at : at + DRAWN_AT_ONCE]}))
                for at in range(0, len(z), DRAWN_AT_ONCE)
            ]
        )


@contextmanager
def restored(run, weights='last'):
    """Yield a `Sampler` of a run folder's generator, in float32 arithmetic, in a graph of its own.

    It is the one that was trained, whatever the notebook has become since, and has its averaged
    weights where the recipe averages. `weights` are the 'last' or the 'best'.

    Raises FileNotFoundError for a folder without a run or weights, ValueError for a run that is
    damaged.
    """
    run.config()  # first, since its error says what is no run folder
    checkpoint, stored = run.checkpoint(weights), run.generator()
    session.use_tf1()
    with tf.Graph().as_default() as graph:
        input_z, samples, variables, saver = (
            rebuilt(run) if stored is None else imported(run, stored)
        )
    with closing(tf.Session(graph=graph, config=session.config('float32'))) as sess:
        try:
            if others := restore_fitting(sess, saver, checkpoint, variables):
                raise ValueError(others)
        except (tf.errors.OpError, ValueError) as error:
            raise ValueError(
                f'the weights in {run.path} are damaged, or those of another generator '
                f'({type(error).__name__})'
            ) from error
        yield Sampler(sess, input_z, samples)


def imported(run, stored):
    """Add a `sampling_graph`, in bytes, to the default graph.

    Returns (input_z, samples, {name in a checkpoint: variable}, Saver). Raises ValueError if it is
    damaged.
    """
    graph = tf.get_default_graph()
    try:
        meta_graph = tf.MetaGraphDef.FromString(stored)
        saver = tf.train.import_meta_graph(meta_graph)
        signature = meta_graph.signature_def[SIGNATURE]
        ends = signature.inputs['latents'].name, signature.outputs['images'].name
        input_z, samples = map(graph.get_tensor_by_name, ends)
    except (DecodeError, ValueError, KeyError, tf.errors.OpError) as error:
        raise ValueError(
            f'{run.path / GENERATOR} is damaged ({type(error).__name__}); restore it, or train again'
        ) from error
    return input_z, samples, {v.op.name: v for v in tf.global_variables()}, saver


def rebuilt(run):
    """Add the notebook's generator to the default graph, for a run that did not store its own.

    Returns like `imported`. Raises ValueError for a damaged configuration.
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
    print(
        f'{run.path} was made before runs kept their generator; that of {notebook.NOTEBOOK.name} takes '
        'its place'
    )
    generator = notebook.definitions().generator
    input_z = tf.placeholder(tf.float32, [None, z_dim])
    generator(input_z, channels, recipe=recipe)
    samples = generator(input_z, channels, is_train=False, recipe=recipe)
    variables = averaging.variables_to_restore(tf.global_variables('generator/'), recipe)
    return input_z, samples, variables, tf.train.Saver(variables)


def generate(run, count, seed, *, weights='last'):
    """Return `count` images of a trained generator, uint8 [count, height, width, channels].

    They are its raw output for the latents `latents(seed, count, z_dim)`. Raises like `restored`.
    """
    with restored(run, weights) as trained:
        return trained(latents(seed, count, trained.z_dim))
