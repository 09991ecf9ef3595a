"""Predicting on many machines."""

from atrous.cluster.places import list_photos
from atrous.cluster.predicting import predict_on_ray
from atrous.cluster.worker import Done, Task

__all__ = ["Done", "Task", "list_photos", "predict_on_ray"]
