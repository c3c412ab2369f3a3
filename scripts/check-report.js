"use strict";
// Runs inside a report in a real browser (scripts/check-report.sh puts it there) and leaves its verdict as the page's title.
{
  const problems = window.reportErrors.map((message) => `console: ${message}`);
  const check = (holds, words) => holds || problems.push(words);
  let sorted = 0;

  for (const table of document.querySelectorAll("table")) {
    const body = table.tBodies[0];
    const rows = new Set(body.rows);
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const where = `${table.closest(".scroll").ariaLabel}, column ${column + 1} (${head.textContent})`;
      const button = head.querySelector("button");
      if (!button.closest("details:not([open])")) {
        button.focus();
        check(document.activeElement === button, `${where}: the keyboard does not reach it`);
      }
      const orders = [0, 1].map(() => {
        button.click();
        return head.getAttribute("aria-sort");
      });
      check(new Set(orders).size === 2, `${where}: orders ${orders}`);
      for (let again = 0; again < 2; again++) {
        button.click();
        const sign = head.getAttribute("aria-sort") === "ascending" ? 1 : -1;
        const cells = [...body.rows].map((row) => row.cells[column]);
        check(cells.length === rows.size && [...body.rows].every((row) => rows.has(row)), `${where}: rows changed`);
        for (let i = 1; i < cells.length; i++) {
          const [a, b] = [cells[i - 1], cells[i]];
          const inOrder = head.classList.contains("n")
            ? !("v" in b.dataset) || ("v" in a.dataset && sign * (Number(b.dataset.v) - Number(a.dataset.v)) >= 0)
            : sign * a.firstChild.textContent.localeCompare(b.firstChild.textContent, "en", { numeric: true }) <= 0;
          check(inOrder, `${where}: '${a.textContent}' before '${b.textContent}'`);
        }
        sorted += 1;
      }
    });
  }

  for (const box of document.querySelectorAll("input[data-series]")) {
    const series = document.querySelector(`[data-of="${box.dataset.series}"]`);
    box.click();
    check(series && getComputedStyle(series).display === "none", `${box.dataset.series} cannot be switched off`);
    box.click();
    check(series && getComputedStyle(series).display !== "none", `${box.dataset.series} cannot be switched on`);
  }

  for (const fold of document.querySelectorAll("details")) fold.open = true;
  const { scrollWidth, clientWidth } = document.documentElement;
  check(scrollWidth <= clientWidth, `the page is ${scrollWidth} wide in a window of ${clientWidth}`);
  check(sorted > 20, `only ${sorted} columns were sorted`);
  check(document.querySelectorAll("svg.chart").length > 0, "there is no chart");
  for (const link of document.querySelectorAll("nav a")) {
    check(document.querySelector(link.getAttribute("href")), `${link.textContent} leads nowhere`);
  }
  check(!document.querySelector("[src], link:not([href^='data:'])"), "the page needs another file");
  document.title = problems.length ? `FAILED ${problems.slice(0, 5).join(" | ")}` : `PASSED ${sorted}, width ${clientWidth}`;
}
