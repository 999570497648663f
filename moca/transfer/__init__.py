"""From a protocol's config, a checkpoint and a folder of data to a run: overrides, checks, record.

Shared by segmentation and detection, whose own parts are in `moca.segmentation` and
`moca.detection`.
"""
