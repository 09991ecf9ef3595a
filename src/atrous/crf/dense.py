"""The fully connected CRF with any kernels (Krähenbühl and Koltun, 2011; DeepLab v1, section 4.2).

    E(x) = Σ_i U_i(x_i) + Σ_{i<j} Σ_m μ_m(x_i, x_j) exp(-|f_i - f_j|² / 2)

Mean-field inference goes towards the product of independent distributions that is closest to exp(-E).
"""

from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from atrous.crf.params import CRFParams
from atrous.errors import AtrousError
from atrous.ops import Permutohedral, gaussian_filter

Normalisation: TypeAlias = Literal["none", "before", "after", "symmetric"]
Filter: TypeAlias = Callable[[Tensor], Tensor]

_TINY = 1e-20


class Kernel:
    """A Gaussian between all points, and how it is normalised by the filter's answer to ones.

    Args:
        filter: what gives, for B×K×… values, the Gaussian's sum over all points.
        like: 1×1×… or B×1×… ones, of the values' type and device.
        normalisation: what the values are divided by: nothing; that answer, before or after the filter; or its
            square root, before and after ("symmetric", which the papers' code does).
    """

    def __init__(self, filter: Filter, like: Tensor, normalisation: Normalisation = "symmetric") -> None:
        if normalisation not in get_args(Normalisation):
            raise AtrousError(f"normalisation={normalisation!r} is not one of {', '.join(get_args(Normalisation))}")
        self._filter = filter
        power = {"none": 0.0, "before": 1.0, "after": 1.0, "symmetric": 0.5}[normalisation]
        with torch.no_grad():
            scale = (filter(like) + _TINY) ** -power
        self._before = scale if normalisation in ("before", "symmetric") else None
        self._after = scale if normalisation in ("after", "symmetric") else None

    def __call__(self, values: Tensor) -> Tensor:
        """B×K×… filtered; gradients flow back."""
        if self._before is not None:
            values = values * self._before
        values = self._filter(values)
        return values if self._after is None else values * self._after


def spatial_kernel(like: Tensor, sxy: float, normalisation: Normalisation = "symmetric") -> Kernel:
    """exp(-|Δp|² / 2 sxy²) between the pixels of B×1×H×W."""
    return Kernel(lambda values: gaussian_filter(values, sxy), like, normalisation)


def feature_kernel(like: Tensor, features: Tensor, normalisation: Normalisation = "symmetric") -> Kernel:
    """exp(-|Δf|² / 2) for features B×points×d of the points of B×1×…, in the order of their memory."""
    lattice = Permutohedral(features)

    def filter(values: Tensor) -> Tensor:
        return lattice.filter(values.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(values.shape)

    return Kernel(filter, like, normalisation)


def bilateral_features(images: Tensor, sxy: float, srgb: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """B×(H·W)×5: x and y over `sxy`, red, green and blue of B×H×W×3 over `srgb`."""
    count, height, width, _ = images.shape
    y, x = torch.meshgrid(
        torch.arange(height, device=images.device), torch.arange(width, device=images.device), indexing="ij"
    )
    places = torch.stack([x, y], -1).to(dtype)[None] * (1 / sxy)
    colours = images.to(dtype) * (1 / srgb)
    return torch.cat([places.expand(count, -1, -1, -1), colours], -1).reshape(count, height * width, 5)


class DenseCRF:
    """Mean-field inference, a step at a time if wanted.

    Args:
        unary: K×… energies, -log P, of any number of dimensions; or B×K×… with `batched`. Float32 or float64, on any
            device; +inf is a label that cannot be.

    Attributes:
        q: probabilities of `unary`'s shape, the unaries' alone at first.

    Raises:
        AtrousError: energies that are NaN or -inf, or a point that no label is possible for.
    """

    def __init__(self, unary: Tensor, batched: bool = False) -> None:
        unary = unary if batched else unary[None]
        if unary.ndim < 3 or not unary.numel():
            shape = tuple(unary.shape[1 - batched :])
            raise AtrousError(f"unary of shape {shape}: it is labels × points, or labels × height × width")
        check_unary(unary)
        self._unary = unary.clamp(max=torch.finfo(unary.dtype).max / 16)
        self._batched = batched
        self._terms: list[tuple[Kernel, Tensor]] = []
        self._q = (-self._unary).softmax(1)
        self._pairwise: Tensor | None = None

    @property
    def q(self) -> Tensor:
        return self._q if self._batched else self._q[0]

    def add_gaussian(
        self, sxy: float, compatibility: float | Tensor, normalisation: Normalisation = "symmetric"
    ) -> None:
        """A spatial Gaussian of an image's pixels; `sxy` in pixels. See `add_features` for the rest.

        Raises:
            AtrousError: unaries that are no image's, or a width that is not above 0.
        """
        if self._unary.ndim != 4:
            raise AtrousError("add_gaussian is for images: unary of labels × height × width")
        _check_widths(sxy=sxy)
        self.add_kernel(spatial_kernel(self._ones(), sxy, normalisation), compatibility)

    def add_bilateral(
        self,
        image: Tensor,
        sxy: float,
        srgb: float,
        compatibility: float | Tensor,
        normalisation: Normalisation = "symmetric",
    ) -> None:
        """A Gaussian over places and colours of `image` H×W×3 (B×H×W×3), 0..255. See `add_features` for the rest.

        Raises:
            AtrousError: an image that is not of the unaries' size, or a width that is not above 0.
        """
        _check_widths(sxy=sxy, srgb=srgb)
        images = image if self._batched else image[None]
        expected = (self._unary.shape[0], *self._unary.shape[2:], 3)
        if images.shape != expected:
            given = tuple(image.shape)
            raise AtrousError(f"image of shape {given} for unaries of {tuple(expected[1 - self._batched :])}")
        features = bilateral_features(images.to(self._unary.device), sxy, srgb, self._unary.dtype)
        self.add_kernel(feature_kernel(self._ones(), features, normalisation), compatibility)

    def add_features(
        self, features: Tensor, compatibility: float | Tensor, normalisation: Normalisation = "symmetric"
    ) -> None:
        """A Gaussian over any features.

        Args:
            features: points × d (B × points × d), in units of the Gaussian's standard deviation, d up to 16.
            compatibility: a number w: two points with different labels pay w times the kernel (Potts). K numbers: two
                points that share label l are paid w_l. K×K: two points with labels k and l pay μ(k, l).
            normalisation: "none", "before", "after" or "symmetric"; see `Kernel`.

        Raises:
            AtrousError: what does not fit the unaries.
        """
        features = (features if self._batched else features[None]).to(self._unary)
        points = self._unary[0, 0].numel()
        if features.ndim != 3 or features.shape[:2] != (len(self._unary), points):
            raise AtrousError(f"features of shape {tuple(features.shape)} for {points} points")
        self.add_kernel(feature_kernel(self._ones(), features, normalisation), compatibility)

    def add_kernel(self, kernel: Kernel, compatibility: float | Tensor) -> None:
        """Any kernel between the points; see `add_features` for `compatibility`."""
        self._terms.append((kernel, as_matrix(compatibility, self._unary)))
        self._pairwise = None

    def _ones(self) -> Tensor:
        return torch.ones_like(self._unary[:, :1])

    def infer(self, iterations: int = 10) -> Tensor:
        """Takes so many steps and returns `q`.

        Raises:
            AtrousError: fewer than 0 iterations.
        """
        check_iterations(iterations)
        for _ in range(iterations):
            self.step()
        return self.q

    def step(self) -> None:
        """One mean-field update of all points at once."""
        self._q = (-self._unary - self._pairwise_energy()).softmax(1)
        self._pairwise = None

    def kl(self) -> float:
        """KL(q ‖ P) up to a constant: Σ q log q + Σ q U + ½ Σ q (pairwise energy). Costs as much as a step.

        Updates of all points at once need not lower it each time, though they nearly always do.
        """
        q = self._q.double()
        unary = (q * self._unary.double()).masked_fill(q == 0, 0).sum()
        entropy = torch.special.entr(q).sum()
        return float(unary - entropy + 0.5 * (q * self._pairwise_energy().double()).sum())

    def _pairwise_energy(self) -> Tensor:
        if self._pairwise is None:
            messages = (torch.einsum("kl,bl...->bk...", matrix, kernel(self._q)) for kernel, matrix in self._terms)
            self._pairwise = sum(messages, torch.zeros_like(self._q))
        return self._pairwise


def as_matrix(compatibility: float | Tensor, unary: Tensor) -> Tensor:
    """What each label pays for each other, K×K, for unaries B×K×….

    Agreement that is paid for is a negative price; Potts' model in that form has the same minimum.
    """
    labels = unary.shape[1]
    given = torch.as_tensor(compatibility, dtype=unary.dtype, device=unary.device)
    if not bool(given.isfinite().all()) or tuple(given.shape) not in ((), (labels,), (labels, labels)):
        shape = tuple(given.shape)
        raise AtrousError(
            f"compatibility of shape {shape} for {labels} labels: give a finite number, K, or K×K of them"
        )
    return given if given.ndim == 2 else -torch.diag(given.expand(labels))


def check_unary(unary: Tensor) -> None:
    """Refuses energies of B×K×… that no probabilities have."""
    if bool(unary.isnan().any() | unary.isneginf().any()):
        raise AtrousError("unary holds NaN or -inf: it is -log P of each label")
    if bool(unary.isposinf().all(1).any()):
        raise AtrousError("unary is inf for every label of a point: one of them must be possible")


def check_iterations(iterations: int) -> None:
    if iterations < 0:
        raise AtrousError(f"iterations={iterations}: give 0 or more")


def _check_widths(**widths: float) -> None:
    for name, width in widths.items():
        if not 0 < width < float("inf"):
            raise AtrousError(f"{name}={width:g} is out of range: give more than 0")


def dense_crf(unary: Tensor, images: Tensor, params: CRFParams) -> DenseCRF:
    """The papers' CRF of B×K×H×W and B×H×W×3."""
    crf = DenseCRF(unary, batched=True)
    crf.add_gaussian(params.gaussian_sxy, params.gaussian_weight)
    crf.add_bilateral(images, params.bilateral_sxy, params.bilateral_srgb, params.bilateral_weight)
    return crf
