"""The Lovász-softmax loss with its gradient, counted in steps, against segmentation_models.pytorch's, which sorts.

    python benchmarks/lovasz.py

A batch as recipes/street.yaml has it: 8 crops of 321×321, 11 classes, logits at stride 4 of a network that is nearly
right. smp's loss is given the upsampled logits, as its users do.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from atrous.training.losses import lovasz_softmax
from compare import by_turns, line
from peers import import_peer
from record import record

BATCH, CLASSES, COARSE, SIZE = 8, 11, 81, 321


def main() -> None:
    torch.set_num_threads(2)
    smp = import_peer("segmentation_models_pytorch")
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, CLASSES, (BATCH, COARSE, COARSE), generator=generator)
    right = 4 * F.one_hot(target, CLASSES).movedim(-1, 1).float()
    logits = (right + torch.randn(right.shape, generator=generator)).contiguous(memory_format=torch.channels_last)
    logits.requires_grad_()
    target = F.interpolate(target[:, None].float(), (SIZE, SIZE))[:, 0].long()
    target[torch.rand(target.shape, generator=generator) < 0.05] = 255
    criterion = smp.losses.LovaszLoss("multiclass", ignore_index=255)

    def ours() -> tuple[Tensor, Tensor]:
        loss = lovasz_softmax(logits, target)
        return loss, torch.autograd.grad(loss, logits)[0]

    def theirs() -> tuple[Tensor, Tensor]:
        full = F.interpolate(logits, (SIZE, SIZE), mode="bilinear", align_corners=True)
        loss = criterion(full, target)
        return loss, torch.autograd.grad(loss, logits)[0]

    measured = by_turns(ours, theirs, 5)
    (loss, gradient), (other, expected) = ours(), theirs()
    differ = {
        "loss_differs": abs(float(loss - other)),
        "gradients_differ": float((gradient - expected).norm() / expected.norm()),
    }
    print(line("Lovász-softmax, 8 × 321×321, 11 classes", measured, "smp"))
    print(record("lovasz", {"command": "python benchmarks/lovasz.py", **measured, **differ}))


if __name__ == "__main__":
    main()
