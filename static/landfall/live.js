// What every live page shares: a connection that comes back, parts that are replaced, clocks that tick.

const FIRST_PAUSE = 400;
const LONGEST_PAUSE = 8000;
const OVER = [1000, 4404]; // nothing more can come; nothing one may see

/** Keeps a websocket open. `query()` is asked at every connect, so that the server goes on where the page stands.
    `heard(message)` gets each message, `connected(yes)` every change of the connection. */
export function stayConnected(path, query, heard, connected) {
  let pause = FIRST_PAUSE;
  const connect = () => {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}${path}?${new URLSearchParams(query())}`);
    socket.addEventListener("message", (event) => {
      pause = FIRST_PAUSE;
      connected(true);
      const message = JSON.parse(event.data);
      setClock(message.now);
      heard(message);
    });
    socket.addEventListener("open", () => connected(true));
    socket.addEventListener("close", (event) => {
      if (OVER.includes(event.code)) return;
      connected(false);
      // spread out, so that a server that comes back is not met by everybody at once
      setTimeout(connect, pause * (0.75 + Math.random() / 2));
      pause = Math.min(pause * 2, LONGEST_PAUSE);
    });
  };
  connect();
}

/** Shows a notice once the connection has been gone for a while; a quick return is nobody's business. */
export function connectionNotice(notice) {
  let timer = null;
  return (yes) => {
    clearTimeout(timer);
    timer = null;
    if (yes) notice.hidden = true;
    else timer = setTimeout(() => (notice.hidden = false), 3000);
  };
}

const shown = new Map();

/** Puts parts into the page: one with `into` is appended there once, any other replaces the element of its id. */
export function apply(parts) {
  for (const { id, html, into } of parts) {
    const old = document.getElementById(id);
    if (into && !old) document.getElementById(into)?.insertAdjacentHTML("beforeend", html);
    else if (!into && old && shown.get(id) !== html) replace(old, html);
    shown.set(id, html);
  }
  const token = document.querySelector("input[name=csrfmiddlewaretoken]:not([data-csrf])")?.value;
  for (const field of document.querySelectorAll("[data-csrf]")) field.value = token || "";
}

/** Puts html in an element's place; what was chosen in it stays chosen, as long as one still can. */
const replace = (old, html) => {
  const chosen = [...old.querySelectorAll("select")].map((field) => [field.id, field.value, field === document.activeElement]);
  old.outerHTML = html;
  for (const [id, value, focused] of chosen) {
    const field = document.getElementById(id);
    if (field?.querySelector(`option[value="${CSS.escape(value)}"]`)) field.value = value;
    if (focused) field?.focus();
  }
};

let skew = 0;

/** The server's time, in seconds: what the page shows does not depend on the visitor's clock. */
export const setClock = (now) => (skew = now - Date.now() / 1000);

const stopwatch = (seconds) => {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (number) => String(number).padStart(2, "0");
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
};

const tick = () => {
  const now = Date.now() / 1000 + skew;
  for (const clock of document.querySelectorAll("[data-since]")) clock.textContent = stopwatch(now - clock.dataset.since);
  for (const clock of document.querySelectorAll("[data-until]")) clock.textContent = stopwatch(clock.dataset.until - now);
};
setInterval(tick, 1000);

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-dialog]");
  if (opener) {
    event.preventDefault();
    document.getElementById(opener.dataset.dialog).showModal();
  }
  event.target.closest("[data-close]")?.closest("dialog").close();
});

// A second click on a button that does something is a slip: the first one is on its way.
document.addEventListener("submit", (event) => {
  if (!event.target.matches("[data-once]")) return;
  if (event.target.dataset.sent) event.preventDefault();
  event.target.dataset.sent = "yes";
});
// back from the history the page is as it was left, and may act again
addEventListener("pageshow", () => document.querySelectorAll("[data-sent]").forEach((form) => delete form.dataset.sent));
