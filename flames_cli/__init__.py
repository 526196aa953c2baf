"""FLAMES: federated, multi-modality tumour segmentation."""

__version__ = "0.1.0"
