"""Description of a model, as text, for files of other programs."""

import json

from flames_cli.store.models import ModelInfo


def describe_model(info: ModelInfo) -> dict[str, str]:
    """Return the properties of a model with which another program can prepare images and make masks."""
    given = info.input
    square = f"{given.size} x {given.size}"
    return {
        "name": info.name,
        "architecture": info.architecture.model,
        "modality": given.modality,
        "organs": json.dumps(given.organs),
        "size": str(given.size),
        "channels": str(given.channels),
        "plane": given.plane,
        "input": f"image: batch x {given.channels} x {square}, float32 in [0, 1]",
        "output": f"probability: batch x 1 x {square}, float32 in [0, 1]",
        "preparation": describe_preparation(info),
        "threshold": str(info.threshold),
        "licence": info.licence,
        "weights_sha256": info.sha256,
    }


def describe_preparation(info: ModelInfo) -> str:
    """Return the preparation of an image before it enters the model, in plain words."""
    rules = "; or ".join(str(rule) for rule in info.input.intensities) or "not known"
    return (
        f"Volumes, and images of more than 8 bits: scale to [0, 1] ({rules}). Images of 8 bits: divide by "
        "255. Then pad the shorter side with 0 to a square (an odd pixel before the image), resize to "
        f"{info.input.size} x {info.input.size} by Lanczos over 8 x 8 pixels, and clip to [0, 1]. "
        "The file itself changes [0, 1] to [-1, 1], as the model needs it."
    )
