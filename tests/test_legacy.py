"""Old notebooks: one with every trap of 2017 run as a whole, one that fails, one in a live kernel."""

import ast
import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
import types
from itertools import chain
from pathlib import Path

import nbformat
import numpy as np
import psutil
import pytest
from helpers import some_digits, write_idx
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

import facegen
import helper
from conftest import ROOT
from facegen.cli import main
from facegen.legacy import book, colab, data, run, steps, syntax

MAX_STEPS = 3
# In their order; each is a cell, and each name says what it is about.
TRAPS = {
    'data folder': """
data_dir, DATA_PATH, unrelated = '/input/', '/input/', '/input/'
import helper
helper.download_extract('mnist', data_dir)
helper.download_extract('celeba', data_dir)
""",
    'globs': """
%matplotlib inline
import os
from glob import glob
from matplotlib import pyplot
show_n_images = 25
digits = helper.get_batch(glob(os.path.join(data_dir, 'mnist/*.jpg'))[:show_n_images], 28, 28, 'L')
faces = helper.get_batch(glob('/data/img_align_celeba/*.jpg')[:show_n_images], 28, 28, 'RGB')
pyplot.imshow(helper.images_square_grid(digits, 'L'), cmap='gray')
print(digits.shape, faces.shape, len(os.listdir(data_dir + 'mnist')), os.path.exists('/input'))
""",
    'renamed folders': 'print(data_dir == DATA_PATH, data_dir[-13:], unrelated)',
    'versions': """
from distutils.version import LooseVersion
import warnings
import tensorflow as tf
assert LooseVersion(tf.__version__) >= LooseVersion('1.0'), 'too old'
print(repr(tf.test.gpu_device_name())[:1], tf.__name__)
""",
    'names': """
import collections, time
import numpy as np
print(np.product((2, 3)), np.float(1), collections.Iterable.__name__, time.clock() > 0)
""",
    'python 2': "print 'six is', 2 * 3",
    'imports': """
import tensorflow.contrib.layers
import tensorflow.compat.v1 as other
from tensorflow.contrib.layers import xavier_initializer_conv2d
from tensorflow.python.framework import ops
print(other is tf, tf.contrib.layers is tensorflow.contrib.layers, tensorflow is tf)
""",
    'contrib that is gone': """
try:
    tf.contrib.rnn
except AttributeError as error:
    print(error)
""",
    'patched module': """
from unittest import mock
scope, tf.variable_scope = tf.variable_scope, mock.MagicMock()
with tf.Graph().as_default():
    x = tf.layers.conv2d(tf.zeros([1, 4, 4, 1]), 2, 3)
    x = tf.contrib.layers.fully_connected(tf.contrib.layers.flatten(x), 3)
    tf.contrib.layers.batch_norm(x)
    unseen = tf.variable_scope.called
    with tf.variable_scope('discriminator', reuse=False):
        pass
print(unseen, tf.variable_scope.call_args == mock.call('discriminator', reuse=False))
tf.variable_scope = scope
""",
    'reset inside a graph': """
with tf.Graph().as_default():
    tf.constant(0, name='old')
    tf.reset_default_graph()
    tf.constant(1, name='new')
    with tf.Session() as sess:
        print([operation.name for operation in sess.graph.get_operations()])
""",
    'initializers': """
with tf.Graph().as_default(), tf.Session() as sess:
    layers = tf.contrib.layers
    even = sess.run(layers.xavier_initializer(seed=1)([200, 100]))
    again = sess.run(layers.xavier_initializer(uniform=True, seed=1, dtype=tf.float32)([200, 100]))
    normal = sess.run(layers.xavier_initializer_conv2d(uniform=False, seed=1)([5, 5, 8, 8]))
print(abs(even).max() / (6 / 300) ** 0.5, (even == again).all(), normal.std() / (2 / 400) ** 0.5)
""",
    'layers and summaries': """
with tf.Graph().as_default(), tf.Session() as sess:
    flat = tf.contrib.layers.flatten(tf.ones([2, 3, 4]))
    outputs = tf.contrib.layers.fully_connected(flat, 5, weights_initializer=tf.ones_initializer())
    linear = tf.contrib.layers.fully_connected(-flat, 1, activation_fn=None, scope='last')
    tf.contrib.layers.summarize_tensors(tf.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES))
    tf.contrib.layers.summaries.summarize_variables()
    sess.run(tf.global_variables_initializer())
    print(sess.run(outputs).tolist(), [v.name for v in tf.trainable_variables()])
    print(len(tf.get_collection(tf.GraphKeys.SUMMARIES)), len(sess.run(tf.summary.merge_all())) > 99)
""",
    'fed variable': """
with tf.Graph().as_default(), tf.Session() as sess:
    step = tf.Variable(0)
    rate = tf.train.exponential_decay(1.0, step, 10, 0.5, staircase=True)
    print(sess.run(rate, {step: 25}))
""",
    'model_inputs': """
import problem_unittests as tests
def model_inputs(image_width, image_height, image_channels, z_dim):
    real = tf.placeholder(tf.float32, (None, image_width, image_height, image_channels))
    z = tf.placeholder(tf.float32, (None, z_dim))
    return real, z, tf.placeholder(tf.float32)
tests.test_model_inputs(model_inputs)
""",
    'discriminator': """
def discriminator(images, reuse=False, alpha=0.2):
    with tf.variable_scope('discriminator', reuse=reuse):
        x = tf.layers.conv2d(images, 4, 5, strides=4, padding='same')
        x = tf.layers.max_pooling2d(tf.maximum(alpha * x, x), 2, 2)
        logits = tf.layers.dense(tf.contrib.layers.flatten(x), 1)
        return tf.sigmoid(logits), logits
tests.test_discriminator(discriminator, tf)
""",
    # With dropout also in its previews, which our check calls a mistake and the course did not.
    'generator': """
def generator(z, out_channel_dim, is_train=True):
    with tf.variable_scope('generator', reuse=not is_train):
        x = tf.reshape(tf.layers.dense(z, 7 * 7 * 4), (-1, 7, 7, 4))
        x = tf.nn.dropout(tf.layers.batch_normalization(x, training=is_train), 0.5)
        x = tf.layers.conv2d_transpose(x, 4, 5, strides=2, padding='same')
        return tf.tanh(tf.layers.conv2d_transpose(x, out_channel_dim, 5, 2, padding='same'))
tests.test_generator(generator, tf)
""",
    'model_loss': """
def model_loss(input_real, input_z, out_channel_dim):
    def loss(logits, labels):
        labels = labels(logits)
        return tf.reduce_mean(
            tf.nn.sigmoid_cross_entropy_with_logits(logits=logits, labels=labels))
    fake = discriminator(generator(input_z, out_channel_dim))[1]
    real = discriminator(input_real, reuse=True)[1]
    return loss(real, tf.ones_like) + loss(fake, tf.zeros_like), loss(fake, tf.ones_like)
tests.test_model_loss(model_loss)
""",
    'model_opt': """
def model_opt(d_loss, g_loss, learning_rate, beta1):
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        return tuple(
            tf.train.AdamOptimizer(learning_rate, beta1).minimize(
                loss, var_list=[v for v in tf.trainable_variables() if v.name.startswith(scope)])
            for loss, scope in ((d_loss, 'discriminator'), (g_loss, 'generator')))
tests.test_model_opt(model_opt, tf)
""",
    'criteria of the course': """
from facegen.legacy import checks
right = [model_inputs, discriminator, generator, model_loss, model_opt]
wrong = [
    lambda *sizes: (tf.zeros([28, 28]), tf.zeros([1, 100]), tf.constant(1.0)),
    lambda images, reuse=False: discriminator(images),
    lambda z, channels, is_train=True: generator(z, 3, is_train),
    lambda *inputs: (tf.zeros([1]), tf.zeros([1])),
    lambda *losses: (None, None),
]
for functions in right, wrong:
    for function, name in zip(functions, map('{.__name__}'.format, right)):
        try:
            with tf.Graph().as_default():
                getattr(checks, name)(function, tf)
            print(end='passed ')
        except AssertionError:
            print(end='failed ')
""",
    'train': """
def train(epoch_count, batch_size, z_dim, learning_rate, beta1, get_batches, data_shape, mode):
    tf.reset_default_graph()
    real, z, rate = model_inputs(*data_shape[1:], z_dim)
    d_loss, g_loss = model_loss(real, z, data_shape[3])
    d_train, g_train = model_opt(d_loss, g_loss, rate, beta1)
    saver, losses = tf.train.Saver(), []
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        writer = tf.summary.FileWriter('log', sess.graph)
        for epoch in range(epoch_count):
            for images in get_batches(batch_size):
                images *= 2
                feed = {real: images, z: np.random.uniform(-1, 1, (batch_size, z_dim)),
                        rate: learning_rate}
                sess.run(d_train, feed)
                sess.run(g_train, feed)
                losses.append((d_loss.eval(feed), g_loss.eval(feed)))
                writer.add_summary(tf.Summary(), len(losses))
        pyplot.imshow(helper.images_square_grid(sess.run(generator(z, data_shape[3], False), feed), mode))
        pyplot.show()
        print(saver.save(sess, './generator.ckpt'))
    return losses
""",
    'training on digits': """
dataset = helper.Dataset('mnist', glob(os.path.join(data_dir, 'mnist/*.jpg')))
with tf.Graph().as_default():
    losses = train(2, 16, 10, 0.001, 0.5, dataset.get_batches, dataset.shape, dataset.image_mode)
""",
    'training on faces': """
dataset = helper.Dataset('celeba', glob(os.path.join(data_dir, 'img_align_celeba/*.jpg')))
with tf.Graph().as_default():
    more = train(50, 16, 10, 0.001, 0.5, dataset.get_batches, dataset.shape, dataset.image_mode)
""",
    'what follows a training': """
print(len(losses), len(more), np.isfinite(losses).all(), len(list(dataset.get_batches(16))))
""",
    'a loop of its own': """
with tf.Graph().as_default():
    weight = tf.Variable(1.0)
    d_train = tf.train.GradientDescentOptimizer(0.1).minimize(weight ** 2)
    both, runs = tf.group(d_train), 0
    with tf.Session(config=tf.ConfigProto(allow_soft_placement=True)) as sess:
        sess.run(tf.global_variables_initializer())
        while True:
            sess.run([both, weight])
            runs += 1
print(runs)
""",
    'batches by next': """
taken = 0
with tf.Session() as sess:
    batches = dataset.get_batches(8)
    for i in range(1000):
        next(batches)
        taken += 1
print(taken)
""",
    'a loop without end': """
with tf.Session() as sess:
    for images in dataset.get_batches(8): pass
    while True:
        for images in dataset.get_batches(8): pass
""",
    'without a with block': """
sess = tf.InteractiveSession()
while True:
    for images in dataset.get_batches(8): pass
""",
    'after that': 'print(sorted(os.listdir(".")))',
}  # fmt: skip


def write(path, sources, **metadata):
    """Write a notebook of 2017, whose cells have no ids; code cells, after one of text."""
    cells = [nbformat.v4.new_markdown_cell('# Face Generation')]
    cells += [nbformat.v4.new_code_cell(source.strip('\n')) for source in sources]
    for cell in cells:
        del cell['id']
    book = nbformat.v4.new_notebook(cells=cells, metadata=metadata, nbformat_minor=0)
    path.write_text(nbformat.writes(book, version=nbformat.NO_CONVERT), encoding='utf-8')
    return path


def legacy(*arguments, cwd):
    """Run `python -m facegen legacy` in a process of its own."""
    return subprocess.run(
        [sys.executable, '-m', 'facegen', 'legacy', *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def put_old_copies(folder):
    """Leave in a folder what lies beside a notebook of 2017."""
    for name in ('helper', 'problem_unittests'):
        (folder / f'{name}.py').write_text("raise ImportError('an old copy was imported')\n")


def texts(cell):
    """Return what the outputs of a cell say."""
    return ''.join(o.get('text', '') or '\n'.join(o.get('traceback', ())) for o in cell.outputs)


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
    """A data folder with some pictures where the faces belong; the digits come with the project."""
    folder = tmp_path_factory.mktemp('data')
    (folder / 'img_align_celeba').mkdir()
    rng = np.random.default_rng(0)
    for number in range(64):
        pixels = rng.integers(0, 256, [218, 178, 3], np.uint8)
        Image.fromarray(pixels).save(folder / 'img_align_celeba' / f'{number:06d}.jpg')
    return folder


class Whole:
    """What a run of the notebook with all traps has left."""

    def __init__(self, folder, data_dir):
        self.folder, self.data_dir = folder, data_dir
        (folder / 'old').mkdir()
        put_old_copies(folder / 'old')
        spec = {'name': 'no-such-kernel', 'display_name': 'Python 3', 'language': 'python'}
        self.path = write(folder / 'old' / 'gan.ipynb', TRAPS.values(), kernelspec=spec)
        self.before = self.files()
        self.done = legacy(
            'old/gan.ipynb', '--out', 'out.ipynb', '--data-dir', data_dir,
            '--max-steps', MAX_STEPS, cwd=folder,
        )  # fmt: skip
        self.book = nbformat.read(folder / 'out.ipynb', as_version=4)
        code = [cell for cell in self.book.cells if cell.cell_type == 'code']
        self.cells = dict(zip(TRAPS, code, strict=True))

    def files(self):
        """Return {name: bytes} of the notebook's own folder."""
        return {file.name: file.read_bytes() for file in self.path.parent.iterdir()}

    def says(self, name):
        """Return what the outputs of a cell say."""
        return texts(self.cells[name])


@pytest.fixture(scope='module')
def whole(tmp_path_factory, data_dir):
    return Whole(tmp_path_factory.mktemp('whole'), data_dir)


def test_a_whole_notebook_runs_from_top_to_bottom(whole):
    assert (whole.done.returncode, whole.done.stderr.count('Error')) == (0, 0), whole.done.stderr
    counts = [cell.execution_count for cell in whole.cells.values()]
    assert counts == list(range(1, len(TRAPS) + 1))
    assert [cell.source for cell in whole.cells.values()] == [s.strip('\n') for s in TRAPS.values()]
    assert whole.book.metadata.kernelspec.name == 'no-such-kernel'
    lines = [line for line in whole.done.stdout.splitlines() if line.startswith('cell ')]
    assert len(lines) == len(TRAPS)
    assert lines[0].startswith(f'cell  2 of {len(TRAPS) + 1}  ')
    assert not any('deprecated' in whole.says(name) for name in TRAPS)


def test_the_folder_of_the_notebook_is_not_written_to(whole):
    assert whole.files() == whole.before
    assert {file.name for file in whole.folder.iterdir()} == {'old', 'out.ipynb', 'out_files'}
    assert f'what the notebook has written: {whole.folder / "out_files"}' in whole.done.stdout
    assert whole.says('after that').startswith("['checkpoint', 'generator.ckpt.data-")


@pytest.mark.parametrize(
    ('name', 'text'),
    [
        ('globs', '(25, 28, 28, 1) (25, 28, 28, 3) 5000 False\n'),
        ('renamed folders', 'True classic/auto/ /input/\n'),
        ('versions', "' tensorflow\n"),
        ('names', '6 1.0 Iterable True\n'),
        ('python 2', 'six is 6\n'),
        ('imports', 'True True True\n'),
        ('patched module', 'False True\n'),
        ('reset inside a graph', "['new']\n"),
        ('fed variable', '0.25\n'),
        ('model_inputs', 'Tests Passed\n'),
        ('discriminator', 'Tests Passed\n'),
        ('model_loss', 'Tests Passed\n'),
        ('model_opt', 'Tests Passed\n'),
        ('criteria of the course', 'passed ' * 5 + 'failed ' * 5),
        ('training on digits', 'training ends after 3 steps (max_steps)\n./generator.ckpt\n'),
        ('what follows a training', '3 3 True 4\n'),
        ('a loop of its own', 'training ends after 3 steps (max_steps)\n3\n'),
        ('batches by next', 'training ends after 3 steps (max_steps)\n3\n'),
        ('a loop without end', 'training ends after 3 steps (max_steps)\n'),
    ],
)
def test_trap(whole, name, text):
    assert whole.says(name) == text


def test_contrib_says_what_it_has(whole):
    assert 'tf.contrib.rnn is gone with TensorFlow 1' in whole.says('contrib that is gone')
    ratio, same, normal = whole.says('initializers').split()
    assert 0.99 < float(ratio) <= 1
    assert same == 'True'
    assert 0.97 < float(normal) < 1.03
    outputs, summaries = whole.says('layers and summaries').splitlines()
    names = (
        'fully_connected/weights:0',
        'fully_connected/biases:0',
        'last/weights:0',
        'last/biases:0',
    )
    assert outputs == f'{[[12.0] * 5] * 2} {list(names)}'
    assert summaries == '8 True'


def test_a_check_of_ours_does_not_stop_what_the_course_has_passed(whole):
    said = whole.says('generator')
    assert said.startswith('Tests Passed, those of the course. What they overlook: generator(')


def test_a_loop_outside_a_with_block_ends_its_cell_alone(whole):
    assert 'TrainingEnded' in whole.says('without a with block')


def test_pictures_are_shown(whole):
    for name in 'globs', 'training on digits', 'training on faces':
        assert any('image/png' in o.get('data', {}) for o in whole.cells[name].outputs)


def test_digits_as_jpegs_are_off_by_two_levels_at_most(whole):
    files = [whole.data_dir / 'classic/auto/mnist' / f'image_{number}.jpg' for number in range(500)]
    digits = helper.Dataset('mnist', data_path=whole.data_dir, shuffle=False).pixels[:500]
    seen = np.array([np.asarray(Image.open(file)) for file in files], int)
    assert abs(seen - digits[..., 0]).max() <= 2


UNSOLVED = [
    "print('before')",
    'import tensorflow as tf\nimport problem_unittests as tests',
    'def model_inputs(image_width, image_height, image_channels, z_dim):\n    return None, None, None\n'
    'tests.test_model_inputs(model_inputs)',
    'def train(epochs):\n    pass\ntrain(2)',
]


def test_an_unsolved_notebook_fails_at_its_check(tmp_path, data_dir):
    put_old_copies(tmp_path)
    path = write(tmp_path / 'gan.ipynb', UNSOLVED)
    book = nbformat.read(path, as_version=4)
    book.cells[4].outputs = [nbformat.v4.new_output('stream', text='of 2017')]
    nbformat.write(book, path)
    done = legacy('gan.ipynb', '--out', 'new.ipynb', '--data-dir', data_dir, cwd=tmp_path)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith('python -m facegen')]
    assert 'legacy: cell 4 (In [3]) failed: AssertionError: model_inputs(28, 28, 3, 100)' in line
    assert line.endswith('; new.ipynb has all up to there')
    cells = nbformat.read(tmp_path / 'new.ipynb', as_version=4).cells[1:]
    assert [cell.execution_count for cell in cells] == [1, 2, 3, None]
    assert texts(cells[0]) == 'before\n'
    assert 'AssertionError' in texts(cells[2])
    assert cells[3].outputs == []
    assert not (tmp_path / 'new_files').exists()


LIVE = [
    '%load_ext facegen.legacy',
    "data_dir = './data'\nimport helper\nhelper.download_extract('mnist', data_dir)\nprint(data_dir)",
    'import os\nfrom glob import glob\nimport tensorflow as tf\nimport problem_unittests as tests\n'
    "dataset = helper.Dataset('mnist', glob(os.path.join(data_dir, 'mnist/*.jpg')))\n"
    'with tf.Session() as sess:\n    print(sum(1 for batch in dataset.get_batches(500)))',
    'import facegen.legacy\nfacegen.legacy.enable(max_steps=2)\n'
    'with tf.Session() as sess:\n    print(sum(1 for batch in dataset.get_batches(500)))',
]


def test_a_live_kernel_after_one_line(tmp_path, monkeypatch):
    """In the folder of the notebook, with old copies there, nothing is written."""
    home, folder = tmp_path / 'home', tmp_path / 'old'
    for made in home, folder:
        made.mkdir()
    put_old_copies(folder)
    before = sorted(folder.iterdir())
    monkeypatch.setenv('HOME', str(home))
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    monkeypatch.setenv('PYTHONDONTWRITEBYTECODE', '1')
    cells = [nbformat.v4.new_code_cell(source) for source in LIVE]
    book = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(book, resources={'metadata': {'path': str(folder)}}).execute()
    assert str(home / '.cache' / 'facegen' / 'classic' / 'auto') in texts(cells[1])
    assert texts(cells[2]).endswith('120\n')  # as an epoch of the full set has
    assert texts(cells[3]).endswith('training ends after 2 steps (max_steps)\n2\n')
    assert sorted(folder.iterdir()) == before


TENSORFLOW = 'import tensorflow as tf\n'


@pytest.mark.parametrize(
    ('sources', 'message'),
    [
        (['import torch', 'train(3)'], 'is a PyTorch notebook; expected one of TensorFlow 1'),
        (['x = 1', 'train(3)'], 'does not import tensorflow'),
        ([TENSORFLOW + 'def train():\n    pass', '# train(3)'], 'has no training cell'),
        ([TENSORFLOW + 'tf.train.AdamOptimizer(0.1)'], 'has no training cell'),
    ],
)
def test_notebooks_of_another_kind(tmp_path, capsys, sources, message):
    path = write(tmp_path / 'gan.ipynb', sources)
    assert main(['legacy', str(path), '--out', str(tmp_path / 'out.ipynb')]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count('\n')) == ('', 1)
    assert message in err
    assert [file.name for file in tmp_path.iterdir()] == ['gan.ipynb']


MERGE = """{"cells": [
<<<<<<< HEAD
 {"cell_type": "code"}
=======
 {"cell_type": "markdown"}
>>>>>>> theirs
]}"""


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (b'', 'is not a notebook: it is empty; get it again'),
        (b' \n', 'is not a notebook: it is empty; get it again'),
        (b'{"cells": ', 'is not a notebook: no valid JSON (Expecting value: line 1 column 11'),
        (b'import this', 'is not a notebook: no valid JSON (Expecting value: line 1 column 1'),
        (b'[]', 'is not a notebook: it is JSON without the number of its format'),
        (b'{}', 'is not a notebook: it is JSON without the number of its format'),
        (b'{"nbformat": 4, "cells": 3}', 'is not a notebook: it lacks parts of one'),
        (b'{"nbformat": 4, "cells": [{}]}', 'is not a notebook: it lacks parts of one'),
        (b'{"nbformat": 5, "cells": []}', 'has format 5 of notebooks, of the future; save it in'),
        (b'"\xe9"', 'is not a notebook: its byte 1 is no UTF-8; save it as UTF-8'),
        (
            MERGE.encode(),
            "is not a notebook: line 2 is '<<<<<<< HEAD', which version control leaves",
        ),
    ],
)
def test_no_notebook(tmp_path, content, reason):
    (tmp_path / 'gan.ipynb').write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f'gan.ipynb {reason}')):
        book.read(tmp_path / 'gan.ipynb')
    with pytest.raises(FileNotFoundError, match='there is no notebook'):
        book.read(tmp_path / 'other.ipynb')


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16'])
def test_notebooks_of_any_encoding(tmp_path, encoding):
    path = write(tmp_path / 'gan.ipynb', [TENSORFLOW + "train('é')"])
    path.write_bytes(path.read_text(encoding='utf-8').encode(encoding))
    assert book.read(path).cells[1].source == TENSORFLOW + "train('é')"


def test_what_is_saved_is_valid(tmp_path):
    """By the schema of its format, whatever editors have put into the notebook."""
    path = write(tmp_path / 'gan.ipynb', [TENSORFLOW + 'train()', 'x'])
    old = json.loads(path.read_text())
    old['nbformat_minor'] = 2
    for cell in old['cells']:
        cell['id'] = 'twice'  # which is not allowed before minor version 5, nor twice
        cell['metadata'] = {'collapsed': 'maybe', 'of_an_editor': 1}
        cell['of_another'] = True
    old['metadata'] = {'kernelspec': {'name': 'python2', 'display_name': 'Python 2'}}
    path.write_text(json.dumps(old))
    book.save(book.read(path), tmp_path / 'out.ipynb')
    saved = json.loads((tmp_path / 'out.ipynb').read_text())
    nbformat.validate(saved)
    assert saved['nbformat_minor'] >= 5
    assert [cell['id'] for cell in saved['cells']] == ['cell-1', 'cell-2', 'cell-3']
    assert saved['metadata']['kernelspec']['name'] == 'python2'
    assert saved['cells'][1]['metadata'] == {'of_an_editor': 1}


def test_packages_are_looked_up_before_anything_runs(tmp_path, capsys):
    sources = [
        'import no_such_a, os.path\nfrom no_such_b.part import c\nfrom . import d\nfrom cv9 import x',
        '%matplotlib inline\ntry:\n    import no_such_d\nexcept ImportError:\n    pass\nprint 1',
        'import mine, helper, problem_unittests, cPickle\nfrom google.colab import drive',
        'def f():\n    import no_such_e\n',
        '%%bash\nimport no_such_f',
        TENSORFLOW + 'train(1)',
    ]
    path = write(tmp_path / 'gan.ipynb', sources)
    (tmp_path / 'mine.py').write_text('')
    assert main(['legacy', str(path), '--out', str(tmp_path / 'out.ipynb')]) == 2
    names = 'cv9, no_such_a, no_such_b, no_such_e'
    assert f'the notebook imports {names}, which is not installed: run ' in (
        error := capsys.readouterr().err
    )
    assert error.endswith('-m pip install cv9 no_such_a no_such_b no_such_e\n')
    assert not (tmp_path / 'out.ipynb').exists()


def test_packages_by_the_names_that_pip_knows():
    assert book.imports_of('import cv2, sklearn.cluster as c\nfrom skimage import io') == {
        'cv2', 'sklearn', 'skimage',
    }  # fmt: skip
    assert [book.PACKAGES[name] for name in ('cv2', 'sklearn')] == [
        'opencv-python-headless', 'scikit-learn',
    ]  # fmt: skip


PLACES = [
    'import tensorflow as tf\nlayer = tf.keras.layers.Dense(2)',
    '%load_ext facegen.legacy',
    '%tensorflow_version 1.x\n%load_ext no_such_extension\n%no_such_magic -a\n'
    'from google.colab import drive, files, userdata\n'
    "drive.mount('/content/drive')\nprint(tf.placeholder(tf.float32, [2]).shape)",
    "%%no_such_magic\nprint('its cell runs')",
    "flags = tf.app.flags\nflags.DEFINE_integer('epochs', 3, 'how long')\nprint(flags.FLAGS.epochs)",
    "flags.DEFINE_integer('epochs', 4, 'how long')\ntf.flags.DEFINE_string('name', 'x', '')\n"
    'def main(arguments):\n    print(flags.FLAGS.epochs, flags.FLAGS.name, len(arguments))\n'
    'tf.app.run()',
    'from tensorflow.examples.tutorials.mnist import input_data\n'
    "mnist = input_data.read_data_sets('MNIST_data', one_hot=True, validation_size=100, seed=0)\n"
    'images, labels = mnist.train.next_batch(128)\n'
    'print(images.shape, images.min(), images.max(), labels.sum(1).tolist() == [1] * 128)\n'
    'print(mnist.train.num_examples, mnist.validation.images.shape, len(mnist.test.labels))',
    'import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()',
    '%matplotlib notebook\nplt.plot([1, 2])\nplt.show()',
    'files.upload()',
]


def test_what_notebooks_of_other_places_need(tmp_path, monkeypatch):
    """Of Colab, of scripts, of TensorFlow's tutorials; in a container, where figures go nowhere."""
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    monkeypatch.setenv('MPLBACKEND', 'Agg')
    cells = [nbformat.v4.new_code_cell(source) for source in PLACES]
    with pytest.raises(CellExecutionError, match=r"google\.colab\.files\.upload is Colab's own"):
        NotebookClient(
            nbformat.v4.new_notebook(cells=cells), resources={'metadata': {'path': str(tmp_path)}}
        ).execute()
    colabs, magic, first, second, digits, figure, other_figure = cells[2:9]
    lines = texts(colabs).splitlines()
    assert lines[0] == '%load_ext no_such_extension is left out: there is no such extension here'
    assert lines[1] == '%no_such_magic is left out: there is no such magic here'
    assert lines[2].startswith("google.colab.drive.mount is Colab's own; nothing is mounted: what")
    assert lines[3] == '(2,)'
    assert texts(magic).endswith('is left out: there is no such magic here\nits cell runs\n')
    assert (texts(first), texts(second)) == ('3\n', '4 x 1\n')
    assert '(128, 784) 0.0 1.0 True\n4400 (100, 784) 500\n' in texts(digits)
    for cell in figure, other_figure:
        assert any('image/png' in output.get('data', {}) for output in cell.outputs)


def test_colab_itself_is_left_alone(monkeypatch):
    real = types.ModuleType('google.colab')
    monkeypatch.setitem(sys.modules, 'google.colab', real)
    colab.install()
    assert sys.modules['google.colab'] is real


def test_full_digits_with_labels(tmp_path):
    """Of all four files; where one is missing, those of the sample, whose labels are known."""
    from facegen.legacy.tutorials import labelled, reader

    classic = data.ClassicData()
    classic.use(tmp_path, 'auto')
    classic.source = lambda name: tmp_path / 'mnist' / 'train-images-idx3-ubyte'
    (tmp_path / 'mnist').mkdir()
    numbers = np.arange(20, dtype=np.uint8) % 10
    for part, count in (('train', 20), ('t10k', 5)):
        write_idx(tmp_path / 'mnist' / f'{part}-images-idx3-ubyte', some_digits(count))
        labels = struct.pack('>2I', 0x801, count) + numbers[:count].tobytes()
        (tmp_path / 'mnist' / f'{part}-labels-idx1-ubyte').write_bytes(labels)
    images, labels, test_images, test_labels = labelled(classic)
    assert (len(images), len(test_images), len(test_labels)) == (20, 5, 5)
    assert labels.tolist() == numbers.tolist()
    digits = reader(classic)(reshape=False, validation_size=4, dtype=np.uint8)
    assert digits.train.images.shape == (16, 28, 28, 1)
    assert digits.train.images.dtype == np.uint8
    seen = [digits.train.next_batch(6)[1].tolist() for _ in range(8)]
    assert sorted(chain(*seen)) == sorted(3 * labels[4:].tolist())
    assert digits.train.epochs_completed == 2
    (tmp_path / 'mnist' / 't10k-labels-idx1-ubyte').unlink()
    images, labels, test_images, _ = labelled(classic)
    assert (len(images), test_images, labels[:12].tolist()) == (5000, None, [*range(10), 0, 1])


@pytest.mark.parametrize('max_steps', [None, 9, 30])
def test_an_epoch_of_a_sample_lasts_as_long_as_it_would(tmp_path, monkeypatch, max_steps):
    """By going round: as the full set's, or as many steps as are allowed."""
    classic, limit = data.ClassicData(), steps.StepLimit()
    classic.use(tmp_path, 'sample')
    limit.bound(max_steps)
    monkeypatch.setitem(data.DATASETS, 'mnist', data.DATASETS['mnist']._replace(num_images=12_000))
    files = [str(file) for file in classic.folder('mnist').glob('*.jpg')]
    dataset = data.dataset_class(classic, limit)('mnist', files)
    batches = [batch[:, 14, 14, 0] for batch in dataset.get_batches(500)]
    assert len(batches) == {None: 30, 9: 10, 30: 30}[max_steps]
    first = np.sort(np.concatenate(batches[:10]))
    for start in range(10, len(batches), 10):
        np.testing.assert_array_equal(np.sort(np.concatenate(batches[start : start + 10])), first)


def test_a_list_of_the_notebooks_own_lasts_as_it_says(tmp_path):
    classic = data.ClassicData()
    classic.use(tmp_path, 'sample')
    files = [str(file) for file in classic.folder('mnist').glob('*.jpg')]
    dataset = data.dataset_class(classic, steps.StepLimit())('mnist', files[:1000])
    assert len(list(dataset.get_batches(500))) == 2


SLEEPS = [
    "print('has run')",
    TENSORFLOW + "print('begun', flush=True)\ntrain = sum\ntrain([0])",
    None,
]
SLEEPS[2] = "import time\nprint('sleeping', flush=True)\ntime.sleep(600)"


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_saves_what_has_run_and_leaves_no_kernel(tmp_path, data_dir, number):
    path = write(tmp_path / 'gan.ipynb', SLEEPS)
    command = [sys.executable, '-u', '-m', 'facegen', 'legacy', str(path), '--out', 'out.ipynb']
    process = subprocess.Popen(
        [*command, '--data-dir', str(data_dir)],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        for line in process.stdout:
            if 'train([0])' in line:
                break
        time.sleep(1)  # the next cell has begun to sleep
        kernels = psutil.Process(process.pid).children(recursive=True)
        assert kernels
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert 'stopped; out.ipynb has all that has run' in output
    assert 'Traceback' not in errors
    assert psutil.wait_procs(kernels, timeout=20)[1] == []
    cells = nbformat.read(tmp_path / 'out.ipynb', as_version=4).cells[1:]
    assert [texts(cell) for cell in cells] == ['has run\n', 'begun\n', 'sleeping\n']


SIGNAL_AMID_A_TASK = """
import asyncio, gc, os, pathlib, signal, sys
from jupyter_core.utils import ensure_event_loop
from facegen.cli import main

async def send_when_the_second_cell_has_run():
    out = pathlib.Path('out.ipynb')
    while not (out.exists() and '"execution_count": 2' in out.read_text()):
        await asyncio.sleep(0.1)
    os.kill(os.getpid(), signal.SIGTERM)

async def fails():
    raise ValueError('not asked for')

tasks = [ensure_event_loop().create_task(task()) for task in (send_when_the_second_cell_has_run, fails)]
del tasks
status = main(sys.argv[1:])
gc.collect()
sys.exit(status)
"""


def test_a_signal_amid_a_task_of_nbclient_is_no_traceback_but_other_failures_are(
    tmp_path, data_dir
):
    path = write(tmp_path / 'gan.ipynb', SLEEPS)
    options = ['legacy', str(path), '--out', 'out.ipynb', '--data-dir', str(data_dir)]
    done = subprocess.run(
        [sys.executable, '-c', SIGNAL_AMID_A_TASK, *options],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 130
    assert 'stopped; out.ipynb has all that has run' in done.stdout
    assert 'KeyboardInterrupt' not in done.stderr
    assert 'ValueError: not asked for' in done.stderr


def test_bad_targets_and_missing_data_are_told_before_anything_runs(tmp_path):
    sources = ["helper.download_extract('mnist', '/input')", TENSORFLOW + 'train(1)']
    path = write(tmp_path / 'gan.ipynb', sources)
    with pytest.raises(ValueError, match='is the notebook itself'):
        run.execute(path, path, data_dir=tmp_path)
    with pytest.raises(ValueError, match='there is no folder'):
        run.execute(path, tmp_path / 'no' / 'out.ipynb', data_dir=tmp_path)
    (tmp_path / 'train-images-idx3-ubyte').write_text('torn')
    with pytest.raises(ValueError, match='train-images-idx3-ubyte is another file'):
        run.execute(path, tmp_path / 'out.ipynb', data_dir=tmp_path)
    assert not (tmp_path / 'out.ipynb').exists()


def test_what_a_notebook_has_written_is_kept(tmp_path):
    out = tmp_path / 'a.b.ipynb'
    folders = [run.new_folder(out) for _ in range(3)]
    assert [folder.name for folder in folders] == ['a.b_files', 'a.b_files-2', 'a.b_files-3']


def test_titles_say_what_a_cell_does():
    assert run.title('"""\nbanner\n"""\nx = 1\ndef f(a):\n    pass') == 'def f(a):'
    assert run.title('# only\n# comments') == '# only'
    assert run.title('%matplotlib inline\nimport os') == 'import os'


@pytest.mark.parametrize(
    ('old', 'new'),
    [
        ('print x', 'print(x)'),
        ('    print "a", x,', '    print("a", x, end=" ")'),
        ('if a: print a', 'if a: print(a)'),
        ('print', 'print()'),
        ('print >>f, x', 'print(x, file=f)'),
        ('except ValueError, e:', 'except ValueError as e:'),
        ('raise ValueError, "no"', 'raise ValueError("no")'),
        ('a <> b', 'a != b'),
        ('os.chmod(p, 0755)', 'os.chmod(p, 0o755)'),
        ('f(async=True)', 'f(async_=True)'),
        ('x = 10.05 + 100', 'x = 10.05 + 100'),
    ],
)
def test_lines_of_python_2(old, new):
    every = syntax.PYTHON_2 + syntax.PYTHON_2_ANYWHERE
    assert syntax.translate_line(old + '\n', every) == new + '\n'


def test_cells_that_parse_or_cannot_be_saved_stay_as_they_are():
    for lines in (['print = 3\n', 'a = "print x"'], ['print x\n', 'def (']):
        assert syntax.translate(lines) == lines
    assert syntax.translate(['print 1\n', 'x = "a"\n']) == ['print(1)\n', 'x = "a"\n']
    assert syntax.translate(['print "2017-01-05 <>"']) == ['print("2017-01-05 <>")']
    assert syntax.translate(['if 1 <> 01: pass']) == ['if 1 != 0o1: pass']


def test_loose_versions():
    assert syntax.LooseVersion('2.21.0') >= syntax.LooseVersion('1.0')
    assert syntax.LooseVersion('1.10') > '1.9'
    assert syntax.LooseVersion('1.0') == '1.0' != syntax.LooseVersion('1.0.1')
    assert str(syntax.LooseVersion('1.2-rc1')) == '1.2-rc1'


def test_names_that_exist_are_left_alone(monkeypatch):
    module = type(sys)('module')
    module.here = 1
    syntax.add_missing(module, {'here': 2, 'gone': 3})
    assert (module.here, module.gone) == (1, 3)


def test_steps_are_counted_in_sessions_and_per_data_set():
    limit = steps.StepLimit()
    limit.bound(2)
    assert list(limit.batches('digits', range(5))) == [0, 1, 2, 3, 4]  # outside a session
    limit.begin()
    assert list(limit.batches('digits', range(1))) == [0]
    assert list(limit.batches('digits', range(5))) == [0]
    assert list(limit.batches('digits', range(5))) == []
    assert list(limit.batches('faces', range(5))) == [0, 1]
    limit.begin()
    assert list(limit.batches('digits', range(5))) == [0, 1]
    assert limit.contains(StopIteration)
    assert not limit.contains(ValueError)
    limit.end()
    assert not limit.contains(StopIteration)
    unlimited = steps.StepLimit()
    unlimited.begin()
    unlimited.optimize(['d'] * 100)
    assert list(unlimited.batches('digits', range(5))) == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match='max_steps is 0'):
        limit.bound(0)


def test_a_link_follows_its_data(tmp_path):
    for name in 'a', 'b':
        (tmp_path / name).mkdir()
        data.link(tmp_path / 'deep' / 'link', tmp_path / name)
        assert (tmp_path / 'deep' / 'link').samefile(tmp_path / name)
    assert [path.name for path in (tmp_path / 'deep').iterdir()] == ['link']


def test_digits_of_2017_are_used_where_they_lie(tmp_path, capsys):
    (tmp_path / 'mnist').mkdir()
    Image.fromarray(np.zeros([28, 28], np.uint8)).save(tmp_path / 'mnist' / 'image_0.jpg')
    classic = data.ClassicData()
    classic.use(tmp_path, 'auto')
    assert [file.name for file in classic.folder('mnist').iterdir()] == ['image_0.jpg']
    assert f'mnist: the digits in {tmp_path / "mnist"}' in capsys.readouterr().out
    classic.use(tmp_path, 'sample')
    assert sum(1 for _ in classic.folder('mnist').iterdir()) == 5000


def test_a_part_of_the_files_is_decoded_from_them(tmp_path):
    classic = data.ClassicData()
    classic.use(tmp_path, 'sample')
    files = [str(file) for file in classic.folder('mnist').glob('*.jpg')]
    assert classic.decoded('mnist', files) == classic.sources['mnist']
    assert classic.decoded('mnist', files[1:]) == files[1:]
    assert classic.decoded('mnist', str(tmp_path)) == str(tmp_path)


def run_installed(folder, *arguments):
    """Run Python in `folder`/work with the package that is installed in `folder`/site."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder / 'work',
        env={**os.environ, 'PYTHONPATH': str(folder / 'site')},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_installed_package_works_in_any_folder(tmp_path):
    """`pip install .` ships all that the notebook, the samples and old notebooks need."""
    command = [sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps', '--target']
    subprocess.run([*command, tmp_path / 'site', ROOT], check=True, capture_output=True)
    (tmp_path / 'work').mkdir()
    put_old_copies(tmp_path / 'work')
    script = (
        'from facegen import digits, legacy, notebook\n'
        'from facegen.data.dataset import Dataset\n'
        "print(len(Dataset('mnist', data_path='data', data='sample').pixels))\n"
        'print(digits.WEIGHTS.exists(), digits.TEST_STATISTICS.exists())\n'
        'print(len(notebook.code_cells(notebook.NOTEBOOK)) > 9, legacy.ROOT)\n'
        "legacy.original('problem_unittests')"
    )
    done = run_installed(tmp_path, '-c', script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1:] == ['5000', 'True True', f'True {tmp_path / "site"}']
    modules = {path.name for path in (tmp_path / 'site').iterdir() if path.suffix != '.dist-info'}
    assert modules == {'facegen', 'bin'}
    command = tmp_path / 'site' / 'bin' / 'facegen'
    assert (
        run_installed(tmp_path, command, '--version').stdout == f'facegen {facegen.__version__}\n'
    )
    usage = run_installed(tmp_path, command, 'draw').stderr
    assert usage.startswith("facegen: argument VERB: invalid choice: 'draw'")
    train = ['train', '--dataset', 'mnist', '--data', 'sample', '--max-steps', '1']
    done = run_installed(tmp_path, '-m', 'facegen', *train)
    assert done.returncode == 0, done.stderr


def test_the_package_asks_for_what_the_project_is_tested_with():
    from packaging.requirements import Requirement

    text = Path(ROOT, 'pyproject.toml').read_text(encoding='utf-8')
    dependencies = ast.literal_eval(re.search(r'\ndependencies = (\[.*?\n\])', text, re.DOTALL)[1])
    notebook = ast.literal_eval(re.search(r'\nnotebook = (.*)', text)[1])
    asked = {r.name: r.specifier for r in map(Requirement, [*dependencies, *notebook])}
    lines = Path(ROOT, 'requirements.txt').read_text(encoding='utf-8').splitlines()
    pinned = [Requirement(line) for line in lines if line and not line.startswith('#')]
    assert {requirement.name for requirement in pinned} == set(asked)
    for requirement in pinned:
        (pin,) = requirement.specifier
        assert asked[requirement.name].contains(pin.version), requirement
