"""A trained generator for use without this project: as a SavedModel, or as ONNX.

Both turn `latents`, float32 [n, z_dim] in [-1, 1], into `pictures`, uint8 [n, h, w, c]: the images
that `sampling.generate` returns, to be compared byte for byte and saved as they are.
"""

from importlib.util import find_spec

import numpy as np

from facegen.checkpoint import os_errors
from facegen.sampling import latents, restored
from facegen.session import tf

COMPARED = 25  # images that an ONNX model has to draw like the generator
TOLERANCE = 1  # of 255 levels: another library adds in another order, before the rounding


def save_model(folder, run, weights='last'):
    """Save the generator of a run as a SavedModel in a new folder; return a description of it.

    Its signature is `serving_default`. `tf.saved_model.load` of a plain TensorFlow 2 loads it, where
    it draws the same bytes. Raises like `sampling.restored`, and OSError if the disk is full or cannot
    be written.
    """
    with restored(run, weights) as generator:
        images = uint8_images(generator)
        signature = tf.saved_model.predict_signature_def(
            {'latents': generator.input_z}, {'pictures': images}
        )
        # The builder looks for variables in the graph that is the default one
        with os_errors(), generator.sess.graph.as_default():
            builder = tf.saved_model.Builder(str(folder))
            builder.add_meta_graph_and_variables(
                generator.sess,
                [tf.saved_model.SERVING],
                {tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY: signature},
            )
            builder.save()
        return f'a SavedModel, {described(generator)}'


def save_onnx(file, run, weights='last'):
    """Save the generator of a run as an ONNX model in a file; return a description of it.

    Raises ModuleNotFoundError without tf2onnx and onnxruntime, ValueError for layers that ONNX lacks,
    or if onnxruntime draws other images than the generator, and like `sampling.restored`.
    """
    missing = [name for name in ('tf2onnx', 'onnxruntime') if not find_spec(name)]
    if missing:
        raise ModuleNotFoundError(
            f'ONNX needs {" and ".join(missing)}: run `pip install tf2onnx onnxruntime`'
        )
    import tf2onnx

    with restored(run, weights) as generator:
        z = latents(0, COMPARED, generator.z_dim)
        expected = generator(z)
        names = {generator.input_z.name: 'latents', uint8_images(generator).name: 'pictures'}
        source, target = names
        constants = tf.graph_util.convert_variables_to_constants(
            generator.sess, generator.sess.graph.as_graph_def(), [target.split(':')[0]]
        )
        words = described(generator)
    model, _ = tf2onnx.convert.from_graph_def(
        constants, input_names=[source], output_names=[target], tensors_to_rename=names
    )
    for value in *model.graph.input, *model.graph.output:
        value.type.tensor_type.shape.dim[0].dim_param = 'n'
    check_onnx(model, z, expected)
    file.write_bytes(model.SerializeToString())
    return f'an ONNX model, {words}'


def check_onnx(model, z, expected):
    """Raise ValueError unless a model is ONNX, and makes the images `expected` of latents z."""
    import onnx
    import onnxruntime

    advice = 'use layers that tf2onnx knows, or a SavedModel'
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f'the generator cannot be ONNX ({reason}): {advice}') from error
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=['CPUExecutionProvider']
    )
    (images,) = session.run(['pictures'], {'latents': z})
    difference = np.abs(images.astype(int) - expected).max()
    if difference > TOLERANCE:
        raise ValueError(
            f'the images of the ONNX model differ from those of the generator by {difference} of '
            f'255 levels; expected at most {TOLERANCE}: {advice}'
        )


def uint8_images(generator):
    """Add to the graph what `images.to_uint8` does; return the images, uint8 [n, h, w, c]."""
    with generator.sess.graph.as_default():
        levels = (tf.clip_by_value(generator.samples, -1.0, 1.0) + 1.0) * 127.5
        return tf.cast(tf.rint(levels), tf.uint8)


def described(generator):
    """Return a description of what goes in and what comes out."""
    _, height, width, channels = generator.samples.shape
    return f'from latents [n, {generator.z_dim}] to uint8 images [n, {height}, {width}, {channels}]'
