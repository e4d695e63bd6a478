"""The command line, as a process, on a folder of images made for the purpose."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import largest_file
from PIL import Image

from conftest import ROOT
from facegen.cli import main, parser
from facegen.cli.train import default_epochs
from facegen.recipes import Recipe
from facegen.session import tf


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
    """A folder of 40 colour images of different sizes."""
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
        '--updates', 'in-turn', '--set', 'r1_weight=0.25', '--image-size', 32, '--seed', 3, '--run-dir', folder, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f'run folder: {folder}' in done.stdout
    return folder


def test_train_writes_the_run_folder(run):
    from facegen.run import RunFolder

    config = RunFolder(run).config()
    assert config['recipe']['updates'] == 'alternating'  # once called in-turn
    assert config['recipe']['gamma'] == 0.25  # and r1_weight
    assert config['recipe']['random_flip']
    assert config['data_shape'] == [40, 32, 32, 3]
    assert config['seed'] == 3
    assert [line['step'] for line in RunFolder(run).history()] == [*range(1, 8)]


def test_generate(run, tmp_path):
    done = facegen('generate', run, '--count', 10, '--seed', 3, '--out', 'a.npy', cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout == 'a.npy: 10 images, drawn after 7 steps of training\n'
    # TensorFlow 2.18 speaks of its own optimisations when a graph first runs
    errors = [
        line for line in done.stderr.splitlines() if 'absl' not in line and 'MLIR' not in line
    ]
    assert not errors
    images = np.load(tmp_path / 'a.npy', allow_pickle=False)
    assert images.shape == (10, 32, 32, 3)
    assert images.dtype == np.uint8
    done = facegen('generate', run, '--count', 10, '--seed', 3, '--out', 'a.png', cwd=tmp_path)
    assert (
        done.stdout
        == 'a.png: 9 images (1 more do not fill a square), drawn after 7 steps of training\n'
    )
    np.testing.assert_array_equal(Image.open(tmp_path / 'a.png').crop((32, 0, 64, 32)), images[1])
    assert sorted(file.name for file in tmp_path.iterdir()) == ['a.npy', 'a.png']


def read_film(file):
    """Return the frames of a film as arrays, and for how many milliseconds they stay."""
    with Image.open(file) as film:
        assert film.info['loop'] == 0
        frames, durations = [], set()
        for number in range(film.n_frames):
            film.seek(number)
            frames.append(np.asarray(film.convert('RGB')))
            durations.add(film.info['duration'])
    return frames, durations


@pytest.mark.parametrize('name', ['a.gif', 'A.WEBP'])
def test_films(run, tmp_path, capsys, name):
    """A closed way through the images of `--out FILE.npy`, enlarged, and for GIF in few colours."""
    arguments = ['generate', str(run), '--count', '3', '--seed', '3', '--out']
    assert main([*arguments, str(tmp_path / 'a.npy')]) == 0
    images = np.load(tmp_path / 'a.npy', allow_pickle=False)
    capsys.readouterr()
    assert main([*arguments, str(tmp_path / name)]) == 0
    assert 'a film of 24 frames, drawn after 7 steps' in capsys.readouterr().out
    frames, durations = read_film(tmp_path / name)
    assert (len(frames), durations, frames[0].shape) == (24, {80}, (96, 96, 3))
    for frame, image in zip(frames[::8], images, strict=True):
        large = image.repeat(3, 0).repeat(3, 1).astype(int)
        assert np.abs(frame - large).mean() < (0.01 if name == 'A.WEBP' else 6)
    assert {file.name for file in tmp_path.iterdir()} == {'a.npy', name}


def test_single_pictures(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ['generate', str(run), '--count', '3', '--out']
    assert main([*arguments, 'a.npy']) == 0
    images = np.load('a.npy', allow_pickle=False)
    for folder in 'faces', 'v1.0', 'faces_2024.05.01', 'model.v2', 'a.gif/':
        assert main([*arguments, folder]) == 0
        assert f'{folder.strip("/")}: 3 images, drawn' in capsys.readouterr().out
        files = sorted(Path(folder).iterdir())
        assert [file.name for file in files] == ['000000.png', '000001.png', '000002.png']
        for file, image in zip(files, images, strict=True):
            with Image.open(file) as picture:
                np.testing.assert_array_equal(picture, image)
        assert main([*arguments, folder]) == 2
        assert 'is there already; choose a new name' in capsys.readouterr().err


def test_a_file_is_replaced_and_leftovers_of_a_killed_process_too(run, tmp_path):
    out = tmp_path / 'a.npy'
    out.write_text('before')
    (tmp_path / '.a.npy.partial').mkdir()
    (tmp_path / '.a.npy.partial' / 'file').touch()
    assert main(['generate', str(run), '--count', '1', '--out', str(out)]) == 0
    assert np.load(out, allow_pickle=False).shape == (1, 32, 32, 3)
    assert list(tmp_path.iterdir()) == [out]


def test_export(run, tmp_path, capsys):
    for name, files in ('model', {'saved_model.pb', 'variables'}), ('model.onnx', None):
        assert main(['export', str(run), '--out', str(tmp_path / name)]) == 0
        words = 'from latents [n, 100] to uint8 images [n, 32, 32, 3], after 7 steps of training\n'
        assert capsys.readouterr().out.endswith(words)
        if files:
            assert {file.name for file in (tmp_path / name).iterdir()} >= files
    assert main(['export', str(run), '--out', str(tmp_path / 'model')]) == 2
    assert 'is there already' in capsys.readouterr().err
    assert {file.name for file in tmp_path.iterdir()} == {'model', 'model.onnx'}


@pytest.mark.parametrize(
    ('command', 'name', 'text'),
    [
        (['generate', '--count', '50'], 'a.npy', 'a.npy cannot be written ('),
        (['generate'], 'images.png', 'images.png cannot be written ('),
        (['export'], 'model', 'File too large'),
        (['export'], 'page.html', 'File too large'),
    ],
)
def test_a_full_disk(run, tmp_path, capsys, command, name, text):
    verb, *options = command
    with largest_file(20_000):
        assert main([verb, str(run), *options, '--out', str(tmp_path / name)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f'python -m facegen {verb}: ')
    assert text in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    'error',
    [
        MemoryError('Unable to allocate 9 TB'),
        tf.errors.ResourceExhaustedError(None, None, 'Unable to allocate 9 TB\nand so on'),
    ],
)
def test_out_of_memory(run, tmp_path, monkeypatch, capsys, error):
    """Python's, and that of a GPU."""

    def restored(*args):
        raise error

    monkeypatch.setattr('facegen.sampling.restored', restored)
    assert main(['generate', str(run), '--out', str(tmp_path / 'a.npy')]) == 1
    line = 'python -m facegen generate: not enough memory (Unable to allocate 9 TB); ask for less\n'
    assert capsys.readouterr().err == line


def test_train_for_tensorboard(pictures, tmp_path):
    arguments = ['--max-steps', '1', '--batch-size', '8', '--image-size', '8', '--run-dir']
    command = ['train', '--dataset', str(pictures), '--set', 'd_filters=(4,)', *arguments]
    assert main([*command, str(tmp_path / 'a'), '--tensorboard']) == 0
    assert main([*command, str(tmp_path / 'b')]) == 0
    assert [len(list((tmp_path / name).glob('events.*'))) for name in 'ab'] == [1, 0]


def test_minutes_alone_end_the_training(pictures, tmp_path):
    done = facegen(
        'train', '--dataset', pictures, '--batch-size', 8, '--recipe', 'classic',
        '--set', 'd_filters=(8, 4)', '--set', 'precision=float32',
        '--minutes', 0.05, '--run-dir', tmp_path / 'run', cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'run' / 'log.jsonl').read_text()
    recipe = json.loads((tmp_path / 'run' / 'config.json').read_text())['recipe']
    assert (recipe['d_filters'], recipe['precision']) == ([8, 4], 'float32')


def test_resume(pictures, tmp_path, monkeypatch, capsys):
    """The same command goes on, with the run that is named or the newest of these settings."""
    monkeypatch.chdir(tmp_path)
    tiny = ['d_filters=(4,)', 'g_filters=(4,)', 'rate_decay=False', 'kernel_size=3']
    command = ['train', '--dataset', str(pictures), '--image-size', '8', '--recipe', 'classic']
    command += [part for setting in tiny for part in ('--set', setting)]
    name = pictures.name
    for more, folder, text in (
        (['--max-steps', '2'], name, ''),
        (['--max-steps', '3', '--resume'], name, 'continued from step 2'),
        (['--max-steps', '3'], f'{name}-2', ''),
        (['--max-steps', '4', '--resume'], f'{name}-2', 'continued from step 3'),
        (['--max-steps', '4', '--resume', '--run-dir', f'runs/{name}'], name, 'from step 3'),
        (['--max-steps', '1', '--resume', '--run-dir', 'new'], 'new', ''),
    ):
        assert main([*command, '--batch-size', '8', *more]) == 0
        out = capsys.readouterr().out
        assert out.endswith(f'{folder}\n')
        assert text in out
    wrong = ['--max-steps', '4', '--resume', '--batch-size', '8', '--seed', '9']
    assert main([*command, *wrong]) == 2
    assert 'cannot be continued with other settings' in capsys.readouterr().err


@pytest.fixture(scope='module')
def digit_data(tmp_path_factory):
    """A data folder for the sample digits, which need no network."""
    return tmp_path_factory.mktemp('data')


@pytest.fixture(scope='module')
def digit_sample(digit_data):
    import helper

    return helper.Dataset('mnist', data_path=digit_data, data='sample').pixels


def scores_on(stdout):
    """Return the one JSON object that `evaluate` has printed, on one line."""
    (line,) = stdout.splitlines()
    return json.loads(line)


def test_evaluate_a_file(digit_sample, digit_data, tmp_path, capfd):
    file = tmp_path / 'a.npy'
    np.save(file, digit_sample[:200])
    assert main(['evaluate', str(file), '--count', '150', '--data-dir', str(digit_data)]) == 0
    out, err = capfd.readouterr()
    scores = scores_on(out)
    assert (scores['source'], scores['dataset'], scores['n']) == (str(file), 'mnist', 150)
    assert scores['real']['n'] == 150
    assert scores['nearest_ratio'] == 0
    assert 'repeat training images' in scores['warnings'][0]
    assert '5,000 sample digits' in err
    assert file.stat().st_size == 128 + 200 * 784


def test_evaluate_a_run(digit_sample, digit_data, tmp_path, capfd, monkeypatch):
    """Of digits, the channels say which real ones its images are compared with."""
    from facegen import sampling
    from facegen.run import RunFolder

    asked = []

    def generate(run, count, seed, *, weights):
        asked.append((run.path, count, seed, weights))
        return digit_sample[:120]

    monkeypatch.setattr(sampling, 'generate', generate)
    run = RunFolder.create(tmp_path / 'run', {'data_shape': [5000, 28, 28, 1]})
    (run.path / 'checkpoints' / 'step_000042.index').touch()
    arguments = ['evaluate', str(run.path), '--seed', '7', '--data-dir', str(digit_data)]
    assert main(arguments) == 0
    scores = scores_on(capfd.readouterr().out)
    assert asked == [(run.path, 10_000, 7, 'last')]
    assert (scores['step'], scores['seed'], scores['n']) == (42, 7, 120)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (np.zeros([200, 28, 28, 1], np.float32), 'holds float32 [200, 28, 28, 1]; expected uint8'),
        (np.zeros([200, 28, 28], np.uint8), 'holds uint8 [200, 28, 28]; expected uint8'),
        (np.zeros([200, 24, 24, 1], np.uint8), 'knows [28, 28, 1], and larger'),
        (
            np.zeros([19, 28, 28, 1], np.uint8),
            'the number of generated images is 19; expected at least 20',
        ),
        (np.zeros([200, 28, 28, 3], np.uint8), '--dataset is missing'),
        (np.array([{}] * 200), 'cannot be read'),
        (np.zeros([4, 28, 28, 1], np.uint8), '--count is 19, but'),
        (b'no images', 'cannot be read'),
        (b'', 'cannot be read'),
    ],
)
def test_evaluate_refuses_other_files(digit_data, tmp_path, capsys, content, message):
    file = tmp_path / 'a.npy'
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        np.save(file, content, allow_pickle=True)
    assert main(['evaluate', str(file), '--count', '19', '--data-dir', str(digit_data)]) == 2
    out, err = capsys.readouterr()
    assert out == ''
    (error,) = (line for line in err.splitlines() if line.startswith('python -m facegen'))
    assert message in error


def damage_settings(run):
    (run / 'generator.meta').unlink()  # the run itself says how to draw
    (run / 'config.json').write_text('{"recipe": {}}')


def damage_recipe(run):
    (run / 'generator.meta').unlink()
    text = (run / 'config.json').read_text()
    (run / 'config.json').write_text(text.replace('kernel_size', 'size_of_kernel'))


def change_generator(run):
    (run / 'generator.meta').unlink()
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
    assert set(verbs) == {'train', 'generate', 'export', 'evaluate', 'legacy'}
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
        (['draw'], "invalid choice: 'draw'"),
        (['train'], 'required: --dataset'),
        (['train', '--dataset', 'cifar'], 'neither mnist nor celeba nor a folder'),
        (['train', '--dataset', ''], 'neither mnist nor celeba nor a folder'),
        (['train', '--dataset', 'mnist', '--minutes', 'nan'], 'expected more than 0'),
        (['train', '--dataset', 'mnist', '--batch-size', '0'], '0 is too small'),
        (['train', '--dataset', 'mnist', '--batch-size', '1'], '1 is too small'),
        (['train', '--dataset', 'mnist', '--batch-size', 'x'], "invalid whole number value: 'x'"),
        (['train', '--dataset', 'mnist', '--recipe', 'best'], "invalid choice: 'best'"),
        (['train', '--dataset', 'mnist', '--image-size', '30'], 'expected a multiple of 4'),
        (['train', '--dataset', 'mnist', '--set', 'rate=1'], "'rate=1' is not NAME=VALUE with one"),
        (['train', '--dataset', 'mnist', '--set', 'z_dim'], "'z_dim' is not NAME=VALUE with one"),
        (['train', '--dataset', 'mnist', '--set', 'loss=best'], "loss is 'best'; expected one of"),
        (['train', '--dataset', 'mnist', '--set', 'z_dim=0.5'], 'z_dim is 0.5; expected int'),
        (['train', '--dataset', 'mnist', '--minutes', '-1'], 'expected more than 0'),
        (['train', '--dataset', 'mnist', '--data', 'sample', '--batch-size', '6000'], '5000'),
        (['train', '--dataset', 'mnist', '--bogus', '1'], 'unrecognized arguments: --bogus'),
        (['train', '--dataset', 'EMPTY'], 'holds no images'),
        (['generate', 'EMPTY', '--out', 'a.npy'], 'is no run folder'),
        (['generate', 'RUN', '--out', 'a.jpg'], 'ends in .jpg; choose one of FILE.npy (all'),
        (['generate', 'RUN', '--out', '.'], '. is there already'),
        (['generate', 'RUN', '--out', 'EMPTY'], 'is there already'),
        (['generate', 'RUN', '--out', 'a.gif', '--count', '1'], 'a film leads from one latent to'),
        (['export', 'EMPTY', '--out', 'a'], 'is no run folder'),
        (['export', 'RUN', '--out', 'a.npy'], 'choose one of FOLDER (a SavedModel), FILE.onnx ('),
        (['export', 'RUN', '--out', 'missing/a'], 'there is no folder missing'),
        (['export', 'RUN'], 'required: --out'),
        (['generate', 'RUN', '--out', 'missing/a.npy'], 'there is no folder missing'),
        (['generate', 'RUN', '--count', '0', '--out', 'a.npy'], '0 is too small'),
        (['generate', 'RUN'], 'required: --out'),
        (['evaluate'], 'required: RUN|FILE.npy'),
        (['evaluate', 'missing'], 'there is no run folder, no file and no folder missing'),
        (['evaluate', 'EMPTY'], 'is neither the folder of a training run nor holds images'),
        (['evaluate', 'RUN'], '--dataset is missing'),
        (['evaluate', 'RUN', '--dataset', 'cifar'], 'neither mnist nor celeba nor a folder'),
        (['evaluate', 'RUN', '--count', '0'], '0 is too small'),
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


def test_default_epochs_are_the_recipes_or_show_about_as_many_pictures():
    recipe = Recipe(mnist_epochs=5, celeba_epochs=3)
    sets = (
        ('celeba', 999),
        ('mnist', 5000),
        ('mnist', 60_000),
        ('celeba', 202_599),
        ('folder', 50_000),
        ('folder', 127),  # of which an epoch shows 64
    )
    epochs = [default_epochs(name, count, recipe) for name, count in sets]
    assert epochs == [220, 24, 5, 3, 4, 3300]
    assert default_epochs('folder', 202_599, recipe) == 1
