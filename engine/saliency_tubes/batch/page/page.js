"use strict";
// Shows the data of this page as a table, a page of rows at a time. Whatever came from outside becomes text, never markup.
const data = JSON.parse(document.getElementById("data").textContent);
const PAGE_ROWS = 50;
const START = { text: "", show: "all", predicted: "", label: "", sort: "name", descending: "", page: "1" };
const MAIN_FILES = ["report.html", "overlay.mp4", "overlay.gif", "sheet.png"];
const find = (id) => document.getElementById(id);
const order = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
const className = ([index, name]) => (name === null ? `class ${index}` : name);
const state = { ...START, ...Object.fromEntries(new URLSearchParams(location.hash.slice(1))) };

const keys = {
  name: (row) => row.name,
  probability: (row) => row.label[2],
  logit: (row) => row.label[3],
  border: (row) => row.border,
  peak: (row) => row.peak ?? row.frame,
};
if (!Object.hasOwn(keys, state.sort)) state.sort = START.sort;

for (const row of data.rows) {
  const classes = row.error === undefined ? [className(row.predicted), className(row.label), ...row.notes] : [row.error];
  row.searched = [row.name, row.source, ...classes].join("\n").toLowerCase();
}

function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

function link(href, className, ...children) {
  const made = element("a", className, ...children);
  made.setAttribute("href", href);
  return made;
}

function cell(className, title, ...children) {
  const made = element("td", className, ...children);
  made.setAttribute("role", "cell");
  if (title) made.dataset.title = title;
  return made;
}

function share(value) {
  if (value === null) return ["–"];
  const bar = element("span", "bar", element("i", ""));
  bar.setAttribute("aria-hidden", "true");
  bar.firstChild.style.width = `${100 * value}%`;
  return [`${(100 * value).toFixed(1)} %`, bar];
}

function links(row, written, which) {
  return written.files.map((file) => {
    const made = link(written.folder + encodeURIComponent(file).replace("%2F", "/"), "", file);
    made.setAttribute("aria-label", `${file} of ${row.name}${which}`);
    return made;
  });
}

function best(row) {
  const places = [row.written, ...(row.together ? [row.together] : [])];
  const found = MAIN_FILES.flatMap((file) => places.filter((place) => place.files.includes(file)).map((place) => place.folder + file));
  return found[0] ?? row.written.folder;
}

function clipCell(row) {
  const made = cell("clip", "", element("div", "name", row.name), element("div", "source", row.source));
  if (row.error !== undefined) {
    made.append(element("div", "error", row.error));
    return made;
  }
  made.append(element("div", "files", ...links(row, row.written, "")));
  if (row.together) made.append(element("div", "files", "all labels:", ...links(row, row.together, ", all labels")));
  made.append(...row.notes.map((note) => element("div", "note", note)));
  return made;
}

function pictureCell(row) {
  const made = cell("picture", "");
  if (!row.thumbnail) return made;
  const image = element("img", "");
  image.loading = "lazy";
  image.decoding = "async";
  image.alt = `${row.name}, where its tube for ${className(row.label)} peaks`;
  image.src = row.thumbnail;
  made.append(link(best(row), "", image));
  return made;
}

function peakText(row) {
  if (row.frame === null) return "–";
  return row.peak === null ? `frame ${row.frame}` : `${row.peak.toFixed(2)} s`;
}

function rowElement(row) {
  const made = element("tr", "", pictureCell(row), clipCell(row));
  made.setAttribute("role", "row");
  if (row.error !== undefined) {
    made.className = "failed";
    made.lastChild.colSpan = 7;
    return made;
  }
  if (row.predicted[0] !== row.label[0]) made.className = "differs";
  const [predicted, label] = [row.predicted, row.label].map((score) => element("span", "class", className(score)));
  made.append(
    cell("predicted", "Predicted", predicted, element("div", "source", `${(100 * row.predicted[2]).toFixed(1)} %`)),
    cell("label", "Explained", label, ...(row.approximate === null ? [] : [element("div", "mark", "approximate")])),
    cell("number", "Probability", ...share(row.label[2])),
    cell("number", "Logit", row.label[3].toFixed(2).replace("-", "\u2212")),
    cell("number", "At the border", ...share(row.border)),
    cell("number", "Peak", peakText(row)),
  );
  return made;
}

function matches(row) {
  const failed = row.error !== undefined;
  if (state.show === "failed" && !failed) return false;
  if (state.show === "done" && failed) return false;
  if (state.show === "other" && (failed || row.predicted[0] === row.label[0])) return false;
  if (state.predicted && (failed || String(row.predicted[0]) !== state.predicted)) return false;
  if (state.label && (failed || String(row.label[0]) !== state.label)) return false;
  return state.text.toLowerCase().split(/\s+/).every((word) => row.searched.includes(word));
}

function sorted(rows) {
  const key = keys[state.sort];
  const sign = state.descending ? -1 : 1;
  const value = (row) => (row.error !== undefined && state.sort !== "name" ? null : key(row));
  return rows.map((row) => [value(row), row]).sort(([a, one], [b, other]) => {
    if (a === null || b === null) return (a === null) - (b === null) || order.compare(one.name, other.name);  // last, always
    const difference = typeof a === "string" ? order.compare(a, b) : a - b;
    return sign * difference || order.compare(one.name, other.name);
  }).map(([, row]) => row);
}

function plural(count, noun) {
  return `${count.toLocaleString("en-GB")} ${noun}${count === 1 ? "" : "s"}`;
}

function render() {
  const rows = sorted(data.rows.filter(matches));
  const pages = Math.max(1, Math.ceil(rows.length / PAGE_ROWS));
  const page = Math.min(Math.max(1, Math.trunc(Number(state.page)) || 1), pages);
  const first = (page - 1) * PAGE_ROWS;
  find("rows").replaceChildren(...rows.slice(first, first + PAGE_ROWS).map(rowElement));
  const all = rows.length === data.rows.length;
  find("count").textContent = all ? plural(rows.length, "result") : `${rows.length.toLocaleString("en-GB")} of ${plural(data.rows.length, "result")}`;
  find("nothing").hidden = rows.length > 0;
  find("page").textContent = `Page ${page} of ${pages}`;
  find("previous").disabled = page === 1;
  find("next").disabled = page === pages;
  document.querySelector("nav").hidden = pages === 1;
  for (const header of document.querySelectorAll("th[data-sort]")) {
    if (header.dataset.sort === state.sort) header.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
    else header.removeAttribute("aria-sort");
  }
  for (const id of ["text", "show", "predicted", "label", "sort"]) if (find(id).value !== state[id]) find(id).value = state[id];
  find("direction").textContent = state.descending ? "Descending \u2193" : "Ascending \u2191";
  state.page = String(page);
  const changed = Object.entries(state).filter(([name, value]) => value !== START[name]);
  history.replaceState(null, "", `#${new URLSearchParams(changed)}`);
}

function change(changes) {
  Object.assign(state, { page: "1" }, changes);
  render();
}

function turn(by) {
  change({ page: String(Number(state.page) + by) });
  document.querySelector("main").scrollIntoView();
}

function sortBy(key) {
  // Names and times from the first, numbers from the largest.
  const descending = key === "name" || key === "peak" ? "" : "1";
  change(key === state.sort ? { descending: state.descending ? "" : "1" } : { sort: key, descending });
}

function fill(id) {
  const done = data.rows.filter((row) => row.error === undefined);
  const names = new Map(done.map((row) => [String(row[id][0]), className(row[id])]));
  const options = [...names].sort(([, a], [, b]) => order.compare(a, b)).map(([value, name]) => new Option(name, value));
  find(id).append(...options);
  if (!names.has(state[id])) state[id] = "";
}

const failed = data.rows.filter((row) => row.error !== undefined).length;
find("summary").textContent = plural(data.clips, "clip") + (data.root ? ` in ${data.root}` : "")
  + (failed ? `, ${failed.toLocaleString("en-GB")} failed` : "");
const inexact = data.rows.filter((row) => row.error === undefined && row.approximate !== null);
find("approximate").hidden = inexact.length === 0;
find("approximate").textContent = `${inexact.length === data.rows.length - failed ? "These maps are" : `The maps of ${plural(inexact.length, "result")} are`}`
  + ` approximate: ${[...new Set(inexact.map((row) => row.approximate))].join("; ")}. Each result says by how much.`;
fill("predicted");
fill("label");
if (!["all", "done", "other", "failed"].includes(state.show)) state.show = START.show;
find("text").addEventListener("input", (event) => change({ text: event.target.value }));
for (const id of ["show", "predicted", "label"]) find(id).addEventListener("change", (event) => change({ [id]: event.target.value }));
find("sort").addEventListener("change", (event) => sortBy(event.target.value));
find("direction").addEventListener("click", () => change({ descending: state.descending ? "" : "1" }));
for (const id of ["reset", "reset-here"]) find(id).addEventListener("click", () => change({ ...START }));
find("previous").addEventListener("click", () => turn(-1));
find("next").addEventListener("click", () => turn(1));
find("controls").addEventListener("submit", (event) => event.preventDefault());
for (const header of document.querySelectorAll("th[data-sort]")) {
  header.firstElementChild.addEventListener("click", () => sortBy(header.dataset.sort));
}
render();
