"""What the face-generation notebook needs beyond its lesson; importing it prepares TensorFlow.

TensorFlow reads these variables once: the first when its layers are used, the others while it is
imported. So they are set here, before any module of the package imports it.
"""

import os
import platform
import sys

__version__ = '0.1.0'

os.environ['TF_USE_LEGACY_KERAS'] = '1'  # tf.layers lives in tf-keras
if 'tensorflow' not in sys.modules:
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')  # silences start-up notes, not errors
    if platform.machine() in ('x86_64', 'AMD64'):
        # Off by default on Linux without AVX512-VNNI or AVX-VNNI, where two EPYC cores train 1.5 to 1.8 times as fast
        os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '1')
