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
    if (event.target.matches("[name=swap], [name=keep]")) form.requestSubmit(redraw);
  });
}

// One press is enough: a second click must not ask for a second install.
form.addEventListener("submit", (event) => {
  if (form.dataset.sent) event.preventDefault();
  form.dataset.sent = "yes";
});
addEventListener("pageshow", () => delete form.dataset.sent);
