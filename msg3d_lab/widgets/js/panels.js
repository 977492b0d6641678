// What the panels that follow runs share: tables, curves, the state of a run, words for times.
import { element, setValues, themed } from "./common.js";

const MARKS = {
  training: "▶", testing: "▶", starting: "…", stopping: "…", stopped: "■", unfinished: "■",
  failed: "✕", other: "✕", trained: "○", tested: "●", missing: "–",
};

/** Whether a kernel may answer: a page that was only opened has none. */
export function hasKernel(model) {
  return model.widget_manager !== undefined;
}

/** Makes an element a panel: light or dark, and Python is told that somebody looks, so that it reads the files again; returns how to end that. */
export function look(model, el) {
  const unwatch = themed(el);
  if (!hasKernel(model)) return unwatch;
  const say = () => {
    try {
      model.send({ action: "look" });
    } catch {
      clearInterval(timer); // the kernel was restarted: this view belongs to the old one
    }
  };
  const timer = setInterval(say, 15_000);
  say();
  return () => (unwatch(), clearInterval(timer));
}

/** The state of a run: a mark and a word. */
export function stateText(state) {
  return element("span", { class: "state", "data-state": state, "data-mark": MARKS[state] ?? "" }, state);
}

/** A fraction in percent, without a sign or with one. */
export function percent(value, digits = 1, sign = false) {
  if (value === null || value === undefined) return "";
  const text = (100 * value).toFixed(digits).replace("-", "−");
  return sign && value >= 0 ? `+${text}` : text;
}

/** A p-value; empty where there is none. */
export function pText(p) {
  return p === null ? "" : p < 0.001 ? "< 0.001" : p.toFixed(3);
}

/** Seconds in words. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.round(whole / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.round(hours / 24)} d`;
}

/** A button that sends an action to Python. */
export function actionButton(model, action, label, options = {}) {
  return element("button", {
    type: "button", class: options.main ? "main" : "", "data-action": action,
    onclick: (event) => {
      event.target.disabled = true; // until Python has answered with new data
      model.send({ action });
    },
  }, label);
}

/** Replaces the children of an element and keeps the focus on the one with the same data-key. */
export function replaceKeepingFocus(parent, ...children) {
  const focused = parent.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  parent.replaceChildren(...children);
  if (focused !== undefined) parent.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

/**
 * A table that sorts by its headers and filters by words; what is shown follows traits of the model:
 * sort ("top1", or "-top1" for the largest first), filter, and selected (if select is set).
 * columns: [{ key, title, number, text(row), cell(row) }]; rows have a unique id.
 */
export function dataTable(model, { columns, label, select = false, rows }) {
  const body = element("tbody");
  const buttons = new Map();
  const heads = columns.map((column) => {
    const button = element("button", { type: "button", onclick: () => sortBy(column.key) }, column.title);
    const head = element("th", { scope: "col", class: column.number ? "number" : "" }, button);
    buttons.set(column.key, head);
    return head;
  });
  if (select) heads.unshift(element("th", { scope: "col" }, "select"));
  const search = element("input", {
    type: "search", size: 34, placeholder: "words, or a comparison: top-1>90", "aria-label": `filter ${label}`,
    oninput: () => save("filter", search.value),
  });
  const count = element("span", { class: "note", role: "status" });
  const made = element("div", {},
    element("div", { class: "controls" }, element("label", {}, "filter", search), count),
    element("div", { class: "rows" }, element("table", { "aria-label": label }, element("thead", {}, element("tr", {}, ...heads)), body)));

  const save = (name, value) => setValues(model, { [name]: value });
  function sortBy(key) {
    save("sort", model.get("sort") === key ? `-${key}` : key);
  }
  function textOf(column, row) {
    return column.text ? column.text(row) : String(row[column.key] ?? "");
  }
  function matches(row, word) {
    const asked = word.match(/^([\w-]+)(<=|>=|<|>|=)(.+)$/);
    const column = asked && columns.find((c) => c.title.toLowerCase() === asked[1].toLowerCase());
    if (!column) return columns.some((c) => textOf(c, row).toLowerCase().includes(word.toLowerCase()));
    const [, , sign, value] = asked;
    const found = column.number ? parseFloat(textOf(column, row).replace("−", "-")) : textOf(column, row);
    const wanted = column.number ? Number(value) : value;
    if (column.number && Number.isNaN(found)) return false;
    return { "<": found < wanted, ">": found > wanted, "<=": found <= wanted, ">=": found >= wanted, "=": found === wanted }[sign];
  }
  function ordered(shown) {
    const sort = model.get("sort");
    const key = sort.replace(/^-/, "");
    if (!key) return shown;
    const way = sort.startsWith("-") ? -1 : 1;
    const empty = (value) => value === null || value === undefined || value === "";
    return [...shown].sort((a, b) => {
      if (empty(a[key]) || empty(b[key])) return empty(a[key]) - empty(b[key]); // unknown ones last
      if (typeof a[key] === "number") return way * (a[key] - b[key]);
      return way * String(a[key]).localeCompare(String(b[key]), undefined, { numeric: true });
    });
  }
  function tick(row) {
    const box = element("input", {
      type: "checkbox", "data-key": row.id, "aria-label": `select ${row.id}`, disabled: !hasKernel(model),
      onchange: () => {
        const others = model.get("selected").filter((id) => id !== row.id);
        save("selected", box.checked ? [...others, row.id] : others);
      },
    });
    box.checked = model.get("selected").includes(row.id);
    return element("td", {}, box);
  }
  function show() {
    const sort = model.get("sort");
    for (const [key, head] of buttons) {
      const way = sort === key ? "ascending" : sort === `-${key}` ? "descending" : "none";
      head.setAttribute("aria-sort", way);
      head.firstChild.textContent = columns.find((c) => c.key === key).title + { ascending: " ▲", descending: " ▼", none: "" }[way];
    }
    if (search.value !== model.get("filter")) search.value = model.get("filter");
    const words = model.get("filter").split(/\s+/).filter(Boolean);
    const all = rows();
    const shown = ordered(all.filter((row) => words.every((word) => matches(row, word))));
    count.textContent = `${shown.length === all.length ? "" : `${shown.length} of `}${all.length} row${all.length === 1 ? "" : "s"}`;
    replaceKeepingFocus(body, ...shown.map((row) => element("tr", { "data-id": row.id },
      ...(select ? [tick(row)] : []),
      ...columns.map((column) => element("td", { class: column.number ? "number" : column.wrap ? "wrap" : "" },
        column.cell ? column.cell(row) : textOf(column, row))))));
  }
  for (const name of ["sort", "filter", ...(select ? ["selected"] : [])]) model.on(`change:${name}`, show);
  show();
  return { element: made, show };
}

/** A table of ready texts. */
export function plainTable(label, titles, rows) {
  return element("div", { class: "rows" }, element("table", { "aria-label": label },
    element("thead", {}, element("tr", {}, ...titles.map((title) => element("th", { scope: "col" }, title)))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map((cell) => element("td", {}, cell)))))));
}

/** Four to six round numbers that cover a range. */
function roundTicks(low, high) {
  const raw = (high - low || 1) / 4;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw);
  const ticks = [];
  for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + 1e-9 * step; value += step) ticks.push(Number(value.toPrecision(10)));
  return ticks;
}

/**
 * Curves in one picture. The legend shows each curve's value at the pointer, or its last one; with
 * the keyboard the arrow keys move the place.
 * series: [{ name, points: [[x, y], ...], style }], style a number; text: value -> words; last: the end
 * of the x axis, where it is known before the curves reach it.
 */
export function lineChart({ title, series, text, low, high, last = 1, xlabel = "epoch" }) {
  const [W, H, L, R, T, B] = [440, 210, 46, 10, 8, 34];
  const drawn = series.filter((line) => line.points.length);
  const all = drawn.flatMap((line) => line.points);
  const xs = [...new Set(all.map(([x]) => x))].sort((a, b) => a - b);
  const [x0, x1] = xs.length ? [Math.min(xs[0], 0), Math.max(xs.at(-1), last)] : [0, last];
  const ys = all.map(([, y]) => y);
  const y0 = low ?? Math.min(...ys, Infinity);
  const y1 = high ?? Math.max(...ys, y0 + 1e-6);
  const px = (x) => L + ((x - x0) / (x1 - x0)) * (W - L - R);
  const py = (y) => H - B - ((y - y0) / (y1 - y0 || 1)) * (H - T - B);
  const svg = element("svg:svg", { viewBox: `0 0 ${W} ${H}`, role: "img", tabindex: 0, "aria-label": `${title} by ${xlabel}` });
  for (const tick of roundTicks(y0, y1)) {
    svg.append(element("svg:line", { x1: L, x2: W - R, y1: py(tick), y2: py(tick), stroke: "var(--faint)" }),
      element("svg:text", { x: L - 6, y: py(tick) + 4, "text-anchor": "end" }, String(tick)));
  }
  for (const tick of roundTicks(x0, x1).filter(Number.isInteger)) {
    svg.append(element("svg:text", { x: px(tick), y: H - B + 15, "text-anchor": "middle" }, String(tick)));
  }
  svg.append(element("svg:text", { x: (L + W - R) / 2, y: H - 4, "text-anchor": "middle" }, xlabel));
  const stroke = (style) => ({
    fill: "none", stroke: `var(--series-${style % 6})`, "stroke-width": 2,
    "stroke-dasharray": ["none", "7 3", "2 3", "9 3 2 3"][style % 4],
  });
  for (const line of drawn) {
    const path = line.points.map(([x, y]) => `${px(x).toFixed(1)},${py(y).toFixed(1)}`);
    svg.append(element("svg:polyline", { points: path.join(" "), ...stroke(line.style) }));
    const [x, y] = line.points.at(-1);
    svg.append(element("svg:circle", { cx: px(x), cy: py(y), r: 3, fill: `var(--series-${line.style % 6})` }));
  }
  const cursor = element("svg:line", { y1: T, y2: H - B, stroke: "var(--mark)", visibility: "hidden" });
  svg.append(cursor);
  const legend = element("div", { class: "legend" });
  const read = (place) => {
    const at = place === null ? "" : `${xlabel} ${Number(xs[place].toFixed(2))}: `;
    cursor.setAttribute("visibility", place === null ? "hidden" : "visible");
    if (place !== null) cursor.setAttribute("x1", px(xs[place])), cursor.setAttribute("x2", px(xs[place]));
    legend.replaceChildren(at, ...drawn.map((line) => {
      const before = place === null ? line.points : line.points.filter(([x]) => x <= xs[place]);
      const value = before.length ? text(before.at(-1)[1]) : "–";
      const key = element("svg:svg", { viewBox: "0 0 26 8", "aria-hidden": "true" }, element("svg:line", { x1: 0, x2: 26, y1: 4, y2: 4, ...stroke(line.style) }));
      return element("span", {}, key, ` ${line.name} ${value}`);
    }));
  };
  let place = null;
  const move = (next) => read((place = next));
  svg.addEventListener("pointermove", (event) => {
    if (!xs.length) return;
    const box = svg.getBoundingClientRect();
    const x = x0 + ((((event.clientX - box.left) / box.width) * W - L) / (W - L - R)) * (x1 - x0);
    move(xs.reduce((best, value, i) => (Math.abs(value - x) < Math.abs(xs[best] - x) ? i : best), 0));
  });
  svg.addEventListener("pointerleave", () => move(null));
  svg.addEventListener("blur", () => move(null));
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || !xs.length) return;
    event.preventDefault();
    move(Math.min(xs.length - 1, Math.max(0, (place ?? xs.length - (step > 0 ? 1 : 0)) + step)));
  });
  read(null);
  return element("figure", { class: "chart" }, element("figcaption", {}, title), svg, legend);
}
