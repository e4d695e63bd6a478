"""The graph of a run's generator as a list of layers, for a page that has no TensorFlow.

Each operation is translated by what it computes, whatever the recipe, so a generator of one's own works
too if it is made of operations in `LAYERS`. engine.js computes the layers.
"""

import math

import numpy as np

FUNCTIONS = (  # of one number; they have the same names in engine.js
    'Abs', 'Elu', 'Exp', 'Neg', 'Relu', 'Selu', 'Sigmoid', 'Sin', 'Softplus', 'Square', 'Tanh',
)  # fmt: skip
PAIRS = {  # operations on two numbers, and their names in engine.js
    'Add': 'Add', 'AddV2': 'Add', 'Maximum': 'Maximum', 'Minimum': 'Minimum', 'Mul': 'Mul', 'Sub': 'Sub',
}  # fmt: skip
MOVES = (  # operations whose results are numbers of their inputs, or zeros, in other places
    'ConcatV2', 'DepthToSpace', 'ExpandDims', 'Identity', 'MirrorPad', 'Pad', 'Reshape',
    'ResizeNearestNeighbor', 'ReverseV2', 'SpaceToDepth', 'Squeeze', 'StopGradient', 'StridedSlice',
    'Tile', 'Transpose',
)  # fmt: skip
SHAPES = ('Rank', 'Shape', 'ShapeN', 'Size')  # whose results do not depend on the numbers
LINEAR = 'Dense', 'Convolution', 'Transposed', 'Affine'  # layers that end with a scale and a shift
ARRAYS = ('kernel', 'scale', 'shift', 'places', 'values')  # settings of layers that are arrays
MOST_PLACES = 1 << 22  # numbers of an image, twice as many of which float32 can count
ONE, ZERO = np.ones(1), np.zeros(1)


def refusal(operation, reason):
    """Return the error that says why an operation cannot be translated."""
    return ValueError(
        f'the generator cannot be a page: {operation.type} ({operation.name}) {reason}; use other layers, '
        'or export a SavedModel'
    )


def require(operation, **settings):
    """Raise ValueError unless an operation has these settings."""
    for name, expected in settings.items():
        found = operation.get_attr(name)
        if found != expected:
            raise refusal(operation, f'has {name} {found!r}, and only {expected!r} is known')


def varying(input_z):
    """Return the operations whose results depend on the numbers of the latents."""
    found, waiting = set(), [input_z]
    while waiting:
        for operation in waiting.pop().consumers():
            if operation not in found and operation.type not in SHAPES:
                found.add(operation)
                waiting.extend(operation.outputs)
    return found


def ends_with(shape, end):
    """Tell whether a shape ends with another, so that an array of the latter repeats in the former."""
    end = list(end)
    while end and end[0] == 1:
        del end[0]
    return list(shape)[len(shape) - len(end) :] == end


def repeating(combine, a, b):
    """Return what repeats if two repeating arrays are combined, number by number."""
    size = math.lcm(a.size, b.size)
    return combine(np.resize(a, size), np.resize(b, size))


class Translation:
    """What draws the images of a generator: `layers`, the last of which is the images, and `arrays`.

    A layer is a dictionary: 'op', the numbers of the layers that are its 'inputs', and what engine.js
    needs besides, where an array is given by its number. `arrays` are pairs: an array and, of a kernel,
    the tensor of the graph that holds it (else None).
    """

    def __init__(self, generator):
        """Translate a `sampling.Sampler`.

        Raises ValueError that names an operation that is not known, or not in that form.
        """
        self.generator = generator
        self.layers, self.arrays = [{'op': 'Latents', 'inputs': []}], []
        self.numbers = {generator.input_z.name: 0}  # of layers, by the name of what they compute
        self.varying = varying(generator.input_z)
        operations = self.operations()
        tensors = {x.name: x for operation in operations for x in operation.inputs}
        tensors |= {operation.outputs[0].name: operation.outputs[0] for operation in operations}
        self.values = self.run(tensors, 1)  # of one latent, and of the constants
        for operation in operations:
            self.numbers[operation.outputs[0].name] = LAYERS[operation.type](self, operation)
        self.keep_needed(self.number(generator.samples))

    # The graph ----------------------------------------------------------------------------------

    def operations(self):
        """Return the operations that lie between the latents and the images, in their order.

        Raises ValueError for one that is not known, and for any that is random.
        """
        needed, waiting = set(), [self.generator.samples]
        while waiting:
            operation = waiting.pop().op
            if operation not in needed:
                needed.add(operation)
                waiting.extend(operation.inputs)
        operations = [op for op in self.generator.sess.graph.get_operations() if op in needed]
        for operation in operations:
            if 'Random' in operation.type:
                raise refusal(operation, 'draws random numbers of its own')
            if operation in self.varying and operation.type not in LAYERS:
                raise refusal(operation, 'is not known')
        return [operation for operation in operations if operation in self.varying]

    def run(self, tensors, count, fed=()):
        """Return the values of tensors for latents of zeros, where some have the values `fed`."""
        latents = np.zeros([count, self.generator.z_dim], np.float32)
        return self.generator.sess.run(tensors, {self.generator.input_z: latents, **dict(fed)})

    def varies(self, x):
        """Tell whether a tensor depends on the latents."""
        return x is self.generator.input_z or x.op in self.varying

    def constant(self, operation, place):
        """Return the value of an input that must not depend on the latents."""
        x = operation.inputs[place]
        if self.varies(x):
            raise refusal(operation, f'has an input {place} that depends on the latents')
        return self.values[x.name]

    def number(self, x):
        """Return the number of the layer that computes a tensor."""
        return self.numbers[x.name]

    def shape(self, x):
        """Return the shape of a tensor without the images."""
        return list(self.values[x.name].shape[1:])

    # Layers -------------------------------------------------------------------------------------

    def add(self, op, *inputs, **settings):
        """Add a layer; return its number."""
        self.layers.append({'op': op, 'inputs': list(inputs), **settings})
        return len(self.layers) - 1

    def add_array(self, array, tensor=None):
        """Add an array; return its number."""
        self.arrays.append((array, tensor))
        return len(self.arrays) - 1

    def add_linear(self, op, x, kernel, tensor, **settings):
        """Add a layer with a kernel, [..., inputs, outputs], that a tensor holds; return its number."""
        return self.add(
            op, self.number(x), kernel=self.add_array(kernel, tensor), kernelShape=list(kernel.shape),
            scale=self.add_array(ONE), shift=self.add_array(ZERO), **settings,
        )  # fmt: skip

    def affine(self, x, scale=ONE, shift=ZERO):
        """Return the number of a layer that computes scale x + shift, where both repeat.

        Where x comes from a linear layer, that is the same layer with another scale and shift; the one
        it replaces is left out at the end, unless something else needs it.
        """
        number = self.number(x)
        layer = self.layers[number]
        if layer['op'] in LINEAR:
            outputs = (
                layer['kernelShape'][-1] if 'kernelShape' in layer else math.prod(self.shape(x))
            )
            if outputs % scale.size == outputs % shift.size == 0:
                old_scale, old_shift = (self.arrays[layer[name]][0] for name in ('scale', 'shift'))
                scaled_shift = repeating(np.multiply, old_shift, scale)
                self.layers.append(
                    layer
                    | {
                        'scale': self.add_array(repeating(np.multiply, old_scale, scale)),
                        'shift': self.add_array(repeating(np.add, scaled_shift, shift)),
                    }
                )
                return len(self.layers) - 1
        return self.add('Affine', number, scale=self.add_array(scale), shift=self.add_array(shift))

    def keep_needed(self, last):
        """Leave out what the layer of that number, which becomes the last, does without."""
        needed = {last}
        for number in range(last, -1, -1):
            if number in needed:
                needed.update(self.layers[number]['inputs'])
        layers = {old: new for new, old in enumerate(sorted(needed))}
        arrays = {}
        self.layers = [self.layers[old] for old in layers]
        for layer in self.layers:
            layer['inputs'] = [layers[old] for old in layer['inputs']]
            for name in layer.keys() & set(ARRAYS):
                layer[name] = arrays.setdefault(layer[name], len(arrays))
        self.arrays = [self.arrays[old] for old in arrays]

    # Operations: each returns the number of the layer that computes its result --------------------

    def dense(self, operation):
        """Multiply by a matrix."""
        require(operation, transpose_a=False, transpose_b=False)
        x, kernel = operation.inputs
        return self.add_linear('Dense', x, self.constant(operation, 1), kernel)

    def convolution(self, operation):
        """Convolve."""
        (x, kernel), y = operation.inputs, operation.outputs[0]
        value = self.constant(operation, 1)
        settings = self.geometry(operation, large=x, small=y, kernel=value)
        return self.add_linear(
            'Convolution', x, value, kernel, inShape=self.shape(x), shape=self.shape(y), **settings
        )

    def transposed(self, operation):
        """Convolve the other way; the kernel of TensorFlow is [h, w, outputs, inputs]."""
        (_, kernel, x), y = operation.inputs, operation.outputs[0]
        value = self.constant(operation, 1).swapaxes(2, 3)
        settings = self.geometry(operation, large=y, small=x, kernel=value)
        return self.add_linear(
            'Transposed', x, value, kernel, inShape=self.shape(x), shape=self.shape(y), **settings
        )

    def geometry(self, operation, large, small, kernel):
        """Return the stride and the padding, above and to the left, of a convolution of `large`."""
        require(operation, data_format=b'NHWC', dilations=[1, 1, 1, 1])
        stride = operation.get_attr('strides')[1:3]
        padding = [0, 0]
        if operation.get_attr('padding') == b'EXPLICIT':
            _, _, top, _, left, *_ = operation.get_attr('explicit_paddings')
            padding = [top, left]
        elif operation.get_attr('padding') == b'SAME':
            for axis in 0, 1:
                seen = (self.shape(small)[axis] - 1) * stride[axis] + kernel.shape[axis]
                padding[axis] = max(0, seen - self.shape(large)[axis]) // 2
        return {'stride': stride, 'padding': padding}

    def batch_norm(self, operation):
        """Normalise by running averages."""
        require(operation, is_training=False, data_format=b'NHWC')
        gamma, beta, mean, variance = (
            self.constant(operation, place).astype(float) for place in range(1, 5)
        )
        scale = gamma / np.sqrt(variance + operation.get_attr('epsilon'))
        return self.affine(operation.inputs[0], scale, beta - mean * scale)

    def add_bias(self, operation):
        """Add a constant to each channel."""
        require(operation, data_format=b'NHWC')
        return self.affine(operation.inputs[0], shift=self.constant(operation, 1).astype(float))

    def pair(self, operation):
        """Combine two numbers, one of which may be a constant."""
        op, (x, y) = PAIRS[operation.type], operation.inputs
        if self.varies(x) and self.varies(y):
            shape = self.shape(operation.outputs[0])
            if not ends_with(shape, self.shape(x)) or not ends_with(shape, self.shape(y)):
                raise refusal(operation, f'combines {self.shape(x)} and {self.shape(y)}')
            return self.add(op, self.number(x), self.number(y))
        comes_second = self.varies(x)  # the constant
        constant = self.repeated(operation, int(comes_second))
        if not comes_second:
            x = y
        if op == 'Add':
            return self.affine(x, shift=constant)
        if op == 'Sub':
            return (
                self.affine(x, shift=-constant) if comes_second else self.affine(x, -ONE, constant)
            )
        if op == 'Mul':
            return self.affine(x, constant)
        constant = self.add('Constant', values=self.add_array(constant))
        return self.add(op, self.number(x), constant)

    def divide(self, operation):
        """Divide by a constant."""
        return self.affine(operation.inputs[0], 1 / self.repeated(operation, 1))

    def repeated(self, operation, place):
        """Return that part of a constant input that repeats in the result, float64 [n]."""
        constant = self.constant(operation, place).astype(float)
        x, y = operation.inputs[1 - place], operation.outputs[0]
        if self.shape(x) != self.shape(y) or self.values[y.name].shape[0] != 1:
            raise refusal(
                operation, f'has a constant {list(constant.shape)} that enlarges {self.shape(x)}'
            )
        if ends_with(self.shape(y), constant.shape):
            return constant.ravel()
        return np.broadcast_to(constant, self.values[y.name].shape).ravel()

    def move(self, operation):
        """Move numbers: where to is seen when those of two images are counted, from 1."""
        inputs = operation.inputs[:-1] if operation.type == 'ConcatV2' else operation.inputs[:1]
        if not all(map(self.varies, inputs)) or len({x.name for x in inputs}) < len(inputs):
            raise refusal(operation, 'has a constant among its inputs, or one of them twice')
        if any(map(self.varies, operation.inputs[len(inputs) :])):
            raise refusal(operation, 'moves numbers to places that depend on the latents')
        sizes = [math.prod(self.shape(x)) for x in inputs]
        size = sum(sizes)
        if size > MOST_PLACES:
            raise refusal(operation, f'moves {size:,} numbers')
        ends = np.cumsum(sizes)
        counted = {}
        for x, part in zip(inputs, np.split(np.arange(1, size + 1), ends[:-1]), strict=True):
            numbers = np.stack([part, part + size])
            counted[x] = numbers.reshape(2, *self.shape(x)).astype(np.float32)
        moved = self.run(operation.outputs[0], 2, counted)
        places, others = moved.reshape(2, -1).astype(np.int32)
        if len(moved) != 2 or not np.array_equal(others, np.where(places, places + size, 0)):
            raise refusal(operation, 'mixes images')
        if len(inputs) == 1 and np.array_equal(places, np.arange(1, size + 1)):
            return self.number(inputs[0])  # they stay
        return self.add('Moves', *map(self.number, inputs), places=self.add_array(places))

    def interpolate(self, operation):
        """Interpolate between rows and columns: which is seen when their numbers are interpolated."""
        x, y = operation.inputs[0], operation.outputs[0]
        shape = self.shape(x)
        row, column, _ = np.indices(shape, np.float32)
        rows, columns = (self.run(y, 1, {x: numbers[None]})[0] for numbers in (row, column))
        return self.add(
            'Bilinear', self.number(x), inShape=shape, rows=rows[:, 0, 0].tolist(),
            columns=columns[0, :, 0].tolist(),
        )  # fmt: skip

    def function(self, operation):
        """Apply a function to each number."""
        return self.add(operation.type, self.number(operation.inputs[0]))

    def leaky_relu(self, operation):
        """Multiply negative numbers by a slope."""
        alpha = operation.get_attr('alpha')
        return self.add('LeakyRelu', self.number(operation.inputs[0]), alpha=alpha)

    def arg_max(self, operation):
        """Find the place of the largest number."""
        x = operation.inputs[0]
        if len(self.shape(x)) != 1 or self.constant(operation, 1) not in (1, -1):
            raise refusal(operation, f'of {self.shape(x)} is not along the last axis')
        return self.add('ArgMax', self.number(x))

    def one_hot(self, operation):
        """Mark a place."""
        x = operation.inputs[0]
        if self.shape(x) or operation.get_attr('axis') not in (1, -1):
            raise refusal(operation, f'of {self.shape(x)} is not along the last axis')
        depth, on, off = (self.constant(operation, place).item() for place in (1, 2, 3))
        return self.add('OneHot', self.number(x), depth=depth, on=on, off=off)


LAYERS = {  # type of an operation: what adds its layer
    'ArgMax': Translation.arg_max,
    'BiasAdd': Translation.add_bias,
    'Conv2D': Translation.convolution,
    'Conv2DBackpropInput': Translation.transposed,
    'FusedBatchNorm': Translation.batch_norm,
    'FusedBatchNormV2': Translation.batch_norm,
    'FusedBatchNormV3': Translation.batch_norm,
    'LeakyRelu': Translation.leaky_relu,
    'MatMul': Translation.dense,
    'OneHot': Translation.one_hot,
    'RealDiv': Translation.divide,
    'ResizeBilinear': Translation.interpolate,
    **dict.fromkeys(FUNCTIONS, Translation.function),
    **dict.fromkeys(PAIRS, Translation.pair),
    **dict.fromkeys(MOVES, Translation.move),
}
