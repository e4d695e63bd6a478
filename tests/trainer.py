"""A process whose forked children train and are really killed; TensorFlow is imported only once.

It reads one JSON object per line: arguments of `train` that differ from `OPTIONS`, and

    pictures    folder of the data set
    output      file for what the child prints
    evaluation  'endless': one that never ends
    kill_at     number of the change to a file of the run before which the child kills itself
    max_bytes   of any file that the child writes, as on a full disk
    tf_config   for a child that is one of a cluster
    batch_norm  false: the notebook's networks without it
    optimizer   'sgd': not Adam, which hardly sees by what its gradients are multiplied

It answers with two lines: the child's process id, and later its exit status (-9 after SIGKILL).
"""

import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from types import SimpleNamespace

OPTIONS = {'seed': 3, 'print_every': 10, 'show_every': 4, 'show_n_images': 4, 'resume': True}
EPOCHS = 6  # of 5 steps
CHANGES = 'open', 'os.mkdir', 'os.remove', 'os.rename', 'os.rmdir', 'shutil.copyfile'


def tiny_recipe(**changes):
    """Return a recipe with all that a checkpoint has to hold, in networks that train in no time."""
    from facegen.recipes import Recipe

    settings = {
        'image_size': 8, 'kernel_size': 3, 'd_filters': (4, 8), 'g_filters': (8, 4), 'z_dim': 8,
        'batch_size': 8, 'dropout': 0.5, 'updates': 'simultaneous', 'ema_half_life': 100,
        'rate_decay': True, 'random_flip': True, 'learning_rate': 1e-3,
    }  # fmt: skip
    return Recipe(**settings | changes)


def brightness(images):
    """Score images by how far from grey they are: quick, and different for other weights."""
    return {'frechet_distance': abs(float(images.mean(dtype=float)) - 128)}


def draw_with_plain_tensorflow(folder, z):
    """Return what a SavedModel makes of latents."""
    from facegen.session import tf

    with tf.Graph().as_default(), tf.Session() as sess:
        loaded = tf.saved_model.load(sess, ['serve'], str(folder))
        signature = loaded.signature_def['serving_default']
        feed = {signature.inputs['latents'].name: z}
        return sess.run(signature.outputs['pictures'].name, feed)


def endless(images):
    """Never return a score."""
    while True:
        time.sleep(1)


def train(notebook, pictures, *, recipe=None, epochs=EPOCHS, **options):
    """Train on a folder of 8x8 images; return the run folder."""
    import helper

    dataset = helper.Dataset('folder', pictures, width=8, height=8, seed=3)
    recipe = recipe or tiny_recipe()
    options = OPTIONS | {'evaluation': brightness} | options
    return notebook.train(
        epochs, recipe.batch_size, recipe.z_dim, recipe.learning_rate, recipe.beta1,
        dataset.get_batches, dataset.shape, dataset.image_mode, recipe=recipe, **options,
    )  # fmt: skip


def graph_of(notebook, recipe, data_shape):
    """Return the graph in which `train` would run a recipe."""
    from facegen.session import tf
    from facegen.training import Training

    class BuiltError(Exception):
        """The graph is built."""

    class Builder(Training):
        def start(self, input_z, samples):
            raise BuiltError(tf.get_default_graph())

    original, notebook.Training = notebook.Training, Builder
    try:
        notebook.train(
            1, 2, recipe.z_dim, recipe.learning_rate, recipe.beta1, iter, data_shape,
            {1: 'L', 3: 'RGB'}[data_shape[-1]], recipe=recipe,
        )  # fmt: skip
    except BuiltError as built:
        return built.args[0]
    finally:
        notebook.Training = original


def kill_before_change(number, folder):
    """Kill this process with SIGKILL before the change of that number to files in `folder`."""
    changes = 0

    def count(event, arguments):
        nonlocal changes
        if event in CHANGES and any(str(value).startswith(folder) for value in arguments):
            changes += 1
            if changes == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


def without_batch_norm(notebook):
    """Replace the layer of the notebook's networks that is batch-normalised by one that is not."""
    notebook.activate = lambda x, leak, is_train=True: notebook.tf.nn.leaky_relu(x, leak)


def with_gradient_descent(notebook):
    """Let the notebook's optimisers go against the gradient, a step as long as the gradient says."""

    def descent(learning_rate, beta1, precision):
        return notebook.tf.train.GradientDescentOptimizer(learning_rate)

    notebook.session = SimpleNamespace(adam=descent)


def join_cluster(notebook, tf_config, wait_minutes=5.0):
    """Let the notebook train as a process of a cluster, as the command line does."""
    from facegen.cluster import Cluster
    from facegen.distribution import distribute

    cluster = Cluster.named_by({'TF_CONFIG': json.dumps(tf_config)})
    distribute(notebook, cluster, wait_minutes=wait_minutes)


def child(
    notebook, output, pictures, kill_at=None, max_bytes=None, recipe=None, tf_config=None,
    wait_minutes=5.0, batch_norm=True, optimizer='adam', **options,
):  # fmt: skip
    """Train as asked, and end this process."""
    import resource  # which Windows lacks

    status = 1
    try:
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        if max_bytes:
            resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, resource.RLIM_INFINITY))
        if kill_at:
            kill_before_change(kill_at, options['run_dir'])
        if 'evaluation' in options:
            options['evaluation'] = {'endless': endless}[options['evaluation']]
        if not batch_norm:
            without_batch_norm(notebook)
        if optimizer == 'sgd':
            with_gradient_descent(notebook)
        if tf_config:
            join_cluster(notebook, tf_config, wait_minutes)
        print(train(notebook, pictures, recipe=tiny_recipe(**recipe or {}), **options))
        status = 0
    except BaseException:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main():
    """Fork a child for every line of stdin."""
    from facegen import notebook

    functions = notebook.definitions()
    for line in sys.stdin:
        request = json.loads(line)
        Path(request['output']).write_text('')
        pid = os.fork()
        if not pid:
            child(functions, **request)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == '__main__':
    sys.path.insert(0, str(Path(__file__).parent.parent))
    main()
