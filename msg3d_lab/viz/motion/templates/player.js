// The player: one clip, or two side by side and in step, drawn in an element.

const FADING = 6; // steps in which a trail fades

/** What a canvas needs of a clip that Python packed (`player_record`): numbers, and how far it reaches. */
function openClip(clip) {
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const values = new Int16Array(bytes(clip.coordinates).buffer);
  // How far the body reaches sideways (seen from any side), down and up: the picture fits all frames.
  let reach = 0.05, low = 1, high = -1;
  for (let i = 0; i < values.length; i += 3) {
    if (values[i] === -32768) continue; // a joint that is not seen
    const [x, y, z] = [values[i] / 32000, values[i + 1] / 32000, values[i + 2] / 32000];
    reach = Math.max(reach, Math.hypot(x, z));
    low = Math.min(low, y);
    high = Math.max(high, y);
  }
  const rise = Math.max(Math.abs(low), Math.abs(high), 0.05);
  return { ...clip, values, levels: clip.levels && bytes(clip.levels), reach, low, rise };
}

/** Draws one frame of an opened clip; returns where its joints are: per person, [x, y, nearness] or null. */
function drawClip(canvas, clip, { frame, azimuth, elevation, trail, joint, css }) {
  const [M, T, V] = clip.shape;
  const scale = window.devicePixelRatio || 1;
  const size = [canvas.clientWidth, canvas.clientHeight];
  if (canvas.width !== Math.round(size[0] * scale) || canvas.height !== Math.round(size[1] * scale)) {
    canvas.width = Math.round(size[0] * scale);
    canvas.height = Math.round(size[1] * scale);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, ...size);
  const [paper, grid, line, soft, ink, mark, ...sides] =
    ["--paper", "--soft", "--faint", "--muted", "--ink", "--mark", "--middle", "--left", "--right"].map((name) => css.getPropertyValue(name).trim());
  const [ca, sa, ce, se] = [Math.cos(azimuth), Math.sin(azimuth), Math.cos(elevation), Math.sin(elevation)];
  const fit = 0.86 * Math.min(size[0] / 2 / clip.reach, size[1] / 2 / clip.rise);
  const project = (x, y, z) => {
    const across = x * ca + z * sa, depth = z * ca - x * sa;
    const up = y * ce - depth * se, towards = y * se + depth * ce;
    const near = clip.flat ? 1 : 1 / (1 - 0.16 * towards);
    return [size[0] / 2 + across * near * fit, size[1] / 2 - up * near * fit, near];
  };
  const place = (m, t, v) => {
    const i = ((m * T + t) * V + v) * 3;
    return clip.values[i] === -32768 ? null : project(clip.values[i] / 32000, clip.values[i + 1] / 32000, clip.values[i + 2] / 32000);
  };
  const stroke = (a, b) => {
    pen.beginPath();
    pen.moveTo(a[0], a[1]);
    pen.lineTo(b[0], b[1]);
    pen.stroke();
  };
  if (!clip.flat) {
    pen.strokeStyle = grid;
    pen.lineWidth = 1;
    pen.beginPath();
    for (let i = -3; i <= 3; i++) {
      for (const ends of [[[i, -3], [i, 3]], [[-3, i], [3, i]]]) {
        const [a, b] = ends.map((end) => project((end[0] / 3) * clip.reach, clip.low, (end[1] / 3) * clip.reach));
        pen.moveTo(a[0], a[1]);
        pen.lineTo(b[0], b[1]);
      }
    }
    pen.stroke();
  }
  const unit = Math.max(size[0] / 320, 0.7);
  const bodies = Array.from({ length: M }, (_, m) => Array.from({ length: V }, (_, v) => place(m, frame, v)));
  pen.lineCap = "round";
  bodies.forEach((at, m) => {
    for (const v of trail ? (joint >= 0 ? [joint] : clip.tips) : []) {
      pen.strokeStyle = sides[clip.side[v]];
      pen.lineWidth = 1.6 * unit;
      for (let step = 0; step < FADING; step++) {
        const [newest, oldest] = [step, step + 1].map((s) => Math.max(0, frame - Math.floor((s * trail) / FADING)));
        pen.globalAlpha = 0.75 * (1 - step / FADING);
        pen.beginPath();
        for (let t = newest; t > oldest; t--) {
          const [a, b] = [place(m, t - 1, v), place(m, t, v)];
          if (!a || !b) continue;
          pen.moveTo(a[0], a[1]);
          pen.lineTo(b[0], b[1]);
        }
        pen.stroke();
      }
      pen.globalAlpha = 1;
    }
    for (const [i, j] of clip.edges) {
      if (!at[i] || !at[j]) continue;
      pen.strokeStyle = clip.levels ? line : sides[Math.max(clip.side[i], clip.side[j])];
      pen.lineWidth = ((m ? 1.6 : 3.4) * unit * (at[i][2] + at[j][2])) / 2;
      stroke(at[i], at[j]);
    }
    at.forEach((p, v) => {
      if (!p) return;
      pen.beginPath();
      if (clip.levels) {
        // The colour is the value, the area its size.
        const level = clip.levels[(m * T + frame) * V + v];
        const part = clip.signed ? Math.abs(level - 127) / 127 : level / 254;
        pen.arc(p[0], p[1], Math.sqrt(5 + 60 * part) * unit * p[2], 0, 2 * Math.PI);
        pen.fillStyle = clip.colors[level];
        pen.strokeStyle = soft;
        pen.lineWidth = 0.8 * unit;
        pen.fill();
        pen.stroke();
      } else {
        pen.arc(p[0], p[1], (v === clip.head ? 7 : 2.8) * unit * p[2], 0, 2 * Math.PI);
        pen.fillStyle = m ? paper : sides[clip.side[v]];
        pen.strokeStyle = sides[clip.side[v]];
        pen.lineWidth = 1.6 * unit;
        pen.fill();
        if (m) pen.stroke();
      }
      if (v !== joint) return;
      pen.beginPath();
      pen.arc(p[0], p[1], 11 * unit, 0, 2 * Math.PI);
      pen.strokeStyle = mark;
      pen.lineWidth = 2.5 * unit;
      pen.stroke();
      if (m === 0) {
        pen.font = `600 ${12 * Math.min(unit, 1.4)}px system-ui, sans-serif`;
        pen.fillStyle = ink;
        pen.textAlign = p[0] > size[0] / 2 ? "right" : "left";
        pen.fillText(clip.joints[v], p[0] + (p[0] > size[0] / 2 ? -15 : 15) * unit, p[1] - 12 * unit);
      }
    });
  });
  return bodies;
}

/**
 * Builds a player in an element.
 *
 * records: of `player_record`; the second is shown in step with the first. state: frame, speed, trail (frames),
 * joint (-1: none), playing; changed(name, value) is called when the reader changes one (the frame of a
 * playing clip: five times a second). Returns { set, replace, redraw, remove }.
 */
export function buildPlayer(root, records, { state: given = {}, changed = () => {} } = {}) {
  const state = { frame: 0, speed: 1, trail: 0, joint: -1, playing: false, ...given };
  root.dataset.ready = "true";
  // The keys of what has the focus are the player's: JupyterLab would move between cells.
  root.addEventListener("focusin", ({ target }) => (target.dataset.lmSuppressShortcuts = "true"));
  const body = document.createElement("div");
  body.innerHTML = `<div class="views"></div><div class="bar"><button type="button" class="play"></button>
    <input type="range" min="0" step="1" aria-label="Frame">
    <select class="speed" aria-label="Speed"><option value="0.25">¼ speed</option><option value="0.5">½ speed</option><option value="1">1× speed</option><option value="2">2× speed</option></select>
    <select class="trail" aria-label="Trails"><option value="0">no trails</option><option value="10">short trails</option><option value="30">long trails</option></select>
    <button type="button" class="front">Front</button></div>
    <div class="note"><span class="sides"></span><span class="joint" aria-live="polite"></span><output></output></div>`;
  root.append(body);
  const [views, play, scrub, speed, trail, front, sides, named, output] =
    [".views", ".play", "input", ".speed", ".trail", ".front", ".sides", ".joint", "output"].map((name) => body.querySelector(name));
  let shown = []; // { clip, canvas, name, bodies }
  let length = 1; // frames of the longest clip
  let time = state.frame; // in frames, fractional
  let [azimuth, elevation] = [0, 0];
  let onScreen = true, last = 0, told = 0;

  const redraw = () => {
    const css = getComputedStyle(root);
    for (const view of shown) {
      const frame = Math.min(state.frame, view.clip.shape[1] - 1);
      view.bodies = drawClip(view.canvas, view.clip, { ...state, frame, azimuth, elevation, css });
    }
    root.dataset.frame = state.frame;
    root.dataset.view = `${azimuth.toFixed(2)} ${elevation.toFixed(2)}`;
    scrub.value = state.frame;
    const seconds = (state.frame / (shown[0]?.clip.fps ?? 1)).toFixed(2);
    scrub.setAttribute("aria-valuetext", `frame ${state.frame + 1} of ${length}, ${seconds} seconds`);
    output.textContent = `${state.frame + 1} / ${length} · ${seconds} s`;
  };
  const valueOf = (clip, joint) => {
    if (!clip.levels) return "";
    const [M, T, V] = clip.shape;
    const frame = Math.min(state.frame, T - 1);
    const values = Array.from({ length: M }, (_, m) => clip.levels[(m * T + frame) * V + joint])
      .map((level) => (clip.signed ? (level - 127) / 127 : level / 254) * clip.limit);
    return ` ${values.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a)).toPrecision(2)}`;
  };
  const sayJoint = (joint) => {
    named.textContent = joint < 0 ? "" : shown.map(({ clip }, i) => (i ? "" : clip.joints[joint]) + valueOf(clip, joint)).join(" ·");
  };
  const tell = (name, value) => {
    if (state[name] === value) return;
    state[name] = value;
    changed(name, value);
  };
  const tick = (now) => {
    if (!state.playing || !onScreen) return;
    // A tab that slept must not jump ahead; the first tick may carry a time before the start.
    const seconds = Math.min(Math.max(now - last, 0) / 1000, 0.25);
    time = (time + seconds * shown[0].clip.fps * state.speed) % length;
    last = now;
    state.frame = Math.floor(time);
    if (now - told > 200) {
      told = now;
      changed("frame", state.frame);
    }
    redraw();
    if (state.joint >= 0) sayJoint(state.joint);
    requestAnimationFrame(tick);
  };
  const start = () => {
    last = performance.now();
    requestAnimationFrame(tick);
  };
  const showPlaying = () => {
    root.dataset.playing = state.playing;
    play.textContent = state.playing ? "Pause" : "Play";
  };
  const setPlaying = (wanted) => {
    if (state.playing === wanted) return;
    if (!wanted) changed("frame", state.frame);
    tell("playing", wanted);
    showPlaying();
    if (wanted && onScreen) start();
  };
  const show = (frame) => {
    setPlaying(false);
    time = Math.min(Math.max(frame, 0), length - 1);
    tell("frame", time);
    redraw();
    if (state.joint >= 0) sayJoint(state.joint);
  };
  const choose = (joint) => {
    tell("joint", joint);
    sayJoint(joint);
    redraw();
  };
  const turn = (round, up) => {
    if (shown.every(({ clip }) => clip.flat)) return;
    azimuth += round;
    elevation = Math.min(Math.max(elevation + up, -1.4), 1.4);
    redraw();
  };
  const nearest = (view, event) => {
    let best = [14, -1]; // pixels, joint
    for (const at of view.bodies ?? []) {
      at.forEach((p, v) => {
        const far = p ? Math.hypot(p[0] - event.offsetX, p[1] - event.offsetY) : Infinity;
        if (far < best[0]) best = [far, v];
      });
    }
    return best[1];
  };
  const onKey = (event) => {
    const step = 0.12, joints = shown[0].clip.joints.length;
    const keys = event.shiftKey
      ? { ArrowLeft: () => turn(-step, 0), ArrowRight: () => turn(step, 0), ArrowUp: () => turn(0, step), ArrowDown: () => turn(0, -step), J: () => choose(((state.joint + joints + 1) % (joints + 1)) - 1) }
      : { " ": () => setPlaying(!state.playing), ArrowLeft: () => show(state.frame - 1), ArrowRight: () => show(state.frame + 1), Home: () => show(0), End: () => show(length - 1), j: () => choose(((state.joint + 2) % (joints + 1)) - 1), Escape: () => choose(-1) };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  };
  const resized = new ResizeObserver(redraw);

  const addView = (record) => {
    const clip = openClip(record);
    const view = document.createElement("div");
    view.className = "view";
    view.innerHTML = `<div class="name"></div><canvas tabindex="0" role="img"></canvas>`;
    const [name, canvas] = view.children;
    name.textContent = clip.title;
    const turns = clip.flat ? "" : ", Shift with the arrows turns it";
    const meaning = clip.levels ? ` Joints are coloured and sized by ${clip.label}.` : "";
    canvas.setAttribute("aria-label", `${clip.title}: moving skeleton. Space plays and pauses, left and right arrows step through the frames, J names the joints${turns}.${meaning}`);
    canvas.toggleAttribute("data-flat", clip.flat);
    if (clip.levels) {
      const scale = document.createElement("div");
      scale.className = "scale";
      scale.innerHTML = `<span></span><div class="colors"></div><span class="ends"></span>`;
      scale.children[0].textContent = clip.label;
      scale.children[1].style.background = `linear-gradient(to right,${clip.colors.filter((_, i) => i % 2 === 0).join(",")})`;
      for (const end of clip.ends) scale.children[2].append(Object.assign(document.createElement("span"), { textContent: end }));
      view.append(scale);
    }
    const own = { clip, canvas, bodies: [] };
    let moved = 0;
    canvas.addEventListener("keydown", onKey);
    canvas.addEventListener("pointerdown", (event) => {
      moved = 0;
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!event.buttons) {
        const near = nearest(own, event);
        return sayJoint(near < 0 ? state.joint : near);
      }
      moved += Math.abs(event.movementX) + Math.abs(event.movementY);
      turn(event.movementX * 0.012, event.pointerType === "touch" ? 0 : event.movementY * 0.012);
    });
    canvas.addEventListener("pointerleave", () => sayJoint(state.joint));
    canvas.addEventListener("click", (event) => {
      if (moved < 4 && event.detail) choose(nearest(own, event));
    });
    resized.observe(canvas);
    views.append(view);
    return own;
  };
  const replace = (clips) => {
    views.replaceChildren();
    resized.disconnect();
    shown = clips.map(addView);
    const flat = shown.every(({ clip }) => clip.flat);
    const valued = shown.some(({ clip }) => clip.levels);
    root.classList.toggle("valued", valued);
    root.classList.toggle("two", shown.length > 1);
    front.hidden = flat;
    [azimuth, elevation] = flat ? [0, 0] : [-0.45, 0.16]; // radians: a little from the side shows depth
    length = Math.max(1, ...shown.map(({ clip }) => clip.shape[1]));
    scrub.max = length - 1;
    const drag = flat ? "" : " · drag to turn";
    sides.innerHTML = (valued ? "from the front, left is on the right" : `<span class="l">left</span> · <span class="r">right</span>`) + drag;
    time = state.frame = Math.min(state.frame, length - 1);
    redraw();
    sayJoint(state.joint);
  };
  const set = (name, value) => {
    if (state[name] === value) return;
    if (name === "playing") return setPlaying(value);
    if (name === "frame") return show(value);
    state[name] = value;
    if (name === "speed") follow(speed, value);
    if (name === "trail") follow(trail, value);
    redraw();
    sayJoint(state.joint);
  };
  const follow = (select, value) => {
    // A number that Python chose gets an option of its own.
    if (![...select.options].some((option) => Number(option.value) === value)) {
      select.add(new Option(select === trail ? `${value} frames` : `${value}× speed`, value));
    }
    select.value = value;
  };

  play.addEventListener("click", () => setPlaying(!state.playing));
  scrub.addEventListener("input", () => show(Number(scrub.value)));
  speed.addEventListener("input", () => tell("speed", Number(speed.value)));
  trail.addEventListener("input", () => {
    tell("trail", Number(trail.value));
    redraw();
  });
  front.addEventListener("click", () => {
    azimuth = elevation = 0;
    redraw();
  });
  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", redraw);
  const visible = new IntersectionObserver(([entry]) => {
    const returns = entry.isIntersecting && !onScreen;
    onScreen = entry.isIntersecting;
    if (returns && state.playing) start();
  });
  visible.observe(views);

  follow(speed, state.speed);
  follow(trail, state.trail);
  replace(records);
  showPlaying();
  if (state.playing) start();
  return {
    set,
    replace,
    redraw,
    remove: () => {
      state.playing = false;
      resized.disconnect();
      visible.disconnect();
      dark.removeEventListener("change", redraw);
      body.remove();
    },
  };
}

/** Starts the players of a page that are not started yet; running it again does no harm. */
export function playersOfPage() {
  for (const root of document.querySelectorAll(".msg3d-player[data-key]:not([data-ready])")) {
    const clip = JSON.parse(root.querySelector("script.clip").textContent);
    root.querySelector(".still").hidden = true;
    const playing = clip.shape[1] > 1 && !matchMedia("(prefers-reduced-motion: reduce)").matches;
    buildPlayer(root, [clip], { state: { playing } });
  }
}
