"""MobileNetV2 (arXiv 1801.04381, table 2) up to its 320-channel layer, as DeepLab uses it."""

from atrous.backbones.inverted_residual import MobileBackbone, Stage, inverted_residuals, mobile_stem

# kernel, stride, expansion, channels, repeats
STAGES = (
    Stage(3, 1, 1, 16, 1),
    Stage(3, 2, 6, 24, 2),
    Stage(3, 2, 6, 32, 3),
    Stage(3, 2, 6, 64, 4),
    Stage(3, 1, 6, 96, 3),
    Stage(3, 2, 6, 160, 3),
    Stage(3, 1, 6, 320, 1),
)


def mobilenet_v2() -> MobileBackbone:
    return MobileBackbone(mobile_stem(32), inverted_residuals(32, STAGES))


def mobilenet_v2_050() -> MobileBackbone:
    """Width .5: every channel count is halved exactly (the released code's divisible_by = 1)."""
    stages = [stage._replace(channels=stage.channels // 2) for stage in STAGES]
    return MobileBackbone(mobile_stem(16), inverted_residuals(16, stages))
