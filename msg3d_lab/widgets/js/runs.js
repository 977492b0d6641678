// RunBrowser: a table of runs, and a comparison of those that are selected.
import { element } from "./common.js";
import { dataTable, duration, hasKernel, lineChart, look, pText, percent, plainTable, stateText } from "./panels.js";

const QUANTITIES = {
  top1: ["held-out top-1 accuracy (%)", { low: 0, high: 100, text: (value) => `${value.toFixed(1)} %` }],
  train_top1: ["training top-1 accuracy (%)", { low: 0, high: 100, text: (value) => `${value.toFixed(1)} %` }],
  train_loss: ["training loss", { low: 0, text: (value) => value.toFixed(3) }],
  lr: ["learning rate", { low: 0, text: (value) => Number(value.toPrecision(3)).toString() }],
};

/** Opens a report in a tab of its own, in a frame that cannot reach the notebook. */
function openReport(model, name) {
  const tab = window.open("", "_blank");
  const receive = (message) => {
    if (message.report !== name) return;
    model.off("msg:custom", receive);
    if (!tab) return;
    const frame = tab.document.createElement("iframe");
    frame.setAttribute("sandbox", "allow-scripts");
    frame.style.cssText = "position: fixed; inset: 0; width: 100%; height: 100%; border: 0";
    frame.srcdoc = message.html;
    tab.document.title = `report of ${name}`;
    tab.document.body.append(frame);
  };
  model.on("msg:custom", receive);
  model.send({ action: "report", name });
}

function render({ model, el }) {
  const live = hasKernel(model);
  const interval = (row) => (row.top1 === null ? "" : `${percent(row.top1)} (${percent(row.low)}–${percent(row.high)})`);
  const columns = [
    { key: "id", title: "run" },
    { key: "state", title: "state", cell: (row) => stateText(row.state) },
    { key: "top1", title: "top-1", number: true, text: interval },
    { key: "recipe", title: "recipe" },
    { key: "seed", title: "seed", number: true },
    { key: "seconds", title: "time", number: true, text: (row) => duration(row.seconds) },
    { key: "started", title: "started", text: (row) => row.started.replace("T", " ").slice(0, 16) },
    {
      key: "report", title: "report", text: (row) => (row.report ? "report" : ""),
      cell: (row) => !row.report || !live ? (row.report ? "report.html" : "")
        : element("button", { type: "button", "data-key": `report ${row.id}`, onclick: () => openReport(model, row.id) }, "open"),
    },
    { key: "commit", title: "commit" },
  ];
  const table = dataTable(model, { columns, label: "runs", select: true, rows: () => model.get("data").rows });
  const note = element("p", { class: "note" });
  const chart = element("div");
  const quantity = element("select", { "aria-label": "quantity", onchange: () => (model.set("quantity", quantity.value), model.save_changes(), compare()) },
    ...Object.entries(QUANTITIES).map(([value, [text]]) => element("option", { value }, text)));
  const rest = element("div");
  const below = element("div", { class: "comparison" }, element("div", { class: "controls" }, element("label", {}, "curves of", quantity)), chart, rest);

  function compare() {
    const found = model.get("comparison");
    const chosen = model.get("selected").length;
    quantity.value = model.get("quantity");
    below.hidden = !found.names?.length;
    note.textContent = chosen ? "" : live ? "Select runs to see their curves; two or more, to compare them." : "";
    if (below.hidden) return;
    const [title, options] = QUANTITIES[model.get("quantity")];
    const series = found.names.map((name, style) => ({ name, style, points: found.curves[name][model.get("quantity")] ?? [] }));
    chart.replaceChildren(lineChart({ title, series, ...options }));
    const parts = [];
    if (found.names.length > 1) {
      const none = "The recipes are equal in every setting.";
      parts.push(element("h3", {}, "Settings that differ"),
        found.settings.length ? plainTable("settings that differ", ["setting", ...found.names], found.settings) : element("p", {}, none));
      parts.push(element("h3", {}, "Differences in top-1 on the same clips, percentage points"));
      if (found.pairs.length) {
        parts.push(plainTable("paired differences", ["", "difference", "95 % interval", "only the first right", "only the second right", "p (McNemar)"],
          found.pairs.map((pair) => [`${pair.a} − ${pair.b}`, percent(pair.difference, 1, true),
            `${percent(pair.low, 1, true)} to ${percent(pair.high, 1, true)}`, String(pair.only_a), String(pair.only_b), pText(pair.p)])));
        parts.push(element("p", { class: "note" }, "Intervals and p are about these networks on other clips; other seeds may differ more."));
      }
      parts.push(...found.problems.map((text) => element("p", { class: "problem" }, text)));
      if (found.classes.length) {
        const [a, b] = found.class_names;
        parts.push(element("h3", {}, `Recall by class: ${a} − ${b}, percentage points`),
          plainTable("recall by class", ["class", "clips", a, b, "difference", "95 % interval", "p (Holm)"],
            found.classes.map((row) => [row.class, String(row.samples), percent(row.a), percent(row.b), percent(row.difference, 1, true),
              `${percent(row.low, 1, true)} to ${percent(row.high, 1, true)}`, pText(row.p_holm)])));
      }
    }
    rest.replaceChildren(...parts);
  }
  const head = element("div", { class: "facts" });
  const follow = () => {
    head.replaceChildren(element("strong", {}, `runs in ${model.get("data").folder}`), ...(model.get("data").synthetic ? ["synthetic data"] : []));
    table.show();
  };
  model.on("change:data", follow);
  for (const name of ["comparison", "selected", "quantity"]) model.on(`change:${name}`, compare);
  follow();
  compare();
  el.append(head, table.element, note, below);
  return look(model, el);
}
export default { render };
