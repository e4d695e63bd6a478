"""Which files of a folder are to be decoded, and what is left out and why."""

import errno
import os
import re
import stat
from array import array
from collections import Counter
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

SUFFIXES = '.jpg', '.jpeg', '.png'  # of the published faces; images of one's own may have any
GONE = -1, -1, -1  # the state of what is not there
FOLDER = 'folder'
LEFT_BEHIND = 'left by a file manager or by version control'
BROKEN_LINK, LINK_TO_ITSELF = 'a broken link', 'a link to itself'
READ_ALREADY = 'a link to a folder that is read already'
OF_THIS_PROJECT = 'a run or a cache of this project'
SPECIAL = 'no regular file'
FORBIDDEN = 'not readable for this user'
GONE_SINCE = 'gone since it was listed'
A_FOLDER = 'a folder in a list of files'
MANAGERS = {  # besides hidden files and folders
    '__macosx', '@eadir', 'desktop.ini', 'ehthumbs.db', 'icon\r', 'lost+found', 'thumbs.db',
    '$recycle.bin', 'recycler', '#recycle', '@recycle', '#snapshot', 'system volume information',
}  # fmt: skip
REASONS_NAMED = 6  # in a line about what is not used
FILES_NAMED = 3  # of each reason, and as many endings
OF_LINKS = {errno.ENOENT: BROKEN_LINK, errno.ELOOP: LINK_TO_ITSELF}
OF_FOLDERS = {
    errno.EACCES: FORBIDDEN,
    errno.EPERM: FORBIDDEN,
    errno.ENOENT: GONE_SINCE,
    errno.ENOTDIR: GONE_SINCE,
    errno.ENAMETOOLONG: 'too deep: its path is too long',
}


class Listing(NamedTuple):
    """What there is to decode; what is `watched` changes when images do."""

    keys: list | range  # of the images, in order
    watched: list  # keys, those of folders first
    states: np.ndarray  # int64 [n, 3], of what is watched, before anything was read
    left_out: list[tuple]  # (key, reason)


def list_images(folder):
    """Return the `Listing` of all files in a folder and in its folders, whose keys are relative paths.

    Whether a file is an image, its contents decide when it is decoded. Links are followed, and each
    folder is read once, so that circles of links end.
    """
    # Arrays, since there may be millions of files, whose states would need seven times as much in tuples
    files, is_used, states = [], bytearray(), array('q')
    states_of_folders, left_out, entered = {}, [], set()
    folders, links = [''], []
    while folders or links:
        inside = folders.pop() if folders else links.pop()
        place = os.path.join(folder, inside)
        try:
            about = os.stat(place)
            identity = about.st_dev, about.st_ino
            reason = READ_ALREADY if identity in entered else reason_to_pass(place)
            found = sorted(os.listdir(place), reverse=True)
        except OSError as error:
            reason = OF_FOLDERS.get(error.errno)
            if not inside or reason is None:
                raise
        if inside and reason:
            left_out.append((inside, reason))
            continue
        entered.add(identity)
        states_of_folders[inside and inside + os.sep] = state_of(about)
        for last in found:
            name = os.path.join(inside, last)
            path = os.path.join(place, last)
            kind, reason = kind_of(path)
            if kind is FOLDER:
                (links if os.path.islink(path) else folders).append(name)
                continue
            if reason:
                left_out.append((name, reason))
            if reason is not LEFT_BEHIND:
                files.append(name)
                is_used.append(not reason)
                states.extend(kind)
    order = sorted(range(len(files)), key=lambda i: parts(files[i]))
    watched = sorted(states_of_folders, key=parts)
    states_of_files = np.array(states, np.int64).reshape(-1, len(GONE))[order]
    states = np.concatenate([[states_of_folders[name] for name in watched], states_of_files])
    watched += [files[i] for i in order]
    keys = [files[i] for i in order if is_used[i]]
    return Listing(keys, watched, states, sorted(left_out, key=lambda pair: parts(pair[0])))


def kind_of(path):
    """Return (FOLDER or the state, None or why it is left out) of what a folder holds."""
    if is_left_behind(os.path.basename(path)):
        return GONE, LEFT_BEHIND
    try:
        about = os.stat(path)
    except OSError as error:
        if isinstance(error, PermissionError):
            return GONE, FORBIDDEN
        if isinstance(error, FileNotFoundError) and not os.path.islink(path):
            return GONE, GONE_SINCE
        if not os.path.islink(path):
            raise
        return GONE, OF_LINKS.get(error.errno, f'a link that leads nowhere ({error.strerror})')
    if stat.S_ISDIR(about.st_mode):
        return FOLDER, None
    return state_of(about), None if stat.S_ISREG(about.st_mode) else SPECIAL


def parts(name):
    """Return what relative paths are sorted by: part by part, since no name has a letter before \\0."""
    return name.replace(os.sep, '\0')


def reason_to_pass(folder):
    """Return why a folder is left out, or None."""
    inside = partial(os.path.join, folder)
    is_run = os.path.isfile(inside('config.json')) and os.path.isdir(inside('checkpoints'))
    is_cache = folder.endswith('.cache') and any(Path(folder).glob('*/pixels.u8'))
    return OF_THIS_PROJECT if is_run or is_cache else None


def summary_of(left_out, count):
    """Return one line that says what is not used, and why, of `count` files; `left_out` are (path, reason)."""
    groups = {}
    for path, reason in left_out:
        groups.setdefault(re.sub(r'\d+', '#', reason), []).append((path, reason))
    groups = sorted(groups.values(), key=len, reverse=True)
    texts = [
        f'{len(group):,} {group[0][1]} ({examples_of(group)})' for group in groups[:REASONS_NAMED]
    ]
    more = sum(map(len, groups[REASONS_NAMED:]))
    texts += [f'{more:,} for other reasons'] if more else []
    return f'not used, {len(left_out):,} of {count:,}: {"; ".join(texts)}'


def examples_of(group):
    """Return the endings of more than a few files, and some of their paths."""
    paths = [printable(path) for path, _ in group]
    named = ', '.join(paths[:FILES_NAMED])
    if len(paths) <= FILES_NAMED:
        return named
    endings = Counter(os.path.splitext(path)[1].lower() or 'no ending' for path in paths)
    return f'{", ".join(ending for ending, _ in endings.most_common(FILES_NAMED))}: {named}, ...'


def printable(path):
    """Return a path on one line, with what cannot be printed, such as a line break, as in Python's code."""
    escaped = (c if c.isprintable() else ascii(c)[1:-1] for c in path)
    return ''.join(escaped)


def is_folder(key):
    """Tell whether a watched key is that of a folder."""
    return isinstance(key, str) and (not key or key.endswith(os.sep))


def is_left_behind(name):
    """Tell whether a file or a folder has a name that users do not give."""
    return name.startswith('.') or name.lower() in MANAGERS


def state_of(about):
    """Return what differs after a change, of an `os.stat`.

    Its second time changes even where a program sets the first one back, as some that edit EXIF do.
    """
    return about.st_mtime_ns, about.st_ctime_ns, about.st_size


def list_files(paths):
    """Return the `Listing` of a list of files, whose keys are their positions."""
    keys, states, left_out = [], [], []
    for key, path in enumerate(paths):
        states.append(GONE)
        try:
            about = os.stat(path)
        except OSError as error:
            if not os.path.islink(path) or error.errno not in OF_LINKS:
                raise
            left_out.append((key, OF_LINKS[error.errno]))
            continue
        states[-1] = state_of(about)
        if stat.S_ISREG(about.st_mode):
            keys.append(key)
        else:
            left_out.append((key, A_FOLDER if stat.S_ISDIR(about.st_mode) else SPECIAL))
    return Listing(keys, list(range(len(states))), np.array(states, np.int64), left_out)


def current_state(path):
    """Return the `state_of` a path now, GONE where there is none."""
    try:
        return state_of(os.stat(path))
    except (OSError, ValueError):  # the latter for a name that no file can have
        return GONE


# The published faces, known by their names ----------------------------------------------------------


def is_image(path):
    """Return whether `path` is named like an image, which a system's `._name.jpg` is not."""
    name = os.path.basename(path).lower()
    return name.endswith(SUFFIXES) and not name.startswith('.')


def image_names(folder):
    """Return the sorted names of the images in `folder`; none where there is no such folder."""
    if os.path.isfile(folder):
        raise NotADirectoryError(f'{folder} is a file; expected a folder: move it away')
    if not os.path.isdir(folder):
        return []
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if is_image(entry.name) and entry.is_file())
