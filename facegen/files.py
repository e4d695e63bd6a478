"""Files that appear when they are complete, lines of JSON, and locks between processes.

Whatever this project writes goes through here, so that a process may be killed, or the disk be full,
at any moment: what was there before is intact, and nothing unfinished looks finished.
"""

import errno
import json
import math
import mmap
import os
import re
import shutil
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, is_dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock, SoftFileLock, Timeout

from facegen import machine

# The notebook, helper.py, problem_unittests.py and the sample digits: the repository, or what pip installs
LESSON = Path(__file__).parents[1]
if not (LESSON / 'face_generation.ipynb').is_file():
    LESSON = Path(__file__).parent / 'lesson'
# Of a larger memory map, pages are released after so many rows: around each, Linux may map 2 MB (6.18 does)
LARGE_MAP, ROWS_AT_ONCE = 512 << 20, 64  # bytes, rows
LOCK = '.lock'  # the name of a folder's lock
SOFT_LOCK = '.lock.process'  # likewise, where the file system has no locks
WITHOUT_OWNER = 5  # seconds to wait for one that names no process: filelock removes it after 2
said_without_locks = set()  # folders
PARTIAL = '.partial'  # ends the names of what is not complete yet
UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT}
UNWRITABLE |= {errno.EEXIST, errno.ENOTEMPTY}  # something is in the way and cannot be removed
UNWRITABLE |= {errno.ENAMETOOLONG, errno.EFBIG}

UNSUPPORTED = {errno.ENODEV, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
UNSUPPORTED |= {errno.EINVAL}  # what file systems answer that have no locks, or no memory maps


# Complete or not at all ---------------------------------------------------------------------------


@contextmanager
def complete(path, *, partial=None):
    """Yield a temporary path, of a file or a folder, that takes the place of `path` at the end.

    After an error, `path` is what it was before. What a killed process has left is removed first, so
    only one process at a time may write a path. `partial` is a name other than `.NAME.partial`.
    """
    partial = path.with_name(partial or f'.{path.name}{PARTIAL}')
    remove(partial)
    try:
        yield partial
        if partial.is_file():
            flush_to_disk(partial)
        partial.replace(path)
    finally:
        with suppress(OSError):
            remove(partial)


def write_complete(path, content):
    """Make the bytes `content` all that a file holds, at once."""
    with complete(path) as partial:
        partial.write_bytes(content)


def remove(path):
    """Delete a file or a folder with all that it holds; there may be none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def flush_to_disk(path):
    """Wait until what was written to a file would survive a power cut."""
    with path.open('rb+') as file:
        try:
            os.fsync(file.fileno())
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise


def require_space(folder, needed):
    """Raise OSError unless a folder's disk has room for `needed` bytes."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            errno.ENOSPC,
            f'{needed / 1e6:,.0f} MB are needed and {free / 1e6:,.0f} MB are free; make room and '
            'run this again',
            os.fspath(folder),
        )


def is_pattern(path):
    """Tell whether TensorFlow, which takes what it reads for patterns, misses a path: 'lr=[1e-3]'.

    A star or a question mark matches itself.
    """
    sets_and_escapes = re.compile(r'\[.+\]|\\', re.DOTALL)
    path = Path(path)
    return any(sets_and_escapes.search(part) for part in path.relative_to(path.anchor).parts)


def mapped(file, shape):
    """Return uint8 pixels of a file as a memory map, or in memory where that is impossible, and say so.

    A file that memory will not hold is read page by page. Of what the system would read ahead, 128 kB or so
    at every image, nothing is left when a shuffled epoch gets there.
    """
    try:
        pixels = np.memmap(file, np.uint8, 'r', shape=shape)
        if pixels.nbytes > machine.memory() / 2 and hasattr(mmap, 'MADV_RANDOM'):
            pixels._mmap.madvise(mmap.MADV_RANDOM)
        return pixels
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        say_without_maps(error.strerror, math.prod(shape))
    with open(file, 'rb') if isinstance(file, Path) else nullcontext(file) as opened:
        opened.seek(0)
        return np.frombuffer(opened.read(), np.uint8).reshape(shape)


def rows_of(array, numbers):
    """Return the rows of these numbers; of a large memory map, no pages stay in this process's memory."""
    plain = np.asarray(array)  # which is read faster than parts of a memory map
    if array.nbytes <= LARGE_MAP:
        return plain.take(numbers, axis=0)
    rows = np.empty([len(numbers), *array.shape[1:]], array.dtype)
    for start in range(0, len(numbers), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        rows[part] = plain.take(numbers[part], axis=0)
        release(array)
    return rows


def release(array):
    """Let the system take back the memory of a memory map's pages that were read; nothing is lost.

    It would only do so when memory runs short, and until then they count as this process's own.
    """
    mapped = getattr(array, '_mmap', None)  # a copy of a memory map has none
    if mapped is not None and hasattr(mmap, 'MADV_DONTNEED'):  # Windows lacks it
        mapped.madvise(mmap.MADV_DONTNEED)


def say_without_maps(reason, size):
    """Say that so many bytes are read, where the file system has no memory maps."""
    print(
        f'no memory maps on this file system ({reason}); {size / 1e6:,.0f} MB are read into memory'
    )


@contextmanager
def writing(path, then='go on with resume'):
    """Inside, an OSError says which path cannot be written, why, and what to do."""
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error, then) from error


def cannot_write(path, error, then='go on with resume'):
    """Return the error of `writing`."""
    reason = error.strerror or str(error)
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, None)  # None: numpy's
    advice = 'make room' if is_full else 'make it writable'
    return OSError(
        error.errno,
        f'{path} cannot be written ({reason}); what was there is intact: {advice}, and {then}',
    )


def expanded(path):
    """Return a path with the home folder for a leading `~`; raise ValueError where there is none."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(f'{path}: {error}; write the path without ~') from error


# Locks --------------------------------------------------------------------------------------------


@contextmanager
def locked(folder):
    """Let one process at a time write to `folder`, which is made if need be; others wait.

    Raises OSError, with advice, where it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = acquired(folder)
        if lock is None:
            print(f'waiting for another process that prepares {folder}')
            lock = acquired(folder, blocking=True)
    except OSError as error:
        raise OSError(
            error.errno, 'cannot be written; choose another data folder', os.fspath(folder)
        ) from error
    try:
        yield
    finally:
        lock.release()


def acquired(folder, *, part='', blocking=False):
    """Return a lock of the folder, or of a part of it, until its `release`; None while another process has it.

    Where the file system has no locks, a file with the number of the process stands for one.
    """
    file = folder / f'{part}{LOCK}'
    try:
        require_flock(file)
        return acquired_within(FileLock(file), -1 if blocking else 0)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        say_without_locks(folder, error.strerror)
    return acquired_file(SoftFileLock(folder / f'{part}{SOFT_LOCK}'), blocking)


def lock_files(folder):
    """Return a pattern of the files that stand for locks in a folder; None where it has real ones."""
    return folder / f'*{SOFT_LOCK}' if folder in said_without_locks else None


def acquired_within(lock, seconds):
    """Return the lock, acquired; None where another process has it for so long. -1 waits forever."""
    with suppress(Timeout):
        lock.acquire(timeout=seconds)
    return lock if lock.is_locked else None


def acquired_file(lock, blocking):
    """Return likewise a lock that a file stands for, also where a killed process has left it without a number."""
    while True:
        end_first_line(lock.lock_file)
        acquired = acquired_within(lock, WITHOUT_OWNER if blocking or lock.pid is None else 0)
        if acquired or not blocking:
            return acquired


def end_first_line(file):
    """Append a line's end to a file that is empty; there may be none.

    A process that is killed between making a lock's file and writing its number there leaves it empty, and
    filelock (since 4.2.6) takes an empty file for another's forever. A process that is not killed writes over it.
    """
    with suppress(OSError):
        opened = os.open(file, os.O_WRONLY | os.O_APPEND)
        try:
            if os.fstat(opened).st_size == 0:
                os.write(opened, b'\n')
        finally:
            os.close(opened)


def require_flock(file):
    """Raise OSError where the system has no locks at all, for which filelock's own remedy lets two in."""
    with suppress(ImportError), open(file, 'a') as opened:
        import fcntl  # which Windows lacks

        fcntl.flock(opened, fcntl.LOCK_UN)


@contextmanager
def one_at_a_time(folder):
    """Inside is one process at a time; others wait."""
    lock = acquired(folder, blocking=True)
    try:
        yield
    finally:
        lock.release()


def say_without_locks(folder, reason):
    """Say once that a folder's file system has no locks, and what is used instead."""
    if folder not in said_without_locks:
        said_without_locks.add(folder)
        print(f'{folder}: no locks on this file system ({reason}); a file stands for one')


# Lines of JSON ------------------------------------------------------------------------------------


def to_json(value, **options):
    """Return JSON text, also of what `plain` knows."""
    return json.dumps(value, default=plain, **options)


def plain(value):
    """Return a dataclass as a dictionary, a number of numpy as Python's, a path as its name."""
    if is_dataclass(value):
        return asdict(value)
    return value.item() if isinstance(value, np.generic) else str(value)


def append_line(file, values):
    """Append the dictionary `values` to a file as one line of JSON."""
    with writing(file), file.open('a', encoding='utf-8') as lines:
        lines.write(to_json(values) + '\n')


def parsed_lines(file, numbers):
    """Yield what `append_line` wrote, oldest first, without a last line that was cut.

    Raises ValueError at a line that is damaged or lacks one of `numbers`.
    """
    if not file.exists():
        return
    *lines, _ = file.read_bytes().split(b'\n')
    for number, line in enumerate(lines, 1):
        try:
            values = json.loads(line)
            missing = [name for name in numbers if type(values[name]) not in (int, float)]
        except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
            missing = f'{type(error).__name__}: {error}'
        if missing:
            raise ValueError(f'{file}, line {number}, is damaged ({missing}); restore or delete it')
        yield values


def undamaged_lines(file, numbers):
    """Return the lines of a file before the first that is damaged."""
    lines = []
    with suppress(ValueError):
        lines.extend(parsed_lines(file, numbers))
    return lines


def keep_lines(file, lines):
    """Make `lines`, dictionaries, all that a file holds, at once, unless it holds just these."""
    text = ''.join(to_json(line) + '\n' for line in lines).encode()
    if text != file.read_bytes():
        with writing(file):
            write_complete(file, text)
