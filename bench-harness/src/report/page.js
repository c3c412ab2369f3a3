"use strict";
// Tables sort by the column whose button is pressed: numbers downwards first, words upwards, cells without a value last.
// Equal cells keep their order, so that one can sort by one column, then by another.
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const number = head.classList.contains("n");
      const usual = number ? "descending" : "ascending";
      const other = number ? "ascending" : "descending";
      const order = head.getAttribute("aria-sort") === usual ? other : usual;
      heads.forEach((h) => h.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const key = (row) => {
        const cell = row.cells[column];
        if (!number) return cell.firstChild?.textContent ?? "";
        return cell.dataset.v === undefined ? null : Number(cell.dataset.v);
      };
      const sign = order === "ascending" ? 1 : -1;
      const body = table.tBodies[0];
      const keyed = [...body.rows].map((row) => [key(row), row]);
      keyed.sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null);
        return sign * (number ? a - b : a.localeCompare(b, "en", { numeric: true }));
      });
      body.append(...keyed.map(([, row]) => row));
    });
  });
}

// Series of a chart come and go with their boxes.
for (const box of document.querySelectorAll("input[data-series]")) {
  const show = () => {
    const series = document.querySelector(`[data-of="${box.dataset.series}"]`);
    series?.classList.toggle("off", !box.checked);
  };
  box.addEventListener("change", show);
  show(); // a browser may remember boxes from before
}

// A link to something in a fold opens the fold; paper shows all.
const reveal = () => {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
  target?.scrollIntoView?.();
};
addEventListener("hashchange", reveal);
reveal();
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")];
  opened.forEach((fold) => (fold.open = true));
});
addEventListener("afterprint", () => opened.forEach((fold) => (fold.open = false)));
