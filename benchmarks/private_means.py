"""What noise costs in Dice: the mean of many small clients, with noise that they add in shares, and without.

    flames preprocess --config sample_configs/real-small.toml --size 64
    flames partition --config sample_configs/real-small.toml --dataset busi --dataset otu2d \\
        --split busi=36 --split otu2d=84
    python benchmarks/private_means.py --workspace flames-workspace --noise 0 0.25 0.5 1 --rounds 25

All shards of one modality are clients of `fedavg-modality` with equal weights. Each client makes one epoch of
Adam from the server's model with the soft Dice loss, clips its update, encodes it in words of 64 bits, and
adds its share of the noise by the code of `flames federate`. Masks are left out, since they cancel in the
sum. The Dice is the mean over the images of the server's test set, which no client has, at a threshold of
0.5; the loss is over the same images.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from flames_cli.arrays import Weights
from flames_cli.core.federated.algorithm import Privacy
from flames_cli.core.federated.distributed_noise import NoiseShares, add_noise, clipped_update, private_mean
from flames_cli.core.federated.reports import Entries
from flames_cli.core.rng import derive_rng
from flames_cli.fed.dataset_cache import DatasetCache
from flames_cli.fed.node import NodeSettings
from flames_cli.fed.privacy_accountant import privacy_spent
from flames_cli.learn.losses import dice_loss
from flames_cli.learn.models import build_model
from flames_cli.learn.models.arrays import load_weights, to_weights
from flames_cli.learn.models.base import SegmentationModel
from flames_cli.secagg.fixed_point import FIXED_POINTS
from flames_cli.secagg.random_words import RandomWords
from flames_cli.secagg.session import least_reports

Cases = tuple[torch.Tensor, torch.Tensor]
"""Images and masks, N×1×H×W."""

FIXED = FIXED_POINTS[64]


def read_cases(shard: Path, set_name: str) -> Cases:
    """Return the images of a shard's set in [-1, 1], and their masks."""
    data = DatasetCache().load(NodeSettings((shard,)), set_name)
    pairs = [data.example(index) for index in range(len(data))]
    images = torch.from_numpy(np.stack([image for image, _ in pairs])[:, None])
    return 2 * images - 1, torch.from_numpy(np.stack([mask for _, mask in pairs])[:, None].astype(np.float32))


def train(model: SegmentationModel, cases: Cases, lr: float, order: np.ndarray) -> Weights:
    """Return the weights after one epoch over the cases, in batches of 4."""
    model.train()
    optimiser = torch.optim.Adam(model.parameters(), lr)
    for batch in np.array_split(order, -(-len(order) // 4)):
        optimiser.zero_grad()
        dice_loss(model(cases[0][batch]), cases[1][batch]).backward()
        optimiser.step()
    return to_weights(model)


def test(model: SegmentationModel, cases: Cases) -> tuple[float, float]:
    """Return the mean Dice over the images, at a threshold of 0.5, and the loss."""
    model.eval()
    with torch.no_grad():
        found = torch.cat([model(part) for part in cases[0].split(32)])
    mask, true = (found > 0.5).float(), cases[1]
    dice = (2 * (mask * true).sum((1, 2, 3)) + 1e-6) / (mask.sum((1, 2, 3)) + true.sum((1, 2, 3)) + 1e-6)
    return float(dice.mean()), float(dice_loss(found, true))


def run_rounds(given: argparse.Namespace, shards: list[Path], noise: float) -> None:
    """Train with this noise, and print what came of it."""
    clients, tests = [read_cases(one, "train") for one in shards], read_cases(given.server, "test")
    options = {"base_channels": given.base_channels, "depth": given.depth}
    model = build_model("unet", seed=given.seed, norm="group", **options)
    state, n, norms = to_weights(model), len(clients), []
    entries, size = Entries.of(state), sum(array.size for array in state.values())
    shares = NoiseShares(noise or 1.0, given.clip, size, FIXED.fraction, FIXED.bits, n, least_reports(n))
    for round_ in range(1, given.rounds + 1):
        total, began, norms = np.zeros(size, FIXED.dtype), time.process_time(), []
        for number, cases in enumerate(clients):
            load_weights(model, state)
            order = derive_rng(given.seed, "order", round_, number).permutation(len(cases[0]))
            after = train(model, cases, given.lr, order)
            norms.append(float(np.sqrt(sum(((after[k] - state[k]) ** 2).sum() for k in state))))
            update, words = clipped_update(after, state, given.clip), np.empty(size, FIXED.dtype)
            values = np.concatenate([array.ravel() for array in update.values()])
            FIXED.encode_into(words, values, 1.0, n, "update")
            if noise:
                add_noise(words, shares.variance, RandomWords())
            total += words
        decoded, sums, at = FIXED.decode(total), {}, 0
        for name, array in state.items():
            sums[name] = decoded[at : at + array.size].reshape(array.shape)
            at += array.size
        state = private_mean(state, sums, n, entries, "fp32")
        load_weights(model, state)
        if round_ % given.every == 0 or round_ == given.rounds:
            dice, loss = test(model, tests)
            spent = privacy_spent(Privacy(noise, given.clip, 1e-5), round_)["epsilon"] if noise else np.inf
            print(
                f"noise {noise:g} seed {given.seed} d {size} n {n} round {round_}: Dice {dice:.3f}, loss "
                f"{loss:.3f}, median norm {np.median(norms):.3f}, epsilon {spent:.3g}, "
                f"{time.process_time() - began:.1f} s of CPU a round",
                flush=True,
            )


def main() -> None:
    """Read the options and run all noises."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--modality", default="US")
    parser.add_argument("--noise", type=float, nargs="+", default=[0.0, 0.5, 1.0])
    parser.add_argument("--clip", type=float, default=0.5)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--every", type=int, default=5, help="rounds between two tests")
    parser.add_argument("--lr", type=float, default=1e-2)
    parser.add_argument("--base-channels", type=int, default=2)
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    folder = given.workspace / "partitions" / "default" / "shards"
    given.server = folder / f"server-{given.modality}.h5"
    shards = sorted(one for one in folder.glob("*.h5") if not one.name.startswith("server-"))
    for noise in given.noise:
        run_rounds(given, shards, noise)


if __name__ == "__main__":
    main()
