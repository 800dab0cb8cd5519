"""The page of the study is made from the records, the same each time, and the committed one is up to date."""

import math
import re

import pytest

from analysis.figures.drawing import Undrawn
from analysis.runs.records import Records
from analysis.study import figures, page, records
from analysis.study.__main__ import main
from analysis.study.answers import answers
from tests.analysis.study.made_up import composed, kept, made_up_plan, recorded
from tests.commandline import ROOT

__all__ = ["made_up_plan"]


def save(folder, runs):
    records.save(folder, sorted((kept(run) for run in runs), key=lambda run: run.path))


def test_page_without_records_says_so(tmp_path):
    (tmp_path / "docs").mkdir()
    assert page.write_page(tmp_path / "docs", tmp_path / "study", tmp_path / "work") == [tmp_path / "docs" / "study.md"]
    text = (tmp_path / "docs" / "study.md").read_text()
    assert "There are no records of the study yet" in text
    assert "### Screws, five seeds" in text
    assert not (tmp_path / "work").exists()


@pytest.mark.slow
def test_page_is_the_same_each_time(tmp_path, made_up_plan):
    """MLflow's ids, times and folders, which differ each time, are no part of it."""
    runs = [recorded(run) for run in composed("study_a") if run.params["seed"] in "123"]
    runs = [run for run in runs if "screw-trainable" in run.run_id]
    save(tmp_path / "study", [*runs, *(recorded(run) for run in composed("study_f")[1:])])
    texts = []
    for number in ("first", "second"):
        docs = tmp_path / number / "docs"
        docs.mkdir(parents=True)
        files = page.write_page(docs, tmp_path / "study", tmp_path / number / "work")
        texts.append((docs / "study.md").read_text())
    assert texts[0] == texts[1]
    names = ("curves", "effects", "indicators", "fig3")
    assert [file.name for file in files] == ["study.md", *(f"study-{name}.png" for name in names)]
    for picture in re.findall(r"!\[.*\]\((.+)\)", texts[0]):
        assert (docs / picture).stat().st_size > 1000
    assert (
        "| H1 higher | trainable | +2.20 [+2.10, +2.30] | 0.25 | — | 3 of 20; without elpv, hazelnut_toy, ksdd |"
        in texts[0]
    )
    assert "Fig. 1: latents of normal images, FastFlow, EfficientNet-Lite0, MVTec AD screw, norm trainable" in texts[0]
    assert not re.search(r"[0-9a-f]{32}", texts[0])


def test_page_shows_what_is_missing(tmp_path, made_up_plan):
    runs = [recorded(run) for sweep in ("study_a", "study_c", "study_f") for run in composed(sweep)]
    # 3 of 5 seeds are there, on ksdd one pair of the counted norm is missing: too few
    runs = [run for run in runs if run.params["seed"] in "123" and run.run_id != "ksdd-counted-none-lite0-8-3"]
    found = answers(Records("sqlite:///mlflow.db", ("study",), tuple(runs)))
    drawn = [figures.curves(found.grid), figures.effects(found.primary, found.grid), figures.indicators(found.grid)]
    for picture in (drawn[0], drawn[2]):  # a row of panels for each norm or quantity, a column for each data set
        titles = [axes.get_title().split("\n")[0] for axes in picture.figure.axes]
        assert titles == ["screw", "elpv", "hazelnut_toy", "ksdd"] + [""] * 8
    assert_effects_are_drawn(drawn[1].figure, found.primary)
    drawn.append(figures.replacements(found.replacements))
    assert_replacements_are_drawn(drawn[-1].figure, {"stereotype": {"mean": -0.5, "sd": 2.0}})
    drawn += [Undrawn(name, name, f"{name} is not drawn.") for name in ("fig1", "fig3")]
    text = page.text(found, drawn, {})
    for pattern in (
        r"\| a \| 120 \| 71 \| 0 \| 0 \| 0 \| 49 \|",
        r"\| H1 higher \| trainable \| \+2\.20 \[.*\] \| 0\.00049 \| 0\.0059 \| 12 of 20 \| \*\*supported\*\* \|",
        r"\| H1 higher \| counted \| .* \| — \| 9 of 20; without ksdd \| \*\*missing\*\* \|",
        r"\| screw \| lite0 \| none \| `stereotype` \| 3 of 3 \|.*",
        r"\| ksdd \| counted \| `none` \| 2 of 5 \|.*",
        r"  screw, norm none: lower with `stereotype`;",
        r"  elpv, norm none: lower with `stereotype`\.",
        r"\| in place of `alternating` \| screw, norm none \| elpv, norm none \|",
        r"!\[Other bases and settings in place of AltUB's\]\(images/study-replacements\.png\)",
        r"\| `stereotype` (\| −0\.50 \[−0\.50, −0\.50\]; ×2\.00 \[×2\.00, ×2\.00\] ){2}\|",
        # Table 6: 98.5, 98.8, 98.1, 98.6 less 98.6, 98.6, 98.6, 98.9; sd 0.89, 2.40, 7.22 over 0.09, 0.12, 0.07
        r"\| `stereotype` against `alternating`, mean \| −0\.10 / \+0\.20 / −0\.50 / −0\.30 (\| −0\.50 \[.*?\] ){2}\|",
        r"\| `cnn` against `none`, sd \| ×9\.89 / crashes / ×20\.00 / ×103\.14 \| — \| — \|",
        r"  `stereotype` against `alternating`: lower on (screw|, elpv| with norm none){4}; less steady on screw .*\.",
    ):
        assert re.search(f"^{pattern}$", text, re.MULTILINE), pattern
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, table


def assert_effects_are_drawn(figure, verdicts):
    """A panel for each claim: large markers at the effects, as factors or in points, that look as their verdicts."""
    looks = {
        "supported": ("o", "full"),
        "unsupported": ("o", "none"),
        "refuted": ("X", "full"),
        "without missing data sets": ("o", "none"),
    }
    for axes, claim in zip(figure.axes, ("H1", "H2", "H3", "H4"), strict=True):
        large = [line for line in axes.lines if line.get_label() in looks]
        expected = [verdict for verdict in verdicts if verdict.claim.name == claim]
        for line, verdict in zip(large, expected, strict=True):
            value = verdict.effect.value
            assert float(line.get_xdata()[0]) == pytest.approx(math.exp(value) if claim == "H2" else value)
            assert line.get_label() == verdict.word.replace("missing", "without missing data sets")
            assert (line.get_marker(), line.get_fillstyle()) == looks[line.get_label()]
    assert [axes.get_xscale() for axes in figure.axes] == ["linear", "log", "linear", "linear"]


def assert_replacements_are_drawn(figure, expected):
    """A row of panels for the mean and one for the factor of the sd; full markers, since no seed is missing."""
    assert [axes.get_title() for axes in figure.axes] == ["screw, norm none", "elpv, norm none"] * 2
    for axes, statistic in zip(figure.axes, ("mean", "mean", "sd", "sd"), strict=True):
        assert axes.get_xscale() == ("log" if statistic == "sd" else "linear")
        markers = [line for line in axes.lines if line.get_marker() == "o"]
        for line, (row, of_setting) in zip(markers, enumerate(expected.values()), strict=True):
            assert list(line.get_xydata()[0]) == pytest.approx([of_setting[statistic], row])
            assert line.get_fillstyle() == "full"
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(expected)


def test_command_writes_the_page(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    assert main(["page"]) == 0
    assert capsys.readouterr().out == "docs/study.md\n"


@pytest.mark.skipif(records.exist(ROOT / "study"), reason="takes minutes with records: `make test-slow`")
def test_committed_page_without_records_is_up_to_date(tmp_path):
    assert regenerated(tmp_path) == (ROOT / "docs" / "study.md").read_text()


@pytest.mark.slow
def test_committed_page_is_up_to_date(tmp_path):
    assert regenerated(tmp_path) == (ROOT / "docs" / "study.md").read_text()


def regenerated(folder):
    """Return the text of the page as the committed records make it."""
    (folder / "docs").mkdir()
    return page.write_page(folder / "docs", ROOT / "study", folder / "work")[0].read_text()


def test_the_programs_recipe_is_the_one_that_the_page_chooses(compose):
    config = compose("experiment=steady", "dataset.category=screw")
    text = (ROOT / "docs" / "study.md").read_text()
    assert f"Chosen: norm {config.model.feature_norm}, `{config.altub.name}` (`experiment=steady`)." in text
    assert "The rule is chosen on screw and elpv: last epoch." in text
    studied = compose("experiment=study/screw")
    assert (config.train.epochs, config.model.name, config.backbone) == (
        studied.train.epochs,
        studied.model.name,
        studied.backbone,
    )


SETS = {"hazelnuts": "hazelnut_toy", "commutators": "ksdd", "MVTec AD `screw` ¹": "screw", "solar cells ¹": "elpv"}
RECIPES = (("trainable", "none"), ("trainable", "alternating"), ("none", "fitted"))


def test_the_readme_shows_the_pages_numbers():
    page, readme = ((ROOT / name).read_text() for name in ("docs/study.md", "README.md"))
    for name, data in SETS.items():
        (row,) = re.findall(rf"^\| {re.escape(name)} \|.*\|$", readme, re.MULTILINE)
        cells = [cell.strip(" *") for cell in row.replace("**", "").split("|")[3:6]]
        for (norm, arm), cell in zip(RECIPES, cells, strict=True):
            mean, sd, last = re.fullmatch(r"([\d.]+) ± ([\d.]+), ([\d.]+)", cell).groups()
            assert re.search(rf"\| {data} \| {norm} \| `{arm}` \| 5 of 5 \| {mean} \| {sd} \| {last} \|", page), row
    assert "100 epochs, five seeds: AUROC" in readme
    found = re.findall(r"([\d.]+)(?: points)? \[([\d.]+), ([\d.]+)\]", " ".join(readme.split()))
    rows = [
        (r"H1 higher \| trainable", 0.0001),
        (r"H2 steadier \| trainable", 0.0001),
        (r"H3 last epoch better \| trainable", 0.0001),
        (r"H1 higher \| trainable", None),  # on the second backbone
        (r"H2 steadier \| trainable", None),
        (r"H1 higher \| counted", 0.05),
        (r"H3 last epoch better \| counted", 0.05),
        ("standardising, norm trainable", None),
    ]
    for (row, level), (effect, low, high) in zip(rows, found, strict=True):
        shown = re.search(rf"^\| {row} \| [+×]{effect} \[[+×]{low}, [+×]{high}\] .*$", page, re.MULTILINE)
        assert shown, row
        if level:
            assert shown.group().endswith("| **supported** |")
            assert float(shown.group().split("|")[5].replace("−", "-")) < level  # after Holm's correction
    verdicts = {
        claim: re.findall(r"\*\*(\w+)\*\*", re.search(rf"^\| {claim} \|.*\|$", page, re.MULTILINE).group())
        for claim in ("H1 higher", "H2 steadier", "H3 last epoch better")
    }
    assert verdicts == {  # of the norms trainable, none and counted, as README puts it in words
        "H1 higher": ["supported", "unsupported", "supported"],
        "H2 steadier": ["supported", "unsupported", "unsupported"],
        "H3 last epoch better": ["supported", "unsupported", "supported"],
    }
    words = " ".join(readme.replace("**", "").split())
    assert "but not shown to be steadier; without the norm none of the three is shown" in words
