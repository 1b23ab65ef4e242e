from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from node.report import render
from node.report.axes import nice_step, number, scale
from node.report.plots import Point, intervals
from tests.units.story import EVIL, story

VOID = {"meta", "br", "path", "circle", "rect"}


class Strict(HTMLParser):
    """Checks that every element is closed and collects the texts and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def _parsed() -> tuple[str, Strict]:
    html = render(story())
    parser = Strict()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    return html, parser


def test_the_page_loads_nothing_from_anywhere() -> None:
    html, parser = _parsed()
    assert not re.search(r"https?://|//[a-z]|url\(|@import|<script|<link|<iframe", html)
    assert not [attributes for _, attributes in parser.tags if {"src", "href"} & set(attributes)]


def test_texts_of_members_are_escaped_everywhere() -> None:
    html, parser = _parsed()
    assert EVIL not in html
    assert "&lt;script&gt;" in html
    assert not [tag for tag, _ in parser.tags if tag == "script"]


def test_every_section_has_a_table_and_a_chinese_heading() -> None:
    html, _ = _parsed()
    sections = html.split("<section>")[1:]
    assert len(sections) == 10
    for section in sections:
        assert "<table" in section
        assert re.search('lang="zh">[^<]*[一-鿿]', section)


def test_a_figure_that_the_noise_hides_is_said_to_be_hidden() -> None:
    html, _ = _parsed()
    assert html.count("hidden by the noise") == 1


def test_every_plot_has_a_name() -> None:
    _, parser = _parsed()
    plots = [attributes for tag, attributes in parser.tags if tag == "svg"]
    assert len(plots) == 7
    assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes in plots)


def test_a_bin_with_too_few_records_shows_no_mean_and_no_interval() -> None:
    html, _ = _parsed()
    assert html.count(">too few records under the noise<") == 2
    svg = str(intervals("x", [Point(0.5, 3.0, 2.0, 4.0), Point(1.5, 0.0, None, None)], x_label="", y_label=""))
    assert svg.count('class="hollow"') == 1
    assert svg.count('class="error"') == 1


def test_a_missing_figure_is_an_error_and_no_blank() -> None:
    broken = story()
    del broken["statistics"]["purpose"]
    with pytest.raises(Exception, match="purpose"):
        render(broken)


def test_a_forgery_that_was_not_named_stands_out() -> None:
    told = story()
    told["audit"]["forgeries"][0]["named"] = False
    assert '<td class="bad">NO</td>' in render(told)


@pytest.mark.parametrize(
    ("rough", "step"), [(0.9, 1), (1, 1), (1.1, 2), (2.2, 2.5), (3, 5), (6, 10), (0.03, 0.05), (1234, 2000)]
)
def test_steps_of_an_axis_are_round(rough: float, step: float) -> None:
    assert nice_step(rough) == pytest.approx(step)


def test_a_scale_takes_in_its_ends_and_clamps_what_is_outside() -> None:
    axis = scale(-3, 97, 0, 100)
    assert axis.low <= -3
    assert axis.high >= 97
    assert axis.at(1e9) == 100
    assert axis.at(-1e9) == 0
    assert 0 in axis.ticks()


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (1234.5, "1,234"), (0.12345, "0.1235"), (-2000, "-2,000")])
def test_numbers_read_well(value: float, text: str) -> None:
    assert number(value) == text


def test_every_kind_of_entry_has_its_colour() -> None:
    from consortium.ledger.bodies import BODIES
    from node.report.page import KINDS

    assert set(BODIES) <= set(KINDS)
