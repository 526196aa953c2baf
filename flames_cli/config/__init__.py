"""Options of all commands, each declared once: type, limits, default, help text and panel.

The command line is built from these fields (`cli.section_command`).
"""

from flames_cli.config.adaptation import AdaptConfig
from flames_cli.config.data import CheckConfig, PartitionConfig, PreprocessConfig, ReadConfig
from flames_cli.config.federation import FederateConfig
from flames_cli.config.loading import (
    SECTIONS,
    SHARED,
    check_section,
    facts_of,
    keys_with,
    load_section,
    options_of_run,
)
from flames_cli.config.results import CompareConfig, DemoConfig, EvaluateConfig, TsneConfig
from flames_cli.config.section import PANELS, Section, suggest
from flames_cli.config.use import ExportConfig, PredictConfig, ReportConfig
from flames_cli.config.values import DEFAULT_ROUND, MAX_NAME, NAME_PATTERN, Device, Precision, Wanted

__all__ = [
    "DEFAULT_ROUND",
    "MAX_NAME",
    "NAME_PATTERN",
    "PANELS",
    "SECTIONS",
    "SHARED",
    "AdaptConfig",
    "CheckConfig",
    "CompareConfig",
    "DemoConfig",
    "Device",
    "EvaluateConfig",
    "ExportConfig",
    "FederateConfig",
    "PartitionConfig",
    "Precision",
    "PredictConfig",
    "PreprocessConfig",
    "ReadConfig",
    "ReportConfig",
    "Section",
    "TsneConfig",
    "Wanted",
    "check_section",
    "facts_of",
    "keys_with",
    "load_section",
    "options_of_run",
    "suggest",
]
