"""The features of the FID that papers report: those of the Inception network of 2015, as published.

Heusel et al. 2017 (arXiv:1706.08500, github.com/bioinf-jku/TTUR) compute their FID by it: a frozen
TensorFlow graph, which runs here as it is.
"""

from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from facegen import session
from facegen.data.archive import member_of
from facegen.data.download import Checksum, File, download_files
from facegen.files import locked, rows_of
from facegen.screen import progress
from facegen.session import tf

ARCHIVE = 'inception-2015-12-05.tgz'
NETWORK = File(
    ARCHIVE,
    # That of the graph, which others cite; we know of none for the archive
    'sha256:009d6814d1bc560d4e7b236e170e9b2d5ca6f4b57bd8037f6db05776204415c6',
    (
        f'http://download.tensorflow.org/models/image/imagenet/{ARCHIVE}',
        f'https://storage.googleapis.com/download.tensorflow.org/models/image/imagenet/{ARCHIVE}',
    ),
    member='classify_image_graph_def.pb',
)
PLACES = '', 'inception'  # in the data folder
IMAGES, FEATURES = 'ExpandDims:0', 'pool_3:0'  # tensors: [1, h, w, 3], 0 to 255; [1, 1, 1, 2048]
BATCH_SIZE = 50


def fetched(network, data_path, *, wait=1.0):
    """Return the bytes of the graph in `network`, a `File`, verified; download it if need be.

    Its member is looked for in `data_path` and in `inception/` there, then the archive itself; what
    is downloaded goes to `data_path`. `wait` is in seconds, before a download is retried.

    Raises ValueError for a file with another checksum, ConnectionError where no source gives it, with
    where to place it by hand, OSError where `data_path` cannot be written.
    """
    data_path = Path(data_path)
    path = placed(network, data_path)
    if path is None:
        with locked(data_path):
            path = placed(network, data_path)  # by another process that was faster
            if path is None:
                download_files([network], data_path, wait)
                path = data_path / network.name
    print(f'inception: {path}')
    is_archive = path.name == network.name
    try:
        content = member_of(path, network.member) if is_archive else path.read_bytes()
    except ValueError as error:
        raise ValueError(f'{error}; delete it and run this again') from error
    seen = str(Checksum(network.checksum).update(content))
    if seen != network.checksum:
        what = f'the {network.member} in {path}' if is_archive else path
        raise ValueError(
            f'{what} is another file than the published one, or damaged: expected '
            f'{network.checksum}, found {seen}; delete {path} and run this again'
        )
    return content


def placed(network, data_path):
    """Return where the member of `network`, or its archive, lies in the data folder, or None."""
    names = network.member, network.name
    files = [Path(data_path, place, name) for name in names for place in PLACES]
    return next(filter(Path.is_file, files), None)


@contextmanager
def opened(graph):
    """Yield a function of uint8 images [m, h, w, c] that returns their features, float32 [n, 2048].

    Its second argument are the numbers [n] of the images that it looks at, all by default. c is 3, or 1,
    which is repeated. The images may be a memory map, of which few are read at a time. They enter the serialised `graph` after its JPEG decoder, in
    batches; it resizes them to 299x299 itself, bilinearly, as for the FID that papers report.
    """
    with tf.Graph().as_default() as inception:
        pixels = tf.placeholder(tf.float32, [None, None, None, 3])
        (pooled,) = tf.import_graph_def(
            tf.GraphDef.FromString(graph), {IMAGES: pixels}, [FEATURES], name=''
        )
        inception.finalize()
    with closing(tf.Session(graph=inception, config=session.config('float32'))) as sess:

        def features_of(images, numbers=None):
            numbers = np.arange(len(images)) if numbers is None else numbers
            parts = []
            with progress(total=len(numbers), unit='image', desc='Inception') as bar:
                for start in range(0, len(numbers), BATCH_SIZE):
                    batch = rows_of(images, numbers[start : start + BATCH_SIZE]).astype(np.float32)
                    batch = np.broadcast_to(batch, [*batch.shape[:3], 3])
                    parts.append(sess.run(pooled, {pixels: batch}).reshape(len(batch), -1))
                    bar.update(len(batch))
            return np.concatenate(parts)

        yield features_of
