// Everything around the pictures: words, tables, controls, the keyboard.

const LONGEST_OPTION = 60; // characters of a name in the list of labels

const byId = (id) => document.getElementById(id);

function make(name, attributes, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function fillWords() {
  byId("title").textContent = report.title;
  const [best] = report.top;
  if (best) {
    byId("verdict").replaceChildren("Predicted: ", make("bdi", {}, labelName(best)), `, ${percent(best.probability)}`);
  }
  byId("top").append(
    ...report.top.map((score) =>
      make(
        "tr",
        {},
        make("td", { class: "number" }, String(score.index)),
        make("th", { scope: "row" }, make("bdi", {}, labelName(score))),
        make("td", { class: "number" }, percent(score.probability)),
        make("td", { class: "number" }, fixed(score.logit, 2)),
      ),
    ),
  );
  byId("facts").append(
    ...report.facts.map(([key, text]) => make("div", {}, make("dt", {}, key), make("dd", {}, make("bdi", {}, text)))),
  );
  byId("facts-section").hidden = report.facts.length === 0;
  byId("notes").append(...report.notes.map((note) => make("li", {}, make("bdi", {}, note))));
  byId("notes-section").hidden = report.notes.length === 0;
  byId("time-note").textContent = report.timeNote;
  byId("approximate").textContent = report.approximate;
  byId("approximate").hidden = report.approximate === "";
  byId("unseen-note").hidden = stage.wholeFrame;
}

function fillControls() {
  const select = byId("label");
  select.append(
    ...report.labels.map((label, i) =>
      make("option", { value: i }, `${labelName(label, LONGEST_OPTION)} (${percent(label.probability)})`),
    ),
  );
  select.addEventListener("change", () => selectLabel(Number(select.value)));
  byId("colormap").append(...Object.keys(colormaps).map((name) => make("option", { value: name }, name)));
  byId("scale-field").hidden = report.labels.length < 2;

  const choice = (id, key, read = String) =>
    byId(id).addEventListener("change", (event) => store.set({ [key]: read(event.target.value) }));
  choice("colormap", "colormap");
  choice("speed", "speed", Number);
  for (const key of ["opacity", "threshold", "level"]) {
    byId(key).addEventListener("input", (event) => store.set({ [key]: Number(event.target.value) }));
  }
  for (const radio of document.querySelectorAll("input[name=mode]")) {
    radio.addEventListener("change", () => store.set({ mode: radio.value }));
  }
  for (const radio of document.querySelectorAll("input[name=scale]")) {
    radio.addEventListener("change", () => store.set({ common: radio.value === "common" }));
  }
  byId("loop").addEventListener("change", (event) => store.set({ loop: event.target.checked }));
  byId("play").addEventListener("click", player.toggle);
  byId("peak").addEventListener("click", () => player.seek(peakOf(store.state.field)));
  byId("reset-view").addEventListener("click", () => store.set(FIRST_VIEW));
  const scrub = byId("scrub");
  scrub.max = lastPicture;
  scrub.disabled = lastPicture === 0;
  scrub.addEventListener("input", () => player.seek(Number(scrub.value)));
}

const seconds = (value) => value.toFixed(2);

// What is to be seen at a picture, in words.
function readingAt({ picture, field, label, common }) {
  if (field === null) return "";
  const when = `${seconds(times[picture])} s`;
  if (!field.seen[picture]) return `${when}: the network saw nothing of this picture.`;
  const strongest = strongestOf(field, picture, scaleOf(label, common));
  if (strongest === null) return `${when}: this label’s map is the same everywhere; its tube is 0 and points nowhere.`;
  const energy = fixed(timeline.energyAt(picture), 2);
  return `${when}: strongest ${strongest.place} (${fixed(strongest.value, 2)} of 1); energy ${energy}.`;
}

let liveTimer = 0;

function showTime(state) {
  const { picture, playing } = state;
  byId("clock").textContent = `${seconds(times[picture])} / ${seconds(clipSeconds)} s`;
  const scrub = byId("scrub");
  scrub.value = picture;
  scrub.setAttribute("aria-valuetext", `${seconds(times[picture])} seconds, picture ${picture + 1} of ${pictureCount}`);
  const reading = readingAt(state);
  byId("reading").textContent = reading;
  clearTimeout(liveTimer); // a screen reader hears where it ends up, not every picture on the way
  if (!playing) liveTimer = setTimeout(() => { byId("live").textContent = reading; }, 400);
}

function showScale({ label, common, colormap }) {
  const { low, high } = scaleOf(label, common);
  const [first, last] = [fixed(low, 2), fixed(high, 2)];
  const several = report.labels.length > 1;
  const whose = !several ? "" : common ? "One common scale for all labels. " : "This label on its own scale. ";
  byId("scale-words").textContent =
    high > low
      ? `${whose}0 is ${first} and 1 is ${last} in units of the logit: the least and the most evidence for ` +
        `${common && several ? "these classes" : "this class"} in this clip. How much that is, the probability says.`
      : `${whose}The map is ${first} everywhere, and shown as 0.`;
  const table = colormaps[colormap];
  const bar = byId("colour-bar");
  const context = bar.getContext("2d");
  const row = context.createImageData(256, 1);
  for (let i = 0; i < 256; i++) row.data.set([table[3 * i], table[3 * i + 1], table[3 * i + 2], 255], 4 * i);
  context.putImageData(row, 0, 0);
}

function showControls(state) {
  byId("label").value = state.label;
  byId("colormap").value = state.colormap;
  byId("speed").value = state.speed;
  byId("loop").checked = state.loop;
  for (const key of ["opacity", "threshold", "level"]) {
    byId(key).value = state[key];
    byId(`${key}-value`).textContent = state[key].toFixed(2);
  }
  for (const key of ["opacity", "threshold"]) byId(key).disabled = state.mode !== "heatmap";
  document.querySelector(`input[name=mode][value=${state.mode}]`).checked = true;
  document.querySelector(`input[name=scale][value=${state.common ? "common" : "own"}]`).checked = true;
}

function showPlaying({ playing, playable }) {
  const button = byId("play");
  button.disabled = !playable;
  button.setAttribute("aria-label", playing ? "Pause" : "Play");
  button.classList.toggle("is-playing", playing);
  byId("unplayable").hidden = playable;
}

function showLabel({ label }) {
  const { index, probability, logit } = report.labels[label];
  const words = `Class ${index}, probability ${percent(probability)}, logit ${fixed(logit, 2)}.`;
  const whole = labelName(report.labels[label]);
  const cut = whole !== labelName(report.labels[label], LONGEST_OPTION); // the list shows its beginning alone
  byId("label-words").replaceChildren(...(cut ? [make("bdi", {}, whole), " "] : []), words);
  const name = labelName(report.labels[label], 80);
  const description = `Energy and probability of ${name} over time; the slider above moves the playhead`;
  byId("timeline").setAttribute("aria-label", description);
}

// The page's own keys. Controls keep theirs: a key that the focused control understands is left to it.
function onKey(event) {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.target.closest("button, input, select, #tube-canvas")) return;
  const onStage = event.target.closest("#stage") !== null;
  const actions = {
    " ": player.toggle,
    ArrowLeft: () => player.step(event.shiftKey ? -10 : -1),
    ArrowRight: () => player.step(event.shiftKey ? 10 : 1),
    Home: () => player.seek(0),
    End: () => player.seek(lastPicture),
  };
  if (event.key in actions) actions[event.key]();
  else if (onStage && /^[1-9]$/.test(event.key) && event.key <= report.labels.length) selectLabel(event.key - 1);
  else return;
  event.preventDefault();
}

fillWords();
fillControls();
store.on(["label"], showLabel);
store.on(["label", "common", "colormap"], showScale);
store.on(["label", "common", "mode", "opacity", "threshold", "colormap", "level", "speed", "loop"], showControls);
store.on(["playing", "playable"], showPlaying);
store.on(["picture", "playing", "field", "label", "common"], showTime);
document.addEventListener("keydown", onKey);
byId("stage").addEventListener("click", player.toggle);
selectLabel(0);
