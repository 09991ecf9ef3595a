"""The released VGG-16 of v1 and v2 written out from their Caffe layers, in plain torch."""

import torch.nn.functional as F

BLOCKS = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))


def conv(x, state, name, **options):
    return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], **options)


def vgg(x, state, pools, pool5a=False):
    """conv1_1 to pool5 (and the average pooling pool5a behind it); the outputs of the five pools.

    Args:
        pools: (kernel, stride, padding) of pool1 to pool5.
    """
    outputs = []
    for index, (block, (kernel, stride, padding)) in enumerate(zip(BLOCKS, pools, strict=True)):
        rate = 2 if index == 4 else 1
        for number in block:
            x = F.relu(conv(x, state, f"backbone.features.{number}", padding=rate, dilation=rate))
        x = F.max_pool2d(x, kernel, stride, padding, ceil_mode=True)
        outputs.append(x)
    if pool5a:
        outputs[-1] = F.avg_pool2d(x, 3, 1, 1)
    return outputs


NOUP = [(2, 2, 1)] * 3 + [(2, 1, 0), (3, 1, 1)]
LARGE_FOV = [(3, 2, 1)] * 3 + [(3, 1, 1)] * 2
