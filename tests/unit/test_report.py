"""The page of ``report`` without a browser: what is in it, escaped, packed and drawn right."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cryosphere.errors import InputError
from cryosphere.report import charts
from cryosphere.report.contents import Contents
from cryosphere.report.html import heading, number, paragraph, percent, table, tag, whole_number
from cryosphere.report.sections import checks, training
from cryosphere.report.sections.structure import shown_residues
from cryosphere.report.write import write_report
from cryosphere.runs.run import Run
from cryosphere.runs.tables import save_table
from tests.run_factory import make_run

EVIL = '<img src=x onerror=alert(1)> & "quoted" \'</script><script>alert(2)</script> ü 細胞'


class Elements(HTMLParser):
    """Tags, attributes and text as the standard library's parser sees them; scripts are not parsed further."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.text, self.open, self.scripts = [], "", [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif not self.open or self.open[-1] != "style":
            self.text += data

    def of(self, name):
        return [attrs for tag, attrs in self.tags if tag == name]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("report") / "run ü 1", n_particles=300, shared=True)


@pytest.fixture(scope="module")
def page(run):
    return Elements(write_report(run).read_text(encoding="utf-8"))


def test_the_vendored_viewer_is_the_one_described():
    folder = files("cryosphere.report") / "vendor"
    about = json.loads((folder / "vendor.json").read_text())
    content = (folder / about["file"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == about["sha256"]
    assert about["version"] == "2.5.5"
    assert b"</script" not in content.lower()
    assert "BSD-3" in about["licence"]
    assert "University of Pittsburgh" in (folder / "3Dmol-LICENSE.txt").read_text()


def test_every_section_is_there_with_an_entry_in_the_contents(page):
    targets = [attrs["href"].removeprefix("#") for attrs in page.of("a") if attrs.get("href", "").startswith("#")]
    sections = [attrs["id"] for attrs in page.of("section")]
    assert targets == ["main", *sections]
    assert len(sections) == 15
    assert len({attrs["id"] for _, attrs in page.tags if "id" in attrs}) == sum("id" in attrs for _, attrs in page.tags)


def test_nothing_is_loaded_from_elsewhere(page):
    for tag_name, attrs in page.tags:
        for key in ("src", "href", "action", "data", "poster", "srcset"):
            value = attrs.get(key)
            assert value is None or value.startswith(("data:", "#")), (tag_name, key, value)
    (policy,) = (attrs["content"] for attrs in page.of("meta") if attrs.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy


def test_pictures_and_drawings_have_texts(page):
    assert all(attrs.get("alt") for attrs in page.of("img"))
    assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in page.of("svg"))
    labelled = {attrs["for"] for attrs in page.of("label")}
    assert {attrs["id"] for attrs in page.of("input")} <= labelled


def test_numbers_are_those_of_the_run(run, page):
    assert "300" in page.text
    assert f"{run.n_residues}" in page.text
    assert "24 px of 4 Å" in page.text
    assert (run.layout.config.read_text().strip().splitlines()[-1]) in page.text
    assert "2407.01574" in page.text


def test_missing_things_are_said_with_their_command(run, page):
    assert "cryosphere check" in page.text  # no check is stored
    assert "No averages of particles" in page.text  # no stacks


def test_what_users_write_cannot_become_markup(tmp_path):
    run = make_run(tmp_path / "run", n_particles=80, shared=True)
    table_ = replace(run.table, source=tmp_path / EVIL.replace("/", ""), notes=(EVIL,), optics_group_names=(EVIL,))
    save_table(run.layout.particles, table_)
    run.layout.check.write_text(
        json.dumps({"faults": [{"sentence": EVIL, "remedy": EVIL}], "notes": [EVIL], "comparison": {}}), "utf-8"
    )
    write_report(run.folder, tmp_path / "page.html")
    found = Elements((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert not [attrs for attrs in found.of("img") if attrs.get("src") == "x"]
    assert not any("onerror" in attrs for _, attrs in found.tags)
    assert found.text.count(EVIL) >= 4
    assert len(found.scripts) == 3  # data, viewer, page
    assert not any("alert(" in script for script in (found.scripts[0], found.scripts[2]))


def test_data_of_the_viewer_are_the_decoded_conformations(run, page):
    data = json.loads(page.scripts[0])
    film = data["films"]["path0"]
    count = len(data["breaks"])
    coordinates = film["quantum"] * np.frombuffer(base64.b64decode(film["frames"]), "<i2").reshape(-1, count, 3)
    points = pd.read_csv(run.layout.analysis / "traversal_pc1.csv")[["z1", "z2"]].to_numpy()
    assert len(coordinates) == len(film["texts"]) == 25
    assert coordinates[0] == pytest.approx(run.decode(points[:1])[0], abs=0.0051)
    assert coordinates[-1] == pytest.approx(run.decode(points[-1:])[0], abs=0.0051)
    assert set(map(len, data["schemes"].values())) == {count}
    # chain A lacks residue 12, chain B begins anew
    assert np.flatnonzero(data["breaks"]).tolist() == [0, 11, 24]


def test_large_structures_are_thinned():
    rows = shown_residues(20_001)
    assert len(rows) <= 3000
    assert set(np.diff(rows)) == {7}


def test_a_density_shows_counts_and_majorities():
    generator = np.random.default_rng(0)
    left, right = generator.normal((-5, 0), 0.3, (900, 2)), generator.normal((5, 2), 0.3, (300, 2))
    member = np.repeat([0, 1], [900, 300])
    drawn = charts.density(np.concatenate([left, right]), member, ["#ff0000", "#0000ff"], "x", "y", "both")
    address = re.search(r'href="data:image/png;base64,([^"]+)"', drawn)[1]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(address))))
    seen = pixels[..., 3] > 0
    columns = np.flatnonzero(seen.any(0))
    half = pixels.shape[1] // 2
    assert (pixels[:, :half][seen[:, :half]][:, :3] == [255, 0, 0]).all()
    assert (pixels[:, half:][seen[:, half:]][:, :3] == [0, 0, 255]).all()
    assert columns.min() < 0.1 * pixels.shape[1] and columns.max() > 0.9 * pixels.shape[1]
    # y points upwards: the right cloud lies higher
    assert np.flatnonzero(seen[:, half:].any(1)).mean() < np.flatnonzero(seen[:, :half].any(1)).mean()


def test_a_million_points_make_a_small_chart():
    points = np.random.default_rng(1).normal(size=(1_000_000, 2))
    assert len(charts.density(points, None, ["#0072B2"], "x", "y", "points")) < 60_000


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [
        (0, 10, ["0", "2", "4", "6", "8", "10"]),
        (-0.3, 0.31, ["−0.3", "−0.2", "−0.1", "0.0", "0.1", "0.2", "0.3"]),
        (1, 214, ["50", "100", "150", "200"]),
        (5, 5, ["5"]),
    ],
)
def test_ticks_are_round(low, high, texts):
    found = charts.ticks(low, high, 7 if low < 0 else 6)
    assert [text for _, text in found] == texts
    assert [float(text.replace("−", "-")) for text in texts] == pytest.approx([value for value, _ in found])


def test_a_line_is_broken_where_a_value_is_unknown():
    axes = charts.Axes((0, 4), (0, 1), "x", "y")
    line = charts.Line("a", np.arange(5.0), np.array([0, 1, np.nan, 1, 0]), "train")
    drawn = charts.draw_line(axes, line)
    assert drawn.count("<polyline") == 2
    assert drawn.count("<circle") == 4
    first = re.search(r'points="([-\d.]+),([-\d.]+)', drawn)
    assert float(first[1]) == pytest.approx(axes.inner[0], abs=0.06)
    assert float(first[2]) == pytest.approx(axes.inner[3], abs=0.06)


def test_stacked_bars_hold_every_value():
    values = np.concatenate([np.zeros(30), np.ones(70)])
    drawn = charts.histogram(values, (values > 0).astype(int), ["#ff0000", "#0000ff"], "x", "label")
    heights = {}
    for height, fill in re.findall(r'height="([\d.]+)" fill="(#\w+)"', drawn):
        heights[fill] = heights.get(fill, 0) + float(height)
    assert heights["#0000ff"] / heights["#ff0000"] == pytest.approx(7 / 3, rel=0.01)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((0.0, "0"), (1.0, "1"), (-0.6, "−0.60"), (0.00061, "0.00061"), (2e-5, "2.0e−05")),
        *((12.345, "12.3"), (123.4, "123"), (12345.6, "12,346"), (float("nan"), "")),
    ],
)
def test_numbers_have_the_digits_they_deserve(value, text):
    assert number(value) == text


def test_words_of_tables():
    assert heading("angle_range_deg") == "angle range (°)"
    assert heading("n_residues") == "number of residues"
    assert whole_number(1_234_567) == "1,234,567"
    assert percent(0.5) == "50\N{NO-BREAK SPACE}%"
    frame = pd.DataFrame({"particle": [12345], "a<b": [np.nan], "evidence": [159.1234]})
    drawn = table(frame, "caption", decimals={"evidence": 3})
    assert "12345</td>" in drawn and "a&lt;b" in drawn and "159.123" in drawn and "nan" not in drawn


def test_elements_escape_text_and_attributes():
    assert tag("p", "<b>", title='"x"') == '<p title="&#34;x&#34;">&lt;b&gt;</p>'
    assert paragraph("a `b < c` d") == "<p>a <code>b &lt; c</code> d</p>"


def test_stored_checks_are_told(run):
    fault = {
        "code": "hand",
        "sentence": "The poses belong to the mirror image.",
        "remedy": "Refine again.",
        "fatal": True,
    }
    tested = [{"name": "as given", "nats": 3.0, "difference": 0.0, "standard_error": 0.0}]
    body = "".join(checks._body({"faults": [fault], "notes": [], "comparison": {"n_images": 200, "tested": tested}}))
    assert "1 fault found" in body and "Refine again." in body and "200 images" in body
    assert "no fault found." in "".join(checks._body({"faults": [], "comparison": {"n_images": 9, "undecided": []}}))
    undecided = checks._body({"faults": [], "comparison": {"n_images": 9, "undecided": ["hand"]}})
    assert "as far as these images can tell" in "".join(undecided)


def test_curves_break_between_resolutions(run):
    contents = Contents(Run.load(run.folder))
    records = [
        {"epoch": e, "stage": "full resolution" if e > 2 else "coarse", "resolution": 7.0 if e > 2 else 14.0,
         "train": {"marginal": -e}, "held_out": {"marginal": -e - 0.1}}
        for e in range(1, 7)
    ]  # fmt: skip
    contents.metrics = records
    body = str(training.section(contents).body)
    first = body.split("<figure")[1]
    assert first.count("line train") == 2 and first.count("line held-out") == 2
    assert "the held-out loss is lowest in epoch 6" in body


def test_correlations_of_maps_from_images_are_shown(tmp_path):
    run = make_run(tmp_path / "run", shared=True)
    maps = tmp_path / "maps <of> states"
    maps.mkdir()
    (maps / "index.csv").write_text("file,name,population,resolution_0.143,z1,z2\nstate_01.mrc,state <1>,0.4,7.5,0,0\n")
    rows = [f"{f:.3f},{1 / f:.3f},{np.exp(-20 * f):.4f},0.5,0.25" for f in np.linspace(0.01, 0.12, 12)]
    header = "frequency,resolution,fsc,fsc_unmasked,fsc_model\n"
    (maps / "state_01_fsc.csv").write_text(header + "\n".join(rows) + "\n")
    text = write_report(run, tmp_path / "page.html", maps=maps).read_text(encoding="utf-8")
    assert "state &lt;1&gt;" in text and "maps &lt;of&gt; states" in text
    assert text.count('class="line level"') == 2
    without = write_report(run, tmp_path / "other.html").read_text(encoding="utf-8")
    assert "No maps from the images were given" in without
    (maps / "state_01_fsc.csv").write_text("frequency\n1\n")
    for folder in (maps, tmp_path / "absent"):
        with pytest.raises(InputError, match="is no folder of maps from images"):
            write_report(run, tmp_path / "third.html", maps=folder)
    assert not (tmp_path / "third.html").exists()
