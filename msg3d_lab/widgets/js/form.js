// TrainingPanel: a recipe as a form, what it costs, a button that starts it, and its monitor.
import { element, setValues } from "./common.js";
import { actionButton, hasKernel, look } from "./panels.js";
import { monitorView } from "./follow.js";

function formView(model) {
  const fields = new Map();
  const live = hasKernel(model);
  const disabled = !live;

  function save(name, value) {
    const field = model.get("fields").find((each) => each.name === name);
    const { [name]: _, ...others } = model.get("settings");
    setValues(model, { settings: value === field.value ? others : { ...others, [name]: value } });
  }
  function inputOf(field) {
    const id = `msg3d-${Math.random().toString(36).slice(2)}`;
    const common = { id, disabled, "data-name": field.name, "aria-describedby": `${id}-help` };
    let input;
    if (field.choices) {
      input = element("select", { ...common, onchange: () => save(field.name, input.value) },
        ...field.choices.map((value) => element("option", { value }, value)));
    } else if (field.kind === "tick") {
      input = element("input", { ...common, type: "checkbox", onchange: () => save(field.name, String(input.checked)) });
    } else {
      input = element("input", { ...common, type: "text", spellcheck: "false", oninput: () => save(field.name, input.value) });
    }
    const wrong = element("small", { class: "wrong", role: "alert" });
    const box = element("div", { class: "field" },
      element("label", { for: id }, element("span", {}, field.label), input), wrong, element("small", { id: `${id}-help` }, field.help));
    fields.set(field.name, { field, input, wrong, box });
    return box;
  }
  const sections = new Map();
  for (const field of model.get("fields")) sections.set(field.section, [...(sections.get(field.section) ?? []), field]);
  const folds = [...sections].map(([name, own]) =>
    element("details", { open: name === "training" && model.get("data").state === "missing", "data-section": name }, element("summary", {}, name), element("div", { class: "fields" }, ...own.map(inputOf))));

  const problem = element("p", { class: "problem", role: "alert" });
  const cost = element("div", { class: "facts", role: "status" });
  const measured = element("pre", { "aria-label": "measured" });
  const folder = element("input", {
    type: "text", size: 30, disabled, "aria-label": "run folder",
    oninput: () => setValues(model, { folder: folder.value }),
  });
  const start = actionButton(model, "begin", "start training", { main: true });
  start.addEventListener("click", () => {
    for (const fold of folds) fold.removeAttribute("open");
    start.closest(".form").scrollIntoView({ block: "nearest" }); // the run is below; the page became shorter
  });
  const measure = actionButton(model, "measure", "measure memory and time");
  const buttons = element("div", { class: "controls" }, ...(live ? [element("label", {}, "run folder", folder), start, measure] : []));
  const put = (input, value) => {
    if (input !== document.activeElement && input.value !== value) input.value = value; // what is typed stays
  };

  function show() {
    const [values, errors] = [model.get("settings"), model.get("errors")];
    for (const [name, { field, input, wrong, box }] of fields) {
      const value = String(values[name] ?? field.value);
      if (field.kind === "tick") input.checked = value === "true";
      else put(input, value);
      box.classList.toggle("changed", name in values);
      wrong.textContent = errors[name] ?? "";
      input.setAttribute("aria-invalid", String(name in errors));
      if (name in errors) box.closest("details").open = true;
    }
    problem.textContent = Object.entries(errors).filter(([name]) => !fields.has(name)).map(([, text]) => text).join("\n");
    cost.replaceChildren(...(model.get("counting") ? ["counting ..."] : []), ...Object.entries(model.get("cost")).map(([label, value]) => element("span", {}, `${label} `, element("b", {}, value))));
    measured.textContent = model.get("measured");
    measured.hidden = !measured.textContent;
    put(folder, model.get("folder"));
    start.disabled = Object.keys(errors).length > 0;
    measure.disabled = start.disabled || model.get("measuring");
  }
  for (const name of ["settings", "errors", "cost", "counting", "measured", "measuring", "folder", "answered"]) model.on(`change:${name}`, show);
  show();
  return element("div", { class: "form" }, element("strong", {}, `recipe ${model.get("recipe_name")}`), ...folds, problem, cost, buttons, measured);
}

function render({ model, el }) {
  el.append(formView(model), monitorView(model, true));
  return look(model, el);
}
export default { render };
