"""What the face-generation notebook needs beyond its lesson; importing it prepares TensorFlow.

TensorFlow reads these two variables once, while it is imported, so they are set here, before any
module of the package imports it.
"""

import os
import sys

if 'tensorflow' in sys.modules and os.environ.get('TF_USE_LEGACY_KERAS') != '1':
    raise ImportError(
        'TensorFlow was imported before facegen, so tf.layers would fail in every cell; '
        'restart the kernel and import facegen first'
    )

os.environ['TF_USE_LEGACY_KERAS'] = '1'  # tf.layers lives in tf-keras
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')  # start-up notes are silent, errors are not
