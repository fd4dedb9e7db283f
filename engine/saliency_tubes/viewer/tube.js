// The tube as a solid in x, y and time, drawn with OGL; the clip's current picture cuts through it.

const FIRST_VIEW = { yaw: store.state.yaw, pitch: store.state.pitch };

function startTube(canvas) {
  const renderer = new OGL.Renderer({ canvas, alpha: false, antialias: true, dpr: Math.min(2, devicePixelRatio || 1) });
  const { gl } = renderer;
  const camera = new OGL.Camera(gl, { fov: 27, near: 1, far: 40 });
  const texture = new OGL.Texture(gl, { image: stage.canvas, generateMipmaps: false });
  const table = new OGL.Texture(gl, { image: new Uint8Array(1024), width: 256, height: 1, generateMipmaps: false });
  const made = makeScene(gl);
  const { scene } = made;
  const frame = addFrame(gl, made, texture);
  const shells = makeShells(gl, made, table);
  const names = makeAxisNames(document.getElementById("tube-labels"));

  // A place in the box, as seen: x and y in [-1, 1] within the canvas.
  function project(point) {
    const v = new OGL.Vec3(...point).applyMatrix4(scene.worldMatrix);
    camera.project(v);
    return v;
  }

  function draw({ picture, yaw, pitch }) {
    const box = canvas.parentElement.getBoundingClientRect();
    const [width, height] = [Math.floor(box.width), Math.floor(box.height)];
    if (width < 1 || height < 1) return;
    if (renderer.width !== width || renderer.height !== height) renderer.setSize(width, height);
    scene.rotation.set(pitch, yaw, 0);
    scene.updateMatrixWorld();
    camera.perspective({ aspect: width / height });
    standBack(camera, project, [width, height]);
    const x = world.timeAt(times[picture]);
    frame.picture.position.x = frame.edge.position.x = x;
    shells.part(x, Math.sign(project([1, 0, 0]).z - project([-1, 0, 0]).z));
    renderer.render({ scene, camera });
    names.place((point) => {
      const { x: right, y: up } = project(point);
      return [((right + 1) / 2) * width, ((1 - up) / 2) * height];
    });
  }

  function theme() {
    const style = getComputedStyle(canvas);
    const colourOf = (name) => style.getPropertyValue(name).match(/[0-9a-f]{2}/gi).map((hex) => parseInt(hex, 16) / 255);
    gl.clearColor(...colourOf("--paper"), 1);
    frame.frameBox.own.colour = colourOf("--axis");
    frame.cropBox.own.colour = colourOf("--line");
    frame.edge.own.colour = colourOf("--accent");
  }

  function build({ field, label, common, level }) {
    if (field === null) return;
    document.getElementById("tube-empty").hidden = shells.build(volumeOf(field, scaleOf(label, common)), level);
  }

  function colour({ colormap }) {
    const rgb = colormaps[colormap];
    for (let i = 0; i < 256; i++) table.image.set([rgb[3 * i], rgb[3 * i + 1], rgb[3 * i + 2], 255], 4 * i);
    table.needsUpdate = true;
  }

  theme();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    theme();
    draw(store.state);
  });
  store.on(["field", "label", "common", "level"], build);
  store.on(["colormap"], colour);
  // Whatever changes the clip's canvas changes the picture in the tube, too.
  store.on([...stage.drawnFrom, "level", "yaw", "pitch"], (state) => {
    texture.needsUpdate = true;
    draw(state);
  });
  new ResizeObserver(() => draw(store.state)).observe(canvas.parentElement);
  canvas.addEventListener("webglcontextlost", () =>
    tubeUnavailable("The graphics driver gave up the 3-D view; reload the page to bring it back."),
  );
  turnable(canvas);
}

// As near as the whole box allows however it is turned, in the middle, with room around it for the axes' names.
function standBack(camera, project, [width, height]) {
  const { x, y, z } = world.half;
  const room = [Math.max(0.5, 1 - 52 / width), Math.max(0.5, 1 - 56 / height)];
  const reach = Math.tan((camera.fov * Math.PI) / 360);
  camera.position.set(0, 0, 6);
  for (let i = 0; i < 6; i++) {
    camera.updateMatrixWorld();
    const seen = boxCorners([-x, x], [-y, y], [-z, z]).map(project);
    const bounds = (axis) => [Math.min(...seen.map((v) => v[axis])), Math.max(...seen.map((v) => v[axis]))];
    const [[left, right], [low, high]] = [bounds("x"), bounds("y")];
    camera.position.x += ((left + right) / 2) * camera.position.z * reach * camera.aspect;
    camera.position.y += ((low + high) / 2) * camera.position.z * reach;
    camera.position.z *= Math.max((right - left) / 2 / room[0], (high - low) / 2 / room[1]);
  }
  camera.updateMatrixWorld();
}

// The names of the axes, beside whichever edges of the box are outermost.
function makeAxisNames(parent) {
  const make = (text) => {
    const node = document.createElement("span");
    node.textContent = text;
    parent.append(node);
    return node;
  };
  const { x, y, z } = world.half;
  const signs = [[-1, -1], [-1, 1], [1, -1], [1, 1]];
  const axes = [
    { node: make("time"), edges: signs.map(([a, b]) => [[-x, a * y, b * z], [x, a * y, b * z]]), lowest: true },
    { node: make("x"), edges: signs.map(([a, b]) => [[a * x, b * y, -z], [a * x, b * y, z]]), lowest: true },
    { node: make("y"), edges: signs.map(([a, b]) => [[a * x, -y, b * z], [a * x, y, b * z]]), lowest: false },
  ];
  const ends = [make("0 s"), make(`${clipSeconds.toFixed(clipSeconds < 10 ? 1 : 0)} s`)];
  return {
    place(project) {
      const centre = project([0, 0, 0]);
      const put = (node, at, distance) => {
        const away = [at[0] - centre[0], at[1] - centre[1]];
        const length = Math.hypot(...away) || 1;
        node.style.transform =
          `translate(${(at[0] + (away[0] / length) * distance).toFixed(1)}px, ` +
          `${(at[1] + (away[1] / length) * distance).toFixed(1)}px) translate(-50%, -50%)`;
      };
      for (const { node, edges, lowest } of axes) {
        const projected = edges.map(([from, to]) => [project(from), project(to)]);
        const middle = ([from, to]) => [(from[0] + to[0]) / 2, (from[1] + to[1]) / 2];
        // The lowest edge on the screen for what lies flat, the one furthest to the right for what stands.
        const key = (pair) => (lowest ? middle(pair)[1] : middle(pair)[0]);
        const best = projected.reduce((a, b) => (key(b) > key(a) ? b : a));
        put(node, middle(best), 16);
        if (node === axes[0].node) ends.forEach((end, i) => put(end, best[i], 16));
      }
    },
  };
}

function turnable(canvas) {
  const turn = (yaw, pitch) =>
    store.set({ yaw: store.state.yaw + yaw, pitch: Math.min(1.5, Math.max(-1.5, store.state.pitch + pitch)) });
  let last = null;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    last = [event.clientX, event.clientY];
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!canvas.hasPointerCapture(event.pointerId) || last === null) return;
    turn((event.clientX - last[0]) * 0.01, (event.clientY - last[1]) * 0.01);
    last = [event.clientX, event.clientY];
  });
  const keys = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] };
  canvas.addEventListener("keydown", (event) => {
    if (event.key === "Home") store.set(FIRST_VIEW);
    else if (event.key in keys) turn(...keys[event.key]);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
}

function tubeUnavailable(reason) {
  document.getElementById("tube-view").hidden = true;
  const sentence = document.getElementById("tube-unavailable");
  sentence.textContent = reason;
  sentence.hidden = false;
}

// A canvas has one context for good, so this one is what OGL gets when it asks for its own.
const tubeCanvas = document.getElementById("tube-canvas");
const wanted = { alpha: false, antialias: true };
if (tubeCanvas.getContext("webgl2", wanted) || tubeCanvas.getContext("webgl", wanted)) startTube(tubeCanvas);
else tubeUnavailable("This browser offers no WebGL, which the 3-D view needs. Everything else on the page works without.");
