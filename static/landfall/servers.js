// The list of servers: when something has happened to one of them, its rows are read again and put in place.
import { connectionNotice, stayConnected } from "./live.js";

const refresh = async () => {
  const answer = await fetch(location.href);
  if (!answer.ok || answer.redirected) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  const list = fresh.getElementById("servers");
  if (list) document.getElementById("servers")?.setAttribute("data-seen", list.dataset.seen);
  for (const row of fresh.querySelectorAll("#servers > tr")) {
    const old = document.getElementById(row.id);
    // a row that says the same stays: what one reads or has marked does not move
    if (old && old.innerHTML !== row.innerHTML) old.replaceChildren(...row.childNodes);
  }
};

const notice = document.createElement("p");
if (document.getElementById("servers")) {
  // what happened before the connection stood, or while it was gone, is told as well
  const seen = () => ({ seen: document.getElementById("servers")?.dataset.seen ?? "" });
  stayConnected("/ws/servers/", seen, (message) => message.changed && refresh(), connectionNotice(notice));
}
