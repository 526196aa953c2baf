"""Options of `flames adapt`."""

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, create_model

from flames_cli.config.federation import TRAINING_KEYS
from flames_cli.config.section import RUN_PANEL, Section, option
from flames_cli.config.values import Device, Name, Precision
from flames_cli.learn.models import training_defaults
from flames_cli.learn.train_options import BY_MODEL, TRAINING, TrainOptions
from flames_cli.store.workspace import DEFAULT_PARTITION

OF_A_FEDERATION = {"local_epochs", "norm", "proximal_mu", "precise_norm"}
"""Options of local training that an adaptation has under another name, or does not have."""

_KEYS: dict[str, Any] = {name: key for name, key in TRAINING_KEYS.items() if name not in OF_A_FEDERATION}
_AdaptSection = create_model("_AdaptSection", __base__=Section, **_KEYS)
"""Section with a key for every option of local training that an adaptation has."""


class AdaptConfig(_AdaptSection, Section):
    """Options of `flames adapt`; those of training are fields of `TrainOptions`."""

    model: str | None = option(
        None,
        "Model to adapt: its folder, or its name in models/ of the workspace.",
        names="model folders",
        shown="none: it is required",
        metavar="MODEL",
    )
    shard: Path | None = option(
        None,
        "Images of the client: a file that `flames partition` made.",
        shown="none: pass --client",
        metavar="FILE.h5",
    )
    client: str | None = option(
        None,
        "Client of --partition whose images are used, in place of --shard.",
        shown="none",
        metavar="NAME",
    )
    partition: Name = option(DEFAULT_PARTITION, "Partition of --client.", names="partitions", metavar="NAME")
    name: Name | None = option(
        None,
        "Name of the adapted model, and of its folder in models/.",
        RUN_PANEL,
        shown="names of the model and the client",
        metavar="NAME",
    )
    epochs: Annotated[int, Field(ge=1, le=10_000)] = option(
        20, "Epochs of training on the client's images.", TRAINING
    )
    device: Device = option("auto", "Device for training.", RUN_PANEL)
    precision: Precision = option("auto", "Precision of the model's arithmetic.", RUN_PANEL)
    compile: Literal["auto", "off", "on"] = option(
        "auto",
        "Compile the model with torch.compile, which takes a minute or more: on, off, or auto (on CUDA if "
        "the training takes 5 minutes or more).",
        RUN_PANEL,
    )

    def training(self, model: str, norm: str) -> TrainOptions:
        """Return the options of training for the architecture `model` with layers `norm`."""
        defaults = training_defaults(model)
        given = {
            entry.name: getattr(self, entry.name) for entry in fields(TrainOptions) if entry.name in _KEYS
        }
        own = {key: defaults[key] for key in BY_MODEL if given[key] is None}
        return TrainOptions(**{**given, **own, "local_epochs": self.epochs, "norm": norm})
