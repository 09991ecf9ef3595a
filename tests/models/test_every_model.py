"""What every registered model must bear: any size, export, compilation, a training step with a batch of one."""

import pytest
import torch

from atrous.models import create_model, list_models
from atrous.ops import upsample_cross_entropy
from networks import one_of_each_kind

every_model = pytest.mark.parametrize("name", list_models())
every_kind = pytest.mark.parametrize("name", one_of_each_kind())


def on_meta(name):
    """Shapes alone: no memory, no arithmetic."""
    with torch.device("meta"):
        return create_model(name, num_classes=3).eval()


@every_model
@pytest.mark.parametrize("size", [(512, 512), (513, 513), (97, 131)])
def test_logits_have_the_inputs_size(name, size):
    assert on_meta(name)(torch.empty(2, 3, *size, device="meta")).shape == (2, 3, *size)


@every_model
def test_it_goes_through_torch_export(name):
    model, x = on_meta(name), torch.empty(1, 3, 97, 131, device="meta")
    assert torch.export.export(model, (x,)).module()(x).shape == (1, 3, 97, 131)


@every_kind
def test_it_compiles_as_one_graph(name):
    model, x = on_meta(name), torch.empty(1, 3, 97, 131, device="meta")
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True)  # raises where the graph would break
    assert compiled(x).shape == (1, 3, 97, 131)


@pytest.mark.parametrize("name", ["deeplabv3plus_mobilenet_v2_050", "deeplabv3_mobilenet_v2_050"])
def test_the_exported_graph_computes_the_same(name):
    torch.manual_seed(0)
    model, x = create_model(name, num_classes=3).eval(), torch.randn(1, 3, 65, 97)
    exported = torch.export.export(model, (x,)).module()
    with torch.inference_mode():
        torch.testing.assert_close(exported(x), model(x))


@pytest.mark.slow
@every_kind
def test_it_trains_a_step_with_a_batch_of_one(name):
    """At the papers' crop of 321. Image pooling leaves one value a channel, which torch's batch norm refuses."""
    torch.manual_seed(0)
    model = create_model(name, num_classes=4).train()
    loss = upsample_cross_entropy(model.coarse_logits(torch.randn(1, 3, 321, 321)), torch.randint(0, 4, (1, 321, 321)))
    loss.backward()
    auxiliary = {key for key, _ in model.named_parameters() if key.startswith("auxiliary")}
    silent = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert set(silent) <= auxiliary
