"""The notebook's `train` and `show_generator_output`, with real networks on 64 synthetic digits."""

import json
import re

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image

import helper
from facegen import sampling
from facegen.recipes import CLASSIC, DIGITS, FACES, Recipe
from facegen.run import RunFolder
from facegen.training import Training

SMALL = {'epoch_count': 2, 'batch_size': 16, 'z_dim': 24, 'learning_rate': 3e-4, 'beta1': 0.5}


@pytest.fixture
def train(notebook, digit_batches, tmp_path):
    """Call train with small arguments; return its run folder."""
    get_batches, data_shape, mode = digit_batches

    def train(**changes):
        arguments = SMALL | {
            'get_batches': get_batches,
            'data_shape': data_shape,
            'data_image_mode': mode,
            'run_dir': tmp_path / 'run',
            'print_every': 4,
            'show_every': 3,
            'show_n_images': 4,
        }
        return RunFolder(notebook.train(**arguments | changes))

    return train


def last_weights(run):
    """Return {name: value} of the last checkpoint."""
    reader = tf.train.load_checkpoint(run.checkpoint())
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def test_run_folder(train, capsys):
    run = train(recipe=DIGITS, seed=3)
    config = run.config()
    assert config['recipe']['updates'] == 'simultaneous'
    assert (config['seed'], config['batch_size'], config['z_dim']) == (3, 16, 24)
    assert config['tensorflow'] == tf.__version__
    assert config['data_shape'] == [64, 28, 28, 1]
    assert [(line['epoch'], line['step']) for line in run.history()] == [
        (1, 1), (1, 2), (1, 3), (1, 4), (2, 5), (2, 6), (2, 7), (2, 8)
    ]  # fmt: skip
    assert [step for step, _ in run.samples()] == [0, 3, 6, 8]
    assert all(Image.open(file).size == (56, 56) for _, file in run.samples())
    assert run.checkpoint().endswith('step_000008')
    line = r'Epoch (1/2 Step 4|2/2 Step 8)\.\.\. Discriminator Loss: \d\.\d{4}\.\.\. Generator Loss: \d'
    assert len(re.findall(line, capsys.readouterr().out)) == 2


def test_training_changes_the_pictures(train):
    run = train()
    (_, first), *_, (_, last) = run.samples()
    assert np.abs(np.int16(Image.open(first)) - np.int16(Image.open(last))).mean() > 1


@pytest.mark.parametrize('recipe', [CLASSIC, DIGITS, FACES, Recipe(dropout=0.5)])
def test_same_seed_same_result(train, recipe):
    runs = [train(recipe=recipe, seed=seed) for seed in (1, 1, 2)]
    histories = [run.history() for run in runs]
    assert histories[0] == histories[1] != histories[2]
    one, same, other = ([v for _, v in sorted(last_weights(run).items())] for run in runs)
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert [run.path.name for run in runs] == ['run', 'run-2', 'run-3']


def test_global_randomness_decides_nothing(train):
    np.random.seed(1)  # noqa: NPY002
    first = train(epoch_count=1).history()
    np.random.seed(2)  # noqa: NPY002
    assert train(epoch_count=1).history() == first


@pytest.mark.parametrize(('updates', 'runs_per_step'), [('simultaneous', 1), ('alternating', 2)])
def test_structure_that_makes_it_fast(train, monkeypatch, updates, runs_per_step):
    """No more session runs than the schedule needs, and no operation added after the first step."""
    sizes, steps = [], []
    original = tf.Session.run

    def counting(self, fetches, *arguments, **options):
        if 'd_loss' in str(fetches) or 'g_loss' in str(fetches):
            steps.append(fetches)
        sizes.append(len(self.graph.get_operations()))
        return original(self, fetches, *arguments, **options)

    monkeypatch.setattr(tf.Session, 'run', counting)
    train(recipe=Recipe(updates=updates))
    assert len(steps) == 8 * runs_per_step
    assert len(set(sizes)) == 1


def test_data_reaches_the_networks_in_the_range_of_tanh(train, notebook, monkeypatch):
    original = notebook.model_loss

    def watched(images, *arguments, **options):
        losses = original(images, *arguments, **options)
        for name, extreme in ('d_real', tf.reduce_min), ('d_fake', tf.reduce_max):
            tf.get_collection_ref(name)[:] = [extreme(images)]  # are logged in place of D's outputs
        return losses

    monkeypatch.setattr(notebook, 'model_loss', watched)
    history = train(epoch_count=1).history()
    assert min(line['d_real'] for line in history) == -1
    assert max(line['d_fake'] for line in history) == pytest.approx(1, abs=0.05)


def test_train_twice_in_one_process_and_inside_an_open_graph(train):
    train(epoch_count=1)
    with tf.Graph().as_default() as graph:
        train(epoch_count=1)
        assert not graph.finalized
        assert not graph.get_operations()


def test_a_data_set_is_told_the_epoch(train, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, [20, 28, 28, 3], np.uint8)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f'{i:02}.png')
    dataset = helper.Dataset('folder', tmp_path)
    options = {'get_batches': dataset.get_batches, 'data_shape': dataset.shape}
    first, second = (train(data_image_mode='RGB', recipe=FACES, **options) for _ in range(2))
    assert first.history() == second.history()


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        ({'batch_size': 0}, 'batch_size is 0'),
        ({'batch_size': 65}, 'the data set holds 64'),
        ({'data_image_mode': 'RGB'}, 'have 3 channel'),
        ({'seed': -1}, 'seed is -1'),
    ],
)
def test_bad_arguments_leave_no_folder(train, tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        train(**wrong)
    assert not list(tmp_path.iterdir())


def test_generate_draws_the_last_grid_of_the_training(train):
    for recipe in CLASSIC, DIGITS:
        run = train(recipe=recipe, seed=5)
        images = sampling.generate(run, 4, seed=5)
        grid = np.int16(helper.images_square_grid(images, 'L', value_range=(0, 255)))
        _, last = run.samples()[-1]
        # Training may draw in bfloat16, which has 8 bits.
        assert np.abs(grid - np.int16(Image.open(last))).max() <= 3


def test_an_error_amid_a_training_leaves_a_run_that_goes_on(notebook, digit_batches, tmp_path):
    get_batches, data_shape, mode = digit_batches
    broken = True

    def breaking(batch_size):
        for number, images in enumerate(get_batches(batch_size)):
            if broken and number == 3:
                raise KeyError('broken')
            yield images

    def train():
        return notebook.train(
            **SMALL, get_batches=breaking, data_shape=data_shape, data_image_mode=mode,
            show_n_images=4, show_every=2, run_dir=tmp_path / 'run', resume=True,
        )  # fmt: skip

    with pytest.raises(KeyError, match='broken'):
        train()
    run = RunFolder(tmp_path / 'run')
    assert (run.saved_step(), len(run.history())) == (2, 3)
    broken = False
    assert train() == run.path
    assert (run.saved_step(), len(run.history())) == (8, 8)


def test_evaluation_notes_scores_and_keeps_the_best_weights(train, capsys):
    distances = iter([9.0, 3.0, 5.0, 4.0])
    seen = []

    def evaluation(images):
        seen.append(images)
        return {'frechet_distance': next(distances), 'confident_share': 0.5, 'class_kl': 1.0}

    run = train(recipe=DIGITS, evaluation=evaluation)
    assert all(images.shape == (1000, 28, 28, 1) for images in seen)
    assert [(line['step'], line['frechet_distance']) for line in run.scores()] == [
        (0, 9), (3, 3), (6, 5), (8, 4)
    ]  # fmt: skip
    assert (run.saved_step('last'), run.saved_step('best')) == (8, 3)
    last, best = (sampling.generate(run, 4, 1, weights=weights) for weights in ('last', 'best'))
    assert (last != best).any()
    printed = capsys.readouterr().out
    assert 'Step 3: Fréchet distance 3, confident about 50% of the digits' in printed
    assert 'unevenly' not in printed  # it is too early for that


def test_evaluation_changes_nothing_of_the_training(train):
    scores = {'frechet_distance': 1.0}
    histories = [train(evaluation=given).history() for given in (None, lambda images: scores)]
    assert histories[0] == histories[1]


def test_the_learning_rate_decays_where_the_recipe_says(train, monkeypatch):
    fed = []
    original = tf.Session.run

    def watching(self, fetches, feed=None, **options):
        fed.extend(value for key, value in (feed or {}).items() if 'learning_rate' in str(key))
        return original(self, fetches, feed, **options)

    monkeypatch.setattr(tf.Session, 'run', watching)
    train(recipe=Recipe(updates='simultaneous', rate_decay=True), learning_rate=1e-3)
    np.testing.assert_allclose(fed, [1e-3 * (8 - i) / 8 for i in range(8)])


@pytest.mark.parametrize('counts_itself', [False, True])
def test_steps_are_counted_once_and_go_on_counting(train, notebook, monkeypatch, counts_itself):
    """Also where a reader's optimiser is given the global step."""
    original, end_step = notebook.model_opt, Training.end_step
    counted = []

    def counting(d_loss, g_loss, learning_rate, beta1, *, recipe):
        step = tf.train.get_or_create_global_step()
        d_train_opt, g_train_opt = original(d_loss, g_loss, learning_rate, beta1, recipe=recipe)
        with tf.control_dependencies([d_train_opt]):
            return step.assign_add(1).op, g_train_opt

    def note(training, **numbers):
        sess = training.sampler.sess
        counted.append(sess.run(tf.train.get_global_step(sess.graph)))
        end_step(training, **numbers)

    if counts_itself:
        notebook.model_opt = counting
    monkeypatch.setattr(Training, 'end_step', note)
    for max_steps in 4, 8:
        train(recipe=Recipe(dropout=0.5), max_steps=max_steps, resume=True)
    assert counted == [*range(1, 9)]


def test_generate_is_independent_of_count_and_batches(train, monkeypatch):
    run = train(epoch_count=1)
    with monkeypatch.context() as patch, sampling.restored(run) as trained:
        patch.setattr(sampling, 'DRAWN_AT_ONCE', 3)
        z = sampling.latents(1, 7, trained.z_dim)
        many = trained(z)
    assert many.shape == (7, 28, 28, 1)
    assert many.dtype == np.uint8
    np.testing.assert_array_equal(many[:2], sampling.generate(run, 2, seed=1))
    assert (many != sampling.generate(run, 7, seed=2)).any()


def test_show_in_an_open_graph_adds_its_tensor_once(notebook):
    with tf.Graph().as_default() as graph, tf.Session() as sess:
        z = tf.placeholder(tf.float32, [None, 8])
        notebook.generator(z, 1)
        sess.run(tf.global_variables_initializer())
        grids = [notebook.show_generator_output(sess, 4, z, 1, 'L') for _ in range(2)]
        size = len(graph.get_operations())
        shown = []
        notebook.show_generator_output(sess, 9, z, 1, 'L', show=shown.append)
        assert len(graph.get_operations()) == size
    assert np.array_equal(*grids)
    assert grids[0].size == (56, 56)
    assert [image.size for image in shown] == [(252, 252)]


def test_show_in_a_closed_graph_without_samples(notebook):
    with tf.Graph().as_default() as graph, tf.Session() as sess:
        z = tf.placeholder(tf.float32, [None, 8])
        graph.finalize()
        with pytest.raises(RuntimeError, match='the graph is closed'):
            notebook.show_generator_output(sess, 4, z, 1, 'L')


def test_latents():
    few, many = sampling.latents(7, 2, 5), sampling.latents(7, 1000, 5)
    np.testing.assert_array_equal(few, many[:2])
    assert many.dtype == np.float32
    assert -1 <= many.min() < -0.99
    assert 0.99 < many.max() <= 1
    assert (sampling.latents([7, 1], 2, 5) != few).all()


def test_to_uint8():
    images = np.array([-2, -1, 0, 1, 2, 1 / 127.5 - 1])
    np.testing.assert_array_equal(sampling.to_uint8(images), [0, 0, 128, 255, 255, 1])


def test_config_is_plain_json(train):
    assert json.loads((train(epoch_count=1).path / 'config.json').read_text())['run_dir']
