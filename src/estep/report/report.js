"use strict";
// Draws the curves of a report. All numbers are in the block #data; nothing is loaded.
const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const WIDTH = Math.max(360, Math.min(1000, document.body.clientWidth - 32)), HEIGHT = 300, LEFT = 70, BOTTOM = 34, TOP = 8, RIGHT = 34;
const AXES = {steps: "environment steps", updates: "updates", wall_s: "seconds"};

function element(parent, name, attributes = {}, text = "") {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  parent?.append(made);
  return made;
}

function shape(parent, name, attributes, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  parent.append(made);
  return made;
}

const written = value => value === null || !Number.isFinite(value) ? "no number"
  : Number.isInteger(value) ? value.toLocaleString("en-US") : String(value);
const short = value => Math.abs(value) >= 1e8 || (value && Math.abs(value) < 1e-3) ? value.toExponential(1)
  : Number(value.toPrecision(Math.abs(value) < 1e4 ? 4 : 8)).toLocaleString("en-US");

// The number of updates or seconds at a number of steps: between the two lines of metrics beside it.
function along(axis, steps) {
  if (axis === "steps" || !data.axes?.[axis]) return steps;
  const [xs, ys] = data.axes[axis];
  let i = 0, after = xs.length - 1; // the first place that is not before `steps`
  while (i < after) {
    const middle = (i + after) >> 1;
    if (xs[middle] >= steps) after = middle;
    else i = middle + 1;
  }
  if (i === 0 || xs[i] === steps) return xs[i] ? ys[i] * Math.min(steps / xs[i], 1) : ys[i];
  return ys[i - 1] + (ys[i] - ys[i - 1]) * (Math.min(steps, xs[i]) - xs[i - 1]) / (xs[i] - xs[i - 1]);
}

function smoothed(ys, share) {
  let last = null;
  return ys.map(y => y === null ? null : (last = last === null ? y : share * last + (1 - share) * y));
}

// Round places on an axis, about `count` of them.
function ticks(low, high, count) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(m => m * power).find(s => s >= rough);
  const found = [];
  for (let t = Math.ceil(low / step) * step; t <= high + step * 1e-9; t += step) found.push(Math.abs(t) < step * 1e-9 ? 0 : t);
  return found;
}

class Chart {
  constructor(parent, series, options = {}) {
    this.series = series.map((one, i) => ({...one, colour: `line${i % 8}`, shown: true}));
    this.axis = "steps"; this.log = false; this.smooth = 0; this.view = null; this.x = options.x; this.mark = options.mark;
    this.tools = element(parent, "div", {class: "tools"});
    this.svg = shape(element(parent, "div", {class: "chart"}), "svg",
      {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, tabindex: 0, role: "img", "aria-label": options.label || "curve"});
    this.read = element(parent, "div", {class: "read", "aria-live": "polite"});
    this.legend = element(parent, "div", {class: "legend"});
    this.controls();
    this.listen();
    this.draw();
  }

  controls() {
    if (!this.x) {
      const axis = element(this.tools, "select", {"aria-label": "horizontal axis"});
      for (const [name, label] of Object.entries(AXES))
        if (name === "steps" || data.axes?.[name]) element(axis, "option", {value: name}, label);
      axis.onchange = () => { this.axis = axis.value; this.view = null; this.draw(); };
    }
    const log = element(this.tools, "button", {"aria-pressed": "false", class: "log"}, "logarithmic");
    log.onclick = () => { this.log = !this.log; log.setAttribute("aria-pressed", this.log); this.view = null; this.draw(); };
    const label = element(this.tools, "label", {}, "smooth ");
    const smooth = element(label, "input", {type: "range", min: 0, max: 0.98, step: 0.02, value: 0});
    smooth.oninput = () => { this.smooth = Number(smooth.value); this.draw(); };
    element(this.tools, "button", {class: "whole"}, "whole").onclick = () => { this.view = null; this.draw(); };
    for (const one of this.series) {
      const button = element(this.legend, "button", {class: one.colour, "aria-pressed": "true"}, one.name);
      button.onclick = () => {
        one.shown = !one.shown;
        button.setAttribute("aria-pressed", one.shown);
        this.draw();
      };
    }
  }

  // What is drawn of a curve: places on both axes, and the number of the file beside them.
  points(one) {
    const [xs, raw] = one.curve, ys = smoothed(raw, this.smooth);
    return xs.map((x, i) => ({x: this.x ? x : along(this.axis, x), y: ys[i], raw: raw[i], steps: x, i}))
      .filter(p => p.y !== null && (!this.log || p.y > 0));
  }

  range() {
    const shown = this.series.filter(one => one.shown).flatMap(one => this.points(one).flatMap(p => {
      const ends = one.band && !this.log && !this.smooth ? [one.band[0][p.i] ?? p.y, one.band[1][p.i] ?? p.y] : [p.y];
      return ends.map(y => [p.x, y]);
    }));
    const reach = k => shown.reduce(([low, high], p) => [Math.min(low, p[k]), Math.max(high, p[k])], [Infinity, -Infinity]);
    let [left, right] = shown.length ? reach(0) : [0, 1], [low, high] = shown.length ? reach(1) : [0, 1];
    if (left === right) [left, right] = [left - 0.5, right + 0.5];
    if (low === high) [low, high] = this.log ? [low / 2, high * 2] : [low - 0.5, high + 0.5];
    return {left, right, low, high};
  }

  height(y) { return this.log ? Math.log10(y) : y; }

  place(x, y) {
    const {left, right, low, high} = this.now;
    const across = (x - left) / (right - left), up = (this.height(y) - this.height(low)) / (this.height(high) - this.height(low));
    return [LEFT + across * (WIDTH - LEFT - RIGHT), TOP + (1 - up) * (HEIGHT - TOP - BOTTOM)];
  }

  draw() {
    this.now = {...this.range(), ...this.view};
    this.svg.replaceChildren();
    const clip = `clip${Chart.count = (Chart.count || 0) + 1}`;
    shape(shape(this.svg, "clipPath", {id: clip}), "rect",
      {x: LEFT - 6, y: 0, width: WIDTH - LEFT - RIGHT + 12, height: HEIGHT - BOTTOM + 6}); // whole dots at the edge
    this.frame();
    const inner = shape(this.svg, "g", {"clip-path": `url(#${clip})`});
    const shown = this.series.filter(one => one.shown);
    for (const one of [...shown.filter(one => one.behind), ...shown.filter(one => !one.behind)]) this.curve(inner, one);
    this.cursor = shape(inner, "line", {class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM, x1: -1, x2: -1});
  }

  frame() {
    const {left, right, low, high} = this.now;
    const across = ticks(left, right, 6);
    const up = this.log ? ticks(Math.log10(low), Math.log10(high), 4).map(t => 10 ** t) : ticks(low, high, 5);
    for (const t of up) {
      const [, y] = this.place(left, t);
      shape(this.svg, "line", {class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y, y2: y});
      shape(this.svg, "text", {x: LEFT - 6, y: y + 4, "text-anchor": "end"}, short(t));
    }
    for (const t of across) {
      const [x] = this.place(t, low);
      shape(this.svg, "text", {x, y: HEIGHT - BOTTOM + 16, "text-anchor": "middle"}, short(t));
    }
    shape(this.svg, "text", {x: (WIDTH + LEFT) / 2, y: HEIGHT - 3, "text-anchor": "middle"}, this.x || AXES[this.axis]);
  }

  curve(parent, one) {
    const points = this.points(one), group = shape(parent, "g", {class: `${one.colour}${one.behind ? " behind" : ""}`});
    const path = list => list.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");
    if (one.band && !this.smooth && !this.log) {
      const side = k => points.map(p => this.place(p.x, one.band[k][p.i] ?? p.y));
      shape(group, "polygon", {class: "band", points: path([...side(1), ...side(0).reverse()])});
    }
    shape(group, "polyline", {points: path(points.map(p => this.place(p.x, p.y)))});
    if (points.length < 60)
      for (const p of points) {
        const [cx, cy] = this.place(p.x, p.y), best = p.steps === this.mark && !one.behind;
        const dot = shape(group, "circle", {cx, cy, r: best ? 5 : 2.2, fill: "currentColor"});
        if (best) shape(dot, "title", {}, "best checkpoint");
      }
  }

  // The place in the numbers of the axis under a pointer.
  under(event) {
    const box = this.svg.getBoundingClientRect(), {left, right} = this.now;
    const across = ((event.clientX - box.left) / box.width * WIDTH - LEFT) / (WIDTH - LEFT - RIGHT);
    return left + across * (right - left);
  }

  tell(x) {
    const found = this.series.filter(one => one.shown).map(one => {
      const near = this.points(one).reduce((a, b) => a && Math.abs(a.x - x) <= Math.abs(b.x - x) ? a : b, null);
      return near && {name: one.name, ...near};
    }).filter(Boolean);
    if (!found.length) return;
    const at = found.reduce((a, b) => Math.abs(a.x - x) <= Math.abs(b.x - x) ? a : b);
    this.at = at.x;
    const [px] = this.place(at.x, at.y);
    for (const end of ["x1", "x2"]) this.cursor.setAttribute(end, px);
    this.read.textContent = `${written(at.steps)} ${this.x || "steps"}: `
      + found.map(p => `${p.name} ${written(p.raw)}${p.steps === at.steps ? "" : ` (at ${written(p.steps)})`}`).join(" · ");
  }

  zoom(x, factor) {
    const {left, right} = this.now, whole = this.range();
    const next = {left: x - (x - left) * factor, right: x + (right - x) * factor};
    this.view = next.right - next.left >= whole.right - whole.left ? null : next;
    this.draw();
  }

  pan(by) {
    const {left, right} = this.now;
    this.view = {left: left + by, right: right + by};
    this.draw();
  }

  listen() {
    let from = null;
    this.svg.onpointerdown = event => { from = this.under(event); this.svg.setPointerCapture(event.pointerId); };
    this.svg.onpointerup = () => { from = null; };
    this.svg.onpointermove = event => {
      const x = this.under(event);
      if (from !== null && event.buttons) this.pan(from - x);
      else this.tell(x);
    };
    this.svg.addEventListener("wheel", event => {
      if (!event.ctrlKey && !event.shiftKey) return; // the page scrolls
      event.preventDefault();
      this.zoom(this.under(event), event.deltaY < 0 ? 0.8 : 1.25);
    }, {passive: false});
    this.svg.ondblclick = event => this.zoom(this.under(event), 0.5);
    this.svg.onkeydown = event => {
      const {left, right} = this.now, middle = this.at ?? (left + right) / 2, width = right - left;
      const known = {
        "+": () => this.zoom(middle, 0.8), "-": () => this.zoom(middle, 1.25), "0": () => { this.view = null; this.draw(); },
        ArrowLeft: () => event.shiftKey ? this.pan(-width / 10) : this.step(-1),
        ArrowRight: () => event.shiftKey ? this.pan(width / 10) : this.step(1),
      };
      if (!known[event.key]) return;
      event.preventDefault();
      known[event.key]();
    };
  }

  // The next point of the first curve that is shown, by keyboard.
  step(by) {
    const one = this.series.find(one => one.shown);
    if (!one) return;
    const points = this.points(one), at = this.at ?? points[0]?.x;
    const i = points.findIndex(p => p.x >= at);
    const next = points[Math.min(Math.max((i < 0 ? points.length - 1 : i) + by, 0), points.length - 1)];
    if (next) this.tell(next.x);
  }
}

function fill(id, present, draw) {
  const section = document.getElementById(id);
  if (!section) return;
  if (present) draw(section);
  else section.hidden = true;
}

// The first drawing of each chart is replaced: it is there for readers without scripts.
for (const [id, series] of Object.entries(data.charts)) {
  const section = document.getElementById(id), drawn = section.querySelector(".chart");
  if (!series.length) continue;
  const place = element(null, "div");
  drawn.replaceWith(place);
  new Chart(place, series, {mark: data.best, label: "return over environment steps", ...data.options?.[id]});
  element(place, "p", {class: "read"},
    "Drag to move, Ctrl or Shift and the wheel (or + and -) to enlarge, arrows to read, 0 for the whole.");
}
if (data.changes) fill("changes", data.changes.length, () => {});
fill("improvement", data.improvement?.length, section => {
  const [xs, ys] = [data.improvement.map(p => p[0]), data.improvement.map(p => p[1])];
  new Chart(section, [{name: "V(λ_k) − V(λ_0)", curve: [xs, ys]}], {x: "iterations", label: "improvement of V"});
});
fill("times", Object.keys(data.times ?? {}).length, section => {
  const total = Object.values(data.times).reduce((a, b) => a + b, 0) || 1;
  for (const [name, seconds] of Object.entries(data.times)) {
    const bar = element(section, "div", {class: "bar"});
    element(bar, "span", {}, name.replace(/_s$/, ""));
    element(bar, "div", {style: `width: ${Math.min(Math.max(100 * seconds / total, 0), 100)}%`});
    element(bar, "span", {class: "unit"}, `${(100 * seconds / total).toFixed(0)} %`);
  }
});
fill("metrics", Object.keys(data.metrics ?? {}).length, section => {
  const search = element(section, "input", {id: "search", type: "search", placeholder: "search metrics",
    "aria-label": "search metrics"});
  const rows = Object.entries(data.metrics).map(([name, {curve, meaning, unit}]) => {
    const row = element(section, "details", {class: "metric"}), head = element(row, "summary", {}, name);
    const last = curve[1].findLast(y => y !== null);
    element(head, "span", {class: "unit"}, `  ${last === undefined ? "" : short(last)} ${unit}`);
    row.ontoggle = () => {
      if (!row.open || row.dataset.drawn) return;
      row.dataset.drawn = "yes";
      element(row, "p", {}, meaning);
      new Chart(row, [{name, curve}], {label: name});
    };
    return [row, `${name} ${meaning}`.toLowerCase()];
  });
  search.oninput = () => {
    for (const [row, text] of rows) row.hidden = !text.includes(search.value.toLowerCase());
  };
});
