"""The command line, as a process, on a folder of pictures made for the purpose."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from conftest import ROOT
from facegen.__main__ import default_epochs, main, parser


def facegen(*arguments, cwd):
    """Run `python -m facegen` in a process of its own."""
    return subprocess.run(
        [sys.executable, '-m', 'facegen', *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
    """A folder of 40 colour pictures of different sizes."""
    folder = tmp_path_factory.mktemp('pictures')
    rng = np.random.default_rng(0)
    for i in range(40):
        size = rng.integers(30, 60, 2)
        pixels = rng.integers(0, 256, [*size, 3], np.uint8)
        Image.fromarray(pixels).save(folder / f'{i}.png')
    return folder


@pytest.fixture(scope='module')
def run(pictures, tmp_path_factory):
    """The run folder of a short training."""
    folder = tmp_path_factory.mktemp('train') / 'run'
    done = facegen(
        'train', '--dataset', pictures, '--epochs', 2, '--batch-size', 8, '--max-steps', 7,
        '--updates', 'in-turn', '--image-size', 32, '--seed', 3, '--run-dir', folder, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f'run folder: {folder}' in done.stdout
    return folder


def test_train_writes_the_run_folder(run):
    from facegen.run import RunFolder

    config = RunFolder(run).config()
    assert config['recipe']['updates'] == 'in-turn'
    assert config['recipe']['random_flip']
    assert config['data_shape'] == [40, 32, 32, 3]
    assert config['seed'] == 3
    assert [line['step'] for line in RunFolder(run).history()] == [*range(1, 8)]


def test_generate(run, tmp_path):
    done = facegen('generate', run, '--count', 10, '--seed', 3, '--out', 'a.npy', cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        'a.npy: 10 pictures, drawn after 7 steps of training\n',
        '',
    )
    images = np.load(tmp_path / 'a.npy', allow_pickle=False)
    assert images.shape == (10, 32, 32, 3)
    assert images.dtype == np.uint8
    done = facegen('generate', run, '--count', 10, '--seed', 3, '--out', 'a.png', cwd=tmp_path)
    assert (
        done.stdout
        == 'a.png: 9 pictures, drawn after 7 steps of training; 1 more do not fill a square\n'
    )
    np.testing.assert_array_equal(Image.open(tmp_path / 'a.png').crop((32, 0, 64, 32)), images[1])
    assert sorted(file.name for file in tmp_path.iterdir()) == ['a.npy', 'a.png']


def test_minutes_alone_end_the_training(pictures, tmp_path):
    done = facegen(
        'train', '--dataset', pictures, '--batch-size', 8, '--recipe', 'classic',
        '--minutes', 0.05, '--run-dir', tmp_path / 'run', cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'run' / 'log.jsonl').read_text()


def damage_settings(run):
    (run / 'config.json').write_text('{"recipe": {}}')


def damage_recipe(run):
    text = (run / 'config.json').read_text()
    (run / 'config.json').write_text(text.replace('kernel_size', 'size_of_kernel'))


def change_generator(run):
    text = (run / 'config.json').read_text()
    (run / 'config.json').write_text(text.replace('"kernel_size": 4', '"kernel_size": 3'))


def truncate_weights(run):
    for file in (run / 'checkpoints').glob('*.data-*'):
        file.write_bytes(file.read_bytes()[:1000])


def lose_weights(run):
    for file in (run / 'checkpoints').glob('*.data-*'):
        file.unlink()


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (damage_settings, 'damaged config.json'),
        (damage_recipe, 'damaged config.json'),
        (change_generator, 'are damaged, or those of another generator'),
        (truncate_weights, 'are damaged, or those of another generator'),
        (lose_weights, 'are damaged, or those of another generator'),
    ],
)
def test_damaged_runs(run, tmp_path, capsys, damage, message):
    shutil.copytree(run, tmp_path / 'run')
    damage(tmp_path / 'run')
    assert main(['generate', str(tmp_path / 'run'), '--out', str(tmp_path / 'a.npy')]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count('\n') == 1
    assert not (tmp_path / 'a.npy').exists()


def test_help_explains_every_option():
    (verbs,) = (action.choices for action in parser()._actions if action.dest == 'verb')
    assert set(verbs) == {'train', 'generate'}
    for name, verb in verbs.items():
        done = facegen(name, '--help', cwd=ROOT)
        assert done.returncode == 0
        assert 'None' not in done.stdout
        assert 'SUPPRESS' not in done.stdout
        assert all(action.help for action in verb._actions)
    assert 'train' in facegen('--help', cwd=ROOT).stdout


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ([], 'required: VERB'),
        (['evaluate'], "invalid choice: 'evaluate'"),
        (['train'], 'required: --dataset'),
        (['train', '--dataset', 'cifar'], 'neither mnist nor celeba nor a folder'),
        (['train', '--dataset', ''], 'neither mnist nor celeba nor a folder'),
        (['train', '--dataset', 'mnist', '--minutes', 'nan'], 'expected more than 0'),
        (['train', '--dataset', 'mnist', '--batch-size', '0'], '0 is too few'),
        (['train', '--dataset', 'mnist', '--batch-size', 'x'], "invalid whole number value: 'x'"),
        (['train', '--dataset', 'mnist', '--recipe', 'best'], "invalid choice: 'best'"),
        (['train', '--dataset', 'mnist', '--image-size', '30'], 'expected a multiple of 4'),
        (['train', '--dataset', 'mnist', '--minutes', '-1'], 'expected more than 0'),
        (['train', '--dataset', 'mnist', '--data', 'sample', '--batch-size', '6000'], '5000'),
        (['train', '--dataset', 'mnist', '--bogus', '1'], 'unrecognized arguments: --bogus'),
        (['train', '--dataset', 'EMPTY'], 'holds no pictures'),
        (['generate', 'EMPTY', '--out', 'a.npy'], 'is no run folder'),
        (['generate', 'RUN', '--out', 'a.jpg'], 'neither .npy nor .png'),
        (['generate', 'RUN', '--out', 'missing/a.npy'], 'there is no folder missing'),
        (['generate', 'RUN', '--count', '0', '--out', 'a.npy'], '0 is too few'),
        (['generate', 'RUN'], 'required: --out'),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    run, tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    names = {'EMPTY': str(tmp_path), 'RUN': str(run)}
    try:
        status = main([names.get(argument, argument) for argument in arguments])
    except SystemExit as exit:
        status = exit.code
    assert status == 2
    lines = capsys.readouterr().err.splitlines()
    (error,) = (line for line in lines if line and '%|' not in line)  # but for a progress bar
    assert message in error
    assert not [file for file in tmp_path.iterdir() if file.name != 'data']


def test_default_epochs_show_about_as_many_pictures_of_every_set():
    assert [default_epochs(count) for count in (999, 5000, 60_000, 202_599)] == [100, 20, 2, 1]
