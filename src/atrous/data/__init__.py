"""Photos and data sets: reading, folders of labelled data, augmentation."""

from atrous.data.cache import CachedDataset
from atrous.data.classes import Classes, read_classes
from atrous.data.dataset import SegmentationDataset
from atrous.data.image import IMAGE_SUFFIXES, MAX_PIXELS, ImageSource, describe_source, find_images, read_image
from atrous.data.opening import list_splits, open_dataset
from atrous.data.transforms import Augmentation, Placement

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "Augmentation",
    "CachedDataset",
    "Classes",
    "ImageSource",
    "Placement",
    "SegmentationDataset",
    "describe_source",
    "find_images",
    "list_splits",
    "open_dataset",
    "read_classes",
    "read_image",
]
