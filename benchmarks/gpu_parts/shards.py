"""The clients and the server's unseen patients, from shards as `flames partition` writes them."""

from dataclasses import dataclass, field
from pathlib import Path

from flames_cli.errors import FlamesError
from flames_cli.learn.data import ShardDataset
from flames_cli.store.h5 import read_shard_sets, read_shard_summary
from gpu_parts.inputs import draw_cases

PHANTOMS = (("brats-1", "MRI"), ("brats-2", "MRI"), ("brats-3", "MRI"), ("busi", "US"), ("otu2d", "US"))


@dataclass(frozen=True, slots=True)
class Client:
    """A client and its cases."""

    name: str
    modality: str
    train: ShardDataset
    val: ShardDataset
    test: ShardDataset


@dataclass(frozen=True, slots=True)
class Unseen:
    """The server's test set of one modality, all organs together."""

    modality: str
    cases: ShardDataset


@dataclass(frozen=True, slots=True)
class Hospitals:
    """All who take part."""

    clients: list[Client]
    unseen: list[Unseen] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Return the side of the images."""
        return int(self.clients[0].train.example(0)[0].shape[0])

    @property
    def channels(self) -> int:
        """Return 1 for grey images, 3 for colour."""
        image = self.clients[0].train.example(0)[0]
        return 1 if image.ndim == 2 else int(image.shape[2])


def find_clients(folder: Path) -> list[Path]:
    """Return the clients' shards in `folder`, by name; a server's has no training cases."""
    return [path for path in sorted(folder.glob("*.h5")) if _is_client(path)]


def _is_client(path: Path) -> bool:
    try:
        read_shard_summary(path)
    except FlamesError:
        return False
    return True


def read_hospitals(folder: Path) -> Hospitals:
    """Read every shard in `folder`; what is no client's is a server's, or no shard at all."""
    clients, unseen = [], []
    for path in sorted(folder.glob("*.h5")):
        if _is_client(path):
            clients.append(_read_client(path))
        elif found := _read_unseen(path):
            unseen.append(found)
    if not clients:
        raise FlamesError(f"{folder} contains no client's shard; make some with `flames partition`")
    trained = {client.modality for client in clients}
    return Hospitals(clients, [one for one in unseen if one.modality in trained])


def _read_client(path: Path) -> Client:
    summary = read_shard_summary(path)
    sets = [ShardDataset(read_shard_sets(path, name)) for name in ("train", "val", "test")]
    return Client(summary.name, summary.modality, *sets)


def _read_unseen(path: Path) -> Unseen | None:
    try:
        sets = [cases for cases in read_shard_sets(path, "test") if len(cases)]
    except FlamesError:
        return None
    return Unseen(sets[0].info.modality, ShardDataset(sets)) if sets else None


def draw_hospitals(n: int, size: int) -> Hospitals:
    """Draw phantoms: five clients of two modalities with opposite contrast, and unseen patients of each."""
    clients = []
    for number, (name, modality) in enumerate(PHANTOMS):
        counts = ((n, 10), (max(n // 6, 1), 20), (max(n // 4, 1), 30))
        sets = [
            ShardDataset([draw_cases(count, size, name, modality, seed + number)]) for count, seed in counts
        ]
        clients.append(Client(name, modality, *sets))
    unseen = [
        Unseen(modality, ShardDataset([draw_cases(max(n // 4, 1), size, name, modality, 40)]))
        for name, modality in (("brats", "MRI"), ("busi", "US"))
    ]
    return Hospitals(clients, unseen)
