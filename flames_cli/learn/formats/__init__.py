"""Files of a model for other programs: ONNX, torch.export, and a bundle for MONAI."""

FORMAT_PATHS = {"onnx": "model.onnx", "torch-export": "model.pt2", "monai-bundle": "monai-bundle"}
"""File or folder of each format, in the folder of the model."""

TOLERANCE = 1e-4
"""Largest difference of a probability from that of torch with which a file is accepted."""
