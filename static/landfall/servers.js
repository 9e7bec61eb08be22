// The list of servers: when something has happened to one of them, its rows are read again and put in place.
import { connectionNotice, stayConnected } from "./live.js";

const refresh = async () => {
  const answer = await fetch(location.href);
  if (!answer.ok || answer.redirected) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const row of fresh.querySelectorAll("#servers > tr")) {
    const old = document.getElementById(row.id);
    // a row that says the same stays: what one reads or has marked does not move
    if (old && old.innerHTML !== row.innerHTML) old.replaceChildren(...row.childNodes);
  }
};

const notice = document.createElement("p");
if (document.getElementById("servers")) {
  stayConnected("/ws/servers/", () => ({}), (message) => message.changed && refresh(), connectionNotice(notice));
}
