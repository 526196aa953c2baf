"""Names of the metrics of a comparison. Imports no numpy, so that the command line lists them quickly."""

COMPARED = (
    *("dice", "iou", "accuracy", "sensitivity", "precision", "hd95", "assd", "hausdorff", "nsd"),
    *("volume-error", "lesion-f1"),
)
"""Metrics of every comparison; no plug-in can have one of these names."""
