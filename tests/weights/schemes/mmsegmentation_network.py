"""mmsegmentation's DeepLabs transcribed in plain torch, with its module names, for the tests of its scheme.

From open-mmlab/mmsegmentation: `backbones/resnet.py`, `utils/res_layer.py`, `decode_heads/{aspp,sep_aspp,fcn}_head.py`,
and `DepthwiseSeparableConvModule` of open-mmlab/mmcv. Dropout is left out.
"""

import torch
import torch.nn.functional as F
from torch import nn


class ConvModule(nn.Module):
    def __init__(self, ins, outs, kernel, dilation=1, groups=1):
        super().__init__()
        self.conv = nn.Conv2d(
            ins, outs, kernel, padding=dilation * (kernel // 2), dilation=dilation, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(outs)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


class SeparableConvModule(nn.Module):
    def __init__(self, ins, outs, dilation=1):
        super().__init__()
        self.depthwise_conv = ConvModule(ins, ins, 3, dilation, groups=ins)
        self.pointwise_conv = ConvModule(ins, outs, 1)

    def forward(self, x):
        return self.pointwise_conv(self.depthwise_conv(x))


class Bottleneck(nn.Module):
    def __init__(self, ins, planes, stride, dilation, downsample):
        super().__init__()
        self.conv1 = nn.Conv2d(ins, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, 4 * planes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * planes)
        self.downsample = None
        if downsample:
            self.downsample = nn.Sequential(
                nn.Conv2d(ins, 4 * planes, 1, stride, bias=False), nn.BatchNorm2d(4 * planes)
            )

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(self.bn3(self.conv3(out)) + shortcut)


def res_layer(ins, planes, count, stride, dilation, multi_grid):
    """`contract_dilation`: the first unit has half the rate of the others, but where `multi_grid` says all."""
    first = dilation // 2 if dilation > 1 else dilation
    rates = [first] + [dilation] * (count - 1) if multi_grid is None else multi_grid
    units = [Bottleneck(ins, planes, stride, rates[0], downsample=True)]
    units += [Bottleneck(4 * planes, planes, 1, rate, downsample=False) for rate in rates[1:]]
    return nn.Sequential(*units)


class ResNet(nn.Module):
    def __init__(self, depths, deep_stem, strides, dilations, multi_grid):
        super().__init__()
        if deep_stem:
            self.stem = nn.Sequential(
                *(nn.Conv2d(3, 32, 3, 2, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU()),
                *(nn.Conv2d(32, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU()),
                *(nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU()),
            )
        else:
            self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
            self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        ins = 64
        for index, (count, stride, dilation) in enumerate(zip(depths, strides, dilations, strict=True)):
            planes = 64 * 2**index
            layer = res_layer(ins, planes, count, stride, dilation, multi_grid if index == 3 else None)
            self.add_module(f"layer{index + 1}", layer)
            ins = 4 * planes

    def forward(self, x):
        x = self.stem(x) if hasattr(self, "stem") else F.relu(self.bn1(self.conv1(x)))
        x, outs = self.maxpool(x), []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            outs.append(x)
        return outs


class ASPPHead(nn.Module):
    def __init__(self, num_classes, channels, dilations, align_corners, separable):
        super().__init__()
        self.align_corners = align_corners
        self.conv_seg = nn.Conv2d(channels, num_classes, 1)
        self.image_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), ConvModule(2048, channels, 1))
        self.aspp_modules = nn.ModuleList([ConvModule(2048, channels, 1)])
        for dilation in dilations[1:]:
            branch = (
                SeparableConvModule(2048, channels, dilation) if separable else ConvModule(2048, channels, 3, dilation)
            )
            self.aspp_modules.append(branch)
        self.bottleneck = ConvModule((len(dilations) + 1) * channels, channels, 3)
        if separable:
            self.c1_bottleneck = ConvModule(256, 48, 1)
            self.sep_bottleneck = nn.Sequential(
                SeparableConvModule(channels + 48, channels), SeparableConvModule(channels, channels)
            )

    def resize(self, x, size):
        return F.interpolate(x, size, mode="bilinear", align_corners=self.align_corners)

    def forward(self, features):
        x = features[3]
        branches = [self.resize(self.image_pool(x), x.shape[2:]), *(branch(x) for branch in self.aspp_modules)]
        x = self.bottleneck(torch.cat(branches, 1))
        if hasattr(self, "c1_bottleneck"):
            low = self.c1_bottleneck(features[0])
            x = self.sep_bottleneck(torch.cat([self.resize(x, low.shape[2:]), low], 1))
        return self.conv_seg(x)


class FCNHead(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv_seg = nn.Conv2d(256, num_classes, 1)
        self.convs = nn.Sequential(ConvModule(1024, 256, 3))

    def forward(self, features):
        return self.conv_seg(self.convs(features[2]))


class EncoderDecoder(nn.Module):
    """Args: `mg124` is the configurations' d16-mg124; else they are d8."""

    def __init__(
        self, plus, depth=50, num_classes=19, deep_stem=True, aux=True, mg124=False, align_corners=False, channels=512
    ):
        super().__init__()
        depths = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}[depth]
        if mg124:
            self.backbone = ResNet(depths, deep_stem, (1, 2, 2, 1), (1, 1, 1, 2), (1, 2, 4))
        else:
            self.backbone = ResNet(depths, deep_stem, (1, 2, 1, 1), (1, 1, 2, 4), None)
        dilations = (1, 6, 12, 18) if mg124 else (1, 12, 24, 36)
        self.decode_head = ASPPHead(num_classes, channels, dilations, align_corners, plus)
        if aux:
            self.auxiliary_head = FCNHead(num_classes)

    def forward(self, x):
        """The logits at the image's size, and the auxiliary head's at their own."""
        features = self.backbone(x)
        logits = self.decode_head.resize(self.decode_head(features), x.shape[2:])
        return logits, self.auxiliary_head(features) if hasattr(self, "auxiliary_head") else None
