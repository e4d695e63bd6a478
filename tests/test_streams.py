"""The command line's output: readers that go away, missing letters, closed descriptors, signals."""

import io
import os
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from conftest import ROOT
from facegen.cli import main
from facegen.cli.streams import Unbreakable
from facegen.run import RunFolder

TINY = [f'--set={name}' for name in (
    'd_filters=(4,8)', 'g_filters=(8,4)', 'g_last_filters=0', 'z_dim=8', 'batch_size=8', 'xla=False',
)]  # fmt: skip
DEADLINE = 120  # seconds for what takes a few


def command(images, run_dir, *options):
    """Return a command line that trains tiny networks, until it is stopped."""
    train = ['train', '--dataset', images, '--image-size', '8', '--run-dir', run_dir, *TINY]
    return [sys.executable, '-m', 'facegen', *map(str, [*train, *options])]


def start(arguments, **options):
    """Start a process in the checkout."""
    return subprocess.Popen(arguments, **{'cwd': ROOT, 'text': True} | options)


def wait_for_steps(run_dir, process):
    """Wait until some steps are logged."""
    log, end = Path(run_dir, 'log.jsonl'), time.monotonic() + DEADLINE
    while not (log.exists() and len(log.read_bytes()) > 500):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)


def assert_all_is_saved(run_dir):
    """Fail unless the weights are those of the last logged step."""
    run = RunFolder(run_dir)
    assert run.saved_step() == len(run.history()) > 0


def test_a_reader_that_goes_away_stops_the_training(tiny_pictures, tmp_path):
    arguments = command(tiny_pictures, tmp_path / 'run', '--max-steps', 10**6)
    with start(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        for _ in range(4):
            assert process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode == 1
    assert 'stopping after this step' in errors
    assert 'Traceback' not in errors
    assert_all_is_saved(tmp_path / 'run')


@pytest.mark.parametrize('name', ['SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGXCPU'])
def test_signals_save_even_where_nobody_reads(tiny_pictures, tmp_path, name):
    arguments = command(tiny_pictures, tmp_path / 'run', '--max-steps', 10**6)
    with start(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_for_steps(tmp_path / 'run', process)
        process.stdout.close()
        process.send_signal(getattr(signal, name))
        errors = process.stderr.read()
    assert process.returncode in (0, 1)
    assert 'Traceback' not in errors
    assert_all_is_saved(tmp_path / 'run')


def test_an_ignored_signal_is_ignored(tiny_pictures, tmp_path):
    """As SIGHUP is by nohup."""
    arguments = command(tiny_pictures, tmp_path / 'run', '--max-steps', 2000)
    ignore = f'import os, signal; signal.signal(1, signal.SIG_IGN); os.execv({sys.executable!r}, {arguments})'
    with start([sys.executable, '-c', ignore], stdout=subprocess.PIPE) as process:
        wait_for_steps(tmp_path / 'run', process)
        process.send_signal(signal.SIGHUP)
        output = process.stdout.read()
    assert process.returncode == 0
    assert 'stopp' not in output
    assert RunFolder(tmp_path / 'run').saved_step() == 2000


@pytest.mark.parametrize('closed', ['2>&-', '1>&-', '<&- >&- 2>&-'])
def test_closed_descriptors(tiny_pictures, tmp_path, closed):
    arguments = command(tiny_pictures, tmp_path / 'run', '--max-steps', 3)
    done = subprocess.run(['sh', '-c', f'"$@" {closed}', 'sh', *arguments], cwd=ROOT, check=False)
    assert done.returncode == 0
    assert_all_is_saved(tmp_path / 'run')
    assert 'TensorFlow' not in (tmp_path / 'run' / 'log.jsonl').read_text()


@pytest.mark.parametrize('encoding', ['ascii', 'cp1251'])
def test_letters_that_the_encoding_lacks(tiny_pictures, tmp_path, encoding):
    environment = {**os.environ, 'PYTHONIOENCODING': encoding}
    folder = tmp_path / 'запуск ☺'
    for arguments in (
        command(tiny_pictures, folder, '--max-steps', 3),
        [sys.executable, '-m', 'facegen', 'generate', folder, '--out', folder / 'grid.png'],
        [sys.executable, '-m', 'facegen', 'generate', '--help'],
    ):
        done = subprocess.run(
            arguments, cwd=ROOT, env=environment, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
        done.stdout.decode(encoding)
    assert (folder / 'grid.png').exists()
    wrong = subprocess.run(
        [sys.executable, '-m', 'facegen', 'generate', tmp_path / 'ещё ☺', '--out', 'a.png'],
        cwd=ROOT, env=environment, capture_output=True, check=False,
    )  # fmt: skip
    assert wrong.returncode == 2
    assert wrong.stderr.count(b'\n') == 1


@pytest.mark.skipif(not Path('/dev/full').exists(), reason='Linux only')
def test_a_full_disk_is_a_failure_that_costs_no_step(tiny_pictures, tmp_path):
    arguments = command(tiny_pictures, tmp_path / 'run', '--max-steps', 20)
    with open('/dev/full', 'w') as full:
        done = subprocess.run(
            arguments, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert 'No space left' in done.stderr
    assert 'Traceback' not in done.stderr
    assert RunFolder(tmp_path / 'run').saved_step() == 20


class BrokenStream(io.StringIO):
    """A reader that has gone away."""

    def write(self, text):
        raise BrokenPipeError(32, 'Broken pipe')


def test_a_stream_is_written_or_lost():
    stream = io.StringIO()
    output = Unbreakable(stream)
    assert output.write('Fréchet') == 7
    assert (stream.getvalue(), output.reason) == ('Fréchet', None)
    lost = Unbreakable(BrokenStream())
    for _ in range(2):
        assert lost.write('text') == 4
        lost.flush()
    assert isinstance(lost.reason, BrokenPipeError)
    closed = io.StringIO()
    closed.close()
    for nowhere in closed, None:
        output = Unbreakable(nowhere)
        assert (output.write('text'), output.reason) == (4, None)
    with pytest.raises(io.UnsupportedOperation):
        Unbreakable(None).fileno()


def test_streams_are_given_back():
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit):
        main(['generate', '--help'])
    assert 'latent' in out.getvalue()
    assert not err.getvalue()
