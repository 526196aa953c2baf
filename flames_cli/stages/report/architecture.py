"""Section about the model: its stages with shapes and parameters (Figure 7 of the FLAMES paper)."""

from collections.abc import Iterator

from flames_cli.errors import FlamesError
from flames_cli.learn.models.describe import describe_architecture
from flames_cli.report.document import Block, Paragraph, Section
from flames_cli.report.text_tables import TextTable
from flames_cli.stages.report.gathering import Gathered


def model_section(gathered: Gathered) -> Section:
    """Return the section."""
    return Section("model", "Model (Figure 7 of the FLAMES paper)", list(_blocks(gathered)))


def _blocks(gathered: Gathered) -> Iterator[Block]:
    config, facts = gathered.first.config, gathered.first.facts
    try:
        found = describe_architecture(
            config.model,
            int(facts.get("size", config.size or 0)),
            int(facts.get("channels", 1)),
            config.training.norm,
            config.model_options,
        )
    except FlamesError as error:
        yield Paragraph(f"The architecture is not shown: {error}.", "faint")
        return
    options = ", ".join(f"{name} {value}" for name, value in found.options.items())
    yield Paragraph(
        f"{found.model} for images of {found.size}×{found.size} pixels, normalisation {found.norm} "
        f"({options}): {found.parameters:,} parameters."
    )
    rows = [
        [stage.name, stage.layers, " × ".join(map(str, stage.shape)), f"{stage.parameters:,}"]
        for stage in found.stages
    ]
    rows.append(["all stages", "", "", f"{found.parameters:,}"])
    header = ["stage", "layers", "shape of its output", "parameters"]
    note = "Shape: channels × rows × columns, for one image."
    yield TextTable("Stages", header, rows, 2, rules=frozenset({len(rows) - 1}), notes=[note])
