"""Predict with what a run has trained: images, folders and videos in, arrays and files out.

:mod:`moca.predict.trained` registers what configs of downstream runs name; features of a backbone
(:mod:`moca.predict.backbones`) need nothing of mmseg and mmdet.
"""
