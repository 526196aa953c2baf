"""Options of the commands that use models: export."""

from typing import Annotated

from pydantic import Field

from flames_cli.config.section import RUN_PANEL, Section, option
from flames_cli.config.values import DEFAULT_ROUND, Name, Round


class ExportConfig(Section):
    """Options of `flames export`."""

    no_option = ("seed",)

    run: Name | None = option(None, "Run whose model is exported.", shown="the newest", names="runs")
    model: str | None = option(
        None,
        "Model: the server's of a modality, such as MRI, or a client's, such as client:brats-1.",
        shown="none: the message lists the models of the run",
        metavar="MRI|client:NAME",
    )
    round: Round | None = option(
        None,
        "Round whose model is exported: best, best-small, last or a number, as in `flames evaluate`.",
        shown=DEFAULT_ROUND,
        metavar="ROUND",
    )
    name: Name | None = option(
        None,
        "Name of the model, and of its folder in models/.",
        RUN_PANEL,
        shown="names of the run and the model",
        metavar="NAME",
    )
    threshold: Annotated[float, Field(gt=0, lt=1)] = option(
        0.5, "Probability above which a pixel is tumour, for all who use the model.", metavar="THRESHOLD"
    )
    licence: Annotated[str, Field(max_length=200)] = option(
        "", "Licence of the model, such as cc-by-4.0.", shown="not stated", metavar="LICENCE"
    )
    zip: bool = option(False, "Also write models/NAME.zip, which `flames models add` installs.")
