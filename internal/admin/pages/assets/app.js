// What pages need of the browser: times in the reader's zone, the theme, the keyboard.
import { drawCharts } from "./chart.js";
import { live } from "./live.js";

const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const short = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

function showTimes(root) {
  for (const el of root.querySelectorAll("time[datetime]:not([data-local])")) {
    const at = new Date(el.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    el.dataset.local = "";
    el.title = `${full.format(at)} (${el.textContent})`;
    el.textContent = short.format(at);
  }
}

// Files of the reader become the text of a field, which travels as any other.
const maxUpload = 16 << 20;
function offerUploads(root) {
  for (const label of root.querySelectorAll("label.upload[hidden]")) label.hidden = false;
}
async function upload(input) {
  const [file] = input.files, into = document.getElementById(input.dataset.into);
  if (!file || !into) return;
  const text = file.size > maxUpload ? null : new TextDecoder("utf-8", { fatal: true });
  try {
    if (!text) throw new Error("It is larger than 16 MiB.");
    into.value = text.decode(await file.arrayBuffer());
    input.setCustomValidity("");
    into.dispatchEvent(new Event("input"));
  } catch (e) {
    input.setCustomValidity(text ? "It is no text." : e.message);
    input.reportValidity();
  }
}

// An editor has the numbers of its lines beside it, and mistakes lead to theirs.
function numberLines() {
  for (const area of document.querySelectorAll("textarea[data-editor]:not([data-numbered])")) {
    area.dataset.numbered = "";
    const box = document.createElement("div"), numbers = document.createElement("pre");
    box.className = "numbered";
    numbers.setAttribute("aria-hidden", "true");
    area.before(box);
    box.append(numbers, area);
    let shown = 0;
    const count = () => {
      const n = area.value.split("\n").length;
      if (n !== shown) numbers.textContent = Array.from({ length: shown = n }, (_, i) => i + 1).join("\n");
      numbers.scrollTop = area.scrollTop;
    };
    area.addEventListener("input", count);
    area.addEventListener("scroll", count);
    count();
    for (const problem of document.querySelectorAll(".problems li[data-line]")) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = "Show the line";
      button.addEventListener("click", () => showLine(area, Number(problem.dataset.line)));
      problem.append(" ", button);
    }
  }
}
function showLine(area, line) {
  const lines = area.value.split("\n"), from = lines.slice(0, line - 1).join("\n").length + (line > 1 ? 1 : 0);
  area.focus();
  area.setSelectionRange(from, from + (lines[line - 1]?.length ?? 0));
  area.scrollTop = (area.scrollHeight / lines.length) * Math.max(line - 5, 0);
}

function refresh(root) {
  numberLines();
  offerUploads(root);
  showTimes(root);
  drawCharts(root);
}

// The theme: the system's unless the reader chose one.
const root = document.documentElement;
try {
  const chosen = localStorage.getItem("theme");
  if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;
} catch { /* a browser that keeps nothing has the system's theme */ }

function switchTheme() {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  try { localStorage.setItem("theme", root.dataset.theme); } catch { /* for this page only */ }
}

// Rows of tables with data-rows are walked with j and k.
function move(step) {
  const rows = [...document.querySelectorAll("[data-rows] > tr, tbody[data-rows] > tr")];
  if (!rows.length) return;
  const now = rows.findIndex((r) => r.getAttribute("aria-selected") === "true");
  const next = Math.min(Math.max(now + step, 0), rows.length - 1);
  for (const r of rows) r.removeAttribute("aria-selected");
  rows[next].setAttribute("aria-selected", "true");
  rows[next].scrollIntoView({ block: "nearest" });
  rows[next].querySelector("a[href]")?.focus({ preventScroll: true });
}

let going = 0;
function go(key) {
  const links = [...document.querySelectorAll("nav[aria-label=Main] a[href]")];
  const to = links.find((a) => a.textContent.trim().toLowerCase().startsWith(key));
  if (to) location.assign(to.href);
}

function key(e) {
  if (e.ctrlKey || e.metaKey || e.altKey || e.target.closest("input, textarea, select, [contenteditable], dialog")) return;
  if (going && e.timeStamp - going < 1500) { going = 0; go(e.key.toLowerCase()); return; }
  const selected = document.querySelector("tr[aria-selected=true]");
  switch (e.key) {
    case "?": document.getElementById("help")?.showModal(); break;
    case "/": document.querySelector("[type=search]")?.focus(); break;
    case "j": move(1); break;
    case "k": move(-1); break;
    case "x": selected?.querySelector("input[type=checkbox]")?.click(); break;
    case "g": going = e.timeStamp; return;
    default: return;
  }
  e.preventDefault();
}

document.addEventListener("keydown", key);
document.addEventListener("click", (e) => {
  if (e.target.closest("[data-theme-switch]")) switchTheme();
  if (e.target.closest("[data-help]")) document.getElementById("help")?.showModal();
  const all = e.target.closest("[data-check-all]");
  if (all) for (const box of document.querySelectorAll(`input[name="${CSS.escape(all.dataset.checkAll)}"]`)) box.checked = all.checked;
});
document.addEventListener("change", (e) => { if (e.target.dataset?.into) upload(e.target); });
// A form with data-confirm asks first.
document.addEventListener("submit", (e) => {
  const text = e.submitter?.dataset.confirm ?? e.target.dataset.confirm;
  if (text && !confirm(text)) { e.preventDefault(); e.stopPropagation(); }
}, true);
document.addEventListener("htmx:after:settle", () => refresh(document));
refresh(document);
live();
