// The window graph of G3D: a body per frame in perspective, and the edges of one joint at k hops.
import { clearCanvas, color, control, element, oncePerFrame, redrawn, setText, setValues, unpack } from "./common.js";
import { css, hopsText, mix, nearest, neighbourTowards, parts, signedColor, weightText, writeOver } from "./graphs.js";

const TURN_STEP = 6; // degrees per key press
const LETTERS = 'system-ui, "DejaVu Sans", sans-serif';

function frameText(offset) {
  return offset === 0 ? "t" : offset > 0 ? `t+${offset}` : `t−${-offset}`;
}

function render({ model, el }) {
  const { body, hops: packed, frames: allFrames, ranges, network } = model.get("data");
  const V = body.joints.length;
  const [xs, ys] = [body.xy.map(([x]) => x), body.xy.map(([, y]) => y)];
  const middle = [(Math.min(...xs) + Math.max(...xs)) / 2, (Math.min(...ys) + Math.max(...ys)) / 2];
  const tall = Math.max(...ys) - Math.min(...ys) || 1;
  const unpacked = new Map();
  let [colors, hover, places, grabbed] = [{}, -1, [], null];
  let [learned, unpacking] = [{}, ""]; // the numbers of the graph that was last unpacked

  const set = (values) => setValues(model, values);
  function hopsOf(key) {
    if (!unpacked.has(key)) {
      unpacked.set(key, null);
      unpack(packed[key]).then(({ values }) => {
        unpacked.set(key, values);
        redraw();
      });
    }
    return unpacked.get(key);
  }
  /** The learned weights of the chosen graph: null where none are shown, "waiting" until they are here. */
  function weightsNow() {
    const [mode, graph] = [model.get("learned"), model.get("graph")];
    if (!network || mode === "off") return null;
    const mask = model.get("mask");
    if (mask.graph !== graph) return "waiting";
    if (learned.graph === graph) return learned.mode === mode ? learned : (learned = { ...learned, ...shownOf(learned.A, learned.A_res, mode) });
    if (unpacking !== graph) {
      unpacking = graph;
      Promise.all([unpack(mask.A), unpack(mask.A_res)]).then(([A, A_res]) => {
        learned = { graph, A: A.values, A_res: A_res.values, scales: A.shape[0], nodes: A.shape[1], ...shownOf(A.values, A_res.values, mode) };
        unpacking = "";
        redraw();
      });
    }
    return "waiting";
  }
  function shownOf(A, A_res, mode) {
    const values = mode === "alone" ? A_res : A.map((value, i) => value + A_res[i]);
    return { mode, values };
  }
  function state() {
    const weights = weightsNow();
    const [steps, dilation] = weights ? network.windows[model.get("graph")] : [model.get("window_size"), model.get("dilation")];
    const edges = weights ? network.edges : model.get("edges");
    const step = Math.min(model.get("step"), steps - 1);
    const joint = body.joints.indexOf(model.get("joint"));
    const hops = hopsOf(`${edges} ${steps}`);
    const node = step * V + joint;
    const k = model.get("k");
    let [values, linked, limit] = [null, [], 1];
    if (weights && weights !== "waiting") {
      const { nodes } = weights;
      const scale = k < weights.scales ? weights.values.subarray(k * nodes * nodes, (k + 1) * nodes * nodes) : new Float32Array(nodes * nodes);
      limit = scale.reduce((most, value) => Math.max(most, Math.abs(value)), 0) || 1;
      values = scale.subarray(node * nodes, (node + 1) * nodes);
      linked = [...values.keys()].filter((one) => values[one] !== 0 && one !== node);
      linked = linked.sort((a, b) => Math.abs(values[b]) - Math.abs(values[a])).slice(0, network.lines);
    }
    return hops && { weights, values, linked, limit, dilation, edges, steps, step, joint, node, k, hops, frames: allFrames[`${steps} ${dilation}`], row: hops.subarray(node * steps * V, (node + 1) * steps * V) };
  }

  /** Where the joints of all frames are on the picture: [x, y, depth], nearer is larger. */
  function project({ steps, frames, dilation }, width, height) {
    const [yaw, pitch] = [model.get("yaw"), model.get("pitch")].map((degrees) => (degrees * Math.PI) / 180);
    const span = frames[steps - 1] - frames[0];
    const long = span ? 0.62 * (steps - 1) * tall * (0.75 + 0.25 * dilation) : 0;
    const depth = (frame) => (span ? ((frame - (frames[0] + frames[steps - 1]) / 2) / span) * long : 0);
    const [camera, turn, rise] = [2.2 + 0.75 * Math.max(long, tall), [Math.cos(yaw), Math.sin(yaw)], [Math.cos(pitch), Math.sin(pitch)]];
    const flat = ([x, y, t]) => {
      // Time runs into the picture to the right; earlier frames are on the left, and in front.
      const [u, w] = [x * turn[0] + t * turn[1], t * turn[0] - x * turn[1]];
      const [v, away] = [y * rise[0] + w * rise[1], w * rise[0] - y * rise[1]];
      const size = camera / (camera + away);
      return [u * size, -v * size, size];
    };
    const bodies = frames.map((frame) => body.xy.map(([x, y]) => flat([x - middle[0], y - middle[1], depth(frame)])));
    const floor = -tall / 2 - 0.07 * tall;
    const ticks = [];
    for (let frame = frames[0]; frame <= frames[steps - 1]; frame++) ticks.push({ frame, at: flat([0, floor, depth(frame)]), taken: frames.includes(frame) });
    const all = [...bodies.flat(), ...ticks.map(({ at }) => at)];
    const ends = (i) => [Math.min(...all.map((one) => one[i])), Math.max(...all.map((one) => one[i]))];
    const [[left, right], [top, bottom]] = [ends(0), ends(1)];
    const scale = Math.min((width - 150) / (right - left || 1), (height - 70) / (bottom - top || 1), height * 0.95);
    const fit = ([x, y, size]) => [width / 2 + scale * (x - (left + right) / 2), height / 2 - 8 + scale * (y - (top + bottom) / 2), size];
    return { bodies: bodies.map((one) => one.map(fit)), ticks: ticks.map((tick) => ({ ...tick, at: fit(tick.at) })) };
  }

  function draw(s) {
    const { pen, width, height } = clearCanvas(canvas);
    const { bodies, ticks } = project(s, width, height);
    places = bodies.flat();
    const linked = s.linked;
    if (!s.weights) s.row.forEach((hop, node) => hop === s.k && node !== s.node && linked.push(node));
    const relative = (node) => Math.max(-1, Math.min(1, s.values[node] / s.limit));
    // A line is thin, and needs a stronger colour than a dot.
    const lineColor = (node, same) => (s.values ? css(signedColor(0.4 * Math.sign(s.values[node]) + 0.6 * relative(node), network.signed, colors)) : css(same ? colors.mark : colors.disentangled));
    pen.lineCap = "round";
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    // The axis of time, with a tick per frame; frames that the dilation leaves out are small.
    pen.strokeStyle = css(colors.faint);
    pen.lineWidth = 1.5;
    pen.beginPath();
    ticks.forEach(({ at }, i) => (i ? pen.lineTo(at[0], at[1]) : pen.moveTo(at[0], at[1])));
    pen.stroke();
    for (const { at, taken, frame } of ticks) {
      pen.fillStyle = css(taken ? colors.muted : colors.faint);
      pen.beginPath();
      pen.arc(at[0], at[1], taken ? 3.2 : 2, 0, 7);
      pen.fill();
      if (!taken) continue;
      const now = frame === s.frames[s.step];
      pen.font = `${now ? "bold " : ""}12px ${LETTERS}`;
      pen.fillStyle = css(now ? colors.ink : colors.muted);
      pen.fillText(frameText(frame), at[0], at[1] + 15);
    }
    // From the farthest frame to the nearest, so that near bodies are in front.
    const order = bodies.map((one, i) => i).sort((a, b) => bodies[a][0][2] - bodies[b][0][2]);
    const sizes = places.map(([, , size]) => size);
    const [farthest, closest] = [Math.min(...sizes), Math.max(...sizes)];
    const near = (size) => (closest > farthest ? (size - farthest) / (closest - farthest) : 1);
    const reached = new Set(linked);
    for (const i of order) {
      const own = i === s.step;
      for (const [a, b] of body.edges) {
        const share = near((bodies[i][a][2] + bodies[i][b][2]) / 2);
        pen.strokeStyle = css(mix(colors.faint, colors.muted, own ? 0.75 : 0.35 * share));
        pen.lineWidth = 1.5 + 2 * share;
        pen.beginPath();
        pen.moveTo(bodies[i][a][0], bodies[i][a][1]);
        pen.lineTo(bodies[i][b][0], bodies[i][b][1]);
        pen.stroke();
      }
      bodies[i].forEach(([x, y, size], v) => {
        if (reached.has(i * V + v)) return;
        const weight = s.values ? relative(i * V + v) : 0;
        pen.fillStyle = weight ? css(signedColor(weight, network.signed, colors)) : css(mix(colors.faint, colors.muted, 0.7));
        pen.beginPath();
        pen.arc(x, y, 1.6 + 1.2 * near(size) + 8 * Math.sqrt(Math.abs(weight)), 0, 7);
        pen.fill();
      });
    }
    const from = places[s.node];
    for (const node of linked) {
      const [to, same] = [places[node], Math.floor(node / V) === s.step];
      pen.strokeStyle = lineColor(node, same);
      pen.globalAlpha = node === hover ? 1 : 0.8;
      pen.lineWidth = (node === hover ? 3.5 : 1.8) + (s.values ? 2 * Math.abs(relative(node)) : 0);
      pen.setLineDash(same ? [6, 3] : []);
      pen.beginPath();
      pen.moveTo(from[0], from[1]);
      // A bow, so that an edge is not hidden by another one or by a bone.
      const [dx, dy] = [to[0] - from[0], to[1] - from[1]];
      const bow = same ? 0.16 : 0.1;
      pen.quadraticCurveTo((from[0] + to[0]) / 2 + bow * dy, (from[1] + to[1]) / 2 - bow * Math.abs(dx) - (Math.abs(dx) < 8 ? 0 : 6), to[0], to[1]);
      pen.stroke();
    }
    pen.setLineDash([]);
    pen.globalAlpha = 1;
    for (const node of [...linked].sort((a, b) => places[a][2] - places[b][2])) {
      const [x, y, size] = places[node];
      pen.fillStyle = lineColor(node, Math.floor(node / V) === s.step);
      pen.beginPath();
      pen.arc(x, y, s.values ? 1.6 + 1.2 * near(size) + 8 * Math.sqrt(Math.abs(relative(node))) : 4 + 2.6 * near(size), 0, 7);
      pen.fill();
      pen.lineWidth = 1;
      pen.strokeStyle = css(s.values ? colors.muted : colors.paper);
      pen.stroke();
    }
    pen.beginPath();
    pen.arc(from[0], from[1], 6 + 2 * near(from[2]), 0, 7);
    pen.fillStyle = css(colors.ink);
    pen.fill();
    pen.lineWidth = 3;
    pen.strokeStyle = css(colors.mark);
    pen.stroke();
    pen.font = `12px ${LETTERS}`;
    for (const node of new Set([s.node, ...(hover >= 0 ? [hover] : [])])) {
      const [x, y] = places[node];
      const name = node === s.node ? body.joints[s.joint] : `${body.joints[node % V]}, ${frameText(s.frames[Math.floor(node / V)])}`;
      const half = pen.measureText(name).width / 2;
      writeOver(pen, name, Math.max(half + 3, Math.min(width - half - 3, x)), y > 30 ? y - 18 : y + 18, { ink: css(colors.ink), paper: css(colors.paper) });
    }
  }

  /** What the chosen joint is linked to, frame by frame. */
  function sentence(s) {
    const name = body.joints[s.joint];
    const own = frameText(s.frames[s.step]);
    const called = (node) => `the ${body.joints[node % V]} at ${frameText(s.frames[Math.floor(node / V)])}`;
    if (s.weights === "waiting") {
      return model.widget_manager ? `k = ${s.k}: Python sends the mask of ${model.get("graph")} …` : `k = ${s.k}: only a kernel sends the mask of ${model.get("graph")}; without one there is that of ${model.get("mask").graph ?? "no graph"}.`;
    }
    if (s.weights) {
      const start = `k = ${s.k}, ${s.weights.graph}, mask ${s.weights.mode}: `;
      if (s.k >= s.weights.scales) return `${start}the network has no scale ${s.k}.`;
      if (hover >= 0) return `${start}the ${name} at ${own} receives from ${hover === s.node ? "itself" : called(hover)} with the weight ${weightText(s.values[hover])}.`;
      const most = s.linked.slice(0, 4).map((node) => `${called(node)} (${weightText(s.values[node])})`);
      return most.length ? `${start}the ${name} at ${own} receives with the largest weights from ${most.join(", ")}; from itself with ${weightText(s.values[s.node])}.` : `${start}the ${name} at ${own} receives from nobody else.`;
    }
    if (hover >= 0 && hover !== s.node) {
      const hop = s.row[hover];
      const other = called(hover);
      return hop === 255 ? `No path joins the ${name} at ${own} and ${other}.` : `The ${name} at ${own} and ${other}: ${hopsText(hop)} in the ${s.edges} window${hop === s.k ? ", an edge of this scale" : ""}.`;
    }
    if (s.k === 0) return `k = 0: the ${name} at ${own} and nothing else.`;
    const lists = s.frames.map((frame, i) => {
      const joints = body.joints.filter((_, v) => s.row[i * V + v] === s.k && i * V + v !== s.node);
      const named = joints.length > 6 ? `${joints.length} joints` : joints.join(", ");
      return joints.length ? `${frameText(frame)}: ${named}` : "";
    });
    const count = s.row.reduce((sum, hop) => sum + (hop === s.k), 0);
    if (!count) return `k = ${s.k}: no joint of the window is ${hopsText(s.k)} away from the ${name} at ${own}: at this scale it keeps only itself.`;
    return `k = ${s.k}, ${s.edges}: ${count} joint${count === 1 ? "" : "s"} of the window at ${hopsText(s.k)} from the ${name} at ${own}. ${lists.filter(Boolean).join("; ")}.`;
  }

  const redraw = oncePerFrame(() => {
    const s = el.clientWidth ? state() : null;
    if (!s) return;
    colors.dark = el.classList.contains("dark");
    if (!colors.paper) for (const name of ["paper", "ink", "muted", "faint", "mark", "disentangled"]) colors[name] = parts(color(el, `--${name}`));
    if (hover >= s.steps * V) hover = -1;
    draw(s);
    setText(reading, sentence(s));
    for (const one of ofWindow) one.style.display = s.weights ? "none" : "";
    for (const one of ofMask) one.style.display = s.weights ? "" : "none";
    setText(meaning, s.weights ? `Red: positive weights, blue: negative ones; dots have the size of the weight, up to ${weightText(s.limit)}, the largest of this scale. Lines: the ${network.lines} largest.` : "Amber, dashed: edges within the frame; blue: to other frames.");
  });

  function turn(yaw, pitch) {
    const around = ((((yaw + 180) % 360) + 360) % 360) - 180;
    set({ yaw: around, pitch: Math.max(-85, Math.min(85, pitch)) });
  }
  const within = (name, value) => Math.max(ranges[name][0], Math.min(ranges[name][1], value));
  const canvas = element("canvas", {
    class: "wide-picture turned", style: "height: 420px", tabindex: 0, role: "application",
    "aria-label": "Window in space and time; arrow keys move the joint, comma and full stop the frame, plus and minus k, Shift and arrow keys turn",
    onpointerdown: (event) => {
      grabbed = { x: event.clientX, y: event.clientY, yaw: model.get("yaw"), pitch: model.get("pitch"), moved: false };
      canvas.setPointerCapture(event.pointerId);
    },
    onpointermove: (event) => {
      if (!grabbed) {
        const at = nearest(places, event.offsetX, event.offsetY, 16);
        if (at !== hover) redraw((hover = at));
        return;
      }
      const [dx, dy] = [event.clientX - grabbed.x, event.clientY - grabbed.y];
      grabbed.moved ||= Math.hypot(dx, dy) > 4;
      if (grabbed.moved) turn(grabbed.yaw - dx * 0.5, grabbed.pitch + dy * 0.4);
    },
    onpointerup: (event) => {
      const node = nearest(places, event.offsetX, event.offsetY, 20);
      if (grabbed && !grabbed.moved && node >= 0) set({ joint: body.joints[node % V], step: Math.floor(node / V) });
      grabbed = null;
    },
    onpointercancel: () => (grabbed = null),
    onpointerleave: () => {
      hover = -1;
      redraw();
    },
    onkeydown: (event) => {
      const s = state();
      if (!s) return;
      const key = event.key;
      if (key.startsWith("Arrow") && event.shiftKey) {
        const [dx, dy] = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[key];
        turn(model.get("yaw") + TURN_STEP * dx, model.get("pitch") + TURN_STEP * dy);
      } else if (key.startsWith("Arrow")) {
        const own = places.slice(s.step * V, (s.step + 1) * V);
        set({ joint: body.joints[neighbourTowards(own, s.joint, key)] });
      } else if (key === "," || key === ".") set({ step: Math.max(0, Math.min(s.steps - 1, s.step + (key === "." ? 1 : -1))) });
      else if (["+", "=", "-"].includes(key)) set({ k: within("k", s.k + (key === "-" ? -1 : 1)) });
      else return;
      hover = -1;
      event.preventDefault();
    },
  });
  const reading = element("p", { class: "reading", role: "status", "aria-live": "polite" });
  const frontal = element("button", { type: "button", onclick: () => set({ yaw: 48, pitch: 14 }) }, "turn back");
  const meaning = element("span");
  const slider = (name, label) => control(model, name, label, { min: ranges[name][0], max: ranges[name][1] });
  const ofWindow = [
    slider("window_size", "window τ"),
    slider("dilation", "dilation"),
    control(model, "edges", "edges", { choices: [["dense", "dense (G3D)"], ["grid", "grid"]] }),
  ];
  const ofMask = network ? [control(model, "graph", "graph", { choices: Object.keys(network.windows).map((name) => [name, name]) })] : [];
  el.append(
    element(
      "div",
      { class: "controls" },
      slider("k", "hops k"),
      ...ofWindow,
      control(model, "joint", "joint", { choices: body.joints.map((name) => [name, name]) }),
      ...(network ? [control(model, "learned", "learned mask", { choices: ["off", "added", "alone"].map((one) => [one, one]) })] : []),
      ...ofMask,
      frontal,
    ),
    canvas,
    reading,
    element("p", { class: "note" }, meaning, " Drag, or Shift and arrow keys, to turn; click a joint, or move with the arrow keys; comma and full stop change its frame, + and − change k."),
  );
  const unwatch = redrawn(el, redraw, () => (colors = {}));
  for (const name of ["window_size", "dilation", "edges", "k", "joint", "step", "yaw", "pitch", "learned", "graph", "mask"]) model.on(`change:${name}`, redraw);
  redraw();
  return unwatch;
}

export default { render };
