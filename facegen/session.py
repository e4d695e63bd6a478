"""How this project runs TensorFlow: quiet start, TF1 mode, device, memory and precision."""

import faulthandler
import os
import platform
import sys
import tempfile
import warnings
from contextlib import contextmanager

from facegen.machine import cpu_count, has_bfloat16

START_UP_LINES = (
    b'All log messages before absl::InitializeLog()',
    b'oneDNN custom operations are on',
    b'Could not find cuda drivers',
    b'failed call to cuInit',
    b'factory for plugin',  # up to TensorFlow 2.19
)


@contextmanager
def without_start_up_lines():
    """Hold back stderr, then let through all but the lines that every start of TensorFlow writes.

    They come from C++ before TF_CPP_MIN_LOG_LEVEL is read, so only the file descriptor sees them.
    """
    if sys.stderr is None:  # of a service, which may lack the descriptor too
        yield
        return
    sys.stderr.flush()
    stderr = os.dup(2)
    report_crash = not faulthandler.is_enabled()
    with tempfile.TemporaryFile() as held_back:
        os.dup2(held_back.fileno(), 2)
        if report_crash:  # such as a CPU without AVX: what is held back would be lost
            faulthandler.enable(stderr)
        try:
            yield
        finally:
            if report_crash:
                faulthandler.disable()
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            held_back.seek(0)
            for line in held_back:
                if not any(known in line for known in START_UP_LINES):
                    os.write(2, line)


with without_start_up_lines():
    import tensorflow.compat.v1 as tf
    from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

    GPUS = tf.config.list_physical_devices('GPU')

if vars(tf.layers).get('_tfll_keras_version', 'tf_keras') != 'tf_keras':
    # They were used before facegen was imported, and found the Keras that has none. They look again
    tf.layers._tfll_initialized = False


def use_tf1():
    """Switch the process to graph mode with resource variables; calling it again changes nothing.

    Reference variables, the default of `disable_v2_behavior`, make the result of one
    `run([d_train, g_train])` depend on thread timing; resource variables do not.
    """
    warnings.filterwarnings('ignore', r'`tf\.layers\.\w+` is deprecated', UserWarning)
    tf.get_logger().addFilter(is_no_deprecation)
    tf.get_logger().setLevel('WARNING')  # not a line for every file that is restored
    tf.disable_v2_behavior()
    tf.enable_resource_variables()


def is_no_deprecation(record):
    """Tell whether a log record says anything but that TF1 is deprecated, which TensorFlow repeats."""
    return 'is deprecated and will be removed' not in str(record.msg)


def device():
    """Return what training runs on, as text."""
    if GPUS:
        return f'{len(GPUS)} GPU' + 's' * (len(GPUS) > 1)
    precision = 'bfloat16 convolutions' if has_bfloat16() else 'float32'
    return f'CPU ({cpu_count()} cores, {precision})'


def versions():
    """Return the versions and the device that a result depends on, by name."""
    return {
        'tensorflow': tf.__version__,
        'python': platform.python_version(),
        'device': device(),
    }


def uses_bfloat16(precision):
    """Tell whether sessions of that precision multiply in bfloat16."""
    return precision == 'auto' and not GPUS and has_bfloat16()


def config(precision='auto', *, xla=False):
    """Return the configuration of a session.

    GPU memory is taken as it is needed, not all of it at once. Precision 'auto' lets TensorFlow's
    graph rewrite run convolutions and matrix products in bfloat16 where the CPU has it; 'float32'
    does not; 'float16' lets another of its rewrites compute in float16 what a GPU can, which needs
    the optimiser of `adam`. `xla` compiles what can be compiled, on a CPU too.
    """
    proto = tf.ConfigProto(allow_soft_placement=True)
    proto.gpu_options.allow_growth = True
    rewrites = proto.graph_options.rewrite_options
    # The remapper fails, loudly and without effect, on a leaky ReLU after a bias and its gradient.
    rewrites.remapping = RewriterConfig.OFF
    if uses_bfloat16(precision):
        rewrites.auto_mixed_precision_onednn_bfloat16 = RewriterConfig.ON
    if precision == 'float16':
        if not GPUS:
            print('float16 needs a GPU; this CPU computes in float32')
        rewrites.auto_mixed_precision = RewriterConfig.ON
    if xla:
        optimizer = proto.graph_options.optimizer_options
        optimizer.global_jit_level = tf.OptimizerOptions.ON_2
        optimizer.cpu_global_jit = True
    return proto


def adam(learning_rate, beta1, precision):
    """Return an Adam optimiser, its losses scaled if the precision is 'float16'.

    There, the loss is multiplied by a number that keeps small gradients from becoming 0, and the
    gradients are divided by it; when one overflows, the number is halved and the step is skipped
    (Micikevicius et al. 2018, arXiv:1710.03740).
    """
    optimizer = tf.train.AdamOptimizer(learning_rate, beta1)
    if precision != 'float16':
        return optimizer
    scale = tf.mixed_precision.DynamicLossScale()
    return tf.mixed_precision.MixedPrecisionLossScaleOptimizer(optimizer, scale)
