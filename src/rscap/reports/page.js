"use strict";
// Tables that sort, and line charts that tell their values where the pointer is.
(function () {
  function cellValue(row, column) {
    const cell = row.cells[column];
    const text = cell.dataset.value !== undefined ? cell.dataset.value : cell.textContent;
    const number = parseFloat(text.replace(/,/g, ""));
    return Number.isNaN(number) ? text : number;
  }

  function compare(a, b) {
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a === "number") return -1;
    if (typeof b === "number") return 1;
    return a.localeCompare(b);
  }

  document.querySelectorAll("table.sortable").forEach(function (table) {
    const heads = table.tHead.rows[0].cells;
    Array.from(heads).forEach(function (head, column) {
      const button = document.createElement("button");
      button.type = "button";
      if (!head.textContent) head.textContent = "name";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", function () {
        const down = head.getAttribute("aria-sort") !== "descending";
        Array.from(heads).forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = Array.from(table.tBodies[0].rows);
        rows.sort((a, b) => (down ? -1 : 1) * compare(cellValue(a, column), cellValue(b, column)));
        rows.forEach((row) => table.tBodies[0].appendChild(row));
      });
    });
  });

  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  document.body.appendChild(tip);

  function seriesOf(chart) {
    return Array.from(chart.querySelectorAll("polyline[data-x]")).map((line) => ({
      label: line.dataset.label,
      colour: line.dataset.colour,
      x: line.dataset.x.split(" ").map(Number),
      y: line.dataset.y.split(" "),
      points: line.getAttribute("points").split(" ").map((point) => point.split(",").map(Number)),
    }));
  }

  function nearest(points, x) {
    let best = 0;
    points.forEach((point, index) => {
      if (Math.abs(point[0] - x) < Math.abs(points[best][0] - x)) best = index;
    });
    return best;
  }

  document.querySelectorAll("svg.chart.hover").forEach(function (chart) {
    const series = seriesOf(chart);
    const box = chart.viewBox.baseVal;
    const guide = chart.querySelector("line.guide");
    if (!series.length || !guide) return;

    function hide() {
      tip.hidden = true;
      guide.setAttribute("visibility", "hidden");
    }

    function show(event) {
      const place = chart.getBoundingClientRect();
      const x = ((event.clientX - place.left) / place.width) * box.width;
      const found = series.map((one) => [one, nearest(one.points, x)]);
      const closest = found.reduce((a, b) =>
        Math.abs(b[0].points[b[1]][0] - x) < Math.abs(a[0].points[a[1]][0] - x) ? b : a);
      const at = closest[0].points[closest[1]][0];
      guide.setAttribute("x1", at);
      guide.setAttribute("x2", at);
      guide.setAttribute("visibility", "visible");
      const head = document.createElement("b");
      head.textContent = chart.dataset.across + " " + closest[0].x[closest[1]].toLocaleString("en");
      tip.replaceChildren(head);
      found.forEach(function (one) {
        const index = nearest(one[0].points, at);
        const line = document.createElement("div");
        const swatch = document.createElement("span");
        swatch.className = "swatch c" + one[0].colour;
        line.append(swatch, one[0].label + " " + one[0].y[index]);
        tip.append(line);
      });
      tip.hidden = false;
      const width = tip.offsetWidth, right = event.clientX + 14 + width > document.documentElement.clientWidth;
      tip.style.left = Math.max(4, right ? event.clientX - 14 - width : event.clientX + 14) + "px";
      tip.style.top = Math.max(4, event.clientY - tip.offsetHeight - 10) + "px";
    }

    chart.addEventListener("pointermove", show);
    chart.addEventListener("pointerdown", show);
    chart.addEventListener("pointerleave", hide);
    document.addEventListener("scroll", hide, { passive: true });
  });
})();
