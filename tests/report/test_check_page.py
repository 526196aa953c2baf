"""The page of a report: its text is never markup, and a name that a template does not know is an error."""

import re

import jinja2
import numpy as np
import pytest

from flames_cli.report.check_page import write_check_page
from flames_cli.report.pictures import Picture
from flames_cli.report.templating import POLICY, render
from tests.support.html_page import read_page

NAME = "<b a=\"1\" c='2'>&{{ 7 * 7 }}\u202e"


def report(name=NAME, **changed):
    """Return a report whose texts are all `name`."""
    place = {"text": name, "id": name, "cases": [name]}
    lesions = {
        "images": 2,
        "share": {"min": 0.1, "p5": 0.1, "p25": 0.1, "p50": 0.2, "p75": 0.3, "p95": 0.3, "max": 0.3},
        "small": 0,
        "histogram": {"edges": [0, 0.1, 1], "counts": [0, 2]},
        "per_image": {"1": 2},
    }
    group = {
        "organ": name,
        "modality": name,
        "site": name,
        "patients": 1,
        "images": 2,
        "shapes": {name: 2},
        "spacing_mm": None,
        "lesions": lesions,
        "intensity": dict.fromkeys(("mean", "sd", "p1", "p50", "p99"), 1.0),
    }
    made = {
        "dataset": name,
        "licence": name,
        "source": "image",
        "patient_unit": "patient",
        "flames": name,
        "passed": False,
        "accepted": 0,
        "options": {"size": name},
        "counts": {"sources": 2, "usable": 2, "left_out": 0, "bad": 0, "patients": 1, "images": 2},
        "findings": [{"severity": "problem", "what": name, "fix": name, "id": name, "where": [place]}],
        "compared": [name],
        "groups": [group],
    }
    return {**made, **changed}


def write(folder, made, samples, pictures):
    write_check_page(folder / "page.html", made, samples, pictures)
    return (folder / "page.html").read_text("utf-8")


def test_text_is_never_markup(tmp_path):
    picture = Picture(np.zeros((4, 4), np.uint8), np.ones((4, 4), np.uint8), NAME, NAME)
    text = write(tmp_path, report(), {NAME: [NAME]}, {NAME: picture})
    shown = "&lt;b a=&#34;1&#34; c=&#39;2&#39;&gt;&amp;{{ 7 * 7 }}\\u202e"
    assert len(re.findall(re.escape(shown), text)) >= 20
    assert "<b" not in re.sub(r"<(?:body|br)>", "", text)
    assert "\u202e" not in text
    assert read_page(tmp_path / "page.html").tags & {"b", "script", "img"} == set()


def test_a_page_without_findings_and_data_is_complete(tmp_path):
    text = write(tmp_path, report("x", findings=[], groups=[], compared=[]), {}, {})
    assert "<p>None.</p>" in text
    assert "no usable data" in text
    assert "<table" not in text


def test_the_page_forbids_the_browser_to_fetch_or_run(tmp_path):
    text = write(tmp_path, report("x"), {}, {})
    assert POLICY.replace("'", "&#39;") in text
    assert POLICY.startswith("default-src 'none'; ")


def test_a_name_that_a_template_does_not_know_is_an_error():
    with pytest.raises(jinja2.UndefinedError):
        render("check.html", report={})
