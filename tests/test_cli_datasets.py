"""What the command line makes of images of one's own: their folder, their number, their options."""

import json
import os
import shutil

import numpy as np
import pytest
from helpers import some_digits, write_idx
from PIL import Image

import helper
from facegen.cli import main, train
from facegen.recipes import Recipe
from facegen.run import RunFolder

SMALL = ['--image-size', '8', '--recipe', 'classic', '--max-steps', '1']


def write_images(folder, count, size=8, mode='RGB'):
    """Write images of random pixels; return their folder."""
    folder.mkdir(parents=True)
    for number in range(count):
        shape = [size, size, 3] if mode == 'RGB' else [size, size]
        pixels = np.random.default_rng(number).integers(0, 256, shape, np.uint8)
        Image.fromarray(pixels).save(folder / f'{number}.png')
    return folder


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_fewer_images_than_a_batch(workplace, capsys):
    """The default is lowered, and said; what is asked for is not."""
    write_images(workplace / 'mine', 3)
    assert main(['train', '--dataset', 'mine', *SMALL]) == 0
    output = capsys.readouterr().out
    assert '--batch-size is 3 instead of 64, since there are no more images' in output
    assert RunFolder(workplace / 'runs' / 'mine').config()['recipe']['batch_size'] == 3
    for given in (['--batch-size', '64'], ['--set', 'batch_size=64']):
        assert main(['train', '--dataset', 'mine', *SMALL, *given]) == 2
        error = capsys.readouterr().err
        assert 'batch_size is 64, but there are 3 images; choose --batch-size 3 or less' in error


def test_one_image_is_no_data_set(workplace, capsys):
    write_images(workplace / 'mine', 1)
    assert main(['train', '--dataset', 'mine', *SMALL]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.endswith(
        '--dataset holds 1 image that can be used; a training run needs 2 or more'
    )
    assert not (workplace / 'runs').exists()


def test_batches_that_fit_stay():
    recipe = Recipe(batch_size=64)
    assert train.fitting(recipe, 64, is_given=False) is recipe
    assert train.fitting(recipe, 65, is_given=True) is recipe


def test_working_folder_as_data_set(workplace, monkeypatch, capsys):
    """Neither the run nor the cache lies among the images."""
    monkeypatch.chdir(write_images(workplace / 'project' / 'mine', 2))
    assert main(['train', '--dataset', '.', *SMALL]) == 0
    output = capsys.readouterr().out
    assert 'the run is kept outside the folder of images; --run-dir names another place' in output
    run_dir = os.path.join('..', 'runs', 'mine')
    assert f'run folder: {run_dir}' in output
    assert sorted(os.listdir()) == ['0.png', '1.png']
    assert sorted(os.listdir('..')) == ['mine', 'mine.cache', 'runs']
    assert main(['train', '--dataset', '.', *SMALL, '--max-steps', '2', '--resume']) == 0
    assert os.listdir('../runs') == ['mine']


def test_run_among_the_images_is_not_trained_on(workplace, capsys):
    write_images(workplace / 'mine', 2)
    for _ in range(2):
        command = ['train', '--dataset', 'mine', *SMALL, '--run-dir', os.path.join('mine', 'run')]
        assert main(command) == 0
        assert '2 images; training' in capsys.readouterr().out


@pytest.mark.parametrize('name', ['mnist', 'celeba'])
def test_folder_named_like_a_published_set(workplace, capsys, monkeypatch, name):
    write_images(workplace / name, 2)
    asked = []

    def fetched(*arguments, **options):
        asked.append(arguments[0])
        return workplace / name

    monkeypatch.setattr('facegen.data.dataset.download_extract', fetched)
    assert main(['train', '--dataset', f'./{name}', *SMALL]) == 0
    assert 'is the published one' not in capsys.readouterr().out
    assert not asked
    assert main(['train', '--dataset', name, *SMALL]) == 0
    line = f'--dataset {name} is the published one; --dataset ./{name} is yours\n'
    assert capsys.readouterr().out.startswith(line)
    assert asked == [name]


def test_another_idx_file(workplace, capsys):
    """Such as Fashion-MNIST's."""
    write_idx(workplace / 'clothes-idx3-ubyte', some_digits(count=9, size=8))
    assert main(['train', '--dataset', 'clothes-idx3-ubyte', *SMALL]) == 0
    assert '9 images; training' in capsys.readouterr().out
    config = RunFolder(workplace / 'runs' / 'clothes-idx3-ubyte').config()
    assert config['data_shape'] == [9, 8, 8, 1]

    (workplace / 'other').write_bytes(b'another file of several bytes')
    assert main(['train', '--dataset', 'other', *SMALL]) == 2
    assert '--dataset other is a file, but no IDX file of images (' in capsys.readouterr().err


def test_images_of_another_idx_file_are_no_digits(workplace, sample_digits, capsys):
    """A classifier of digits would say of clothes which digit they are."""
    names = 'clothes-idx3-ubyte', 'digits-idx3-ubyte'
    for name, digits in zip(names, (sample_digits[:60, ::-1], sample_digits), strict=True):
        write_idx(workplace / name, digits[..., 0])
    images = str(workplace / 'images.npy')
    np.save(images, sample_digits[:60, ::-1])
    clothes, digits = [], []
    for name, scores in zip(names, (clothes, digits), strict=True):
        assert main(['evaluate', images, '--dataset', name]) == 0
        scores.append(json.loads(capsys.readouterr().out))
    assert (clothes[0]['dataset'], digits[0]['dataset']) == ('idx', 'mnist')
    assert 'class_histogram' not in clothes[0]
    assert len(digits[0]['class_histogram']) == 10
    assert clothes[0]['frechet_distance'] < 1e-6 < digits[0]['frechet_distance']


def test_options_of_reading_reach_the_data_set(workplace, capsys):
    (workplace / 'mine').mkdir()
    Image.new('RGBA', (8, 8)).save(workplace / 'mine' / '1.png')
    Image.fromarray(np.full([8, 8], 4000, np.uint16)).save(workplace / 'mine' / '2.png')
    assert main(['train', '--dataset', 'mine', *SMALL]) == 0
    output = capsys.readouterr().out
    assert '1 of the images are transparent in part, on white (background)' in output
    assert 'if 4,095 is white, say so by white_level' in output
    options = ['--background', '#ff0000', '--white-level', '4095', '--decode-anew']
    assert main(['train', '--dataset', 'mine', *SMALL, *options]) == 0
    output = capsys.readouterr().out
    assert 'on #ff0000 (background)' in output
    assert 'white_level' not in output
    for option in (['--background', 'whitish'], ['--white-level', '0']):
        assert main(['train', '--dataset', 'mine', *SMALL, *option]) == 2
        assert option[1] in capsys.readouterr().err


@pytest.fixture
def published_faces(workplace, faces, monkeypatch):
    """A folder of 20 images, as if they were the faces that are published."""
    monkeypatch.setattr('facegen.data.dataset.download_extract', lambda *_, **options: faces)
    return faces


def test_resume_with_a_crop(workplace, published_faces, capsys):
    """That of a run that was made before there was a choice is 108."""
    command = ['train', '--dataset', 'celeba', *SMALL]
    assert main(command) == 0
    assert '(crop)' not in capsys.readouterr().out
    run = RunFolder(workplace / 'runs' / 'celeba')
    config = run.config()
    assert config['data'].pop('crop') == 108
    run.write_config(config)
    command += ['--max-steps', '2', '--resume']
    assert main([*command, '--crop', '140']) == 2
    output = capsys.readouterr()
    assert 'celeba: the central 140x140 pixels of each image (crop)' in output.out
    assert 'data.crop is 140, was 108' in output.err
    assert main(command) == 0
    assert 'continued from step 1' in capsys.readouterr().out


def test_evaluate_with_the_crop_of_the_training(workplace, published_faces, monkeypatch, capsys):
    shown = []

    def evaluate(images, name, real, *, seed):
        shown.append(real)
        return {}

    images = np.zeros([2, 64, 64, 3], np.uint8)
    monkeypatch.setattr('facegen.sampling.generate', lambda *_, **options: images)
    monkeypatch.setattr('facegen.evaluation.evaluate', evaluate)
    monkeypatch.setattr('facegen.evaluation.warnings_of', lambda scores: [])
    monkeypatch.setattr('facegen.evaluation.real_scores', lambda *_, **options: {})
    np.save('images.npy', images)
    shape = {'data_shape': [20, 64, 64, 3]}
    for name, data in ('new', {'crop': 160}), ('old', {'sha256': 'a'}), ('own', None):
        run = RunFolder.create(workplace / name, shape | {'data': data})
        (run.path / 'checkpoints' / 'step_000001.index').touch()
    for source, options, crop in (
        ('new', [], 160),
        ('new', ['--crop', '150'], 150),
        ('old', [], 108),
        ('own', [], 108),
        ('images.npy', [], 140),
        ('images.npy', ['--crop', '150'], 150),
    ):
        capsys.readouterr()
        assert main(['evaluate', source, '--dataset', 'celeba', *options]) == 0
        assert json.loads(capsys.readouterr().out)['crop'] == crop
        expected = helper.Dataset('celeba', published_faces, width=64, height=64, crop=crop)
        np.testing.assert_array_equal(shown.pop(), expected.pixels)


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        (['--dataset', 'celeba', '--crop', '179'], 'crop is 179; choose a whole number from 1 to'),
        (['--dataset', 'mnist', '--crop', '20'], 'crop is for celeba'),
        (['--dataset', '.', '--crop', '20'], 'crop is for celeba; other images'),
    ],
)
def test_bad_crop(workplace, capsys, options, text):
    assert main(['train', *options, *SMALL]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert text in line
    assert not list(workplace.iterdir())


@pytest.mark.parametrize(('mode', 'channels'), [('L', 1), ('RGB', 3)])
def test_evaluate_a_folder_of_images(workplace, capfd, sample_digits, mode, channels):
    """Such as `generate` writes; without --dataset, those of one channel are digits."""
    folder = write_images(workplace / 'generated', 30, size=28, mode=mode)
    (folder / 'notes.txt').write_text('no image')
    if mode == 'L':
        for number in range(30):
            Image.fromarray(sample_digits[number, ..., 0]).save(folder / f'{number}.png')
    reals = (
        ['--dataset', str(write_images(workplace / 'reals', 40, size=28))] if mode == 'RGB' else []
    )
    assert main(['evaluate', 'generated', *reals]) == 0
    out, err = capfd.readouterr()
    scores = json.loads(out)
    assert (scores['source'], scores['n']) == ('generated', 30)
    if mode == 'L':
        assert scores['nearest_ratio'] == 0
    path = os.path.join('generated', 'notes.txt')
    assert f'not used, 1 of 31: 1 no image ({path})' in err


def test_evaluate_a_folder_beside_digits_with_a_background(workplace, capsys):
    """Which is for the images of the folder; those of mnist have none."""
    write_images(workplace / 'generated', 30, size=28, mode='L')
    clear = Image.new('LA', (28, 28), (0, 0))
    clear.save(workplace / 'generated' / '0.png')
    command = ['evaluate', 'generated', '--dataset', 'mnist', '--background']
    scores = []
    for colour in 'black', 'white':
        assert main([*command, colour]) == 0
        scores.append(json.loads(capsys.readouterr().out)['frechet_distance'])
    assert scores[0] != scores[1]
    assert main([*command, 'whitish']) == 2
    assert 'whitish' in capsys.readouterr().err


def test_evaluate_images_of_several_sizes(workplace, capsys):
    write_images(workplace / 'generated', 2)
    for image in Image.new('RGB', (9, 9)), Image.new('L', (8, 8)):
        image.save(workplace / 'generated' / 'other.png')
        assert main(['evaluate', 'generated', '--dataset', 'generated']) == 2
        error = capsys.readouterr().err
        assert (
            f'other.png [{image.height}, {image.width}, {len(image.mode)}]; expected images'
            in error
        )
        assert 'of one size and of as many colours' in error


@pytest.mark.parametrize(
    'command',
    [
        ['train', '--dataset', '~no-such-user/mine'],
        ['train', '--dataset', 'mnist', '--data-dir', '~no-such-user/data'],
        ['generate', '~no-such-user/run', '--out', 'a.npy'],
        ['generate', 'run', '--out', '~no-such-user/a.npy'],
        ['evaluate', '~no-such-user/a.npy'],
        ['legacy', '~no-such-user/a.ipynb', '--out', 'b.ipynb'],
    ],
)
def test_home_folder_that_is_unknown(command, capsys):
    with pytest.raises(SystemExit) as exit:
        main(command)
    assert exit.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert 'write the path without ~' in line


def test_data_set_in_the_home_folder(workplace, monkeypatch):
    write_images(workplace / 'home' / 'mine', 2)
    monkeypatch.setenv('HOME', str(workplace / 'home'))
    monkeypatch.setenv('USERPROFILE', str(workplace / 'home'))
    assert main(['train', '--dataset', '~/mine', *SMALL]) == 0
    assert (workplace / 'runs' / 'mine').is_dir()
    shutil.rmtree(workplace / 'home')
