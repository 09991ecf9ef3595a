"""DeepLab in TensorFlow's own operations: writes checkpoints, their values and logits for test_tensorflow.py.

Run by a Python that has TensorFlow: `python tensorflow_deeplab.py CASES.json DIRECTORY`. It follows the structure and
the names of tensorflow/models' research/deeplab and of slim's MobileNetV2. Variables are float32 as there; the logits
are computed from them in float64.
"""

import json
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import tensorflow as tf

v1 = tf.compat.v1
v1.disable_eager_execution()

# expansion, channels, stride
MOBILENET = (
    *((1, 16, 1), (6, 24, 2), (6, 24, 1), (6, 32, 2), (6, 32, 1), (6, 32, 1), (6, 64, 2), (6, 64, 1), (6, 64, 1)),
    *((6, 64, 1), (6, 96, 1), (6, 96, 1), (6, 96, 1), (6, 160, 2), (6, 160, 1), (6, 160, 1), (6, 320, 1)),
)
# scope, channels, skip, stride, ReLU within; the first number is how many units
EXIT = [
    (1, "exit_flow/block1", (728, 1024, 1024), "conv", 2, False),
    (1, "exit_flow/block2", (1536, 1536, 2048), "none", 1, True),
]
THREE = [(128, 2), (256, 2), (728, 2)]
FIVE = [(128, 2), (256, 1), (256, 2), (728, 1), (728, 2)]
ENTRY = {"xception_41": THREE, "xception_65": THREE, "xception_71": FIVE}
MIDDLE = {"xception_41": 8, "xception_65": 16, "xception_71": 16}
DECODER_BLOCK = {"xception_41": "block2", "xception_65": "block2", "xception_71": "block3"}


class Network:
    """The graph of one case, built layer by layer; random values from one generator."""

    def __init__(self, case):
        self.case = case
        self.rng = np.random.default_rng(case["seed"])
        self.values = {}

    def variable(self, name, values, trainable=True):
        """A float32 variable on one of the case's devices, as float64."""
        with tf.device(f"/device:CPU:{len(self.values) % self.case['shards']}"):
            zeros = v1.zeros_initializer()
            created = v1.get_variable(name, values.shape, initializer=zeros, trainable=trainable, use_resource=False)
        # Fed rather than written into the graph, which would be larger than its checkpoint.
        self.values[created.initializer.inputs[1]] = values
        return tf.cast(created, tf.float64)

    def batch_norm(self, x, eps):
        size, uniform = int(x.shape[-1]), self.rng.uniform
        with v1.variable_scope("BatchNorm"):
            beta = self.variable("beta", uniform(-0.2, 0.2, size))
            gamma = self.variable("gamma", uniform(0.5, 1.0, size))
            mean = self.variable("moving_mean", uniform(-0.2, 0.2, size), trainable=False)
            variance = self.variable("moving_variance", uniform(0.7, 1.5, size), trainable=False)
        return (x - mean) / tf.sqrt(variance + eps) * gamma + beta

    def conv(self, x, channels, size, scope, *, stride=1, rate=1, act=tf.nn.relu, eps=1e-5, padding="SAME"):
        shape = (size, size, int(x.shape[-1]), channels)
        with v1.variable_scope(scope):
            weights = self.variable("weights", self.rng.normal(0, (2 / np.prod(shape[:3])) ** 0.5, shape))
            x = tf.nn.convolution(x, weights, strides=stride, padding=padding, dilations=rate)
            x = self.batch_norm(x, eps)
        return act(x) if act else x

    def depthwise(self, x, scope, *, stride=1, rate=1, act=tf.nn.relu, eps=1e-5, padding="SAME"):
        shape = (3, 3, int(x.shape[-1]), 1)
        with v1.variable_scope(scope):
            weights = self.variable("depthwise_weights", self.rng.normal(0, (2 / 9) ** 0.5, shape))
            x = tf.nn.depthwise_conv2d(x, weights, [1, stride, stride, 1], padding, dilations=[rate, rate])
            x = self.batch_norm(x, eps)
        return act(x) if act else x

    def separable(self, x, channels, scope, *, stride=1, rate=1, act=tf.nn.relu, eps=1e-5):
        """Padded explicitly where there is a stride, so that even and odd sizes are sampled alike."""
        padding = "SAME"
        if stride > 1:
            x, padding = pad_alike(x, rate), "VALID"
        x = self.depthwise(x, f"{scope}_depthwise", stride=stride, rate=rate, act=act, eps=eps, padding=padding)
        return self.conv(x, channels, 1, f"{scope}_pointwise", act=act, eps=eps)

    def mobilenet_v2(self, x):
        """The features of layer_18, and of layer_4/depthwise_output for the decoder."""
        eps, relu6, width = 1e-3, tf.nn.relu6, self.case["width"]
        with v1.variable_scope("MobilenetV2"):
            x = self.conv(x, int(32 * width), 3, "Conv", stride=2, act=relu6, eps=eps)
            steps = self.steps([stride for _, _, stride in MOBILENET], stem=2)
            for index, ((expansion, channels, _), (stride, rate)) in enumerate(zip(MOBILENET, steps, strict=True)):
                out = x
                with v1.variable_scope(f"expanded_conv_{index}" if index else "expanded_conv"):
                    if expansion > 1:
                        out = self.conv(out, int(x.shape[-1]) * expansion, 1, "expand", act=relu6, eps=eps)
                    out = self.depthwise(out, "depthwise", stride=stride, rate=rate, act=relu6, eps=eps)
                    if index == 2:
                        low_level = out
                    out = self.conv(out, int(channels * width), 1, "project", act=None, eps=eps)
                x = x + out if stride == 1 and x.shape[-1] == out.shape[-1] else out
        return x, low_level

    def xception(self, x):
        """The last features, and separable_conv2_pointwise's in the block that leaves stride 4 for the decoder."""
        name, eps = self.case["backbone"], 1e-3
        blocks = [
            (1, f"entry_flow/block{index}", (channels,) * 3, "conv", stride, False)
            for index, (channels, stride) in enumerate(ENTRY[name], start=1)
        ]
        blocks += [(MIDDLE[name], "middle_flow/block1", (728,) * 3, "sum", 1, False), *EXIT]
        units = [(f"{scope}/unit_{n + 1}", *rest) for count, scope, *rest in blocks for n in range(count)]
        with v1.variable_scope(name):
            x = self.conv(pad_alike(x, 1), 32, 3, "entry_flow/conv1_1", stride=2, eps=eps, padding="VALID")
            x = self.conv(x, 64, 3, "entry_flow/conv1_2", eps=eps)
            steps = self.steps([stride for *_, stride, _ in units], stem=2)
            for (scope, channels, skip, _, inner_relu), (stride, rate) in zip(units, steps, strict=True):
                with v1.variable_scope(f"{scope}/xception_module"):
                    out = x
                    for index in range(3):
                        out = out if inner_relu else tf.nn.relu(out)
                        act = tf.nn.relu if inner_relu else None
                        last = {"stride": stride} if index == 2 else {}
                        where = f"separable_conv{index + 1}"
                        out = self.separable(out, channels[index], where, rate=rate, act=act, eps=eps, **last)
                        if index == 1 and scope == f"entry_flow/{DECODER_BLOCK[name]}/unit_1":
                            low_level = out
                    if skip == "conv":
                        x = self.conv(x, channels[2], 1, "shortcut", stride=stride, act=None, eps=eps)
                x = out if skip == "none" else out + x
        return x, low_level

    def steps(self, nominal, stem):
        """(stride, rate) of each unit: past the output stride, strides turn into the rate of what follows."""
        current, rate = stem, 1
        for stride in nominal:
            if current == self.case["stride"]:
                yield 1, rate
                rate *= stride
            else:
                yield stride, 1
                current *= stride

    def logits(self, image):
        """1×H×W×3 to 1×H×W×K."""
        case = self.case
        x, low_level = (self.mobilenet_v2 if case["backbone"] == "mobilenet_v2" else self.xception)(image)
        branches = []
        if case["image_pooling"]:
            pooled = self.conv(tf.reduce_mean(x, [1, 2], keepdims=True), 256, 1, "image_pooling")
            branches.append(resize(pooled, x.shape[1:3]))
        branches.append(self.conv(x, 256, 1, "aspp0"))
        for index, rate in enumerate(case["rates"], start=1):
            if case["separable"]:
                branches.append(self.separable(x, 256, f"aspp{index}", rate=rate))
            else:
                branches.append(self.conv(x, 256, 3, f"aspp{index}", rate=rate))
        x = self.conv(tf.concat(branches, 3), 256, 1, "concat_projection")
        if case["decoder"]:
            with v1.variable_scope("decoder"):
                low_level = self.conv(low_level, 48, 1, "feature_projection0")
                x = tf.concat([resize(x, low_level.shape[1:3]), low_level], 3)
                for index in range(2):
                    if case["separable"]:
                        x = self.separable(x, 256, f"decoder_conv{index}")
                    else:
                        x = self.conv(x, 256, 3, f"decoder_conv0/decoder_conv0_{index + 1}")
        with v1.variable_scope("logits/semantic"):
            weights = self.variable("weights", self.rng.normal(0, 0.5, (1, 1, 256, case["classes"])))
            biases = self.variable("biases", self.rng.normal(0, 0.1, case["classes"]))
        return resize(tf.nn.convolution(x, weights) + biases, image.shape[1:3])


def pad_alike(x, rate):
    return tf.pad(x, [[0, 0], [rate, rate], [rate, rate], [0, 0]])


def resize(x, size):
    """Bilinear with align_corners=True in float64; TensorFlow's own, which rounds to float32, checks it."""
    rows, columns = (interpolation(int(old), int(new)) for old, new in zip(x.shape[1:3], size, strict=True))
    resized = tf.einsum("yh,xw,nhwc->nyxc", rows, columns, x)
    own = v1.image.resize_bilinear(x, [int(side) for side in size], align_corners=True)
    near = v1.debugging.assert_near(tf.cast(resized, tf.float32), own, rtol=1e-4, atol=1e-4)
    with tf.control_dependencies([near]):
        return tf.identity(resized)


def interpolation(old, new):
    """new×old: what each new position takes of the old ones."""
    positions = np.arange(new) * ((old - 1) / max(new - 1, 1))
    below = np.minimum(positions.astype(int), max(old - 2, 0))
    matrix = np.zeros((new, old))
    matrix[np.arange(new), below] = 1 - (positions - below)
    matrix[np.arange(new), np.minimum(below + 1, old - 1)] += positions - below
    return matrix


def session():
    return v1.Session(config=v1.ConfigProto(device_count={"CPU": 2}, intra_op_parallelism_threads=1))


def write_case(case, directory):
    """`<name>/model.ckpt-7.*`, `<name>.npz` with every variable, and `<name>_logits.npz` with the image and logits."""
    with tf.Graph().as_default(), session() as running:
        image = np.random.default_rng(1).uniform(-1, 1, (1, *case["size"], 3))
        network = Network(case)
        logits = network.logits(tf.constant(image))
        step = v1.train.get_or_create_global_step()
        variables = v1.global_variables()
        running.run(v1.variables_initializer(variables), network.values)
        if case["slots"]:
            average = v1.train.ExponentialMovingAverage(0.5).apply(v1.trainable_variables())
            train = v1.train.MomentumOptimizer(0.01, 0.9).minimize(tf.reduce_mean(logits**2), global_step=step)
            running.run(v1.variables_initializer(v1.global_variables()[len(variables) :]))
            running.run(train)
            running.run(average)
        (directory / case["name"]).mkdir()
        saver = v1.train.Saver(v1.global_variables(), sharded=case["shards"] > 1)
        saver.save(running, str(directory / case["name"] / "model.ckpt"), global_step=7, write_meta_graph=False)
        values = running.run({value.op.name: value for value in v1.global_variables()})
        np.savez(directory / f"{case['name']}.npz", **{name.replace("/", "|"): value for name, value in values.items()})
        np.savez(directory / f"{case['name']}_logits.npz", image=image, logits=running.run(logits))


def write_others(directory):
    """What is no DeepLab: every type, a partitioned variable, the first format, a graph, a TensorFlow 2 checkpoint."""
    values = {
        "half": np.float16([[1.5, -2.25]]),
        "double": np.float64([np.pi]),
        "int": np.int32([[-5, 7]]),
        "long": np.int64(-(2**40)),
        "empty": np.zeros((0, 3), np.float32),
        "string": np.array(["text"]),
    }
    with tf.Graph().as_default(), session() as running, ExitStack() as stack:
        bfloat16 = tf.cast(tf.constant([1.0, -0.15625, 3e38]), tf.bfloat16)
        tensors = [*map(tf.constant, values.values()), bfloat16]
        prefix = str(directory / "types.ckpt")
        running.run(tf.raw_ops.SaveV2(prefix=prefix, tensor_names=[*values, "bfloat16"], shape_and_slices=[""] * 7,
                                      tensors=tensors))  # fmt: skip
        del values["string"]
        np.savez(directory / "types.npz", **values, bfloat16=running.run(tf.cast(bfloat16, tf.float32)))
        stack.enter_context(v1.variable_scope("parts", partitioner=v1.fixed_size_partitioner(2)))
        parts = v1.get_variable("weights", shape=(4, 3), use_resource=False)
        running.run(v1.global_variables_initializer())
        v1.train.Saver([parts]).save(running, str(directory / "partitioned.ckpt"))
        old = v1.train.Saver({"weights": next(iter(parts))}, write_version=v1.train.SaverDef.V1)
        old.save(running, str(directory / "first_format.ckpt"))
        tf.io.write_graph(tf.Graph().as_graph_def(), str(directory), "frozen_inference_graph.pb", as_text=False)
    with tf.Graph().as_default(), session() as running:
        keras = v1.train.Checkpoint(layer=v1.get_variable("kernel", initializer=1.0))
        running.run(v1.global_variables_initializer())
        keras.save(str(directory / "objects.ckpt"), session=running)


if __name__ == "__main__":
    target = Path(sys.argv[2])
    for described in json.loads(Path(sys.argv[1]).read_text()):
        write_case(described, target)
    write_others(target)
