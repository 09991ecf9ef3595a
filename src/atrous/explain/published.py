"""What the four papers say of their models, to be set beside what a model here shows."""

from dataclasses import dataclass

Row = tuple[str, ...]


@dataclass(frozen=True)
class Paper:
    """One of the papers.

    Attributes:
        title: with its arXiv number.
        mark: how `SegmentationModel.paper` begins for its models.
        model: what is walked through if no model is named.
        new: what it brought.
        results: its own mean IoU in per cent on VOC 2012 val, and what led to it.
        numbers: architecture, what was counted, its value as printed.
    """

    title: str
    mark: str
    model: str
    new: str
    results: tuple[Row, ...]
    numbers: tuple[Row, ...] = ()


PAPERS = {
    "v1": Paper(
        title="DeepLab v1 (arXiv 1412.7062)",
        mark="v1,",
        model="deeplabv1_vgg16_largefov",
        new=(
            "VGG-16 made fully convolutional. The strides of its last two poolings are taken out and the convolutions "
            "behind them get a rate, so that scores come at stride 8 rather than 32 with the same weights; a fully "
            "connected CRF then sharpens the upsampled scores."
        ),
        results=(
            ("kernel 4×4, rate 4", "59.80", "63.74"),
            ("kernel 7×7, rate 4", "64.38", "67.64"),
            ("LargeFOV: kernel 3×3, rate 12", "62.25", "67.64"),
            ("LargeFOV with multi-scale features", "64.21", "68.70"),
        ),
        numbers=(
            ("deeplabv1_vgg16", "parameters", "134.3M"),
            ("deeplabv1_vgg16", "field of view of fc6", "224"),
            ("deeplabv1_vgg16_largefov", "parameters", "20.5M"),
            ("deeplabv1_vgg16_largefov", "field of view of fc6", "224"),
        ),
    ),
    "v2": Paper(
        title="DeepLab v2 (arXiv 1606.00915)",
        mark="v2,",
        model="deeplabv2_resnet101",
        new=(
            "Atrous spatial pyramid pooling: several 3×3 convolutions side by side on the same features, each at a "
            "rate of its own, whose scores are added; and ResNet-101 in place of VGG-16, at output stride 8."
        ),
        results=(
            ("VGG-16, LargeFOV", "65.76", "69.84"),
            ("VGG-16, ASPP-L", "68.96", "71.57"),
            ("ResNet-101, MSC + COCO + augmentation, LargeFOV", "75.54", ""),
            ("ResNet-101, MSC + COCO + augmentation, ASPP", "76.35", "77.69"),
        ),
    ),
    "v3": Paper(
        title="DeepLab v3 (arXiv 1706.05587)",
        mark="v3,",
        model="deeplabv3_resnet101",
        new=(
            "ASPP with batch norm, a 1×1 branch and image-level features, its branches concatenated rather than added; "
            "multi-grid rates in the last block; and an output stride that can be changed after training. No CRF."
        ),
        results=(
            ("ResNet-101, output stride 16", "77.21", ""),
            ("evaluated at output stride 8", "78.51", ""),
            ("with multi-scale inputs", "79.45", ""),
            ("and flipped ones", "79.77", ""),
        ),
        numbers=(
            ("deeplabv3_resnet101", "parameters (MobileNetV2, table 7, with the stem of three 3×3)", "58.16M"),
            ("deeplabv3_mobilenet_v2", "parameters (MobileNetV2, table 7)", "2.11M"),
            ("deeplabv3_mobilenet_v2", "multiply-adds at 513×513 (released models' table)", "2.75B"),
        ),
    ),
    "v3plus": Paper(
        title="DeepLab v3+ (arXiv 1802.02611)",
        mark="v3+,",
        model="street",
        new=(
            "v3 as an encoder, and a small decoder: the encoder's output is upsampled, joined with low-level features "
            "at stride 4 and refined, which sharpens edges. Atrous separable convolutions make ASPP and decoder light."
        ),
        results=(
            ("ResNet-101, no decoder, output stride 16", "77.21", ""),
            ("ResNet-101, decoder", "78.85", ""),
            ("Xception-65, no decoder", "79.17", ""),
            ("Xception-65, decoder, separable", "79.79", ""),
        ),
        numbers=(
            ("deeplabv3plus_xception65", "multiply-adds at 513×513 (table 5)", "54.17B"),
            ("deeplabv3plus_resnet101", "multiply-adds at 513×513 (table 3)", "101.28B"),
        ),
    ),
}
