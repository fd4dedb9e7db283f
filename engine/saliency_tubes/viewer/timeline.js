// Energy and probability over the clip's time, with a playhead that can be dragged.

const timeline = (() => {
  const svg = document.getElementById("timeline");
  const GUTTER = 46; // for the numbers at the left
  const END = 14;
  const ENERGY = { top: 22, height: 62 };
  const PROBABILITY = { top: 112, height: 46 };
  const AXIS = PROBABILITY.top + PROBABILITY.height;
  const HEIGHT = AXIS + 34;
  let width = 0;

  function element(name, attributes, text) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    return node;
  }

  const xOf = (seconds) => GUTTER + (Math.min(clipSeconds, Math.max(0, seconds)) / clipSeconds) * (width - GUTTER - END);
  const yOf = (band, share) => band.top + band.height * (1 - share);
  const point = (x, y) => `${x.toFixed(1)},${y.toFixed(1)}`;

  // The smallest of these steps times a power of ten that is not below `value`.
  function roundUp(value, steps = [1, 2, 5, 10]) {
    const power = 10 ** Math.floor(Math.log10(value));
    return steps.map((step) => step * power).find((step) => step >= value * (1 - 1e-9));
  }

  function axes(most) {
    const digits = Math.max(0, -Math.floor(Math.log10(most) + 1e-9));
    const group = element("g", { class: "axes" });
    const line = (y) => element("line", { x1: GUTTER, x2: width - END, y1: y, y2: y });
    const number = (y, text) => element("text", { x: GUTTER - 8, y: y + 4, "text-anchor": "end" }, text);
    const caption = (band, text) => element("text", { x: GUTTER, y: band.top - 8, class: "caption" }, text);
    group.append(
      caption(ENERGY, "Energy: mean of the tube over the crop"),
      caption(PROBABILITY, report.spans.length > 1 ? "Probability in each window" : "Probability"),
    );
    for (const [band, zero, one] of [
      [ENERGY, "0", most.toFixed(digits)],
      [PROBABILITY, "0 %", "100 %"],
    ]) {
      group.append(line(band.top), line(band.top + band.height));
      group.append(number(band.top + band.height, zero), number(band.top, one));
    }
    const step = roundUp((clipSeconds * 64) / Math.max(64, width - GUTTER - END));
    const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    for (let i = 0; i * step <= clipSeconds * (1 + 1e-9); i++) {
      const x = xOf(i * step);
      group.append(element("line", { x1: x, x2: x, y1: AXIS, y2: AXIS + 4 }));
      group.append(element("text", { x, y: AXIS + 18, "text-anchor": "middle" }, (i * step).toFixed(decimals)));
    }
    group.append(element("text", { x: width - END, y: AXIS + 31, "text-anchor": "end" }, "seconds"));
    return group;
  }

  // Runs of pictures that `wanted` says yes to, as [first, last].
  function runs(wanted) {
    const found = [];
    for (let i = 0; i < pictureCount; i++) {
      if (!wanted(i)) continue;
      if (found.length && found.at(-1)[1] === i - 1) found.at(-1)[1] = i;
      else found.push([i, i]);
    }
    return found;
  }

  const endOf = (picture) => (picture < lastPicture ? times[picture + 1] : clipSeconds);

  function energyShapes(energy, most) {
    const group = element("g", { class: "energy" });
    for (const [first, last] of runs((i) => Number.isFinite(energy[i]))) {
      const along = [];
      for (let i = first; i <= last; i++) along.push(point(xOf(times[i]), yOf(ENERGY, energy[i] / most)));
      along.push(point(xOf(endOf(last)), yOf(ENERGY, energy[last] / most)));
      const base = yOf(ENERGY, 0);
      group.append(
        element("polygon", {
          points: [point(xOf(times[first]), base), ...along, point(xOf(endOf(last)), base)].join(" "),
        }),
        element("polyline", { points: along.join(" ") }),
      );
    }
    for (const [first, last] of runs((i) => !Number.isFinite(energy[i]))) {
      const [x, end] = [xOf(times[first]), xOf(endOf(last))];
      group.append(element("rect", { class: "unseen", x, y: ENERGY.top, width: end - x, height: ENERGY.height }));
    }
    return group;
  }

  function probabilityShapes(probabilities) {
    const group = element("g", { class: "probability" });
    const centres = [];
    report.spans.forEach(([start, end], window) => {
      if (start === null || end === null || probabilities[window] === null) return;
      const y = yOf(PROBABILITY, probabilities[window]);
      const x1 = xOf(start);
      group.append(element("line", { x1, x2: Math.max(xOf(end), x1 + 2), y1: y, y2: y }));
      centres.push(point(xOf((start + end) / 2), y));
    });
    if (centres.length > 1) group.append(element("polyline", { points: centres.join(" ") }));
    return group;
  }

  const playhead = element("g", { class: "playhead" });
  playhead.append(element("line", { y1: ENERGY.top - 4, y2: AXIS }), element("circle", { cy: ENERGY.top - 4, r: 4.5 }));

  function place({ picture }) {
    playhead.setAttribute("transform", `translate(${xOf(times[picture]).toFixed(1)} 0)`);
  }

  let energy = new Float32Array(0);

  function draw(state) {
    if (state.field === null || width === 0) return;
    energy = energyOf(state.field, scaleOf(state.label, state.common));
    const highest = energy.reduce((most, value) => (value > most ? value : most), 0);
    const most = highest > 0 ? Math.min(1, roundUp(highest, [1, 2, 3, 4, 5, 6, 8, 10])) : 1;
    svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    svg.replaceChildren(
      axes(most),
      energyShapes(energy, most),
      probabilityShapes(report.labels[state.label].probabilities),
      playhead,
    );
    place(state);
  }

  const pictureUnder = (event) => {
    const x = event.clientX - svg.getBoundingClientRect().left;
    return pictureAt(((x - GUTTER) / (width - GUTTER - END)) * clipSeconds);
  };
  svg.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    svg.setPointerCapture(event.pointerId);
    player.seek(pictureUnder(event));
  });
  svg.addEventListener("pointermove", (event) => {
    if (svg.hasPointerCapture(event.pointerId)) player.seek(pictureUnder(event));
  });

  new ResizeObserver(([entry]) => {
    width = Math.round(entry.contentRect.width);
    draw(store.state);
  }).observe(svg);
  store.on(["field", "label", "common"], draw);
  store.on(["picture"], place);

  return {
    energyAt: (picture) => energy[picture] ?? null, // null where it is not drawn yet
    // Where the energy is highest.
  };
})();
