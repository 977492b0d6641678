// Curves, speed and log of a run that is trained anywhere, with buttons.
import { element } from "./common.js";
import { actionButton, duration, hasKernel, lineChart, percent, replaceKeepingFocus, stateText } from "./panels.js";

const LABELS = { start: "start", resume: "resume", stop: "stop (writes a checkpoint)", test: "test" };
const PARTS = [["train", "training", 0], ["val", "validation", 1], ["test", "test", 1]];

/** An element that shows the run in the trait data; with onlyRuns nothing before there is one. */
export function monitorView(model, onlyRuns = false) {
  const head = element("div", { class: "facts" });
  const buttons = element("div", { class: "controls", role: "group", "aria-label": "actions" });
  const problem = element("p", { class: "problem", role: "alert" });
  const charts = element("div", { class: "panels" });
  const log = element("pre", { tabindex: 0, "aria-label": "log" });
  const made = element("div", { class: "monitor" }, head, buttons, problem, charts, log);
  let [drawn, offered, said] = ["", "", ""];

  function show() {
    const run = model.get("data");
    made.hidden = onlyRuns && run.state === "missing" && !run.problem;
    const fact = (label, value) => (value ? [element("span", {}, `${label} `, element("b", {}, value))] : []);
    const epoch = run.epoch === null ? "" : `${run.epoch.toFixed(run.state === "training" ? 1 : 0)} of ${run.epochs}`;
    head.replaceChildren(
      element("strong", { class: "name" }, run.name), stateText(run.state), ...fact("epoch", epoch),
      ...fact("training top-1", run.train_top1 === null ? "" : `${percent(run.train_top1)} %`),
      ...fact("speed", run.clips_per_s ? `${Math.round(run.clips_per_s)} clips/s` : ""),
      ...fact("left", duration(run.seconds_left)), ...fact("test top-1", run.tested), ...fact("by", run.holder));
    const actions = hasKernel(model) ? run.actions : [];
    if (offered !== (offered = `${actions} ${model.get("answered")}`)) {
      replaceKeepingFocus(buttons, ...actions.map((action, i) => actionButton(model, action, LABELS[action], { main: i === 0 })));
    }
    problem.textContent = run.problem;
    charts.hidden = !Object.values(run.curves).some((points) => points.length);
    if (drawn !== (drawn = JSON.stringify(run.curves))) {
      const chart = (quantity, title, options) => {
        const series = PARTS.map(([part, name, style]) => ({ name, style, points: run.curves[`${part}_${quantity}`] ?? [] }));
        return lineChart({ title, series, last: Math.max(run.epochs, 1), ...options });
      };
      charts.replaceChildren(
        chart("top1", "top-1 accuracy (%)", { low: 0, high: 100, text: (value) => `${value.toFixed(1)} %` }),
        chart("loss", "loss", { low: 0, text: (value) => value.toFixed(3) }));
    }
    if (said !== (said = run.log.join("\n"))) {
      log.textContent = said;
      requestAnimationFrame(() => (log.scrollTop = log.scrollHeight));
    }
    log.hidden = !said;
  }
  for (const name of ["data", "answered"]) model.on(`change:${name}`, show);
  show();
  return made;
}
