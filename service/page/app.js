// Puts the page together: session, stream, what stands on every view, and the view of the address.

import { h, replace } from "./dom.js";
import { clock } from "./format.js";
import { forget, live, on, start } from "./live.js";
import { notice, withdraw, withdrawAll } from "./notices.js";
import { showNow } from "./now.js";
import { route } from "./router.js";
import { look, mayChange, mayRead, onSession, session, signOut } from "./session.js";
import { themeSwitch } from "./theme.js";

const VIEWS = {
  network: ["Network", () => import("./views/network.js")],
  cube: ["Cube", () => import("./views/cube.js")],
  incidents: ["Incidents", () => import("./views/incidents.js")],
  models: ["Models", () => import("./views/models.js")],
  health: ["Health", () => import("./views/health.js")],
  signin: ["Sign in", () => import("./views/signin.js")],
};

const at = (id) => document.getElementById(id);
const main = at("main");
const AGAIN = 5000; // ms until a view that could not be loaded is tried again
let shown = { view: null, close: null, update: null };

async function show() {
  let next = route();
  if (!VIEWS[next.view]) next = { ...next, view: "network" };
  if (!mayRead()) next = { ...next, view: "signin" };
  if (shown.view === next.view && shown.update) return shown.update(next);
  const [title, load] = VIEWS[next.view];
  shown.close?.();
  const mine = (shown = { view: next.view, close: null, update: null });
  for (const link of document.querySelectorAll("[data-view]")) {
    if (link.dataset.view === next.view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${title} – Faultcube`;
  const found = await load().catch(() => null);
  if (shown !== mine) return; // somebody was quicker
  if (!found) return sayAway(mine);
  replace(main);
  main.scrollTop = 0;
  Object.assign(mine, found.open(main, route(), show));
}

/** Say that the program of a view did not come, and ask for it again, at the latest when the connection is back. */
function sayAway(mine) {
  if (!main.querySelector("[data-away]")) {
    // Some browsers remember that a module did not come, until the page is loaded anew.
    const reload = h("button", { type: "button", on: { click: () => location.reload() } }, "Load the page anew");
    replace(main, h("div", { class: "page", "data-away": true }, h("p", { role: "status" }, "The service does not answer."), reload));
  }
  const again = () => shown === mine && show();
  const timer = setTimeout(again, AGAIN);
  const end = on("connection", ({ state }) => state === "live" && again());
  mine.close = () => {
    clearTimeout(timer);
    end();
  };
}

function showConnection({ state, since, status }) {
  const place = at("connection");
  place.dataset.state = state;
  place.textContent = { live: "live", connecting: "connecting" }[state] ?? `connection lost since ${clock(since)}`;
  if (state === "lost") {
    const why = status === 503 ? "it has as many viewers as it allows, or no model yet" : "what you see is from then";
    notice(`The connection to the service is lost since ${clock(since)}: ${why}. Trying again.`, { kind: "bad", name: "connection", stays: true });
  } else withdraw("connection");
}

function showServing() {
  const { bundle, revision } = live.scene;
  at("serving").textContent = `${bundle.name} ${bundle.version.slice(0, 8)}${revision ? `, revision ${revision}` : ""}`;
  at("serving").title = `Bundle ${bundle.name}, version ${bundle.version}, revision ${revision} of the classes`;
}

function showSession() {
  const button = at("session");
  const signedIn = session.read === "granted" || session.change === "granted";
  button.hidden = !signedIn && session.read === "open" && session.change === "off";
  button.textContent = signedIn ? "Sign out" : "Sign in";
  button.onclick = () => (signedIn ? leave() : (location.hash = "#/signin"));
}

function leave() {
  signOut().catch(({ message }) => notice(`You are still signed in: ${message}`, { kind: "bad", name: "session" }));
}

/** Whoever signed out leaves nothing to be read or pressed. */
function clear() {
  withdrawAll();
  warned.clear(); // what is still wrong is told anew
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
}

const STORE_AWAY = "The database is away: classes and incidents cannot be changed, and are shown as they were. Classification goes on.";
const NO_MODEL = "No model is served: records are taken, but not judged.";

const warned = new Set(); // names of the lines about the health

/** Show a line while something of the health is wrong; only a change is told, so that who dismissed it is left alone. */
function whileHealth(isWrong, name, text) {
  on("health", () => {
    const now = Boolean(live.health && isWrong(live.health));
    if (now === warned.has(name)) return;
    if (now) {
      warned.add(name);
      notice(text, { kind: "bad", name, stays: true });
    } else {
      warned.delete(name);
      withdraw(name);
    }
  });
}

let served = null;
function swapped() {
  const { name, version } = live.scene.bundle;
  if (served && served !== version) notice(`Another bundle is served now: ${name} ${version.slice(0, 8)}. All positions are new.`, { name: "bundle" });
  served = version;
}

async function begin() {
  themeSwitch(at("theme"));
  const drawNow = showNow(at("now"), at("open-count"));
  on("connection", showConnection);
  on("scene", showServing);
  on("scene", swapped);
  whileHealth(({ store }) => store === "away", "store", STORE_AWAY);
  whileHealth(({ ready }) => !ready, "ready", NO_MODEL);
  addEventListener("hashchange", show);
  try {
    await look();
  } catch {
    // The stream will say that the service is away, and try again.
  }
  onSession(() => {
    showSession();
    if (!mayRead() || !mayChange()) clear();
    if (mayRead()) start();
    else {
      forget();
      at("serving").textContent = at("serving").title = "";
      showConnection(live.connection);
    }
    drawNow();
    show();
  });
  showSession();
  if (mayRead()) start();
  await show();
}

begin();
