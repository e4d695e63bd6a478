"""What surrounds the steps of a training run: its arguments, its precision, what it logs."""

import json

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from trainer import tiny_recipe, train

from facegen import session
from facegen.recipes import CLASSIC, Recipe
from facegen.run import RunFolder
from facegen.training import check_arguments


def results(run_dir):
    """Return (log, last weights by name) of a run."""
    run = RunFolder(run_dir)
    reader = tf.train.load_checkpoint(run.checkpoint())
    return run.history(), {
        name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()
    }


@pytest.fixture
def run(notebook, tiny_pictures, tmp_path):
    """Train on 42 images with the options given; return the run folder's results."""

    def run(name='run', **options):
        return results(train(notebook, tiny_pictures, run_dir=tmp_path / name, **options))

    return run


def losses(run, name, **settings):
    """Return the losses of ten steps, which are about 1, without anything random but the latents."""
    history, _ = run(name, recipe=tiny_recipe(dropout=0.0, **settings), max_steps=10)
    return [[line['d_loss'], line['g_loss']] for line in history]


def test_compiled_steps_are_close_to_the_plain_ones(run):
    plain = losses(run, 'plain', precision='float32')
    compiled = losses(run, 'compiled', precision='float32', xla=True)
    np.testing.assert_allclose(compiled, plain, atol=2e-3)
    assert compiled != plain


def test_scaled_losses_change_nothing(run, capsys):
    """The scale is a power of two, so gradients are rounded as without it; a CPU has no float16."""
    plain = losses(run, 'plain', precision='float32')
    assert losses(run, 'scaled', precision='float16') == plain
    assert capsys.readouterr().out.count('float16 needs a GPU; this CPU computes in float32') == 1


def test_float16_is_close_to_float32(notebook):
    """The rewrite for GPUs has one for CPUs beside it, which must do for this test."""
    rng = np.random.default_rng(0)
    images = rng.uniform(-0.5, 0.5, [10, 8, 8, 8, 3])
    z = rng.uniform(-1, 1, [10, 8, 8])

    def losses(precision):
        recipe = tiny_recipe(dropout=0.0, precision=precision)
        config = session.config('float32')
        if precision == 'float16':
            config.graph_options.rewrite_options.auto_mixed_precision_cpu = (
                session.RewriterConfig.ON
            )
        with tf.Graph().as_default():
            tf.set_random_seed(0)
            real, latents, rate = notebook.model_inputs(8, 8, 3, recipe.z_dim)
            both = notebook.model_loss(notebook.to_tanh_range(real), latents, 3, recipe=recipe)
            steps = notebook.model_opt(*both, rate, recipe.beta1, recipe=recipe)
            with tf.Session(config=config) as sess:
                sess.run(tf.global_variables_initializer())
                return [
                    sess.run([both, steps], {real: images[i], latents: z[i], rate: 1e-3})[0]
                    for i in range(len(images))
                ]

    plain, other = losses('float32'), losses('float16')
    np.testing.assert_allclose(other, plain, atol=2e-2)
    assert other != plain


def test_a_step_whose_gradients_overflow_is_left_out():
    with tf.Graph().as_default(), tf.Session() as sess:
        weight = tf.get_variable('weight', [], initializer=tf.ones_initializer())
        factor = tf.placeholder(tf.float32, [])
        step = session.adam(0.25, 0.0, 'float16').minimize(factor * weight)
        sess.run(tf.global_variables_initializer())
        for value, expected in (1.0, 0.75), (np.inf, 0.75), (1.0, 0.5):
            sess.run(step, {factor: value})
            assert sess.run(weight) == pytest.approx(expected, abs=1e-3)


def test_d_outputs_are_logged(run):
    history, _ = run(max_steps=3)
    for line in history:
        assert 0 < line['d_real'] < 1
        assert 0 < line['d_fake'] < 1
    assert json.dumps(history)


GOOD = {
    'epoch_count': 1,
    'batch_size': 64,
    'z_dim': 100,
    'learning_rate': 3e-4,
    'beta1': 0.5,
    'data_shape': (64, 28, 28, 1),
    'data_image_mode': 'L',
    'recipe': CLASSIC,
    'seed': 0,
    'print_every': 1,
    'show_every': 1,
    'show_n_images': 25,
    'run_dir': 'a',
    'max_steps': None,
    'minutes': None,
}


def test_good_arguments():
    check_arguments(**GOOD)
    check_arguments(**GOOD | {'batch_size': np.int64(2), 'max_steps': 1, 'minutes': 0.5})
    check_arguments(**GOOD | {'epoch_count': None, 'minutes': 0.5})
    check_arguments(**GOOD | {'data_shape': (64, 28, 28, 3), 'data_image_mode': 'RGB'})


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        ({'epoch_count': 0}, 'epoch_count is 0; expected a whole number of at least 1'),
        ({'batch_size': 0}, 'batch_size is 0'),
        ({'batch_size': 1}, 'one image has no batch statistics'),
        ({'batch_size': 6.5}, 'batch_size is 6.5'),
        ({'batch_size': '64'}, "batch_size is '64'"),
        ({'batch_size': 65}, 'the data set holds 64'),
        ({'z_dim': -1}, 'z_dim is -1'),
        ({'print_every': 0}, 'print_every is 0'),
        ({'show_every': 0}, 'show_every is 0'),
        ({'show_n_images': 0}, 'show_n_images is 0'),
        ({'show_n_images': 24}, 'expected a square number, such as 16 or 25'),
        ({'seed': -1}, 'seed is -1'),
        ({'seed': None}, 'seed is None'),
        ({'recipe': Recipe(z_categories=120)}, 'z_dim is 100; expected at least 120'),
        ({'recipe': 'faces'}, "recipe is 'faces'; expected a Recipe"),
        ({'epoch_count': None}, 'nothing ends this training'),
        ({'max_steps': 0}, 'max_steps is 0'),
        ({'minutes': 0}, 'minutes is 0'),
        ({'minutes': '3'}, "minutes is '3'"),
        ({'minutes': float('inf')}, 'minutes is inf'),
        ({'learning_rate': 'x'}, "learning_rate is 'x'"),
        ({'beta1': None}, 'beta1 is None'),
        ({'learning_rate': 0}, 'learning_rate is 0'),
        ({'learning_rate': float('nan')}, 'learning_rate is nan'),
        ({'beta1': 1}, 'beta1 is 1'),
        ({'data_shape': (28, 28, 1)}, r'expected \(count, height, width, channels\)'),
        ({'data_shape': (64, 28, 28, 3)}, "mode 'L' have 1 channel"),
        ({'data_shape': (64, 32, 32, 1)}, '32x32, but the recipe draws 28x28'),
        ({'data_image_mode': 'CMYK'}, "expected 'L' or 'RGB'"),
    ],
)
def test_bad_arguments(wrong, message):
    with pytest.raises(ValueError, match=message):
        check_arguments(**GOOD | wrong)
