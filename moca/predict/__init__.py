"""Predict with what a run has trained: images, folders and videos in, arrays and files out.

Importing the package registers what configs of downstream runs name.
"""

import moca.transfer  # noqa: F401  (before others import mmseg and mmdet, which print then)
