"""Each loss against its formula written out in loops, and its gradient against differences."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from atrous.errors import AtrousError
from atrous.ops import lovasz_losses, upsample_cross_entropy
from atrous.training.losses import Loss, dice_loss, focal_loss, lovasz_softmax

VOID = 255
WEIGHT = torch.tensor([0.5, 2.0, 1.0, 3.0], dtype=torch.float64)


def batch(seed, images=2, coarse=(3, 4), size=(7, 9)):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, 4, *coarse, generator=generator, dtype=torch.float64) * 2
    target = torch.randint(0, 4, (images, *size), generator=generator)
    target[torch.rand(target.shape, generator=generator) < 0.3] = VOID
    return logits, target


def pixels(logits, target, align_corners):
    """Every pixel that counts: its probabilities and its label."""
    full = F.interpolate(logits, target.shape[1:], mode="bilinear", align_corners=align_corners).numpy()
    for image in range(len(full)):
        for y, x in np.ndindex(*target.shape[1:]):
            if target[image, y, x] != VOID:
                scores = np.exp(full[image, :, y, x] - full[image, :, y, x].max())
                yield scores / scores.sum(), int(target[image, y, x])


def focal_by_hand(points, weight, gamma):
    total = sum(-weight[k] * (1 - p[k]) ** gamma * np.log(p[k]) for p, k in points)
    return total / sum(weight[k] for _, k in points)


def dice_by_hand(points, weight):
    losses = {}
    for k in {label for _, label in points}:
        both = sum(p[k] for p, label in points if label == k)
        losses[k] = 1 - 2 * both / sum(p[k] + (label == k) for p, label in points)
    return sum(weight[k] * loss for k, loss in losses.items()) / sum(weight[k] for k in losses)


def jaccard_loss(wrong, truth):
    """1 - IoU of a class if the pixels of `wrong` are the ones in error."""
    found = truth ^ wrong
    return 1 - (found & truth).sum() / (found | truth).sum()


def lovasz_by_hand(points, weight):
    """The extension's definition: each error, from the largest on, times what its pixel adds to the set's loss."""
    losses = {}
    for k in {label for _, label in points}:
        truth = np.array([label == k for _, label in points])
        errors = np.array([1 - p[k] if label == k else p[k] for p, label in points])
        wrong, before, loss = np.zeros(len(points), bool), 0.0, 0.0
        for index in np.argsort(-errors, kind="stable"):
            wrong[index] = True
            after = jaccard_loss(wrong, truth)
            loss += errors[index] * (after - before)
            before = after
        losses[k] = loss
    return sum(weight[k] * loss for k, loss in losses.items()) / sum(weight[k] for k in losses)


@given(seed=st.integers(0, 999), align=st.booleans(), weighted=st.booleans(), images=st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_each_loss_is_its_formula(seed, align, weighted, images):
    logits, target = batch(seed, images)
    points = list(pixels(logits, target, align))
    options = {"align_corners": align, "weight": WEIGHT if weighted else None}
    weight = WEIGHT.numpy() if weighted else np.ones(4)
    assert float(focal_loss(logits, target, gamma=1.5, **options)) == pytest.approx(focal_by_hand(points, weight, 1.5))
    assert float(dice_loss(logits, target, **options)) == pytest.approx(dice_by_hand(points, weight))
    assert float(lovasz_softmax(logits, target, **options)) == pytest.approx(lovasz_by_hand(points, weight))


LOSSES = {
    "focal": focal_loss,
    "focal, gamma .5": lambda *args, **options: focal_loss(*args, gamma=0.5, **options),
    "dice": dice_loss,
    "lovasz": lovasz_softmax,
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


@every_loss
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
def test_gradients_are_the_losses_slopes(loss, weight):
    logits, target = batch(3, coarse=(2, 2), size=(3, 5))
    assert torch.autograd.gradcheck(lambda x: loss(x, target, weight=weight), logits.requires_grad_())


@every_loss
def test_void_is_never_seen(loss):
    """Neither what the network says of void pixels, nor how many there are, changes the loss or its gradient."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 4, 7, 9, generator=generator, dtype=torch.float64)
    _, target = batch(1, images=1)
    changed = logits.clone()
    changed[:, :, target[0] == VOID] += torch.randn(4, int((target == VOID).sum()), generator=generator).double() * 9
    gradients = []
    for scores in (logits, changed):
        scores.requires_grad_()
        value = loss(scores, target)
        gradients.append(torch.autograd.grad(value, scores)[0])
        assert value.item() == pytest.approx(loss(logits, target).item())
    torch.testing.assert_close(*gradients)
    assert (gradients[0][:, :, target[0] == VOID] == 0).all()
    # More void beside the same pixels: an image of void alone.
    more = torch.cat([logits, logits]), torch.cat([target, torch.full_like(target, VOID)])
    assert loss(*more).item() == pytest.approx(loss(logits, target).item())


@every_loss
@pytest.mark.parametrize("weight", [None, WEIGHT.float()], ids=["plain", "weighted"])
def test_a_batch_of_void_alone_gives_zero_and_a_gradient_of_zero(loss, weight):
    logits = torch.randn(2, 4, 3, 4, requires_grad=True)
    value = loss(logits, torch.full((2, 7, 9), VOID), weight=weight)
    value.backward()
    assert value.item() == 0
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@every_loss
def test_a_right_network_loses_nothing_and_extreme_logits_are_finite(loss):
    _, target = batch(5)
    sure = F.one_hot(torch.where(target == VOID, 0, target), 4).movedim(-1, 1) * 200.0
    for sign in (1, -1):
        logits = (sign * sure).requires_grad_()
        value = loss(logits, target)
        value.backward()
        assert torch.isfinite(logits.grad).all()
        assert value.item() == pytest.approx(0, abs=1e-6) if sign == 1 else value > 0.9


@every_loss
def test_the_same_batch_twice_loses_as_much(loss):
    """A mean, not a sum, and not divided by the batch's size once more."""
    logits, target = batch(7)
    twice = loss(torch.cat([logits, logits]), torch.cat([target, target]))
    assert float(twice) == pytest.approx(loss(logits, target).item())


@every_loss
def test_labels_that_are_no_class_are_named(loss):
    logits, target = batch(2)
    target[0, 0, 0] = 4
    with pytest.raises(AtrousError, match="the target holds 4: labels are 0 to 3, or 255 where ignored"):
        loss(logits, target)


def test_focal_with_gamma_zero_is_cross_entropy():
    for weight in (None, WEIGHT):
        logits, target = batch(11)
        expected = upsample_cross_entropy(logits, target, weight=weight)
        assert float(focal_loss(logits, target, weight=weight, gamma=0)) == pytest.approx(float(expected))


def test_a_hard_decisions_lovasz_loss_is_one_minus_iou():
    """At the corners of the cube the extension is the set function (Berman et al., section 2.2)."""
    target = torch.tensor([[[0, 0, 1, 1], [1, 1, 1, 0]]])
    said = torch.tensor([[[0, 1, 1, 1], [1, 0, 1, 0]]])
    logits = F.one_hot(said, 2).movedim(-1, 1) * 300.0
    iou = [2 / 4, 4 / 6]
    assert float(lovasz_softmax(logits, target)) == pytest.approx(1 - sum(iou) / 2)


def test_a_sum_of_losses_has_the_shares_and_the_class_weights():
    logits, target = batch(13)
    loss = Loss({"cross_entropy": 1.0, "dice": 0.5, "focal": 2.0}, tuple(WEIGHT.tolist()), hardest=0.4, gamma=3.0)
    expected = (
        upsample_cross_entropy(logits, target, weight=WEIGHT, hardest=0.4)
        + 0.5 * dice_loss(logits, target, weight=WEIGHT)
        + 2 * focal_loss(logits, target, weight=WEIGHT, gamma=3.0)
    )
    assert loss(logits, target).item() == pytest.approx(float(expected))
    assert float(Loss()(logits, target)) == pytest.approx(float(upsample_cross_entropy(logits, target)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parts": {}}, "name one or more"),
        ({"parts": {"dice": 0.0}}, "share above 0"),
        ({"parts": {"dise": 1.0}}, "no loss is called 'dise'"),
        ({"gamma": -1.0}, "gamma=-1.0"),
        ({"class_weights": (1.0, 2.0)}, "2 class_weights for 4 classes"),
        ({"hardest": 0.0}, "hardest=0.0 is not a share"),
    ],
)
def test_impossible_losses_are_refused(options, message):
    with pytest.raises(AtrousError, match=message):
        Loss(**options)(*batch(0))


def test_bfloat16_logits_lose_in_float32():
    logits, target = batch(17)
    half = logits.bfloat16()
    for loss in (focal_loss, dice_loss, lovasz_softmax):
        value = loss(half, target)
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(float(loss(half.double(), target)), rel=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_lovasz_is_smps_where_that_has_it_too(smp, seed):
    """Logits of the labels' size, as smp wants them; batch-wise, over the classes that are present."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 5, 12, 10, generator=generator, requires_grad=True)
    target = torch.randint(0, 4, (2, 12, 10), generator=generator)  # class 4 is absent
    target[:, :3] = VOID
    theirs = smp.losses.LovaszLoss("multiclass", ignore_index=VOID)(logits, target)
    ours = lovasz_softmax(logits, target)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(value, logits)[0] for value in (ours, theirs)))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (torch.zeros(1, 9, 9, dtype=torch.long), r"a target of shape \(1, 9, 9\) for 2 images: it is N×H×W"),
        (torch.zeros(2, 1, 9, 9, dtype=torch.long), r"a target of shape \(2, 1, 9, 9\) for 2 images"),
        (torch.zeros(2, 9, 9), r"a target of torch\.float32: labels are whole numbers; give target\.long\(\)"),
        (torch.zeros(2, 9, 9, dtype=torch.bool), r"a target of torch\.bool: labels are whole numbers"),
    ],
)
def test_every_loss_refuses_a_target_that_is_none(target, message):
    logits = torch.randn(2, 5, 3, 3)
    for loss in (upsample_cross_entropy, focal_loss, dice_loss, lovasz_softmax):
        with pytest.raises(AtrousError, match=message):
            loss(logits, target)
    with pytest.raises(AtrousError, match="a target of"):
        lovasz_losses(torch.rand(2, 5, 9, 9), target if target.ndim != 3 or len(target) == 1 else target[:, :3])
