// What the explorers of graphs share: colours of weights, places on a body, numbers as text.

/** "#rrggbb" -> [r, g, b]. */
export function parts(hex) {
  return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
}

/** A colour between two, as [r, g, b]. */
export function mix(from, to, share) {
  return from.map((value, i) => value + (to[i] - value) * share);
}

export function css([r, g, b]) {
  return `rgb(${Math.round(r)} ${Math.round(g)} ${Math.round(b)})`;
}

/** The colour of a weight from 0 (almost paper) over the graph's own colour to near ink. */
export function weightColor(relative, { paper, own, ink }) {
  const pale = mix(paper, own, 0.14);
  return relative < 0.7 ? mix(pale, own, relative / 0.7) : mix(own, ink, (relative - 0.7) * 1.5);
}

/** The colour of a weight from -1 to 1: a diverging map of 33 colours, from the paper's colour outwards. */
export function signedColor(relative, map, { dark, paper, ink }) {
  const size = Math.abs(relative);
  if (dark) return mix(paper, mix(parts(map[relative < 0 ? 4 : 28]), ink, 0.25), 0.15 + 0.85 * size);
  const at = (0.5 + (Math.sign(relative) * (0.08 + 0.92 * size)) / 2) * (map.length - 1);
  return mix(parts(map[Math.floor(at)]), parts(map[Math.ceil(at)]), at % 1);
}

/** Fits places (x to the right, y up, feet at 0) into a rectangle. */
export function fitBody(xy, { left, top, width, height }) {
  const [xs, ys] = [xy.map(([x]) => x), xy.map(([, y]) => y)];
  const [low, high, bottom, up] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const scale = Math.min(width / (high - low || 1), height / (up - bottom || 1));
  const [x0, y0] = [left + width / 2 - (scale * (low + high)) / 2, top + height / 2 + (scale * (bottom + up)) / 2];
  return xy.map(([x, y]) => [x0 + scale * x, y0 - scale * y]);
}

/** The number of the place nearest to a point, or -1 if none is within reach. */
export function nearest(places, x, y, reach = 24) {
  let [best, found] = [reach * reach, -1];
  places.forEach(([px, py], i) => {
    const square = (px - x) ** 2 + (py - y) ** 2;
    if (square < best) [best, found] = [square, i];
  });
  return found;
}

/** The place that an arrow key leads to from another; the same where there is none. */
export function neighbourTowards(places, from, key) {
  const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
  const [x, y] = places[from];
  let [best, found] = [Infinity, from];
  places.forEach(([px, py], i) => {
    const along = (px - x) * dx + (py - y) * dy;
    const aside = Math.abs((px - x) * dy) + Math.abs((py - y) * dx);
    const cost = along + 2.5 * aside;
    if (i !== from && along > 0.5 && cost < best) [best, found] = [cost, i];
  });
  return found;
}

/** A weight with three digits; nothing is hidden by rounding. */
export function weightText(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size >= 0.001 ? size.toFixed(size >= 0.1 ? 2 : size >= 0.01 ? 3 : 4) : size.toExponential(1).replace("e-", "e−");
  return (value < 0 ? "−" : "") + text;
}

/** A share in percent. */
export function percentText(share) {
  return share >= 0.005 ? `${Math.round(100 * share)} %` : share > 0 ? "under 1 %" : "nothing";
}

export function hopsText(k) {
  return `${k} hop${k === 1 ? "" : "s"}`;
}

/** Writes a text that stays readable on what is below it. */
export function writeOver(pen, text, x, y, { ink, paper }) {
  pen.lineJoin = "round";
  pen.lineWidth = 4;
  pen.strokeStyle = paper;
  pen.strokeText(text, x, y);
  pen.fillStyle = ink;
  pen.fillText(text, x, y);
}
