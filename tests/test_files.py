"""Files that are complete or not there, lines of JSON, locks."""

import errno
import fcntl
import json
import mmap
import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from filelock import SoftFileLock
from helpers import start

from facegen import files, machine
from facegen.cli import evaluate
from facegen.data import cache


class StoppedError(Exception):
    """Stands for whatever ends a process while it writes."""


@pytest.mark.parametrize('kind', ['file', 'folder'])
def test_what_is_complete_appears_at_once(tmp_path, kind):
    path = tmp_path / 'a'
    with files.complete(path) as partial:
        if kind == 'file':
            partial.write_text('all')
        else:
            partial.mkdir()
            (partial / 'b').write_text('all')
        assert not path.exists()
        assert partial.name == '.a.partial'
    assert (path if kind == 'file' else path / 'b').read_text() == 'all'
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_what_was_there(tmp_path):
    path = tmp_path / 'a'
    path.write_text('before')

    def write():
        with files.complete(path) as partial:
            partial.write_text('after')
            raise StoppedError

    with pytest.raises(StoppedError):
        write()
    assert path.read_text() == 'before'
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_replaced(tmp_path):
    stale = tmp_path / '.a.partial'
    stale.mkdir()
    (stale / 'half').write_text('half')
    files.write_complete(tmp_path / 'a', b'all')
    assert (tmp_path / 'a').read_bytes() == b'all'
    assert [path.name for path in tmp_path.iterdir()] == ['a']


def test_another_name_for_what_is_not_complete(tmp_path):
    with files.complete(tmp_path / 'a', partial='b.partial') as partial:
        partial.write_bytes(b'all')
        assert partial == tmp_path / 'b.partial'
    assert [path.name for path in tmp_path.iterdir()] == ['a']


@pytest.mark.parametrize(
    ('number', 'advice'),
    [
        (errno.ENOSPC, 'make room, and go on with resume'),
        (errno.EDQUOT, 'make room'),
        (errno.EACCES, 'make it writable'),
    ],
)
def test_an_error_of_the_disk_says_what_to_do(number, advice):
    with (
        pytest.raises(OSError, match=rf'a cannot be written \(why\).*{advice}') as error,
        files.writing(Path('a')),
    ):
        raise OSError(number, 'why')
    assert error.value.errno == number


def test_what_numpy_cannot_write_is_for_want_of_room():
    with (
        pytest.raises(
            OSError, match=r'a cannot be written \(9 requested.*make room, and run again'
        ),
        files.writing(Path('a'), 'run again'),
    ):
        raise OSError('9 requested and 4 written')


def test_a_copy_of_a_memory_map_is_released_too(tmp_path):
    """Which has the class of one, and its memory is its own."""
    np.save(tmp_path / 'a.npy', np.arange(9))
    mapped = np.load(tmp_path / 'a.npy', mmap_mode='r')
    for array in mapped, mapped.copy():
        files.release(array)
        np.testing.assert_array_equal(array, np.arange(9))


def test_lines_of_json_outlive_a_cut(tmp_path):
    file = tmp_path / 'log.jsonl'
    assert list(files.parsed_lines(file, ['step'])) == []
    for step in range(3):
        files.append_line(file, {'step': np.int64(step), 'where': Path('x')})
    file.write_bytes(file.read_bytes()[:-3])
    assert list(files.parsed_lines(file, ['step'])) == [
        {'step': step, 'where': 'x'} for step in range(2)
    ]


@pytest.mark.parametrize('line', ['{', '[1]', '7', '{"step": "a"}', '{"other": 1}', '[' * 100_000])
def test_damaged_line_is_named(tmp_path, line):
    file = tmp_path / 'log.jsonl'
    file.write_text(f'{json.dumps({"step": 1})}\n{line}\n{json.dumps({"step": 3})}\n')
    with pytest.raises(ValueError, match=r'log\.jsonl, line 2'):
        list(files.parsed_lines(file, ['step']))
    assert files.undamaged_lines(file, ['step']) == [{'step': 1}]


def test_lines_are_kept_as_they_are(tmp_path):
    file = tmp_path / 'log.jsonl'
    for step in range(3):
        files.append_line(file, {'step': step})
    before = file.stat().st_mtime_ns, file.stat().st_ino
    files.keep_lines(file, [{'step': step} for step in range(3)])
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == before
    files.keep_lines(file, [{'step': 0}])
    assert file.read_text() == '{"step": 0}\n'


COUNT = """
import sys, time
from pathlib import Path
from facegen import files
from facegen.cli import evaluate
from facegen.data import cache

folder = Path(sys.argv[1])
for _ in range(20):
    with files.locked(folder):
        file = folder / 'count'
        count = int(file.read_text()) if file.exists() else 0
        time.sleep(0.005)
        file.write_text(str(count + 1))
"""


def test_one_process_at_a_time(tmp_path):
    folder = tmp_path / 'new' / 'folder'
    processes = [start(COUNT, folder) for _ in range(3)]
    outputs = [process.communicate(timeout=60) for process in processes]
    assert all(process.returncode == 0 for process in processes), outputs
    assert (folder / 'count').read_text() == '60'
    assert any('waiting for another process' in output for output, _ in outputs)


def test_folder_that_cannot_be_locked_is_named(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(OSError, match='another data folder'), files.locked(tmp_path / 'file' / 'a'):
        pass


# File systems that lack something -----------------------------------------------------------------

WITHOUT_LOCKS = """
import errno, fcntl

def flock(file, operation):
    raise OSError(errno.{number}, 'no locks here')

fcntl.flock = flock
"""


@pytest.mark.parametrize('number', ['ENOLCK', 'ENOTSUP', 'ENOSYS'])
def test_one_process_at_a_time_without_locks(tmp_path, number):
    """As on some network drives; what a killed process leaves there keeps nobody out."""
    script = WITHOUT_LOCKS.format(number=number) + COUNT
    with start(script.replace('time.sleep(0.005)', 'time.sleep(60)'), tmp_path) as process:
        while not (tmp_path / files.SOFT_LOCK).exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.005)
        process.kill()
    processes = [start(script, tmp_path) for _ in range(2)]
    outputs = [process.communicate(timeout=60) for process in processes]
    assert all(process.returncode == 0 for process in processes), outputs
    assert (tmp_path / 'count').read_text() == '40'
    for output, errors in outputs:
        assert output.count('no locks on this file system') == 1
        assert not errors


def without_locks(file, operation):
    raise OSError(errno.ENOLCK, 'no locks here')


@pytest.mark.parametrize('left', ['', '\n', '12'])
@pytest.mark.parametrize('blocking', [False, True])
def test_killed_before_it_wrote_its_number(tmp_path, monkeypatch, left, blocking):
    monkeypatch.setattr(fcntl, 'flock', without_locks)
    (tmp_path / files.SOFT_LOCK).write_text(left)
    lock = files.acquired(tmp_path, blocking=blocking)
    assert lock.pid == os.getpid()
    assert files.acquired(tmp_path) is None
    lock.release()
    assert not (tmp_path / files.SOFT_LOCK).exists()


def test_a_number_written_around_a_lines_end_is_read(tmp_path):
    """Whichever of two processes is first: one that makes a lock's file, one that finds it empty."""
    file = tmp_path / 'lock'
    lock = SoftFileLock(file)
    files.end_first_line(file)
    assert not file.exists()
    for written_before in [True, False]:
        with lock:
            record = file.read_bytes()
            if not written_before:
                file.write_bytes(b'')
            files.end_first_line(file)
            with file.open('rb+') as opened:
                opened.write(record)
            assert file.read_bytes() == record
            assert lock.pid == os.getpid()
    with lock:
        file.write_bytes(file.read_bytes() + b'\n')  # written between the look and the line's end
        assert lock.pid == os.getpid()
        assert files.acquired_within(SoftFileLock(file), 0) is None


def test_run_folder_without_locks(tmp_path, monkeypatch, capsys):
    from facegen.run import RunFolder

    monkeypatch.setattr(fcntl, 'flock', without_locks)
    with RunFolder.open(tmp_path / 'run', {'seed': 1}) as run:
        assert run.path == tmp_path / 'run'
        assert 'run: no locks on this file system (no locks here)' in capsys.readouterr().out
        with pytest.raises(BlockingIOError):
            RunFolder.open(tmp_path / 'run', {'seed': 1}, resume=True)
        with RunFolder.open(tmp_path / 'run', {'seed': 1}) as other:
            assert other.path == tmp_path / 'run-2'
    with RunFolder.open(tmp_path / 'run', {'seed': 1}, resume=True) as run:
        assert run.path == tmp_path / 'run-2'


@pytest.mark.skipif(sys.platform != 'linux', reason='Linux says how memory maps are read')
def test_what_memory_does_not_hold_is_not_read_ahead(tmp_path, monkeypatch):
    file = tmp_path / 'pixels.u8'
    file.write_bytes(bytes(1 << 20))

    def is_read_page_by_page(memory):
        monkeypatch.setattr(machine, 'memory', lambda: memory)
        pixels = files.mapped(file, (1 << 20,))
        start = f'{pixels.ctypes.data:x}-'
        about = Path('/proc/self/smaps').read_text().partition(start)[2].partition('VmFlags:')[2]
        return 'rr' in about.partition('\n')[0].split()

    assert machine.memory() > 1 << 28
    assert not is_read_page_by_page(2 << 20)
    assert is_read_page_by_page((2 << 20) - 1)


def without_maps(*args, **options):
    raise OSError(errno.ENODEV, 'no such device')


def test_images_without_memory_maps(faces, tmp_path, monkeypatch, capsys):
    import helper

    expected = helper.Dataset('celeba', faces)
    monkeypatch.setattr(mmap, 'mmap', without_maps)
    capsys.readouterr()
    for folder in (faces, tmp_path / 'again'):  # from a cache, and decoded
        if not folder.exists():
            shutil.copytree(faces, folder)
        dataset = helper.Dataset('celeba', folder)
        np.testing.assert_array_equal(dataset.pixels, expected.pixels)
        line = 'no memory maps on this file system (no such device); 0 MB are read into memory'
        assert capsys.readouterr().out.splitlines()[-1] == line
    monkeypatch.setattr(cache, 'locked', fail_as_unwritable)
    dataset = helper.Dataset('celeba', faces, width=32, height=32)  # in a temporary file
    assert dataset.shape == (20, 32, 32, 3)


def fail_as_unwritable(folder):
    raise PermissionError(errno.EACCES, 'no', str(folder))


def test_generated_images_without_memory_maps(tmp_path, monkeypatch, capsys):
    images = np.random.default_rng(0).integers(0, 256, [9, 8, 8, 3], np.uint8)
    np.save(tmp_path / 'a.npy', images)
    monkeypatch.setattr(mmap, 'mmap', without_maps)
    np.testing.assert_array_equal(evaluate.images_in(tmp_path / 'a.npy'), images)
    assert 'no memory maps' in capsys.readouterr().out


def test_home_folder_that_is_unknown():
    with pytest.raises(ValueError, match=r'~no-such-user/data: .*home.*; write the path without ~'):
        files.expanded('~no-such-user/data')
