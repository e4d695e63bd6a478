"""Start-up, device and configuration; each start in a process of its own."""

import os
import platform
import subprocess
import sys

import pytest

from conftest import ROOT


def run(code, **environment):
    """Run Python code in a new process; return its (stdout, stderr)."""
    done = subprocess.run(
        [sys.executable, '-c', code],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout, done.stderr


def test_start_is_silent_and_layers_work():
    code = (
        'from facegen import session\n'
        'session.use_tf1()\n'
        'session.use_tf1()\n'
        'import tensorflow.compat.v1 as tf\n'
        "x = tf.layers.dense(tf.zeros([2, 3]), 4, name='layer')\n"
        'x = tf.layers.batch_normalization(x, training=True)\n'
        'with tf.Session(config=session.config()) as sess:\n'
        '    sess.run(tf.global_variables_initializer())\n'
        '    print(sess.run(x).shape, type(tf.global_variables()[0]).__name__)\n'
    )
    output, errors = run(code)
    assert output == '(2, 4) ResourceVariable\n'
    # TensorFlow 2.18 speaks of its own optimisations when a graph first runs
    assert not [line for line in errors.splitlines() if 'absl' not in line and '.cc:' not in line]


def test_other_lines_on_stderr_come_through():
    code = (
        'import os, sys\n'
        'from facegen.session import without_start_up_lines\n'
        'try:\n'
        '    with without_start_up_lines():\n'
        "        os.write(2, b'E0000 failed call to cuInit: none\\nE0000 out of memory\\n')\n"
        "        print('and this', file=sys.stderr)\n"
        '        raise KeyError\n'
        'except KeyError:\n'
        "    print('after', file=sys.stderr)\n"
    )
    assert run(code) == ('', 'E0000 out of memory\nand this\nafter\n')


def test_a_crash_while_lines_are_held_back_is_not_silent():
    code = (
        'import os\n'
        'from facegen.session import without_start_up_lines\n'
        'with without_start_up_lines():\n'
        '    os.abort()\n'
    )
    assert 'Fatal Python error: Aborted' in run(code)[1]


@pytest.mark.parametrize(
    'used',
    [
        '',
        'tf.keras.layers.Dense(3)',
        'tf.ones([2]) + 1',
        'getattr(tf.compat.v1.layers, "dense", None)',
    ],
)
def test_tensorflow_imported_before_this_project(used):
    """Even where Keras 3 is what it has found for its layers."""
    quiet = {'TF_USE_LEGACY_KERAS': '0', 'TF_CPP_MIN_LOG_LEVEL': '3'}
    code = (
        f'import tensorflow as tf\n{used}\n'
        'from facegen import session\n'
        'session.use_tf1()\n'
        'tf = session.tf\n'
        'with tf.Graph().as_default(), tf.Session(config=session.config()) as sess:\n'
        '    x = tf.layers.dense(tf.zeros([2, 3]), 4)\n'
        '    x = tf.layers.batch_normalization(x, training=True)\n'
        '    sess.run(tf.global_variables_initializer())\n'
        '    print(sess.run(x).shape)\n'
    )
    output, errors = run(code, **quiet)
    assert output == '(2, 4)\n', errors
    assert 'deprecated' not in errors


@pytest.mark.skipif(
    platform.machine() not in ('x86_64', 'AMD64'), reason='TensorFlow has oneDNN for these CPUs'
)
@pytest.mark.parametrize(
    ('chosen', 'enabled'), [({}, True), ({'TF_ENABLE_ONEDNN_OPTS': '0'}, False)]
)
def test_onednn_is_used_unless_the_user_turned_it_off(chosen, enabled, monkeypatch):
    """By default, TensorFlow leaves it off on CPUs before AVX512-VNNI."""
    monkeypatch.delenv('TF_ENABLE_ONEDNN_OPTS', raising=False)  # of this process
    code = (
        'from facegen import session\n'
        'from tensorflow.python.framework import test_util\n'
        'print(test_util.IsMklEnabled())\n'
    )
    assert run(code, **chosen)[0] == f'{enabled}\n'


def test_bfloat16_only_where_the_cpu_has_it(monkeypatch):
    from facegen import session

    def rewrite(**options):
        rewrites = session.config(**options).graph_options.rewrite_options
        return rewrites.auto_mixed_precision_onednn_bfloat16

    monkeypatch.setattr(session, 'GPUS', [])
    monkeypatch.setattr(session, 'has_bfloat16', lambda: True)
    assert rewrite() == session.RewriterConfig.ON
    assert rewrite(precision='float32') == session.RewriterConfig.DEFAULT
    assert 'bfloat16' in session.device()
    monkeypatch.setattr(session, 'has_bfloat16', lambda: False)
    assert rewrite() == session.RewriterConfig.DEFAULT
    assert 'float32' in session.device()


def test_with_a_gpu_its_memory_grows_and_the_cpu_rewrite_stays_off(monkeypatch):
    from facegen import session

    monkeypatch.setattr(session, 'GPUS', ['a GPU'])
    monkeypatch.setattr(session, 'has_bfloat16', lambda: True)
    assert session.device() == '1 GPU'
    rewrites = session.config().graph_options.rewrite_options
    assert rewrites.auto_mixed_precision_onednn_bfloat16 == session.RewriterConfig.DEFAULT
    assert session.config().gpu_options.allow_growth
