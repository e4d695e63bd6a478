"""What the face-generation notebook needs beyond its lesson; importing it prepares TensorFlow.

TensorFlow reads these two variables once, while it is imported, so they are set here, before any
module of the package imports it.
"""

import os
import sys

__version__ = '0.1.0'

if 'tensorflow' not in sys.modules:  # else facegen/session.py says what to do
    os.environ['TF_USE_LEGACY_KERAS'] = '1'  # tf.layers lives in tf-keras
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')  # silences start-up notes, not errors
