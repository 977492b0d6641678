// Learning curves with the values under the pointer: every figure.curves of the page.
for (const figure of document.querySelectorAll("figure.curves")) {
  const { title, unit, epochs, series } = JSON.parse(figure.querySelector("script").textContent);
  const [wide, high, left, right, top, bottom] = [420, 230, 52, 12, 12, 40];
  const make = (tag, attributes, text) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const values = series.flatMap((one) => one.values).filter((value) => value !== null);
  // From 0 to a round number, in round steps.
  const rough = (unit.includes("%") ? 100 : Math.max(...values)) / 4 || 1;
  const step = [1, 2, 2.5, 5, 10].map((times) => times * 10 ** Math.floor(Math.log10(rough))).find((one) => one >= 0.999 * rough);
  const low = Math.floor(Math.min(0, ...values) / step) * step, steps = Math.ceil((4 * rough - low) / step - 1e-9);
  const most = low + steps * step;
  const [first, last] = [Math.min(...epochs), Math.max(...epochs)];
  const x = (epoch) => left + ((epoch - first) / (last - first || 1)) * (wide - left - right);
  const y = (value) => high - bottom - ((value - low) / (most - low)) * (high - top - bottom);
  const svg = make("svg", { viewBox: `0 0 ${wide} ${high}`, tabindex: 0, role: "img", "aria-label": `${title}: arrow keys read the values` });
  for (let i = 0; i <= steps; i++) {
    const value = Number((low + i * step).toPrecision(6));
    svg.append(make("line", { x1: left, x2: wide - right, y1: y(value), y2: y(value), class: "grid" }),
      make("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, value));
  }
  for (const epoch of [first, Math.round((first + last) / 2), last]) svg.append(make("text", { x: x(epoch), y: high - 24, "text-anchor": "middle" }, epoch));
  svg.append(make("text", { x: (left + wide - right) / 2, y: high - 6, "text-anchor": "middle" }, "epoch"));
  series.forEach((one, i) => {
    const points = epochs.map((epoch, j) => [epoch, one.values[j]]).filter(([, value]) => value !== null);
    svg.append(make("polyline", { points: points.map(([epoch, value]) => `${x(epoch)},${y(value)}`).join(" "), class: `line s${i}` }));
    if (points.length < 40) for (const [epoch, value] of points) svg.append(make("circle", { cx: x(epoch), cy: y(value), r: 2.5, class: `dot s${i}` }));
  });
  const cursor = make("line", { y1: top, y2: high - bottom, class: "cursor", visibility: "hidden" });
  svg.append(cursor);
  const readout = document.createElement("p");
  readout.className = "readout";
  readout.setAttribute("aria-live", "polite");
  let at = epochs.length - 1;
  const show = (place) => {
    at = Math.min(Math.max(place, 0), epochs.length - 1);
    cursor.setAttribute("x1", x(epochs[at]));
    cursor.setAttribute("x2", x(epochs[at]));
    cursor.setAttribute("visibility", "visible");
    readout.replaceChildren(`Epoch ${epochs[at]}: `, ...series.map((one, i) => {
      const text = document.createElement("span");
      text.className = `key s${i}`;
      text.textContent = `${one.name} ${one.values[at] === null ? "–" : one.values[at].toPrecision(3)}${unit}`;
      return text;
    }));
  };
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const epoch = first + (((event.clientX - box.left) / box.width * wide - left) / (wide - left - right)) * (last - first);
    show(epochs.reduce((best, value, i) => (Math.abs(value - epoch) < Math.abs(epochs[best] - epoch) ? i : best), 0));
  });
  svg.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: epochs.length - 1 };
    if (!(event.key in moves)) return;
    event.preventDefault();
    show(moves[event.key]);
  });
  figure.querySelector(".plot").replaceChildren(svg, readout);
  show(at);
}
// A click on a column's name sorts its table.
for (const button of document.querySelectorAll("table.sortable th button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th"), table = button.closest("table"), body = table.tBodies[0];
    const column = [...head.parentElement.children].indexOf(head);
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const value = (row) => row.cells[column].textContent.replaceAll("\u00a0", "");
    const compare = (a, b) => (isNaN(parseFloat(value(a))) || isNaN(parseFloat(value(b))) ? value(a).localeCompare(value(b)) : parseFloat(value(a)) - parseFloat(value(b)));
    body.append(...[...body.rows].sort((a, b) => (up ? compare(a, b) : compare(b, a))));
  });
}
