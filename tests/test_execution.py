"""Every way to run the steps of a training gives what the plain way gives; on a CPU, for GPUs too."""

import json

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from trainer import tiny_recipe, train

import helper
from facegen import session
from facegen.execution import Execution
from facegen.run import RunFolder

TOGETHER = tiny_recipe(
    precision='float32', r1_weight=0.03, z_categories=4, d_hidden=8, g_last_filters=4
)
FLAT = tiny_recipe(precision='float32', rate_decay=False)
STEPS = 30  # of six epochs


def results(run_dir):
    """Return (log, last weights by name) of a run."""
    run = RunFolder(run_dir)
    reader = tf.train.load_checkpoint(run.checkpoint())
    return run.history(), {
        name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()
    }


@pytest.fixture
def run(notebook, tiny_pictures, tmp_path):
    """Train on 42 pictures with the options given; return the run folder's results."""

    def run(name='run', **options):
        return results(train(notebook, tiny_pictures, run_dir=tmp_path / name, **options))

    return run


def assert_equal(one, other):
    assert one[0] == other[0]
    assert one[1].keys() == other[1].keys()
    for name, value in one[1].items():
        np.testing.assert_array_equal(value, other[1][name], err_msg=name)


@pytest.mark.parametrize(
    'options',
    [
        {'steps_per_call': 3},
        {'data_on_device': True},
        {'steps_per_call': 4, 'data_on_device': True},
    ],
)
def test_equal_to_the_plain_way_to_the_bit(run, options):
    """With dropout, R1, averaged weights, a decaying rate and mirrored pictures."""
    plain = run('plain', recipe=TOGETHER)
    assert len(plain[0]) == STEPS
    assert_equal(run('other', recipe=TOGETHER, **options), plain)


def test_close_to_the_plain_way_in_whatever_the_cpu_has(run):
    """Where the CPU has bfloat16, what is computed in it may differ."""
    plain, _ = run('plain', max_steps=10)
    other, _ = run('other', max_steps=10, steps_per_call=4, data_on_device=True)
    for name in 'd_loss', 'g_loss', 'd_real', 'd_fake':
        numbers = [[line[name] for line in history] for history in (plain, other)]
        np.testing.assert_allclose(*numbers, atol=2e-2)


def test_a_run_may_go_on_in_another_way(run):
    """Another number of steps in a call changes only where a run that is ended by the clock ends."""
    run(recipe=FLAT, max_steps=7, steps_per_call=5)
    other = run(recipe=FLAT, steps_per_call=3, data_on_device=True)
    assert_equal(other, run('plain', recipe=FLAT))


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
            _, placeholders, (turn,) = notebook.build_graph((64, 8, 8, 3), recipe, Execution(None))
            with tf.Session(config=config) as sess:
                sess.run(tf.global_variables_initializer())
                numbers = [
                    sess.run(turn, dict(zip(placeholders, [*fed, 1e-3], strict=True)))[0]
                    for fed in zip(images, z, strict=True)
                ]
        return [[each['d_loss'], each['g_loss']] for each in numbers]

    plain, other = losses('float32'), losses('float16')
    np.testing.assert_allclose(other, plain, atol=2e-2)
    assert other != plain


def test_a_step_whose_gradients_overflow_is_left_out():
    with tf.Graph().as_default(), tf.Session() as sess:
        weight = tf.get_variable('weight', [], initializer=tf.ones_initializer())
        factor = tf.placeholder(tf.float32, [])
        optimizer = session.with_scaled_loss(tf.train.GradientDescentOptimizer(0.5), 'float16')
        step = optimizer.minimize(factor * weight)
        sess.run(tf.global_variables_initializer())
        for value, expected in (1.0, 0.5), (np.inf, 0.5), (0.5, 0.25):
            sess.run(step, {factor: value})
            assert sess.run(weight) == expected


def test_as_few_calls_as_the_steps_need(notebook, tiny_pictures, tmp_path, monkeypatch):
    """30 steps, five a call, but a call ends with every fourth step, which is shown."""
    counts = []
    original = Execution.run
    monkeypatch.setattr(
        Execution, 'run', lambda *args: counts.append(len(args[-1])) or original(*args)
    )
    train(
        notebook, tiny_pictures, recipe=TOGETHER, run_dir=tmp_path / 'run', steps_per_call=5,
        show_every=12,
    )  # fmt: skip
    assert counts == [5, 5, 2, 5, 5, 2, 5, 1]


def test_no_picture_is_fed_that_lies_on_the_device(notebook, tiny_pictures, tmp_path, monkeypatch):
    fed = []
    original = tf.Session.run

    def watching(self, fetches, feed_dict=None, **options):
        if isinstance(fetches, tuple):  # a turn
            fed.extend(np.shape(value) for value in feed_dict.values())
        return original(self, fetches, feed_dict, **options)

    monkeypatch.setattr(tf.Session, 'run', watching)
    train(notebook, tiny_pictures, run_dir=tmp_path / 'run', max_steps=2, data_on_device=True)
    assert set(fed) == {(8,), (8, 8), ()}  # indices, latents, learning rate


def test_the_pixels_are_not_part_of_the_training(run):
    _, weights = run(max_steps=1, data_on_device=True)
    assert not any('pixels' in name for name in weights)
    assert sum(value.nbytes for value in weights.values()) < 42 * 8 * 8 * 3 * 4


def test_pictures_on_the_device_are_those_of_the_data_set(tiny_pictures):
    dataset = helper.Dataset('folder', tiny_pictures, width=8, height=8, seed=3)
    execution = Execution(dataset.get_batches, data_on_device=True)
    with tf.Graph().as_default(), tf.Session() as sess:
        execution.add_pixels()
        indices = tf.placeholder(tf.int32, [None])
        pictures = execution.pictures(indices)
        execution.start(sess)
        for chosen, images in zip(
            dataset.get_indices(8, epoch=1), dataset.get_batches(8, epoch=1), strict=True
        ):
            np.testing.assert_array_equal(sess.run(pictures, {indices: chosen}), images)
            mirrored = sess.run(pictures, {indices: ~chosen})
            np.testing.assert_array_equal(mirrored, images[:, :, ::-1])


def test_batches_of_ones_own_cannot_lie_on_the_device(notebook, digit_batches):
    get_batches, *_ = digit_batches
    with pytest.raises(ValueError, match=r'needs the get_batches of a helper\.Dataset'):
        Execution(get_batches, data_on_device=True)


def test_other_batches_than_those_of_a_data_set_cannot_either(tiny_pictures):
    """They may be augmented, which indices know nothing of."""

    class Darkened(helper.Dataset):
        def get_batches(self, batch_size, **options):
            return (images / 2 for images in super().get_batches(batch_size, **options))

    dataset = Darkened('folder', tiny_pictures, width=8, height=8)
    with pytest.raises(ValueError, match=r'needs the get_batches of a helper\.Dataset'):
        Execution(dataset.get_batches, data_on_device=True)


def calls_of(*batches, steps_per_call=3):
    feeds = [(1, step, {'images': images}) for step, images in enumerate(batches, 1)]
    calls = Execution(None, steps_per_call).calls(iter([feeds, []]).__next__, show_every=100)
    return [[feed['images'].tolist() for *_, feed in call] for call in calls]


def test_a_call_keeps_batches_that_come_in_one_array():
    array = np.zeros(1)

    def refilled():
        for step in range(1, 4):
            array[0] = step
            yield 1, step, {'images': array}

    (call,) = Execution(None, 3).calls(iter([refilled(), []]).__next__, show_every=100)
    assert [feed['images'][0] for *_, feed in call] == [1, 2, 3]


def test_a_call_has_batches_of_one_size():
    batches = [np.zeros(size) for size in (2, 2, 1, 2, 2, 2, 2)]
    assert [len(call) for call in calls_of(*batches)] == [2, 1, 3, 1]


def test_d_outputs_are_logged(run):
    history, _ = run(max_steps=3)
    for line in history:
        assert 0 < line['d_real'] < 1
        assert 0 < line['d_fake'] < 1
    assert json.dumps(history)
