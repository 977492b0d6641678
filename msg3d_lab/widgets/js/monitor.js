// RunMonitor: a run that is trained anywhere.
import { look } from "./panels.js";
import { monitorView } from "./follow.js";

function render({ model, el }) {
  el.append(monitorView(model));
  return look(model, el);
}
export default { render };
