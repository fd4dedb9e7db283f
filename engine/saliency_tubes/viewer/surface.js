// The volume's surface at a level, as triangles: naive surface nets (Gibson, "Constrained Elastic Surface Nets", 1998).

const STEPS = 72; // in time, at most
const OUTSIDE = -1e3; // below every level: surfaces close at the volume's faces and where nothing was seen

// The tube as (T, GRID, GRID) in [0, 1], at even steps of the clip's time.
function volumeOf(field, scale) {
  const T = Math.max(2, Math.min(STEPS, pictureCount));
  const values = new Float32Array(T * GRID * GRID);
  for (let t = 0; t < T; t++) {
    const picture = pictureAt((t / (T - 1)) * times[lastPicture]);
    for (let i = 0; i < GRID * GRID; i++) {
      const value = field.coarse[picture * GRID * GRID + i];
      values[t * GRID * GRID + i] = field.seen[picture] ? onScale(value, scale) : OUTSIDE;
    }
  }
  return { values, T };
}

// Triangles around everything at or above `level`. Positions are (time, y, x), each in [0, 1]; every vertex has the tube's
// value there. Sides turn outwards where y points down, as it does in a picture.
function surfaceOf({ values, T }, level) {
  const size = [T, GRID, GRID];
  const at = (t, y, x) =>
    t < 0 || y < 0 || x < 0 || t >= T || y >= GRID || x >= GRID ? OUTSIDE : values[(t * GRID + y) * GRID + x];
  const cells = size.map((n) => n + 1); // from -1 to n - 1: one layer of cells beyond each face
  const vertexOf = new Int32Array(cells[0] * cells[1] * cells[2]).fill(-1);
  const cellAt = (t, y, x) => ((t + 1) * cells[1] + y + 1) * cells[2] + x + 1;
  const positions = [];
  const vertexValues = [];
  const indices = [];
  const corner = new Float32Array(8);

  for (let t = -1; t < T; t++) {
    for (let y = -1; y < GRID; y++) {
      for (let x = -1; x < GRID; x++) {
        let inside = 0;
        for (let c = 0; c < 8; c++) {
          corner[c] = at(t + (c >> 2), y + ((c >> 1) & 1), x + (c & 1));
          if (corner[c] >= level) inside++;
        }
        if (inside === 0 || inside === 8) continue;
        const place = crossing(corner, level);
        const where = [t + place[0], y + place[1], x + place[2]].map((v, axis) =>
          Math.min(size[axis] - 1, Math.max(0, v)),
        );
        vertexOf[cellAt(t, y, x)] = vertexValues.length;
        positions.push(...where.map((v, axis) => v / (size[axis] - 1)));
        vertexValues.push(Math.max(level, between(at, where, size)));
      }
    }
  }

  // Each edge of the grid that crosses the surface gives a quad between the four cells around it.
  const quad = (a, b, c, d, flip) => {
    if (flip) indices.push(a, b, c, a, c, d);
    else indices.push(a, c, b, a, d, c);
  };
  const cellVertex = (t, y, x) => vertexOf[cellAt(t, y, x)];
  for (let t = -1; t < T; t++) {
    for (let y = -1; y < GRID; y++) {
      for (let x = -1; x < GRID; x++) {
        const here = at(t, y, x) >= level;
        if (here !== at(t + 1, y, x) >= level && y >= 0 && x >= 0) {
          quad(cellVertex(t, y - 1, x - 1), cellVertex(t, y, x - 1), cellVertex(t, y, x), cellVertex(t, y - 1, x), !here);
        }
        if (here !== at(t, y + 1, x) >= level && t >= 0 && x >= 0) {
          quad(cellVertex(t - 1, y, x - 1), cellVertex(t - 1, y, x), cellVertex(t, y, x), cellVertex(t, y, x - 1), !here);
        }
        if (here !== at(t, y, x + 1) >= level && t >= 0 && y >= 0) {
          quad(cellVertex(t - 1, y - 1, x), cellVertex(t, y - 1, x), cellVertex(t, y, x), cellVertex(t - 1, y, x), !here);
        }
      }
    }
  }
  return {
    positions: new Float32Array(positions),
    values: new Float32Array(vertexValues),
    indices: new Uint32Array(indices),
  };
}

// The volume's value between its samples, linear along each axis.
function between(at, where, size) {
  const low = where.map((v, axis) => Math.min(Math.floor(v), size[axis] - 2));
  let sum = 0;
  for (let c = 0; c < 8; c++) {
    const step = [c >> 2, (c >> 1) & 1, c & 1];
    const weight = step.reduce((product, s, i) => product * (s ? where[i] - low[i] : 1 - where[i] + low[i]), 1);
    if (weight > 0) sum += weight * at(low[0] + step[0], low[1] + step[1], low[2] + step[2]);
  }
  return sum;
}

// The mean of the places where a cell's edges cross the level: (t, y, x) within the cell.
function crossing(corner, level) {
  const sum = [0, 0, 0];
  let count = 0;
  for (let a = 0; a < 8; a++) {
    for (const bit of [4, 2, 1]) {
      if (a & bit) continue;
      const b = a | bit;
      if (corner[a] >= level === corner[b] >= level) continue;
      const along = (level - corner[a]) / (corner[b] - corner[a]);
      [4, 2, 1].forEach((axis, i) => {
        sum[i] += axis === bit ? along : a & axis ? 1 : 0;
      });
      count++;
    }
  }
  return sum.map((v) => v / count);
}
