// The clip with the tube over it, on a canvas of the clip's own size.

const stage = (() => {
  const canvas = document.getElementById("stage-canvas");
  [canvas.width, canvas.height] = report.size;
  const context = canvas.getContext("2d", { alpha: false });
  const [left, top, right, bottom] = report.box;
  const crop = {
    x: left * canvas.width,
    y: top * canvas.height,
    width: (right - left) * canvas.width,
    height: (bottom - top) * canvas.height,
  };
  const wholeFrame = left <= 0 && top <= 0 && right >= 1 && bottom >= 1;

  // The tube at the crop's own size, or at most this large; what is beyond is left to the canvas's smoothing.
  const LARGEST = 400;
  const shrink = Math.min(1, LARGEST / Math.max(crop.width, crop.height));
  const overlay = document.createElement("canvas");
  overlay.width = Math.max(1, Math.round(crop.width * shrink));
  overlay.height = Math.max(1, Math.round(crop.height * shrink));
  const overlayContext = overlay.getContext("2d");
  const pixels = overlayContext.createImageData(overlay.width, overlay.height);
  const raw = new Float32Array(overlay.width * overlay.height);
  const resample = resampler(overlay.height, overlay.width);

  // Colours where the tube reaches the threshold, nothing elsewhere.
  function paintHeatmap({ threshold, colormap }, scale) {
    const table = colormaps[colormap];
    for (let i = 0, p = 0; i < raw.length; i++, p += 4) {
      const value = onScale(raw[i], scale);
      const level = 3 * Math.floor(255 * value);
      pixels.data[p] = table[level];
      pixels.data[p + 1] = table[level + 1];
      pixels.data[p + 2] = table[level + 2];
      pixels.data[p + 3] = value >= threshold ? 255 : 0;
    }
  }

  // Black that hides the frame where the tube is low: this picture's own values, stretched to an alpha of 20..255.
  function paintFocusmap(scale) {
    let [least, most] = [1, 0];
    for (const value of raw) {
      const shown = onScale(value, scale);
      least = Math.min(least, shown);
      most = Math.max(most, shown);
    }
    const stretch = most > least ? 235 / (most - least) : 0;
    pixels.data.fill(0);
    for (let i = 0, p = 3; i < raw.length; i++, p += 4) {
      pixels.data[p] = 255 - Math.round(20 + stretch * (onScale(raw[i], scale) - least));
    }
  }

  function dimUnseen(everything) {
    context.beginPath();
    context.rect(0, 0, canvas.width, canvas.height);
    if (!everything) context.rect(crop.x, crop.y, crop.width, crop.height);
    context.fillStyle = "rgba(0, 0, 0, 0.6)";
    context.fill("evenodd");
  }

  function draw(state) {
    const { field, picture, label, common, mode, opacity } = state;
    context.fillStyle = state.playable ? "#000" : "#777";
    context.fillRect(0, 0, canvas.width, canvas.height);
    if (video.readyState >= 2) context.drawImage(video, 0, 0, canvas.width, canvas.height);
    const seen = field === null || field.seen[picture] === 1;
    if (field !== null && seen && mode !== "frame") {
      const scale = scaleOf(label, common);
      resample(field.maps, picture, raw);
      if (mode === "heatmap") paintHeatmap(state, scale);
      else paintFocusmap(scale);
      overlayContext.putImageData(pixels, 0, 0);
      context.globalAlpha = mode === "heatmap" ? opacity : 1;
      context.drawImage(overlay, crop.x, crop.y, crop.width, crop.height);
      context.globalAlpha = 1;
    }
    if (mode !== "frame" && (!seen || !wholeFrame)) dimUnseen(!seen);
  }

  // The crop's edge is an element over the canvas, so that it stays thin however large the clip is shown.
  const outline = document.getElementById("crop-outline");
  outline.hidden = wholeFrame;
  outline.style.left = `${100 * left}%`;
  outline.style.top = `${100 * top}%`;
  outline.style.width = `${100 * (right - left)}%`;
  outline.style.height = `${100 * (bottom - top)}%`;
  const box = document.getElementById("stage");
  box.style.aspectRatio = `${canvas.width} / ${canvas.height}`;
  box.style.setProperty("--aspect", canvas.width / canvas.height);

  const drawnFrom = [
    ...["picture", "shownFrames", "playable", "field", "label", "common"],
    ...["mode", "opacity", "threshold", "colormap"],
  ];
  store.on(drawnFrom, draw);
  return { canvas, wholeFrame, drawnFrom };
})();
