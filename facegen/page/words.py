"""What a page says of a run, and what its controls need to know of the generator."""

from dataclasses import asdict

import numpy as np

from facegen.digits import CLASSES, digit_features
from facegen.directions import directions_of
from facegen.explore import DIRECTIONS, REACH
from facegen.images import are_digits
from facegen.latent_figures import kept_numbers
from facegen.recipes import RECIPES, recipe_named
from facegen.sampling import latents
from facegen.screen import say

LARGE = 64  # pixels of images of which a page shows few at first, and many of smaller ones
FEW, MANY = 9, 25
TRIED = 50  # images of a category, from which its digit is seen
SURE = 0.9  # share of them that show one digit
MOST_CHANGES = 3  # settings in which a recipe may differ from one with a name and still go by it
DRAWN = 'a neural network draws each of them from random numbers, here in your browser.'
TITLES = {'digits': 'Generated digits', 'faces': 'Generated faces', 'images': 'Generated images'}
LEADS = {
    'digits': f'Nobody wrote these digits: {DRAWN}',
    'faces': f'These faces belong to nobody: {DRAWN}',
    'images': f'Nobody made these images: {DRAWN}',
}
LICENCES = {
    'digits': 'MNIST, or images in its format. MNIST is under the licence CC BY-SA 3.0.',
    'faces': 'CelebA, which is for non-commercial research only. Its licence forbids commercial use, also of '
    'what is derived from it, as these images are.',
    'images': 'Images of the author of this page, who can tell their licence.',
}


def words_of(run, generator, weights):
    """Return what the page of a `sampling.Sampler` of a run says and offers, for JSON.

    Raises ValueError if the run's configuration or scores are damaged.
    """
    recipe = run.recipe()
    height, width, channels = generator.samples.shape.as_list()[1:]
    kind, kept = kind_of(run), kept_numbers(recipe, generator.z_dim)
    return {
        'title': TITLES[kind],
        'lead': LEADS[kind],
        'facts': facts(run, run.saved_step(weights), kind),
        'zDim': int(generator.z_dim),
        'shape': [height, width, channels],
        'count': FEW if height >= LARGE else MANY,
        'kept': kept,
        'categories': recipe.z_categories,
        'classesName': 'Digit' if kind == 'digits' else 'Kind',
        'classes': classes_of(generator, recipe.z_categories, kind),
        'directions': directions(generator, kept),
        'reach': REACH,
    }


def kind_of(run):
    """Return 'faces' for a run on CelebA, 'digits' for one whose scores are those of digits, or 'images'."""
    data = run.config().get('data')
    if isinstance(data, dict) and 'crop' in data:  # which only CelebA has
        return 'faces'
    return 'digits' if any('class_histogram' in line for line in run.scores()) else 'images'


def facts(run, step, kind):
    """Return [(name, text)] of the weights of a run at a step."""
    config = run.config()
    try:
        count, height, width, _ = config['data_shape']
        training = f'{step:,} steps on {count:,} images of {height}x{width} pixels'
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f'{run.path} has a damaged config.json ({error!r})') from error
    scores = next((line for line in run.scores() if line['step'] == step), None)
    return [
        ('Trained on', LICENCES[kind]),
        ('Training', training),
        ('Recipe', recipe_text(run.recipe())),
        *([('Scores', scores_text(scores))] if scores else []),
        ('Run', run.path.resolve().name),
        (
            'This page',
            'Holds the generator itself and needs no network: nothing is fetched or sent. The images of a '
            'seed are those of the command "facegen generate --seed", to within 1 of 255 levels.',
        ),
    ]


def recipe_text(recipe):
    """Return the name of a recipe, and the few settings in which it differs from the one of that name."""
    settings = asdict(recipe)
    others = {
        name: {
            setting: settings[setting]
            for setting, value in asdict(recipe_named(name, recipe.image_size)).items()
            if value != settings[setting]
        }
        for name in RECIPES
    }
    name, changes = min(others.items(), key=lambda item: len(item[1]))
    if len(changes) > MOST_CHANGES:
        return 'settings of its own'
    return ', '.join([name, *(f'{setting} {value}' for setting, value in changes.items())])


def scores_text(scores):
    """Return a line of `RunFolder.scores` in words."""
    text = f'Fréchet distance {scores["frechet_distance"]:.2f}, lower is better'
    if 'confident_share' in scores:
        text += f'; a classifier is confident about {scores["confident_share"]:.0%} of the digits'
    return text + (f' ({scores["n"]:,} images)' if 'n' in scores else '')


def directions(generator, kept):
    """Return the first principal directions, a list of numbers each; none, said, where there are none."""
    try:
        return directions_of(generator, DIRECTIONS, kept=kept).T.round(6).tolist()
    except ValueError as error:
        say(f'no sliders for directions: {error}')
        return []


def classes_of(generator, categories, kind):
    """Return the choices of images by category: [{'name', 'categories'}], none without categories.

    Of digits, a choice is a digit, and its categories are those whose images a classifier takes for it: nearly
    all of them, or else more than of any other category.
    """
    if kind != 'digits' or not are_digits([1, *generator.samples.shape.as_list()[1:]]):
        return [{'name': str(k + 1), 'categories': [k]} for k in range(categories)]
    shares = np.array([digit_shares(generator, k, categories) for k in range(categories)])
    choices = []
    for digit in range(CLASSES if categories else 0):
        sure = np.flatnonzero(shares[:, digit] >= SURE).tolist()
        if shares[:, digit].max() >= 0.5:
            chosen = sure or [int(shares[:, digit].argmax())]
            choices.append({'name': str(digit), 'categories': chosen})
    return choices


def digit_shares(generator, category, categories):
    """Return the share of each digit in images of a category, as a classifier sees them, [10]."""
    z = latents(0, TRIED, generator.z_dim)
    rows, largest = np.arange(TRIED), z[:, :categories].argmax(axis=1)
    z[rows, largest], z[rows, category] = z[rows, category], z[rows, largest]
    _, probabilities = digit_features(generator(z))
    return np.bincount(probabilities.argmax(axis=1), minlength=CLASSES) / TRIED
