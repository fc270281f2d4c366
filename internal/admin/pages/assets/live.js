// What comes bit by bit: a search in the log with its progress, and events while they
// happen. Both read the API, a JSON object on each line. Texts are only ever put in as
// text.

// lines calls each with every object of an answer, until it ends or is stopped.
async function lines(url, signal, each) {
  const answer = await fetch(url, { signal, headers: { Accept: "application/x-ndjson" } });
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({}));
    throw new Error(problem.error ?? `The gateway answered ${answer.status}.`);
  }
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    for (const part of parts) if (part) each(JSON.parse(part));
  }
}

// A search in the log: the page that the form would load works as well, and shows
// nothing before everything was read.
const most = 500;
function searchLog(form) {
  const out = document.getElementById("log-lines"), state = document.getElementById("log-state");
  const bar = state.querySelector("progress"), text = state.querySelector("span"), stop = state.querySelector("button");
  let now = null;
  stop.addEventListener("click", () => now?.abort());
  form.addEventListener("submit", async (e) => {
    e.preventDefault();
    now?.abort();
    const mine = (now = new AbortController()), q = form.elements.q.value.trim() || "since:1h";
    history.replaceState(null, "", `?${new URLSearchParams({ q })}`);
    document.getElementById("log-before")?.remove();
    out.textContent = "";
    out.hidden = true;
    state.hidden = stop.hidden = bar.hidden = false;
    bar.removeAttribute("value");
    text.textContent = "Searching …";
    let found = 0, end = null;
    try {
      await lines(`/api/v1/log?${new URLSearchParams({ q, limit: most })}`, mine.signal, (l) => {
        if (l.error) throw new Error(l.error);
        if (l.progress?.of) {
          bar.value = l.progress.read / l.progress.of;
          text.textContent = `${Math.floor(100 * bar.value)} % of the files read`;
        }
        if (l.line !== undefined) { out.append(l.line, "\n"); out.hidden = false; found++; }
        end = l.end ?? end;
      });
      text.textContent = found ? `${found} ${found === 1 ? "line" : "lines"}${end?.cut ? ", the latest; there are more" : ""}` : "No line fits. Widen the time with since:1d, or leave out a word.";
    } catch (problem) {
      if (mine !== now) return; // another search has begun
      text.textContent = mine.signal.aborted ? "Stopped." : problem.message;
    }
    stop.hidden = bar.hidden = true;
  });
}

// Live events: the latest first, as many as people can read.
const mostEvents = 300;
function cell(row, label, ...parts) {
  const td = row.insertCell();
  td.dataset.label = label;
  td.className = "long";
  for (const p of parts) if (p) td.append(p);
}
function small(text) {
  const el = document.createElement("small");
  el.textContent = text;
  return el;
}
function showEvent(body, e) {
  const row = body.insertRow(0), at = document.createElement("time");
  at.dateTime = e.time;
  at.textContent = new Date(e.time).toLocaleTimeString();
  let when = at;
  if (e.message) {
    when = document.createElement("a");
    when.href = `/messages/${encodeURIComponent(e.message)}`;
    when.append(at);
  }
  cell(row, "When", when);
  cell(row, "What", `${e.kind}${e.result ? `: ${e.result}` : ""} `, e.verdict && small(e.verdict));
  cell(row, "From", `${e.sender ?? ""} `, e.client && small(e.client));
  cell(row, "To", (e.recipients ?? []).map((r) => r.address).join(", "));
  cell(row, "Details", e.subject && `${e.subject} `, e.reason && `${e.reason} `, e.reply && small(e.reply));
  while (body.rows.length > mostEvents) body.deleteRow(-1);
}

function trace(form) {
  const body = document.getElementById("trace-events"), said = document.getElementById("trace-state"), button = form.querySelector("[data-pause]");
  let now = null, wanted = true;
  async function run() {
    now?.abort();
    const mine = (now = new AbortController()), q = new URLSearchParams();
    for (const name of ["client", "sender", "recipient"]) if (form.elements[name].value.trim()) q.set(name, form.elements[name].value.trim());
    history.replaceState(null, "", `?${q}`);
    said.textContent = "Watching. Events show up here as they happen.";
    try {
      await lines(`/api/v1/trace?${q}`, mine.signal, (e) => {
        if (e.missed) said.textContent = `${e.missed} events came too fast to be shown.`;
        else showEvent(body, e);
      });
      if (mine === now && wanted) setTimeout(run, 2000); // the gateway was started again
    } catch (problem) {
      if (mine !== now || mine.signal.aborted) return;
      said.textContent = `${problem.message} Change what is watched, or go on in a moment.`;
      wanted = false;
      button.textContent = "Go on";
    }
  }
  form.addEventListener("submit", (e) => { e.preventDefault(); wanted = true; button.textContent = "Pause"; run(); });
  button.addEventListener("click", () => {
    wanted = !wanted;
    button.textContent = wanted ? "Pause" : "Go on";
    if (wanted) run();
    else { now?.abort(); said.textContent = "Paused."; }
  });
  addEventListener("pagehide", () => now?.abort());
  button.hidden = false;
  run();
}

export function live() {
  const log = document.querySelector("form[data-log]"), watch = document.querySelector("form[data-trace]");
  if (log) searchLog(log);
  if (watch) trace(watch);
}
