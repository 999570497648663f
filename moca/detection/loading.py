"""Loading images of a detection data set; see :mod:`moca.images.loading`."""

from moca.images.loading import LoadReadableImage

__all__ = ['LoadReadableImage']
