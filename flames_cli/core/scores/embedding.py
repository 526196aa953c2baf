"""Map of the cases in two dimensions (t-SNE), as in the paper's figure of the clients' training images."""

from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from flames_cli.core.rng import derive_seed

# scikit-learn takes two seconds to import. The late imports spend this time only when these functions run.

MIN_CASES = 5


def embed(
    features: NDArray[Any], seed: int, perplexity: float = 30.0, pca_components: int = 50
) -> NDArray[np.float64]:
    """Map N×D features to N×2 positions: PCA to at most `pca_components`, then t-SNE that starts from PCA.

    Features are not scaled, so all of them must have the same unit. The perplexity is lowered to (N - 1) / 3
    if N is small. One thread is used, because the sums of t-SNE depend on the number of threads: the same
    seed and features give the same map.

    Raises:
        ValueError: there are fewer than 5 cases or 2 features, a value is not finite, or all cases are alike.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    _check_features(features)
    cases = len(features)
    state = derive_seed(seed, "embedding") % 2**32
    with threadpool_limits(limits=1):
        pca = PCA(min(pca_components, *features.shape), random_state=state)
        reduced = pca.fit_transform(np.asarray(features, dtype=np.float64))
        tsne = TSNE(perplexity=min(perplexity, (cases - 1) / 3), init="pca", random_state=state)
        return np.asarray(tsne.fit_transform(reduced), dtype=np.float64)


def separation(features: NDArray[Any], labels: Sequence[str]) -> float | None:
    """Return the mean silhouette of the labels in [-1, 1]: 1 well separated, 0 mixed, below 0 swapped.

    Source: Rousseeuw 1987.

    Args:
        features: N×D.
        labels: one label per case. The result is None with fewer than two labels, or if a label has one case
            only.

    Raises:
        ValueError: the lengths differ.
    """
    from sklearn.metrics import silhouette_score

    if len(features) != len(labels):
        raise ValueError(f"got {len(features)} cases and {len(labels)} labels, expected one label per case")
    _, counts = np.unique(np.asarray(labels), return_counts=True)
    if len(counts) < 2 or counts.min() < 2:
        return None
    return float(silhouette_score(features, np.asarray(labels)))


def thumbnail_features(images: Iterable[NDArray[Any]], side: int = 32) -> NDArray[np.float32]:
    """Return the area-averaged pixels of images in [0, 1], all of one shape, row by row.

    H×W images give N×side²; H×W×3 images give N×3·side², with the colours of a pixel next to each other. A
    height or width below `side` is not changed. The images may be a generator, so that not all of them must
    be in memory.

    Raises:
        ValueError: there is no image, the shapes differ, or a shape is neither H×W nor H×W×3.
    """
    thumbnails = [_thumbnail(image, side) for image in images]
    shapes = {thumbnail.shape for thumbnail in thumbnails}
    if len(shapes) != 1:
        raise ValueError(
            f"got thumbnails of {len(shapes)} shapes {sorted(shapes)}, expected one; resize the images alike"
        )
    return np.stack(thumbnails).reshape(len(thumbnails), -1)


def _thumbnail(image: NDArray[Any], side: int) -> NDArray[np.float32]:
    if image.size == 0 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
        raise ValueError(f"got an image of shape {image.shape}, expected H×W or H×W×3")
    height, width = image.shape[:2]
    pixels = np.ascontiguousarray(image, dtype=np.float32)
    small = cv2.resize(pixels, (min(width, side), min(height, side)), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.float32)


def _check_features(features: NDArray[Any]) -> None:
    if features.ndim != 2 or features.shape[0] < MIN_CASES or features.shape[1] < 2:
        raise ValueError(
            f"got features of shape {features.shape}, expected N×D with N >= {MIN_CASES} cases and D >= 2; "
            "embed more cases"
        )
    if not np.isfinite(features).all():
        raise ValueError("got features that are not finite, expected numbers; leave those cases out")
    if (features == features[0]).all():
        raise ValueError(
            f"got {len(features)} cases that are all alike, expected different ones; check the images"
        )
