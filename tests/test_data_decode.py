"""Image files become pixels: the crop of the exercise, own images, damaged ones, processes."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
from helpers import (
    NUM_FACES,
    caches,
    make_public_folder,
    start,
    unprivileged,
    write_face,
)
from PIL import Image

import helper
from facegen.data import cache, crop, decode
from facegen.data.sources import DATASETS

public_folder = pytest.fixture(make_public_folder, name='public_folder')


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


def test_crop_of_odd_and_of_small_images(tmp_path):
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


def test_own_images_keep_their_largest_central_square(tmp_path):
    """The middle third of a wide image is white; rotated by its EXIF note, a tall one as well."""
    pixels = np.zeros([30, 90, 3], np.uint8)
    pixels[:, 30:60] = 255
    (tmp_path / 'mine').mkdir()
    Image.fromarray(pixels).save(tmp_path / 'mine' / 'wide.png')
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it by 90 degrees
    Image.fromarray(pixels).save(tmp_path / 'mine' / 'tall.PNG', exif=exif)
    Image.fromarray(pixels[..., 0]).convert('P').save(tmp_path / 'mine' / 'palette.png')
    Image.new('RGBA', (300, 200), (255, 255, 255, 255)).save(tmp_path / 'mine' / 'alpha.png')
    dataset = helper.Dataset('folder', tmp_path / 'mine')
    assert dataset.shape == (4, 28, 28, 3)
    assert (dataset.pixels == 255).all()


@pytest.mark.parametrize('byte_order', ['<', '>'])
def test_sixteen_bits_of_grey_become_eight(tmp_path, byte_order):
    grey = np.repeat(np.array([0, 257, 30_000, 65_535], byte_order + 'u2'), 7)
    Image.fromarray(np.tile(grey, [28, 1])).save(tmp_path / 'grey.tiff')
    with pytest.warns(crop.Note):
        pixels = crop.get_square(tmp_path / 'grey.tiff', 28, 28, 'RGB')
    assert pixels[5, ::7, 2].tolist() == [0, 1, 117, 255]


@pytest.mark.parametrize('dtype', [np.int32, np.float32])
def test_thirty_two_bits_of_grey_are_skipped(tmp_path, dtype):
    write_face(tmp_path / 'face.jpg', 0)
    Image.fromarray(np.zeros([28, 28], dtype)).save(tmp_path / 'grey.tiff')
    files = [tmp_path / 'face.jpg', tmp_path / 'grey.tiff']
    ((path, reason),) = helper.Dataset('folder', files).skipped
    assert path == str(files[1])
    assert reason == '32 bits of grey, whose white is unknown: give it as white_level'


def test_truncated_image_is_left_out_named_and_counted(faces, capsys):
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
        assert 'not used, 2 of 20: 1 image file is truncated (' in output
        assert f'({truncated}); 1 empty ({empty})' in output


def test_printed_paths_are_those_given(faces, capsys, monkeypatch):
    """Wherever the cache was made: these lines end up in notebooks that are shared."""
    (faces / '000019.jpg').write_bytes(b'')
    helper.Dataset('celeba', faces)
    capsys.readouterr()
    monkeypatch.chdir(faces.parent)
    assert helper.Dataset('celeba', 'faces').skipped[0][0] == os.path.join('faces', '000019.jpg')
    monkeypatch.chdir(faces)
    write_face('000007.jpg', 99)
    helper.Dataset('celeba', '.')
    monkeypatch.setattr(cache, 'locked', fail_as_unwritable)
    helper.Dataset('celeba', '.', width=32)
    output = capsys.readouterr().out
    assert str(faces.parent) not in output
    for text in ('again: . has changed', f'of 20: 1 empty ({os.path.join(".", "000019.jpg")})'):
        assert text in output
    assert f'{os.path.join("..", "faces.cache")} cannot be written' in output
    assert len(caches(faces)) == 1


def fail_as_unwritable(folder):
    raise PermissionError(errno.EACCES, 'no', str(folder))


@pytest.mark.parametrize('number', ['EMFILE', 'EIO'])
def test_failures_of_the_system_are_not_taken_for_bad_images(faces, monkeypatch, number):
    def open_picture(path, original=Image.open):
        if path.endswith('000003.jpg'):
            raise OSError(getattr(errno, number), 'of the system')
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


def test_image_that_may_not_be_read_is_left_out(public_folder, capsys):
    faces = public_folder / 'faces'
    faces.mkdir()
    for seed in range(3):
        write_face(faces / f'{seed}.jpg', seed)
    (faces / '1.jpg').chmod(0)
    (faces / 'secret').mkdir(mode=0)
    public_folder.chmod(0o777)
    with unprivileged():
        dataset = helper.Dataset('celeba', faces)
    (faces / '1.jpg').chmod(0o644)
    assert [os.path.basename(path) for path, _ in dataset.skipped] == ['1.jpg', 'secret']
    assert 'not readable for this user: once it is, decode anew' in dataset.skipped[0][1]
    assert helper.Dataset('celeba', faces, decode_anew=True).shape[0] == 3


def test_no_picture_can_be_decoded(tmp_path):
    folder = tmp_path / 'faces'
    folder.mkdir()
    (folder / 'a.jpg').write_bytes(b'no image')
    with pytest.raises(ValueError, match=r'holds no images; not used, 1 of 1: 1 no image .*a\.jpg'):
        helper.Dataset('celeba', folder)
    assert not list(tmp_path.glob('*.cache/[!.]*'))


@pytest.fixture
def processes(monkeypatch):
    """Decode even few images, two at a time, by two processes."""
    monkeypatch.setattr(decode, 'MANY_BYTES', 1)
    monkeypatch.setattr(decode, 'AT_ONCE', 2)
    monkeypatch.setattr(decode, 'cpu_count', lambda: 2)


def read_with(monkeypatch, read):
    """Decode with a function of this module, which the processes import."""
    monkeypatch.setitem(DATASETS, 'celeba', DATASETS['celeba']._replace(read=read))


def note_and_read(path, width, height, mode):
    Path(f'{path}.{os.getpid()}').touch()
    return helper.get_image(path, width, height, mode)


def get_killed(path, width, height, mode):
    if path.endswith('000007.jpg'):
        os.kill(os.getpid(), signal.SIGKILL)
    return helper.get_image(path, width, height, mode)


def fail_as_too_many_files(path, width, height, mode):
    if path.endswith('000007.jpg'):
        raise OSError(errno.EMFILE, 'of the system')
    return helper.get_image(path, width, height, mode)


def fail_for_lack_of_memory(path, width, height, mode):
    raise MemoryError('no room')


@pytest.mark.parametrize('name', ['celeba', 'folder'])
def test_processes_decode_the_same_pixels(faces, processes, monkeypatch, name):
    (faces / '000005.jpg').write_bytes((faces / '000005.jpg').read_bytes()[:-500])
    (faces / '000019.jpg').write_bytes(b'')
    with monkeypatch.context() as patch:
        patch.setattr(decode, 'cpu_count', lambda: 1)
        alone = helper.Dataset(name, faces)
    for folder in caches(faces):
        shutil.rmtree(folder)
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
    monkeypatch.setattr(decode, 'cpu_count', lambda: 2)
    monkeypatch.setattr(decode, 'map_in_processes', None)
    monkeypatch.setattr(decode, 'MANY_BYTES', size)
    with pytest.raises(TypeError):
        helper.Dataset('celeba', faces)
    assert not decoded
    monkeypatch.setattr(decode, 'MANY_BYTES', size + 1)
    helper.Dataset('celeba', faces)
    assert len(decoded) == NUM_FACES


def test_each_process_has_something_to_decode(faces, processes, monkeypatch):
    monkeypatch.setattr(decode, 'AT_ONCE', 64)
    files = sorted(map(str, faces.iterdir()))
    read = partial(helper.get_image, width=8, height=8, mode='L')
    assert [len(part.images) for part in decode.decode_files(files, str, read)] == [3] * 6 + [2]


def test_few_images_are_decoded_ahead(faces, processes):
    """A process begins its next images when its last ones, more than a pipe holds, were taken."""
    files = sorted(map(str, faces.iterdir()))
    read = partial(note_and_read, width=512, height=512, mode='L')
    for number, part in enumerate(decode.decode_files(files, str, read), 1):
        assert part.images.shape == (2, 512, 512)
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
        assert error.value.errno == errno.EMFILE
        read_with(patch, fail_for_lack_of_memory)
        with pytest.raises(MemoryError, match='no room'):
            helper.Dataset('celeba', faces)
        patch.setattr(sys, 'executable', str(faces / 'python'))
        with pytest.raises(FileNotFoundError, match='python'):
            helper.Dataset('celeba', faces)
    assert not caches(faces)


def test_file_that_is_missing_among_many_is_named(faces, processes, monkeypatch):
    files = sorted(faces.iterdir())
    files[9].unlink()
    with pytest.raises(FileNotFoundError, match=r'000009\.jpg'):
        helper.Dataset('celeba', files)
    assert not caches(faces)


MANY = """
import sys
import helper

from facegen.data import decode

decode.MANY_BYTES = 1
decode.AT_ONCE = 8
decode.cpu_count = lambda: 2
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
        while not any(file.stat().st_size for file in cache.glob('.*.partial/pixels.u8')):
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
from facegen.data import decode

sys.path.remove(ROOT)
decode.MANY_BYTES = 1
decode.cpu_count = lambda: 2
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
