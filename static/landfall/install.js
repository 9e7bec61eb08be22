// The install page: new lines join their log, steps open, the log follows its end until one scrolls up.
// Without this file every link on the page leads to a page that shows the same.
import { apply, connectionNotice, setClock, stayConnected } from "./live.js";

const steps = document.getElementById("install");
const state = { after: steps.dataset.after, seq: steps.dataset.seq, current: steps.dataset.current };
// The page moves on with the install until one picks a step or a line.
let selected = steps.dataset.selected;
// Another page's anchor may still be in the address: a browser keeps it through a redirect.
const LINE = /^([a-z-]+)-(\d+)-L(\d+)$/;
let picked = selected !== state.current || LINE.test(location.hash.slice(1));

const MOST_LINES = 6000;
const KEPT_LINES = 4000;

// --- logs

/** A log's own state: whether it follows its end, how many lines came unseen, what came while it was being read. */
const logs = new WeakMap();
const about = (log) => {
  if (!logs.has(log)) {
    logs.set(log, { follows: true, unseen: 0, reading: false, queue: [] });
    log.addEventListener("scroll", () => scrolled(log), { passive: true });
  }
  return logs.get(log);
};

const isLoaded = (log) => "loaded" in log.dataset;
const endsHere = (log) => isLoaded(log) && !("later" in log.dataset);

const scrolled = (log) => {
  if (!log.clientHeight) return;
  const mine = about(log);
  mine.follows = endsHere(log) && log.scrollHeight - log.scrollTop - log.clientHeight < 24;
  if (mine.follows) mine.unseen = 0;
  showFollowing(log);
};

const showFollowing = (log) => {
  const mine = about(log);
  const button = log.parentElement.querySelector(".log-more");
  button.hidden = mine.follows || (!mine.unseen && endsHere(log));
  button.textContent = mine.unseen ? `${mine.unseen} new line${mine.unseen === 1 ? "" : "s"}` : "To the end";
  const follows = log.closest(".attempt").querySelector("[data-follows]");
  follows.hidden = !mine.follows || steps.dataset.live !== "yes" || log.dataset.step !== state.current;
};

const toTheEnd = async (log) => {
  if (!endsHere(log)) await read(log, log.dataset.url, "whole");
  about(log).follows = true;
  about(log).unseen = 0;
  log.scrollTop = log.scrollHeight;
  showFollowing(log);
};

/** Puts chunks at the end of their log; the same chunk never twice. */
const append = (log, chunks) => {
  const mine = about(log);
  if (mine.reading) return void mine.queue.push(...chunks);
  if (!endsHere(log)) return; // what is not on the page is read when one asks for it
  const fresh = chunks.filter((chunk) => !document.getElementById(`chunk-${chunk.id}`));
  if (!fresh.length) return;
  const before = log.querySelectorAll(".log-line").length;
  log.insertAdjacentHTML("beforeend", fresh.map((chunk) => chunk.html).join(""));
  if (mine.follows) {
    trim(log);
    log.scrollTop = log.scrollHeight;
  } else {
    mine.unseen += log.querySelectorAll(".log-line").length - before;
  }
  showFollowing(log);
};

/** Keeps the page light: of a log that is followed for hours, the oldest lines leave; a link brings them back. */
const trim = (log) => {
  let lines = log.querySelectorAll(".log-line").length;
  if (lines < MOST_LINES) return;
  for (const chunk of [...log.querySelectorAll(".chunk")]) {
    if (lines <= KEPT_LINES) break;
    lines -= chunk.childElementCount;
    chunk.remove();
  }
  log.querySelector("[data-edge=before]")?.remove();
  const edge = document.createElement("a");
  edge.className = "log-edge";
  edge.dataset.edge = "before";
  edge.href = `${log.dataset.url}?before=${log.querySelector(".chunk").dataset.offset}`;
  edge.textContent = "Earlier lines";
  log.prepend(edge);
};

/** Reads a stretch of a log from the server and puts it in place: as the whole, before or behind what is there. */
const read = async (log, url, place) => {
  const mine = about(log);
  if (mine.reading) return;
  mine.reading = true;
  try {
    const address = new URL(url, location.href);
    address.searchParams.set("bare", "1");
    const answer = await fetch(address);
    if (!answer.ok || answer.redirected) return void location.reload();
    put(log, await answer.text(), place);
  } catch {
    // the connection is gone: what was there stays, and the link can be used again
  } finally {
    mine.reading = false;
    append(log, mine.queue.splice(0));
  }
};

const put = (log, html, place) => {
  const height = log.scrollHeight;
  log.querySelector(`[data-edge=${place}]`)?.remove();
  if (place === "before") log.querySelector(".log-context")?.remove();
  if (place === "whole") log.innerHTML = html;
  else log.insertAdjacentHTML(place === "before" ? "afterbegin" : "beforeend", html);
  if (place === "before") log.scrollTop += log.scrollHeight - height;
  log.dataset.loaded = "";
  if (log.querySelector("[data-edge=behind]")) log.dataset.later = "";
  else delete log.dataset.later;
};

// --- steps

const panel = (step) => document.getElementById(`panel-${step}`);

const select = (step) => {
  selected = step;
  for (const one of steps.querySelectorAll(".step-panel")) one.classList.toggle("is-open", one.dataset.panel === step);
  markSelected();
  for (const log of panel(step)?.querySelectorAll(".attempt[open] .log") ?? []) show(log);
};

const markSelected = () => {
  for (const link of steps.querySelectorAll("a[data-step]")) {
    if (link.dataset.step === selected) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
  for (const field of steps.querySelectorAll("[type=search]")) {
    field.toggleAttribute("data-search", field.closest(".step-panel").dataset.panel === selected && field.closest(".attempt").open);
  }
};

/** A log that has become visible: read now if it was not, and at its end. */
const show = async (log) => {
  if (!isLoaded(log)) await read(log, log.dataset.url, "whole");
  if (about(log).follows && endsHere(log)) log.scrollTop = log.scrollHeight;
  showFollowing(log);
};

const visibleLog = () => panel(selected)?.querySelector(".attempt[open] .log");

/** Goes to a line by its anchor (`copy-1-L42`), reading its stretch of the log first if it is not on the page. */
const goTo = async (anchor) => {
  const [, step, attempt, number] = anchor.match(LINE) ?? [];
  const details = step && document.getElementById(`attempt-${step}-${attempt}`);
  if (!details) return;
  picked = true;
  const log = details.querySelector(".log");
  about(log).follows = false;
  details.open = true;
  if (!document.getElementById(anchor)) await read(log, `${log.dataset.url}?line=${number}`, "whole");
  select(step);
  mark(anchor);
  document.getElementById(anchor)?.scrollIntoView({ block: "center" });
  scrolled(log);
};

const mark = (anchor) => {
  for (const old of steps.querySelectorAll(".is-marked")) old.classList.remove("is-marked");
  document.getElementById(anchor)?.classList.add("is-marked");
};

steps.addEventListener("click", (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  const [step, number, edge] = ["a[data-step]", "a.log-no:not([data-far])", "a.log-edge"].map((what) => event.target.closest(what));
  if (step || number || edge) event.preventDefault();
  if (step) {
    picked = step.dataset.step !== state.current;
    history.replaceState(null, "", picked ? `?step=${step.dataset.step}` : location.pathname);
    select(step.dataset.step);
  }
  if (number) {
    history.replaceState(null, "", number.href);
    picked = true;
    mark(number.parentElement.id);
  }
  if (edge) read(edge.closest(".log"), edge.href, edge.dataset.edge);
  if (event.target.matches(".log-more")) toTheEnd(event.target.parentElement.querySelector(".log"));
});
steps.addEventListener("toggle", (event) => event.target.open && show(event.target.querySelector(".log")), true);
addEventListener("hashchange", () => goTo(location.hash.slice(1)));
document.addEventListener("keydown", (event) => {
  if (event.key !== "e" || event.target.closest("input, textarea") || event.ctrlKey || event.metaKey) return;
  const log = visibleLog();
  if (log) toTheEnd(log);
});

// --- search in what is on the page; the whole log can be searched on a page of its own

const search = (field, step) => {
  const words = field.value.trim().toLowerCase();
  const log = field.closest(".attempt").querySelector(".log");
  const found = [...log.querySelectorAll(".log-line")].filter((line) => {
    const hit = words !== "" && line.querySelector(".log-text").textContent.toLowerCase().includes(words);
    line.classList.toggle("is-found", hit);
    return hit;
  });
  const at = found.length ? (Number(field.dataset.at ?? -1) + step + found.length) % found.length : 0;
  field.dataset.at = step ? at : -1;
  if (step && found.length) found[at].scrollIntoView({ block: "center" });
  const result = field.parentElement.querySelector(".log-found");
  result.textContent = words ? `${found.length} line${found.length === 1 ? "" : "s"} here. ` : "";
  if (words && (log.querySelector(".log-edge") || !found.length)) {
    const whole = document.createElement("a");
    whole.href = `${log.dataset.url}?${new URLSearchParams({ q: field.value.trim() })}`;
    whole.textContent = "Search the whole log";
    result.append(whole);
  }
};
steps.addEventListener("input", (event) => event.target.matches("[type=search]") && search(event.target, 0));
steps.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.target.matches("[type=search]")) search(event.target, event.shiftKey ? -1 : 1);
});

// --- what comes in

const heard = (message) => {
  if (message.parts) refresh(message);
  for (const [id, chunks] of grouped(message.log ?? [])) {
    const log = document.getElementById(id);
    if (log) append(log, chunks);
  }
  if (message.progress) apply(message.progress);
  if (message.after) state.after = message.after;
};

const refresh = (message) => {
  const wasOpen = new Set([...steps.querySelectorAll(".attempt[open]")].map((one) => one.id));
  apply(message.parts);
  state.seq = message.seq;
  steps.dataset.live = message.live ? "yes" : "no";
  document.title = message.title;
  foldFormer(wasOpen);
  const reading = picked || (visibleLog() && !about(visibleLog()).follows);
  const moved = state.current !== message.current;
  state.current = message.current;
  if (moved && !reading) select(state.current);
  else markSelected();
};

/** Where a new attempt has begun, the one before it is folded, unless somebody reads in it. */
const foldFormer = (wasOpen) => {
  for (const attempts of steps.querySelectorAll(".attempts")) {
    const last = attempts.lastElementChild;
    if (!last || wasOpen.has(last.id) || !last.open) continue;
    for (const one of attempts.children) {
      if (one !== last && one.open && about(one.querySelector(".log")).follows) one.open = false;
    }
  }
};

/** The chunks by their log, in their order. */
const grouped = (chunks) => {
  const found = new Map();
  for (const chunk of chunks) found.set(chunk.log, [...(found.get(chunk.log) ?? []), chunk]);
  return found;
};

setClock(Number(steps.dataset.now));
for (const log of steps.querySelectorAll(".log")) about(log);
markSelected();
if (location.hash) goTo(location.hash.slice(1));
else if (visibleLog()) show(visibleLog());
if (steps.dataset.live === "yes") {
  const query = () => ({ after: state.after, seq: state.seq });
  stayConnected(steps.dataset.socket, query, heard, connectionNotice(document.getElementById("connection")));
}
