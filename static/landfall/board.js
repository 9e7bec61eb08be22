// The ops board: rows change where they stand; a new order is taken when nobody hovers, or when one asks for it.
import { connectionNotice, setClock, stayConnected } from "./live.js";

const form = document.getElementById("board");
const rows = document.getElementById("board-rows");
const button = document.getElementById("order");
let wanted = [...rows.children].map((row) => row.id);

const isBusy = () => rows.matches(":hover") || rows.querySelector("input:checked") || rows.contains(document.activeElement);
const stands = () => [...rows.children].map((row) => row.id);

/** The rows in the order of urgency; what has left the board leaves the page. */
const putInOrder = () => {
  for (const row of [...rows.children]) if (!wanted.includes(row.id)) row.remove();
  for (const id of wanted) rows.append(document.getElementById(id));
  settle();
};

const settle = () => {
  button.hidden = stands().join() === wanted.join();
  form.querySelector(".board").classList.toggle("is-empty", !rows.children.length);
  const ticked = rows.querySelectorAll("input:checked").length;
  document.getElementById("chosen").textContent = ticked ? `With the ${ticked} ticked:` : "With the ticked ones:";
};

/** Puts a row in the place of the old one: its tick and its mark stay. */
const replace = (old, html) => {
  const ticked = old.querySelector("input")?.checked;
  const marked = old.classList.contains("is-current");
  const focused = old.contains(document.activeElement);
  const id = old.id;
  old.outerHTML = html;
  const fresh = document.getElementById(id);
  if (ticked) fresh.querySelector("input").checked = true;
  fresh.classList.toggle("is-current", marked);
  if (focused) fresh.querySelector("input, a").focus();
};

const heard = ({ parts, order }) => {
  for (const { id, html, into } of parts) {
    const old = document.getElementById(id);
    if (old) replace(old, html);
    else if (into) rows.insertAdjacentHTML("beforeend", html);
  }
  wanted = order;
  for (const row of rows.children) row.classList.toggle("is-gone", !wanted.includes(row.id));
  if (isBusy()) settle();
  else putInOrder();
};

button.addEventListener("click", putInOrder);
rows.addEventListener("pointerleave", () => setTimeout(() => isBusy() || putInOrder(), 400));
form.addEventListener("change", (event) => {
  if (event.target.id === "all") for (const box of rows.querySelectorAll("input")) box.checked = event.target.checked;
  settle();
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "x" || event.target.closest("input:not([type=checkbox]), textarea, select")) return;
  rows.querySelector(".is-current input")?.click();
});

setClock(Number(form.dataset.now));
const query = () => Object.fromEntries(new URLSearchParams(form.dataset.query));
stayConnected(form.dataset.socket, query, heard, connectionNotice(document.getElementById("connection")));
