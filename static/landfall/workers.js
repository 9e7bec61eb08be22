// The workers: the page looks again every two seconds, unless somebody is at a row of it with the keyboard.
import { setClock } from "./live.js";

const tables = () => document.getElementById("workers");
setClock(Number(tables().dataset.now));

document.addEventListener("htmx:beforeRequest", (event) => {
  const now = tables();
  if (now.contains(document.activeElement) || now.querySelector(".is-current")) event.preventDefault();
});
document.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.serverResponse.includes('id="workers"')) return;
  // whoever is no longer logged in gets another page
  event.detail.shouldSwap = false;
  location.reload();
});
document.addEventListener("htmx:afterSwap", () => setClock(Number(tables().dataset.now)));
