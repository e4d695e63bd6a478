"""Which files of a folder are read, in which order, and what is said about the others."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import make_public_folder, unprivileged, write_face
from PIL import Image

import helper
from facegen.data import dataset, listing
from facegen.data.listing import list_images

public_folder = pytest.fixture(make_public_folder, name='public_folder')


def write_colour(path, level, **options):
    """Write a plain image whose red tells it apart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (16, 16), (level, 0, 0)).save(path, **options)
    return path


def reds(dataset):
    """Return which images a data set holds, in order."""
    return dataset.pixels[:, 14, 14, 0].tolist()


@pytest.fixture
def folder(tmp_path):
    """A folder with one image."""
    write_colour(tmp_path / 'mine' / 'a.png', 10)
    return tmp_path / 'mine'


def test_images_are_known_by_their_contents(folder):
    """Lossy ones are so up to a few levels."""
    kinds = ['PNG', 'BMP', 'GIF', 'TIFF', 'WEBP', 'JPEG', 'PPM', 'TGA', 'ICO']
    kinds += ['AVIF'] if 'AVIF' in Image.SAVE else []  # since Pillow 11.3
    Image.init()
    for number, kind in enumerate(kinds):
        write_colour(folder / f'b{number}', 20 * number, format=kind)
    write_colour(folder / 'c.jfif', 205, format='JPEG')
    write_colour(folder / 'd.jpg', 220, format='PNG')  # named like another format
    dataset = helper.Dataset('folder', folder)
    expected = [10, *range(0, 20 * len(kinds), 20), 205, 220]
    assert np.abs(np.array(reds(dataset)) - expected).max() < 4
    assert not dataset.skipped


def test_folders_are_read_too_in_a_stable_order(tmp_path):
    names = [
        '1.png',
        'B/1.png',
        'a.png',
        'a/2.png',
        'a/b/1.png',
        'a/b/10.png',
        'a/b/9.png',
        'z/1.png',
    ]
    for number in np.random.default_rng(0).permutation(len(names)):
        write_colour(tmp_path / 'mine' / names[number], int(number))
    assert reds(helper.Dataset('folder', tmp_path / 'mine')) == [0, 1, 3, 4, 5, 6, 2, 7]


def test_doubled_folder(tmp_path):
    """As in archives of Kaggle."""
    write_colour(tmp_path / 'faces' / 'faces' / '1.png', 7)
    assert reds(helper.Dataset('folder', tmp_path / 'faces')) == [7]


HEIC = b'\0\0\0\x18ftypheic\0\0\0\0mif1heic' + bytes(99)
POINTER = b'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n'


@pytest.mark.parametrize(
    ('name', 'content', 'reason'),
    [
        ('a.heic', HEIC, 'HEIC, which needs to be converted to JPEG or PNG'),
        ('named-otherwise.jpg', HEIC, 'HEIC, which needs to be converted to JPEG or PNG'),
        ('b.jpg', POINTER, 'a pointer of Git LFS, which "git lfs pull" replaces by the image'),
        ('c.jpg', b'\n<!DOCTYPE html>\n<p>404', 'a page of HTML, as from a failed download'),
        ('labels.csv', b'name,age\n', 'no image'),
        ('readme', b'These are faces.', 'no image'),
        ('d.jpg', b'', 'empty'),
        ('._e.jpg', b'\0\x05\x16\x07\0\x02', 'left by a file manager or by version control'),
        ('restored_e.jpg', b'\0\x05\x16\x07\0\x02', 'left by a file manager or by version control'),
        ('.DS_Store', b'Bud1', 'left by a file manager or by version control'),
        ('Thumbs.db', b'\xd0\xcf\x11\xe0', 'left by a file manager or by version control'),
        ('desktop.ini', b'[.ShellClassInfo]', 'left by a file manager or by version control'),
        ('.git/x.png', b'in a hidden folder', 'left by a file manager or by version control'),
        ('__MACOSX/x.png', b'in a folder', 'left by a file manager or by version control'),
    ],
)
def test_what_is_not_used_is_said(folder, capsys, name, content, reason):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    top = str(folder / Path(name).parts[0])
    for _ in range(2):  # decoded, then from the cache
        dataset = helper.Dataset('folder', folder)
        assert reds(dataset) == [10]
        assert dataset.skipped == [(top, reason)]
        assert capsys.readouterr().out == f'not used, 1 of 2: 1 {reason} ({top})\n'


def test_many_are_told_by_their_endings(folder, capsys):
    for number in range(9):
        (folder / f'{number}.txt').write_text('a label')
        (folder / f'{number}.heic').write_bytes(HEIC)
    (folder / 'README').write_text('read me')
    (folder / 'x.bin').write_bytes(b'')
    helper.Dataset('folder', folder)
    assert capsys.readouterr().out == (
        f'not used, 20 of 21: 10 no image (.txt, no ending: {folder}/0.txt, {folder}/1.txt, '
        f'{folder}/2.txt, ...); 9 HEIC, which needs to be converted to JPEG or PNG (.heic: '
        f'{folder}/0.heic, {folder}/1.heic, {folder}/2.heic, ...); 1 empty ({folder}/x.bin)\n'
    )


def test_links(folder, tmp_path):
    """Followed, to files and to folders; circles and broken ones are named."""
    write_colour(tmp_path / 'elsewhere' / '1.png', 20)
    (folder / 'b.png').symlink_to('a.png')
    (folder / 'c').symlink_to(tmp_path / 'elsewhere')
    (folder / 'd').symlink_to(tmp_path / 'elsewhere')
    (folder / 'broken.jpg').symlink_to('nowhere.jpg')
    (folder / 'itself.jpg').symlink_to('itself.jpg')
    (folder / 'one.jpg').symlink_to('two.jpg')
    (folder / 'two.jpg').symlink_to('one.jpg')
    (folder / 'loop').symlink_to(folder)
    os.mkfifo(folder / 'pipe.jpg')
    dataset = helper.Dataset('folder', folder)
    assert reds(dataset) == [10, 10, 20]
    assert {os.path.basename(path): reason for path, reason in dataset.skipped} == {
        'broken.jpg': 'a broken link',
        'd': 'a link to a folder that is read already',
        'itself.jpg': 'a link to itself',
        'loop': 'a link to a folder that is read already',
        'one.jpg': 'a link to itself',
        'pipe.jpg': 'no regular file',
        'two.jpg': 'a link to itself',
    }


def test_link_that_is_mended_is_noticed(folder, tmp_path):
    (folder / 'b.png').symlink_to(tmp_path / 'later.png')
    assert reds(helper.Dataset('folder', folder)) == [10]
    write_colour(tmp_path / 'later.png', 20)
    assert reds(helper.Dataset('folder', folder)) == [10, 20]


def test_runs_and_caches_among_the_images(folder):
    """Such as a training run in the folder of its own images leaves."""
    write_colour(folder / 'runs' / 'mine' / 'samples' / 'step_000000.png', 50)
    (folder / 'runs' / 'mine' / 'checkpoints').mkdir()
    (folder / 'runs' / 'mine' / 'config.json').write_text('{}')
    write_colour(folder / 'more' / '1.png', 20)
    helper.Dataset('folder', folder / 'more')
    dataset = helper.Dataset('folder', folder)
    assert reds(dataset) == [10, 20]
    assert dataset.skipped == [
        (str(folder / name), 'a run or a cache of this project')
        for name in ('more.cache', 'runs/mine')
    ]


def test_folder_without_images_says_what_it_holds(tmp_path):
    for names, text in (
        ([], 'mine holds no images; choose another folder'),
        (['.DS_Store'], 'mine holds no images; not used, 1 of 1: 1 left by a file manager'),
        (['notes.txt', 'x.heic'], r'holds no images; not used, 3 of 3: 2 no image .*notes\.txt'),
    ):
        (tmp_path / 'mine').mkdir(exist_ok=True)
        for name in names:
            (tmp_path / 'mine' / name).write_text('some text')
        with pytest.raises(ValueError, match=text):
            helper.Dataset('folder', tmp_path / 'mine')


def test_only_images_that_change_are_watched(faces):
    (faces / '.DS_Store').write_bytes(b'of macOS')
    found = list_images(faces)
    assert found.keys == sorted(path.name for path in faces.glob('*.jpg'))
    assert found.watched == ['', *found.keys]
    assert found.states.shape == (len(found.watched), 3)


def test_image_that_goes_while_they_are_read(folder, monkeypatch):
    """Before it is looked at, and before it is decoded."""
    for name in 'b', 'c':
        write_colour(folder / f'{name}.png', 20)

    def lose(name):
        (folder / f'{name}.png').unlink()

    def kind_of(path, original=listing.kind_of):
        if path.endswith('b.png'):
            lose('b')
        return original(path)

    def decode_files(*arguments, original=dataset.decode_files, **options):
        lose('c')
        return original(*arguments, **options)

    monkeypatch.setattr(listing, 'kind_of', kind_of)
    monkeypatch.setattr(dataset, 'decode_files', decode_files)
    images = helper.Dataset('folder', folder)
    assert reds(images) == [10]
    assert images.skipped == [
        (str(folder / f'{name}.png'), 'gone since it was listed') for name in 'bc'
    ]


def test_list_with_what_is_no_file(folder, tmp_path):
    """As from glob('*'), which also gives folders; what is not there is an error."""
    (folder / 'more').mkdir()
    (folder / 'broken').symlink_to('nowhere')
    os.mkfifo(folder / 'pipe')
    images = helper.Dataset('folder', sorted(map(str, folder.iterdir())))
    assert reds(images) == [10]
    assert {os.path.basename(path): reason for path, reason in images.skipped} == {
        'broken': 'a broken link', 'more': 'a folder in a list of files', 'pipe': 'no regular file',
    }  # fmt: skip
    with pytest.raises(FileNotFoundError, match=r'nowhere\.png'):
        helper.Dataset('folder', [folder / 'a.png', folder / 'nowhere.png'])


def test_names_that_are_no_text_stay_on_their_line(folder, capsys):
    (folder / 'bad\nnot used, 9 of 9:\x1b[31m.jpg').write_text('no image')
    with open(os.fsencode(folder) + b'/\xff.jpg', 'w') as file:
        file.write('no image')
    helper.Dataset('folder', folder)
    (line,) = capsys.readouterr().out.splitlines()
    assert r'bad\nnot used, 9 of 9:\x1b[31m.jpg' in line
    assert r'\udcff.jpg' in line


def test_letters_that_stdout_lacks(tmp_path):
    write_colour(tmp_path / 'mine' / 'a.png', 10)
    (tmp_path / 'mine' / '\u6f22.jpg').write_text('no image')
    environment = {
        **os.environ,
        'PYTHONPATH': os.pathsep.join(sys.path),
        'PYTHONIOENCODING': 'ascii',
    }
    script = "import sys, helper; helper.Dataset('folder', sys.argv[1], width=9)"
    done = subprocess.run(
        [sys.executable, '-c', script, tmp_path / 'mine'],
        env=environment,
        capture_output=True,
        check=True,
    )
    assert rb'mine/\u6f22.jpg' in done.stdout


def test_name_that_leaves_no_room_for_a_cache(tmp_path, capsys):
    write_colour(tmp_path / ('x' * 252) / 'a.png', 10)
    assert reds(helper.Dataset('folder', tmp_path / ('x' * 252))) == [10]
    assert 'decoded images are kept in a temporary file for this run' in capsys.readouterr().out


def test_folder_that_may_not_be_read(public_folder):
    (public_folder / 'mine').mkdir(mode=0)
    with unprivileged(), pytest.raises(PermissionError, match='mine'):
        helper.Dataset('folder', public_folder / 'mine')


def test_celeba_is_read_likewise(tmp_path):
    """A folder of it may be nested too."""
    (tmp_path / 'img_align_celeba' / 'img_align_celeba').mkdir(parents=True)
    write_face(tmp_path / 'img_align_celeba' / 'img_align_celeba' / '000001.jpg', 0)
    dataset = helper.Dataset('celeba', tmp_path / 'img_align_celeba')
    assert dataset.shape == (1, 28, 28, 3)
