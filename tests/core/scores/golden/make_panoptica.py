"""Make panoptica.json: lesions matched by panoptica 2.1.7, which pins old releases of numpy and rich.

Run it in an environment of its own: pip install panoptica, then python make_panoptica.py.
"""

import json
from pathlib import Path

import numpy as np
from panoptica import (
    ConnectedComponentsInstanceApproximator,
    InputType,
    MaxBipartiteMatching,
    Panoptica_Evaluator,
)
from scipy.ndimage import gaussian_filter

SHAPES = ((1, 24, 24), (6, 12, 12))
"""An image is given as one slice, since panoptica connects the pixels of 2D masks by 4 neighbours."""


def draw(shape: tuple[int, ...], seed: int) -> list[np.ndarray]:
    """Draw two masks of blobs that overlap more or less."""
    rng = np.random.default_rng(seed)
    noise, other = (gaussian_filter(rng.normal(size=shape), 1.2) for _ in range(2))
    mixed = noise + 0.15 * (seed % 8) * other
    return [image > np.quantile(image, 0.8) for image in (mixed, noise)]


def main() -> None:
    """Write the masks, packed to bits, and panoptica's counts of them."""
    cases = []
    for min_iou in (0.1, 0.3):
        evaluator = Panoptica_Evaluator(
            expected_input=InputType.SEMANTIC,
            instance_approximator=ConnectedComponentsInstanceApproximator(),
            instance_matcher=MaxBipartiteMatching(matching_threshold=min_iou),
        )
        for seed in range(24):
            pred, target = draw(SHAPES[seed % 2], seed)
            found = evaluator.evaluate(pred.astype(np.uint8), target.astype(np.uint8), verbose=False)
            result = found["ungrouped"]
            cases.append(
                {
                    "shape": pred.shape,
                    "pred": np.packbits(pred).tobytes().hex(),
                    "target": np.packbits(target).tobytes().hex(),
                    "min_iou": min_iou,
                    "lesions": int(result.n_ref_instances),
                    "predicted": int(result.n_pred_instances),
                    "matched": int(result.tp),
                    "f1": float(result.rq),
                }
            )
    lines = ",\n".join(json.dumps(case) for case in cases)
    Path(__file__).with_name("panoptica.json").write_text(f"[\n{lines}\n]\n", "utf-8")


if __name__ == "__main__":
    main()
