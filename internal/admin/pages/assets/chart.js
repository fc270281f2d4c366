// Charts: <div class="chart" data-chart="/path.json" aria-label="…"></div> shows what the
// path answers: {"x": [seconds], "series": [{"label": "", "color": "", "values": []}],
// "link": "/history?since={from}&before={until}"}. A click opens the link for its moment.
let library;

function load() {
  library ??= new Promise((done, failed) => {
    const base = new URL("vendor/", import.meta.url);
    const style = document.createElement("link");
    style.rel = "stylesheet";
    style.href = new URL("uplot-1.6.32.min.css", base);
    const script = document.createElement("script");
    script.src = new URL("uplot-1.6.32.min.js", base);
    script.onload = () => done(window.uPlot);
    script.onerror = failed;
    document.head.append(style, script);
  });
  return library;
}

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

async function draw(box) {
  const [uPlot, answer] = await Promise.all([load(), fetch(box.dataset.chart, { headers: { Accept: "application/json" } })]);
  if (!answer.ok) throw new Error(`the numbers could not be loaded (${answer.status})`);
  const { x, series, link } = await answer.json();
  const axis = { stroke: color("--faint"), grid: { stroke: color("--line"), width: 1 }, ticks: { stroke: color("--line"), width: 1 } };
  const plot = new uPlot({
    width: box.clientWidth, height: Math.max(box.clientHeight - 40, 180),
    series: [{}, ...series.map((s) => ({ label: s.label, stroke: s.color, fill: s.color + "33", width: 1.5, points: { show: x.length < 40 } }))],
    axes: [axis, { ...axis, size: 60 }], cursor: { y: false },
  }, [x, ...series.map((s) => s.values)], box);
  if (link) {
    plot.over.addEventListener("click", () => {
      const i = plot.cursor.idx;
      if (i == null) return;
      const step = x.length > 1 ? x[1] - x[0] : 3600;
      const at = (s) => encodeURIComponent(new Date(s * 1000).toISOString());
      location.assign(link.replace("{from}", at(x[i])).replace("{until}", at(x[i] + step)));
    });
  }
  new ResizeObserver(() => plot.setSize({ width: box.clientWidth, height: plot.height })).observe(box);
}

export function drawCharts(root) {
  for (const box of root.querySelectorAll("[data-chart]:not([data-drawn])")) {
    box.dataset.drawn = "";
    draw(box).catch((e) => { box.textContent = e.message; });
  }
}
