"""A student learns a teacher's soft labels of photos that nobody has labelled.

Simply what the DeepLab authors do in "Naive-Student" (Chen et al., ECCV 2020): a teacher, seeing each photo at several
scales and mirrored, labels it once; the student learns these labels under strong augmentation, with the labelled photos
beside them where there are any. Unlike there the labels stay soft (Hinton et al., 2015) and each pixel counts by how
sure the teacher was of it.
"""

from atrous.training.distillation.agreement import Agreement
from atrous.training.distillation.distill import SoftLesson, distill, soft_lesson
from atrous.training.distillation.pupil import soft_cross_entropy
from atrous.training.distillation.soft_crops import SoftCrops, soften
from atrous.training.distillation.teacher import TaughtPhotos, teach

__all__ = [
    "Agreement",
    "SoftCrops",
    "SoftLesson",
    "TaughtPhotos",
    "distill",
    "soft_cross_entropy",
    "soft_lesson",
    "soften",
    "teach",
]
