// Tubes as numbers: maps to any size, scales, energy, and the strongest place of a picture.

const GRID = 24; // a side of the coarse tube, from which energy, places and the volume are read

// Which of n cells, in fractions, sample `row` of m shows: corner-aligned, or where the report says that the cells of an
// axis (0 is y, 1 is x) lie. Samples are pixels, or, for `edges`, reach from one edge of the crop to the other.
function cellAt(axis, row, n, m, edges) {
  if (report.cells === null) return m === 1 ? 0 : (row * (n - 1)) / (m - 1);
  const [first, step] = report.cells[axis];
  const share = edges ? row / (m - 1) : (row + 0.5) / m;
  return Math.min(n - 1, Math.max(0, (share - first) / step));
}

// The (m, n) matrix that resamples n values at m places with cubic splines, mirrored at the ends: `spline_matrix` of
// upsample.py (Unser et al. 1993), row after row.
function splineMatrix(n, m, placeOf) {
  const inverse = splineCoefficients(n);
  const matrix = new Float32Array(m * n);
  for (let row = 0; row < m; row++) {
    const x = placeOf(row);
    for (let k = Math.floor(x) - 1; k <= Math.floor(x) + 2; k++) {
      const weight = cubicSpline(x - k);
      const at = mirrored(k, n);
      for (let j = 0; j < n; j++) matrix[row * n + j] += weight * inverse[at * n + j];
    }
  }
  return matrix;
}

function cubicSpline(x) {
  const d = Math.abs(x);
  return d < 1 ? 2 / 3 - d * d * (1 - d / 2) : d < 2 ? (2 - d) ** 3 / 6 : 0;
}

function mirrored(k, n) {
  if (n === 1) return 0;
  const folded = Math.abs(k) % (2 * (n - 1));
  return folded < n ? folded : 2 * (n - 1) - folded;
}

// (n, n): samples to spline coefficients. Solves the tridiagonal system (1 4 1)/6 for every unit vector (Thomas).
function splineCoefficients(n) {
  if (n === 1) return new Float64Array([1]);
  const upper = (i) => (i === 0 ? 2 : 1) / 6;
  const lower = (i) => (i === n - 1 ? 2 : 1) / 6;
  const inverse = new Float64Array(n * n);
  for (let j = 0; j < n; j++) {
    const c = new Float64Array(n);
    const d = new Float64Array(n);
    for (let i = 0; i < n; i++) {
      const pivot = 4 / 6 - (i ? lower(i) * c[i - 1] : 0);
      c[i] = upper(i) / pivot;
      d[i] = ((i === j ? 1 : 0) - (i ? lower(i) * d[i - 1] : 0)) / pivot;
    }
    for (let i = n - 1; i >= 0; i--) {
      inverse[i * n + j] = d[i] - (i < n - 1 ? c[i] * inverse[(i + 1) * n + j] : 0);
    }
  }
  return inverse;
}

// A resampler from (h, w) maps to (H, W), still in logit units.
function resampler(H, W, edges = false) {
  const rows = splineMatrix(mapHeight, H, (row) => cellAt(0, row, mapHeight, H, edges));
  const columns = splineMatrix(mapWidth, W, (column) => cellAt(1, column, mapWidth, W, edges));
  const between = new Float32Array(H * mapWidth);
  return (maps, picture, out) => {
    const start = picture * mapHeight * mapWidth;
    between.fill(0);
    for (let y = 0; y < H; y++) {
      for (let k = 0; k < mapHeight; k++) {
        const weight = rows[y * mapHeight + k];
        for (let x = 0; x < mapWidth; x++) {
          between[y * mapWidth + x] += weight * maps[start + k * mapWidth + x];
        }
      }
    }
    for (let y = 0; y < H; y++) {
      for (let x = 0; x < W; x++) {
        let sum = 0;
        for (let k = 0; k < mapWidth; k++) sum += between[y * mapWidth + k] * columns[x * mapWidth + k];
        out[y * W + x] = sum;
      }
    }
    return out;
  };
}

// A label's tube: its raw maps, the coarse tube, and which pictures the network saw.
function makeField(maps) {
  const perPicture = mapHeight * mapWidth;
  const coarse = new Float32Array(pictureCount * GRID * GRID);
  const seen = new Uint8Array(pictureCount);
  const resample = resampler(GRID, GRID, true);
  for (let i = 0; i < pictureCount; i++) {
    seen[i] = maps.subarray(i * perPicture, (i + 1) * perPicture).every(Number.isFinite) ? 1 : 0;
    if (seen[i]) resample(maps, i, coarse.subarray(i * GRID * GRID, (i + 1) * GRID * GRID));
  }
  return { maps, coarse, seen };
}

const fields = new Map();

// The field of label number `which`, unpacked when it is first asked for.
function fieldOf(which) {
  if (!fields.has(which)) fields.set(which, unpackMaps(report.labels[which]).then(makeField));
  return fields.get(which);
}

// The raw values shown as 0 and as 1.
function scaleOf(which, common) {
  const own = report.labels[which];
  if (!common) return { low: own.low, high: own.high };
  return {
    low: Math.min(...report.labels.map((label) => label.low)),
    high: Math.max(...report.labels.map((label) => label.high)),
  };
}

// A raw value on that scale, in [0, 1]; a constant map is 0 everywhere.
const onScale = (value, { low, high }) =>
  high > low ? Math.min(1, Math.max(0, (value - low) / (high - low))) : 0;

// The mean of the tube over the crop in every picture, NaN where nothing was seen. (Trapezoids: the coarse grid's outer
// samples stand for half a cell.)
function energyOf(field, scale) {
  const edge = (i) => (i === 0 || i === GRID - 1 ? 0.5 : 1);
  const energy = new Float32Array(pictureCount).fill(NaN);
  for (let i = 0; i < pictureCount; i++) {
    if (!field.seen[i]) continue;
    let sum = 0;
    for (let y = 0; y < GRID; y++) {
      for (let x = 0; x < GRID; x++) {
        sum += edge(y) * edge(x) * onScale(field.coarse[(i * GRID + y) * GRID + x], scale);
      }
    }
    energy[i] = sum / (GRID - 1) ** 2;
  }
  return energy;
}

// Where a picture's tube is highest, in words of the whole frame; null where it says nothing.
function strongestOf(field, picture, scale) {
  if (!field.seen[picture] || !(scale.high > scale.low)) return null;
  const values = field.coarse.subarray(picture * GRID * GRID, (picture + 1) * GRID * GRID);
  let at = 0;
  for (let i = 1; i < values.length; i++) if (values[i] > values[at]) at = i;
  const [left, top, right, bottom] = report.box;
  const x = left + ((at % GRID) / (GRID - 1)) * (right - left);
  const y = top + (Math.floor(at / GRID) / (GRID - 1)) * (bottom - top);
  return { value: onScale(values[at], scale), place: placeInWords(x, y) };
}

// The picture where the tube is highest.
function peakOf(field) {
  if (field === null) return 0;
  let at = -1;
  for (let i = 0; i < field.coarse.length; i++) {
    if (field.seen[Math.floor(i / (GRID * GRID))] && (at < 0 || field.coarse[i] > field.coarse[at])) at = i;
  }
  return Math.max(0, Math.floor(at / (GRID * GRID)));
}

function placeInWords(x, y) {
  const third = (v) => Math.min(2, Math.floor(3 * v));
  const across = ["left", "", "right"][third(x)];
  const down = ["upper", "", "lower"][third(y)];
  if (down && across) return `at the ${down} ${across}`;
  if (across) return `at the ${across}`;
  return down === "upper" ? "at the top" : down === "lower" ? "at the bottom" : "in the centre";
}
