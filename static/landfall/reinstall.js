// The reinstall page with scripts: the last button waits for the host name, and drawings follow the choices.
const confirm = document.getElementById("confirm");
const erase = document.getElementById("erase");
if (confirm && erase) {
  const look = () => (erase.disabled = confirm.value.trim().toLowerCase() !== confirm.dataset.expected.toLowerCase());
  confirm.addEventListener("input", look);
  addEventListener("pageshow", look);
  look();
}

const form = document.getElementById("reinstall");
const redraw = document.getElementById("redraw");
if (redraw) {
  redraw.hidden = true;
  form.addEventListener("change", (event) => {
    if (event.target.matches("[name=swap], [name=disk], [name=encrypt]")) form.requestSubmit(redraw);
  });
}

// A mistake in a layout that somebody writes is shown in the text, selected.
form.addEventListener("click", (event) => {
  const button = event.target.closest("[data-from]");
  if (!button) return;
  const text = document.getElementById("custom");
  text.focus();
  // places are counted in characters, a text field counts some of them twice
  const behind = (count) => [...text.value].slice(0, count).join("").length;
  text.setSelectionRange(behind(Number(button.dataset.from)), behind(Number(button.dataset.to)));
});

// One press is enough: a second click must not ask for a second install.
form.addEventListener("submit", (event) => {
  if (form.dataset.sent) event.preventDefault();
  form.dataset.sent = "yes";
});
addEventListener("pageshow", () => delete form.dataset.sent);

// What is on its way with the whole form must not be overtaken by a drawing of it: both write the same draft.
document.addEventListener("htmx:beforeRequest", (event) => {
  if (form.dataset.sent) event.preventDefault();
});
