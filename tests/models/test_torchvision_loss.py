"""The loss of torchvision's training script."""

import pytest
import torch
import torch.nn.functional as F

from atrous.models import create_model
from networks import image, randomise


@pytest.mark.parametrize("aux", [False, True])
def test_the_loss_is_the_cross_entropy_and_two_fifths_of_the_auxiliary_one(aux):
    model = randomise(create_model("torchvision_deeplabv3_mobilenet_v3_large", 5, aux=aux))
    target = torch.randint(0, 5, (1, 65, 97), generator=torch.Generator().manual_seed(0))
    target[:, :20] = 255
    x = image(65, 97)
    with torch.no_grad():
        expected = F.cross_entropy(model(x), target, ignore_index=255)
        if aux:
            coarse = model.all_logits(x)[1]
            auxiliary = F.interpolate(coarse, (65, 97), mode="bilinear", align_corners=False)
            expected = expected + 0.4 * F.cross_entropy(auxiliary, target, ignore_index=255)
        torch.testing.assert_close(model.loss(x, target), expected)
