"use strict";
// Everything that is shown comes from the page's own data; text is set as text, never as HTML.
(() => {
  const element = document.getElementById("data");
  const data = element ? JSON.parse(element.textContent) : null;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  // Plotly understands some HTML in text.
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

  function colors() {
    const style = getComputedStyle(document.documentElement);
    return { text: style.getPropertyValue("--text").trim(), line: style.getPropertyValue("--line").trim() };
  }

  function traces(lines, styles, hidden) {
    const { text } = colors();
    return Object.entries(lines).map(([method, line]) => {
      const look = styles[method];
      const color = look.color === "#000000" ? text : look.color; // the upper bound is black, or white in the dark
      return {
        x: line.steps, y: line.mean, name: plain(method), mode: "lines+markers",
        visible: hidden.has(method) ? "legendonly" : true,
        line: { color, dash: look.dash }, marker: { color, symbol: look.symbol, size: 8, line: { color, width: 1.5 } },
        error_y: { type: "data", array: line.std, visible: line.std.some((value) => value > 0), thickness: 1, color },
        hovertemplate: "step %{x}: %{y:.2f}<extra>" + plain(method) + "</extra>",
      };
    });
  }

  function layout(title) {
    const { text, line } = colors();
    const narrow = window.innerWidth < 640;
    const axis = { gridcolor: line, zerolinecolor: line, linecolor: line };
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: text },
      margin: { l: 50, r: 10, t: 40, b: 45 }, hovermode: "closest",
      xaxis: { ...axis, title: { text: "step" }, dtick: 1, rangemode: "tozero" },
      yaxis: { ...axis, title: { text: plain(title) }, rangemode: "tozero" },
      legend: narrow ? { orientation: "h", y: -0.25 } : {},
    };
  }

  function chart(section) {
    const own = data[Number(section.dataset.chart)];
    const plot = section.querySelector(".plot");
    const chosen = (name) => section.querySelector("select." + name)?.value;
    const draw = () => {
      const hidden = new Set((plot.data || []).filter((trace) => trace.visible === "legendonly").map((trace) => trace.name));
      const names = new Set(Object.keys(own.styles).filter((method) => hidden.has(plain(method))));
      const ofClass = section.classList.contains("of-classes");
      const lines = ofClass ? own.of_classes[chosen("class")] : (own.curves[chosen("metric")] || {})[chosen("group")];
      const title = (ofClass ? own.class_metric : chosen("metric")) + " (%)";
      Plotly.react(plot, traces(lines || {}, own.styles, names), layout(title), { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d"] });
    };
    section.querySelectorAll("select").forEach((select) => select.addEventListener("change", draw));
    dark.addEventListener("change", draw);
    draw();
  }

  function pictures(section) {
    const own = data[Number(section.dataset.part)];
    const slider = section.querySelector("input[type=range]");
    const show = () => {
      const step = Number(slider.value);
      section.querySelector("output").textContent = step;
      section.querySelectorAll("tbody tr").forEach((row) => {
        const image = own.images[Number(row.dataset.image)];
        row.querySelector("img.truth").src = image.truth[step];
        row.querySelectorAll("td[data-method] img").forEach((picture) => {
          const files = image.predictions[picture.parentElement.dataset.method];
          picture.src = files[Math.min(step, files.length - 1)];
        });
      });
      section.querySelectorAll(".legend li").forEach((entry) => entry.classList.toggle("later", Number(entry.dataset.step) > step));
    };
    slider.addEventListener("input", show);
    section.querySelectorAll("input[type=checkbox]").forEach((box) => box.addEventListener("change", () => {
      section.querySelectorAll("[data-method]").forEach((cell) => {
        if (cell.dataset.method === box.value) cell.hidden = !box.checked;
      });
    }));
    show();
  }

  async function values(table) {
    const { default: DataTable } = await window.tableModule;
    document.documentElement.classList.toggle("dark", dark.matches);
    dark.addEventListener("change", () => document.documentElement.classList.toggle("dark", dark.matches));
    const panes = table.dataset.panes.split(",").map((name) => data.columns.indexOf(name));
    const text = DataTable.render.text();
    new DataTable(table, {
      data: data.rows,
      columns: data.columns.map((title, place) => ({
        title: plain(title), render: data.numbers.includes(place) ? undefined : text, className: data.numbers.includes(place) ? "dt-right" : "",
      })),
      order: [], pageLength: 25, scrollX: true,
      layout: { top1: { searchPanes: { columns: panes, initCollapsed: true, cascadePanes: true, viewTotal: false } } },
      columnDefs: [{ targets: panes, searchPanes: { show: true } }],
    });
    table.dataset.ready = "yes";
  }

  document.querySelectorAll(".chart").forEach(chart);
  document.querySelectorAll(".pictures").forEach(pictures);
  const table = document.getElementById("values");
  if (table) values(table);
})();
