"""Trainings on several devices and in several processes, on loopback."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
import trainer
from helpers import Trainer, contents, free_addresses, logged, wait_for

from conftest import ROOT
from facegen import distribution, sampling, session
from facegen.run import RunFolder

SECONDS = 300  # in which anything here is done, however busy the machine is
SECONDS_TO_END = 30  # for the others, when a process was killed
# All that may depend on which images of a batch are where
EXACT = {
    'dropout': 0.0, 'precision': 'float32', 'gamma': 1.0, 'rate_warmup': 80,
    'augmentations': ['flip', 'colour', 'translation', 'cutout'],
}  # fmt: skip
SGD = {'optimizer': 'sgd', 'recipe': EXACT | {'updates': 'alternating', 'learning_rate': 0.05}}
TWO_CPUS = ['/cpu:0', '/cpu:1']


def assert_close(folder, reference, tolerance=1e-5):
    """Fail unless both runs logged equal numbers and have equal weights, but for rounding."""
    ours, theirs = RunFolder(folder), RunFolder(reference)
    assert len(ours.history()) == len(theirs.history())
    for mine, other in zip(ours.history(), theirs.history(), strict=True):
        assert mine == pytest.approx(other, rel=tolerance, abs=tolerance)
    a, b = (tf.train.load_checkpoint(run.checkpoint()) for run in (ours, theirs))
    assert a.get_variable_to_shape_map() == b.get_variable_to_shape_map()
    for name in a.get_variable_to_shape_map():
        np.testing.assert_allclose(
            a.get_tensor(name), b.get_tensor(name), atol=tolerance, rtol=1e-4
        )


# Several devices of one machine -------------------------------------------------------------------


@pytest.fixture
def two_cpus(monkeypatch):
    """Sessions have two CPU devices."""
    original = session.config

    def config(*args, **options):
        proto = original(*args, **options)
        proto.device_count['CPU'] = 2
        return proto

    monkeypatch.setattr(session, 'config', config)


def train(notebook, pictures, run_dir, devices=(), recipe=EXACT, **options):
    distribution.distribute(notebook, devices=devices)
    return trainer.train(
        notebook, pictures, run_dir=run_dir, recipe=trainer.tiny_recipe(**recipe), **options
    )


@pytest.mark.parametrize('descent', [False, True])
def test_two_devices_follow_one(notebook, tiny_pictures, tmp_path, two_cpus, descent):
    """With all but batch normalisation; also where the length of a gradient counts."""
    trainer.without_batch_norm(notebook)
    recipe = EXACT
    if descent:
        trainer.with_gradient_descent(notebook)
        recipe = SGD['recipe']
    one = train(notebook, tiny_pictures, tmp_path / 'one', recipe=recipe)
    two = train(
        notebook, tiny_pictures, tmp_path / 'two', TWO_CPUS, recipe=recipe, tensorboard=True
    )
    assert_close(two, one)
    ours, theirs = (sampling.generate(RunFolder(run), 25, 0).astype(int) for run in (two, one))
    assert abs(ours - theirs).max() <= 1


def test_scaled_losses_on_two_devices(notebook, tiny_pictures, tmp_path, two_cpus):
    trainer.without_batch_norm(notebook)
    recipe = EXACT | {'precision': 'float16'}  # which a CPU computes in float32
    one = train(notebook, tiny_pictures, tmp_path / 'one', recipe=recipe)
    two = train(notebook, tiny_pictures, tmp_path / 'two', TWO_CPUS, recipe=recipe)
    assert_close(two, one)


def test_one_device_changes_nothing(notebook):
    before = dict(vars(notebook))
    distribution.distribute(notebook)
    distribution.distribute(notebook, devices=['/cpu:0'])
    assert dict(vars(notebook)) == before


def test_batch_norm_is_of_the_part_and_its_averages_of_the_mean():
    """Parts 0, 2 and 10, 14: means 1 and 12, variances 1 and 4."""
    strategy = tf.distribute.MirroredStrategy(TWO_CPUS)
    config = tf.ConfigProto(device_count={'CPU': 2})
    with tf.Graph().as_default(), strategy.scope():
        with tf.variable_creator_scope(distribution.moving_averages_on_write):
            fed = tf.placeholder(tf.float32, [None, 1])

            def build():
                return tf.layers.batch_normalization(
                    distribution.own_part(fed), training=True, epsilon=0.0, momentum=0.9
                )

            normalized = strategy.experimental_local_results(distribution.run(build))
        updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
        with tf.Session(config=config) as sess:
            sess.run(tf.global_variables_initializer())
            parts, _ = sess.run([normalized, updates], {fed: [[0.0], [2.0], [10.0], [14.0]]})
            averages = {v.op.name: v for v in tf.global_variables() if 'moving' in v.op.name}
            averages = {name.split('_')[-1]: sess.run(v) for name, v in averages.items()}
    np.testing.assert_allclose(np.ravel(parts), [-1, 1, -1, 1], rtol=1e-5)
    assert averages['mean'] == pytest.approx(0.1 * (1 + 12) / 2)
    assert averages['variance'] == pytest.approx(0.9 + 0.1 * (1 + 4) / 2)


def test_replicas_drop_other_features_and_go_on_to_the_bit(
    notebook, tiny_pictures, tmp_path, two_cpus, stop_at
):
    recipe = trainer.tiny_recipe(**EXACT | {'dropout': 0.5})
    distribution.distribute(notebook, devices=TWO_CPUS)
    whole = trainer.train(notebook, tiny_pictures, run_dir=tmp_path / 'whole', recipe=recipe)
    stop_at(7)
    for _ in range(2):
        parts = trainer.train(notebook, tiny_pictures, run_dir=tmp_path / 'parts', recipe=recipe)
    assert contents(parts) == contents(whole)


def test_a_batch_without_equal_parts_is_refused(notebook, tiny_pictures, tmp_path):
    with pytest.raises(
        ValueError, match=r'batch_size is 9, of which the 2 devices here .* choose 8 or 10,'
    ):
        train(notebook, tiny_pictures, tmp_path / 'run', TWO_CPUS, recipe={'batch_size': 9})
    assert not (tmp_path / 'run').exists()


# Several processes --------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def processes(tiny_pictures, tmp_path_factory):
    """Three processes that train in children."""
    made = [Trainer(tiny_pictures, tmp_path_factory.mktemp('process')) for _ in range(3)]
    yield made
    for process in made:
        process.close()


@pytest.fixture(autouse=True)
def nothing_left(request):
    """End what a failed test has left."""
    yield
    if 'processes' in request.fixturenames:
        for process in request.getfixturevalue('processes'):
            if process.child:
                os.kill(process.child, signal.SIGKILL)
                process.wait()


def tf_configs(count, *, chief=False):
    """Return the TF_CONFIG of each process of a new cluster, with or without a task of type chief."""
    addresses = free_addresses(count)
    cluster = {'worker': addresses}
    tasks = [{'type': 'worker', 'index': number} for number in range(count)]
    if chief:
        cluster = {'chief': addresses[:1], 'worker': addresses[1:]}
        tasks = [{'type': 'chief', 'index': 0}, *tasks[:-1]]
    return [{'cluster': cluster, 'task': task} for task in tasks]


def start_all(processes, run_dir, configs, **options):
    """Start a training run in a cluster."""
    for process, config in zip(processes, configs, strict=True):
        process.start(run_dir, tf_config=config, **options)


def end_all(processes):
    """Return what each printed, when all have ended well."""
    ends = [process.wait(SECONDS) for process in processes]
    assert [status for status, _ in ends] == [0] * len(ends), ends
    return [printed for _, printed in ends]


def in_cluster(processes, run_dir, *, chief=False, **options):
    """Train in a cluster of these processes; return the run folder."""
    start_all(processes, run_dir, tf_configs(len(processes), chief=chief), **options)
    end_all(processes)
    return run_dir


@pytest.mark.slow
@pytest.mark.parametrize('chief', [False, True])
def test_two_workers_follow_one_for_fifty_steps(processes, tmp_path, chief):
    """R1, averages, augmentation, flips and the schedule included; without batch normalisation."""
    options = SGD if chief else {'recipe': EXACT}
    options = {'batch_norm': False, 'epochs': 10, **options}
    processes[2].start(tmp_path / 'one', **options)
    in_cluster(processes[:2], tmp_path / 'two', chief=chief, **options)
    assert processes[2].wait(SECONDS)[0] == 0
    assert_close(tmp_path / 'two', tmp_path / 'one')
    ours, theirs = RunFolder(tmp_path / 'two'), RunFolder(tmp_path / 'one')
    assert len(ours.history()) == 50
    images = [sampling.generate(run, 25, 0).astype(int) for run in (ours, theirs)]
    assert abs(images[0] - images[1]).max() <= 1


@pytest.fixture(scope='module')
def uninterrupted(processes, tmp_path_factory):
    """A run of two workers, with batch normalisation and dropout, that others have to equal."""
    return in_cluster(processes[:2], tmp_path_factory.mktemp('uninterrupted') / 'run')


def assert_all_end(processes, killed, address):
    """Kill one; fail unless all others end in time, with one message that names it."""
    os.kill(processes[killed].child, signal.SIGKILL)
    killed_at = time.monotonic()
    ends = [process.wait(SECONDS) for process in processes]
    assert time.monotonic() - killed_at < SECONDS_TO_END
    lost = rf'worker {killed} \({address}\) has ended.*--resume'
    for number, (status, printed) in enumerate(ends):
        if number == killed:
            assert status == -signal.SIGKILL
        else:
            assert status == 1, printed
            assert re.search(lost, printed), printed


@pytest.mark.slow
@pytest.mark.parametrize('killed', [0, 1])
def test_a_killed_worker_ends_the_other_and_both_go_on_to_the_bit(
    processes, uninterrupted, tmp_path, killed
):
    """On other ports, since a folder belongs to no cluster."""
    folder, pair, configs = tmp_path / 'run', processes[:2], tf_configs(2)
    start_all(pair, folder, configs)
    wait_for(logged(folder, 9))
    assert_all_end(pair, killed, configs[0]['cluster']['worker'][killed])
    in_cluster(pair, folder)
    assert contents(folder) == contents(uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize('killed', [0, 2])
def test_no_worker_waits_for_one_that_is_gone(processes, tmp_path, killed):
    """With three, not every worker has a connection of TensorFlow's to the one that is killed."""
    folder, configs = tmp_path / 'run', tf_configs(3)
    start_all(
        processes, folder, configs, epochs=10**6, recipe={'batch_size': 6, 'rate_decay': False}
    )
    wait_for(logged(folder, 9))
    assert_all_end(processes, killed, configs[0]['cluster']['worker'][killed])


@pytest.mark.slow
@pytest.mark.parametrize('stopped', [0, 1])
def test_a_signal_to_one_stops_all(processes, tmp_path, stopped):
    folder, pair = tmp_path / 'run', processes[:2]
    start_all(
        pair, folder, tf_configs(2), epochs=10**6, show_every=10**6, recipe={'rate_decay': False}
    )
    wait_for(logged(folder, 5))
    os.kill(pair[stopped].child, signal.SIGTERM)
    printed = end_all(pair)
    run = RunFolder(folder)
    step = run.saved_step()
    assert [line['step'] for line in run.history()] == [*range(1, step + 1)]
    assert [at for at, _ in run.checkpoints()] == [0, step]
    assert all(f'stopped after step {step:,}' in text for text in printed)
    limited = {'epochs': None, 'max_steps': step + 2, 'recipe': {'rate_decay': False}}
    in_cluster(pair, folder, show_every=10**6, **limited)
    assert run.saved_step() == step + 2


@pytest.mark.slow
def test_a_late_worker_is_waited_for(processes, tmp_path):
    chief, worker = processes[:2]
    first, second = tf_configs(2)
    chief.start(tmp_path / 'run', tf_config=first, epochs=1)
    address = first['cluster']['worker'][1]
    wait_for(lambda: f'waiting for worker 1 ({address}), 5 minutes at most' in chief.printed())
    worker.start(tmp_path / 'run', tf_config=second, epochs=1)
    end_all([chief, worker])
    assert RunFolder(tmp_path / 'run').saved_step() == 5


@pytest.mark.slow
def test_the_clock_of_the_chief_ends_all(processes, tmp_path):
    """And its clock lets the learning rate fall, or the processes would have different weights."""
    pair = processes[:2]
    in_cluster(pair, tmp_path / 'run', epochs=None, minutes=0.02, show_every=10**6)
    run = RunFolder(tmp_path / 'run')
    assert run.saved_step() == len(run.history()) > 0
    assert 1.2 <= run.position(run.saved_step()).seconds < SECONDS


@pytest.mark.slow
def test_all_go_back_together_and_give_up_together(processes, tmp_path):
    pair = processes[:2]
    start_all(
        pair, tmp_path / 'run', tf_configs(2), recipe={'learning_rate': 1e30, 'rate_decay': False}
    )
    for status, printed in [process.wait(SECONDS) for process in pair]:
        assert status == 1
        assert printed.count('going back, and on with other random numbers') == 3
        assert 'FloatingPointError' in printed
    assert RunFolder(tmp_path / 'run').saved_step() == 0


@pytest.mark.slow
def test_an_error_of_the_chief_is_told_to_all(processes, tmp_path):
    (tmp_path / 'run').write_text('a file')
    start_all(processes[:2], tmp_path / 'run', tf_configs(2))
    (chief, chief_says), (worker, worker_says) = [p.wait(SECONDS) for p in processes[:2]]
    assert (chief, worker) == (1, 1)
    assert 'NotADirectoryError' in chief_says
    assert 'has ended: ' in worker_says
    assert 'is a file; choose another run folder; to go on' in worker_says


@pytest.mark.slow
def test_a_stray_process_does_not_disturb_a_cluster(processes, uninterrupted, tmp_path):
    """Of another cluster, with the port of this one's chief by mistake."""
    configs = tf_configs(2)
    start_all(processes[:2], tmp_path / 'run', configs)
    wait_for(logged(tmp_path / 'run', 3))
    theirs = configs[0]['cluster']['worker'][0]
    stray = {'worker': [theirs, *free_addresses(1)]}
    task = {'type': 'worker', 'index': 1}
    processes[2].start(
        tmp_path / 'other', tf_config={'cluster': stray, 'task': task}, wait_minutes=0.02
    )
    end_all(processes[:2])
    status, printed = processes[2].wait(SECONDS)
    assert status == 1
    assert f'worker 0 ({theirs}) did not come within 0.02 minutes' in printed
    assert contents(tmp_path / 'run') == contents(uninterrupted)


@pytest.mark.slow
def test_the_commands_of_readme(tmp_path):
    """On other ports, for fewer steps, and behind a proxy that does not answer, as of a company."""
    section = (
        (ROOT / 'README.md').read_text(encoding='utf-8').split('\n## More than one machine\n')[1]
    )
    commands = re.findall(r'```\n(TF_CONFIG=.*)\n```', section.split('\n## ')[0])
    assert len(commands) == 2
    python = tmp_path / '.venv' / 'bin' / 'python'
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (proxy,) = free_addresses(1)
    environment = {
        **os.environ, 'PYTHONPATH': str(ROOT), 'http_proxy': f'http://{proxy}', 'no_proxy': '',
    }  # fmt: skip
    ports = dict(zip(['127.0.0.1:2222', '127.0.0.1:2223'], free_addresses(2), strict=True))
    running = []
    for command in commands:
        for old, new in {**ports, '--max-steps 100': '--max-steps 3'}.items():
            assert old in command
            command = command.replace(old, new)
        running.append(
            subprocess.Popen(
                ['bash', '-c', command], cwd=tmp_path, env=environment, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, start_new_session=True,
            )
        )  # fmt: skip
    try:
        printed = [process.communicate(timeout=SECONDS)[0] for process in running]
    finally:
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert [process.returncode for process in running] == [0, 0], printed
    assert RunFolder(tmp_path / 'runs' / 'two').saved_step() == 3
    assert 'run folder: runs/two' in printed[0]
    assert 'run folder' not in printed[1]
