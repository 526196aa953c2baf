"""A model on an image that is an array, without files: for a viewer, a web service or an own evaluation.

    python examples/use_a_model.py --workspace own-loop --modality US image.png

`--model FOLDER` takes a folder that `flames export` made, in place of a run of the workspace.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

import flames_cli as flames


def main() -> None:
    """Predict one image, print what was found, and store the mask as a picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("image", type=Path)
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--run", help="run whose model is used; without it the newest")
    parser.add_argument("--modality", default="US")
    parser.add_argument("--model", help="model folder, or its name in the workspace")
    asked = parser.parse_args()

    source = {"model": asked.model} if asked.model else {"run": asked.run, "modality": asked.modality}
    model = flames.load_model(**source, workspace=asked.workspace)
    print(f"{model}, trained on {sum(one.images for one in model.facts.training.clients)} images")

    image = np.asarray(Image.open(asked.image).convert("L"))
    found = model.predict(image, tta="flips")
    share = found.mask.mean()
    print(f"{image.shape[0]}×{image.shape[1]} pixels, {share:.1%} tumour above {model.threshold:g}")
    print(f"largest probability {found.probabilities.max():.3f}")
    target = asked.image.with_name(f"{asked.image.stem}-mask.png")
    Image.fromarray(found.mask * np.uint8(255)).save(target)
    print("mask in", target)


if __name__ == "__main__":
    main()
