"""A peer gets the model's very weights: its labels are those of the model run as the peer runs it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from atrous.bench import peers as running
from atrous.bench.contestants import Contestant, LeftOut, peers, smp_network
from atrous.data.blotches import blotches
from atrous.errors import AtrousError
from atrous.inference import load
from atrous.models import create_model
from atrous.weights import card_for, open_model, save_model
from networks import randomise
from peers import PEERS

COMMON = {"threads": 1, "device": "cpu"}


def saved(folder, name, **options):
    torch.manual_seed(0)
    model = randomise(create_model(name, 21, **options)).float()
    nn.init.normal_(model.logits.weight, std=5.0)  # random logits hardly differ; these do
    save_model(model, card_for(21), folder / "model")
    return open_model(folder / "model"), str(folder / "model")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("peer", "name", "options"),
    [
        ("torchvision", "torchvision_deeplabv3_mobilenet_v3_large", {"aux": True}),
        ("smp", "smp_deeplabv3plus_mobilenet_v2", {"output_stride": 8, "channels": 64}),
        ("transformers", "deeplabv3_mobilenet_v2_050", {"output_stride": 16}),
    ],
)
def test_labels_of_the_same_weights(request, monkeypatch, tmp_path, peer, name, options):
    request.getfixturevalue(peer)
    monkeypatch.syspath_prepend(str(PEERS))
    opened, source = saved(tmp_path, name, **options)
    taking_part = {each.name: each for each in peers(opened, source, tmp_path)}
    contestant = taking_part[peer]
    assert isinstance(contestant, Contestant)
    assert contestant.packages.split()[-1][0].isdigit()
    assert sum(isinstance(each, Contestant) for each in taking_part.values()) == 1
    photos = list(np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8))
    labels = getattr(running, peer)({**COMMON, **contestant.spec})(photos)
    mean, std = (torch.tensor(each)[:, None, None] for each in (opened.card.mean, opened.card.std))
    x = (torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2) / 255 - mean) / std
    with torch.inference_mode():
        coarse = opened.model.coarse_logits(x)
        aligned = opened.model.align_corners and peer != "transformers"
        expected = F.interpolate(coarse, (64, 96), mode="bilinear", align_corners=aligned).argmax(1).numpy()
    assert len(np.unique(expected)) > 1
    assert (np.stack(labels) == expected).mean() > 0.999


@pytest.mark.slow
def test_litert_takes_its_own_file_in_its_own_size(litert, monkeypatch, shared_data, tmp_path):
    monkeypatch.syspath_prepend(str(PEERS))
    file = shared_data / "weights/coral/deeplabv3_mnv2_dm05_pascal_quant.tflite"
    by_name = {each.name: each for each in peers(open_model(file), str(file), tmp_path)}
    spec = {**COMMON, **by_name["litert"].spec}
    with pytest.raises(AtrousError, match="takes photos of 513×513 alone: give --size 513x513"):
        running.litert({**spec, "size": [129, 129]})
    photo = np.ascontiguousarray(blotches(513, 513))
    [labels] = running.litert({**spec, "size": [513, 513]})([photo])
    assert (labels == load(file, "cpu")(photo).labels).mean() > 0.98


@pytest.mark.slow
def test_who_cannot_take_part_says_why(torchvision, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(PEERS))
    opened, source = saved(tmp_path, "torchvision_deeplabv3_mobilenet_v3_large", output_stride=8)
    reasons = {each.name: each.reason for each in peers(opened, source, tmp_path) if isinstance(each, LeftOut)}
    assert reasons["torchvision"] == "has the output stride 16 alone, the model has 8"
    assert reasons["litert"].startswith(("runs TFLite files", "not installed"))


@pytest.mark.parametrize(
    ("options", "encoder"), [({"stride_placement": "first_3x3"}, "tu-resnet50"), ({"output_stride": 8}, "resnet50")]
)
def test_which_of_smps_two_resnets_it_is(options, encoder):
    with torch.device("meta"):
        network, chosen = smp_network(create_model("smp_deeplabv3_resnet50", **options))
    assert network == "DeepLabV3"
    assert chosen["encoder_name"] == encoder
    assert chosen["encoder_output_stride"] == 8
