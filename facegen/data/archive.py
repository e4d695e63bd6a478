"""Archives: images, unpacked flat into a folder, all or none; and single files, read into memory."""

import gzip
import lzma
import posixpath
import shutil
import stat
import tarfile
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import PurePosixPath

from facegen.data.listing import is_image
from facegen.files import complete, require_space
from facegen.screen import progress


def unpack(archive, folder, inside=''):
    """Write the images that lie in `inside` of a zip flat into `folder`; return `folder`.

    Raises ValueError, before anything is written, where any member could leave the folder or two
    have the same name; and, with nothing left behind, where the archive is damaged or encrypted.
    """
    with readable_zip(archive, folder) as zipped:
        for member in zipped.infolist():
            name = member.filename.replace('\\', '/')
            link = stat.S_ISLNK(member.external_attr >> 16)
            if link or name.startswith('/') or ':' in name or '..' in name.split('/'):
                raise ValueError(
                    f'{archive} is refused: its member {member.filename!r} is a link or points '
                    'outside; delete the archive and get it from its publisher'
                )
        members = {}
        for member in zipped.infolist():
            name = PurePosixPath(member.filename).name.lower()
            if member.filename.startswith(inside) and is_image(name):
                if name in members:
                    raise ValueError(
                        f'{archive} is refused: it has another {member.filename!r} in another '
                        'folder; unpack it by hand'
                    )
                members[name] = member
        if not members:
            raise ValueError(f'{archive} holds no images in {inside or "any folder"}')
        require_space(folder.parent, sum(member.file_size for member in members.values()))
        with complete(folder) as partial:
            partial.mkdir()
            bar = progress(members.values(), unit='image', desc=f'unpacking {archive.name}')
            for member in bar:
                # zipfile reads no more than the listed size and checks the CRC
                target = partial / PurePosixPath(member.filename).name
                with zipped.open(member) as packed, open(target, 'xb') as file:
                    shutil.copyfileobj(packed, file)
    return folder


@contextmanager
def readable_zip(archive, folder):
    """Yield an open zip; what the zipfile module raises for bad ones becomes a ValueError."""
    try:
        with zipfile.ZipFile(archive) as zipped:
            yield zipped
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError) as error:
        raise ValueError(
            f'{archive} is damaged or encrypted ({error}); get it again, or unpack its images into '
            f'{folder} by hand'
        ) from error


def member_of(archive, name):
    """Return the bytes of the file `name` in a tar, packed or not; nothing is written.

    Raises ValueError where the archive is damaged or holds no such file.
    """
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.isreg() and posixpath.normpath(member.name) == name:
                    return tar.extractfile(member).read()
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError) as error:
        reason = str(error).partition(':')[0]  # more is of many lines
        raise ValueError(f'{archive} is damaged or no tar ({reason})') from error
    raise ValueError(f'{archive} holds no {name}')
