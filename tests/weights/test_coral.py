"""Google's quantised DeepLabs: drawn ones value by value and beside LiteRT, the published ones photo by photo."""

from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from atrous.errors import WeightsError
from atrous.inference import Predictor
from atrous.layers import ConvNormAct
from atrous.models import create_model
from atrous.ops import upsample_argmax
from atrous.weights import load_backbone
from atrous.weights.tflite.coral import load_tflite
from tflite_files import RELU, Drawn, draw_classifier, draw_deeplab, pack

CORAL = {
    "deeplabv3_mnv2_pascal_quant": (0.980, "74.26 mIoU"),
    "deeplabv3_mnv2_dm05_pascal_quant": (0.970, "69.65 mIoU"),
}
THINGS = {"chelsea.png": "cat", "astronaut.png": "person", "motorcycle_left.png": "motorbike"}


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("coral") / "drawn.tflite"


@pytest.fixture(scope="module")
def schema(litert: ModuleType) -> ModuleType:
    return litert.schema_py_generated


def convert(path: Path, drawn: Drawn):
    path.write_bytes(pack(drawn.model))
    return load_tflite(path)


def interpreter(litert: ModuleType, file: Path) -> Any:
    made = litert.interpreter.Interpreter(str(file), num_threads=2)
    made.allocate_tensors()
    return made


def run(made: Any, image: np.ndarray) -> np.ndarray:
    """What LiteRT makes of a uint8 H×W×3 image."""
    made.set_tensor(made.get_input_details()[0]["index"], image[None])
    made.invoke()
    return made.get_tensor(made.get_output_details()[0]["index"])[0]


def normalised(card, image: np.ndarray) -> torch.Tensor:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (card.mean, card.std))
    return ((torch.from_numpy(image).permute(2, 0, 1) / 255 - mean) / std)[None]


@pytest.mark.parametrize("per_axis", [False, True])
@pytest.mark.parametrize("pooling_first", [False, True])
@pytest.mark.parametrize(("width", "output_stride"), [(0.5, 16), (1.0, 8)])
def test_every_weight_is_what_its_byte_stands_for(path, schema, width, output_stride, pooling_first, per_axis):
    drawn = draw_deeplab(
        schema, width=width, output_stride=output_stride, pooling_first=pooling_first, per_axis=per_axis
    )
    model = convert(path, drawn).model
    assert model.config["name"] == ("deeplabv3_mobilenet_v2_050" if width < 1 else "deeplabv3_mobilenet_v2")
    assert (model.output_stride, model.num_classes, model.training) == (output_stride, 5, False)
    modules = [module for module in model.modules() if isinstance(module, ConvNormAct)]
    assert len(drawn.layers) == len(modules) + 1  # and the logits
    for module, (kernel, bias) in zip(modules, drawn.layers, strict=False):
        if pooling_first and module is model.aspp.project:
            kernel = np.concatenate([kernel[:, 256:], kernel[:, :256]], axis=1)
        assert torch.equal(module.conv.weight, torch.from_numpy(kernel).float())
        # Batch norm does nothing but to add the bias.
        x = torch.randn(1, len(bias), 9, 7)
        assert torch.equal(module.bn(x), x + torch.from_numpy(bias).float().view(-1, 1, 1))
    kernel, bias = drawn.layers[-1]
    assert torch.equal(model.logits.weight, torch.from_numpy(kernel).float())
    assert torch.equal(model.logits.bias, torch.from_numpy(bias).float())


@pytest.mark.parametrize("name", ["deeplabv3_mobilenet_v2", "deeplabv3plus_mobilenet_v2_050"])
def test_a_classifier_starts_a_backbone_and_is_no_model(path, schema, name):
    drawn = draw_classifier(schema, 0.5 if name.endswith("050") else 1.0)
    path.write_bytes(pack(drawn.model))
    with pytest.raises(WeightsError, match="it names what a photo shows, not where"):
        load_tflite(path)
    backbone = create_model(name, 2).backbone
    assert load_backbone(backbone, path) == ((pytest.approx(128 / 255),) * 3,) * 2
    layers = [module for module in backbone.modules() if isinstance(module, ConvNormAct)]
    assert len(drawn.layers) == len(layers) + 1  # and the last, which only names have use for
    for layer, (kernel, bias) in zip(layers, drawn.layers, strict=False):
        assert torch.equal(layer.conv.weight, torch.from_numpy(kernel).float())
        assert torch.equal(layer.bn.bias, torch.from_numpy(bias).float())


def test_a_classifier_of_no_image_is_refused(path, schema):
    drawn = draw_classifier(schema)
    drawn.graph.inputs = []
    path.write_bytes(pack(drawn.model))
    with pytest.raises(WeightsError, match="it does not take one image to one result"):
        load_tflite(path)


def test_a_classifiers_other_backbone_is_refused(path, schema):
    path.write_bytes(pack(draw_classifier(schema).model))
    with pytest.raises(WeightsError, match="make the model with variant='paper'"):
        load_backbone(create_model("smp_deeplabv3plus_mobilenet_v2", 2).backbone, path)
    with pytest.raises(WeightsError, match="Google's quantised MobileNetV2 of width 1"):
        load_backbone(create_model("deeplabv3_mobilenet_v2_050", 2).backbone, path)


@pytest.mark.filterwarnings("ignore:.*experimental_preserve_all_tensors")
def test_the_published_classifiers_features(litert, shared_data):
    """On a photo they are LiteRT's, but for the rounding of some fifty layers one after another."""
    file = shared_data / "weights" / "coral" / "mobilenet_v2_1.0_224_quant.tflite"
    backbone = create_model("deeplabv3_mobilenet_v2", 2, 32).backbone.eval()
    mean, std = load_backbone(backbone, file)
    made = litert.interpreter.Interpreter(str(file), experimental_preserve_all_tensors=True)
    made.allocate_tensors()
    photo = np.array(Image.open(skimage_photo("chelsea.png")).resize((224, 224)))
    run(made, photo)
    (features,) = [t for t in made.get_tensor_details() if t["shape"].tolist() == [1, 7, 7, 320]]
    scale, zero_point = features["quantization"]
    theirs = (made.get_tensor(features["index"])[0].astype(np.float32) - zero_point) * scale
    with torch.inference_mode():
        ours = backbone(normalised(SimpleNamespace(mean=mean, std=std), photo)).output[0].permute(1, 2, 0).numpy()
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.98


@pytest.mark.parametrize("image_size", [(65, 65), (64, 99)])
@pytest.mark.parametrize(("output_stride", "pooling_first"), [(16, True), (8, False)])
def test_each_layer_computes_what_litert_computes(path, litert, image_size, output_stride, pooling_first):
    """On LiteRT's own inputs each layer gives its outputs, to the step to which it rounds them; so do all together."""
    schema = litert.schema_py_generated
    drawn = draw_deeplab(schema, image=image_size, output_stride=output_stride, pooling_first=pooling_first)
    converted = convert(path, drawn)
    model = converted.model
    drawn.graph.outputs = [operator.outputs[0] for operator in drawn.graph.operators]
    path.write_bytes(pack(drawn.model))
    made = interpreter(litert, path)
    photo = np.random.default_rng(0).integers(0, 256, (*image_size, 3), dtype=np.uint8)
    run(made, photo)

    def reals(index: int) -> torch.Tensor:
        quantisation = drawn.graph.tensors[index].quantization
        stored = torch.from_numpy(made.get_tensor(index).astype(np.float32)).permute(0, 3, 1, 2)
        return (stored - float(quantisation.zeroPoint[0])) * float(quantisation.scale[0])

    layers = [module for module in model.modules() if isinstance(module, ConvNormAct)] + [model.logits]
    kinds = [schema.BuiltinOperator.CONV_2D, schema.BuiltinOperator.DEPTHWISE_CONV_2D]
    codes = [code.builtinCode for code in drawn.model.operatorCodes]
    operators = [operator for operator in drawn.graph.operators if codes[operator.opcodeIndex] in kinds]
    for layer, operator in zip(layers, operators, strict=True):
        x, theirs = reals(operator.inputs[0]), reals(operator.outputs[0])
        if pooling_first and layer is model.aspp.project:
            x = x.roll(256, dims=1)
        quantisation = drawn.graph.tensors[operator.outputs[0]].quantization
        step, zero_point = float(quantisation.scale[0]), float(quantisation.zeroPoint[0])
        with torch.inference_mode():
            ours = layer(x).clamp(-zero_point * step, (255 - zero_point) * step)
        assert (ours - theirs).abs().max() < 1.01 * step
    with torch.inference_mode():
        logits = model(normalised(converted.card, photo))
    last = reals(drawn.operators("RESIZE_BILINEAR", schema)[-1].outputs[0])
    assert np.corrcoef(logits.ravel(), last.ravel())[0, 1] > 0.99


def test_the_card_turns_a_byte_into_what_the_graph_sees(path, schema):
    drawn = draw_deeplab(schema)
    drawn.graph.tensors[0].quantization.scale[:] = 1 / 64
    drawn.graph.tensors[0].quantization.zeroPoint[:] = 100
    first_bias = drawn.graph.tensors[drawn.graph.operators[0].inputs[2]]
    first_bias.quantization.scale *= 2
    card = convert(path, drawn).card
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    expected = (torch.from_numpy(levels).permute(2, 0, 1).float() - 100) / 64
    torch.testing.assert_close(normalised(card, levels)[0], expected, rtol=1e-6, atol=1e-6)
    assert card.classes == ("class_0", "class_1", "class_2", "class_3", "class_4")
    assert card.licence == ""  # of a file that is not known
    assert set(card.provenance) == {"sha256"}


def change(operator: str, which: int = 0, **options):
    def edit(drawn: Drawn, schema: ModuleType) -> None:
        found = drawn.operators(operator, schema)[which].builtinOptions
        for name, value in options.items():
            assert getattr(found, name) != value
            setattr(found, name, value)

    return edit


def name_the_input(drawn: Drawn, _schema: ModuleType) -> None:
    drawn.graph.tensors[0].name = "MobilenetEdgeTPU/input"


def seal(drawn: Drawn, schema: ModuleType) -> None:
    code = drawn.model.operatorCodes[0]
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = "edgetpu-custom-op"


def end_before(drawn: Drawn, _schema: ModuleType) -> None:
    drawn.graph.outputs = list(drawn.graph.operators.pop(-1).inputs[:1])


def do_twice(drawn: Drawn, _schema: ModuleType) -> None:
    drawn.graph.operators.insert(5, drawn.graph.operators[5])


def do_more(drawn: Drawn, schema: ModuleType) -> None:
    quantise = drawn.operators("QUANTIZE", schema)[0]
    more = schema.OperatorT()
    more.opcodeIndex, more.inputs, more.outputs = quantise.opcodeIndex, [0], quantise.outputs
    drawn.graph.operators.insert(20, more)


def leave_out_shortcut(drawn: Drawn, schema: ModuleType) -> None:
    add = drawn.operators("ADD", schema)[2]
    drawn.graph.operators.remove(add)
    for operator in drawn.graph.operators:
        operator.inputs = [add.inputs[0] if index == add.outputs[0] else index for index in operator.inputs]


def other_shortcut(drawn: Drawn, schema: ModuleType) -> None:
    first, second = drawn.operators("ADD", schema)[1:3]
    second.inputs = [second.inputs[0], first.inputs[1]]


def without_buffer(drawn: Drawn, _schema: ModuleType) -> None:
    drawn.graph.tensors[drawn.graph.operators[5].inputs[1]].buffer = 0


def not_quantised(drawn: Drawn, _schema: ModuleType) -> None:
    drawn.graph.tensors[drawn.graph.operators[5].inputs[1]].quantization = None


def not_a_number(drawn: Drawn, _schema: ModuleType) -> None:
    drawn.graph.tensors[drawn.graph.operators[5].inputs[1]].quantization.scale[:] = np.nan


def other_bias_scale(drawn: Drawn, _schema: ModuleType) -> None:
    drawn.graph.tensors[drawn.graph.operators[5].inputs[2]].quantization.scale *= 1.01


def without_bias(drawn: Drawn, _schema: ModuleType) -> None:
    drawn.graph.operators[5].inputs[2] = -1


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (change("CONV_2D", 4, strideW=3), "do not come to 8, 16 or 32"),
        (change("CONV_2D", 4, strideH=2), "stride_h=2, not 1"),
        (change("CONV_2D", 4, padding=1), "padding=1, not 0"),
        (change("CONV_2D", 4, fusedActivationFunction=RELU), "activation=1, not 3"),
        (change("DEPTHWISE_CONV_2D", 16, dilationHFactor=1), "rate_h=1, not 2"),
        (change("DEPTHWISE_CONV_2D", 3, depthMultiplier=2), "multiplier=2, not 1"),
        (change("AVERAGE_POOL_2D", filterWidth=3), "filter_w=3, not 5"),
        (change("RESIZE_BILINEAR", 2, alignCorners=False), "aligned corners"),
        (change("RESIZE_BILINEAR", 2, halfPixelCenters=True), "aligned corners"),
        (change("CONCATENATION", axis=2), "axis=2, not 3"),
        (change("ADD", 1, fusedActivationFunction=RELU), "activation=1, not 0"),
        (name_the_input, "no MobileNetEdgeTPU"),
        (seal, "compiled for the Edge TPU"),
        (end_before, "it ends in RESIZE_BILINEAR of shape 1×65×65×5"),
        (do_twice, "2 CONV_2D after tensor_15, not one"),
        (do_more, "1 operators too many"),
        (leave_out_shortcut, "0 ADD after"),
        (other_shortcut, "0 ADD after"),
        (without_buffer, "not stored in the file"),
        (not_quantised, "is not quantised"),
        (not_a_number, "is not quantised"),
        (other_bias_scale, "not in steps"),
        (without_bias, "no weight or no bias"),
    ],
)
def test_a_graph_that_differs_is_refused_with_the_difference(path, schema, edit, message):
    drawn = draw_deeplab(schema)
    edit(drawn, schema)
    with pytest.raises(WeightsError, match=message) as error:
        convert(path, drawn)
    assert str(error.value).startswith(f"{path}: not Google's quantised DeepLab v3 with MobileNetV2: ")
    assert "\n" not in str(error.value)


def test_another_width_is_refused(path, schema):
    with pytest.raises(WeightsError, match="its stem has 24 filters"):
        convert(path, draw_deeplab(schema, width=0.75))


@pytest.fixture(scope="module")
def content(schema) -> bytes:
    return pack(draw_deeplab(schema).model)


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_noise_in_the_tables_is_an_error_or_a_network(path, content, data):
    """All but the constants, which lie in front, stands in the last 22 kB."""
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[-data.draw(st.integers(1, 22_000))] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged)
    try:
        converted = load_tflite(path)
    except WeightsError as error:
        message = str(error)
        assert message.startswith(f"{path}: ")
    else:
        assert all(values.isfinite().all() for values in converted.model.state_dict().values())


def skimage_photo(name: str) -> Path:
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        pytest.skip("scikit-image's wheel, which carries the photos, is not installed")
    return Path(spec.origin).parent / "data" / name


@pytest.mark.slow
@pytest.mark.parametrize("name", CORAL)
def test_a_published_model_labels_photos_as_litert_does(name, litert, shared_data):
    file = shared_data / "weights" / "coral" / f"{name}.tflite"
    converted = load_tflite(file)
    model, card = converted.model, converted.card
    made, agreement = interpreter(litert, file), []
    for photo in sorted((shared_data / "data" / "photos").glob("*.jpg"))[:32]:
        pixels = np.array(Image.open(photo).convert("RGB").resize((513, 513), Image.Resampling.BILINEAR))
        with torch.inference_mode():
            logits = model.coarse_logits(normalised(card, pixels))
            labels = upsample_argmax(logits, (513, 513), model.align_corners)[0].numpy()
        agreement.append((labels == run(made, pixels)).mean())
    assert len(agreement) == 32
    print(f"{name}: {np.mean(agreement):.4f} of the pixels on average, at worst {min(agreement):.4f}")
    assert np.mean(agreement) >= CORAL[name][0]


@pytest.mark.slow
@pytest.mark.parametrize("name", CORAL)
def test_a_published_model_knows_its_classes(name, shared_data):
    converted = load_tflite(shared_data / "weights" / "coral" / f"{name}.tflite")
    predictor = Predictor(converted.model, converted.card, device="cpu")
    for photo, thing in THINGS.items():
        areas = predictor(skimage_photo(photo)).areas()
        assert max((area, label) for label, area in areas.items() if label != "background")[1] == thing


@pytest.mark.parametrize("name", CORAL)
def test_the_card_of_a_published_model_says_whence_it_comes(name, shared_data):
    converted = load_tflite(shared_data / "weights" / "coral" / f"{name}.tflite")
    card = converted.card
    assert (len(card.classes), card.classes[15], card.licence) == (21, "person", "Apache-2.0")
    assert card.provenance["published"].startswith(CORAL[name][1])
    assert card.provenance["url"].endswith(f"google-coral/test_data/master/{name}.tflite")
    assert converted.model.output_stride == 16
    assert "21 classes" in converted.found
    parameters = sum(values.numel() for values in converted.model.parameters())
    assert parameters == (697_013 if "dm05" in name else 2_113_557)  # as published


def test_the_other_published_models_are_refused(shared_data):
    folder = shared_data / "weights" / "coral"
    with pytest.raises(WeightsError, match="its input is called MobilenetEdgeTPU/MobilenetEdgeTPU/input"):
        load_tflite(folder / "deeplab_mobilenet_edgetpu_slim_cityscapes_quant.tflite")
    with pytest.raises(WeightsError, match="an ImageNet classifier: it names what a photo shows, not where"):
        load_tflite(folder / "mobilenet_v2_1.0_224_quant.tflite")
