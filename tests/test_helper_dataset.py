"""Dataset, its cache, the exercise's pixels, the grid and the progress bar."""

import gzip
import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
import tracemalloc
from itertools import chain
from pathlib import Path

import numpy as np
import psutil
import pytest
from helpers import make_public_folder, start, unprivileged, unwritable
from PIL import Image

import helper

NUM_FACES = 20

public_folder = pytest.fixture(make_public_folder, name='public_folder')


def write_face(path, seed, size=(178, 218)):
    """Write a smooth random JPEG, so that cropping and resizing both matter."""
    noise = np.random.default_rng(seed).integers(0, 256, [16, 16, 3], np.uint8)
    Image.fromarray(noise).resize(size, Image.BICUBIC).save(path, quality=90)


@pytest.fixture
def faces(tmp_path):
    """Return a folder of 20 images of the size of CelebA's."""
    folder = tmp_path / 'faces'
    folder.mkdir()
    for number in range(NUM_FACES):
        write_face(folder / f'{number:06}.jpg', number)
    return folder


@pytest.fixture
def decoded(monkeypatch):
    """Return a list that grows by each image that is decoded."""
    files = []

    def get_image(path, *args, original=helper.get_image, **options):
        files.append(Path(path).name)
        return original(path, *args, **options)

    get_image.__name__ = helper.get_image.__name__
    kinds = {name: kind._replace(read=get_image) for name, kind in helper.DATASETS.items()}
    monkeypatch.setattr(helper, 'DATASETS', kinds)
    return files


def write_idx(path, pixels, pack=bytes):
    header = struct.pack('>4I', 0x803, *pixels.shape)
    path.write_bytes(pack(header + pixels.tobytes()))
    return path


def some_digits(count=7, size=28):
    return np.random.default_rng(0).integers(0, 256, [count, size, size], np.uint8)


# Pixels -------------------------------------------------------------------------------------------


@pytest.mark.parametrize('mode', ['RGB', 'L'])
@pytest.mark.parametrize('size', [(28, 28), (32, 48), (108, 108), (178, 218)])
def test_pixels_are_those_of_the_exercise(faces, mode, size):
    """Of 178x218, columns 35 to 142 and rows 55 to 162 are kept; nothing of an image that fits."""
    path = faces / '000003.jpg'
    with Image.open(path) as image:
        if size != (178, 218):
            image = image.crop((35, 55, 143, 163)).resize(size, Image.BILINEAR)
        expected = np.array(image.convert(mode))
    assert expected.shape == size[::-1] + (() if mode == 'L' else (3,))
    np.testing.assert_array_equal(helper.get_image(path, *size, mode), expected)


def test_crop_of_odd_and_of_small_pictures(tmp_path):
    for size, box in [((179, 219), (35, 55, 143, 163)), ((20, 31), (-44, -39, 64, 69))]:
        write_face(tmp_path / 'face.jpg', 0, size)
        with Image.open(tmp_path / 'face.jpg') as image:
            expected = np.array(image.crop(box).resize((28, 28), Image.BILINEAR))
        pixels = helper.get_image(tmp_path / 'face.jpg', 28, 28, 'RGB')
        np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize(('mode', 'channels'), [('RGB', 3), ('L', 1)])
def test_get_batch(faces, mode, channels):
    files = sorted(faces.glob('*.jpg'))[:4]
    batch = helper.get_batch(files, 28, 28, mode)
    assert batch.shape == (4, 28, 28, channels)
    assert batch.dtype == np.float32
    pixels = helper.get_image(files[2], 28, 28, mode)
    np.testing.assert_array_equal(batch[2], pixels.reshape(28, 28, channels))


def test_dataset_serves_the_pixels_of_the_exercise(faces):
    files = sorted(faces.glob('*.jpg'))
    dataset = helper.Dataset('celeba', files, shuffle=False)
    assert dataset.shape == (NUM_FACES, 28, 28, 3)
    assert dataset.image_mode == 'RGB'
    for number, batch in enumerate(dataset.get_batches(8)):
        expected = helper.get_batch(files[8 * number : 8 * number + 8], 28, 28, 'RGB') / 255 - 0.5
        assert batch.dtype == expected.dtype == np.float32
        np.testing.assert_array_equal(batch, expected)
    assert number == 1  # the last four images fill no batch


def test_own_pictures_keep_their_largest_central_square(tmp_path):
    """The middle third of a wide image is white; rotated by its EXIF note, a tall one as well."""
    pixels = np.zeros([30, 90, 3], np.uint8)
    pixels[:, 30:60] = 255
    (tmp_path / 'mine').mkdir()
    Image.fromarray(pixels).save(tmp_path / 'mine' / 'wide.png')
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it by 90 degrees
    Image.fromarray(pixels).save(tmp_path / 'mine' / 'tall.PNG', exif=exif)
    Image.fromarray(pixels[..., 0]).convert('P').save(tmp_path / 'mine' / 'palette.png')
    Image.new('RGBA', (300, 200), (255, 255, 255, 9)).save(tmp_path / 'mine' / 'alpha.png')
    (tmp_path / 'mine' / 'notes.txt').write_text('no image')
    dataset = helper.Dataset('folder', tmp_path / 'mine')
    assert dataset.shape == (4, 28, 28, 3)
    assert (dataset.pixels == 255).all()


@pytest.mark.parametrize('byte_order', ['<', '>'])
def test_sixteen_bits_of_grey_become_eight(tmp_path, byte_order):
    grey = np.repeat(np.array([0, 257, 30_000, 65_535], byte_order + 'u2'), 7)
    Image.fromarray(np.tile(grey, [28, 1])).save(tmp_path / 'grey.tiff')
    pixels = helper.get_square(tmp_path / 'grey.tiff', 28, 28, 'RGB')
    assert pixels[5, ::7, 2].tolist() == [0, 1, 117, 255]


@pytest.mark.parametrize('dtype', [np.int32, np.float32])
def test_thirty_two_bits_of_grey_are_skipped(tmp_path, dtype):
    write_face(tmp_path / 'face.jpg', 0)
    Image.fromarray(np.zeros([28, 28], dtype)).save(tmp_path / 'grey.tiff')
    files = [tmp_path / 'face.jpg', tmp_path / 'grey.tiff']
    ((path, reason),) = helper.Dataset('folder', files).skipped
    assert path == str(files[1])
    assert reason.startswith('32 bits of grey are not supported')


# Order --------------------------------------------------------------------------------------------


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


# Finding ------------------------------------------------------------------------------------------


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


def test_only_files_are_listed(faces):
    (faces / 'folder.jpg').mkdir()
    (faces / 'dangling.jpg').symlink_to('nowhere')
    (faces / 'link.jpg').symlink_to('000001.jpg')
    (faces / '._000001.jpg').write_bytes(b'a note of macOS')
    dataset = helper.Dataset('celeba', faces)
    assert dataset.shape[0] == NUM_FACES + 1
    assert not dataset.skipped


# Damaged images ---------------------------------------------------------------------------------


def test_truncated_picture_is_skipped_named_and_counted(faces, capsys):
    good = helper.Dataset('celeba', faces).pixels
    truncated, empty = faces / '000005.jpg', faces / '000009.jpg'
    truncated.write_bytes(truncated.read_bytes()[:-500])
    empty.write_bytes(b'')
    capsys.readouterr()
    for _ in range(2):  # decoded, then from the cache
        dataset = helper.Dataset('celeba', faces)
        assert dataset.shape == (NUM_FACES - 2, 28, 28, 3)
        np.testing.assert_array_equal(dataset.pixels, np.delete(good, [5, 9], 0))
        assert [path for path, _ in dataset.skipped] == [str(truncated), str(empty)]
        assert 'truncated' in dataset.skipped[0][1]
        output = capsys.readouterr().out
        assert f'skipped 2 unreadable of 20: {truncated} (' in output
        assert str(empty) in output


def test_printed_paths_are_those_given(faces, capsys, monkeypatch):
    """Wherever the cache was made: these lines end up in notebooks that are shared."""
    (faces / '000019.jpg').write_bytes(b'')
    helper.Dataset('celeba', faces)
    capsys.readouterr()
    monkeypatch.chdir(faces.parent)
    assert helper.Dataset('celeba', 'faces').skipped[0][0] == os.path.join('faces', '000019.jpg')
    monkeypatch.chdir(faces)
    change_a_file(Path())
    helper.Dataset('celeba', '.')
    monkeypatch.setattr(helper, '_lock', fail_as_unwritable)
    helper.Dataset('celeba', '.', width=32)
    output = capsys.readouterr().out
    assert str(faces.parent) not in output
    for text in ('again: . has changed', f'of 20: {os.path.join(".", "000019.jpg")}'):
        assert text in output
    assert f'{os.path.join("..", "faces.cache")} cannot be written' in output
    assert len(caches(faces)) == 1


def fail_as_unwritable(folder):
    raise PermissionError(helper.errno.EACCES, 'no', str(folder))


@pytest.mark.parametrize('number', ['EMFILE', 'EACCES', 'EIO', 'ENOENT'])
def test_failures_of_the_system_are_not_taken_for_bad_pictures(faces, monkeypatch, number):
    def open_picture(path, original=Image.open):
        if path.endswith('000003.jpg'):
            raise OSError(getattr(helper.errno, number), 'of the system')
        return original(path)

    with monkeypatch.context() as patch:
        patch.setattr(Image, 'open', open_picture)
        with pytest.raises(OSError, match=r"of the system: '.*000003\.jpg'"):
            helper.Dataset('celeba', faces)
    assert not caches(faces)
    assert helper.Dataset('celeba', faces).shape[0] == NUM_FACES


def test_picture_that_sends_pillow_before_its_beginning_is_skipped(faces, monkeypatch):
    def open_picture(path, original=Image.open):
        if path.endswith('000003.jpg'):
            with open(path, 'rb') as file:
                file.seek(-1)
        return original(path)

    monkeypatch.setattr(Image, 'open', open_picture)
    assert helper.Dataset('celeba', faces).shape[0] == NUM_FACES - 1


def test_picture_that_may_not_be_read(public_folder, capsys):
    faces = public_folder / 'faces'
    faces.mkdir()
    for seed in range(3):
        write_face(faces / f'{seed}.jpg', seed)
    (faces / '1.jpg').chmod(0)
    public_folder.chmod(0o777)
    with unprivileged(), pytest.raises(PermissionError, match=r'1\.jpg'):
        helper.Dataset('celeba', faces)
    assert not capsys.readouterr().out  # nothing that blames the cache


def test_no_picture_can_be_decoded(tmp_path):
    folder = tmp_path / 'faces'
    folder.mkdir()
    (folder / 'a.jpg').write_bytes(b'no image')
    with pytest.raises(ValueError, match=r'none of 1 images can be decoded; .*a\.jpg'):
        helper.Dataset('celeba', folder)
    assert not list(tmp_path.glob('*.cache/[!.]*'))


# The cache ----------------------------------------------------------------------------------------


def caches(faces):
    return sorted(path for path in Path(f'{faces}.cache').iterdir() if path.name != '.lock')


def test_pictures_are_decoded_once(faces, decoded):
    first = helper.Dataset('celeba', faces)
    assert sorted(decoded) == sorted(path.name for path in faces.iterdir())
    second = helper.Dataset('celeba', faces)
    assert len(decoded) == NUM_FACES
    assert isinstance(second.pixels, np.memmap)
    assert second.pixels.dtype == np.uint8
    assert first.sha256 == second.sha256
    assert second.sha256 == helper.hashlib.sha256(second.pixels.tobytes()).hexdigest()


def change_a_file(faces):
    write_face(faces / '000007.jpg', 99)


def add_a_file(faces):
    write_face(faces / '000099.jpg', 99)


def remove_a_file(faces):
    (faces / '000007.jpg').unlink()


def rename_a_file(faces):
    (faces / '000007.jpg').rename(faces / '000099.jpg')


def damage_the_header(faces):
    (caches(faces)[0] / 'header.json').write_text('{')


def change_the_header(**changes):
    def change(faces):
        header = caches(faces)[0] / 'header.json'
        header.write_text(json.dumps({**json.loads(header.read_text()), **changes}))

    return change


def write_a_header_of_an_older_version(faces):
    header = caches(faces)[0] / 'header.json'
    entries = json.loads(header.read_text())
    header.write_text(json.dumps({name: entries[name] for name in ('shape', 'sha256', 'skipped')}))


def write_a_list_as_header(faces):
    (caches(faces)[0] / 'header.json').write_text('[]')


def damage_the_pixels(faces):
    with open(caches(faces)[0] / 'pixels.u8', 'r+b') as file:
        file.truncate(100)


def lose_the_pixels(faces):
    (caches(faces)[0] / 'pixels.u8').unlink()


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        (change_a_file, 'has changed'),
        (add_a_file, 'has changed'),
        (remove_a_file, 'has changed'),
        (rename_a_file, 'has changed'),
        (change_the_header(watched=['000007.jpg', 'gone.jpg']), 'has changed'),
        (change_the_header(watched=['\0']), 'has changed'),
        (change_the_header(fingerprint='0' * 12), 'has changed'),
        (damage_the_header, 'is damaged'),
        (write_a_list_as_header, 'is damaged'),
        (write_a_header_of_an_older_version, 'or of another version'),
        (change_the_header(rule='get_square 1'), 'or of another version'),
        (change_the_header(shape=[21, 28, 28, 3]), 'is damaged'),
        (change_the_header(shape=[20.0, 28, 28, 3]), 'is damaged'),
        (change_the_header(shape=[-20, 28, 28, -3]), 'is damaged'),
        (change_the_header(skipped=[[7, 'a position, as of a list']]), 'is damaged'),
        (change_the_header(watched=7), 'is damaged'),
        (damage_the_pixels, 'is damaged'),
        (lose_the_pixels, 'is damaged'),
    ],
)
def test_cache_is_replaced_when_it_no_longer_fits(faces, decoded, capsys, change, reason):
    helper.Dataset('celeba', faces)
    decoded.clear()
    change(faces)
    capsys.readouterr()
    pixels = helper.Dataset('celeba', faces).pixels
    assert len(decoded) == len(list(faces.iterdir()))
    assert 'decoding the images again: ' in (output := capsys.readouterr().out)
    assert reason in output
    assert output.count('\n') == 1
    assert len(caches(faces)) == 1
    files = sorted(faces.iterdir())
    np.testing.assert_array_equal(pixels, helper.get_batch(files, 28, 28, 'RGB'))


def test_list_with_a_header_of_another_one(faces):
    files = sorted(faces.iterdir())
    pixels = helper.Dataset('celeba', files).pixels
    for changes in {'watched': [NUM_FACES]}, {'skipped': [[NUM_FACES, 'no such position']]}:
        change_the_header(**changes)(faces)
        np.testing.assert_array_equal(helper.Dataset('celeba', files).pixels, pixels)


LOOKED_AT = """
import os, sys
import helper

listed = []
sys.addaudithook(lambda event, args: event in ('os.listdir', 'os.scandir') and listed.append(args[0]))
dataset = helper.Dataset('celeba', sys.argv[1])
print(sum(os.path.samefile(folder, sys.argv[1]) for folder in listed), dataset.shape[0])
"""


def test_opening_a_cache_lists_no_pictures(faces):
    """There may be 202,599 of them."""
    (faces / '000003.jpg').write_bytes(b'')
    for listings in (1, 0):
        with start(LOOKED_AT, faces) as process:
            output, errors = process.communicate(timeout=60)
        assert output.splitlines()[-1] == f'{listings} {NUM_FACES - 1}', errors
        assert f'skipped 1 unreadable of {NUM_FACES}: {faces / "000003.jpg"}' in output


def test_opening_a_cache_looks_at_some_pictures_only(faces, monkeypatch, decoded):
    monkeypatch.setattr(helper, 'MAX_WATCHED', 3)
    helper.Dataset('celeba', faces)
    (header,) = faces.parent.glob('faces.cache/*/header.json')
    watched = json.loads(header.read_text())['watched']
    assert watched == ['000000.jpg', '000009.jpg', '000019.jpg']
    decoded.clear()
    write_face(faces / '000010.jpg', 99)
    helper.Dataset('celeba', faces)
    assert not decoded
    write_face(faces / '000009.jpg', 99)
    helper.Dataset('celeba', faces)
    assert len(decoded) == NUM_FACES


def test_picture_that_comes_while_they_are_listed_is_noticed(faces, monkeypatch):
    def listed(folder, original=helper._picture_names):
        names = original(folder)
        add_a_file(faces)
        return names

    with monkeypatch.context() as patch:
        patch.setattr(helper, '_picture_names', listed)
        assert helper.Dataset('celeba', faces).shape[0] == NUM_FACES
    assert helper.Dataset('celeba', faces).shape[0] == NUM_FACES + 1


def test_batches_are_plain_arrays(faces):
    """Not memory maps, whose arithmetic is slower."""
    dataset = helper.Dataset('celeba', faces)
    assert isinstance(dataset.pixels, np.memmap)
    assert {type(batch) for batch in dataset.get_batches(5)} == {np.ndarray}


def test_epochs_decode_nothing(faces, decoded):
    dataset = helper.Dataset('celeba', faces)
    assert len(decoded) == NUM_FACES
    assert sum(len(batch) for _ in range(3) for batch in dataset.get_batches(5)) == 3 * NUM_FACES
    assert len(decoded) == NUM_FACES


def test_each_size_and_kind_has_a_cache_of_its_own(faces, decoded):
    for _ in range(2):
        helper.Dataset('celeba', faces)
        helper.Dataset('celeba', faces, width=32, height=32)
        helper.Dataset('mnist', faces)
        helper.Dataset('celeba', sorted(faces.iterdir())[:5])
    assert len(decoded) == 3 * NUM_FACES + 5
    assert len(caches(faces)) == 4


def test_each_list_has_one_cache(faces):
    files = sorted(faces.iterdir())
    for seed in range(2):
        write_face(files[0], seed)
        for count in (5, 10):
            helper.Dataset('celeba', files[:count])
            helper.Dataset('celeba', files[:count])
    assert len(caches(faces)) == 2


def test_old_cache_that_cannot_be_removed(faces, monkeypatch, capsys):
    """Windows keeps a file that is mapped."""
    monkeypatch.setattr(helper.shutil, 'rmtree', lambda *args, **options: None)
    old = helper.Dataset('celeba', faces)
    change_a_file(faces)
    new = helper.Dataset('celeba', faces)
    assert not np.array_equal(old.pixels, new.pixels)
    assert 'cannot be written' not in capsys.readouterr().out
    for cache in caches(faces):
        (cache / 'header.json').write_text('{')
    monkeypatch.setattr(Path, 'rename', fail_as_existing)
    assert helper.Dataset('celeba', faces).sha256 == new.sha256
    assert f'cannot be written ({os.strerror(helper.errno.EEXIST)})' in capsys.readouterr().out


def fail_as_existing(old, new):
    raise FileExistsError(helper.errno.EEXIST, 'there', str(old), None, str(new))


def test_cache_moves_with_the_pictures(faces, decoded, tmp_path):
    helper.Dataset('celeba', [str(path) for path in sorted(faces.iterdir())])
    decoded.clear()
    (tmp_path / 'elsewhere').mkdir()
    for name in ('faces', 'faces.cache'):
        (tmp_path / name).rename(tmp_path / 'elsewhere' / name)
    helper.Dataset('celeba', sorted((tmp_path / 'elsewhere' / 'faces').iterdir()))
    assert not decoded


def test_lists_over_several_folders_keep_their_caches(tmp_path, decoded):
    """They lie beside the folder of the first file."""
    for folder in 'abc':
        (tmp_path / folder).mkdir()
        write_face(tmp_path / folder / '1.jpg', 0)
    for _ in range(2):
        for folders in ('ab', 'ac'):
            files = [tmp_path / folder / '1.jpg' for folder in folders]
            assert helper.Dataset('celeba', files).shape == (2, 28, 28, 3)
    assert len(decoded) == 4
    assert len(caches(tmp_path / 'a')) == 2


DECODE = """
import sys, time
import helper

def slow(path, width, height, mode):
    time.sleep(float(sys.argv[2]))
    return helper.get_image(path, width, height, mode)

slow.__name__ = 'get_image'
helper.CHUNK_PICTURES = 1
helper.DATASETS['celeba'] = helper.Kind('RGB', slow)
print(helper.Dataset('celeba', sys.argv[1]).sha256)
"""


def test_killed_while_the_cache_is_written(faces):
    cache = Path(f'{faces}.cache')
    with start(DECODE, faces, 0.1) as process:
        deadline = time.monotonic() + 20
        while not list(cache.glob('.*.incomplete/pixels.u8')):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert not list(cache.glob('[!.]*'))
    dataset = helper.Dataset('celeba', faces)
    files = sorted(faces.iterdir())
    np.testing.assert_array_equal(dataset.pixels, helper.get_batch(files, 28, 28, 'RGB'))
    assert len(caches(faces)) == 1


def test_two_processes_decode_once(faces):
    processes = [start(DECODE, faces, 0.05) for _ in range(2)]
    outputs = [process.communicate(timeout=30) for process in processes]
    assert all(process.returncode == 0 for process in processes), outputs
    sha256 = helper.Dataset('celeba', faces).sha256
    assert all(output.splitlines()[-1] == sha256 for output, _ in outputs)
    bars = [errors for _, errors in outputs if 'decoding faces' in errors]
    assert len(bars) == 1


def test_unwritable_folder_is_used_without_a_cache_said_once(public_folder, capsys):
    faces = public_folder / 'faces'
    faces.mkdir()
    for number in range(3):
        write_face(faces / f'{number}.jpg', number)
    with unwritable(public_folder):
        dataset = helper.Dataset('celeba', faces, shuffle=False)
        batch = next(dataset.get_batches(3))
    output = capsys.readouterr().out
    assert output.count('\n') == 1
    assert 'cannot be written' in output
    assert 'temporary file' in output
    assert [path.name for path in public_folder.iterdir()] == ['faces']
    expected = helper.get_batch(sorted(faces.iterdir()), 28, 28, 'RGB') / 255 - 0.5
    np.testing.assert_array_equal(batch, expected)


def test_cache_in_an_unwritable_folder_is_used(public_folder, decoded):
    path = write_idx(public_folder / 'digits', some_digits())
    sha256 = helper.Dataset('mnist', path).sha256
    with unwritable(public_folder, Path(f'{path}.cache')):
        assert helper.Dataset('mnist', path).sha256 == sha256


def test_full_disk_while_the_cache_is_written(faces, capsys, monkeypatch):
    """Decoding goes on in a temporary file, which may lie on another disk."""
    write = helper._write_pixels

    def full(pictures, keys, file):
        monkeypatch.setattr(helper, '_write_pixels', write)
        raise OSError(helper.errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(helper, '_write_pixels', full)
    assert helper.Dataset('celeba', faces).shape[0] == NUM_FACES
    assert 'No space left on device' in capsys.readouterr().out
    assert not caches(faces)


def test_memory_does_not_grow_with_the_data_set(tmp_path):
    """4,000 images of 64x64 are 16 MB of pixels; little of it is ever held at once."""
    pixels = np.zeros([4000, 64, 64], np.uint8)
    path = write_idx(tmp_path / 'digits', pixels, gzip.compress)
    del pixels
    tracemalloc.start()
    try:
        dataset = helper.Dataset('mnist', path, width=64, height=64)
        for _ in dataset.get_batches(64):
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 << 20


# Processes ----------------------------------------------------------------------------------------


@pytest.fixture
def processes(monkeypatch):
    """Decode even few images, two at a time, by two processes."""
    monkeypatch.setattr(helper, 'MANY_BYTES', 1)
    monkeypatch.setattr(helper, 'CHUNK_PICTURES', 2)
    monkeypatch.setattr(helper, '_num_cpus', lambda: 2)


def read_with(monkeypatch, read):
    """Decode with a function of this module, which the processes import."""
    monkeypatch.setitem(helper.DATASETS, 'celeba', helper.Kind('RGB', read))


def note_and_read(path, width, height, mode):
    Path(f'{path}.{os.getpid()}').touch()
    return helper.get_image(path, width, height, mode)


def get_killed(path, width, height, mode):
    if path.endswith('000007.jpg'):
        os.kill(os.getpid(), signal.SIGKILL)
    return helper.get_image(path, width, height, mode)


def fail_as_too_many_files(path, width, height, mode):
    if path.endswith('000007.jpg'):
        raise OSError(helper.errno.EMFILE, 'of the system')
    return helper.get_image(path, width, height, mode)


def fail_by_mistake(path, width, height, mode):
    raise AssertionError('a mistake')


@pytest.mark.parametrize('name', ['celeba', 'folder'])
def test_processes_decode_the_same_pixels(faces, processes, monkeypatch, name):
    (faces / '000005.jpg').write_bytes((faces / '000005.jpg').read_bytes()[:-500])
    (faces / '000019.jpg').write_bytes(b'')
    with monkeypatch.context() as patch:
        patch.setattr(helper, '_num_cpus', lambda: 1)
        alone = helper.Dataset(name, faces)
    for cache in caches(faces):
        helper.shutil.rmtree(cache)
    with monkeypatch.context() as patch:
        patch.setattr(Image, 'open', None)  # here, not in the processes
        dataset = helper.Dataset(name, faces)
    np.testing.assert_array_equal(dataset.pixels, alone.pixels)
    assert (dataset.sha256, dataset.skipped) == (alone.sha256, alone.skipped)
    assert [os.path.basename(path) for path, _ in dataset.skipped] == ['000005.jpg', '000019.jpg']
    assert dataset.shape[0] == NUM_FACES - 2


def test_processes_decode_many_bytes(faces, decoded, monkeypatch):
    """Be they of many images or of large ones; for fewer it is not worth their start."""
    size = sum(file.stat().st_size for file in faces.iterdir())
    monkeypatch.setattr(helper, '_num_cpus', lambda: 2)
    monkeypatch.setattr(helper, '_processes', None)
    monkeypatch.setattr(helper, 'MANY_BYTES', size)
    with pytest.raises(TypeError):
        helper.Dataset('celeba', faces)
    assert not decoded
    monkeypatch.setattr(helper, 'MANY_BYTES', size + 1)
    helper.Dataset('celeba', faces)
    assert len(decoded) == NUM_FACES


def test_each_process_has_something_to_decode(faces, processes, monkeypatch):
    monkeypatch.setattr(helper, 'CHUNK_PICTURES', 64)
    files = sorted(map(str, faces.iterdir()))
    read = helper.partial(helper.get_image, width=8, height=8, mode='L')
    assert [len(pixels) for pixels, _ in helper._decode(files, str, read)] == [3] * 6 + [2]


def test_few_pictures_are_decoded_ahead(faces, processes):
    """Two of each process, for a third is asked only when the first images were taken."""
    files = sorted(map(str, faces.iterdir()))
    chunks = helper._decode(files, str, helper.partial(note_and_read, width=8, height=8, mode='L'))
    for number, (pixels, _) in enumerate(chunks, 1):
        assert pixels.shape == (2, 8, 8)
        begun = len(list(faces.glob('*.jpg.*')))
        assert 2 * number <= begun <= 2 * (number + 4)
    assert number == NUM_FACES // 2
    assert len({path.suffix for path in faces.glob('*.jpg.*')}) == 2
    assert not list(faces.glob(f'*.{os.getpid()}'))


def test_killed_process_is_named_and_leaves_nothing(faces, processes, monkeypatch):
    """As the system does where memory is short."""
    with monkeypatch.context() as patch:
        read_with(patch, get_killed)
        with pytest.raises(
            ChildProcessError, match=r'ended with status -9.*memory.*run this again'
        ):
            helper.Dataset('celeba', faces)
    assert not caches(faces)
    assert helper.Dataset('celeba', faces).shape[0] == NUM_FACES


def test_failures_of_processes_are_raised_here(faces, processes, monkeypatch):
    with monkeypatch.context() as patch:
        read_with(patch, fail_as_too_many_files)
        with pytest.raises(OSError, match=r"of the system: '.*000007\.jpg'") as error:
            helper.Dataset('celeba', faces)
        assert error.value.errno == helper.errno.EMFILE
        read_with(patch, fail_by_mistake)
        with pytest.raises(AssertionError, match='a mistake'):
            helper.Dataset('celeba', faces)
        patch.setattr(sys, 'executable', str(faces / 'python'))
        with pytest.raises(FileNotFoundError, match='python'):
            helper.Dataset('celeba', faces)
    assert not caches(faces)


def test_file_that_is_missing_among_many_is_named(faces, processes, monkeypatch):
    monkeypatch.setattr(helper, 'MAX_WATCHED', 1)
    files = sorted(faces.iterdir())
    files[9].unlink()
    with pytest.raises(FileNotFoundError, match=r'000009\.jpg'):
        helper.Dataset('celeba', files)
    assert not caches(faces)


MANY = """
import sys
import helper

helper.MANY_BYTES = 1
helper.CHUNK_PICTURES = 8
helper._num_cpus = lambda: 2
helper.Dataset('celeba', sys.argv[1])
"""


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_processes_end_when_they_are_no_longer_needed(faces, number):
    """However the one that asks ends; Ctrl-C in its terminal, of another session, says so once."""
    for copy in range(4000):
        os.link(faces / f'{copy % NUM_FACES:06}.jpg', faces / f'copy{copy}.jpg')
    cache = Path(f'{faces}.cache')
    with start(MANY, faces) as process:
        deadline = time.monotonic() + 60
        while not any(file.stat().st_size for file in cache.glob('.*.incomplete/pixels.u8')):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        workers = psutil.Process(process.pid).children(recursive=True)
        assert len(workers) == 2
        assert os.getsid(process.pid) not in [os.getsid(worker.pid) for worker in workers]
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == -number
    assert psutil.wait_procs(workers, timeout=60)[1] == []
    assert errors.count('Traceback') == (number == signal.SIGINT)
    assert 'BrokenPipe' not in errors
    assert not list(cache.glob('[!.]*'))


SCRIPT = """
import sys

sys.path.insert(0, ROOT)
import helper

sys.path.remove(ROOT)
helper.MANY_BYTES = 1
helper._num_cpus = lambda: 2
print(helper.Dataset('celeba', 'faces').shape)
"""


def test_script_without_a_guard_beside_another_helper(faces):
    """Such as that of the exercise; the processes neither run the script again nor import it."""
    (faces.parent / 'helper.py').write_text('raise ImportError("another helper")')
    script = faces.parent / 'script.py'
    script.write_text(SCRIPT.replace('ROOT', repr(os.path.dirname(helper.__file__))))
    done = subprocess.run(
        [sys.executable, 'script.py'], cwd=faces.parent, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == f'({NUM_FACES}, 28, 28, 3)\n', done.stderr


@pytest.mark.parametrize(
    ('quota', 'count'),
    [('max 100000\n', 3), ('150000 100000\n', 2), ('20000 100000\n', 1), ('900000 100000\n', 3)],
)
def test_cpus_are_those_of_the_affinity_and_of_the_quota(tmp_path, monkeypatch, quota, count):
    monkeypatch.setattr(helper.os, 'sched_getaffinity', lambda pid: {1, 4, 5}, raising=False)
    monkeypatch.setattr(helper.os, 'cpu_count', lambda: 64)
    (tmp_path / 'cpu.max').write_text(quota)
    assert helper._num_cpus(tmp_path / 'cpu.max') == count
    assert helper._num_cpus(tmp_path / 'none') == 3


# The grid -----------------------------------------------------------------------------------------


def test_grid_is_filled_row_by_row():
    images = np.arange(10, dtype=np.float32)[:, None, None, None] * np.ones([10, 2, 3, 1])
    grid = helper.images_square_grid(images, 'L', value_range=(0, 255))
    assert (grid.mode, grid.size) == ('L', (9, 6))
    expected = np.repeat(np.repeat(np.arange(9).reshape(3, 3), 2, 0), 3, 1)
    np.testing.assert_array_equal(np.array(grid), expected)
    flat = helper.images_square_grid(images[..., 0], 'L', value_range=(0, 255))
    np.testing.assert_array_equal(np.array(flat), expected)


def test_grid_of_colours():
    images = np.zeros([4, 1, 1, 3])
    images[1, ..., 0] = images[2, ..., 1] = images[3, ..., 2] = 1
    grid = helper.images_square_grid(images, 'RGB', value_range=(0, 1))
    assert [grid.getpixel(at) for at in [(0, 0), (1, 0), (0, 1), (1, 1)]] == [
        (0, 0, 0),
        (255, 0, 0),
        (0, 255, 0),
        (0, 0, 255),
    ]


@pytest.mark.parametrize('dtype', [np.float16, np.float32, np.float64])
def test_value_range_maps_its_ends_clips_and_rounds(dtype):
    images = np.array([-2, -1, -0.5, 0, 0.5, 1, 2, 0, 0], dtype).reshape(9, 1, 1, 1)
    grid = helper.images_square_grid(images, 'L', value_range=(-1, 1))
    assert np.array(grid).ravel().tolist() == [0, 0, 64, 128, 191, 255, 255, 128, 128]


def test_without_a_range_least_and_greatest_are_stretched_as_in_the_exercise():
    images = np.random.default_rng(0).normal(size=[9, 4, 4, 3]).astype(np.float32)
    low, high = images.min(), images.max()
    expected = ((images - low) * 255 / (high - low)).astype(np.uint8)
    grid = np.array(helper.images_square_grid(images, 'RGB'))
    np.testing.assert_array_equal(grid[4:8, :4], expected[3])
    assert (grid.min(), grid.max()) == (0, 255)


def test_bytes_are_not_stretched_beyond_their_type():
    images = np.array([0, 100, 200, 250], np.uint8).reshape(4, 1, 1, 1)
    grid = helper.images_square_grid(images, 'L', value_range=(0, 255))
    assert np.array(grid).ravel().tolist() == [0, 100, 200, 250]
    grid = helper.images_square_grid(images, 'L')
    assert np.array(grid).ravel().tolist() == [0, 102, 204, 255]


def test_short_floats_are_stretched_as_long_ones():
    images = np.linspace(-300, 300, 256, dtype=np.float16).reshape(256, 1, 1, 1)
    long = helper.images_square_grid(images.astype(np.float32), 'L')
    assert helper.images_square_grid(images, 'L') == long


def test_constant_pictures_are_grey():
    assert np.unique(helper.images_square_grid(np.full([4, 2, 2, 1], 7.0), 'L')).tolist() == [128]


@pytest.mark.parametrize(
    ('shape', 'mode', 'value_range', 'text'),
    [
        ((4, 2, 2, 1), 'RGB', None, r"mode 'RGB' needs .*\[n, height, width, 3\]; found shape"),
        ((4, 2, 2, 3), 'L', None, "mode 'L' needs"),
        ((4, 2, 2), 'RGB', None, "mode 'RGB' needs"),
        ((0, 2, 2, 1), 'L', None, 'one image or more'),
        ((4, 2, 2, 1), 'CMYK', None, "unknown mode 'CMYK'"),
        ((4, 2, 2, 1), 'L', (1, 1), 'low < high'),
        ((4, 2, 2, 1), 'L', 1, 'low < high'),
    ],
)
def test_bad_grids(shape, mode, value_range, text):
    with pytest.raises(ValueError, match=text):
        helper.images_square_grid(np.zeros(shape), mode, value_range=value_range)


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_grid_of_diverged_pictures(value):
    with pytest.raises(ValueError, match='NaN or infinite'):
        helper.images_square_grid(np.full([4, 2, 2, 1], value), 'L', value_range=(-1, 1))


# The progress bar ---------------------------------------------------------------------------------


def test_progress_is_one_line_on_stderr(capsys):
    with helper.progress(total=3, unit='image', desc='training') as bar:
        for _ in range(3):
            bar.set_postfix(loss=0.5)
            bar.update(1)
    output, errors = capsys.readouterr()
    assert not output
    assert errors.count('\n') == 1
    assert '3/3' in errors
    assert list(helper.progress(range(3))) == [0, 1, 2]


def test_progress_in_a_kernel_updates_one_output(monkeypatch):
    """A stand-in for IPython counts outputs; a real kernel runs in the notebook's test."""
    shown = []

    class Handle:
        def __init__(self, number):
            self.number = number

        def update(self, content, raw, metadata):
            shown[self.number] = content['text/plain']

    def display(content, raw, metadata, display_id):
        shown.append(content['text/plain'])
        return Handle(len(shown) - 1)

    kernel = type(sys)('IPython')
    kernel.display = type(sys)('IPython.display')
    kernel.display.display = display
    kernel.get_ipython = lambda: type('Shell', (), {'kernel': None})()
    monkeypatch.setitem(sys.modules, 'IPython', kernel)
    monkeypatch.setitem(sys.modules, 'IPython.display', kernel.display)
    with helper.progress(total=3, mininterval=0) as outer:
        for _ in range(3):
            for _ in helper.progress(range(2), mininterval=0):
                pass
            outer.update(1)
    assert [line.split()[1] for line in shown] == ['3/3', '2/2', '2/2', '2/2']
    assert all('\n' not in line and '\x1b' not in line for line in shown)
