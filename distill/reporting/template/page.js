// The rows that changed: shows those that contain the words and have the outcome, a few at first.
(() => {
  const words = document.getElementById("words"), outcome = document.getElementById("outcome");
  const rows = [...document.querySelectorAll("[data-outcome]")], status = document.getElementById("shown");
  const more = document.getElementById("more");
  let limit = 20;
  const show = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const fits = wanted.every((word) => text.includes(word))
        && (!outcome.value || row.dataset.outcome === outcome.value);
      found += fits ? 1 : 0;
      row.hidden = !fits || found > limit;
    }
    status.textContent = `${Math.min(found, limit)} of ${found} rows`;
    more.hidden = found <= limit;
  };
  if (words) {
    document.querySelector(".search").hidden = false;
    words.addEventListener("input", show);
    outcome.addEventListener("change", show);
    more.addEventListener("click", () => { limit = rows.length; show(); });
    show();
  }
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => (part.open = true)));
})();
