"""The data lesson: how an image gets from its publisher into a batch. No TensorFlow.

    faces = helper.download_extract('celeba', './data')      # a verified folder of JPEGs
    dataset = helper.Dataset('celeba', faces)                # decoded once into a memory map
    for images in dataset.get_batches(64):                   # float32 [64, 28, 28, 3], ±0.5
        ...

These are the names of the exercise of 2017. What they do, in the order in which an image travels, is
in `facegen/data/`:

1. `sources.py`: a table of all that is known about each data set; `download_extract` gets one.
2. `find.py`: what lies in the data folder already, placed by hand or fetched before, is used first.
3. `download.py`: tries one mirror after another, resumes where one broke off, and verifies.
4. `archive.py`: a zip, unpacked completely or not at all. `idx.py`: the format of MNIST's files.
5. `listing.py`: which files of a folder are read. `crop.py`: `get_image`, the crop of the face and its
   28x28 pixels. `decode.py`: many files on all CPUs.
6. `cache.py`: the pixels of all images as bytes in one file, made once and mapped into memory.
   `shards.py`: many processes and machines decode a large set together.
7. `dataset.py`: `Dataset.get_batches`, shuffled by the seed and the epoch, in [-0.5, 0.5].

Whatever is written there appears under its final name only when it is complete, so a killed process
leaves nothing that looks finished, and two processes may prepare the same data at once.
"""

from facegen.data.crop import get_batch, get_image
from facegen.data.dataset import Dataset
from facegen.data.sources import download_extract
from facegen.images import square_grid as images_square_grid

__all__ = ['Dataset', 'download_extract', 'get_batch', 'get_image', 'images_square_grid']
