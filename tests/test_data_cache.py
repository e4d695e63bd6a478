"""The cache of decoded images."""

import errno
import gzip
import hashlib
import json
import os
import shutil
import signal
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers import (
    NUM_FACES,
    caches,
    make_public_folder,
    peak_memory,
    some_digits,
    start,
    unwritable,
    write_face,
    write_idx,
)
from PIL import Image

import helper
from facegen.data import cache, listing

public_folder = pytest.fixture(make_public_folder, name='public_folder')


def test_images_are_decoded_once(faces, decoded):
    first = helper.Dataset('celeba', faces)
    assert sorted(decoded) == sorted(path.name for path in faces.iterdir())
    second = helper.Dataset('celeba', faces)
    assert len(decoded) == NUM_FACES
    assert isinstance(second.pixels, np.memmap)
    assert second.pixels.dtype == np.uint8
    assert first.sha256 == second.sha256
    assert second.sha256 == hashlib.sha256(second.pixels.tobytes()).hexdigest()


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


def empty_the_states(faces):
    (caches(faces)[0] / 'states.npy').write_bytes(b'')


def set_the_time_back(faces):
    """As programs do that edit EXIF, or unpack an archive."""
    about = (faces / '000007.jpg').stat()
    Image.new('RGB', (178, 218)).save(faces / '000007.jpg', quality=5)
    with open(faces / '000007.jpg', 'ab') as file:
        file.truncate(about.st_size)  # it grows
    os.utime(faces / '000007.jpg', ns=(about.st_atime_ns, about.st_mtime_ns))


def lose_the_pixels(faces):
    (caches(faces)[0] / 'pixels.u8').unlink()


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        (change_a_file, 'has changed'),
        (add_a_file, 'has changed'),
        (remove_a_file, 'has changed'),
        (rename_a_file, 'has changed'),
        (change_the_header(watched=['', *['\0'] * NUM_FACES]), 'has changed'),
        (change_the_header(watched=['']), 'is damaged'),
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
        (empty_the_states, 'is damaged'),
        (set_the_time_back, 'has changed'),
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


def test_opening_a_cache_lists_no_images(faces):
    """There may be 202,599 of them."""
    (faces / '000003.jpg').write_bytes(b'')
    for listings in (1, 0):
        with start(LOOKED_AT, faces) as process:
            output, errors = process.communicate(timeout=60)
        assert output.splitlines()[-1] == f'{listings} {NUM_FACES - 1}', errors
        assert f'not used, 1 of {NUM_FACES}: 1 empty ({faces / "000003.jpg"})' in output


def test_every_image_is_watched(tmp_path, decoded):
    """An overwritten one does not change its folder."""
    faces = tmp_path / 'faces'
    faces.mkdir()
    write_face(faces / '0000.jpg', 0, (8, 8))
    for copy in range(1, 1200):
        os.link(faces / '0000.jpg', faces / f'{copy:04}.jpg')
    open_faces = partial(helper.Dataset, 'celeba', faces, width=8, height=8)
    before = open_faces().pixels
    for number in (1, 577, 1198):
        (faces / f'{number:04}.jpg').unlink()  # a link
        write_face(faces / f'{number:04}.jpg', 0, (8, 8))
    assert (open_faces().pixels == before).all()
    for number in (1, 577, 1198):
        write_face(faces / f'{number:04}.jpg', 99, (8, 8))
        after = open_faces().pixels
        assert (before != after).any((1, 2, 3)).nonzero()[0].tolist() == [number]
        before = after


def test_where_looking_takes_long_only_some_are_watched_and_that_is_said(
    faces, decoded, monkeypatch, capsys
):
    monkeypatch.setattr(cache, 'SECONDS_TO_LOOK', 0)
    monkeypatch.setattr(cache, 'LOOKED_AT_ONCE', 2)
    helper.Dataset('celeba', faces)
    decoded.clear()
    write_face(faces / '000007.jpg', 99)
    helper.Dataset('celeba', faces)
    assert not decoded
    line = f'{faces}: 1 of 21 files were looked at for changes, in 0 s; after a change to others, '
    assert capsys.readouterr().out == f'{line}decode anew\n'
    helper.Dataset('celeba', faces, decode_anew=True)
    assert len(decoded) == NUM_FACES
    assert capsys.readouterr().out == 'decoding the images again: as you ask\n'


def test_what_a_file_manager_leaves_is_no_change(faces, decoded):
    helper.Dataset('celeba', faces)
    decoded.clear()
    (faces / '.DS_Store').write_bytes(b'of macOS')
    (skipped,) = helper.Dataset('celeba', faces).skipped
    assert skipped == (str(faces / '.DS_Store'), listing.LEFT_BEHIND)
    assert not decoded
    (faces / 'more').mkdir()
    helper.Dataset('celeba', faces)
    assert not decoded
    write_face(faces / 'more' / 'x.jpg', 99)
    assert helper.Dataset('celeba', faces).shape[0] == NUM_FACES + 1


def test_image_that_comes_while_they_are_listed_is_noticed(faces, monkeypatch):
    def listed(path, original=listing.kind_of):
        add_a_file(faces)
        return original(path)

    with monkeypatch.context() as patch:
        patch.setattr(listing, 'kind_of', listed)
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
        helper.Dataset('celeba', faces, crop=140)
        helper.Dataset('mnist', faces)
        helper.Dataset('celeba', sorted(faces.iterdir())[:5])
    assert len(decoded) == 4 * NUM_FACES + 5
    assert len(caches(faces)) == 5


def test_caches_of_the_face_are_those_of_before_there_was_a_choice(faces):
    for crop in 108, 140:
        helper.Dataset('celeba', faces, crop=crop)
    headers = [json.loads((folder / 'header.json').read_text()) for folder in caches(faces)]
    assert {header['rule'] for header in headers} == {'get_image 1', 'get_image 1, 140'}


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
    monkeypatch.setattr(shutil, 'rmtree', lambda *args, **options: None)
    old = helper.Dataset('celeba', faces)
    change_a_file(faces)
    new = helper.Dataset('celeba', faces)
    assert not np.array_equal(old.pixels, new.pixels)
    assert 'cannot be written' not in capsys.readouterr().out
    for folder in caches(faces):
        (folder / 'header.json').write_text('{')
    monkeypatch.setattr(Path, 'replace', fail_as_existing)
    assert helper.Dataset('celeba', faces).sha256 == new.sha256
    assert f'cannot be written ({os.strerror(errno.EEXIST)})' in capsys.readouterr().out


def fail_as_existing(old, new):
    raise FileExistsError(errno.EEXIST, 'there', str(old), None, str(new))


def test_cache_moves_with_the_images(faces, decoded, tmp_path):
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
from facegen.data import decode
from facegen.data.sources import DATASETS

def slow(path, width, height, mode):
    time.sleep(float(sys.argv[2]))
    return helper.get_image(path, width, height, mode)

slow.__name__ = 'get_image'
decode.AT_ONCE = 1
DATASETS['celeba'] = DATASETS['celeba']._replace(read=slow)
print(helper.Dataset('celeba', sys.argv[1]).sha256)
"""


def test_killed_while_the_cache_is_written(faces):
    folder = Path(f'{faces}.cache')
    with start(DECODE, faces, 0.1) as process:
        deadline = time.monotonic() + 20
        while not list(folder.glob('.*.partial/pixels.u8')):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert not caches(faces)
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
    write = cache.write_pixels

    def full(pictures, keys, file, shards):
        monkeypatch.setattr(cache, 'write_pixels', write)
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(cache, 'write_pixels', full)
    assert helper.Dataset('celeba', faces).shape[0] == NUM_FACES
    assert 'No space left on device' in capsys.readouterr().out
    assert not caches(faces)


def test_memory_does_not_grow_with_the_data_set(tmp_path):
    """4,000 images of 64x64 are 16 MB of pixels; little of it is ever held at once."""
    pixels = np.zeros([4000, 64, 64], np.uint8)
    path = write_idx(tmp_path / 'digits', pixels, gzip.compress)
    del pixels

    def read():
        dataset = helper.Dataset('mnist', path, width=64, height=64)
        for _ in dataset.get_batches(64):
            pass

    assert peak_memory(read) < 5 << 20
