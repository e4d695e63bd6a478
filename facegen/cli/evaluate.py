"""`evaluate`: say in numbers how good generated images are."""

import argparse
import sys
from contextlib import redirect_stdout

from facegen.cli.options import (
    add_dataset_options,
    add_weights_option,
    kind_of,
    open_dataset,
    path,
    whole_number,
)

HELP = 'say in numbers how good generated images are'
DESCRIPTION = (
    'Print one JSON object: what generated images score, and, under "real", what as '
    'many real ones do. facegen/evaluation.py says what each number means. With --features inception, '
    'frechet_distance is the FID that papers report; it needs the network that they use, '
    'inception-2015-12-05.tgz or the classify_image_graph_def.pb in it, in --data-dir or its '
    'inception/, and downloads it (89 MB) where it is in neither.'
)


def add_options(parser):
    """Add the options of this verb to its parser."""
    parser.add_argument(
        'source',
        metavar='RUN|FILE.npy|FOLDER',
        type=path,
        help='the folder of a training run; or images: uint8 [count, height, width, channels], or a '
        'folder of them, such as generate writes',
    )
    add_dataset_options(
        parser,
        'the real images: mnist, celeba, a folder or an IDX file (default: mnist for images of one '
        'channel)',
        crop_default='for a run that of its training, or 108 if it does not say; else as of train',
        required=False,
    )
    parser.add_argument(
        '--count',
        type=whole_number(1),
        default=argparse.SUPPRESS,
        help='number of images (default: for a run 10,000 digits or 2,000 others, or 10,000 with '
        '--features inception; for a file all)',
    )
    parser.add_argument(
        '--features',
        choices=['own', 'inception'],
        default='own',
        help='what images are compared by; own: quick, made for small digits and faces; inception: '
        'those of the FID that papers report, for images of any size',
    )
    parser.add_argument(
        '--seed', type=whole_number(0), default=0, help='of the latents and of subsets'
    )
    add_weights_option(parser)


def run(arguments):
    """Print the scores of generated images, and of real ones, as one JSON object on one line."""
    import json  # here, so that --help is not slower for it

    with redirect_stdout(sys.stderr):
        scores = scores_of(arguments)
    print(json.dumps(scores, allow_nan=False))


def scores_of(arguments):
    """Return what `run` prints."""
    from facegen import evaluation
    from facegen.data.crop import BACKGROUND, FACE_SIZE
    from facegen.data.dataset import reading_options
    from facegen.data.sources import DATASETS
    from facegen.run import RunFolder, flattened

    source = arguments.source
    if not source.exists():
        raise FileNotFoundError(f'there is no run folder, no file and no folder {source}')
    is_run = (source / 'config.json').is_file()
    if not is_run:
        reading = arguments.background, vars(arguments).get('white_level')
        reading_options('folder', *reading, crop=None)  # which says what is wrong with them
        images = images_of_folder(source, *reading) if source.is_dir() else images_in(source)
        count = getattr(arguments, 'count', len(images))
        if count > len(images):
            raise ValueError(f'--count is {count}, but {source} holds {len(images)}; choose fewer')
        images = images[:count]
        shape, about = images.shape, {}
    else:
        run, images = RunFolder(source), None
        shape = run.config().get('data_shape')
        if not isinstance(shape, list) or len(shape) != 4:
            raise ValueError(f'{run.path} has a damaged config.json (data_shape is {shape!r})')
        about = {'weights': arguments.weights, 'step': run.saved_step(arguments.weights)}
    if 'dataset' not in arguments:
        if shape[-1] != 1:
            raise ValueError(
                f'--dataset is missing: {source} does not say which real images its own are '
                'like; give celeba or a folder'
            )
        print('compared with the digits of mnist; --dataset names other real images')
        arguments.dataset = 'mnist'
    name = kind_of(arguments.dataset)
    if is_run and name == 'celeba' and 'crop' not in arguments:
        arguments.crop = flattened(run.config()).get('data.crop', FACE_SIZE)
    _, height, width, _ = shape
    if name != 'folder' and not is_run and source.is_dir():  # these were for the generated images
        arguments.background = BACKGROUND
        vars(arguments).pop('white_level', None)
    dataset = open_dataset(arguments, name, width, height)
    real = dataset.pixels
    if dataset.crop:  # scores of other crops are others
        about['crop'] = dataset.crop
    uses_inception = arguments.features == 'inception'
    evaluation.check_shapes(shape, 'folder' if uses_inception else name, real.shape)
    if uses_inception:
        from facegen import inception

        graph = inception.fetched(inception.NETWORK, arguments.data_dir)
    if images is None:
        from facegen.sampling import generate

        usual = evaluation.PAPER_IMAGES if uses_inception else DATASETS[name].images_scored
        count = getattr(arguments, 'count', usual)
        images = generate(run, count, arguments.seed, weights=arguments.weights)
    if uses_inception:
        with inception.opened(graph) as features:
            scores = evaluation.inception_scores(images, name, real, features, seed=arguments.seed)
        return {'source': str(source), **about, **scores}
    scores = evaluation.evaluate(images, name, real, seed=arguments.seed)
    return {
        'source': str(source),
        **about,
        **scores,
        'warnings': evaluation.warnings_of(scores),
        'real': evaluation.real_scores(name, real, len(images), seed=arguments.seed),
    }


def images_in(file):
    """Return the images of an .npy file, uint8 [n, h, w, c], as a memory map."""
    import numpy as np

    from facegen.files import UNSUPPORTED, say_without_maps

    expected = 'expected uint8 [count, height, width, 1 or 3], as generate --out FILE.npy writes it'
    try:
        # Unlike np.load, it never unpickles, and takes no other format
        images = np.lib.format.open_memmap(file, mode='r')
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        say_without_maps(error.strerror, file.stat().st_size)
        with file.open('rb') as opened:
            images = np.lib.format.read_array(opened, allow_pickle=False)
    except ValueError as error:
        raise ValueError(f'{file} cannot be read ({error}); {expected}') from error
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(f'{file} holds {images.dtype} {list(images.shape)}; {expected}')
    return images


def images_of_folder(folder, background, white_level):
    """Return the images of a folder, all of one size, as uint8 [n, h, w, c]."""
    import numpy as np

    from facegen.data.crop import bits_of, opened, plain
    from facegen.data.decode import decode_some
    from facegen.data.listing import list_images, printable, summary_of
    from facegen.images import CHANNELS

    def read(file):
        with opened(file) as image:
            is_grey = image.mode[0] in '1LIF' and image.mode != 'LAB'
            mode = 'L' if is_grey else 'RGB'
            pixels = np.array(plain(image, bits_of(image), background, white_level).convert(mode))
            return pixels.reshape(*pixels.shape[:2], CHANNELS[mode])

    listing = list_images(folder)
    images, left_out = {}, [(str(folder / key), reason) for key, reason in listing.left_out]
    for file in (str(folder / key) for key in listing.keys):
        decoded = decode_some([file], read)
        images.update(zip([file], decoded.images, strict=False))  # one or none
        left_out += [(file, reason) for _, reason in decoded.skipped]
    if not images:
        raise FileNotFoundError(
            f'{folder} is neither the folder of a training run nor holds images'
        )
    if left_out:
        print(summary_of(left_out, len(images) + len(left_out)))
    examples = {image.shape: file for file, image in images.items()}
    if len(examples) > 1:
        (one, file), (other, other_file), *_ = examples.items()
        raise ValueError(
            f'{printable(file)} is {list(one)} and {printable(other_file)} {list(other)}; expected '
            'images of one size and of as many colours'
        )
    return np.stack(list(images.values()))
