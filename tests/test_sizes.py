"""Every recipe at every size trains on real faces or digits, goes on to the bit, and draws, exported too."""

import functools
from dataclasses import replace

import numpy as np
import pytest
from trainer import draw_with_plain_tensorflow

import helper
from facegen import export, notebook
from facegen.recipes import AUGMENTATIONS, RECIPES, recipe_named
from facegen.run import RunFolder
from facegen.sampling import generate, latents

BATCH = 4  # images, that steps of the largest networks are quick
SIZES = 28, 32, 64, 128


@functools.cache
def real_images(name, data, side):
    """Return sixteen real faces of that size, or for 'grey' all digits of the sample."""
    if name == 'grey':
        return helper.Dataset('mnist', data_path=data, data='sample', width=side, height=side)
    files = sorted((data / 'celeba_sample').glob('*.jpg'))[:16]
    return helper.Dataset('celeba', files, width=side, height=side)


def recipe_of(name, side):
    """Return a recipe by its name; 'grey' is that of digits, 'residual' that of faces with all else."""
    if name == 'residual':
        faces = recipe_named('faces', side)
        return replace(faces, network='residual', augmentations=AUGMENTATIONS)
    return recipe_named('digits' if name == 'grey' else name, side)


def train(dataset, recipe, folder, **options):
    """Train with a grid at the start, and at the end only."""
    return RunFolder(
        notebook.definitions().train(
            None, BATCH, recipe.z_dim, recipe.learning_rate, recipe.beta1, dataset.get_batches,
            dataset.shape, dataset.image_mode, recipe=recipe, show_every=100, show_n_images=4, run_dir=folder,
            **options,
        )
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize('side', SIZES)
@pytest.mark.parametrize('name', [*RECIPES, 'grey', 'residual'])
def test_each_recipe_at_each_size(name, side, sample_data, tmp_path, stop_at, capsys):
    dataset, recipe = real_images(name, sample_data, side), recipe_of(name, side)
    whole = train(dataset, recipe, tmp_path / 'whole', max_steps=2)
    stop_at(1)
    train(dataset, recipe, tmp_path / 'parts', max_steps=2)
    parts = train(dataset, recipe, tmp_path / 'parts', max_steps=2, resume=True)
    assert 'stopped after step 1' in capsys.readouterr().out
    assert parts.saved_step() == 2
    first, second = ((run.path / 'log.jsonl').read_text() for run in (whole, parts))
    assert first == second
    images = generate(whole, 4, seed=1)
    channels = dataset.shape[-1]
    assert images.shape == (4, side, side, channels)
    np.testing.assert_array_equal(generate(parts, 4, seed=1), images)
    words = export.save_model(tmp_path / 'exported', whole, 'last')
    assert words.endswith(f'to uint8 images [n, {side}, {side}, {channels}]')
    drawn = draw_with_plain_tensorflow(tmp_path / 'exported', latents(1, 4, recipe.z_dim))
    np.testing.assert_array_equal(drawn, images)
