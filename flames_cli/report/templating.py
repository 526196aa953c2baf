"""HTML pages of the templates in `report/templates/`: text from a user's files is always shown as it is."""

from functools import cache
from typing import TYPE_CHECKING, Any

from flames_cli.report.legible import legible

if TYPE_CHECKING:
    from jinja2 import Environment

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""Content security policy: if any text is not escaped, a browser still neither runs nor fetches it."""


def render(template: str, **values: Any) -> str:
    """Return the page of a template: a complete HTML document that needs no other file.

    Raises:
        jinja2.UndefinedError: the template uses a name that `values` does not have.
    """
    return _environment().get_template(template).render(policy=POLICY, **values)


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("flames_cli.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["kind"] = lambda block: type(block).__name__
    return environment


def _finalize(value: object) -> object:
    """Return texts without unprintable parts; what a template has drawn is complete already."""
    from markupsafe import Markup

    return legible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
