"""What a recipe's run starts from: the model, the loss and the samples."""

import torch

from atrous.data import Augmentation, Classes, SegmentationDataset
from atrous.data.balance import bounded_weights, count_pixels, median_frequency_weights
from atrous.layers import BatchNorm2d
from atrous.models import SegmentationModel, backbone_of, create_model
from atrous.training.losses import Loss
from atrous.training.recipe import Recipe
from atrous.training.refusals import refuse_weights
from atrous.training.samples import Photos, TrainingCrops
from atrous.weights import IMAGENET, SYMMETRIC, ModelCard, load_backbone, load_imagenet


def make_model(recipe: Recipe, classes: Classes) -> tuple[SegmentationModel, ModelCard]:
    """The model that a recipe starts from, and its card.

    Raises:
        AtrousError: options that the architecture does not take, or weights that are not there or do not fit.
    """
    settings = recipe.model
    model = create_model(settings.name, len(classes.names), settings.output_stride, **settings.options)
    mean, std = IMAGENET if "resnet" in settings.name else SYMMETRIC
    if settings.pretrained_backbone == "imagenet":
        load_imagenet(model.backbone, backbone_of(settings.name))
    elif settings.pretrained_backbone:
        mean, std = load_backbone(model.backbone, settings.pretrained_backbone)
    for module in model.modules():
        if isinstance(module, BatchNorm2d):
            module.momentum = settings.batch_norm_momentum
            if settings.fixed_batch_norm:
                module.freeze()
            if settings.fixed_batch_norm == "all":
                module.requires_grad_(False)
    card = ModelCard(
        classes=classes.names,
        palette=classes.palette,
        mean=mean,
        std=std,
        licence=recipe.licence,
        description=recipe.description,
    )
    return model.to(memory_format=torch.channels_last), card  # type: ignore[call-overload]


def make_loss(recipe: Recipe, dataset: SegmentationDataset) -> Loss:
    """A recipe's loss; class weights that it only names are made of a data set's histogram.

    Raises:
        AtrousError: weights that are not one for each class, or a mask that cannot be read.
    """
    settings = recipe.loss
    refuse_weights(recipe, dataset.classes)
    weights: tuple[float, ...] | None
    if isinstance(settings.class_weights, str):
        make = {"median_frequency": median_frequency_weights, "bounded": bounded_weights}[settings.class_weights]
        weights = tuple(map(float, make(count_pixels(dataset))))
    else:
        weights = settings.class_weights
    return Loss(settings.parts, weights, settings.hardest, settings.gamma)


def training_crops(photos: Photos, recipe: Recipe, card: ModelCard, ignore_index: int) -> TrainingCrops:
    """What a recipe's training steps are fed."""
    augmentation = Augmentation(**recipe.augment.model_dump())
    return TrainingCrops(photos, augmentation, card, recipe.seed, ignore_index)
