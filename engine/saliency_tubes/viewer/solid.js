// What the 3-D view is made of: the box in the world, the shaders, and the meshes.

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

const boxCorners = (x, y, z) => [0, 1, 2, 3, 4, 5, 6, 7].map((c) => [x[c >> 2], y[(c >> 1) & 1], z[c & 1]]);

function boxLines(x, y, z) {
  const corners = boxCorners(x, y, z);
  const edges = corners.flatMap((from, c) => [1, 2, 4].filter((bit) => !(c & bit)).map((bit) => [from, corners[c | bit]]));
  return new Float32Array(edges.flat(2));
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

// A scene that a tube is put together in: one program for each way of drawing, shared by the meshes that use it.
function makeScene(gl) {
  const scene = new OGL.Transform();
  scene.rotation.order = "XYZ"; // the yaw first, then the pitch
  const programOf = (shader, uniforms, options = {}) => {
    const named = Object.fromEntries(Object.entries(uniforms).map(([name, value]) => [name, { value }]));
    return new OGL.Program(gl, { ...shader, uniforms: named, cullFace: false, ...options });
  };
  // `own` are the mesh's values of the program's uniforms: change them, and the next drawing has them.
  const add = (mode, program, attributes, renderOrder = 0, own = {}) => {
    const geometry = new OGL.Geometry(gl, attributes);
    const mesh = new OGL.Mesh(gl, { mode, program, geometry, renderOrder, frustumCulled: false });
    mesh.own = own;
    mesh.onBeforeRender(() => {
      for (const [name, value] of Object.entries(mesh.own)) program.uniforms[name].value = value;
    });
    mesh.setParent(scene);
    return mesh;
  };
  return { scene, programOf, add };
}

// The edges of the frame through time and, where it differs, of the crop; the current picture with its own edge.
function addFrame(gl, { programOf, add }, texture) {
  const program = programOf(LINE_SHADER, { colour: [0, 0, 0] });
  const lines = (points) => add(gl.LINES, program, { position: { size: 3, data: points } }, 0, { colour: [0, 0, 0] });
  const { x, y, z } = world.half;
  const [top, bottom, left, right] = world.crop;
  const frameBox = lines(boxLines([-x, x], [-y, y], [-z, z]));
  const cropBox = lines(boxLines([-x, x], [top, bottom], [left, right]));
  cropBox.visible = !stage.wholeFrame;
  const edge = lines(boxLines([0, 0], [-y, y], [-z, z]));
  const seeThrough = { transparent: true, depthWrite: false };
  const corners = {
    position: { size: 3, data: new Float32Array([0, -y, -z, 0, -y, z, 0, y, -z, 0, y, z]) },
    uv: { size: 2, data: new Float32Array([0, 0, 1, 0, 0, 1, 1, 1]) },
    index: { data: new Uint16Array([0, 1, 2, 2, 1, 3]) },
  };
  const picture = add(gl.TRIANGLES, programOf(PICTURE_SHADER, { picture: texture }, seeThrough), corners, SHELLS.length);
  return { frameBox, cropBox, edge, picture };
}

// The tube's surfaces. What can be seen through is drawn from back to front: beyond the picture, the picture, before the
// picture; and outer shells after inner ones, since each encloses the one before.
function makeShells(gl, { programOf, add }, colourTable) {
  const uniforms = { colormap: colourTable, alpha: 1, cut: 0, side: 0 };
  const opaque = programOf(SURFACE_SHADER, uniforms);
  const seeThrough = programOf(SURFACE_SHADER, uniforms, { transparent: true, depthWrite: false, cullFace: gl.BACK });
  let shells = [];

  function addShell(volume, level, alpha, i) {
    const surface = surfaceOf(volume, level);
    if (surface.indices.length === 0) return [];
    const { positions, normals } = worldSurface(surface);
    const attributes = () => ({
      position: { size: 3, data: positions },
      normal: { size: 3, data: normals },
      value: { size: 1, data: surface.values },
      index: { data: surface.indices },
    });
    if (alpha === 1) return [add(gl.TRIANGLES, opaque, attributes(), i, { alpha, side: 0 })];
    return [i, SHELLS.length + i].map((order) => add(gl.TRIANGLES, seeThrough, attributes(), order, { alpha }));
  }

  return {
    // Build the surfaces anew; false where nothing is as high as the level.
    build(volume, level) {
      for (const shell of shells) {
        shell.setParent(null);
        shell.geometry.remove();
      }
      shells = SHELLS.flatMap(({ share, alpha }, i) =>
        addShell(volume, Math.max(1e-6, level + share * (1 - level)), alpha, i),
      );
      return shells.length > 0;
    },
    // Part what lies beyond the picture at `cut` from what lies before it. `away` is 1 where later is further away.
    part(cut, away) {
      for (const { own, program, renderOrder } of shells) {
        own.cut = cut;
        if (program === seeThrough) own.side = renderOrder < SHELLS.length ? away : -away;
      }
    },
  };
}
