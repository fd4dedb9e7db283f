// The tube as a solid in x, y and time, drawn with OGL; the clip's current picture cuts through it.

const SURFACE_SHADER = {
  vertex: `
    attribute vec3 position;
    attribute vec3 normal;
    attribute float value;
    uniform mat4 modelViewMatrix;
    uniform mat4 projectionMatrix;
    uniform mat3 normalMatrix;
    varying vec3 vNormal;
    varying vec3 vToEye;
    varying float vValue;
    varying float vTime;
    void main() {
      vec4 inView = modelViewMatrix * vec4(position, 1.0);
      vNormal = normalMatrix * normal;
      vToEye = -inView.xyz;
      vValue = value;
      vTime = position.x;
      gl_Position = projectionMatrix * inView;
    }`,
  fragment: `
    precision highp float;
    uniform sampler2D colormap;
    uniform float alpha;
    uniform float cut;
    uniform float side;
    varying vec3 vNormal;
    varying vec3 vToEye;
    varying float vValue;
    varying float vTime;
    void main() {
      if (side * (vTime - cut) < 0.0) discard;
      float facing = abs(dot(normalize(vNormal), normalize(vToEye)));
      vec3 colour = texture2D(colormap, vec2((vValue * 255.0 + 0.5) / 256.0, 0.5)).rgb;
      float opacity = alpha < 1.0 ? alpha + 0.45 * pow(1.0 - facing, 2.0) : 1.0;
      gl_FragColor = vec4(colour * (0.5 + 0.5 * facing), opacity);
    }`,
};

const LINE_SHADER = {
  vertex: `
    attribute vec3 position;
    uniform mat4 modelViewMatrix;
    uniform mat4 projectionMatrix;
    void main() { gl_Position = projectionMatrix * modelViewMatrix * vec4(position, 1.0); }`,
  fragment: `
    precision highp float;
    uniform vec3 colour;
    void main() { gl_FragColor = vec4(colour, 1.0); }`,
};

const PICTURE_SHADER = {
  vertex: `
    attribute vec3 position;
    attribute vec2 uv;
    uniform mat4 modelViewMatrix;
    uniform mat4 projectionMatrix;
    varying vec2 vUv;
    void main() { vUv = uv; gl_Position = projectionMatrix * modelViewMatrix * vec4(position, 1.0); }`,
  fragment: `
    precision highp float;
    uniform sampler2D picture;
    varying vec2 vUv;
    void main() { gl_FragColor = vec4(texture2D(picture, vUv).rgb, 0.8); }`,
};

const FIRST_VIEW = { yaw: store.state.yaw, pitch: store.state.pitch };
const LENGTH = 1.8; // of the time axis; the frame's longer side is 1
// The surfaces, innermost first: how far from the level to the top each lies, and how opaque it is.
const SHELLS = [
  { share: 0.66, alpha: 1 },
  { share: 0.33, alpha: 0.5 },
  { share: 0, alpha: 0.32 },
];

// World: X is time, Y is up, Z is to the frame's right, so that the frame is not mirrored when seen from its front.
const world = (() => {
  const [width, height] = report.size;
  const longer = Math.max(width, height);
  const half = { x: LENGTH / 2, y: height / longer / 2, z: width / longer / 2 };
  const [left, top, right, bottom] = report.box;
  const span = pictureCount > 1 ? times[lastPicture] / clipSeconds : 1;
  return {
    half,
    crop: [top, bottom].map((y) => half.y * (1 - 2 * y)).concat([left, right].map((x) => half.z * (2 * x - 1))),
    timeAt: (seconds) => half.x * ((2 * seconds) / clipSeconds - 1),
    // From (time, y, x) in the volume, each in [0, 1].
    point: (t, y, x) => [
      half.x * (2 * t * span - 1),
      half.y * (1 - 2 * (top + y * (bottom - top))),
      half.z * (2 * (left + x * (right - left)) - 1),
    ],
  };
})();

function boxLines([x0, x1], [y0, y1], [z0, z1]) {
  const corner = (c) => [c & 4 ? x1 : x0, c & 2 ? y1 : y0, c & 1 ? z1 : z0];
  const points = [];
  for (let c = 0; c < 8; c++) for (const bit of [1, 2, 4]) if (!(c & bit)) points.push(...corner(c), ...corner(c | bit));
  return new Float32Array(points);
}

// A surface's places in the world, and its normals: the sum of the sides around each vertex.
function worldSurface(surface) {
  const positions = new Float32Array(surface.positions.length);
  for (let i = 0; i < positions.length; i += 3) positions.set(world.point(...surface.positions.subarray(i, i + 3)), i);
  const normals = new Float32Array(positions.length);
  const { indices } = surface;
  for (let i = 0; i < indices.length; i += 3) {
    const [a, b, c] = [3 * indices[i], 3 * indices[i + 1], 3 * indices[i + 2]];
    const u = [0, 1, 2].map((k) => positions[b + k] - positions[a + k]);
    const v = [0, 1, 2].map((k) => positions[c + k] - positions[a + k]);
    for (let k = 0; k < 3; k++) {
      const n = u[(k + 1) % 3] * v[(k + 2) % 3] - u[(k + 2) % 3] * v[(k + 1) % 3];
      normals[a + k] += n;
      normals[b + k] += n;
      normals[c + k] += n;
    }
  }
  return { positions, normals };
}

function startTube(canvas) {
  const labels = document.getElementById("tube-labels");
  const renderer = new OGL.Renderer({ canvas, alpha: false, antialias: true, dpr: Math.min(2, devicePixelRatio || 1) });
  const { gl } = renderer;
  const camera = new OGL.Camera(gl, { fov: 27, near: 1, far: 40 });
  const scene = new OGL.Transform();
  scene.rotation.order = "XYZ"; // the yaw first, then the pitch

  const colourOf = (name) => {
    const [r, g, b] = getComputedStyle(canvas).getPropertyValue(name).match(/[0-9a-f]{2}/gi);
    return [r, g, b].map((hex) => parseInt(hex, 16) / 255);
  };
  const mesh = (mode, shader, uniforms, attributes, options) => {
    const program = new OGL.Program(gl, { ...shader, uniforms, cullFace: false, ...options });
    const made = new OGL.Mesh(gl, { mode, program, geometry: new OGL.Geometry(gl, attributes), frustumCulled: false });
    made.setParent(scene);
    return made;
  };
  const lines = (points) =>
    mesh(gl.LINES, LINE_SHADER, { colour: { value: [0, 0, 0] } }, { position: { size: 3, data: points } });

  const { half } = world;
  const frameBox = lines(boxLines([-half.x, half.x], [-half.y, half.y], [-half.z, half.z]));
  const [cropTop, cropBottom, cropLeft, cropRight] = world.crop;
  const cropBox = lines(boxLines([-half.x, half.x], [cropTop, cropBottom], [cropLeft, cropRight]));
  cropBox.visible = !stage.wholeFrame;

  const texture = new OGL.Texture(gl, { image: stage.canvas, generateMipmaps: false });
  const [y, z] = [half.y, half.z];
  const picture = mesh(
    gl.TRIANGLES,
    PICTURE_SHADER,
    { picture: { value: texture } },
    {
      position: { size: 3, data: new Float32Array([0, -y, -z, 0, -y, z, 0, y, -z, 0, y, z]) },
      uv: { size: 2, data: new Float32Array([0, 0, 1, 0, 0, 1, 1, 1]) },
      index: { data: new Uint16Array([0, 1, 2, 2, 1, 3]) },
    },
    { transparent: true, depthWrite: false },
  );
  picture.renderOrder = SHELLS.length;
  const edge = lines(boxLines([0, 0], [-y, y], [-z, z]));

  const colourTable = new OGL.Texture(gl, {
    image: new Uint8Array(1024),
    width: 256,
    height: 1,
    generateMipmaps: false,
  });
  let shells = [];

  function build({ field, label, common, level }) {
    if (field === null) return;
    for (const shell of shells) {
      shell.setParent(null);
      shell.geometry.remove();
      shell.program.remove();
    }
    const volume = volumeOf(field, scaleOf(label, common));
    shells = SHELLS.flatMap(({ share, alpha }, i) => {
      const surface = surfaceOf(volume, Math.max(1e-6, level + share * (1 - level)));
      if (surface.indices.length === 0) return [];
      const { positions, normals } = worldSurface(surface);
      const shell = (side, order) => {
        const made = mesh(
          gl.TRIANGLES,
          SURFACE_SHADER,
          { colormap: { value: colourTable }, alpha: { value: alpha }, cut: { value: 0 }, side: { value: side } },
          {
            position: { size: 3, data: positions },
            normal: { size: 3, data: normals },
            value: { size: 1, data: surface.values },
            index: { data: surface.indices },
          },
          alpha === 1 ? {} : { transparent: true, depthWrite: false, cullFace: gl.BACK },
        );
        made.renderOrder = order;
        return made;
      };
      // What can be seen through is drawn from back to front: beyond the picture, the picture, before the picture; and
      // outer shells after inner ones, since each encloses the one before.
      return alpha === 1 ? [shell(0, i)] : [shell(1, i), shell(-1, SHELLS.length + i)];
    });
    document.getElementById("tube-empty").hidden = shells.length > 0;
  }

  function colour({ colormap }) {
    const table = colormaps[colormap];
    for (let i = 0; i < 256; i++) colourTable.image.set([table[3 * i], table[3 * i + 1], table[3 * i + 2], 255], 4 * i);
    colourTable.needsUpdate = true;
  }

  function theme() {
    gl.clearColor(...colourOf("--paper"), 1);
    frameBox.program.uniforms.colour.value = colourOf("--axis");
    cropBox.program.uniforms.colour.value = colourOf("--line");
    edge.program.uniforms.colour.value = colourOf("--accent");
  }

  const names = makeAxisNames(labels);

  // A place in the box, as seen: x and y in [-1, 1] within the canvas.
  function project(point) {
    const v = new OGL.Vec3(...point).applyMatrix4(scene.worldMatrix);
    camera.project(v);
    return v;
  }

  // As near as the whole box allows however it is turned, in the middle, with room around it for the axes' names.
  function standBack(width, height) {
    const room = [width - 52, height - 56].map((pixels, i) => Math.max(0.5, pixels / [width, height][i]));
    const reach = Math.tan((camera.fov * Math.PI) / 360);
    camera.position.set(0, 0, 6);
    for (let i = 0; i < 6; i++) {
      camera.updateMatrixWorld();
      const corners = [0, 1, 2, 3, 4, 5, 6, 7].map((c) =>
        project([c & 4 ? half.x : -half.x, c & 2 ? half.y : -half.y, c & 1 ? half.z : -half.z]),
      );
      const bounds = (axis) => corners.map((corner) => corner[axis]).reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [9, -9]);
      const [[left, right], [low, high]] = [bounds("x"), bounds("y")];
      camera.position.x += ((left + right) / 2) * camera.position.z * reach * camera.aspect;
      camera.position.y += ((low + high) / 2) * camera.position.z * reach;
      camera.position.z *= Math.max((right - left) / 2 / room[0], (high - low) / 2 / room[1]);
    }
    camera.updateMatrixWorld();
  }

  function draw(state) {
    const { width, height } = canvas.parentElement.getBoundingClientRect();
    if (width < 1 || height < 1) return;
    if (renderer.width !== width || renderer.height !== height) renderer.setSize(width, height);
    scene.rotation.set(state.pitch, state.yaw, 0);
    camera.perspective({ aspect: width / height });
    scene.updateMatrixWorld();
    standBack(width, height);
    const x = world.timeAt(times[state.picture]);
    picture.position.x = edge.position.x = x;
    const towardsTheEnd = Math.sign(project([1, 0, 0]).z - project([-1, 0, 0]).z); // 1 where later is further away
    for (const { program, renderOrder } of shells) {
      program.uniforms.cut.value = x;
      if (program.transparent) program.uniforms.side.value = renderOrder < SHELLS.length ? towardsTheEnd : -towardsTheEnd;
    }
    renderer.render({ scene, camera });
    names.place((point) => {
      const { x: right, y: up } = project(point);
      return [((right + 1) / 2) * width, ((1 - up) / 2) * height];
    });
  }

  store.on(["field", "label", "common", "level"], build);
  store.on(["colormap"], colour);
  theme();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    theme();
    draw(store.state);
  });
  store.on(
    ["picture", "shownFrames", "field", "label", "common", "level", "colormap", "yaw", "pitch", "mode", "opacity", "threshold"],
    (state) => {
      texture.needsUpdate = true;
      draw(state);
    },
  );
  new ResizeObserver(() => draw(store.state)).observe(canvas.parentElement);
  canvas.addEventListener("webglcontextlost", () => tubeUnavailable("The graphics driver gave up the 3-D view; reload the page to bring it back."));
  turnable(canvas);
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
  const signs = [[-1, -1], [-1, 1], [1, -1], [1, 1]]; // prettier-ignore
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
