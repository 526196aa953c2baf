"""The first difference between the entries of two models."""

from flames_cli.arrays import Weights


def find_difference(weights: Weights, reference: Weights) -> str | None:
    """Describe the first difference in names, shapes or dtypes from `reference`; None if there is none."""
    if missing := [name for name in reference if name not in weights]:
        return f"'{missing[0]}' is missing"
    if extra := [name for name in weights if name not in reference]:
        return f"'{extra[0]}' is not in the model"
    for name, expected in reference.items():
        got = weights[name]
        if got.shape != expected.shape:
            return f"'{name}' has shape {got.shape}, expected {expected.shape}"
        if got.dtype != expected.dtype:
            return f"'{name}' is {got.dtype}, expected {expected.dtype}"
    return None
