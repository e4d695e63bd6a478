"""The notebook's five graph functions, against closed forms and its own checks."""

import math
import time
from dataclasses import replace

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import problem_unittests as checks
from facegen import losses
from facegen.recipes import CLASSIC, DIGITS, RECIPES, Recipe

TOGETHER = Recipe(updates='simultaneous')


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(0)
        yield graph


@pytest.fixture
def run():
    """Run fetches in one session with initialised variables."""
    sessions = []

    def run(fetches, feed=None):
        if not sessions:
            sessions.append(tf.Session())
            sessions[0].run(tf.global_variables_initializer())
        return sessions[0].run(fetches, feed)

    yield run
    for session in sessions:
        session.close()


def test_own_checks_pass(notebook, capsys):
    checks.test_model_inputs(notebook.model_inputs)
    checks.test_discriminator(notebook.discriminator, tf)
    checks.test_generator(notebook.generator, tf)
    checks.test_model_loss(notebook.model_loss)
    checks.test_model_opt(notebook.model_opt, tf)
    assert capsys.readouterr().out == 'Tests Passed\n' * 5


def test_inputs(notebook):
    real, z, rate = notebook.model_inputs(20, 10, 3, 7)
    assert [t.shape.as_list() for t in (real, z, rate)] == [[None, 10, 20, 3], [None, 7], []]
    assert {t.dtype for t in (real, z, rate)} == {tf.float32}


def weights(scope):
    return sum(v.shape.num_elements() for v in tf.trainable_variables(scope + '/'))


def test_sizes_of_the_classic_network(notebook):
    """Kernels 5x5 of 1 to 64 to 128 to 256 features, and back; norms have two numbers a feature."""
    z = tf.placeholder(tf.float32, [None, 100])
    images = notebook.generator(z, 1)
    probability, logits = notebook.discriminator(images)
    assert images.shape.as_list() == [None, 28, 28, 1]
    assert probability.shape.as_list() == logits.shape.as_list() == [None, 1]
    assert weights('discriminator') == (
        (25 * 64 + 64) + (25 * 64 * 128 + 256) + (25 * 128 * 256 + 512) + (4 * 4 * 256 + 1)
    )
    assert weights('generator') == (
        100 * 7 * 7 * 256 + 512 + (25 * 256 * 128 + 256) + (25 * 128 * 1 + 1)
    )


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('size', [28, 32, 64, 128])
def test_other_sizes_and_channels(notebook, run, size, channels):
    recipe = Recipe(image_size=size)
    images = notebook.generator(tf.ones([2, 100]), channels, recipe=recipe)
    _, logits = notebook.discriminator(images, recipe=recipe)
    assert images.shape.as_list() == [2, size, size, channels]
    values, judged = run([images, logits])
    assert np.abs(values).max() <= 1
    assert np.isfinite(judged).all()


def test_sampling_does_not_depend_on_the_batch(notebook, run):
    z = tf.placeholder(tf.float32, [None, 100])
    notebook.generator(z, 1)
    samples = notebook.generator(z, 1, is_train=False)
    latents = np.random.default_rng(0).uniform(-1, 1, [4, 100])
    together = run(samples, {z: latents})
    alone = np.concatenate([run(samples, {z: latents[i : i + 1]}) for i in range(4)])
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize('logit', [-3.0, 0.0, 2.0])
@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_losses_are_their_formulas(notebook, monkeypatch, run, logit, smoothing):
    """d_loss = H(1 - smoothing, D(x)) + H(0, D(G(z))), g_loss = H(1, D(G(z)))."""
    real_logit = 1.5
    monkeypatch.setattr(notebook, 'generator', lambda z, channels, recipe: z)
    monkeypatch.setattr(
        notebook,
        'discriminator',
        lambda x, reuse=False, recipe=None: (None, tf.fill([4, 1], logit if reuse else real_logit)),
    )
    recipe = Recipe(smoothing=smoothing)
    losses = notebook.model_loss(tf.zeros([4, 2]), tf.zeros([4, 2]), 1, recipe=recipe)

    def cross_entropy(label, logit):
        p = 1 / (1 + math.exp(-logit))
        return -label * math.log(p) - (1 - label) * math.log(1 - p)

    d_loss, g_loss = run(losses)
    assert d_loss == pytest.approx(
        cross_entropy(1 - smoothing, real_logit) + cross_entropy(0, logit), rel=1e-5
    )
    assert g_loss == pytest.approx(cross_entropy(1, logit), rel=1e-5)


def test_losses_of_a_discriminator_that_cannot_tell(notebook, monkeypatch, run):
    """The dashed lines of the loss curves: 2 log 2 and log 2, whatever the smoothing."""
    monkeypatch.setattr(notebook, 'generator', lambda z, channels, recipe: z)
    monkeypatch.setattr(
        notebook, 'discriminator', lambda x, reuse=False, recipe=None: (None, tf.zeros([4, 1]))
    )
    d_loss, g_loss = run(notebook.model_loss(tf.zeros([4, 2]), tf.zeros([4, 2]), 1))
    assert d_loss == pytest.approx(2 * math.log(2))
    assert g_loss == pytest.approx(math.log(2))


def players(recipe, notebook):
    """Build a game of two weights with a batch-norm update each; return its steps and variables."""
    with tf.variable_scope('discriminator'):
        d = tf.get_variable('w', [], initializer=tf.constant_initializer(1.0))
        d_norm = tf.get_variable('norm', [], initializer=tf.zeros_initializer(), trainable=False)
    with tf.variable_scope('generator'):
        g = tf.get_variable('w', [], initializer=tf.constant_initializer(1.0))
        g_norm = tf.get_variable('norm', [], initializer=tf.zeros_initializer(), trainable=False)
    for scope, norm in ('discriminator_1', d_norm), ('generator', g_norm):
        with tf.name_scope(scope + '/'):
            tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, norm.assign_add(1.0).op)
    steps = notebook.model_opt(d * g, d * d + d * g, 0.125, 0.5, recipe=recipe)
    return steps, (d, g), (d_norm, g_norm)


@pytest.mark.parametrize('recipe', [CLASSIC, TOGETHER])
def test_each_step_moves_its_own_weight_and_norm(notebook, run, recipe):
    (d_step, g_step), weights, norms = players(recipe, notebook)
    run(d_step)
    np.testing.assert_allclose(run(weights), [0.875, 1], rtol=1e-5)
    np.testing.assert_array_equal(run(norms), [1, 0])
    run(g_step)
    np.testing.assert_allclose(run(weights), [0.875, 0.875], rtol=1e-5)
    np.testing.assert_array_equal(run(norms), [1, 1])


def gradient_of_g_in_a_race(notebook, run, recipe):
    """Return the gradient that G's step uses if D's weight, 1 at first, is read for it late."""
    with tf.variable_scope('discriminator'):
        d = tf.get_variable('w', [], initializer=tf.constant_initializer(1.0))
    with tf.variable_scope('generator'):
        g = tf.get_variable('w', [], initializer=tf.constant_initializer(1.0))
    with tf.control_dependencies([tf.py_func(lambda: time.sleep(0.2), [], [])]):
        late_d = d.read_value()
    steps = notebook.model_opt(d * 1.0, late_d * g, 0.125, 0.5, recipe=recipe)
    run(steps)
    moment = next(v for v in tf.global_variables() if v.op.name == 'generator/w/Adam')
    return run(moment) / (1 - 0.5)  # Adam's first mean is (1 - beta1) times the gradient


def test_simultaneous_gradients_see_the_weights_before_either_step(notebook, run):
    assert gradient_of_g_in_a_race(notebook, run, TOGETHER) == pytest.approx(1)


def test_that_race_would_be_seen(notebook, run):
    """Alternating steps are not meant for one run: there, D's step of 0.125 comes first."""
    assert gradient_of_g_in_a_race(notebook, run, CLASSIC) == pytest.approx(1 - 0.125)


@pytest.mark.parametrize('recipe', [CLASSIC, DIGITS, Recipe(gamma=1.0)])
def test_a_step_lowers_its_own_loss_and_moves_nothing_of_the_other(notebook, run, recipe):
    real, z, rate = notebook.model_inputs(28, 28, 1, 24)
    losses = notebook.model_loss(real, z, 1, recipe=recipe)
    steps = notebook.model_opt(*losses, rate, 0.5, recipe=recipe)
    rng = np.random.default_rng(0)
    feed = {
        real: rng.uniform(-1, 1, [16, 28, 28, 1]),
        z: rng.uniform(-1, 1, [16, 24]),
        rate: 1e-5,
    }
    own, other = 'discriminator', 'generator'
    for loss, step in zip(losses, steps, strict=True):
        loss_before, rest_before = run(loss, feed), run(tf.trainable_variables(other + '/'))
        mine_before = run(tf.trainable_variables(own + '/'))
        run(step, feed)
        assert run(loss, feed) < loss_before
        for before, after in zip(
            rest_before, run(tf.trainable_variables(other + '/')), strict=True
        ):
            np.testing.assert_array_equal(before, after)
        for before, after in zip(mine_before, run(tf.trainable_variables(own + '/')), strict=True):
            assert (before != after).any()
        own, other = other, own


@pytest.mark.parametrize('loss', ['non-saturating', 'hinge'])
def test_r1_joins_any_loss(notebook, monkeypatch, run, loss):
    """With a D that adds up the 6 pixels, each slope is 1."""
    monkeypatch.setattr(notebook, 'generator', lambda z, channels, recipe: z)
    monkeypatch.setattr(
        notebook,
        'discriminator',
        lambda x, reuse=False, recipe=None: (None, tf.reduce_sum(x, axis=[1, 2, 3])[:, None]),
    )
    x = tf.ones([5, 3, 2, 1])
    plain = Recipe(loss=loss, smoothing=0.0)
    penalised = replace(plain, gamma=0.5)
    (d_loss, g_loss), (d_penalised, g_same) = (
        notebook.model_loss(x, -x, 1, recipe=recipe) for recipe in (plain, penalised)
    )
    penalty, difference = run([d_penalised - d_loss, g_same - g_loss])
    assert penalty == pytest.approx(losses.R1_EVERY * 0.5 / 2 * 6)
    assert difference == 0


@pytest.mark.parametrize('name', RECIPES)
def test_every_recipe_draws_and_judges(notebook, run, name):
    recipe = RECIPES[name]
    images = notebook.generator(tf.ones([2, recipe.z_dim]), 3, recipe=recipe)
    probability, logits = notebook.discriminator(images, recipe=recipe)
    assert images.shape.as_list()[1:] == [28, 28, 3]
    images, probability, logits = run([images, probability, logits])
    assert np.abs(images).max() <= 1
    assert probability.shape == logits.shape == (2, 1)


def kernels(scope):
    """Return the kernels of a network, in the order of its layers."""
    return [v for v in tf.trainable_variables(scope) if v.op.name.endswith('kernel')]


def test_three_doublings_start_from_a_side_of_four(notebook):
    recipe = Recipe(g_filters=(8, 4, 2))
    images = notebook.generator(tf.ones([2, 5]), 1, recipe=recipe)
    assert images.shape.as_list()[1:] == [28, 28, 1]
    shapes = [kernel.shape.as_list() for kernel in kernels('generator/')]
    assert shapes == [[5, 4 * 4 * 8], [5, 5, 4, 8], [5, 5, 2, 4], [5, 5, 1, 2]]


def test_hidden_layers_and_filters(notebook):
    recipe = Recipe(d_filters=(2, 3), g_filters=(4, 3), d_hidden=6, g_hidden=7, kernel_size=4)
    notebook.discriminator(notebook.generator(tf.ones([2, 5]), 1, recipe=recipe), recipe=recipe)
    shapes = [kernel.shape.as_list() for kernel in kernels('discriminator/')]
    assert shapes == [[4, 4, 1, 2], [4, 4, 2, 3], [7 * 7 * 3, 6], [6, 1]]
    shapes = [kernel.shape.as_list() for kernel in kernels('generator/')]
    assert shapes == [[5, 7], [7, 7 * 7 * 4], [4, 4, 3, 4], [4, 4, 1, 3]]


def test_a_layer_at_full_size(notebook):
    recipe = Recipe(g_filters=(4, 3), g_last_filters=2)
    images = notebook.generator(tf.ones([2, 5]), 3, recipe=recipe)
    assert images.shape.as_list() == [2, 28, 28, 3]
    shapes = [kernel.shape.as_list() for kernel in kernels('generator/')]
    assert shapes == [[5, 7 * 7 * 4], [5, 5, 3, 4], [5, 5, 2, 3], [3, 3, 2, 3]]


@pytest.mark.parametrize(('initializer', 'deviation'), [('normal', 0.02), ('xavier', None)])
def test_initializer(notebook, run, initializer, deviation):
    recipe = Recipe(initializer=initializer, d_hidden=64)
    notebook.discriminator(tf.ones([2, 28, 28, 1]), recipe=recipe)
    hidden = kernels('discriminator/')[-2]
    inputs, outputs = hidden.shape.as_list()
    expected = deviation or math.sqrt(2 / (inputs + outputs))  # of a uniform one on +-sqrt(3) of it
    assert run(hidden).std() == pytest.approx(expected, rel=0.02)


def test_the_recipe_chooses_the_loss(notebook, monkeypatch):
    monkeypatch.setattr(notebook, 'generator', lambda z, channels, recipe: z)
    monkeypatch.setattr(
        notebook, 'discriminator', lambda x, reuse=False, recipe=None: (None, x[:, :1])
    )
    for loss, function in losses.LOSSES.items():
        recipe = Recipe(loss=loss, smoothing=0.0)
        real, fake = tf.constant([[2.0, 0.0]]), tf.constant([[-3.0, 0.0]])
        found = notebook.model_loss(real, fake, 1, recipe=recipe)
        with tf.Session() as sess:
            found, expected = sess.run([found, function(real[:, :1], fake[:, :1], recipe)])
        assert found == expected


@pytest.mark.parametrize('network', ['plain', 'residual'])
def test_after_120_steps_samples_are_drawn_as_in_training(notebook, run, network):
    """What the running averages began with is forgotten; with a momentum of 0.99, a third of it is left."""
    recipe = Recipe(network=network, g_filters=(6, 4), g_last_filters=3)
    z = tf.constant(np.random.default_rng(0).uniform(-1, 1, [64, 5]), tf.float32)
    trained = notebook.generator(z, 3, recipe=recipe)
    samples = notebook.generator(z, 3, is_train=False, recipe=recipe)
    updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS, 'generator')
    before = run(samples)
    for _ in range(120):
        run(updates)
    expected, found = run([trained, samples])
    np.testing.assert_allclose(found, expected, atol=0.01)
    assert np.abs(before - expected).max() > 0.1
