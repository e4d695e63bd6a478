"""A run draws with the generator that it has trained, whatever became of the notebook."""

import ast
import json
import os
import shutil
import subprocess
import sys

import nbformat
import numpy as np
import pytest
import trainer
from nbclient import NotebookClient

from conftest import ROOT
from facegen import notebook, sampling
from facegen.export import save_model
from facegen.run import GENERATOR, RunFolder
from facegen.session import tf

TRAINED = """
import numpy as np
from facegen.recipes import Recipe
rng = np.random.default_rng(0)
images = rng.integers(0, 256, [16, 8, 8, 1]).astype(np.float32) / 255 - 0.5
def get_batches(batch_size):
    yield images[:8]
    yield images[8:]
def keep(drawn):
    np.save('drawn.npy', drawn)
    return {'frechet_distance': 1.0}
recipe = Recipe(image_size=8, d_filters=(4,), g_filters=(8, 4), precision='float32', ema_half_life=50)
train(1, 8, 5, 1e-2, 0.5, get_batches, images.shape, 'L', recipe=recipe, run_dir='run', seed=3,
      evaluation=keep, show_every=2, show_n_images=4)
"""


def definitions_of(cell):
    """Return the source of a cell's imports and functions only."""
    nodes = ast.parse(cell.source).body
    return '\n\n'.join(
        ast.unparse(node) for node in nodes if isinstance(node, notebook.DEFINITIONS)
    )


def facegen(folder, *arguments):
    """Run the command line of the copy of this project that lies in `folder`."""
    done = subprocess.run(
        [sys.executable, '-m', 'facegen', *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_copy_of_the_notebook_with_another_activation(tmp_path, monkeypatch):
    """Trained in a kernel, it draws its own images when the original is edited, and when it is gone."""
    house = tmp_path / 'house'
    house.mkdir()
    shutil.copytree(ROOT / 'facegen', house / 'facegen')
    for name in 'helper.py', 'problem_unittests.py', 'face_generation.ipynb':
        shutil.copy(ROOT / name, house)
    original = nbformat.read(house / 'face_generation.ipynb', as_version=4)
    sources = [definitions_of(cell) for cell in original.cells if cell.cell_type == 'code']
    text = '\n\n'.join(['from facegen import session; session.use_tf1()', *filter(None, sources)])
    changed = text.replace('return tf.tanh(x)', 'return tf.tanh(tf.sin(3 * x))')
    assert changed != text
    copy = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in (changed, TRAINED)]
    )
    monkeypatch.setenv('PYTHONPATH', str(house))
    NotebookClient(copy, resources={'metadata': {'path': str(house)}}).execute()

    drawn = np.load(house / 'drawn.npy')
    run = RunFolder(house / 'run')
    z = sampling.latents([3, 0, 1], len(drawn), 5)  # those that a training run evaluates
    with sampling.restored(run) as trained:
        np.testing.assert_array_equal(trained(z), drawn)
    expected = sampling.generate(run, 4, 0)
    facegen(house, 'generate', 'run', '--count', 4, '--out', 'one.npy')
    (house / 'face_generation.ipynb').unlink()
    shutil.move(house / 'run', house / 'elsewhere')
    said = facegen(house, 'generate', 'elsewhere', '--count', 4, '--out', 'two.npy')
    assert 'keep' not in said
    for name in 'one.npy', 'two.npy':
        np.testing.assert_array_equal(np.load(house / name), expected)
    facegen(house, 'export', 'elsewhere', '--out', 'model')
    draw = "import sys, numpy, tensorflow as tf; f = tf.saved_model.load('model').signatures['serving_default']; "
    draw += (
        "numpy.save('three.npy', f(latents=tf.constant(numpy.load('z.npy')))['pictures'].numpy())"
    )
    np.save(house / 'z.npy', sampling.latents(0, 4, 5))
    environment = {
        k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'TF_USE_LEGACY_KERAS')
    }
    subprocess.run([sys.executable, '-c', draw], cwd=house, env=environment, check=True)
    np.testing.assert_array_equal(np.load(house / 'three.npy'), expected)


def with_variables(z, out_channel_dim, is_train=True, *, recipe):
    """A generator of `tf.get_variable`, one of them of the old kind, with a norm of its own."""
    with tf.variable_scope('generator', reuse=not is_train):
        weights = tf.get_variable('weights', [z.shape[1], 64 * out_channel_dim])
        gain = tf.get_variable('gain', [], initializer=tf.ones_initializer(), use_resource=False)
        x = z @ weights
        x = gain * x / tf.sqrt(1e-3 + tf.reduce_mean(x**2, axis=1, keepdims=True))
        return tf.tanh(tf.reshape(x, [-1, 8, 8, out_channel_dim]))


def with_other_layers(z, out_channel_dim, is_train=True, *, recipe):
    """A generator with a branch, an upsampling and dropout, in layers of Keras."""
    with tf.variable_scope('generator', reuse=not is_train):
        x = tf.layers.dense(z, 4 * 4 * 6, tf.nn.elu)
        x = tf.layers.dropout(x, 0.3, training=is_train)
        x = tf.reshape(x, [-1, 4, 4, 6])
        x = tf.layers.batch_normalization(x, training=is_train, momentum=0.5)
        x = tf.image.resize_nearest_neighbor(x, [8, 8])
        skip = tf.layers.conv2d(x, out_channel_dim, 1, use_bias=False)
        x = tf.layers.separable_conv2d(x, 5, 3, padding='same', activation=tf.nn.selu)
        x = tf.layers.conv2d(x, out_channel_dim, 3, padding='same')
        return tf.cond(tf.reduce_mean(x) > 1e9, lambda: skip, lambda: tf.tanh(x + skip))


@pytest.mark.parametrize('generator', [with_variables, with_other_layers])
@pytest.mark.parametrize('half_life', [0, 100])
def test_generators_of_another_kind(notebook, tiny_pictures, tmp_path, generator, half_life):
    notebook.generator = generator
    seen = []
    recipe = trainer.tiny_recipe(ema_half_life=half_life, precision='float32', dropout=0.0)
    run = RunFolder(
        trainer.train(
            notebook, tiny_pictures, recipe=recipe, epochs=2, run_dir=tmp_path / 'run',
            evaluation=lambda images: seen.append(images) or {'frechet_distance': 1.0},
        )
    )  # fmt: skip
    z = sampling.latents([3, 0, 1], len(seen[-1]), recipe.z_dim)
    with sampling.restored(run) as trained:
        np.testing.assert_array_equal(trained(z), seen[-1])
    words = save_model(tmp_path / 'model', run)
    assert words == 'a SavedModel, from latents [n, 8] to uint8 images [n, 8, 8, 3]'


def goes_on(functions, pictures, folder, epochs):
    """Train up to a number of epochs, from where the run in a folder is."""
    recipe = trainer.tiny_recipe(rate_decay=False)
    return trainer.train(
        functions, pictures, recipe=recipe, epochs=epochs, run_dir=folder, resume=folder
    )


@pytest.fixture(scope='module')
def run(tiny_pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp('own') / 'run'
    return RunFolder(goes_on(notebook.definitions(), tiny_pictures, folder, epochs=1))


@pytest.fixture
def copy(run, tmp_path):
    return RunFolder(shutil.copytree(run.path, tmp_path / 'copy'))


def test_what_is_stored_is_small_and_names_no_place(run):
    stored = run.generator()
    assert 1000 < len(stored) < 200_000
    for place in str(ROOT), str(run.path), os.path.expanduser('~'), 'facegen':
        assert place.encode() not in stored
    assert not list(run.path.glob('*.partial'))


def test_plain_tensorflow_restores_it(run):
    """As a researcher would who has the folder only."""
    with tf.Graph().as_default(), tf.Session() as sess:
        meta_graph = tf.MetaGraphDef.FromString((run.path / GENERATOR).read_bytes())
        tf.train.import_meta_graph(meta_graph).restore(sess, run.checkpoint())
        signature = meta_graph.signature_def['samples']
        feed = {signature.inputs['latents'].name: sampling.latents(0, 4, 8)}
        images = sess.run(signature.outputs['images'].name, feed)
    np.testing.assert_array_equal(sampling.to_uint8(images), sampling.generate(run, 4, 0))


def test_a_run_without_its_generator_says_so_and_draws_with_the_notebook(copy, capsys):
    expected = sampling.generate(copy, 4, 0)
    assert capsys.readouterr().out == ''
    (copy.path / GENERATOR).unlink()
    np.testing.assert_array_equal(sampling.generate(copy, 4, 0), expected)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1
    assert 'face_generation.ipynb' in said[0]


@pytest.mark.parametrize('damage', [b'', b'no graph', None], ids=['empty', 'other', 'cut'])
def test_a_damaged_generator(copy, damage):
    file = copy.path / GENERATOR
    file.write_bytes(file.read_bytes()[:-300] if damage is None else damage)
    with pytest.raises(ValueError, match=rf'{GENERATOR} is damaged'):
        sampling.generate(copy, 4, 0)


def test_weights_of_another_run(copy, notebook, tiny_pictures, tmp_path):
    other = trainer.train(
        notebook,
        tiny_pictures,
        recipe=trainer.tiny_recipe(z_dim=9),
        epochs=1,
        run_dir=tmp_path / 'b',
    )
    shutil.rmtree(copy.path / 'checkpoints')
    shutil.copytree(other / 'checkpoints', copy.path / 'checkpoints')
    with pytest.raises(ValueError, match='damaged, or those of another generator'):
        sampling.generate(copy, 4, 0)


def test_a_continued_training_keeps_the_generator_that_goes_on(copy, notebook, tiny_pictures, run):
    """Also where the run began before runs kept it."""
    (copy.path / GENERATOR).unlink()
    config = json.loads((copy.path / 'config.json').read_text())
    assert config['epoch_count'] == 1
    goes_on(notebook, tiny_pictures, copy.path, epochs=1)
    assert copy.generator() is None  # nothing was trained
    goes_on(notebook, tiny_pictures, copy.path, epochs=2)
    assert copy.generator() == run.generator()


def test_a_finished_run_that_is_resumed_keeps_its_generator(copy, notebook, tiny_pictures, run):
    """Though that of the notebook has changed, for its weights were trained with the old one."""
    original = notebook.generator
    notebook.generator = lambda *args, **options: -original(*args, **options)
    expected = sampling.generate(run, 4, 0)
    goes_on(notebook, tiny_pictures, copy.path, epochs=1)
    np.testing.assert_array_equal(sampling.generate(copy, 4, 0), expected)
    goes_on(notebook, tiny_pictures, copy.path, epochs=2)
    assert copy.generator() != run.generator()
