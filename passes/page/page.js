"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const KINDS = { compute: "#64748b", all_gather: "#2563eb", reduce_scatter: "#7c3aed", all_reduce: "#db2777",
  all_to_all: "#d97706", permute: "#0891b2" };
const PARTS = ["#2563eb", "#7c3aed", "#db2777", "#d97706", "#0891b2"];
const chosen = data.plan && data.prices ? data.plan : null;
let plan = chosen;

const seconds = (value) => unit(value, [[1, "s"], [1e-3, "ms"], [1e-6, "µs"], [1e-9, "ns"]]);
const bytes = (value) => unit(value, [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"], [1, "B"]]);
function unit(value, units) {
  const [size, name] = units.find(([each]) => Math.abs(value) >= 0.9995 * each) || units[units.length - 1];
  return `${value ? (value / size).toPrecision(3).replace(/e\+?/, "e") : 0} ${name}`;
}
const whole = (value) => Math.round(value).toLocaleString("en");
const over = (mask) => data.axes.filter((_, i) => (mask >> i) & 1).map((axis) => axis.name).join(" × ");

function element(tag, fields = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(fields)) key in made ? (made[key] = value) : made.setAttribute(key, value);
  made.append(...children);
  return made;
}
function drawn(tag, fields, title) {
  const made = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(fields)) made.setAttribute(key, value);
  if (title) made.append(Object.assign(document.createElementNS(SVG, "title"), { textContent: title }));
  return made;
}
const put = (id, ...children) => document.getElementById(id).replaceChildren(...children);

// What the report says, where nothing can be moved.
function reported() {
  const { time, memory, collectives: sent } = data.report;
  const box = (name, value) => element("div", { className: "figure" }, element("span", {}, name), element("b", {}, value));
  put("figures", box("step", seconds(time.step)), box("exposed communication", seconds(time.exposed)),
    box("peak memory", `${bytes(memory.peak)} of ${bytes(memory.capacity)}`),
    ...(data.tokens ? [box("tokens a second", whole(data.tokens / time.step))] : []),
    box("MFU", `${((100 * data.flops) / (time.step * data.peakFlops)).toFixed(1)}%`));
  const kinds = [...new Set(sent.map((each) => each.kind))];
  const sum = (kind, key) => sent.filter((each) => each.kind === kind).reduce((total, each) => total + each[key], 0);
  put("collectives", element("tr", {}, ...["kind", "times", "time"].map((name) => element("th", {}, name))),
    ...kinds.map((kind) => element("tr", {}, element("td", {}, kind),
      element("td", { className: "number" }, whole(sum(kind, "count"))), element("td", { className: "number" }, seconds(sum(kind, "seconds"))))));
  put("parts", element("table", {}, ...["parameters", "optimizer", "gradients", "activations", "temporaries"].map((kind) =>
    element("tr", {}, element("td", {}, kind), element("td", { className: "number" }, bytes(memory[kind]))))));
}

function figures(time, memory) {
  const first = Pricing.time(data, chosen), kept = Pricing.memory(data, chosen);
  const capacity = data.prices.capacity;
  const change = (now, before, less = true) => {
    if (Math.abs(now - before) <= 1e-9 * Math.abs(before)) return element("span", {}, "as planned");
    const share = before ? ((now / before - 1) * 100).toFixed(1) : "?";
    return element("span", { className: now < before === less ? "better" : "worse" }, `${share > 0 ? "+" : ""}${share}%`);
  };
  const box = (name, value, ...rest) => element("div", { className: "figure" }, element("span", {}, name), element("b", {}, value), ...rest);
  const mfu = (step) => data.flops / (step * data.peakFlops);
  put("figures",
    box("step", seconds(time.step), change(time.step, first.step)),
    box("exposed communication", seconds(time.exposed), change(time.exposed, first.exposed)),
    box("peak memory", bytes(memory.peak), change(memory.peak, kept.peak),
      element("span", { className: memory.peak > capacity ? "worse" : "" }, memory.peak > capacity ? ` does not fit ${bytes(capacity)}` : ` of ${bytes(capacity)}`)),
    ...(data.tokens ? [box("tokens a second", whole(data.tokens / time.step), change(1 / time.step, 1 / first.step, false))] : []),
    box("MFU", `${(100 * mfu(time.step)).toFixed(1)}%`, change(mfu(time.step), mfu(first.step), false)));
}

function grid() {
  const head = element("tr", {}, element("th", {}, "name"), element("th", {}, "size"),
    ...data.axes.map((axis) => element("th", {}, `${axis.name} ${axis.size}`)), element("th", {}, "in the plan"));
  put("grid", head, ...data.names.map((row) => element("tr", {}, element("td", {}, row.name),
    element("td", { className: "number" }, whole(row.size)), ...data.axes.map((_, axis) => cell(row, axis)),
    element("td", { className: "why" }, row.why))));
}

function role(name, axis) {
  if (!plan) {
    const { compute, storage } = data.rules;
    return ((compute[name] || 0) >> axis) & 1 ? "compute" : ((storage[name] || 0) >> axis) & 1 ? "storage" : null;
  }
  if (((plan.compute[name] || 0) >> axis) & 1) return "compute";
  return plan.stored.name === name && (plan.stored.mask >> axis) & 1 ? "storage" : null;
}

function cell(row, axis) {
  const at = role(row.name, axis), free = plan && row.options.length > 1;
  const made = element("td", { className: free ? "cell" : "cell fixed" });
  made.dataset.name = row.name;
  made.dataset.axis = axis;
  if (at) {
    const mark = element("span", { className: `mark ${at}`, draggable: Boolean(free) }, at === "compute" ? "in use" : "at rest");
    mark.addEventListener("dragstart", (event) => event.dataTransfer.setData("text", JSON.stringify([row.name, axis, at])));
    made.append(mark);
  }
  if (!free) return made;
  made.addEventListener("click", () => {
    if (at === "compute") {
      const without = Pricing.moved(data, plan, row.name, axis, "compute");
      attempt(row.state ? Pricing.moved(data, without, row.name, axis, "storage") : without, row, axis);
    } else attempt(Pricing.moved(data, plan, row.name, axis, at || "compute"), row, axis);
  });
  made.addEventListener("dragover", (event) => { event.preventDefault(); made.classList.add("over"); });
  made.addEventListener("dragleave", () => made.classList.remove("over"));
  made.addEventListener("drop", (event) => {
    event.preventDefault();
    const [name, from, dragged] = JSON.parse(event.dataTransfer.getData("text"));
    if (name !== row.name || from === axis) return show();
    attempt(Pricing.moved(data, Pricing.moved(data, plan, name, from, dragged), name, axis, dragged), row, axis);
  });
  return made;
}

function attempt(next, row, axis) {
  if (!Pricing.legal(data, next)) {
    const mask = (next.compute[row.name] || 0) | (next.stored.name === row.name ? next.stored.mask : 0);
    document.getElementById("said").textContent =
      `${row.name} has size ${row.size}, which ${over(mask | (1 << axis))} does not divide`;
    return show();
  }
  document.getElementById("said").textContent = "";
  plan = next;
  show();
}

function collectives(time) {
  const first = Pricing.time(data, chosen).collectives;
  const most = Math.max(...first.map((each) => each.seconds), ...time.collectives.map((each) => each.seconds), 1e-12);
  const head = element("tr", {}, ...["kind", "times", "time", "", "planned"].map((name) => element("th", {}, name)));
  put("collectives", head, ...time.collectives.map((each, i) => element("tr", {}, element("td", {}, each.kind),
    element("td", { className: "number" }, whole(each.count)), element("td", { className: "number" }, seconds(each.seconds)),
    element("td", { style: "width:35%" }, element("div", { className: "bar", style: `width:${(100 * each.seconds) / most}%;background:${KINDS[each.kind] || "#888"}` })),
    element("td", { className: "number" }, `${whole(first[i].count)} × ${seconds(first[i].seconds)}`))));
}

function memoryShown(memory) {
  const kinds = data.prices.memoryKinds, most = Math.max(...memory.parts, 1);
  put("parts", element("table", {}, ...kinds.map((kind, i) => element("tr", {}, element("td", {}, kind),
    element("td", { className: "number" }, bytes(memory.parts[i])),
    element("td", { style: "width:50%" }, element("div", { className: "bar", style: `width:${(100 * memory.parts[i]) / most}%;background:${PARTS[i]}` }))))));
  const course = memory.course, width = 600, height = 120, top = Math.max(...course, 1);
  const points = course.map((held, i) => `${((i / Math.max(course.length - 1, 1)) * width).toFixed(1)},${(height - (held / top) * (height - 16)).toFixed(1)}`);
  const svg = document.getElementById("memory");
  svg.setAttribute("viewBox", `0 0 ${width} ${height + 16}`);
  const label = drawn("text", { x: 0, y: height + 13 });
  label.textContent = `held over the step, up to ${bytes(memory.peak)}`;
  svg.replaceChildren(drawn("polyline", { points: points.join(" "), fill: "none", stroke: "var(--use)", "stroke-width": 1.5 }), label);
}

function timeline() {
  const total = data.course.reduce((sum, piece) => sum + piece.seconds, 0) || 1, width = 1000;
  const svg = document.getElementById("timeline");
  svg.setAttribute("viewBox", `0 0 ${width} 92`);
  let at = 0, phase = "";
  const marks = [];
  for (const piece of data.course) {
    const wide = (piece.seconds / total) * width, y = piece.kind === "compute" ? 18 : 52;
    if (piece.phase !== phase) {
      const label = drawn("text", { x: Math.min(at, width - 60), y: 12 });
      label.textContent = phase = piece.phase;
      marks.push(label);
    }
    marks.push(drawn("rect", { x: at.toFixed(2), y, width: Math.max(wide, 0.3).toFixed(2), height: 30, fill: KINDS[piece.kind] || "#888" },
      `${piece.kind} ${piece.what}: ${seconds(piece.seconds)} (${piece.phase})`));
    at += wide;
  }
  svg.replaceChildren(...marks);
  const seen = [...new Set(data.course.map((piece) => piece.kind))];
  put("legend", ...seen.map((kind) => element("span", { style: `color:${KINDS[kind] || "#888"};margin-right:14px` }, `■ ${kind}`)));
}

function parameters() {
  const largest = Math.max(...data.parameters.map((each) => each.bytes), 1);
  put("parameters", ...data.parameters.map((each) => {
    const layout = plan ? Pricing.layout(data, plan, each.axes, "storage") : each.layout;
    const cuts = (name) => data.axes.reduce((count, axis, i) => ((layout[name] || 0) >> i) & 1 ? count * axis.size : count, 1);
    const names = Object.keys(each.axes), last = names[names.length - 1];
    const columns = last ? cuts(last) : 1, rows = names.slice(0, -1).reduce((count, name) => count * cuts(name), 1);
    const side = 16 + 150 * Math.sqrt(each.bytes / largest);
    const svg = drawn("svg", { viewBox: `0 0 ${side} ${side}`, style: `width:${side}px` }, each.path);
    svg.append(drawn("rect", { x: 0.5, y: 0.5, width: side - 1, height: side - 1, fill: "var(--soft)", stroke: "var(--use)" }));
    svg.append(drawn("rect", { x: 0.5, y: 0.5, width: (side - 1) / columns, height: (side - 1) / rows, fill: "var(--use)" }));
    for (let i = 1; i < Math.min(columns, 64); i++) svg.append(drawn("path", { d: `M${(i * side) / columns} 0V${side}`, stroke: "var(--card)" }));
    for (let i = 1; i < Math.min(rows, 64); i++) svg.append(drawn("path", { d: `M0 ${(i * side) / rows}H${side}`, stroke: "var(--card)" }));
    const placed = names.filter((name) => layout[name]).map((name) => `${name} over ${over(layout[name])}`).join(", ");
    const text = `${each.path} [${names.map((name) => `${name} ${each.axes[name]}`).join(", ")}] ${bytes(each.bytes / (rows * columns))} of ${bytes(each.bytes)}: ${placed || "replicated"}`;
    return element("figure", {}, svg, element("figcaption", {}, text));
  }));
}

// All plans, or as many as can be priced in a moment, taken evenly by a fixed sequence.
const MOST = 1500;
let space = null;
function sample() {
  const free = data.names.filter((row) => row.options.length > 1);
  const stored = [{ name: null, mask: 0 }, ...data.names.flatMap((row) => row.storage.map((mask) => ({ name: row.name, mask })))];
  const count = free.reduce((product, row) => product * row.options.length, stored.length);
  let state = 1;
  const random = (below) => (state = (state * 48271) % 2147483647) % below;
  const found = [];
  for (let i = 0; i < Math.min(count, MOST); i++) {
    let left = i;
    const pick = (list) => {
      if (count > MOST) return list[random(list.length)];
      const at = left % list.length;
      left = (left - at) / list.length;
      return list[at];
    };
    const compute = Object.fromEntries(free.map((row) => [row.name, count > MOST && random(2) ? 0 : pick(row.options)]));
    const at = pick(stored), own = at.mask & ~(compute[at.name] || 0);
    const each = { compute, stored: own ? { name: at.name, mask: own } : { name: null, mask: 0 } };
    const time = Pricing.legal(data, each) && Pricing.time(data, each), memory = time && Pricing.memory(data, each);
    if (memory) found.push([time.step, memory.peak]);
  }
  return { count, found };
}

function plans(time, memory) {
  space = space || sample();
  const first = [Pricing.time(data, chosen).step, Pricing.memory(data, chosen).peak], now = [time.step, memory.peak];
  const all = [...space.found, first, now], width = 1000, height = 320, margin = 44;
  const log = (values) => { const low = Math.log(Math.min(...values)), high = Math.log(Math.max(...values)); return (value) => high > low ? (Math.log(value) - low) / (high - low) : 0.5; };
  const x = log(all.map((each) => each[0])), y = log(all.map((each) => each[1]));
  const at = ([step, peak]) => ({ cx: (margin + x(step) * (width - 2 * margin)).toFixed(1), cy: (height - margin - y(peak) * (height - 2 * margin)).toFixed(1) });
  const svg = document.getElementById("plans");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const dot = (each, r, fill, title) => drawn("circle", { ...at(each), r, fill, "fill-opacity": r > 3 ? 1 : 0.35 }, title);
  const told = (name, [step, peak]) => `${name}: ${seconds(step)}, ${bytes(peak)}`;
  const words = (text, x, y, anchor = "start") => Object.assign(drawn("text", { x, y, "text-anchor": anchor }), { textContent: text });
  svg.replaceChildren(...space.found.map((each) => dot(each, 2.5, "var(--quiet)", told("a plan", each))),
    dot(first, 7, "var(--rest)", told("the plan", first)), dot(now, 5, "var(--use)", told("as moved", now)),
    words(`time of a step, from ${seconds(Math.min(...all.map((each) => each[0])))} to ${seconds(Math.max(...all.map((each) => each[0])))} →`, width - margin, height - 8, "end"),
    words(`↑ peak memory, up to ${bytes(Math.max(...all.map((each) => each[1])))}`, 4, 14));
  document.getElementById("count").textContent = space.count <= MOST
    ? `All ${whole(space.count)} plans; the green one is the plan, the blue one is as you have moved it.`
    : `${whole(space.found.length)} of ${whole(space.count)} plans; the green one is the plan, the blue one is as you have moved it.`;
}

function show() {
  grid();
  if (!plan) reported();
  else {
    const time = Pricing.time(data, plan), memory = Pricing.memory(data, plan);
    figures(time, memory);
    collectives(time);
    memoryShown(memory);
    plans(time, memory);
  }
  parameters();
}

document.title = document.getElementById("title").textContent = `${data.model} on ${data.axes.reduce((product, axis) => product * axis.size, 1)} × ${data.hardware}`;
document.getElementById("subtitle").textContent = data.axes.map((axis) => `${axis.name} ${axis.size}`).join(" × ");
document.getElementById("reset").addEventListener("click", () => { plan = chosen; document.getElementById("said").textContent = ""; show(); });
if (plan) {
  const priced = Pricing.time(data, plan).step, runs = data.report.time.step;
  if (Math.abs(priced - runs) > 1e-6 * runs) document.getElementById("priced").textContent =
    `The search prices this plan at ${seconds(priced)}; as it runs, what is joined, or cannot be kept, makes it ${seconds(runs)} (levanter compile).`;
}
if (!plan) {
  document.getElementById("said").textContent = data.plan
    ? "Nothing can be moved here: on so many mesh axes the tables are too large for a page."
    : "Nothing can be moved here: several names are stored over mesh axes that they could have in use.";
  document.getElementById("memory").remove();
  document.getElementById("plans").closest("section").remove();
  document.getElementById("reset").closest("p").remove();
}
timeline();
show();
