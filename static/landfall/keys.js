// Keyboard: `/` searches, `j` and `k` walk through a list, Enter opens, `?` shows the keys. And what needs a click:
// copying a command, closing an open menu. Everything works without this file.
(() => {
  "use strict";
  const typing = (element) => element.closest("input, textarea, select, [contenteditable]");
  const rows = () => [...document.querySelectorAll("[data-row]")].filter((row) => row.offsetParent !== null);

  const walk = (by) => {
    const all = rows();
    if (!all.length) return;
    const at = all.findIndex((row) => row.classList.contains("is-current"));
    const next = all[Math.max(0, Math.min(all.length - 1, at < 0 ? 0 : at + by))];
    all[at]?.classList.remove("is-current");
    next.classList.add("is-current");
    // with the focus on its link, Enter opens it and a screen reader says it
    (next.querySelector(".row-link") || next.querySelector("a"))?.focus({ preventScroll: true });
    next.scrollIntoView({ block: "nearest" });
  };

  const keys = {
    "/": () => {
      const search = document.querySelector("[data-search]");
      search?.focus();
      search?.select();
    },
    j: () => walk(1),
    k: () => walk(-1),
    "?": () => document.getElementById("help")?.showModal(),
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (typing(event.target)) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (event.key === "Escape") document.querySelectorAll("details.nav-user[open]").forEach((menu) => (menu.open = false));
    if (keys[event.key] && !document.querySelector("dialog[open]")) {
      event.preventDefault();
      keys[event.key]();
    }
  });

  document.addEventListener("click", async (event) => {
    for (const menu of document.querySelectorAll("details.nav-user[open]")) {
      if (!menu.contains(event.target)) menu.open = false;
    }
    if (event.target.closest("[data-help]")) document.getElementById("help")?.showModal();
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const text = button.parentElement.querySelector("code").textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "copied";
    } catch {
      // the clipboard is refused on plain http: select the text, so that Ctrl-C does it
      getSelection().selectAllChildren(button.parentElement.querySelector("code"));
      button.textContent = "press Ctrl-C";
    }
    setTimeout(() => (button.textContent = "copy"), 2000);
  });

  // on a phone the navigation scrolls sideways: show where one is
  document.querySelector(".nav-main [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

  // a filter is a form that works with Enter; with scripts a choice is enough
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-submit-on-change]")) event.target.form.requestSubmit();
  });
})();
