"""Folders of any legal name: what is trained there goes on, is drawn, scored and exported."""

import shutil

import numpy as np
import pytest
import trainer
from trainer import draw_with_plain_tensorflow

from facegen import sampling
from facegen.cli import main
from facegen.export import save_model
from facegen.files import is_pattern
from facegen.run import RunFolder

NAMES = [
    'lr=[1e-3]', 'a*b', 'a?b', 'back\\slash', '[', '{a,b}', 'new\nline', '-x', '#1 %d', "quote'\"",
    'spaß ☺', ' blank ', 'a' * 200,
]  # fmt: skip


@pytest.fixture(scope='module')
def plain(tiny_pictures, tmp_path_factory):
    """A whole training in a folder of a plain name."""
    from facegen import notebook

    return train(notebook.definitions(), tiny_pictures, tmp_path_factory.mktemp('plain') / 'run')


def train(notebook, images, run_dir, **options):
    recipe = trainer.tiny_recipe(rate_decay=False)  # so that a limit may change
    return trainer.train(notebook, images, recipe=recipe, epochs=2, run_dir=run_dir, **options)


@pytest.mark.parametrize('name', NAMES)
def test_runs_in_a_folder_of_any_name(notebook, tiny_pictures, tmp_path, plain, name, capsys):
    house = tmp_path / name
    house.mkdir()
    shutil.copytree(tiny_pictures, house / 'images')
    train(notebook, house / 'images', house / 'run', max_steps=4)
    run_dir = train(notebook, house / 'images', house / 'run', resume=True)
    assert 'continued from step 4' in capsys.readouterr().out
    for weights in 'last', 'best':
        expected = sampling.generate(RunFolder(plain), 4, 0, weights=weights)
        images = sampling.generate(RunFolder(run_dir), 4, 0, weights=weights)
        np.testing.assert_array_equal(images, expected)
    out = house / 'images.npy'
    assert main(['generate', str(run_dir), '--count', '4', '--out', str(out)]) == 0
    assert np.load(out).shape == (4, 8, 8, 3)
    assert main(['generate', str(run_dir), '--out', str(house / 'images.gif')]) == 0


@pytest.mark.parametrize('name', NAMES)
def test_what_is_exported_can_be_loaded_or_is_refused(tmp_path, plain, name, capsys):
    folder, z = tmp_path / name / 'model', sampling.latents(0, 4, 8)
    folder.parent.mkdir()
    if is_pattern(folder):
        assert main(['export', str(plain), '--out', str(folder)]) == 2
        assert 'could not load' in capsys.readouterr().err
        assert not list(folder.parent.iterdir())
        save_model(folder, RunFolder(plain))  # what would come of it
        with pytest.raises(ValueError, match='not a valid checkpoint'):
            draw_with_plain_tensorflow(folder, z)
    else:
        assert main(['export', str(plain), '--out', str(folder)]) == 0
        expected = sampling.generate(RunFolder(plain), 4, 0)
        np.testing.assert_array_equal(draw_with_plain_tensorflow(folder, z), expected)


def test_a_name_that_is_no_text_is_refused_before_the_first_step(notebook, tiny_pictures, tmp_path):
    house = tmp_path / 'a\udcff'
    house.mkdir()
    with pytest.raises(ValueError, match='another run folder'):
        train(notebook, tiny_pictures, house / 'run')
    assert not list(house.iterdir())
