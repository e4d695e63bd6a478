"""What the face-generation notebook needs beyond its lesson; importing it prepares TensorFlow.

TensorFlow reads these two variables once: the first when its layers are used, the second while it is
imported. So they are set here, before any module of the package imports it.
"""

import os
import sys

__version__ = '0.1.0'

os.environ['TF_USE_LEGACY_KERAS'] = '1'  # tf.layers lives in tf-keras
if 'tensorflow' not in sys.modules:
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')  # silences start-up notes, not errors
