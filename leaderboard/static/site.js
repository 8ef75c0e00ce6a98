// What a page can do beyond being read: sort, filter, search, export, keep all that in its address, and save figures.
// Sorting and searching are DataTables'; a page without scripts shows the same tables and figures.
"use strict";

const EXPORTS = {
  CSV: ["csv", "text/csv", (head, rows) => lines([head, ...rows].map((row) => row.map((text) => csvField(`${value(text) ?? ""}`)).join(",")))],
  JSON: ["json", "application/json", (head, rows) => JSON.stringify(rows.map((row) => Object.fromEntries(row.map((text, i) => [head[i], value(text)]))), null, 1) + "\n"],
  LaTeX: ["tex", "application/x-tex", latex],
  Markdown: ["md", "text/markdown", (head, rows) => lines([head, head.map(() => "---"), ...rows].map((row) => `| ${row.map(markdownField).join(" | ")} |`))],
};
const LATEX = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "\u2212": "$-$", "\u2013": "--", "\u2079": "$^9$" };
const DIFFERS = { "00": "nothing", 10: "weights", "01": "activations", 11: "both" };
const DRAWN = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "opacity", "font-family", "font-size", "font-weight", "paint-order", "stroke-linejoin"];

function lines(all) {
  return all.join("\n") + "\n";
}

// What programs read: a number as such, nothing where the page shows a dash.
function value(text) {
  if (text === "\u2013") return null;
  return /^[+\u2212]?[\d,]+(\.\d+)?$/.test(text) ? Number(text.replaceAll(",", "").replace("\u2212", "-")) : text;
}

function csvField(text) {
  // A spreadsheet would take a name that begins so for a formula.
  const safe = /^[=@\t\r]|^[+-](?!\d+(\.\d+)?$)/.test(text) ? `'${text}` : text;
  return /[",\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function markdownField(text) {
  return text.replace(/[\\|[\]]/g, "\\$&").replaceAll("<", "&lt;");
}

function latexField(text) {
  return text.replace(/[\\~^\u2212\u2013\u2079&%$#_{}]/g, (sign) => LATEX[sign] ?? `\\${sign}`);
}

function latex(head, rows) {
  const body = [head, ...rows].map((row) => `${row.map(latexField).join(" & ")} \\\\`);
  return lines([`\\begin{tabular}{${"l".repeat(head.length)}}`, "\\toprule", body[0], "\\midrule", ...body.slice(1), "\\bottomrule", "\\end{tabular}"]);
}

function words(cell) {
  // Small print under a value is not the value.
  const copy = cell.cloneNode(true);
  copy.querySelectorAll("small, .dt-column-order").forEach((part) => part.remove());
  return copy.textContent.replace(/\s+/g, " ").trim();
}

function download(name, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: `${type};charset=utf-8` }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function button(label, action) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = label;
  made.addEventListener("click", action);
  return made;
}

// The address after `#?`: names of tables' controls with their values. Plain anchors stay what they are.
function readState() {
  return new URLSearchParams(location.hash.startsWith("#?") ? location.hash.slice(2) : "");
}

function writeState(name, value) {
  const state = readState();
  if (value) state.set(name, value);
  else state.delete(name);
  const text = state.toString();
  if (text || location.hash.startsWith("#?")) history.replaceState(null, "", text ? `#?${text}` : location.pathname);
}

function enhance(element) {
  const id = element.id;
  const heads = [...element.tHead.rows[0].cells];
  const names = heads.map(words);
  const filters = heads.flatMap((head, column) => ("filter" in head.dataset ? [column] : []));
  const count = element.tBodies[0].rows.length;
  const state = readState();
  const sorted = (state.get(`${id}.sort`) ?? "").match(/^(\d+)-(asc|desc)$/);
  const table = new DataTable(element, {
    autoWidth: false,
    paging: count > 500,
    pageLength: 200,
    info: filters.length > 0,
    order: sorted && Number(sorted[1]) < heads.length ? [[Number(sorted[1]), sorted[2]]] : [],
    searching: true,
    layout: { topStart: null, topEnd: null, bottomStart: "info", bottomEnd: count > 500 ? "paging" : null },
  });
  const tools = document.createElement("div");
  tools.className = "tools";
  const search = document.createElement("input");
  search.type = "search";
  search.placeholder = "Search";
  search.setAttribute("aria-label", "Search this table");
  // Pages write a true minus; people type a hyphen.
  const plain = (text) => text.toLowerCase().replaceAll("\u2212", "-");
  const seek = () => {
    const terms = plain(search.value).split(/\s+/).filter(Boolean);
    table.search(terms.length ? (text) => terms.every((term) => plain(text).includes(term)) : "");
  };
  search.addEventListener("input", () => { seek(); table.draw(); });
  if (count > 5) {
    search.value = state.get(`${id}.search`) ?? "";
    seek();
    tools.append(search);
  }
  const selects = filters.map((column) => {
    const name = names[column].toLowerCase();
    const select = document.createElement("select");
    select.dataset.filter = name;
    select.setAttribute("aria-label", `Filter by ${name}`);
    const values = [...new Set(table.column(column).nodes().toArray().map(words))].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
    select.append(new Option(`Any ${name}`, ""), ...values.map((value) => new Option(value, value)));
    const choose = () => {
      const value = select.value;
      table.column(column).search(value ? (text, data, row) => words(table.cell(row, column).node()) === value : "");
    };
    const kept = state.get(`${id}.${name}`) ?? "";
    if (values.includes(kept)) select.value = kept;
    choose();
    select.addEventListener("change", () => { choose(); table.draw(); });
    if (values.length > 1) tools.append(select);
    return [name, select];
  });
  const group = document.createElement("span");
  group.className = "exports";
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", "Save the rows shown as");
  for (const [format, [extension, type, write]] of Object.entries(EXPORTS)) {
    group.append(button(format, () => {
      const rows = table.rows({ search: "applied", order: "applied" }).nodes().toArray().map((row) => [...row.cells].map(words));
      download(`${element.dataset.name}.${extension}`, type, write(names, rows));
    }));
  }
  tools.append(group);
  // A heading is a button, which Space presses too; DataTables listens to Enter.
  element.tHead.addEventListener("keydown", (event) => {
    if (event.key !== " " || !event.target.matches('[role="button"]')) return;
    event.preventDefault();
    event.target.click();
  });
  element.closest(".scroll").before(tools);
  table.on("draw", () => {
    const [order] = table.order();
    writeState(`${id}.sort`, order?.[1] ? `${order[0]}-${order[1]}` : "");
    writeState(`${id}.search`, search.value);
    for (const [name, select] of selects) writeState(`${id}.${name}`, select.value);
  });
  table.draw();
}

// A figure's styles come from the page; in a file of its own they must stand in it.
function svgFile(svg) {
  const copy = svg.cloneNode(true);
  const originals = [svg, ...svg.querySelectorAll("*")];
  [copy, ...copy.querySelectorAll("*")].forEach((part, i) => {
    const style = getComputedStyle(originals[i]);
    for (const property of DRAWN) if (style.getPropertyValue(property)) part.setAttribute(property, style.getPropertyValue(property));
    part.removeAttribute("class");
  });
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  const { width, height } = svg.viewBox.baseVal;
  copy.setAttribute("width", width);
  copy.setAttribute("height", height);
  return new XMLSerializer().serializeToString(copy);
}

// A labelled choice that the page's address keeps, unless it is the first one.
function chooser(name, label, options, first, choose) {
  const select = document.createElement("select");
  select.name = name;
  select.id = `choose-${name}`;
  select.append(...options.map(([value, text]) => new Option(text, value)));
  const kept = readState().get(name);
  select.value = options.some(([value]) => value === kept) ? kept : first;
  select.addEventListener("change", () => {
    choose();
    writeState(name, select.value === first ? "" : select.value);
  });
  const labelled = document.createElement("label");
  labelled.htmlFor = select.id;
  labelled.textContent = label;
  return [labelled, select];
}

function toolbar(before, ...parts) {
  const tools = document.createElement("div");
  tools.className = "tools";
  tools.append(...parts);
  before.before(tools);
}

// One seed at a time, where a page without scripts has all of them one after the other.
function chooseSeed(box) {
  const sections = [...box.children];
  if (sections.length < 2) return;
  const asked = document.getElementById(location.hash.slice(1))?.closest("[data-seed]") ?? sections[0];
  const [labelled, select] = chooser("seed", "Seed", sections.map(({ dataset }) => [dataset.seed, dataset.seed]), asked.dataset.seed, show);
  function show() {
    for (const section of sections) section.hidden = section.dataset.seed !== select.value;
  }
  toolbar(box, labelled, select);
  show();
}

// Any two strategies instead of the two that stand in the page: the rows stay, their cells are written anew.
function compareStrategies(data) {
  const table = document.getElementById("strategies");
  const rows = [...table.tBodies[0].rows];
  const fields = (rows[0].cells.length - 2) / 2;
  const runs = JSON.parse(data.textContent);
  const options = runs.map(({ id, name }) => [id, name]);
  const [labelA, a] = chooser("a", "A", options, data.dataset.a, choose);
  const [labelB, b] = chooser("b", "B", options, data.dataset.b, choose);
  function write() {
    const [first, second] = [a, b].map((select) => runs.find(({ id }) => id === select.value));
    let differing = 0;
    for (const row of rows) {
      const sides = [first, second].map(({ choices }) => choices[row.dataset.layer] ?? Array(fields).fill("\u2013"));
      const differs = [0, 1].map((i) => sides[0][i] !== sides[1][i]);
      const texts = [DIFFERS[differs.map(Number).join("")], ...sides[0].flatMap((text, i) => [text, sides[1][i]])];
      texts.forEach((text, i) => {
        const cell = row.cells[i + 1];
        cell.textContent = text;
        cell.classList.toggle("differs", i ? differs[Math.floor((i - 1) / 2)] ?? false : differs.includes(true));
        if (i > 4) cell.dataset.order = value(text) ?? -1;
      });
      differing += differs.includes(true);
    }
    const count = document.createElement("strong");
    count.textContent = `${differing} of ${rows.length}`;
    document.getElementById("difference").replaceChildren(`A, ${first.name}, and B, ${second.name}, differ in `, count, " layers.");
  }
  function choose() {
    write();
    new DataTable.Api(table).rows().invalidate("dom").draw(false);
  }
  toolbar(table.closest(".scroll"), labelA, a, labelB, b);
  write();
}

document.querySelectorAll("#seeds").forEach(chooseSeed);
document.querySelectorAll("#choices").forEach(compareStrategies);
document.querySelectorAll("table.datatable").forEach(enhance);
document.querySelectorAll("figure[data-name]").forEach((figure) => {
  figure.append(button("Save as SVG", () => download(`${figure.dataset.name}.svg`, "image/svg+xml", svgFile(figure.querySelector("svg")))));
});

// Another state put into the address of the open page; what the page writes there itself does not come by here.
addEventListener("hashchange", () => {
  if (location.hash.startsWith("#?")) location.reload();
});

// For the scripts of single pages.
globalThis.site = { readState, writeState, enhance };
