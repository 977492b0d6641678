// Sets up every player of the page that is not set up yet; running it again does no harm.
(() => {
  const HIDDEN = -32768;
  const START = [-0.45, 0.16]; // radians round the body and up: a little from the side shows depth

  const setUp = (root) => {
    root.dataset.ready = "true";
    const clip = JSON.parse(root.querySelector("script.clip").textContent);
    const [M, T, V] = clip.shape;
    const bytes = Uint8Array.from(atob(clip.coordinates), (c) => c.charCodeAt(0));
    const values = new Int16Array(bytes.buffer);
    const levels = clip.levels && Uint8Array.from(atob(clip.levels), (c) => c.charCodeAt(0));
    const canvas = root.querySelector("canvas");
    const pen = canvas.getContext("2d");
    const [play, scrub, speed, front, output] =
      [".play", "input", "select", ".front", "output"].map((name) => root.querySelector(name));

    let time = 0; // in frames, fractional
    let playing = false, onScreen = true, last = 0;
    let [azimuth, elevation] = clip.flat ? [0, 0] : START;

    // How far the body reaches sideways (seen from any side), down and up: the picture fits all frames.
    let reach = 0.05, low = 1, high = -1;
    for (let i = 0; i < values.length; i += 3) {
      if (values[i] === HIDDEN) continue;
      const [x, y, z] = [values[i] / 32000, values[i + 1] / 32000, values[i + 2] / 32000];
      reach = Math.max(reach, Math.hypot(x, z));
      low = Math.min(low, y);
      high = Math.max(high, y);
    }
    const rise = Math.max(Math.abs(low), Math.abs(high), 0.05);

    const project = (x, y, z, size) => {
      const [ca, sa, ce, se] = [Math.cos(azimuth), Math.sin(azimuth), Math.cos(elevation), Math.sin(elevation)];
      const across = x * ca + z * sa, depth = z * ca - x * sa;
      const up = y * ce - depth * se, towards = y * se + depth * ce;
      const near = clip.flat ? 1 : 1 / (1 - 0.16 * towards);
      const fit = 0.86 * Math.min(size[0] / 2 / reach, size[1] / 2 / rise);
      return [size[0] / 2 + across * near * fit, size[1] / 2 - up * near * fit, near];
    };

    const drawFloor = (size, color) => {
      pen.strokeStyle = color;
      pen.lineWidth = 1;
      pen.beginPath();
      for (let i = -3; i <= 3; i++) {
        for (const [a, b] of [[[i, -3], [i, 3]], [[-3, i], [3, i]]]) {
          const [x0, y0] = project((a[0] / 3) * reach, low, (a[1] / 3) * reach, size);
          const [x1, y1] = project((b[0] / 3) * reach, low, (b[1] / 3) * reach, size);
          pen.moveTo(x0, y0);
          pen.lineTo(x1, y1);
        }
      }
      pen.stroke();
    };

    const draw = () => {
      const scale = window.devicePixelRatio || 1;
      const size = [canvas.clientWidth, canvas.clientHeight];
      if (canvas.width !== Math.round(size[0] * scale) || canvas.height !== Math.round(size[1] * scale)) {
        canvas.width = Math.round(size[0] * scale);
        canvas.height = Math.round(size[1] * scale);
      }
      pen.setTransform(scale, 0, 0, scale, 0, 0);
      pen.clearRect(0, 0, ...size);
      const css = getComputedStyle(root);
      const [paper, grid, line, soft, ...sides] = ["--paper", "--grid", "--line", "--soft", "--mid", "--left", "--right"]
        .map((name) => css.getPropertyValue(name).trim());
      if (!clip.flat) drawFloor(size, grid);
      const unit = Math.max(size[0] / 320, 0.7);
      const frame = Math.floor(time);
      for (let m = 0; m < M; m++) {
        const at = [];
        for (let v = 0; v < V; v++) {
          const i = ((m * T + frame) * V + v) * 3;
          at.push(values[i] === HIDDEN ? null
            : project(values[i] / 32000, values[i + 1] / 32000, values[i + 2] / 32000, size));
        }
        pen.lineCap = "round";
        for (const [i, j] of clip.edges) {
          if (!at[i] || !at[j]) continue;
          pen.strokeStyle = levels ? line : sides[Math.max(clip.side[i], clip.side[j])];
          pen.lineWidth = (m ? 1.6 : 3.4) * unit * (at[i][2] + at[j][2]) / 2;
          pen.beginPath();
          pen.moveTo(at[i][0], at[i][1]);
          pen.lineTo(at[j][0], at[j][1]);
          pen.stroke();
        }
        at.forEach((p, v) => {
          if (!p) return;
          pen.beginPath();
          if (levels) {
            // The colour is the value, the area its size.
            const level = levels[(m * T + frame) * V + v];
            const size = clip.signed ? Math.abs(level - 127) / 127 : level / 254;
            pen.arc(p[0], p[1], Math.sqrt(5 + 60 * size) * unit * p[2], 0, 2 * Math.PI);
            pen.fillStyle = clip.colors[level];
            pen.strokeStyle = soft;
            pen.lineWidth = 0.8 * unit;
            pen.fill();
            pen.stroke();
            return;
          }
          pen.arc(p[0], p[1], (v === clip.head ? 7 : 2.8) * unit * p[2], 0, 2 * Math.PI);
          pen.fillStyle = m ? paper : sides[clip.side[v]];
          pen.strokeStyle = sides[clip.side[v]];
          pen.lineWidth = 1.6 * unit;
          pen.fill();
          if (m) pen.stroke();
        });
      }
      root.dataset.frame = frame;
      root.dataset.view = `${azimuth.toFixed(2)} ${elevation.toFixed(2)}`;
      scrub.value = frame;
      const seconds = (frame / clip.fps).toFixed(2);
      scrub.setAttribute("aria-valuetext", `frame ${frame + 1} of ${T}, ${seconds} seconds`);
      output.textContent = `${frame + 1} / ${T} · ${seconds} s`;
    };

    const tick = (now) => {
      if (!playing || !onScreen) return;
      // A tab that slept must not jump ahead; the first tick may carry a time before the start.
      const seconds = Math.min(Math.max(now - last, 0) / 1000, 0.25);
      time = (time + seconds * clip.fps * Number(speed.value)) % T;
      last = now;
      draw();
      requestAnimationFrame(tick);
    };
    const start = () => {
      last = performance.now();
      requestAnimationFrame(tick);
    };
    const setPlaying = (wanted) => {
      const starts = wanted && !playing;
      playing = wanted;
      root.dataset.playing = playing;
      play.textContent = playing ? "Pause" : "Play";
      if (starts && onScreen) start();
    };
    const show = (frame) => {
      setPlaying(false);
      time = Math.min(Math.max(frame, 0), T - 1);
      draw();
    };
    const turn = (round, up) => {
      if (clip.flat) return;
      azimuth += round;
      elevation = Math.min(Math.max(elevation + up, -1.4), 1.4);
      draw();
    };

    play.addEventListener("click", () => setPlaying(!playing));
    scrub.addEventListener("input", () => show(Number(scrub.value)));
    front?.addEventListener("click", () => {
      azimuth = elevation = 0;
      draw();
    });
    canvas.addEventListener("keydown", (event) => {
      const frame = Math.floor(time);
      const step = 0.12;
      const keys = event.shiftKey
        ? { ArrowLeft: () => turn(-step, 0), ArrowRight: () => turn(step, 0), ArrowUp: () => turn(0, step), ArrowDown: () => turn(0, -step) }
        : { " ": () => setPlaying(!playing), ArrowLeft: () => show(frame - 1), ArrowRight: () => show(frame + 1), Home: () => show(0), End: () => show(T - 1) };
      if (!keys[event.key]) return;
      event.preventDefault();
      keys[event.key]();
    });
    canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
    canvas.addEventListener("pointermove", (event) => {
      if (event.buttons) turn(event.movementX * 0.012, event.pointerType === "touch" ? 0 : event.movementY * 0.012);
    });
    new ResizeObserver(draw).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    new IntersectionObserver(([entry]) => {
      const returns = entry.isIntersecting && !onScreen;
      onScreen = entry.isIntersecting;
      if (returns && playing) start();
    }).observe(canvas);

    draw();
    setPlaying(T > 1 && !matchMedia("(prefers-reduced-motion: reduce)").matches);
  };

  document.querySelectorAll(".msg3d-player:not([data-ready])").forEach(setUp);
})();
