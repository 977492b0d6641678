// Adjacencies of all scales: heatmap, body and weight by hop of one or both aggregations, linked.
import { clearCanvas, color, control, element, fillPixels, oncePerFrame, redrawn, setText, setValues, unpack } from "./common.js";
import { css, fitBody, hopsText, mix, nearest, neighbourTowards, parts, percentText, signedColor, weightColor, weightText, writeOver } from "./graphs.js";

const AGGREGATION_NAMES = { disentangled: "disentangled", powers: "adjacency powers" };
const LARGEST_WEIGHT = 0.5; // the end of the colours at every scale, so that scales can be compared
const FONT = 'system-ui, "DejaVu Sans", sans-serif';
const ARROW_KEYS = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"];

function render({ model, el }) {
  const data = model.get("data");
  const numbers = new Map(); // what was unpacked, by layout and by learned graph
  const lengths = new Map(); // of the longest name of a layout
  let hover = null; // { receiver, sender } under the pointer; sender -1 for a whole row
  let colors = {};

  const set = (values) => setValues(model, values);
  const network = () => (model.get("learned") === "off" ? null : data.network);
  function bodyShown() {
    const from = network() ?? { skeleton: model.get("skeleton"), edge_set: model.get("edge_set") };
    const named = data.bodies.filter((body) => body.name === from.skeleton);
    return named.find((body) => body.edge_set === from.edge_set) ?? named[0];
  }
  function numbersOf(key, packed) {
    if (!numbers.has(key)) {
      numbers.set(key, null);
      const names = Object.keys(packed);
      Promise.all(names.map((name) => unpack(packed[name]))).then((arrays) => {
        numbers.set(key, Object.fromEntries(names.map((name, i) => [name, arrays[i]])));
        redraw();
      });
    }
    return numbers.get(key);
  }

  function readColors() {
    colors.dark = el.classList.contains("dark");
    for (const name of ["paper", "ink", "muted", "faint", "mark", ...Object.keys(AGGREGATION_NAMES)]) colors[name] = parts(color(el, `--${name}`));
  }

  /** Everything that the pictures and the text are made of, or null while numbers are unpacked. */
  function state() {
    const body = bodyShown();
    const own = numbersOf(body.label, { hops: body.hops, ...body.weights });
    const net = network();
    const masks = net && numbersOf("learned", net.graphs);
    if (!own || (net && !masks)) return null;
    const V = body.joints.length;
    const k = model.get("k");
    const found = body.joints.indexOf(model.get("joint"));
    const chosen = { receiver: found < 0 ? body.center : found, sender: body.joints.indexOf(model.get("sender")) };
    const normalization = net ? net.normalization : model.get("normalization");
    const shown = Object.keys(AGGREGATION_NAMES).filter((name) => ["both", name].includes(model.get("aggregation")));
    const graphs = shown.map((name) => {
      let matrix = own[`${name} ${normalization}`].values.subarray(k * V * V, (k + 1) * V * V);
      let [limit, learned] = [LARGEST_WEIGHT, ""];
      if (net && net.aggregation === name) {
        const all = masks[model.get("graph")];
        const mask = k < all.shape[0] ? all.values.subarray(k * V * V, (k + 1) * V * V) : new Float32Array(V * V);
        learned = model.get("learned");
        matrix = learned === "alone" ? mask : matrix.map((value, i) => value + mask[i]);
        if (learned === "alone") limit = all.values.reduce((most, value) => Math.max(most, Math.abs(value)), 0) || 1;
      }
      const signed = learned === "alone" || matrix.some((value) => value < 0);
      return { name, matrix, limit, signed, learned, beyond: learned && k >= masks[model.get("graph")].shape[0] };
    });
    const hops = own.hops.values;
    return { body, V, k, chosen, at: hover ?? chosen, graphs, hops, net };
  }

  /** Weight of a row by hops, as shares of all of it (of its size, where some is negative). */
  function sharesByHop({ V, hops }, matrix, receiver) {
    const most = hops.reduce((high, hop) => (hop < 255 ? Math.max(high, hop) : high), 0);
    const shares = new Float64Array(most + 1);
    let total = 0;
    for (let u = 0; u < V; u++) {
      const [size, hop] = [Math.abs(matrix[receiver * V + u]), hops[receiver * V + u]];
      total += size;
      if (hop <= most) shares[hop] += size;
    }
    return total > 0 ? shares.map((share) => share / total) : shares;
  }

  function colorOf(value, graph) {
    const relative = Math.min(1, Math.abs(value) / graph.limit);
    if (!graph.signed) return weightColor(relative, { ...colors, own: colors[graph.name] });
    return signedColor(Math.sign(value) * relative, data.signed, colors);
  }

  // Pictures

  /** Pixels of the longest name, at a size of 10. */
  function longestName(canvas, names) {
    if (!lengths.has(names)) {
      const pen = canvas.getContext("2d");
      pen.font = `10px ${FONT}`;
      lengths.set(names, Math.max(...names.map((name) => pen.measureText(name).width)));
    }
    return lengths.get(names);
  }

  function drawMatrix(picture, graph, s) {
    const { canvas, small } = picture;
    const { V, body, at } = s;
    const wide = canvas.clientWidth;
    const longest = longestName(canvas, body.joints);
    const left = Math.min(longest, wide * 0.36) + 8;
    const cell = (wide - left - 3) / V;
    const tall = Math.round(cell * V + 24);
    if (canvas.style.height !== `${tall}px`) canvas.style.height = `${tall}px`;
    const size = Math.max(7.5, Math.min(11.5, cell * 0.95));
    const { pen } = clearCanvas(canvas);
    fillPixels(small, V, V, (i) => (graph.matrix[i] === 0 ? colors.paper : colorOf(graph.matrix[i], graph)));
    pen.imageSmoothingEnabled = false;
    pen.drawImage(small, left, 2, cell * V, cell * V);
    pen.strokeStyle = css(colors.muted);
    pen.lineWidth = 1;
    pen.strokeRect(left - 0.5, 1.5, cell * V + 1, cell * V + 1);
    pen.textBaseline = "middle";
    pen.textAlign = "right";
    body.joints.forEach((name, v) => {
      const now = v === at.receiver;
      if (!now && cell < 7.4) return;
      pen.font = `${now ? "bold " : ""}${size}px ${FONT}`;
      pen.fillStyle = css(now ? colors.ink : colors.muted);
      pen.fillText(name, left - 5, 2 + (v + 0.5) * cell, left - 6);
    });
    // The row, the column and the cell.
    pen.strokeStyle = css(colors.mark);
    pen.lineWidth = 2;
    pen.strokeRect(left, 2 + at.receiver * cell, cell * V, cell);
    pen.font = `11.5px ${FONT}`;
    pen.textBaseline = "alphabetic";
    if (at.sender >= 0) {
      pen.lineWidth = 1.2;
      pen.strokeRect(left + at.sender * cell, 2, cell, cell * V);
      pen.lineWidth = 2.5;
      pen.strokeStyle = css(colors.ink);
      pen.strokeRect(left + at.sender * cell, 2 + at.receiver * cell, cell, cell);
      const name = body.joints[at.sender];
      const half = pen.measureText(`↑ ${name}`).width / 2;
      pen.textAlign = "center";
      pen.fillStyle = css(colors.ink);
      pen.fillText(`↑ ${name}`, Math.max(left + half, Math.min(wide - half - 2, left + (at.sender + 0.5) * cell)), tall - 6);
    } else {
      pen.textAlign = "left";
      pen.fillStyle = css(colors.muted);
      pen.fillText("columns send", left, tall - 6);
    }
    pen.textAlign = "left";
    pen.fillStyle = css(colors.muted);
    pen.fillText("rows receive", 0, tall - 6, left - 6);
    picture.cells = { left, top: 2, cell, V };
  }

  function drawBodyOf(picture, graph, s) {
    const { body, V, at } = s;
    const { pen, width, height } = clearCanvas(picture.canvas);
    const places = fitBody(body.xy, { left: 20, top: 20, width: width - 40, height: height - 40 });
    picture.places = places;
    pen.lineCap = "round";
    pen.lineWidth = 3;
    pen.strokeStyle = css(colors.faint);
    for (const [a, b] of body.edges) {
      pen.beginPath();
      pen.moveTo(...places[a]);
      pen.lineTo(...places[b]);
      pen.stroke();
    }
    const radius = (value) => (value === 0 ? 2.2 : Math.sqrt(10 + 110 * Math.min(1, Math.abs(value) / graph.limit)));
    for (let u = 0; u < V; u++) {
      const value = graph.matrix[at.receiver * V + u];
      pen.beginPath();
      pen.arc(...places[u], radius(value), 0, 7);
      pen.fillStyle = value === 0 ? css(mix(colors.faint, colors.muted, 0.5)) : css(colorOf(value, graph));
      pen.fill();
      if (value === 0) continue;
      pen.lineWidth = 0.8;
      pen.strokeStyle = css(colors.muted);
      pen.stroke();
      if (graph.signed && value < 0 && radius(value) > 4.5) {
        pen.fillStyle = css(colors.ink);
        pen.fillRect(places[u][0] - 3, places[u][1] - 0.75, 6, 1.5);
      }
    }
    const ring = (v, style, line, dash) => {
      pen.beginPath();
      pen.setLineDash(dash);
      pen.lineWidth = line;
      pen.strokeStyle = css(style);
      pen.arc(...places[v], radius(graph.matrix[at.receiver * V + v]) + 4.5, 0, 7);
      pen.stroke();
      pen.setLineDash([]);
    };
    pen.font = `12px ${FONT}`;
    pen.textBaseline = "middle";
    const middle = places.reduce((sum, [x]) => sum + x, 0) / V;
    const name = (v) => {
      const [x, y] = places[v];
      const wide = pen.measureText(body.joints[v]).width;
      const gap = radius(graph.matrix[at.receiver * V + v]) + 9;
      const aside = [[x + gap, y], [x - gap - wide, y]];
      if (x < middle - 1) aside.reverse();
      const inside = Math.max(2, Math.min(width - wide - 2, x - wide / 2));
      // Where it hides the fewest joints; outside of the picture it hides itself.
      const hidden = ([start, line]) =>
        (start < 1 || start + wide > width - 1 || line < 8 || line > height - 8 ? 100 : 0) +
        places.filter(([px, py]) => px > start - 8 && px < start + wide + 8 && Math.abs(py - line) < 13).length;
      const [start, line] = [...aside, [inside, y - gap - 5], [inside, y + gap + 5]].reduce((best, one) => (hidden(one) < hidden(best) ? one : best));
      pen.textAlign = "left";
      writeOver(pen, body.joints[v], start, line, { ink: css(colors.ink), paper: css(colors.paper) });
    };
    ring(at.receiver, colors.mark, 3, []);
    if (at.sender >= 0 && at.sender !== at.receiver) {
      ring(at.sender, colors.ink, 2, [3, 3]);
      name(at.sender);
    }
    name(at.receiver);
  }

  function drawBars(s) {
    const { pen, width, height } = clearCanvas(bars);
    const shares = s.graphs.map((graph) => sharesByHop(s, graph.matrix, s.at.receiver));
    const reached = new Set(s.hops.subarray(s.at.receiver * s.V, (s.at.receiver + 1) * s.V));
    const [left, bottom, top] = [64, height - 32, 16];
    const step = (width - left - 6) / shares[0].length;
    pen.font = `11px ${FONT}`;
    pen.textBaseline = "middle";
    pen.textAlign = "right";
    for (const percent of [0, 50, 100]) {
      const y = bottom - ((bottom - top) * percent) / 100;
      pen.fillStyle = css(colors.muted);
      pen.fillText(`${percent} %`, left - 5, y);
      pen.fillStyle = css(colors.faint);
      pen.fillRect(left, Math.round(y) - 0.5, width - left, 1);
    }
    pen.textAlign = "center";
    const bar = Math.min(30, (step * 0.8) / shares.length);
    for (let hop = 0; hop < shares[0].length; hop++) {
      const x = left + (hop + 0.5) * step;
      const now = hop === s.k;
      if (now) {
        pen.fillStyle = css(mix(colors.paper, colors.mark, 0.28));
        pen.fillRect(x - step / 2 + 1, top - 12, step - 2, bottom - top + 43);
      }
      s.graphs.forEach((graph, i) => {
        const tall = (bottom - top) * shares[i][hop];
        const start = x + (i - s.graphs.length / 2) * bar;
        pen.fillStyle = css(colors[graph.name]);
        pen.fillRect(start, bottom - tall, bar - 1, tall);
        if (shares[i][hop] >= 0.005) {
          pen.fillStyle = css(colors.ink);
          pen.fillText(String(Math.round(100 * shares[i][hop])), start + bar / 2, bottom - tall - 7);
        }
      });
      pen.font = `${now ? "bold " : ""}11px ${FONT}`;
      pen.fillStyle = css(reached.has(hop) ? colors.ink : colors.muted);
      pen.fillText(String(hop), x, bottom + 9);
      pen.font = `10.5px ${FONT}`;
      if (!reached.has(hop)) pen.fillText(step > 44 ? "nobody" : "–", x, bottom + 23);
      pen.font = `11px ${FONT}`;
    }
    pen.fillStyle = css(colors.muted);
    pen.textAlign = "right";
    pen.fillText("hops away", left - 5, bottom + 9);
    const spoken = s.graphs.map((graph, i) => `${AGGREGATION_NAMES[graph.name]}: ${[...shares[i]].map((share, hop) => `${hop}: ${Math.round(100 * share)} %`).join(", ")}`);
    bars.setAttribute("aria-label", `Share of the weight by hops away. ${spoken.join(". ")}`);
    return shares;
  }

  /** The line of text: what is looked at, and its values. */
  function sentence(s, shares) {
    const { body, V, k, at, hops } = s;
    const receiver = body.joints[at.receiver];
    const kinds = s.graphs.map((graph) => `${AGGREGATION_NAMES[graph.name]}${graph.learned && ` (mask ${graph.learned})`}`);
    const count = hops.subarray(at.receiver * V, (at.receiver + 1) * V).reduce((sum, hop) => sum + (hop === k), 0);
    const alone = s.net ? "" : ": the disentangled scale leaves it only itself";
    const nobody = count ? "" : `no joint is ${hopsText(k)} away from the ${receiver}${alone}. `;
    const beyond = s.graphs.some((graph) => graph.beyond) ? `The network has no scale ${k}. ` : "";
    if (at.sender >= 0) {
      const hop = hops[at.receiver * V + at.sender];
      const away = hop === 255 ? "no path leads there" : hop === 0 ? "itself" : `${hopsText(hop)} away`;
      const values = s.graphs.map((graph, i) => `${kinds[i]} ${weightText(graph.matrix[at.receiver * V + at.sender])}`);
      return `${beyond}k = ${k}: the ${receiver} receives from the ${body.joints[at.sender]} (${away}): ${values.join(", ")}. ${nobody.replace("no", "No")}`;
    }
    const values = s.graphs.map((graph, i) => `${kinds[i]} ${percentText(shares[i][k] ?? 0)}`);
    if (nobody) {
      const self = s.graphs.map((graph, i) => `${kinds[i]} ${percentText(shares[i][0])}`);
      return `${beyond}k = ${k}: ${nobody}Of its weight, it keeps for itself: ${self.join(", ")}.`;
    }
    return `${beyond}k = ${k}: the ${receiver} has ${count} joint${count === 1 ? "" : "s"} at ${hopsText(k)}. From ${count === 1 ? "it" : "them"} comes, of its weight: ${values.join(", ")}.`;
  }

  const redraw = oncePerFrame(() => {
    const s = el.clientWidth ? state() : null; // a notebook's page may not be there yet
    if (!s) return;
    if (!colors.paper) readColors();
    const graphOf = ({ name }) => s.graphs.find((graph) => graph.name === name);
    for (const picture of pictures) picture.panel.hidden = !graphOf(picture);
    for (const picture of pictures) {
      const graph = graphOf(picture);
      if (!graph) continue;
      drawMatrix(picture.matrix, graph, s);
      const [matrix, own] = [picture.matrix.canvas, picture.body.canvas];
      const tall = `${matrix.offsetTop === own.offsetTop ? Math.max(260, matrix.clientHeight) : 260}px`;
      if (own.style.height !== tall) own.style.height = tall;
      drawBodyOf(picture.body, graph, s);
    }
    const shares = drawBars(s);
    // Words after the pictures: a picture measures the page, which words change.
    for (const picture of pictures) {
      const graph = graphOf(picture);
      if (!graph) continue;
      setText(picture.title, `${AGGREGATION_NAMES[graph.name]}${graph.learned && `: mask ${graph.learned}`}`);
      const ends = [graph.signed ? `−${weightText(graph.limit)}` : "0", weightText(graph.limit)];
      const ramp = graph.signed ? [-1, -0.5, -0.01, 0.01, 0.5, 1] : [0.01, 0.35, 0.7, 1];
      picture.strip.style.background = `linear-gradient(90deg, ${ramp.map((at) => css(colorOf(at * graph.limit, graph))).join(", ")})`;
      setText(picture.low, ends[0]);
      setText(picture.high, ends[1]);
      setText(picture.more, graph.learned === "alone" ? "" : " or more");
    }
    setText(reading, sentence(s, shares));
  });

  // What keys and pointer do

  function scaleKey(event) {
    const change = { "+": 1, "=": 1, "-": -1 }[event.key];
    if (!change) return false;
    set({ k: Math.max(0, Math.min(data.num_scales - 1, model.get("k") + change)) });
    event.preventDefault();
    return true;
  }
  function choose({ receiver, sender }) {
    const { joints } = bodyShown();
    hover = null;
    set({ joint: joints[receiver], sender: sender >= 0 ? joints[sender] : "" });
  }
  function cellAt(picture, event) {
    const { left, top, cell, V } = picture.cells ?? {};
    const receiver = Math.floor((event.offsetY - top) / cell);
    if (!(receiver >= 0 && receiver < V)) return null;
    return { receiver, sender: event.offsetX < left ? -1 : Math.min(V - 1, Math.floor((event.offsetX - left) / cell)) };
  }
  function look(at) {
    if (JSON.stringify(at) === JSON.stringify(hover)) return;
    hover = at;
    redraw();
  }

  function pictureOf(name) {
    const words = `${AGGREGATION_NAMES[name]}, arrow keys`;
    const matrix = { small: document.createElement("canvas") };
    matrix.canvas = element("canvas", {
      class: "matrix", tabindex: 0, role: "application", "aria-label": `Matrix, ${words} move the cell, plus and minus the scale`,
      onpointermove: (event) => look(cellAt(matrix, event)),
      onpointerleave: () => look(null),
      onclick: (event) => {
        const at = cellAt(matrix, event);
        if (at) choose(at);
      },
      onkeydown: (event) => {
        if (scaleKey(event)) return;
        const s = state();
        if (!s || !(ARROW_KEYS.includes(event.key) || event.key === "Escape")) return;
        event.preventDefault();
        let { receiver, sender } = s.chosen;
        const within = (value) => Math.max(0, Math.min(s.V - 1, value));
        if (event.key === "Escape") sender = -1;
        else if (event.key === "ArrowUp" || event.key === "ArrowDown") receiver = within(receiver + (event.key === "ArrowDown" ? 1 : -1));
        else sender = sender < 0 ? receiver : within(sender + (event.key === "ArrowRight" ? 1 : -1));
        choose({ receiver, sender });
      },
    });
    const body = { places: [] };
    const jointAt = (event) => nearest(body.places, event.offsetX, event.offsetY);
    body.canvas = element("canvas", {
      class: "body", style: "height: 260px", tabindex: 0, role: "application",
      "aria-label": `Body, ${words} move the receiving joint, with Shift the sending one`,
      onpointermove: (event) => {
        const [joint, s] = [jointAt(event), state()];
        look(joint < 0 || !s ? null : { receiver: s.chosen.receiver, sender: joint });
      },
      onpointerleave: () => look(null),
      onclick: (event) => {
        const [joint, s] = [jointAt(event), state()];
        if (joint < 0 || !s) return;
        choose(event.shiftKey ? { ...s.chosen, sender: joint } : { receiver: joint, sender: -1 });
      },
      onkeydown: (event) => {
        if (scaleKey(event)) return;
        const s = state();
        if (!s || !(ARROW_KEYS.includes(event.key) || event.key === "Escape")) return;
        event.preventDefault();
        const { receiver, sender } = s.chosen;
        if (event.key === "Escape") choose({ receiver, sender: -1 });
        else if (event.shiftKey) choose({ receiver, sender: neighbourTowards(body.places, sender < 0 ? receiver : sender, event.key) });
        else choose({ receiver: neighbourTowards(body.places, receiver, event.key), sender });
      },
    });
    const title = element("span");
    const [strip, low, high, more] = [element("i"), ...["span", "span", "span"].map((tag) => element(tag))];
    const ramp = element("span", { class: "ramp", title: "weight" }, low, strip, high, more);
    const panel = element("section", { class: "panel-of-graph", style: `--own: var(--${name})` }, element("h4", {}, title, ramp), element("div", { class: "linked-pictures" }, matrix.canvas, body.canvas));
    return { name, panel, matrix, body, title, strip, low, high, more };
  }
  const pictures = Object.keys(AGGREGATION_NAMES).map(pictureOf);
  const bars = element("canvas", { class: "wide-picture", style: "height: 150px", role: "img" });
  const reading = element("p", { class: "reading", role: "status", "aria-live": "polite" });

  // Controls

  const controls = element("div", { class: "controls" });
  function rebuild() {
    const body = bodyShown();
    const names = [...new Set(data.bodies.map(({ name }) => name))];
    const sets = data.bodies.filter(({ name }) => name === body.name).map(({ edge_set }) => edge_set);
    const same = (values) => values.map((value) => [value, value]);
    const fixed = network();
    const made = [control(model, "k", "scale k", { max: data.num_scales - 1 })];
    const joint = control(model, "joint", "joint", { choices: same(body.joints) });
    if (!body.joints.includes(model.get("joint"))) joint.querySelector("select").value = body.joints[body.center];
    made.push(joint, control(model, "aggregation", "aggregation", { choices: [["both", "both"], ...Object.entries(AGGREGATION_NAMES)] }));
    const own = [control(model, "normalization", "normalisation", { choices: [["symmetric", "symmetric"], ["column", "column (mean)"]] })];
    if (sets.length > 1) own.push(control(model, "edge_set", "edge set", { choices: same(sets) }));
    if (names.length > 1) own.push(control(model, "skeleton", "layout", { choices: same(names) }));
    if (fixed) {
      // Those of the network, which the mask belongs to.
      [fixed.normalization, fixed.edge_set, fixed.skeleton].forEach((value, i) => {
        const select = own.map((label) => label.querySelector("select")).find((one) => [...one.options].some((option) => option.value === value));
        if (select && value) select.value = value;
      });
      for (const label of own) label.querySelector("select").disabled = true;
    }
    made.push(...own);
    if (data.network) {
      made.push(control(model, "learned", "learned mask", { choices: [["off", "off"], ["added", "added"], ["alone", "alone"]] }));
      if (fixed) made.push(control(model, "graph", "of", { choices: same(Object.keys(data.network.graphs)) }));
    }
    const focused = [...controls.children].findIndex((label) => label.contains(document.activeElement));
    const label = controls.children[focused]?.firstChild.textContent;
    controls.replaceChildren(...made);
    made.find((one) => one.firstChild.textContent === label)?.querySelector("select, input").focus();
  }

  el.append(
    controls,
    element("div", { class: "pair-of-panels" }, ...pictures.map(({ panel }) => panel)),
    reading,
    bars,
    element("p", { class: "note" }, "Click a cell, a row's name or a joint, or move with the arrow keys; + and − change k, Escape leaves the cell."),
  );
  const unwatch = redrawn(el, redraw, () => (colors = {}));
  rebuild();
  for (const name of ["skeleton", "edge_set", "learned"]) model.on(`change:${name}`, rebuild);
  for (const name of ["skeleton", "edge_set", "k", "joint", "sender", "aggregation", "normalization", "learned", "graph"]) model.on(`change:${name}`, redraw);
  redraw();
  return unwatch;
}

export default { render };
