"""Every recipe at every size trains on real faces, goes on to the bit, draws and is exported."""

import functools
from dataclasses import replace

import numpy as np
import pytest

import helper
from facegen import export, notebook
from facegen.recipes import AUGMENTATIONS, RECIPES, recipe_named
from facegen.run import RunFolder
from facegen.sampling import generate

BATCH = 4  # images, that steps of the largest networks are quick
SIZES = 28, 32, 64, 128


@functools.cache
def real_faces(folder, side):
    """Return sixteen real faces of that size."""
    files = sorted(folder.glob('*.jpg'))[:16]
    return helper.Dataset('celeba', files, width=side, height=side)


def recipe_of(name, side):
    """Return a recipe by its name; 'residual' is that of faces with the other networks."""
    if name == 'residual':
        return replace(recipe_named('faces', side), network='residual')
    return recipe_named(name, side)


def train(dataset, recipe, folder, **options):
    """Train with a grid at the start, and at the end only."""
    return RunFolder(
        notebook.definitions().train(
            None, BATCH, recipe.z_dim, recipe.learning_rate, recipe.beta1, dataset.get_batches,
            dataset.shape, 'RGB', recipe=recipe, show_every=100, show_n_images=4, run_dir=folder,
            **options,
        )
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize('side', SIZES)
@pytest.mark.parametrize('name', [*RECIPES, 'residual'])
def test_each_recipe_at_each_size(name, side, sample_data, tmp_path, stop_at, capsys):
    dataset = real_faces(sample_data / 'celeba_sample', side)
    recipe = replace(recipe_of(name, side), augmentations=AUGMENTATIONS)
    whole = train(dataset, recipe, tmp_path / 'whole', max_steps=2)
    stop_at(1)
    train(dataset, recipe, tmp_path / 'parts', max_steps=2)
    parts = train(dataset, recipe, tmp_path / 'parts', max_steps=2, resume=True)
    assert 'stopped after step 1' in capsys.readouterr().out
    assert parts.saved_step() == 2
    first, second = ((run.path / 'log.jsonl').read_text() for run in (whole, parts))
    assert first == second
    images = generate(whole, 4, seed=1)
    assert images.shape == (4, side, side, 3)
    np.testing.assert_array_equal(generate(parts, 4, seed=1), images)
    words = export.save_model(tmp_path / 'exported', whole, 'last')
    assert words.endswith(f'to uint8 images [n, {side}, {side}, 3]')
