// Two methods of a comparison, chosen by the reader and kept in the address: their difference in every cell.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const VERDICT = { win: "win", tie: "tie", loss: "loss", open: "no interval", none: "not complete" };
const WHISKER = { width: 240, margin: 14 };
const place = document.getElementById("compare");
const data = JSON.parse(document.getElementById("compare-data").textContent);

// As the pages that no script makes: half of the last digit goes to the even one.
function fixed(value, digits) {
  const scaled = value * 10 ** digits;
  const below = Math.floor(scaled);
  const rounded = scaled - below === 0.5 ? below + (below % 2 ? 1 : 0) : Math.round(scaled);
  return (rounded / 10 ** digits).toFixed(digits);
}

function signed(value, digits = 2) {
  const text = fixed(Math.abs(value), digits);
  return Number(text) === 0 ? text : (value < 0 ? "\u2212" : "+") + text;
}

// The difference of two methods, by their positions, in one cell; null where either is not complete.
function difference(board, a, b) {
  const [mine, other] = [board.scores[a], board.scores[b]];
  if (mine === null || other === null) return null;
  const gain = Math.round((mine - other) * 1e9) / 1e9;
  return { gain, interval: interval(board, a, b, gain) };
}

function interval(board, a, b, gain) {
  if (a === b) return [0, 0];
  if (b === board.bar) return board.exact[a];
  if (a === board.bar) return board.exact[b]?.map((end) => -end).reverse() ?? null;
  const margin = board.margins[Math.max(a, b)][Math.min(a, b)];
  return margin === null ? null : [gain - margin, gain + margin];
}

function verdict(found) {
  if (!found) return "none";
  if (!found.interval) return "open";
  return found.interval[0] > 0 ? "win" : found.interval[1] < 0 ? "loss" : "tie";
}

function part(name, attributes, text) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function drawn(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// As the whiskers of other pages: the interval, the difference, and where zero is.
function whisker(found, reach) {
  const x = (value) => WHISKER.width / 2 + (value / reach) * (WHISKER.width / 2 - WHISKER.margin);
  const kind = verdict(found);
  const svg = drawn("svg", { class: `whisker ${kind}`, viewBox: `0 0 ${WHISKER.width} 24`, "aria-hidden": "true" });
  svg.append(drawn("line", { class: "zero", x1: x(0), x2: x(0), y1: 0, y2: 24 }));
  if (found.interval) {
    const [low, high] = found.interval.map(x);
    svg.append(drawn("line", { class: "range", x1: low, x2: high, y1: 12, y2: 12 }));
    for (const end of [low, high]) svg.append(drawn("line", { class: "range", x1: end, x2: end, y1: 8.5, y2: 15.5 }));
  }
  const at = x(found.gain);
  svg.append(kind === "loss" ? drawn("rect", { class: "dot", x: at - 3.5, y: 8.5, width: 7, height: 7 }) : drawn("circle", { class: "dot", cx: at, cy: 12, r: 4 }));
  return svg;
}

function number(value, digits = 2) {
  return part("td", { class: "num", "data-order": value ?? -1e9 }, value === null ? "\u2013" : fixed(value, digits));
}

function row(board, a, b, reach) {
  const found = difference(board, a, b);
  const made = part("tr");
  const head = part("th", { scope: "row" });
  head.append(part("a", { href: place.dataset.root + board.path }, board.model));
  const kind = verdict(found);
  const gain = part("td", { class: `num gain ${kind}`, "data-order": found?.gain ?? -1e9 }, found ? signed(found.gain) : "\u2013");
  const range = part("td", { class: "num quiet", "data-order": found?.interval?.[0] ?? -1e9 }, found ? "" : "\u2013");
  if (found) range.append(whisker(found, reach), part("span", { class: "ends" }, found.interval ? `${signed(found.interval[0])} to ${signed(found.interval[1])}` : "no interval"));
  const mark = part("td");
  mark.append(part("span", { class: `mark ${kind}` }, VERDICT[kind]));
  made.append(head, part("td", {}, board.bits), number(board.scores[a]), number(board.scores[b]), gain, range, mark);
  return made;
}

function table(a, b) {
  const { unit, score, name } = place.dataset;
  const found = data.boards.map((board) => difference(board, a, b)).filter(Boolean);
  const reach = Math.max(1e-9, ...found.flatMap((one) => [one.gain, ...(one.interval ?? [])]).map(Math.abs));
  const made = part("table", { class: "datatable gains two", id: "cells", "data-name": `${name}-${data.methods[a]}-${data.methods[b]}` });
  const caption = part("caption");
  caption.append(part("span", {}, `${data.methods[a]} less ${data.methods[b]}. Right of zero ${data.methods[a]} is better; the axis ends at ${reach.toFixed(2)} ${unit} on either side.`));
  const heads = part("tr");
  for (const [text, attributes] of [
    ["Model", { "data-filter": "" }], ["Bits", { "data-filter": "" }],
    [`${data.methods[a]}, ${score}`, { class: "num" }], [`${data.methods[b]}, ${score}`, { class: "num" }],
    [`Difference (${unit})`, { class: "num" }], [`${place.dataset.level} % interval`, { class: "num" }], ["Verdict", { "data-filter": "" }],
  ]) heads.append(part("th", { scope: "col", ...attributes }, text));
  const head = part("thead");
  head.append(heads);
  const body = part("tbody");
  body.append(...data.boards.map((board) => row(board, a, b, reach)));
  made.append(caption, head, body);
  return made;
}

function sums(a, b) {
  const found = data.boards.map((board) => difference(board, a, b)).filter(Boolean);
  const count = (kind) => found.filter((one) => verdict(one) === kind).length;
  if (!found.length) return "There is no cell in which both are complete.";
  const mean = found.reduce((sum, one) => sum + one.gain, 0) / found.length;
  const open = count("open") ? `, ${count("open")} without an interval` : "";
  return `${data.methods[a]} against ${data.methods[b]}: ${count("win")} won, ${count("tie")} tied, ${count("loss")} lost${open}, of ${found.length} ${found.length === 1 ? "cell" : "cells"} in which both are complete. Mean difference ${signed(mean)} ${place.dataset.unit}.`;
}

function chooser(name, label, chosen) {
  const select = part("select", { name });
  data.methods.forEach((method, i) => select.append(new Option(method, i, false, i === chosen)));
  const made = part("label", {}, `${label} `);
  made.append(select);
  return [made, select];
}

function start() {
  const state = site.readState();
  const [a, b] = ["a", "b"].map((name, i) => {
    const known = data.methods.indexOf(state.get(name));
    return known < 0 ? data.methods.indexOf(data.start[i]) : known;
  });
  const [first, one] = chooser("a", "Method A", a);
  const [second, two] = chooser("b", "Method B", b);
  const result = part("div");
  const sum = part("p", { class: "finding", role: "status" });
  const tools = part("div", { class: "tools" });
  const swap = part("button", { type: "button" }, "Swap");
  tools.append(first, second, swap);
  place.append(tools, sum, result);
  const show = () => {
    const chosen = [Number(one.value), Number(two.value)];
    sum.textContent = sums(...chosen);
    const old = result.querySelector("table");
    if (old) new DataTable(old, { retrieve: true }).destroy();
    const scroll = part("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": "Difference in every cell" });
    const made = table(...chosen);
    scroll.append(made);
    result.replaceChildren(scroll);
    site.enhance(made);
  };
  const change = () => {
    site.writeState("a", data.methods[one.value]);
    site.writeState("b", data.methods[two.value]);
    show();
  };
  one.addEventListener("change", change);
  two.addEventListener("change", change);
  swap.addEventListener("click", () => { [one.value, two.value] = [two.value, one.value]; change(); });
  show();
}

start();
