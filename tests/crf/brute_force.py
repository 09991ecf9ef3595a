"""Mean-field inference as the paper writes it, over all pairs of pixels in float64: what the tests hold ours to."""

import numpy as np


def normalised(kernel):
    """D^-1/2 · kernel · D^-1/2."""
    root = np.sqrt(kernel.sum(1))
    return kernel / root[:, None] / root


def kernels(image, params):
    """The two Gaussians between all pixels: N×N each, not normalised."""
    height, width, _ = image.shape
    y, x = np.mgrid[:height, :width]
    places = np.stack([x, y], -1).reshape(-1, 2).astype(float)
    colours = image.reshape(-1, 3).astype(float)
    far = ((places[:, None] - places) ** 2).sum(-1)
    unlike = ((colours[:, None] - colours) ** 2).sum(-1)
    spatial = np.exp(-far / (2 * params.gaussian_sxy**2))
    bilateral = np.exp(-far / (2 * params.bilateral_sxy**2) - unlike / (2 * params.bilateral_srgb**2))
    return spatial, bilateral


def softmax(energies):
    e = np.exp(-(energies - energies.min(0)))
    return e / e.sum(0)


def mean_field(unary, image, params, iterations):
    """K×H×W energies to Q: each pixel pays for every neighbour's other labels (v1, equation 5)."""
    spatial, bilateral = (normalised(kernel) for kernel in kernels(image, params))
    weighted = params.gaussian_weight * spatial + params.bilateral_weight * bilateral
    flat = unary.reshape(len(unary), -1).astype(float)
    q = softmax(flat)
    for _ in range(iterations):
        heard = q @ weighted
        others = heard.sum(0) - heard
        q = softmax(flat + others)
    return q.reshape(unary.shape)
