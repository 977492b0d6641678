// AblationBoard: a row per variant and seed, the comparison so far, and buttons.
import { element } from "./common.js";
import { actionButton, dataTable, duration, hasKernel, look, pText, percent, plainTable, replaceKeepingFocus, stateText } from "./panels.js";

/** Differences with their intervals, one line each. */
function forest(rows) {
  const known = rows.filter((row) => row.difference !== null);
  const [W, L, R, line] = [720, 260, 130, 26];
  const H = known.length * line + 40;
  const reach = 1.05 * Math.max(0.01, ...known.flatMap((row) => [Math.abs(row.low), Math.abs(row.high)]));
  const x = (value) => L + ((value + reach) / (2 * reach)) * (W - L - R);
  const svg = element("svg:svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": "differences in top-1 with 95 % intervals" });
  for (const tick of [-reach, -reach / 2, 0, reach / 2, reach]) {
    svg.append(element("svg:line", { x1: x(tick), x2: x(tick), y1: 0, y2: H - 32, stroke: tick ? "var(--faint)" : "var(--muted)" }),
      element("svg:text", { x: x(tick), y: H - 18, "text-anchor": "middle" }, percent(tick, 1, true)));
  }
  svg.append(element("svg:text", { x: x(0), y: H - 4, "text-anchor": "middle" }, "difference in top-1, percentage points"));
  known.forEach((row, i) => {
    const y = (i + 0.5) * line;
    const sure = row.p_holm !== null && row.p_holm < 0.05;
    const p = row.p_holm === null ? "" : row.p_holm < 0.001 ? "p < 0.001" : `p = ${row.p_holm.toFixed(3)}`;
    svg.append(
      element("svg:text", { x: L - 8, y: y + 4, "text-anchor": "end" }, `${row.variant} − ${row.compare_with}`),
      element("svg:line", { x1: x(row.low), x2: x(row.high), y1: y, y2: y, stroke: "var(--series-0)", "stroke-width": 2 }),
      element("svg:circle", { cx: x(row.difference), cy: y, r: 5, stroke: "var(--series-0)", "stroke-width": 2, fill: sure ? "var(--series-0)" : "var(--paper)" }),
      element("svg:text", { x: W - R + 10, y: y + 4 }, `${percent(row.difference, 1, true)}  ${p}`));
  });
  const caption = "Filled: significant (p below 0.05, corrected within a group).";
  return element("figure", { class: "chart forest", style: "max-width: 760px" }, svg, element("div", { class: "note" }, caption));
}

function render({ model, el }) {
  const progress = (row) => {
    const bar = element("progress", { max: 1, value: row.fraction, "aria-label": `${row.variant} seed ${row.seed}` });
    return element("span", {}, bar, ` ${Math.round(100 * row.fraction)} %`);
  };
  const columns = [
    { key: "variant", title: "variant" },
    { key: "seed", title: "seed", number: true },
    { key: "state", title: "state", cell: (row) => stateText(row.state) },
    { key: "fraction", title: "progress", number: true, text: (row) => String(Math.round(100 * row.fraction)), cell: progress },
    { key: "top1", title: "top-1", number: true, text: (row) => (row.top1 === null ? "" : `${percent(row.top1)} (${percent(row.low)}–${percent(row.high)})`) },
    { key: "minutes", title: "minutes", number: true, text: (row) => (row.minutes === null ? "" : row.minutes.toFixed(1)) },
    { key: "why", title: "error", wrap: true },
  ];
  const head = element("div", { class: "facts" });
  const buttons = element("div", { class: "controls", role: "group", "aria-label": "actions" });
  const problem = element("p", { class: "problem", role: "alert" });
  const table = dataTable(model, { columns, label: "runs of the ablation", rows: () => model.get("data").rows });
  const results = element("div");
  const log = element("pre", { tabindex: 0, "aria-label": "log" });
  let [offered, compared] = ["", ""];

  function show() {
    const board = model.get("data");
    head.replaceChildren(element("strong", {}, board.title), stateText(board.state),
      element("span", {}, "tested ", element("b", {}, `${board.tested} of ${board.rows.length}`)),
      ...(board.state === "training" ? [element("span", {}, "left ", element("b", {}, board.seconds_left === null ? "not known yet" : duration(board.seconds_left)))] : []),
      ...(board.synthetic ? ["synthetic data"] : []));
    const actions = hasKernel(model) ? board.actions : [];
    if (offered !== (offered = `${JSON.stringify(actions)} ${model.get("answered")}`)) {
      replaceKeepingFocus(buttons, ...actions.map(([action, label]) => actionButton(model, action, label, { main: true })));
    }
    problem.textContent = board.problem;
    table.show();
    if (compared !== (compared = JSON.stringify(board.comparison))) {
      const rows = board.comparison.filter((row) => row.seeds);
      const cell = (row) => [row.variant, row.group, String(row.seeds), percent(row.top1), percent(row.sd), row.compare_with,
        percent(row.difference, 1, true), row.low === null ? "" : `${percent(row.low, 1, true)} to ${percent(row.high, 1, true)}`,
        pText(row.p_holm)];
      results.replaceChildren(...(!rows.length ? [element("p", { class: "note" }, "The comparison appears with the first tested run.")] : [
        element("h3", {}, "Variants, mean over their tested seeds, in percent"),
        plainTable("variants", ["variant", "group", "seeds", "top-1", "sd", "against", "difference", "95 % interval", "p (Holm)"], rows.map(cell)),
        ...(rows.some((row) => row.difference !== null) ? [forest(rows)] : [])]));
    }
    log.textContent = board.log.join("\n");
    log.hidden = !board.log.length;
  }
  for (const name of ["data", "answered"]) model.on(`change:${name}`, show);
  show();
  el.append(head, buttons, problem, table.element, results, log);
  return look(model, el);
}
export default { render };
