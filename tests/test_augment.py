"""Augmentations, against what they promise for every image, and that nothing of them is in samples."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from facegen import augment
from facegen.recipes import AUGMENTATIONS, CLASSIC, Recipe
from facegen.run import RunFolder
from facegen.sampling import generate

SIDE = 16


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(0)
        yield graph


def changed(function, images, steps=1):
    """Return what a function makes of images at each of the first `steps` steps."""
    count = tf.train.get_or_create_global_step().assign_add(1)
    with tf.Session() as sess:
        result = function(tf.constant(images, tf.float32))
        sess.run(tf.global_variables_initializer())
        return [(sess.run(result), sess.run(count))[0] for _ in range(steps)]


def noise(count=64, channels=3):
    return np.random.default_rng(1).uniform(-1, 1, [count, SIDE, SIDE, channels]).astype(np.float32)


def test_the_names_are_those_of_recipes():
    assert tuple(augment.BY_NAME) == AUGMENTATIONS


def test_a_flip_mirrors_about_a_quarter_of_the_images():
    images = noise(400)
    (flipped,) = changed(augment.flip, images)
    same = (flipped == images).all(axis=(1, 2, 3))
    mirrored = (flipped == images[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (same ^ mirrored).all()
    assert 60 < mirrored.sum() < 140


def test_colour_changes_brightness_saturation_and_contrast_within_their_limits():
    images = noise()
    (result,) = changed(augment.colour, images)
    shift = result.mean(axis=(1, 2, 3)) - images.mean(axis=(1, 2, 3))
    assert -0.5 < shift.min() < -0.3
    assert 0.3 < shift.max() < 0.5
    grey, before = result.mean(axis=3), images.mean(axis=3)
    contrast = grey.std(axis=(1, 2)) / before.std(axis=(1, 2))
    assert 0.5 <= contrast.min() < 0.7
    assert 1.3 < contrast.max() <= 1.5
    saturation = (result - grey[..., None]).std(axis=(1, 2, 3)) / contrast
    saturation /= (images - before[..., None]).std(axis=(1, 2, 3))
    assert saturation.min() < 0.3
    assert 1.7 < saturation.max() <= 2


def test_one_channel_has_no_saturation():
    images = noise(channels=1)
    (result,) = changed(augment.colour, images)
    contrast = result.std(axis=(1, 2, 3)) / images.std(axis=(1, 2, 3))
    assert 0.5 <= contrast.min() < 0.7
    assert 1.3 < contrast.max() <= 1.5


def test_a_translation_moves_by_up_to_an_eighth_and_leaves_grey():
    images = 1 + np.arange(SIDE * SIDE, dtype=np.float32).reshape(1, SIDE, SIDE, 1).repeat(64, 0)
    (result,) = changed(augment.translation, images)
    padded = np.pad(images[0, ..., 0], 2)
    moves = set()
    for image in result[..., 0]:
        fits = [
            (i, j)
            for i in range(5)
            for j in range(5)
            if np.array_equal(padded[i : i + SIDE, j : j + SIDE], image)
        ]
        assert len(fits) == 1
        moves.update(fits)
    assert len(moves) > 15  # of 25


def test_a_cutout_is_a_square_of_half_the_sides_with_its_middle_in_the_image():
    (result,) = changed(augment.cutout, np.ones([300, SIDE, SIDE, 1], np.float32))
    cut = []
    for image in result[..., 0]:
        rows, columns = np.flatnonzero((image == 0).any(1)), np.flatnonzero((image == 0).any(0))
        assert (image[np.ix_(rows, columns)] == 0).all()
        assert (image == 1).sum() == SIDE**2 - len(rows) * len(columns)
        cut += [(rows[0], rows[-1]), (columns[0], columns[-1])]
    assert {last + 1 - first for first, last in cut} == {4, 5, 6, 7, 8}
    assert {last for first, last in cut if first == 0} == {3, 4, 5, 6, 7}
    assert {first for first, last in cut if last == SIDE - 1} == {8, 9, 10, 11, 12}


@pytest.mark.parametrize('name', AUGMENTATIONS)
def test_each_step_each_image_and_each_call_is_changed_in_a_way_of_its_own(name):
    images = noise(1).repeat(32, axis=0)
    function = augment.BY_NAME[name]
    pairs = changed(lambda x: tf.stack([function(x), function(x)]), images, steps=2)
    first, second = pairs[0]
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, pairs[1][0])
    assert len({image.tobytes() for image in first}) > 1


def test_equal_seeds_and_steps_change_alike():
    def once(seed):
        with tf.Graph().as_default():
            tf.set_random_seed(seed)
            recipe = Recipe(augmentations=AUGMENTATIONS)
            return changed(lambda x: augment.augmented(x, recipe), noise(), steps=3)

    first, again, other = once(5), once(5), once(6)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_without_augmentations_the_images_themselves_come_back():
    images = tf.ones([2, SIDE, SIDE, 1])
    assert augment.augmented(images, CLASSIC) is images


@pytest.mark.parametrize('name', AUGMENTATIONS)
def test_gradients_and_those_of_their_lengths_come_through(name):
    """G needs the first, R1 the second."""
    images = tf.placeholder(tf.float32, [None, SIDE, SIDE, 3])
    result = augment.BY_NAME[name](images)
    (slope,) = tf.gradients(tf.reduce_sum(result**3), images)
    (second,) = tf.gradients(tf.reduce_sum(slope**2), images)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        values = sess.run([slope, second], {images: noise(8)})
    for value in values:
        assert np.isfinite(value).all()
        assert (np.abs(value).reshape(8, -1).max(axis=1) > 0).all()


COLOUR = np.array([0.7, -0.5, 0.3], np.float32)  # of the images that are trained on, but for noise
SLOPE = np.linspace(0.2, -0.2, SIDE, dtype=np.float32)[:, None]  # and they darken to the right


def statistics(notebook, folder, **changes):
    """Return what a short training draws: mean colour, |border - inside|, and two shares.

    These are the share of grey pixels, and that of images which are darker on the left.
    """
    recipe = Recipe(
        image_size=SIDE, kernel_size=4, d_filters=(8, 16), g_filters=(16, 8), z_dim=4, batch_size=32,
        updates='simultaneous', learning_rate=1e-3, rate_decay=True, beta1=0.5, gamma=0.1, ema_half_life=1000, **changes,
    )  # fmt: skip
    images = 0.5 * (COLOUR + SLOPE + 0.1 * noise(256))

    def get_batches(batch_size):
        return iter(images.reshape(-1, batch_size, SIDE, SIDE, 3))

    run = notebook.train(
        None, 32, 4, recipe.learning_rate, 0.5, get_batches, images.shape, 'RGB', recipe=recipe,
        max_steps=1000, show_every=1000, run_dir=folder,
    )  # fmt: skip
    drawn = generate(RunFolder(run), 64, seed=1) / 127.5 - 1
    inside = drawn[:, 3:-3, 3:-3].mean(axis=(0, 1, 2))
    border = np.concatenate([drawn[:, :2], drawn[:, -2:]], axis=1).mean(axis=(0, 1, 2))
    is_grey = (np.abs(drawn) < 0.15).all(axis=3)
    left, right = (half.mean(axis=(1, 2, 3)) for half in np.split(drawn, 2, axis=2))
    mean = drawn.mean(axis=(0, 1, 2))
    return mean, np.abs(border - inside).max(), is_grey.mean(), (left < right).mean()


@pytest.mark.slow
def test_generated_images_show_no_trace(notebook, monkeypatch, tmp_path, capsys):
    """Of what D's images go through, unless the real ones alone went through it."""
    mean, border, grey, mirrored = statistics(notebook, tmp_path / 'without')
    np.testing.assert_allclose(mean, COLOUR, atol=0.25)
    same_mean, same_border, same_grey, same_mirrored = statistics(
        notebook, tmp_path / 'with', augmentations=AUGMENTATIONS
    )
    np.testing.assert_allclose(same_mean, mean, atol=0.12)
    assert same_border < border + 0.06
    assert max(grey, same_grey) < 0.02
    assert max(mirrored, same_mirrored) < 0.05

    real_first = iter([augment.augmented, lambda images, recipe: images])
    monkeypatch.setattr(notebook, 'augmented', lambda *given: next(real_first)(*given))
    mean_of_leaked, border_of_leaked, grey_of_leaked, mirrored_of_leaked = statistics(
        notebook, tmp_path / 'leaked', augmentations=AUGMENTATIONS
    )
    assert np.abs(mean_of_leaked - mean).max() > 0.2
    assert border_of_leaked > border + 0.06
    assert grey_of_leaked > 0.04
    assert mirrored_of_leaked > 0.1
