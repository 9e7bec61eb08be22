// Runs before the first paint. Without it the system's choice of light or dark holds; a choice made here overrules it.
(() => {
  "use strict";
  const root = document.documentElement;
  const order = ["system", "light", "dark"];
  const read = () => {
    try {
      return localStorage.getItem("landfall.theme") || "system";
    } catch {
      return "system"; // a browser that forbids storage follows the system
    }
  };
  const show = (theme) => {
    if (theme === "system") delete root.dataset.bsTheme;
    else root.dataset.bsTheme = theme;
    for (const word of document.querySelectorAll("[data-theme-word]")) word.textContent = theme;
  };

  root.classList.add("js");
  show(read());
  document.addEventListener("DOMContentLoaded", () => show(read()));
  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-theme-toggle]")) return;
    const next = order[(order.indexOf(read()) + 1) % order.length];
    try {
      localStorage.setItem("landfall.theme", next);
    } catch {
      // then the choice lasts as long as the page
    }
    show(next);
  });
})();
