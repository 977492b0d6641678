// Player: one clip, or two in step; the drawing is that of the players of reports and pages.
import { element, themed } from "./common.js";
import { playerOf } from "./players.js";

function render({ model, el }) {
  const root = element("figure", { class: "msg3d-player" });
  el.append(root);
  let player = null;
  const unwatch = themed(el, () => player?.redraw());
  player = playerOf(model, root, model.get("data").clips);
  model.on("change:data", () => player.replace(model.get("data").clips));
  return () => {
    unwatch();
    player.remove();
  };
}
export default { render };
