// RunMonitor: a run that is trained anywhere.
import { themed } from "./common.js";
import { look } from "./panels.js";
import { monitorView } from "./follow.js";

function render({ model, el }) {
  const end = themed(el);
  el.append(monitorView(model));
  const away = look(model);
  return () => (end(), away());
}
export default { render };
