"""The losses beside the notebook's, against their formulas."""

import math

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from facegen.losses import LOSSES, R1_EVERY, r1_penalty, undecided_losses
from facegen.recipes import CHOICES, Recipe
from facegen.session import use_tf1

use_tf1()

REAL, FAKE = [[3.0], [-1.0]], [[0.5], [-2.0]]


def softplus(x):
    return math.log1p(math.exp(x))


@pytest.mark.parametrize(
    ('loss', 'smoothing', 'd_loss', 'g_loss'),
    [
        (  # one half of mean squares: (3 - 1)^2, (-1 - 1)^2; 0.5^2, 2^2; (0.5 - 1)^2, (-2 - 1)^2
            'least-squares',
            0.0,
            (4 + 4) / 4 + (0.25 + 4) / 4,
            (0.25 + 9) / 4,
        ),
        (
            'least-squares',
            0.25,
            (2.25**2 + 1.75**2) / 4 + (0.25 + 4) / 4,
            (0.25 + 9) / 4,
        ),
        ('hinge', 0.0, (0 + 2) / 2 + (1.5 + 0) / 2, 0.75),
        (
            'relativistic',
            0.0,
            (softplus(-2.5) + softplus(-1)) / 2,
            (softplus(2.5) + softplus(1)) / 2,
        ),
    ],
)
def test_formula(loss, smoothing, d_loss, g_loss):
    recipe = Recipe(loss=loss, smoothing=smoothing)
    with tf.Graph().as_default(), tf.Session() as sess:
        found = sess.run(LOSSES[loss](tf.constant(REAL), tf.constant(FAKE), recipe))
    assert found == pytest.approx((d_loss, g_loss), rel=1e-6)


def test_every_loss_of_a_recipe_exists():
    assert {'non-saturating', *LOSSES} == set(CHOICES['loss'])


@pytest.mark.parametrize('loss', ['hinge', 'relativistic'])
def test_smoothing_needs_labels(loss):
    with pytest.raises(ValueError, match=f'smoothing is 0.1; expected 0: {loss} has no labels'):
        Recipe(loss=loss)


@pytest.mark.parametrize(
    ('recipe', 'logit'),
    [
        (Recipe(smoothing=0.1), 0.0),
        (Recipe(smoothing=0.0), 0.0),
        (Recipe(loss='least-squares', smoothing=0.0), 0.5),
        (Recipe(loss='least-squares', smoothing=0.2), 0.4),
        (Recipe(loss='hinge', smoothing=0.0), 0.0),
        (Recipe(loss='relativistic', smoothing=0.0), 7.0),
    ],
)
def test_losses_of_a_discriminator_that_cannot_tell(recipe, logit):
    with tf.Graph().as_default(), tf.Session() as sess:
        logits = tf.fill([4, 1], logit)
        loss = LOSSES.get(recipe.loss)
        found = loss(logits, logits, recipe) if loss else cross_entropies(logits, recipe)
        assert sess.run(found) == pytest.approx(undecided_losses(recipe), rel=1e-6)


def cross_entropies(logits, recipe):
    """The notebook's losses, of the same logits for real and generated images."""
    real, fake = tf.fill([4, 1], 1 - recipe.smoothing), tf.zeros([4, 1])
    d_loss, d_fake, g_loss = (
        tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(logits=logits, labels=labels))
        for labels in (real, fake, tf.ones([4, 1]))
    )
    return d_loss + d_fake, g_loss


def slope_penalties(recipe, steps):
    """The penalty of D(x) = w |x|^2 / 2 at each of the first steps, and its derivative by w."""
    with tf.Graph().as_default(), tf.Session() as sess:
        images = tf.placeholder(tf.float32, [2, 2, 1, 1])
        w = tf.get_variable('w', [], initializer=tf.constant_initializer(3.0))
        logits = w * tf.reduce_sum(images**2, axis=[1, 2, 3])[:, None] / 2
        penalty = r1_penalty(logits, images, recipe)
        (by_w,) = tf.gradients(penalty, w)
        sess.run(tf.global_variables_initializer())
        count = tf.train.get_global_step().assign_add(1)
        pictures = [[[[1.0]], [[2.0]]], [[[0.0]], [[4.0]]]]
        found = []
        for _ in range(steps):
            found.append(sess.run([penalty, by_w], {images: pictures}))
            sess.run(count)
        return found


def test_r1_penalty():
    """The slope is w x, so that E |slope|^2 = w^2 (5 + 16) / 2, which grows by 2 w (5 + 16) / 2."""
    heavy = np.array([R1_EVERY * 0.5 / 2 * square * 21 / 2 for square in (9, 6)])
    found = slope_penalties(Recipe(gamma=0.5), R1_EVERY + 1)
    np.testing.assert_allclose(found, [heavy] + [0 * heavy] * (R1_EVERY - 1) + [heavy])
