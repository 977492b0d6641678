// What all widgets share: elements, arrays, light and dark, and the model of a page without a kernel.

/** An element with attributes (functions are listeners: onclick, oninput, ...) and children. */
export function element(tag, attributes = {}, ...children) {
  const made = tag.startsWith("svg:")
    ? document.createElementNS("http://www.w3.org/2000/svg", tag.slice(4))
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name.slice(2), value);
    else if (value !== false && value !== undefined && value !== null) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

/** Writes a text where it differs: an equal one would be laid out again too. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** The numbers of an array that Python packed: { shape, values }. */
export async function unpack({ shape, type, data }) {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const buffer = await new Response(stream).arrayBuffer();
  const kinds = { float32: Float32Array, int32: Int32Array, int16: Int16Array, uint16: Uint16Array, uint8: Uint8Array, int8: Int8Array };
  return { shape, values: new kinds[type](buffer) };
}

/** Whether the notebook, or the page, around an element is dark. */
function isDark(el) {
  const lab = el.closest("[data-jp-theme-light]") ?? document.body;
  if (lab.dataset.jpThemeLight) return lab.dataset.jpThemeLight === "false";
  const page = document.documentElement.dataset; // the site: data-theme; VS Code: a class of the body
  if (page.theme) return page.theme === "dark";
  if (/vscode-(dark|light)/.test(document.body.className)) return document.body.className.includes("vscode-dark");
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

/** Makes an element the root of a widget, light or dark as what is around it; redraw is called when that changes. */
export function themed(el, redraw = () => {}) {
  // The keys of what has the focus are the widget's: JupyterLab would move between cells.
  el.addEventListener("focusin", ({ target }) => (target.dataset.lmSuppressShortcuts = "true"));
  const apply = () => {
    const dark = isDark(el);
    if (el.classList.contains("dark") === dark && el.classList.contains("msg3d-lab")) return;
    el.classList.add("msg3d-lab");
    el.classList.toggle("dark", dark);
    redraw();
  };
  apply();
  const watch = new MutationObserver(apply);
  for (const node of [document.documentElement, document.body]) watch.observe(node, { attributes: true });
  const query = matchMedia("(prefers-color-scheme: dark)");
  query.addEventListener("change", apply);
  return () => {
    watch.disconnect();
    query.removeEventListener("change", apply);
  };
}

/** A themed element whose picture is drawn again in another theme or size; forget drops cached colours. */
export function redrawn(el, redraw, forget) {
  const unwatch = themed(el, () => {
    forget();
    redraw();
  });
  const resized = new ResizeObserver(redraw);
  resized.observe(el);
  return () => {
    unwatch();
    resized.disconnect();
  };
}

/** A colour of the root's style, for a canvas: color(root, "--ink"). */
export function color(root, name) {
  return getComputedStyle(root).getPropertyValue(name).trim();
}

/** A canvas' pen with one unit per CSS pixel, sharp on any screen; the picture is cleared. */
export function clearCanvas(canvas) {
  const scale = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  return { pen, width, height };
}

/** Makes a canvas a picture with a pixel per value, for drawImage; colorAt(i) is [r, g, b], or nothing. */
export function fillPixels(canvas, columns, rows, colorAt) {
  const image = new ImageData(columns, rows);
  for (let i = 0; i < columns * rows; i++) {
    const rgb = colorAt(i);
    if (rgb) image.data.set([...rgb, 255], 4 * i);
  }
  [canvas.width, canvas.height] = [columns, rows];
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** Calls redraw once before the next picture, however often it is asked. */
export function oncePerFrame(redraw) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      redraw();
    });
  };
}

/** Sets values of the model, and tells Python. */
export function setValues(model, values) {
  for (const [name, value] of Object.entries(values)) model.set(name, value);
  model.save_changes();
}

/** A labelled drop-down, slider or tick box that sets a value of the model and follows it. */
export function control(model, name, label, options = {}) {
  const id = `msg3d-${Math.random().toString(36).slice(2)}`;
  let input;
  if (options.choices) {
    input = element("select", { id }, ...options.choices.map(([value, text]) => element("option", { value }, text)));
  } else if (options.tick) {
    input = element("input", { id, type: "checkbox" });
  } else {
    input = element("input", { id, type: "range", min: options.min ?? 0, max: options.max, step: options.step ?? 1 });
  }
  const output = element("output", { for: id });
  const text = options.text ?? String;
  const follow = () => {
    const value = model.get(name);
    if (options.tick) input.checked = value;
    else input.value = value;
    if (!options.choices && !options.tick) {
      output.textContent = text(value);
      input.setAttribute("aria-valuetext", text(value));
    }
  };
  input.addEventListener("input", () => {
    const raw = options.tick ? input.checked : input.value;
    setValues(model, { [name]: options.tick || (options.choices && !options.number) ? raw : Number(raw) });
  });
  model.on(`change:${name}`, follow);
  follow();
  const made = element("label", { for: id }, label, input);
  if (!options.choices && !options.tick) made.append(output);
  return made;
}

/** The model of a page without a kernel: values that only this page knows. */
function savedModel(state) {
  const listeners = new Map();
  const call = (name) => (listeners.get(name) ?? []).forEach((listener) => listener());
  return {
    get: (name) => state[name],
    set: (name, value) => {
      if (state[name] === value) return;
      state[name] = value;
      call(`change:${name}`);
      call("change");
    },
    on: (name, listener) => listeners.set(name, [...(listeners.get(name) ?? []), listener]),
    off: (name, listener) => listeners.set(name, (listeners.get(name) ?? []).filter((l) => l !== listener)),
    save_changes: () => {},
    send: () => {},
  };
}

/** Shows a widget where its still picture is. */
export function showWithoutKernel(widget, key) {
  for (const figure of document.querySelectorAll(`figure[data-key="${key}"]:not([data-ready])`)) {
    figure.dataset.ready = "true";
    const state = JSON.parse(figure.querySelector("script[type='application/json']").textContent);
    const el = figure.querySelector(".msg3d-live");
    widget.render({ model: savedModel(state), el });
    figure.querySelector(".msg3d-still").hidden = true;
    figure.classList.remove("msg3d-lab"); // the widget has its own paper, light or dark
  }
}
