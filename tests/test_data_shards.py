"""Large sets of images, which are decoded in shards by all processes that want them."""

import errno
import re
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import DEADLINE, NUM_FACES, caches, start
from test_files import WITHOUT_LOCKS

import helper
from facegen import files
from facegen.data import cache, shards

DECODE = """
import sys, time
import helper
from facegen.data import decode, shards
from facegen.data.sources import DATASETS

def slow(path, width, height, mode):
    time.sleep(float(sys.argv[2]))
    return helper.get_image(path, width, height, mode)

slow.__name__ = 'get_image'
shards.SHARD, shards.LOOK_EVERY, decode.AT_ONCE = 3, 0.05, 1
DATASETS['celeba'] = DATASETS['celeba']._replace(read=slow)
print(helper.Dataset('celeba', sys.argv[1]).sha256)
"""


def decoded_whole(faces):
    """Return the data set of the images, decoded into one file, in a folder beside it."""
    copy = faces.with_name('copy')
    copy.symlink_to(faces)
    return helper.Dataset('celeba', copy)


def wait_for(process, condition):
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def parts_in(errors):
    """Return the numbers of the shards whose bars a process has shown."""
    return set(map(int, re.findall(r'part (\d+) of 7', errors)))


def whole_shards(faces):
    return list(Path(f'{faces}.cache').glob('.*.shards/*.json'))


def partial_shards(faces):
    return list(Path(f'{faces}.cache').glob('.*.shards/.*.partial'))


@pytest.fixture
def small_shards(monkeypatch):
    """Three images are a shard."""
    monkeypatch.setattr(shards, 'SHARD', 3)


def test_shards_make_the_same_cache(faces, small_shards, monkeypatch, capsys):
    """Also where images, or all those of a shard, cannot be decoded."""
    for number in (0, 1, 2, 7, 19):
        (faces / f'{number:06}.jpg').write_text('none')
    dataset = helper.Dataset('celeba', faces)
    assert f'part 7 of {-(-NUM_FACES // 3)}' in capsys.readouterr().err
    assert [path.name for path in Path(f'{faces}.cache').iterdir() if path.is_dir()] == [
        path.name for path in caches(faces)
    ]
    monkeypatch.undo()
    whole = decoded_whole(faces)
    assert dataset.shape == whole.shape == (NUM_FACES - 5, 28, 28, 3)
    np.testing.assert_array_equal(dataset.pixels, whole.pixels)
    assert dataset.sha256 == whole.sha256
    names, others = [[Path(path).name for path, _ in d.skipped] for d in (dataset, whole)]
    assert names == others == [f'{number:06}.jpg' for number in (0, 1, 2, 7, 19)]


def test_what_is_noted_of_images_adds_up():
    parts = [
        shards.Images(2, [['a', 'no image']], {'deep': (2, 300.0), 'dark': (1, 20.0)}),
        shards.Images(0, [], {}),
        shards.Images(3, [['b', 'empty']], {'deep': (1, 900.0)}),
    ]
    expected = {'deep': (3, 900.0), 'dark': (1, 20.0)}
    assert shards.joined(parts) == (5, [['a', 'no image'], ['b', 'empty']], expected)


def test_no_image_at_all(faces, small_shards):
    for path in faces.iterdir():
        path.write_text('none')
    with pytest.raises(ValueError, match='holds no images; not used, 20 of 20'):
        helper.Dataset('celeba', faces)


@pytest.mark.parametrize('locks', ['', WITHOUT_LOCKS.format(number='ENOLCK')])
def test_processes_share_the_work(faces, locks):
    """Each decodes some of the shards, none is decoded twice, and all get the same pixels."""
    processes = [start(locks + DECODE, faces, 0.1) for _ in range(3)]
    outputs = [process.communicate(timeout=DEADLINE) for process in processes]
    assert all(process.returncode == 0 for process in processes), outputs
    sha256 = decoded_whole(faces).sha256
    assert all(output.splitlines()[-1] == sha256 for output, _ in outputs)
    parts = [parts_in(errors) for _, errors in outputs]
    assert all(parts)
    assert sum(map(len, parts)) == 7
    assert set.union(*parts) == set(range(1, 8))


def test_a_killed_process_loses_one_shard(faces, small_shards, decoded):
    with start(DECODE, faces, 0.05) as process:
        wait_for(process, lambda: len(whole_shards(faces)) >= 2)
        process.send_signal(signal.SIGKILL)
    whole = len(whole_shards(faces))
    assert 2 <= whole < 7
    assert not caches(faces)
    dataset = helper.Dataset('celeba', faces)
    assert len(decoded) == NUM_FACES - 3 * whole
    assert dataset.sha256 == decoded_whole(faces).sha256
    assert len(caches(faces)) == 1


def test_another_process_takes_over_the_shard_of_a_killed_one(faces):
    with start(DECODE, faces, 0.5) as killed:
        wait_for(killed, lambda: partial_shards(faces))
        (partial,) = partial_shards(faces)
        with start(DECODE, faces, 0.01) as other:
            wait_for(other, lambda: len(whole_shards(faces)) >= 3)
            killed.send_signal(signal.SIGKILL)
            output, errors = other.communicate(timeout=DEADLINE)
    assert other.returncode == 0, errors
    assert output.splitlines()[-1] == decoded_whole(faces).sha256
    number, *_ = partial.name.strip('.').split('.')
    assert int(number) in parts_in(errors)


def test_shards_that_are_removed_while_they_are_decoded_are_decoded_again(faces):
    """As by a process that has found other images, or joined them."""
    with start(DECODE, faces, 0.1) as process:
        wait_for(process, lambda: whole_shards(faces) and partial_shards(faces))
        shutil.rmtree(whole_shards(faces)[0].parent)
        output, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, errors
    assert output.splitlines()[-1] == decoded_whole(faces).sha256


def test_shards_of_another_size_are_decoded_again(faces, monkeypatch):
    """Where a version has divided the images otherwise, or a disk has lost the end of a file."""
    with start(DECODE, faces, 0.05) as process:
        wait_for(process, lambda: len(whole_shards(faces)) >= 3)
        process.send_signal(signal.SIGKILL)
    with open(whole_shards(faces)[0].with_suffix('.u8'), 'r+b') as pixels:
        pixels.truncate(100)
    whole_shards(faces)[1].write_text('{"count": ')
    monkeypatch.setattr(shards, 'SHARD', 3)
    dataset = helper.Dataset('celeba', faces)
    assert dataset.sha256 == decoded_whole(faces).sha256


def test_shards_of_another_number_of_images_are_decoded_again(faces, monkeypatch):
    with start(DECODE, faces, 0.05) as process:
        wait_for(process, lambda: len(whole_shards(faces)) >= 2)
        process.send_signal(signal.SIGKILL)
    monkeypatch.setattr(shards, 'SHARD', 2)
    dataset = helper.Dataset('celeba', faces)
    assert dataset.shape[0] == NUM_FACES
    assert dataset.sha256 == decoded_whole(faces).sha256


def test_shards_that_cannot_be_removed_do_no_harm(faces, small_shards, monkeypatch, capsys):
    def remove(path):
        if path.name.endswith('.shards'):
            raise PermissionError(errno.EACCES, 'in use', str(path))
        files.remove(path)

    monkeypatch.setattr(cache, 'remove', remove)
    assert isinstance(helper.Dataset('celeba', faces).pixels, np.memmap)
    assert 'cannot be written' not in capsys.readouterr().out
    assert len(caches(faces)) == 1


def test_a_damaged_cache_is_made_again(faces, small_shards, decoded):
    sha256 = helper.Dataset('celeba', faces).sha256
    (folder,) = caches(faces)
    (folder / 'states.npy').write_bytes(b'')
    assert helper.Dataset('celeba', faces).sha256 == sha256
    assert len(decoded) == 2 * NUM_FACES


def test_disk_without_room_for_shards(faces, small_shards, monkeypatch, capsys):
    """All is decoded into one file, as small sets are."""
    pixels = NUM_FACES * 28 * 28 * 3
    usage = shutil.disk_usage(faces)
    for free, says in ((2 * pixels, False), (2 * pixels + 1, True)):
        monkeypatch.setattr(shutil, 'disk_usage', lambda _, free=free: usage._replace(free=free))
        helper.Dataset('celeba', faces)
        assert ('part 7 of 7' in capsys.readouterr().err) is says
        shutil.rmtree(f'{faces}.cache')


def test_full_disk_while_a_shard_is_written(faces, small_shards, monkeypatch, capsys):
    """All is decoded into a temporary file, which may lie on another disk."""

    def full(*args):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(shards, 'decode_to', full)
    assert helper.Dataset('celeba', faces).sha256 == decoded_whole(faces).sha256
    assert 'No space left on device' in capsys.readouterr().out
    assert not caches(faces)
    assert not whole_shards(faces)


def test_shards_of_images_that_have_changed_are_removed(faces, small_shards):
    with start(DECODE, faces, 0.05) as process:
        wait_for(process, lambda: whole_shards(faces))
        process.send_signal(signal.SIGKILL)
    (faces / '000003.jpg').unlink()
    assert helper.Dataset('celeba', faces).shape[0] == NUM_FACES - 1
    assert not whole_shards(faces)


def test_decoding_anew_trusts_no_shard(faces, small_shards, decoded):
    with start(DECODE, faces, 0.05) as process:
        wait_for(process, lambda: whole_shards(faces))
        process.send_signal(signal.SIGKILL)
    helper.Dataset('celeba', faces, decode_anew=True)
    assert len(decoded) == NUM_FACES
    assert not whole_shards(faces)
