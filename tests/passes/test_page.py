"""The page of a plan: what it prices is what the planner prices, in a plain JavaScript engine and in a browser.

The browser is a headless Chromium from npm, so that test is a slow one: `npm i puppeteer-core @sparticuz/chromium` in
any folder, and LEVANTER_BROWSER=FOLDER.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from step_models import mlp_step, prepared
from typeguard import suppress_type_checks

import ir
import passes
from passes import DeviceMesh, Plan, pipeline
from passes.page import prices as page_prices
from passes.page.page import page, page_data
from passes.planner.cost import step_seconds
from passes.planner.problem import Problem
from passes.sharding.rules import ShardingRules

PRICING = Path(passes.__file__ or "").parent / "page" / "pricing.js"
PROGRAM = """
const pricing = require(process.argv[1]);
const { data, plans, sizes } = JSON.parse(require("fs").readFileSync(0));
console.log(JSON.stringify(plans.map((plan) => ({
  legal: pricing.legal(data, plan), time: pricing.time(data, plan), memory: pricing.memory(data, plan),
  layouts: sizes.map((each) => pricing.layout(data, plan, each, "storage")),
}))));
"""
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")


def priced(data: dict[str, Any], plans: list[Any], sizes: list[Any]) -> list[Any]:
    """What the page's own code makes of some plans."""
    given = json.dumps({"data": data, "plans": plans, "sizes": sizes})
    command = ["node", "-e", PROGRAM, str(PRICING)]
    return json.loads(subprocess.run(command, input=given, capture_output=True, text=True, check=True).stdout)


@needs_node
@pytest.mark.parametrize(
    ("name", "mesh"),
    [
        ("mlp", {"data": 4, "model": 2}),
        ("mlp", {"replica": 2, "data": 2, "model": 2}),
        ("mlp", {"replica": 2, "data": 2, "sequence": 2, "model": 2}),
        ("raw", {"data": 2}),
    ],
)
def test_the_page_prices_as_the_planner_does(name: str, mesh: dict[str, int]) -> None:
    graph = pipeline.prepare(ir.trace(*mlp_step(16, 64, 256))) if name == "mlp" else prepared(name)
    with suppress_type_checks():
        plan = passes.plan(graph, mesh)
        data = page_data({**plan.report(), "model": name}, graph, plan)
        problem = Problem.of(graph, DeviceMesh.of(mesh), plan.chip, bool(plan.regather))
        space, rng = problem.space, random.Random(name)
        expected, plans = [], []
        sizes = [row["axes"] for row in data["parameters"]]
        for _ in range(40):
            compute = {each: int(rng.choice(masks)) for each, masks in space.options.items()}
            movable = [s for s in space.storage_choices if len(s.names) < 2]
            stored = rng.choice([s for s in movable if not any(s.mask & compute.get(n, 0) for n in s.names)])
            rules = ShardingRules(space.mesh, space.order, compute, stored.extra)
            cost, peak = problem.price(rules)
            seconds = float(step_seconds(cost.compute, cost.activations, cost.hidden, plan.chip.overlap))
            layouts = [{n: int(m) for n, m in rules.layout(each, "storage").items()} for each in sizes]
            expected.append((seconds, peak, float(cost.activations + cost.hidden), layouts))
            plans.append({"compute": compute, "stored": {"name": next(iter(stored.names), None), "mask": stored.mask}})
    found = priced(data, plans, sizes)
    for mine, (seconds, peak, sent, layouts) in zip(found, expected, strict=True):
        assert mine["legal"]
        assert mine["time"]["step"] == pytest.approx(seconds, rel=1e-9)
        assert (mine["memory"]["peak"], sum(mine["memory"]["parts"])) == (peak, peak)
        assert sum(each["seconds"] for each in mine["time"]["collectives"]) == pytest.approx(sent, rel=1e-9, abs=1e-15)
        assert mine["layouts"] == layouts


@needs_node
def test_the_plan_has_the_figures_of_the_command_line() -> None:
    with suppress_type_checks():
        graph = prepared("named")
        over = ("data", "model")
        plan = passes.run(graph, "4x2", plan=Plan.by_hand("4x2", {"batch": over}, {"vocab": over})).plan
        report = plan.report()
        data = page_data({**report, "model": "named"}, graph, plan)
    (found,) = priced(data, [data["plan"]], [])
    for key in ("step", "compute", "communication", "exposed"):
        assert found["time"][key] == pytest.approx(report["time"][key], rel=1e-9), key
    assert found["memory"]["peak"] == report["memory"]["peak"]
    for each in found["time"]["collectives"]:
        rows = [row for row in report["collectives"] if row["sent"] and row["sent"]["kind"] == each["kind"]]
        assert each["count"] == sum(row["count"] for row in rows)
        assert each["seconds"] == pytest.approx(sum(row["seconds"] for row in rows), abs=1e-15)
    assert sum(each["seconds"] for each in data["course"] if each["kind"] == "compute") == pytest.approx(
        report["time"]["compute"]
    )
    sent = sum(each["seconds"] for each in data["course"] if each["kind"] != "compute")
    assert sent == pytest.approx(report["time"]["communication"])


def test_a_page_stands_alone_whatever_names_are_in_it() -> None:
    graph = pipeline.prepare(ir.trace(*mlp_step(16, 64, 256)))
    plan = Plan.by_hand({"data": 2}, {"batch": "data"})
    text = page({**plan.report(graph), "model": "</script><b>&"}, graph, plan)
    assert not re.search(r"""(src|href)=|@import|url\(|/\*[A-Z]+\*/""", text)
    assert text.count("</script>") == 3 and "</script><b>" not in text
    data = re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.DOTALL)
    assert data is not None and json.loads(data[1])["model"] == "</script><b>&"
    # Two names stored over axes of their own are no plan of the search: it is shown, and cannot be moved.
    two = Plan.by_hand({"data": 2, "model": 2}, {}, {"embed": "data", "mlp": "model"})
    data = page_data({**two.report(graph), "model": "two"}, graph, two)
    assert data["plan"] is None
    assert data["rules"] == {"compute": {}, "storage": {"embed": 1, "mlp": 2}}
    assert [row["layout"] for row in data["parameters"]] == [{"mlp": 2, "embed": 1}, {"embed": 1, "mlp": 2}]


@needs_node
def test_a_plan_of_the_search_that_stores_several_names_can_be_moved() -> None:
    """What the batch leaves a name at rest alone is said as storage; the page says it as the search does."""
    graph = pipeline.prepare(ir.trace(*mlp_step(16, 64, 256)))
    plan = Plan.by_hand({"data": 2, "model": 2}, {"batch": ["data", "model"]}, {"mlp": "model", "embed": "data"})
    with suppress_type_checks():
        report = plan.report(graph)
        data = page_data({**report, "model": "several"}, graph, plan)
    assert data["plan"]["compute"]["batch"] == 3 and {*data["rules"]["storage"]} >= {"mlp", "embed"}
    (found,) = priced(data, [data["plan"]], [row["axes"] for row in data["parameters"]])
    assert found["legal"]
    assert found["time"]["step"] == pytest.approx(report["time"]["step"], rel=1e-9)
    assert found["memory"]["peak"] == report["memory"]["peak"]
    assert found["layouts"] == [
        {name: row["layout"].get(name, 0) for name in row["axes"]} for row in data["parameters"]
    ]


def test_tables_that_are_too_large_stay_out_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = pipeline.prepare(ir.trace(*mlp_step(16, 64, 256)))
    plan = Plan.by_hand({"data": 2, "model": 2}, {"batch": "data"})
    report = {**plan.report(graph), "model": "mlp"}
    assert page_data(report, graph, plan)["prices"] is not None
    monkeypatch.setattr(page_prices, "MOST_NUMBERS", 100)
    data = page_data(report, graph, plan)
    assert data["prices"] is None and data["plan"] == {"compute": {"batch": 1}, "stored": {"name": None, "mask": 0}}


BROWSER = """
import chromium from "@sparticuz/chromium";
import puppeteer from "puppeteer-core";

const [, , file, shot] = process.argv;
const browser = await puppeteer.launch({
  args: puppeteer.defaultArgs({ args: chromium.args, headless: "shell" }),
  executablePath: await chromium.executablePath(), headless: "shell", timeout: 120000,
});
const page = await browser.newPage();
const problems = [];
page.on("pageerror", (error) => problems.push(error.message));
page.on("request", (request) => { if (!request.url().startsWith("file:")) problems.push(request.url()); });
await page.setViewport({ width: 1200, height: 2000 });
await page.goto(file, { waitUntil: "load", timeout: 120000 });
const figures = () => page.$$eval("#figures .figure b", (all) => all.map((each) => each.textContent));
const state = () => page.evaluate(
  () => ({ plan, step: Pricing.time(data, plan).step, peak: Pricing.memory(data, plan).peak }));
const seen = [{ figures: await figures(), ...(await state()) }];
const cell = (name, axis) => `td[data-name="${name}"][data-axis="${axis}"]`;
await page.click(cell("mlp", 1));
seen.push({ figures: await figures(), ...(await state()) });
await page.evaluate((from, to) => {
  const transfer = new DataTransfer();
  const event = (kind) => new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true });
  document.querySelector(from).dispatchEvent(event("dragstart"));
  document.querySelector(to).dispatchEvent(event("drop"));
}, `${cell("batch", 0)} .mark`, cell("batch", 1));
seen.push({ figures: await figures(), ...(await state()) });
await page.screenshot({ path: shot, fullPage: true });
await page.click("#reset");
seen.push({ figures: await figures(), ...(await state()) });
console.log(JSON.stringify({ seen, problems }));
await browser.close();
"""


@pytest.mark.slow
@pytest.mark.skipif("LEVANTER_BROWSER" not in os.environ, reason="LEVANTER_BROWSER names no folder with a Chromium")
def test_a_name_is_moved_in_a_browser(tmp_path: Path) -> None:
    graph = pipeline.prepare(ir.trace(*mlp_step(16, 64, 256)))
    first = Plan.by_hand("4x2", {"batch": "data"})
    (tmp_path / "plan.html").write_text(page({**first.report(graph), "model": "mlp"}, graph, first), encoding="utf-8")
    (tmp_path / "look.mjs").write_text(BROWSER)
    (tmp_path / "node_modules").symlink_to(Path(os.environ["LEVANTER_BROWSER"]) / "node_modules")
    shot = Path(os.environ["LEVANTER_BROWSER"]) / "plan.png"
    command = ["node", "look.mjs", f"file://{tmp_path}/plan.html", str(shot)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["problems"] == [] and shot.read_bytes().startswith(b"\x89PNG")
    plans = [
        first,
        Plan.by_hand("4x2", {"batch": "data", "mlp": "model"}),
        Plan.by_hand("4x2", {"batch": "model", "mlp": "model"}),
        first,
    ]
    for each, plan in zip(found["seen"], plans, strict=True):
        report = plan.report(graph)
        assert each["step"] == pytest.approx(report["time"]["step"], rel=1e-9)
        assert each["peak"] == report["memory"]["peak"]
    shown = [each["figures"][0] for each in found["seen"]]
    assert shown[0] == shown[3] and len(set(shown)) >= 2
