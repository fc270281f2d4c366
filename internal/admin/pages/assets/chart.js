// What the overview needs of the browser: moments of a chart in the reader's zone, and
// tables that stay open when the numbers are read anew.
const forms = {
  hour: new Intl.DateTimeFormat(undefined, { hour: "numeric" }),
  day: new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" }),
};

export function drawCharts(root) {
  for (const el of root.querySelectorAll("[data-moment]")) {
    const at = new Date(el.dataset.moment);
    if (!Number.isNaN(at.getTime())) el.textContent = forms[el.dataset.as].format(at);
  }
}

// Only the reader opens and closes: what the server sends is always closed.
const opened = new Set();
document.addEventListener("click", (e) => {
  const details = e.target.closest("summary")?.parentElement;
  if (!details?.id) return;
  if (details.open) opened.delete(details.id); else opened.add(details.id);
});
document.addEventListener("htmx:after:settle", () => {
  for (const id of opened) {
    const details = document.getElementById(id);
    if (details && !details.open) details.open = true;
  }
});
