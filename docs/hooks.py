"""What MkDocs does besides its own work: pages from outside docs/, and links that lead outside the site."""

import os
import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(DOCS)]  # MkDocs runs this file as a module of its own

import generate  # noqa: E402

OUTSIDE = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "examples/README.md": "tutorials/examples.md",
    "examples/flames-example/README.md": "how-to/flames-example.md",
    "examples/quickstart.ipynb": "tutorials/quickstart.md",
}
"""Pages of the repository outside docs/, and their places in the site."""

PLACES = {**OUTSIDE, "README.md": "index.md"}
"""Where links to pages outside docs/ lead."""

COMMANDS, KEYS = "cli.md", "reference/configuration.md"
"""Pages that follow from the code."""

LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")

SHORT_CODE = re.compile(r"(<td>|<br ?/?>)<code>([^<\s]{1,26})</code>")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Give headings the anchors that GitHub gives them, so that a link is right in both."""
    config.mdx_configs["toc"]["slugify"] = github_anchor
    return config


def github_anchor(title: str, separator: str) -> str:
    """Return the anchor of a heading, such as `runsrunlogtxt` for ``runs/<run>/log.txt``."""
    return re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", separator)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside docs/, and the page of the configuration's keys."""
    files.append(File.generated(config, KEYS, content=generate.configuration()))
    for name, place in OUTSIDE.items():
        text = (ROOT / name).read_text("utf-8")
        files.append(
            File.generated(config, place, content=generate.notebook(text) if name.endswith("ipynb") else text)
        )
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put in the tables of options, and make the links of the repository those of the site."""
    if page.file.src_uri == COMMANDS:
        markdown = generate.command_line(markdown)
    place = DOCS / page.file.src_uri
    origins = {DOCS / place: ROOT / name for name, place in OUTSIDE.items()}
    return LINK.sub(lambda found: site_link(found, origins.get(place, place).parent, place.parent), markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Mark short words of code in tables, such as options: they are not divided between lines."""
    return SHORT_CODE.sub(r'\1<code class="short">\2</code>', html)


def site_link(found: re.Match[str], origin: Path, folder: Path) -> str:
    """Return a link as the site has it.

    Args:
        found: the link in the text of the page.
        origin: folder of the page in the repository.
        folder: folder of the page in the site, as below docs/.

    Returns:
        The link to the place of a page in the site; for a file of the source its text and the file's path.
    """
    text, link = found[1], found[2]
    name, hash_, anchor = link.partition("#")
    if not name or "://" in name:
        return found[0]
    target = Path(os.path.normpath(origin / name))
    source = target.relative_to(ROOT).as_posix()
    if source in PLACES:
        target = DOCS / PLACES[source]
    if not target.is_relative_to(DOCS):
        return f"`{source}`" if text == target.name else f"{text} (`{source}`)"
    return f"[{text}]({Path(os.path.relpath(target, folder)).as_posix()}{hash_}{anchor})"
