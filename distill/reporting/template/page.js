// The rows that changed: shows those that contain the words and have the outcome. On paper everything is open.
(() => {
  const words = document.getElementById("words"), outcome = document.getElementById("outcome");
  const rows = [...document.querySelectorAll("[data-outcome]")], status = document.getElementById("shown");
  const show = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !(wanted.every((word) => text.includes(word))
        && (!outcome.value || row.dataset.outcome === outcome.value));
      count += row.hidden ? 0 : 1;
    }
    status.textContent = `${count} of ${rows.length} rows`;
  };
  if (words) {
    document.querySelector(".search").hidden = false;
    words.addEventListener("input", show);
    outcome.addEventListener("change", show);
    show();
  }
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => (part.open = true)));
})();
