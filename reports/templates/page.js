(() => {
  "use strict";
  const number = /^[-+]?(\d[\d,]*\.?\d*|\.\d+)%?$/;

  // Of "0.3711† ± 0.0012" the mean counts; a dash is a missing value and stays last in either direction.
  const content = (row, column) =>
    row.cells[column].textContent.split("±")[0].replace(/[†\s]+/g, " ").trim();
  const parsed = (text) => parseFloat(text.replace(/,/g, ""));
  const missing = (text) => text === "–" || text === "";

  const sort = (table, header, column) => {
    const body = table.tBodies[0];
    const direction = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    const entries = Array.from(body.rows, (row) => ({ row, text: content(row, column) }));
    const known = entries.filter((entry) => !missing(entry.text));
    const numeric = known.length > 0 && known.every((entry) => number.test(entry.text));
    known.sort((first, second) => direction * (numeric
      ? parsed(first.text) - parsed(second.text)
      : first.text.localeCompare(second.text, "en", { numeric: true })));
    const rest = entries.filter((entry) => missing(entry.text));
    body.append(...[...known, ...rest].map((entry) => entry.row));
    for (const other of header.parentNode.cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
  };

  // A long list of contents would fill a phone: there it stays closed until it is asked for.
  if (matchMedia("(min-width: 40.01rem)").matches) document.getElementById("contents").open = true;

  // Headers become buttons here, so that without scripts there are none that do nothing.
  for (const table of document.querySelectorAll("table")) {
    const headers = table.tHead.rows[table.tHead.rows.length - 1].cells;
    if (table.tBodies[0].rows.length < 2) continue;
    Array.from(headers).forEach((header, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      button.addEventListener("click", () => sort(table, header, column));
      header.append(button);
    });
  }
})();
