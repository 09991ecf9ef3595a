"""Photos and data sets: reading, folders of labelled data, augmentation."""

from atrous.data.folder import Classes, SegmentationFolder, read_classes
from atrous.data.image import IMAGE_SUFFIXES, MAX_PIXELS, ImageSource, describe_source, find_images, read_image
from atrous.data.transforms import Augmentation

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "Augmentation",
    "Classes",
    "ImageSource",
    "SegmentationFolder",
    "describe_source",
    "find_images",
    "read_classes",
    "read_image",
]
