// ImportanceExplorer: joints x time as a heatmap linked to the player; body parts; the logit's exact parts.
import { clearCanvas, color, control, element, fillPixels, oncePerFrame, redrawn, setValues } from "./common.js";
import { parts } from "./graphs.js";
import { playerOf } from "./players.js";

function render({ model, el }) {
  const data = model.get("data");
  const canvas = element("canvas", { tabindex: 0, role: "application", "aria-label": "Importance of joints over time: arrow keys move the joint and the frame" });
  const readout = element("p", { class: "note", "aria-live": "polite" });
  const status = element("p", { class: "note", role: "status" });
  const figure = element("figure", { class: "msg3d-player" });
  const ofBody = element("div", { class: "bars" });
  const exact = element("div", { class: "bars" });
  const heat = document.createElement("canvas"); // a pixel per joint and frame
  let player = null, shown = null, levels = null, left = 0, wide = 1, colors = null;
  const HIGH = 15; // pixels of a joint's row

  const wanted = () => {
    const clip = model.get("clip");
    const label = model.get("explained") < 0 ? data.predicted[clip] : model.get("explained");
    return `${clip} ${model.get("method")} ${label}`;
  };
  const frameNow = () => Number(figure.dataset.frame ?? 0);
  const valueAt = (joint, frame) => {
    const level = levels[frame * shown.record.shape[2] + joint];
    return (shown.record.signed ? (level - 127) / 127 : level / 254) * shown.record.limit;
  };
  const draw = oncePerFrame(() => {
    if (!shown) return;
    const [, T, V] = shown.record.shape;
    const { joints } = shown.record;
    colors ??= ["--paper", "--ink", "--muted", "--mark"].map((name) => color(el, name));
    const [paper, ink, muted, mark] = colors;
    canvas.style.width = `${Math.min(Math.max(el.clientWidth / 2 - 24, 320), 620)}px`;
    canvas.style.height = `${V * HIGH + 22}px`;
    const { pen, width } = clearCanvas(canvas);
    pen.font = "11px system-ui, sans-serif";
    left = Math.ceil(Math.max(...joints.map((name) => pen.measureText(name).width))) + 8;
    wide = (width - left - 6) / T;
    pen.textBaseline = "middle";
    const joint = model.get("joint");
    pen.imageSmoothingEnabled = false;
    pen.drawImage(heat, left, 0, T * wide, V * HIGH);
    for (let v = 0; v < V; v++) {
      pen.fillStyle = paper;
      pen.fillRect(left, (v + 1) * HIGH - 1, T * wide, 1);
      pen.textAlign = "right";
      pen.font = `${v === joint ? "700 " : ""}11px system-ui, sans-serif`;
      pen.fillStyle = v === joint ? ink : muted;
      pen.fillText(joints[v], left - 5, (v + 0.5) * HIGH);
    }
    if (joint >= 0) {
      pen.strokeStyle = mark;
      pen.lineWidth = 2.5;
      pen.strokeRect(left, joint * HIGH, T * wide, HIGH - 1);
    }
    pen.fillStyle = mark;
    pen.fillRect(left + (frameNow() + 0.5) * wide - 1, 0, 2, V * HIGH);
    pen.fillStyle = muted;
    pen.font = "11px system-ui, sans-serif";
    pen.textAlign = "left";
    pen.fillText("frame 1", left, V * HIGH + 10);
    pen.textAlign = "right";
    pen.fillText(`${T}`, left + T * wide, V * HIGH + 10);
    const where = Math.max(joint, 0);
    readout.textContent = joint < 0 ? "Point at the heatmap: joint, frame, importance."
      : `${joints[where]}, frame ${frameNow() + 1}: ${valueAt(where, frameNow()).toPrecision(2)} logit`;
    canvas.setAttribute("aria-description", readout.textContent);
  });
  const bars = (root, title, rows, note) => {
    const most = Math.max(...rows.map(([, value]) => Math.abs(value)), 1e-9);
    root.replaceChildren(element("p", { class: "head" }, title),
      element("table", {}, ...rows.map(([name, value]) => element("tr", {},
        element("th", { scope: "row" }, name),
        element("td", { class: "number" }, `${value >= 0 ? "+" : "−"}${Math.abs(value).toFixed(2)}`),
        element("td", { class: "bar-cell" }, element("span", {
          class: value >= 0 ? "for" : "against",
          style: `width: ${(48 * Math.abs(value)) / most}%; margin-left: ${value >= 0 ? 50 : 50 - (48 * Math.abs(value)) / most}%`,
        }))))),
      element("p", { class: "note" }, note));
  };
  const show = () => {
    const key = wanted();
    const result = model.get("results")[key];
    const progress = model.get("progress");
    if (!result) {
      const there = Object.keys(model.get("results")).map((known) => {
        const [clip, method, label] = known.split(" ");
        return `${data.clips[clip].split(":")[0]}, ${method.replaceAll("_", " ")}, ${data.names[label]}`;
      });
      status.textContent = model.widget_manager ? `Python computes this … ${progress}`
        : `Only a kernel computes this. Computed before: ${there.slice(0, 6).join("; ")}.`;
      el.classList.add("waiting");
      return;
    }
    status.textContent = progress;
    el.classList.remove("waiting");
    if (shown === result) return;
    shown = result;
    levels = Uint8Array.from(atob(result.record.levels), (c) => c.charCodeAt(0));
    const [, T, V] = result.record.shape;
    const palette = result.record.colors.map(parts);
    fillPixels(heat, T, V, (i) => palette[levels[(i % T) * V + Math.floor(i / T)]]);
    if (player) player.replace([result.record]);
    else player = playerOf(model, figure, [result.record]);
    const [, , label] = key.split(" ");
    bars(ofBody, "Body parts, by this method", result.parts, "Sums over the joints of a part, in logits. Positive speaks for the class.");
    const sum = result.exact.reduce((total, [, value]) => total + value, 0);
    bars(exact, `The logit of ${data.names[label]}, exactly`, result.exact,
      `They add up to ${sum.toFixed(2)}; the logit is ${result.logit.toFixed(2)}, its probability ${(100 * result.probability).toFixed(0)} %. A part says where the last block keeps the evidence, not which input it came from.`);
    draw();
  };
  const go = (joint, frame) => {
    const [, T, V] = shown.record.shape;
    setValues(model, { joint: Math.min(Math.max(joint, 0), V - 1), frame: Math.min(Math.max(frame, 0), T - 1) });
    draw();
  };
  canvas.addEventListener("pointermove", (event) => {
    if (!shown || event.offsetX < left) return;
    const [joint, frame] = [Math.floor(event.offsetY / HIGH), Math.floor((event.offsetX - left) / wide)];
    if (joint < shown.record.joints.length) go(joint, frame);
  });
  canvas.addEventListener("keydown", (event) => {
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    if (!moves[event.key] || !shown) return;
    event.preventDefault();
    go(Math.max(model.get("joint"), 0) + moves[event.key][0], frameNow() + moves[event.key][1]);
  });

  const numbered = (texts) => texts.map((text, i) => [i, text]);
  const controls = element("div", { class: "controls" },
    control(model, "clip", "clip", { choices: numbered(data.clips), number: true }),
    control(model, "method", "method", { choices: data.methods }),
    control(model, "explained", "class", { choices: [[-1, "predicted"], ...numbered(data.names)], number: true }));
  const unwatch = redrawn(el, draw, () => {
    colors = null;
    player?.redraw();
  });
  const style = element("style", {}, `.msg3d-lab .bars { flex: 1 1 18em; max-width: 34em; } .msg3d-lab .bars table { width: 100%; border-collapse: collapse; }
    .msg3d-lab .bars th { text-align: left; font-weight: 400; } .msg3d-lab .bars .number { text-align: right; padding: 0 0.6em; font-variant-numeric: tabular-nums; }
    .msg3d-lab .bars .bar-cell { width: 50%; background: linear-gradient(to right, transparent 49.8%, var(--muted) 49.8% 50.2%, transparent 50.2%); }
    .msg3d-lab .bars span { display: block; height: 0.8em; } .msg3d-lab .bars .for { background: #b2453f; } .msg3d-lab .bars .against { background: #3f73c0; } /* as in the heatmap */
    .msg3d-lab .head { margin: 0.4em 0 0.2em; font-weight: 600; } .msg3d-lab.waiting .panels { opacity: 0.45; } .msg3d-lab .controls select { max-width: 32em; }`);
  el.append(style, controls, status,
    element("div", { class: "panels" }, element("div", {}, canvas, readout), element("div", { style: "flex: 1 1 20em; max-width: 30em" }, figure)),
    element("div", { class: "panels" }, ofBody, exact));
  for (const name of ["clip", "method", "explained", "results", "progress"]) model.on(`change:${name}`, show);
  for (const name of ["joint", "frame"]) model.on(`change:${name}`, draw);
  const watch = new MutationObserver(draw); // the frame of a playing clip
  watch.observe(figure, { attributes: true, attributeFilter: ["data-frame"] });
  show();
  return () => {
    unwatch();
    watch.disconnect();
    player?.remove();
  };
}
export default { render };
