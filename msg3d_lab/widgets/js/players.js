// Players in widgets: their values are those of a model.
import { setValues } from "./common.js";
import { buildPlayer } from "./player.js";

/** A player in an element whose values are those of a model; `records` are its clips. */
export function playerOf(model, root, records) {
  const names = ["frame", "speed", "trail", "joint", "playing"].filter((name) => model.get(name) !== undefined);
  const player = buildPlayer(root, records, {
    state: Object.fromEntries(names.map((name) => [name, model.get(name)])),
    changed: (name, value) => names.includes(name) && setValues(model, { [name]: value }),
  });
  for (const name of names) model.on(`change:${name}`, () => player.set(name, model.get(name)));
  return player;
}
