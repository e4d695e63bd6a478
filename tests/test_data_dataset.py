"""Dataset: its batches and their order, and the files that it finds."""

import gzip
import random
import subprocess
import sys
from itertools import chain

import numpy as np
import pytest
from helpers import NUM_FACES, some_digits, write_idx
from PIL import Image

import helper
from conftest import ROOT


def ids(batches):
    """Return which image each of the batches' rows is, by its first pixel."""
    return [np.rint((batch[:, 0, 0, 0] + 0.5) * 255).astype(int).tolist() for batch in batches]


@pytest.fixture
def numbered(tmp_path):
    """Return an IDX file whose image i has the value i everywhere."""
    pixels = np.repeat(np.arange(50, dtype=np.uint8), 784).reshape(50, 28, 28)
    return write_idx(tmp_path / 'numbered', pixels)


def test_every_picture_once_an_epoch_in_another_order(numbered):
    dataset = helper.Dataset('mnist', numbered, seed=3)
    epochs = [list(chain(*ids(dataset.get_batches(10)))) for _ in range(3)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in [*epochs, range(50)]}) == 4


def test_order_depends_on_seed_and_epoch_alone(numbered):
    dataset = helper.Dataset('mnist', numbered, seed=3)
    first, second = (ids(dataset.get_batches(8)) for _ in range(2))
    again = helper.Dataset('mnist', numbered, seed=3)
    assert ids(again.get_batches(8, epoch=1)) == second
    assert ids(again.get_batches(8, epoch=1)) == second
    assert ids(again.get_batches(8)) == first  # naming an epoch does not use one up
    assert ids(helper.Dataset('mnist', numbered, seed=4).get_batches(8)) != first
    order = np.random.default_rng([3, 0]).permutation(50)
    assert list(chain(*first)) == order[:48].tolist()


def test_start_continues_an_epoch(numbered):
    dataset = helper.Dataset('mnist', numbered)
    whole = ids(dataset.get_batches(8, epoch=5))
    assert len(whole) == 6
    for first in range(7):
        assert ids(dataset.get_batches(8, epoch=5, start=first)) == whole[first:]


def test_classic_order(numbered):
    dataset = helper.Dataset('mnist', numbered, shuffle=False)
    for _ in range(2):
        assert ids(dataset.get_batches(20)) == [list(range(20)), list(range(20, 40))]


def test_lists_keep_their_order(faces):
    files = sorted(map(str, faces.glob('*.jpg')))
    random.Random(0).shuffle(files)
    pixels = helper.Dataset('celeba', files).pixels
    np.testing.assert_array_equal(pixels, helper.get_batch(files, 28, 28, 'RGB'))


def test_black_and_white_are_the_ends_of_the_range(tmp_path):
    path = write_idx(tmp_path / 'two', np.stack([np.zeros([28, 28]), np.full([28, 28], 255)]))
    pixels = np.zeros([2, 28, 28], np.uint8)
    pixels[1] = 255
    batch = next(helper.Dataset('mnist', write_idx(path, pixels), shuffle=False).get_batches(2))
    assert (batch[0] == -0.5).all()
    assert (batch[1] == 0.5).all()


@pytest.mark.parametrize(
    ('arguments', 'text'),
    [
        ({'batch_size': 0}, 'batch_size is 0'),
        ({'batch_size': 2.5}, 'batch_size is 2.5'),
        ({'batch_size': True}, 'batch_size is True'),
        ({'batch_size': '64'}, "batch_size is '64'"),
        ({'batch_size': 51}, 'batch_size 51 is larger than the data set of 50 images'),
        ({'batch_size': 8, 'start': -1}, 'start is -1'),
        ({'batch_size': 8, 'start': 7}, 'start is 7; an epoch has 6 batches'),
        ({'batch_size': 8, 'epoch': -1}, 'epoch is -1'),
    ],
)
def test_bad_batches_fail_at_the_call(numbered, arguments, text):
    dataset = helper.Dataset('mnist', numbered)
    with pytest.raises(ValueError, match=f'{text}.*choose'):
        dataset.get_batches(**arguments)


def test_data_set_is_found_like_download_extract_does(tmp_path, capsys):
    dataset = helper.Dataset('mnist', data_path=tmp_path)
    assert dataset.shape == (5000, 28, 28, 1)
    assert dataset.image_mode == 'L'
    assert '5,000 sample digits' in capsys.readouterr().out
    path = helper.download_extract('mnist', tmp_path)
    assert helper.Dataset('mnist', path).sha256 == dataset.sha256


@pytest.mark.parametrize('pack', [bytes, gzip.compress])
def test_idx_file(tmp_path, pack):
    pixels = some_digits()
    dataset = helper.Dataset('mnist', write_idx(tmp_path / 'digits', pixels, pack))
    np.testing.assert_array_equal(dataset.pixels[..., 0], pixels)


def test_idx_file_of_another_size_is_resized(tmp_path):
    pixels = some_digits()
    path = write_idx(tmp_path / 'digits', pixels)
    dataset = helper.Dataset('mnist', path, width=32, height=16)
    assert dataset.shape == (7, 16, 32, 1)
    expected = Image.fromarray(pixels[4]).resize((32, 16), Image.BILINEAR)
    np.testing.assert_array_equal(dataset.pixels[4, ..., 0], np.array(expected))


@pytest.mark.parametrize(
    ('damage', 'text'),
    [
        (lambda raw: raw[:-1], 'cut short'),
        (lambda raw: raw[:10], 'cut short'),
        (lambda raw: b'', 'cut short'),
        (lambda raw: raw + b'x', 'longer than its header says'),
        (lambda raw: b'\x00\x00\x08\x01' + raw[4:], 'expected it to begin with 0x00000803'),
        (lambda raw: raw[:4] + bytes(4) + raw[8:], 'three sizes above 0'),
        (lambda raw: gzip.compress(raw)[:-20], 'damaged'),
        (lambda raw: gzip.compress(raw)[:-5] + b'.....', 'damaged'),
        (lambda raw: gzip.compress(raw)[:200] + bytes(50) + gzip.compress(raw)[250:], 'damaged'),
    ],
)
def test_bad_idx_file(tmp_path, damage, text):
    path = write_idx(tmp_path / 'digits', some_digits(), damage)
    with pytest.raises(ValueError, match=text) as error:
        helper.Dataset('mnist', path)
    assert str(path) in str(error.value)
    assert not list(tmp_path.glob('*.cache/[!.]*'))


@pytest.mark.parametrize(
    ('arguments', 'text'),
    [
        (('cifar', []), "unknown data set 'cifar'; choose one of"),
        (('mnist', []), 'leave data_files out'),
        (('folder', '.'), 'holds no images'),
        (('folder',), 'needs data_files'),
    ],
)
def test_nothing_to_open(tmp_path, monkeypatch, arguments, text):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=text):
        helper.Dataset(*arguments)


@pytest.mark.parametrize('option', [{'width': 0}, {'height': 2.5}, {'seed': -1}])
def test_bad_options(numbered, option):
    with pytest.raises(ValueError, match='choose a whole number'):
        helper.Dataset('mnist', numbered, **option)


def test_faces_of_more_than_32_pixels_show_the_head(faces, capsys):
    file = faces / '000001.jpg'
    for width, height, crop in (28, 28, 108), (32, 32, 108), (33, 8, 140), (8, 33, 140):
        dataset = helper.Dataset('celeba', [file], width=width, height=height)
        expected = helper.get_image(file, width, height, 'RGB', crop=crop)
        np.testing.assert_array_equal(dataset.pixels, [expected])
        line = 'celeba: the central 140x140 pixels of each image (crop)'
        assert (line in capsys.readouterr().out) == (crop == 140)
        assert dataset.identity['crop'] == dataset.crop == crop


def test_crop_of_faces(faces, numbered):
    file = faces / '000001.jpg'
    dataset = helper.Dataset('celeba', [file], crop=178)
    expected = helper.get_image(file, 28, 28, 'RGB', crop=178)
    np.testing.assert_array_equal(dataset.pixels, [expected])
    assert dataset.identity['crop'] == 178
    assert 'crop' not in helper.Dataset('mnist', numbered).identity
    assert 'crop' not in helper.Dataset('folder', faces).identity


@pytest.mark.parametrize('crop', [0, -1, 179, 1.5, True, '108'])
def test_bad_crop(tmp_path, monkeypatch, crop):
    """It is said before anything is downloaded."""
    monkeypatch.setattr('facegen.data.dataset.download_extract', None)
    with pytest.raises(ValueError, match=f'crop is {crop!r}; choose a whole number from 1 to 178'):
        helper.Dataset('celeba', crop=crop)


@pytest.mark.parametrize('name', ['mnist', 'folder'])
def test_crop_of_faces_alone(faces, name):
    with pytest.raises(ValueError, match='crop is for celeba; other images'):
        helper.Dataset(name, faces, crop=108)


def test_missing_files_are_named(faces):
    with pytest.raises(FileNotFoundError, match=r'nowhere\.jpg'):
        helper.Dataset('celeba', [faces / '000000.jpg', faces / 'nowhere.jpg'])
    for pattern in (faces / 'nowhere', str(faces / '*.jpg')):
        with pytest.raises(FileNotFoundError, match=r'expected a folder.* use glob\.glob') as error:
            helper.Dataset('celeba', pattern)
        assert str(pattern) in str(error.value)
    assert not list(faces.parent.glob('*.cache/[!.]*'))


def test_single_picture_is_no_data_set(faces):
    with pytest.raises(ValueError, match=r'000001\.jpg is a single image; expected a folder'):
        helper.Dataset('celeba', faces / '000001.jpg')


def test_data_files_may_begin_with_the_home_folder(faces, monkeypatch):
    monkeypatch.setenv('HOME', str(faces.parent))
    monkeypatch.setenv('USERPROFILE', str(faces.parent))
    assert helper.Dataset('celeba', '~/faces').shape[0] == NUM_FACES
    assert helper.Dataset('celeba', ['~/faces/000001.jpg']).shape[0] == 1


def megabytes(code, *arguments):
    """Return what a Python of its own prints last, a number of megabytes."""
    command = [sys.executable, '-c', code, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


LOOK_AT_A_LARGE_CACHE = """
import sys
import numpy as np, psutil
from facegen import evaluation, files

with open(sys.argv[1], 'wb') as file:
    file.truncate(2 << 30)  # of zeros, which take no room on the disk
pixels = np.memmap(sys.argv[1], np.uint8, 'r', shape=(43_690, 128, 128, 3))
evaluation.QUICK_REFERENCES = 2000
if sys.argv[2] == 'kept':
    files.release = lambda array: None
memory = psutil.Process().memory_info
before = memory().shared
quick = evaluation.QuickEvaluation('folder', pixels)
print((memory().shared - before) / 2**20)
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='other systems count memory maps in other ways')
def test_an_evaluation_keeps_no_pages_of_a_large_cache(tmp_path):
    arguments = LOOK_AT_A_LARGE_CACHE, tmp_path / 'large'
    assert megabytes(*arguments, 'released') < 40
    assert megabytes(*arguments, 'kept') > 90


READ_A_LARGE_CACHE = """
import sys
import numpy as np, psutil
import helper
from facegen import files

opened = helper.Dataset('folder', sys.argv[1], width=8, height=8)
with open(sys.argv[2], 'wb') as file:
    file.truncate(2 << 30)  # of zeros, which take no room on the disk
opened.pixels = np.memmap(sys.argv[2], np.uint8, 'r', shape=(43_690, 128, 128, 3))
if sys.argv[3] == 'kept':
    files.release = lambda array: None
memory = psutil.Process().memory_info
before = memory().rss
for images in opened.get_batches(64):
    assert images.shape == (64, 128, 128, 3)
print((memory().rss - before) / 2**20)
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='other systems count memory maps in other ways')
def test_the_memory_for_a_large_cache_is_bounded(tiny_pictures, tmp_path):
    arguments = READ_A_LARGE_CACHE, tiny_pictures, tmp_path / 'large'
    assert megabytes(*arguments, 'released') < 400
    assert megabytes(*arguments, 'kept') > 1500
