"""Baselines without a server: what a configuration says, what a comparison finds, what a sheet shows."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from safelight.artifacts import MADE, REQUEST, encode_picture, read_metadata
from safelight.cli.baselines import sheet
from safelight.cli.baselines.comparing import Outcome, judge, orphans
from safelight.cli.baselines.drawing import Drawn, keep, kept
from safelight.cli.baselines.scenarios import Book, Case, Thresholds, read
from safelight.core.tables import build_tables
from safelight.errors import InvalidRequest
from safelight.workflows.remake import origin

TABLES = build_tables()
REPOSITORY = Path(__file__).resolve().parents[3] / "examples" / "baselines" / "postcards.toml"


def book(folder: Path, text: str) -> Book:
    file = folder / "book.toml"
    file.write_text(text, encoding="utf-8")
    return read(file, TABLES)


# ---- what a configuration says


def test_a_scenario_is_a_case_a_seed_with_common_fields_and_its_own(tmp_path):
    (tmp_path / "house.png").write_bytes(b"")
    made = book(tmp_path, """
        folder = "kept"
        settings.devices.threads = 1
        [fields]
        prompt = "a house"
        steps = 4
        [thresholds]
        psnr = 50
        [scenario.plain]
        [scenario.winter]
        operation = "image.transform"
        image = "house.png"
        steps = 9
        seeds = [5, 6]
        thresholds = { ssim = 0.9 }
    """)  # fmt: skip
    assert made.folder == tmp_path / "kept" and made.settings == {"devices.threads": 1}
    plain, five, six = made.cases
    assert plain == Case(
        "plain", {"operation": "image.generate", "prompt": "a house", "steps": 4, "seed": 1}, {}, Thresholds(psnr=50)
    )
    assert (five.name, six.name) == ("winter-5", "winter-6")
    assert six.request() == {
        "operation": "image.transform", "prompt": "a house", "steps": 9, "seed": 6, "image": tmp_path / "house.png",
    }  # fmt: skip
    assert six.thresholds == Thresholds(psnr=50, ssim=0.9)
    assert made.chosen(["winter-*"]) == (five, six) and made.chosen([]) == made.cases


def test_a_matrix_is_every_pair_once(tmp_path):
    made = book(tmp_path, """
        fields.prompt = "a house"
        [[matrix]]
        samplers = ["*"]
        schedules = ["karras"]
        without = ["lms"]
        [[matrix]]
        samplers = ["euler"]
        schedules = ["*"]
    """)  # fmt: skip
    names = [case.name for case in made.cases]
    assert len(set(names)) == len(names)
    samplers = {each.id for each in TABLES.samplers if "ve" in each.paths} - {"lms"}
    schedules = {each.id for each in TABLES.schedules if each.code}
    assert set(names) == {f"{each}-karras" for each in samplers} | {f"euler-{each}" for each in schedules}
    assert made.cases[0].body["sampler"] + "-" + made.cases[0].body["schedule"] == names[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no scenario"),
        ("[scenario", "cannot be read"),
        ("scenarios = 1", "knows no 'scenarios'"),
        ("[scenario.a]\nimage = 'no.png'", "there is no file"),
        ("[scenario.a]\nthresholds = { psnrr = 3 }", "no such threshold"),
        ("[scenario.a]\nthresholds = { psnr = '3' }", "'3' is no number"),
        ("[[matrix]]\nsamplers = ['oiler']", "'oiler' is not there"),
        ("[[matrix]]\nsamplers=['euler']\n[[matrix]]\nsamplers=['euler']\nsteps=3", "there already, with another"),
    ],
)
def test_a_configuration_that_cannot_be(tmp_path, text, said):
    with pytest.raises(InvalidRequest, match=re.escape(said)):
        book(tmp_path, text)


def test_a_scenario_that_is_not_there_is_answered_with_those_that_are(tmp_path):
    with pytest.raises(InvalidRequest, match="no scenario is like 'boat'"):
        book(tmp_path, "[scenario.house]").chosen(["house", "boat"])


def test_the_repository_keeps_each_sampler_with_two_schedules_and_each_schedule_with_two_samplers():
    made = read(REPOSITORY, TABLES)
    pairs = {(case.body["sampler"], case.body["schedule"]) for case in made.cases}
    for sampler in (each.id for each in TABLES.samplers if "ve" in each.paths):
        assert len({schedule for each, schedule in pairs if each == sampler}) >= 2, sampler
    for schedule in (each.id for each in TABLES.schedules if each.code):
        assert len({sampler for sampler, each in pairs if each == schedule}) >= 2, schedule
    assert {case.body["operation"] for case in made.cases} >= {"image.generate", "image.transform", "image.inpaint"}
    assert any(len(case.body.get("loras", ())) > 1 for case in made.cases)
    assert sum(path.stat().st_size for path in REPOSITORY.parent.rglob("*") if path.is_file()) < 1.5e6
    kept_already = {path.stem for path in made.folder.glob("*.png")}
    assert kept_already == {case.name for case in made.cases}, "capture what is new, remove what is no more"


# ---- what a comparison finds

PLAN = {"device": "cpu", "dtype": "fp32", "threads": 1, "passes": "own"}
CASE = Case("house", {"operation": "image.generate", "seed": 1})


def drawn(value: int = 100, *, plan: dict | None = None, pixel: int | None = None, **more) -> Drawn:
    picture = Image.new("RGB", (32, 32), (value, value, value))
    if pixel is not None:
        picture.putpixel((5, 5), (pixel, value, value))
    request = {"operation": "image.generate", "deterministic": True, "steps": more.pop("steps", 4)}
    made = {"picture": 0, "width": more.pop("width", 2), "plan": {**PLAN, **(plan or {})}}
    data = encode_picture(picture, "png", 92, {REQUEST: json.dumps(request), MADE: json.dumps(made)})
    return Drawn(data, origin(read_metadata(data), "it"), more.get("seconds", 1.0), more.get("peak_bytes", 100))


@pytest.mark.parametrize(
    ("kept_so", "drawn_so", "limits", "fault"),
    [
        ({}, {}, {}, ""),
        ({}, {"pixel": 101}, {}, "0.10% of the pixels differ, by at most 1; the same plan promises none"),
        ({}, {"pixel": 101}, {"exact": False}, ""),
        ({}, {"pixel": 101, "plan": {"dtype": "bf16"}}, {}, ""),
        ({}, {"pixel": 101, "plan": {"threads": 2}}, {}, ""),
        ({}, {"pixel": 101, "width": 1}, {}, ""),
        ({"plan": {"passes": "shared"}}, {"pixel": 101, "plan": {"passes": "shared"}}, {}, ""),
        ({}, {"value": 104, "plan": {"dtype": "bf16"}}, {}, "PSNR 36.1 dB is below 40 dB"),
        ({}, {"value": 104, "plan": {"dtype": "bf16"}}, {"psnr": 36}, ""),
        ({}, {"pixel": 160, "plan": {"dtype": "bf16"}}, {"psnr": 0, "ssim": 0.999999}, "SSIM"),
        ({}, {"pixel": 160, "plan": {"dtype": "bf16"}}, {"psnr": 0, "largest": 59}, "a pixel differs by 60, more"),
        ({}, {"pixel": 160, "plan": {"dtype": "bf16"}}, {"psnr": 0, "largest": 60, "ssim": 0}, ""),
        ({}, {"pixel": 101, "plan": {"dtype": "bf16"}}, {"share": 0.0005}, "0.10% of the pixels differ, more"),
        ({}, {"seconds": 2.1}, {"slower": 2.0}, "it took 2.10 s, more than 2 times 1.00 s"),
        ({}, {"seconds": 2.1}, {}, ""),
        ({}, {"peak_bytes": 301}, {"more_memory": 3}, "it took 301 bytes, more than 3 times 100"),
        ({}, {"steps": 5}, {}, "the baseline is of another request: steps was 4, now it is 5; capture it anew"),
    ],
)  # fmt: skip
def test_what_a_baseline_must_keep(kept_so, drawn_so, limits, fault):
    outcome = judge(replace(CASE, thresholds=Thresholds(**limits)), drawn(**kept_so), drawn(**drawn_so))
    assert outcome.passed is (not fault)
    assert not fault or outcome.faults[0].startswith(fault)


def test_what_was_computed_otherwise_is_told():
    outcome = judge(CASE, drawn(), drawn(plan={"dtype": "bf16", "threads": 2}, width=1))
    assert outcome.plan == (
        "dtype was fp32, here it is bf16", "threads was 1, here it is 2", "the width of passes was 2, here it is 1",
    )  # fmt: skip


def test_what_is_kept_is_read_back_and_what_no_scenario_names_is_found(tmp_path):
    keep(drawn(), CASE, tmp_path)
    assert kept(CASE, tmp_path) == drawn()
    (tmp_path / "boat.png").write_bytes(b"")
    assert orphans(tmp_path, [CASE]) == ["boat.png"]


# ---- what a sheet shows


def test_the_sheets_tell_the_same(tmp_path):
    good, bad = judge(CASE, drawn(), drawn()), judge(replace(CASE, name="<boat>"), drawn(), drawn(pixel=160))
    gone = Outcome(replace(CASE, name="gone"), ("there is no baseline",))
    told, marked, shown = sheet.write([good, bad, gone], ["stray.png"], tmp_path)
    facts = json.loads(told.read_text())
    assert facts["passed"] is False and facts["of_no_scenario"] == ["stray.png"]
    assert [each["passed"] for each in facts["cases"]] == [True, False, False]
    assert facts["cases"][0]["psnr"] is None and facts["cases"][1]["largest"] == 60
    assert "1 of 3 baselines hold; of no scenario: stray.png" in marked.read_text()
    assert marked.read_text().splitlines()[4].startswith("| **failed** | <boat> |"), "what fails comes first"
    page = shown.read_text()
    assert page.count("data:image/png;base64,") == 6 and "&lt;boat&gt;" in page and "4 times" in page
    assert not re.search(r"(src|href)=\"(?!data:)", page), "nothing from outside"
    assert json.loads(sheet.write([good], [], tmp_path)[0].read_text())["passed"] is True


def test_a_difference_is_amplified_as_far_as_it_goes():
    apart, factor = sheet.amplified(drawn().image(), drawn(pixel=110).image())
    assert factor == 25 and apart.getpixel((5, 5)) == (250, 0, 0) and apart.getpixel((6, 6)) == (0, 0, 0)
