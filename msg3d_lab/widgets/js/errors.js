// ErrorBrowser: filters, a confusion matrix, the most frequent confusions, and the clips of a cell in two players.
import { clearCanvas, color, control, element, oncePerFrame, themed, unpack } from "./common.js";
import { playerOf } from "./players.js";

async function render({ model, el }) {
  const data = model.get("data");
  const columns = await Promise.all(["label", "predicted", "confidence", "subject", "camera"].map((name) => unpack(data[name])));
  const [label, predicted, confidence, subject, camera] = columns.map(({ values }) => values);
  const percent = (part, whole) => `${Math.round((100 * part) / whole)} %`;
  let classes = data.order; // those that are shown, in the order of clusters
  let counts = new Map(), totals = [], most = 1, side = 20, left = 0, top = 0;
  let at = [0, 0]; // the cell under the cursor: places in `classes`

  const canvas = element("canvas", { tabindex: 0, role: "application", "aria-label": "Confusion matrix: arrow keys move, Enter opens a cell" });
  const readout = element("p", { class: "note", "aria-live": "polite" });
  const summary = element("p", { class: "note" });
  const list = element("ol", { class: "confusions" });
  const clips = element("select", { size: 7, "aria-label": "Clips" });
  const cellName = element("p", { class: "head" });
  const everything = element("button", { type: "button", onclick: () => set("cell", []) }, "list all mistakes");
  const status = element("p", { class: "note", "aria-live": "polite" });
  const figure = element("figure", { class: "msg3d-player" });
  figure.hidden = true;
  let player = null, playing = -1;

  const key = (true_, said) => true_ * data.names.length + said;
  let kept = () => true;
  const readFilters = () => {
    const [only, of, by, from, to] = ["only_class", "subject", "camera", "at_least", "at_most"].map((name) => model.get(name));
    kept = (i) => (only < 0 || label[i] === only || predicted[i] === only) && (of < 0 || subject[i] === of)
      && (by < 0 || camera[i] === by) && confidence[i] >= from && confidence[i] <= to;
  };
  const count = () => {
    readFilters();
    counts = new Map();
    totals = new Array(data.names.length).fill(0);
    let clipsKept = 0, right = 0;
    for (let i = 0; i < label.length; i++) {
      if (!kept(i)) continue;
      const k = key(label[i], predicted[i]);
      counts.set(k, (counts.get(k) ?? 0) + 1);
      totals[label[i]] += 1;
      clipsKept += 1;
      right += label[i] === predicted[i];
    }
    const only = model.get("only_class");
    classes = only < 0 ? data.order : data.order.filter((c) => c === only || counts.has(key(c, only)) || counts.has(key(only, c)));
    most = 1;
    for (const [k, n] of counts) if (Math.floor(k / data.names.length) !== k % data.names.length) most = Math.max(most, n);
    at = at.map((place) => Math.min(place, classes.length - 1));
    summary.textContent = clipsKept ? `${clipsKept} clips, ${percent(right, clipsKept)} recognised, ${clipsKept - right} mistakes` : "No clip passes these filters.";
    const errors = [...counts].map(([k, n]) => [Math.floor(k / data.names.length), k % data.names.length, n]).filter(([t, p]) => t !== p);
    errors.sort((a, b) => b[2] - a[2]);
    list.replaceChildren(...errors.slice(0, 12).map(([t, p, n]) => element("li", {}, element("button", {
      type: "button", onclick: () => choose(t, p),
    }, `${data.names[t]} → ${data.names[p]}: ${n} of ${totals[t]} (${percent(n, totals[t])})`))));
  };

  const draw = () => {
    const n = classes.length, room = Math.min(el.clientWidth - 16, 820) || 600;
    const pen0 = canvas.getContext("2d");
    const font = (size) => `${size}px system-ui, sans-serif`;
    pen0.font = font(11);
    const widest = Math.max(...classes.map((c) => pen0.measureText(data.names[c]).width));
    const named = (room - Math.min(widest, 170)) / n >= 9; // names fit beside cells that high
    left = named ? Math.min(widest, 170) + 10 : 14;
    side = Math.max(4, Math.min(30, Math.floor((room - left - 4) / n)));
    const upright = side < 16; // slanted names would lie over each other
    const name = Math.min(11, side);
    top = named ? Math.min(widest, 130) * (upright ? 1 : 0.75) + 24 : 14;
    canvas.style.width = `${left + n * side + (named && !upright ? 60 : 4)}px`;
    canvas.style.height = `${top + n * side + 4}px`;
    const { pen } = clearCanvas(canvas);
    const [ink, muted, faint, soft, right, mark] = ["--ink", "--muted", "--faint", "--soft", "--right", "--mark"].map((name) => color(el, name));
    pen.fillStyle = soft;
    pen.fillRect(left, top, n * side, n * side);
    pen.textBaseline = "middle";
    const size = Math.min(11, side - 1);
    const placeOf = new Map(classes.map((c, i) => [c, i]));
    pen.textAlign = "center";
    pen.font = font(size);
    for (const [k, times] of counts) {
      const [row, column] = [placeOf.get(Math.floor(k / data.names.length)), placeOf.get(k % data.names.length)];
      if (row === undefined || column === undefined) continue;
      const [x, y] = [left + column * side, top + row * side];
      pen.globalAlpha = row === column ? 1 : 0.25 + 0.75 * Math.sqrt(times / most);
      pen.fillStyle = row === column ? faint : right;
      pen.fillRect(x, y, side, side);
      pen.globalAlpha = 1;
      if (side < 17) continue;
      pen.fillStyle = row === column ? muted : ink;
      pen.fillText(times, x + side / 2, y + side / 2 + 0.5);
    }
    pen.strokeStyle = faint;
    pen.lineWidth = 0.5;
    const every = side < 11 ? 10 : 1;
    for (let i = 0; i <= n; i += every) {
      pen.strokeRect(left + i * side, top, 0.01, n * side);
      pen.strokeRect(left, top + i * side, n * side, 0.01);
    }
    const cell = model.get("cell");
    const [chosenRow, chosenColumn] = cell.length ? cell.map((c) => classes.indexOf(c)) : [-1, -1];
    for (const [row, column, line, width] of [[...at, ink, 1.5], [chosenRow, chosenColumn, mark, 3]]) {
      if (row < 0 || column < 0) continue;
      pen.strokeStyle = line;
      pen.lineWidth = width;
      pen.strokeRect(left + column * side, top + row * side, side, side);
    }
    pen.font = font(11);
    pen.fillStyle = muted;
    if (!named) {
      pen.textAlign = "left";
      pen.fillText("predicted →", left, 6);
      pen.save();
      pen.translate(6, top);
      pen.rotate(Math.PI / 2);
      pen.fillText("true →", 0, 0);
      pen.restore();
      return;
    }
    const short = (text, width) => {
      if (pen.measureText(text).width <= width) return text;
      let keep = text.length - 1;
      while (keep > 3 && pen.measureText(`${text.slice(0, keep)}…`).width > width) keep -= 1;
      return `${text.slice(0, keep)}…`;
    };
    classes.forEach((c, i) => {
      pen.font = `${i === at[0] ? "600 " : ""}${font(name)}`;
      pen.fillStyle = i === at[0] ? ink : muted;
      pen.textAlign = "right";
      pen.fillText(short(data.names[c], 168), left - 5, top + (i + 0.5) * side);
      pen.font = `${i === at[1] ? "600 " : ""}${font(name)}`;
      pen.fillStyle = i === at[1] ? ink : muted;
      pen.save();
      pen.translate(left + (i + 0.5) * side, top - 6);
      pen.rotate(upright ? -Math.PI / 2 : -Math.PI / 4);
      pen.textAlign = "left";
      pen.fillText(short(data.names[c], 130), 0, 0);
      pen.restore();
    });
    pen.font = font(11);
    pen.fillStyle = muted;
    pen.textAlign = "right";
    pen.fillText("true ↓  predicted →", left - 5, top - 12);
  };
  const say = () => {
    if (!classes.length) return;
    const [t, p] = at.map((place) => classes[place]);
    const times = counts.get(key(t, p)) ?? 0;
    readout.textContent = t === p ? `${data.names[t]}: ${times} of ${totals[t]} recognised` : `${data.names[t]} taken for ${data.names[p]}: ${times} of ${totals[t]}`;
    canvas.setAttribute("aria-description", readout.textContent);
  };
  const show = oncePerFrame(() => {
    draw();
    say();
  });

  const set = (name, value) => {
    model.set(name, value);
    model.save_changes();
  };
  const choose = (t, p) => {
    set("cell", [t, p]);
    const rows = rowsOf(t, p);
    if (rows.length) set("clip", rows[0]);
  };
  const rowsOf = (t, p) => {
    const rows = [];
    for (let i = 0; i < label.length; i++) {
      const inCell = t < 0 ? label[i] !== predicted[i] : label[i] === t && predicted[i] === p;
      if (inCell && kept(i)) rows.push(i);
    }
    const packed = (i) => (String(i) in data.packed ? 1 : 0);
    return rows.sort((a, b) => packed(b) - packed(a) || confidence[b] - confidence[a]);
  };
  const fillClips = () => {
    const cell = model.get("cell");
    const [t, p] = cell.length ? cell : [-1, -1];
    const rows = rowsOf(t, p);
    const said = t < 0 ? "All mistakes that pass the filters" : t === p ? `${data.names[t]}, recognised` : `${data.names[t]} taken for ${data.names[p]}`;
    cellName.textContent = `${said} (${rows.length})${rows.length > 500 ? ", the first 500" : ""}`;
    everything.hidden = t < 0;
    clips.replaceChildren(...rows.slice(0, 500).map((i) => {
      const name = data.ids[i] || `clip ${i}`;
      const facts = [t < 0 && `${data.names[label[i]]} → ${data.names[predicted[i]]}`, `confidence ${confidence[i]} %`,
        subject[i] >= 0 && `subject ${subject[i]}`, camera[i] >= 0 && `camera ${camera[i]}`];
      return element("option", { value: i }, `${name}: ${facts.filter(Boolean).join(", ")}`);
    }));
    clips.value = model.get("clip");
  };
  const goToCell = () => {
    const where = model.get("cell").map((c) => classes.indexOf(c));
    if (where.length && where.every((place) => place >= 0)) at = where;
    fillClips();
    show();
  };
  const play = () => {
    const row = model.get("clip");
    if (row < 0) return;
    clips.value = row;
    const pair = model.get("pair");
    const records = data.packed[row] ?? (pair.clip === row ? pair.records : null);
    if (!records) {
      figure.hidden = true;
      playing = -1;
      const names = Object.keys(data.packed).map((i) => `${data.names[label[i]]} → ${data.names[predicted[i]]}`);
      status.textContent = model.widget_manager ? "Python sends this clip …"
        : `Only a kernel sends this clip. Without one there are clips of: ${[...new Set(names)].join("; ") || "none"}.`;
      return;
    }
    status.textContent = "";
    if (playing === row) return;
    playing = row;
    figure.hidden = false;
    model.set("frame", 0);
    if (player) player.replace(records);
    else player = playerOf(model, figure, records);
    figure.dataset.clip = row;
  };
  let later = 0;
  const filtered = () => {
    count();
    show();
    clearTimeout(later); // a long list, only when the slider rests
    later = setTimeout(fillClips, 120);
  };

  const place = (event) => [Math.floor((event.offsetY - top) / side), Math.floor((event.offsetX - left) / side)];
  const inside = (cell) => cell.every((i) => i >= 0 && i < classes.length);
  canvas.addEventListener("pointermove", (event) => {
    const cell = place(event);
    if (!inside(cell) || (cell[0] === at[0] && cell[1] === at[1])) return;
    at = cell;
    show();
  });
  canvas.addEventListener("click", (event) => {
    const cell = place(event);
    if (inside(cell)) choose(classes[cell[0]], classes[cell[1]]);
  });
  canvas.addEventListener("keydown", (event) => {
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    if (event.key === "Enter" || event.key === " ") choose(classes[at[0]], classes[at[1]]);
    else if (moves[event.key]) at = at.map((i, axis) => Math.min(Math.max(i + moves[event.key][axis], 0), classes.length - 1));
    else return;
    event.preventDefault();
    show();
  });
  clips.addEventListener("input", () => set("clip", Number(clips.value)));

  const sorted = data.names.map((name, i) => [i, name]).sort((a, b) => a[1].localeCompare(b[1]));
  const all = (text) => [[-1, text]];
  const controls = element("div", { class: "controls" },
    control(model, "only_class", "class", { choices: [...all("all"), ...sorted], number: true }),
    ...(data.subjects.length ? [control(model, "subject", "subject", { choices: [...all("all"), ...data.subjects.map((s) => [s, s])], number: true })] : []),
    ...(data.cameras.length ? [control(model, "camera", "camera", { choices: [...all("all"), ...data.cameras.map((s) => [s, s])], number: true })] : []),
    control(model, "at_least", "confidence from", { max: 100, text: (v) => `${v} %` }),
    control(model, "at_most", "to", { max: 100, text: (v) => `${v} %` }));
  const unwatch = themed(el, () => {
    show();
    player?.redraw();
  });
  const style = element("style", {}, `.msg3d-lab .confusions { margin: 0; padding-left: 1.8em; max-width: 30em; }
    .msg3d-lab .confusions button { text-align: left; margin: 1px 0; } .msg3d-lab .head { margin: 0.4em 0 0.2em; font-weight: 600; }
    .msg3d-lab select[size] { width: 100%; max-width: 48em; display: block; margin: 2px 0; }`);
  el.append(style, controls, summary, element("div", { class: "panels" },
    element("div", {}, canvas, readout),
    element("div", {}, element("p", { class: "head" }, "Most frequent confusions"), list)),
  element("div", { class: "clips" }, cellName, everything, clips, status, figure));
  for (const name of ["only_class", "subject", "camera", "at_least", "at_most"]) model.on(`change:${name}`, filtered);
  model.on("change:cell", goToCell);
  model.on("change:clip", play);
  model.on("change:pair", play);
  const resized = new ResizeObserver(show);
  resized.observe(el);
  count();
  goToCell();
  play();
  if (model.get("clip") < 0) {
    const [first] = rowsOf(-1, -1);
    if (first !== undefined && String(first) in data.packed) set("clip", first);
  }
  return () => {
    unwatch();
    clearTimeout(later);
    resized.disconnect();
    player?.remove();
  };
}
export default { render };
