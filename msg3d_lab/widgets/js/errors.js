// ErrorBrowser: filters, a confusion matrix, the most frequent confusions, and the clips of a cell in two players.
import { clearCanvas, color, control, element, fillPixels, oncePerFrame, redrawn, setText, setValues, unpack } from "./common.js";
import { mix, parts } from "./graphs.js";
import { playerOf } from "./players.js";

async function render({ model, el }) {
  const data = model.get("data");
  const columns = await Promise.all(["label", "predicted", "confidence", "subject", "camera"].map((name) => unpack(data[name])));
  const [label, predicted, confidence, subject, camera] = columns.map(({ values }) => values);
  const percent = (part, whole) => `${Math.round((100 * part) / whole)} %`;
  const C = data.names.length, counts = new Uint32Array(C * C), totals = new Uint32Array(C);
  let classes = data.order; // those that are shown, in the order of clusters
  let confusions = [], tested = [0, 0], most = 1, side = 20, left = 0, top = 0;
  let at = [0, 0]; // the cell under the cursor: places in `classes`
  let colors = null, named = ""; // read once per theme; what the names were last drawn for
  let stale = true; // the filters have changed since the clips were counted

  const canvas = element("canvas", { tabindex: 0, role: "application", "aria-label": "Confusion matrix: arrow keys move, Enter opens a cell" });
  const names = element("canvas", { "aria-hidden": "true" }), small = document.createElement("canvas");
  const readout = element("p", { class: "note", "aria-live": "polite" });
  const summary = element("p", { class: "note" });
  const frequent = Array.from({ length: 12 }, (_, i) => element("li", { hidden: true }, element("button", { type: "button", onclick: () => choose(...confusions[i]) })));
  const clips = element("select", { size: 2, "aria-label": "Clips" });
  const cellName = element("p", { class: "head" });
  const everything = element("button", { type: "button", onclick: () => set("cell", []) }, "list all mistakes");
  const status = element("p", { class: "note", "aria-live": "polite" });
  const figure = element("figure", { class: "msg3d-player" });
  figure.hidden = true;
  let player = null, playing = -1;

  const kept = () => {
    const [only, of, by, from, to] = ["only_class", "subject", "camera", "at_least", "at_most"].map((name) => model.get(name));
    return (i) => confidence[i] >= from && confidence[i] <= to && (only < 0 || label[i] === only || predicted[i] === only)
      && (of < 0 || subject[i] === of) && (by < 0 || camera[i] === by);
  };
  const count = () => {
    stale = false;
    counts.fill(0);
    totals.fill(0);
    const [only, passes] = [model.get("only_class"), kept()];
    let clipsKept = 0, right = 0;
    for (let i = 0; i < label.length; i++) {
      if (!passes(i)) continue;
      counts[label[i] * C + predicted[i]] += 1;
      totals[label[i]] += 1;
      clipsKept += 1;
      right += label[i] === predicted[i];
    }
    classes = only < 0 ? data.order : data.order.filter((c) => c === only || counts[c * C + only] || counts[only * C + c]);
    at = at.map((place) => Math.min(place, classes.length - 1));
    confusions = [];
    counts.forEach((n, k) => n && k % (C + 1) && confusions.push([Math.floor(k / C), k % C, n])); // k % (C + 1) is 0 on the diagonal
    confusions.sort((a, b) => b[2] - a[2]);
    most = confusions[0]?.[2] ?? 1;
    tested = [clipsKept, right];
  };

  const font = (size) => `${size}px system-ui, sans-serif`;
  const short = (pen, text, width) => {
    if (pen.measureText(text).width <= width) return text;
    let keep = text.length - 1;
    while (keep > 3 && pen.measureText(`${text.slice(0, keep)}…`).width > width) keep -= 1;
    return `${text.slice(0, keep)}…`;
  };
  /** The name of a row (axis 0) or column (axis 1); in front of others, it covers what is below it. */
  const drawName = (pen, axis, i, { size, upright, front }) => {
    pen.save();
    pen.font = `${front ? "600 " : ""}${font(size)}`;
    pen.textBaseline = "middle";
    if (axis) {
      pen.translate(left + (i + 0.5) * side, top - 6);
      pen.rotate(upright ? -Math.PI / 2 : -Math.PI / 4);
    } else pen.translate(left - 5, top + (i + 0.5) * side);
    const text = short(pen, data.names[classes[i]], axis ? 130 : 168);
    const wide = pen.measureText(text).width + 8;
    pen.fillStyle = colors.paper;
    const high = axis && !upright ? size + 2 : side; // a slanted one stays above the matrix
    if (front) pen.fillRect(axis ? -1 : 1 - wide, -high / 2, wide, high);
    pen.textAlign = axis ? "left" : "right";
    pen.fillStyle = front ? colors.ink : colors.muted;
    pen.fillText(text, 0, 0);
    pen.restore();
  };
  /** Sizes of the pictures; the names, which lie below the matrix, are only drawn when they change. */
  const layOut = () => {
    const n = classes.length, room = Math.min(el.clientWidth - 16, 820) || 600;
    const wanted = [room, el.className, window.devicePixelRatio, ...classes].join();
    const pen0 = names.getContext("2d");
    pen0.font = font(11);
    const widest = Math.max(...data.names.map((name) => pen0.measureText(name).width));
    const fits = (room - Math.min(widest, 170)) / n >= 9; // names fit beside cells that high
    left = fits ? Math.min(widest, 170) + 10 : 14;
    side = Math.max(4, Math.min(30, Math.floor((room - left - 4) / n)));
    const upright = side < 16; // slanted names would lie over each other
    const form = { size: Math.min(11, side), upright };
    if (named === wanted) return fits && form;
    named = wanted;
    top = fits ? Math.min(widest, 130) * (upright ? 1 : 0.75) + 24 : 14;
    for (const one of [names, canvas]) {
      one.style.width = `${left + n * side + (fits && !upright ? 60 : 4)}px`;
      one.style.height = `${top + n * side + 4}px`;
    }
    const { pen } = clearCanvas(names);
    pen.fillStyle = colors.soft;
    pen.fillRect(left, top, n * side, n * side);
    if (fits) classes.forEach((c, i) => [0, 1].forEach((axis) => drawName(pen, axis, i, form)));
    pen.font = font(11);
    pen.textBaseline = "middle";
    pen.fillStyle = colors.muted;
    pen.textAlign = fits ? "right" : "left";
    pen.fillText(fits ? "true ↓  predicted →" : "predicted →", fits ? left - 5 : left, fits ? top - 12 : 6);
    if (!fits) {
      pen.translate(6, top);
      pen.rotate(Math.PI / 2);
      pen.fillText("true →", 0, 0);
    }
    return fits && form;
  };

  const draw = () => {
    colors ??= Object.fromEntries(["paper", "ink", "muted", "faint", "soft", "right", "mark"].map((name) => [name, color(el, `--${name}`)]));
    const form = layOut(), n = classes.length;
    const { pen } = clearCanvas(canvas);
    const [faint, soft, right] = [colors.faint, colors.soft, colors.right].map(parts);
    fillPixels(small, n, n, (i) => {
      const [row, column] = [Math.floor(i / n), i % n];
      const times = counts[classes[row] * C + classes[column]];
      return times ? (row === column ? faint : mix(soft, right, 0.25 + 0.75 * Math.sqrt(times / most))) : null;
    });
    pen.imageSmoothingEnabled = false;
    pen.drawImage(small, left, top, n * side, n * side);
    if (side >= 17) {
      pen.textBaseline = "middle";
      pen.textAlign = "center";
      pen.font = font(Math.min(11, side - 1));
      classes.forEach((t, row) => classes.forEach((p, column) => {
        pen.fillStyle = row === column ? colors.muted : colors.ink;
        if (counts[t * C + p]) pen.fillText(counts[t * C + p], left + (column + 0.5) * side, top + (row + 0.5) * side + 0.5);
      }));
    }
    pen.fillStyle = colors.faint;
    const every = side < 11 ? 10 : 1;
    for (let i = 0; i <= n; i += every) {
      pen.fillRect(left + i * side - 0.25, top, 0.5, n * side);
      pen.fillRect(left, top + i * side - 0.25, n * side, 0.5);
    }
    const cell = model.get("cell");
    const chosen = cell.length ? cell.map((c) => classes.indexOf(c)) : [-1, -1];
    for (const [row, column, line, width] of [[...at, colors.ink, 1.5], [...chosen, colors.mark, 3]]) {
      if (row < 0 || column < 0) continue;
      pen.strokeStyle = line;
      pen.lineWidth = width;
      pen.strokeRect(left + column * side, top + row * side, side, side);
    }
    if (form && n) at.forEach((i, axis) => drawName(pen, axis, i, { ...form, front: true }));
  };
  const say = () => {
    const [n, right] = tested;
    setText(summary, n ? `${n} clips, ${((100 * right) / n).toFixed(1)} % recognised, ${n - right} mistakes` : "No clip passes these filters.");
    frequent.forEach((item, i) => {
      item.hidden = i >= confusions.length;
      if (item.hidden) return;
      const [t, p, times] = confusions[i];
      setText(item.firstChild, `${data.names[t]} → ${data.names[p]}: ${times} of ${totals[t]} (${percent(times, totals[t])})`);
    });
    if (!classes.length) return;
    const [t, p] = at.map((place) => classes[place]);
    const times = counts[t * C + p];
    setText(readout, t === p ? `${data.names[t]}: ${times} of ${totals[t]} recognised` : `${data.names[t]} taken for ${data.names[p]}: ${times} of ${totals[t]}`);
    canvas.setAttribute("aria-description", readout.textContent);
  };
  const show = oncePerFrame(() => {
    if (stale) count();
    draw();
    say();
  });

  const set = (name, value) => setValues(model, { [name]: value });
  const choose = (t, p) => {
    set("cell", [t, p]);
    const rows = rowsOf(t, p);
    if (rows.length) set("clip", rows[0]);
  };
  const rowsOf = (t, p) => {
    const [rows, passes] = [[], kept()];
    for (let i = 0; i < label.length; i++) {
      const inCell = t < 0 ? label[i] !== predicted[i] : label[i] === t && predicted[i] === p;
      if (inCell && passes(i)) rows.push(i);
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
    clips.size = Math.min(Math.max(rows.length, 2), 7);
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
    stale = true;
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
  const unwatch = redrawn(el, show, () => {
    colors = null;
    player?.redraw();
  });
  const style = element("style", {}, `.msg3d-lab .layers { position: relative; } .msg3d-lab .layers canvas:last-child { position: absolute; left: 0; top: 0; }
    .msg3d-lab .confusions { margin: 0; padding-left: 1.8em; max-width: 30em; }
    .msg3d-lab .confusions button { text-align: left; margin: 1px 0; vertical-align: top; } .msg3d-lab .head { margin: 0.4em 0 0.2em; font-weight: 600; }
    .msg3d-lab select[size] { width: 100%; max-width: 48em; display: block; margin: 2px 0; }`);
  el.append(style, controls, summary, element("div", { class: "panels" },
    element("div", {}, element("div", { class: "layers" }, names, canvas), readout),
    element("div", {}, element("p", { class: "head" }, "Most frequent confusions"), element("ol", { class: "confusions" }, ...frequent))),
  element("div", { class: "clips" }, cellName, everything, clips, status, figure));
  for (const name of ["only_class", "subject", "camera", "at_least", "at_most"]) model.on(`change:${name}`, filtered);
  model.on("change:cell", goToCell);
  model.on("change:clip", play);
  model.on("change:pair", play);
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
    player?.remove();
  };
}
export default { render };
