// What the page was told: the JSON in the document, and the bytes that it carries as base64.

const report = JSON.parse(document.getElementById("report-data").textContent);
const [pictureCount, mapHeight, mapWidth] = report.shape;

function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

// (256, 3) RGB tables by name.
const colormaps = Object.fromEntries(Object.entries(report.colormaps).map(([name, text]) => [name, bytesOf(text)]));

// The raw maps of a label, (n, h, w) in logit units, NaN where nothing was seen: `pack_maps` in report.py, undone.
async function unpackMaps(label) {
  const packed = new Blob([bytesOf(label.maps)]).stream().pipeThrough(new DecompressionStream("deflate"));
  const planes = new Uint8Array(await new Response(packed).arrayBuffer());
  const perPicture = mapHeight * mapWidth;
  const count = pictureCount * perPicture;
  const [least, most] = label.range;
  const codes = report.bits === 8 ? new Uint8Array(count) : new Uint16Array(count); // wrap, as they did when packed
  const last = report.bits === 8 ? 254 : 65534;
  const values = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    const before = i < perPicture ? 0 : codes[i - perPicture];
    codes[i] = before + planes[i] + (report.bits === 8 ? 0 : 256 * planes[count + i]);
    values[i] = codes[i] === 0 ? NaN : least + ((codes[i] - 1) / last) * (most - least);
  }
  return values;
}

// How the page calls a label: names may be missing, very long, or full of directions for text.
function labelName(label, longest = Infinity) {
  const name = label.name === null ? `class ${label.index}` : label.name.trim() || `class ${label.index}`;
  const letters = Array.from(name);
  return letters.length > longest ? `${letters.slice(0, longest - 1).join("")}…` : name;
}

function percent(probability) {
  if (probability === null) return "unknown";
  const value = 100 * probability;
  return `${value >= 99.95 && value < 100 ? ">99.9" : value > 0 && value < 0.05 ? "<0.1" : value.toFixed(1)} %`;
}

const fixed = (value, digits) => (value === null ? "unknown" : value.toFixed(digits).replace("-", "−"));
