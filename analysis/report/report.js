// Sorts tables by a column: numbers as numbers, missing values last; a third click restores the original order.
// A row of several lines (ours, the paper's, the difference) is one <tbody> and stays together.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows].at(-1).cells;
  const rows = [...table.tBodies];
  const key = (row, column, numeric) => {
    const cell = row.rows[0].cells[column];
    if (numeric) return cell?.dataset.value ? Number(cell.dataset.value) : null;
    const text = cell?.querySelector(".text")?.textContent.trim() ?? "";
    return text === "" || text === "—" ? null : text;
  };
  const sort = (column, direction, numeric) => {
    const factor = direction === "descending" ? -1 : 1;
    const keyed = rows.map((row) => [row, direction === "none" ? 0 : key(row, column, numeric)]);
    const loose = keyed.filter(([row]) => !("stays" in row.dataset));
    loose.sort(([, a], [, b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return factor * (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b);
    });
    const fixed = keyed.filter(([row]) => "stays" in row.dataset);
    table.append(...[...loose, ...fixed].map(([row]) => row));
  };
  [...heads].forEach((head, column) => {
    if (head.tagName !== "TH" || !head.textContent.trim()) return;
    const numeric = head.dataset.sort === "number";
    const button = document.createElement("button");
    button.type = "button";
    button.title = "Sort by this column";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const first = numeric ? "descending" : "ascending";
      const second = numeric ? "ascending" : "descending";
      const before = head.getAttribute("aria-sort");
      const direction = before === "none" ? first : before === first ? second : "none";
      for (const other of heads) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", direction);
      sort(column, direction, numeric);
    });
  });
}
