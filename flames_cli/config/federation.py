"""Options of `flames federate`."""

import dataclasses
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, create_model

from flames_cli.config.section import ENGINE, RUN_PANEL, TRUST, Section, option
from flames_cli.config.values import (
    DEFAULT_ROUND,
    Device,
    Factor,
    FoldSet,
    Fraction,
    Name,
    Names,
    Part,
    Precision,
    Rate,
    Round,
    Seeds,
)
from flames_cli.learn.models import training_defaults
from flames_cli.learn.train_options import (
    BY_MODEL,
    FEDERATION,
    MODEL,
    NAME_LISTS,
    STRATEGY,
    TRAINING,
    TrainOptions,
)
from flames_cli.store.workspace import DEFAULT_PARTITION


def _key_of(entry: dataclasses.Field[Any]) -> tuple[Any, Any]:
    """Return the type and the pydantic field of an option that is declared in a dataclass."""
    kind: Any = entry.type
    if entry.name in BY_MODEL:
        return kind | None, Field(default=None, **entry.metadata)
    if entry.name in NAME_LISTS:
        kind = Names
    return kind, Field(default=entry.default, **entry.metadata)


TRAINING_KEYS: dict[str, Any] = {entry.name: _key_of(entry) for entry in fields(TrainOptions)}
"""Type and pydantic field of every option of `TrainOptions`, by name."""

_TrainSection = create_model("_TrainSection", __base__=Section, **TRAINING_KEYS)
"""Section with a key for every option of `TrainOptions`."""


class FederateConfig(_TrainSection, Section):
    """Options of `flames federate`; those of local training are the fields of `TrainOptions`."""

    strategy: str = option(
        "flames", "Federated strategy; see the list below.", names="strategies", metavar="STRATEGY"
    )
    model: str = option(
        "densenet-unet", "Segmentation model; see the list below.", names="models", metavar="MODEL"
    )
    rounds: Annotated[int, Field(ge=1)] = option(50, "Number of rounds in total.", may_change=True)
    engine: Literal["inline", "ray", "superlink", "swarm"] = option(
        "inline",
        "Engine that runs the clients: inline in this process; ray as many simulated nodes on this machine "
        "(needs the extra flames-cli\\[ray]); superlink on real nodes, which `flames deploy` sets up; swarm "
        "in this process, as peers that exchange their weights with neighbours, without a server.",
        may_change=True,
    )
    device: Device = option("auto", "Device for training.", may_change=True)
    precision: Precision = option("auto", "Precision of the model's arithmetic.", may_change=True)
    compile: Literal["auto", "off", "on"] = option(
        "auto",
        "Compile the model with torch.compile, which takes a minute or more: on, off, or auto (on CUDA if "
        "the training left takes 5 minutes or more).",
        may_change=True,
    )
    lr_by_modality: dict[str, Rate] = option(
        {}, "Learning rates of modalities or clients that have their own.", TRAINING
    )
    local_epochs_by_modality: dict[str, Annotated[int, Field(ge=1, le=10_000)]] = option(
        {}, "Local epochs of modalities or clients that have their own.", TRAINING
    )
    lr_schedule: Literal["constant", "cosine", "step"] = option(
        "constant",
        "Learning rate over the rounds: constant, cosine (falls to 0 at the end), or step (a tenth after "
        "half of the rounds, a hundredth after three quarters).",
        TRAINING,
    )
    warmup: Annotated[int, Field(ge=0)] = option(
        0, "Rounds in which the learning rate rises to --lr in equal steps.", TRAINING, metavar="ROUNDS"
    )
    model_options: dict[str, int | float] = option(
        {},
        "Option of the model, such as base_channels=8; may be repeated.",
        MODEL,
        flag="--model-option",
        metavar="NAME=NUMBER",
    )
    encoder_weights: str | None = option(
        None,
        "Initial weights of the encoder: imagenet, none or a weights file.",
        MODEL,
        shown="imagenet for densenet-unet, else none",
        metavar="imagenet|none|FILE",
    )
    start_from: str | None = option(
        None,
        "Initial weights of all models: a run (each model from the one of its modality, and with strategy "
        "local each client from its own), a model folder, its name in models/, or a .safetensors, .pth or "
        ".pt file.",
        MODEL,
        shown="drawn by seed",
        names="runs and families",
        metavar="RUN|MODEL|FILE",
    )
    start_round: Round | None = option(
        None,
        "Round of the run of --start-from: best, best-small, last or a number, as in `flames evaluate`.",
        MODEL,
        shown=DEFAULT_ROUND,
        metavar="ROUND",
    )
    share: Literal["all", "content"] = option(
        "all",
        "Entries that clients share: with content, the style of sd-utnet or sdnet stays at the client.",
        FEDERATION,
    )
    style_from: Annotated[int, Field(ge=2)] | None = option(
        None,
        "First round, 2 or later, in which clients also train on images drawn in the styles of others.",
        FEDERATION,
        shown="never",
    )
    server_lr: Rate = option(0.01, "Learning rate of the server's Adam in fedadam.", STRATEGY)
    server_momentum: Fraction = option(
        0.0, "Momentum of the server, below 1, for strategies that average.", STRATEGY
    )
    ema: Fraction = option(
        0.0,
        "Decay of a moving average of the server's models over rounds, below 1, which is used and evaluated "
        "but never trained; 0: the last models are used.",
        STRATEGY,
    )
    clients: Names = option(
        (),
        "Clients of the partition that take part; may be repeated. The others train nothing, and are "
        "evaluated with the server's model of their modality, if there is one.",
        FEDERATION,
        shown="all",
        metavar="NAME,…",
    )
    fraction: Part = option(
        1.0, "Fraction of the clients of each modality that a round asks; they are drawn by seed.", FEDERATION
    )
    rounds_by: Literal["all", "modality"] = option(
        "all",
        "Clients that do a round together: all, or those of each modality, so that no modality waits for "
        "another one.",
        FEDERATION,
    )
    asynchronous: bool = option(
        False,
        "Let each client train the newest model of its modality as soon as it has reported, instead of "
        "waiting for slower clients; a round is then one flush of the buffer. Rounds are by modality.",
        FEDERATION,
    )
    buffer: Annotated[int, Field(ge=1)] = option(
        2,
        "Number of reports that make the next version of a modality's models, with --asynchronous; at most "
        "its number of clients.",
        FEDERATION,
        metavar="REPORTS",
    )
    staleness: Annotated[float, Field(ge=0, le=100)] = option(
        0.5,
        "Exponent A of the weight (1 + versions missed)^-A of a report, with --asynchronous; 0: a stale "
        "report counts as much as a fresh one.",
        FEDERATION,
        metavar="A",
    )
    slow: dict[str, Annotated[float, Field(gt=0, le=1e6)]] = option(
        {},
        "Client whose simulated trainings take FACTOR times as long, such as brats-1=10, with "
        "--asynchronous; may be repeated.",
        FEDERATION,
        metavar="CLIENT=FACTOR",
    )
    jitter: Annotated[float, Field(ge=0, lt=1)] = option(
        0.1,
        "Largest random deviation of the duration of a simulated training, as a part of it, with "
        "--asynchronous; it is drawn by seed.",
        FEDERATION,
        metavar="PART",
    )
    wire_dtype: Literal["fp32", "fp16", "bf16", "int8"] = option(
        "fp32",
        "Type in which weights travel; fp16 and bf16 take half the bytes, int8 a quarter for reports.",
        FEDERATION,
        may_change=True,
    )
    aggregation: Literal["mean", "median", "trimmed-mean", "krum"] = option(
        "mean",
        "Mean of strategies that average; all but mean tolerate bad reports.",
        TRUST,
    )
    bad_clients: Annotated[int, Field(ge=0)] | None = option(
        None,
        "Number of bad reports per model that trimmed-mean or krum tolerates.",
        TRUST,
        shown="as many as possible",
    )
    max_update_norm: Factor | None = option(
        None,
        "Reject a report that moved its model more than this many times as far as the median client's; "
        "0: never.",
        TRUST,
        shown="10 with superlink, else 0; 0 with --secure-aggregation",
        may_change=True,
    )
    secure_aggregation: bool = option(
        False,
        "Hide each client's weights from the server: clients mask their reports, of which the server learns "
        "only the sum over a model's clients, 3 or more.",
        TRUST,
    )
    dp_noise: Annotated[float, Field(gt=0, le=1e6)] | None = option(
        None,
        "Differential privacy: standard deviation of the noise on the sum of a round's updates, in clips. "
        "Every client then has the same weight. With --secure-aggregation the clients add the noise.",
        TRUST,
        shown="no privacy",
    )
    dp_clip: Annotated[float, Field(gt=0, le=1e6)] | None = option(
        None, "Largest L2 norm of a client's update in a round; needs --dp-noise.", TRUST, shown="none"
    )
    dp_delta: Annotated[float, Field(gt=0, lt=1)] | None = option(
        None,
        "Delta for which epsilon is reported: far below 1 / number of clients.",
        TRUST,
        shown="1e-5",
    )
    cpus_per_client: Annotated[int, Field(ge=1)] = option(
        1, "CPU cores for each client, with ray.", ENGINE, may_change=True
    )
    clients_per_gpu: Annotated[int, Field(ge=1)] = option(
        1, "Clients that share a GPU, with ray.", ENGINE, may_change=True
    )
    deployment: Path = option(
        Path("flames-deployment"),
        "Folder that `flames deploy init` made, with superlink.",
        ENGINE,
        stored=False,
    )
    size: Annotated[int, Field(ge=32)] | None = option(
        None,
        "Side of the nodes' images in pixels, with superlink.",
        ENGINE,
        shown="as in the partition on this machine, else 240",
    )
    channels: Literal["grey", "rgb"] | None = option(
        None,
        "Channels of the nodes' images, with superlink.",
        ENGINE,
        shown="as in the partition on this machine, else grey",
    )
    topology: Literal["ring", "random", "full"] | None = option(
        None,
        "Neighbours of each peer, with swarm: ring in the order of names; random, in which all have the "
        "same number; or full, all peers of the modality.",
        ENGINE,
        shown="ring",
    )
    neighbours: Annotated[int, Field(ge=1)] | None = option(
        None, "Neighbours of each peer, with --topology random.", ENGINE, shown="3"
    )
    absent: Fraction = option(
        0.0, "Probability, below 1, that a peer is offline in a round, with swarm; drawn by seed.", ENGINE
    )
    min_clients: Annotated[int, Field(ge=1)] | None = option(
        None,
        "Clients of each modality, or of one with MODALITY=NUMBER, that a round needs to start.",
        ENGINE,
        may_change=True,
        shown="1; 3 with --secure-aggregation and a model for each modality",
        metavar="NUMBER",
    )
    min_clients_by_modality: dict[str, Annotated[int, Field(ge=0)]] = option(
        {}, "Smallest numbers of clients of modalities that have their own.", ENGINE, may_change=True
    )
    wait_for_clients: Annotated[float, Field(ge=0)] | None = option(
        None,
        "Seconds that a round waits for enough clients, with superlink; the first round waits for all sites.",
        ENGINE,
        shown="300",
        may_change=True,
    )
    round_timeout: Annotated[float, Field(gt=0)] | None = option(
        None,
        "Seconds after which a round continues without late clients; they may join a later round.",
        ENGINE,
        shown="none",
        may_change=True,
    )
    run: Name | None = option(
        None, "Name of the run.", RUN_PANEL, shown="name of the strategy", names="runs and families"
    )
    partition: Name = option(
        DEFAULT_PARTITION,
        "Name of the partition, as in `flames partition --name`.",
        RUN_PANEL,
        names="partitions",
        metavar="NAME",
        # Resuming compares the content of the partition: it may have another name by then.
        may_change=True,
    )
    seeds: Seeds = option(
        (),
        "Seeds of several runs, such as 0,1,2: a run NAME-seed-N for each, on the same partition.",
        RUN_PANEL,
        shown="one run, with --seed",
        metavar="SEED,…",
        stored=False,
    )
    folds: FoldSet | None = option(
        None,
        "A run NAME-fold-K on each fold that `flames partition --folds` made; with several sets of folds the "
        "name of one.",
        RUN_PANEL,
        shown="one run, on --partition",
        metavar="[NAME]",
        names="sets of folds",
        optional_value=True,
        stored=False,
    )
    keep_rounds: Annotated[int, Field(ge=1)] = option(
        2, "Number of newest checkpoints to keep; the best ones are kept too.", RUN_PANEL, may_change=True
    )
    track: Annotated[
        tuple[str, ...],
        AfterValidator(lambda names: tuple(dict.fromkeys(names))),
    ] = option(
        (),
        "Tracker that also gets the figures of each round; may be repeated. Nothing is sent to another "
        "machine unless a variable of the tracker says so.",
        RUN_PANEL,
        shown="none",
        may_change=True,
        names="trackers",
        metavar="[tensorboard|mlflow|wandb|csv]",
    )
    fresh: bool = option(
        False, "Start the run again; the earlier one is renamed, such as NAME-old-1.", RUN_PANEL, stored=False
    )

    @property
    def training(self) -> TrainOptions:
        """Options of local training, with the model's own defaults."""
        given = {entry.name: getattr(self, entry.name) for entry in fields(TrainOptions)}
        own = {key: value for key, value in training_defaults(self.model).items() if given[key] is None}
        return TrainOptions(**{**given, **own})

    @property
    def by_modality(self) -> bool:
        """True if each modality does its own rounds."""
        return self.rounds_by == "modality" or self.asynchronous

    @property
    def style_stays(self) -> bool:
        """True if the style of a disentangled model stays at the client."""
        return self.share == "content"

    @property
    def name(self) -> str:
        """Name of the run, or of the family of runs if there are several seeds or folds."""
        return self.run or self.strategy

    @property
    def run_name(self) -> str:
        """Name of the run's folder under `runs/`."""
        return self.name

    @property
    def makes_family(self) -> bool:
        """True if these are the options of several runs."""
        return bool(self.seeds) or self.folds is not None
