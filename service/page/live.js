// All that the page knows of the service, kept up to date by one stream; views listen to it.

import { get } from "./api.js";
import { seconds } from "./format.js";
import { notice, withdraw } from "./notices.js";
import { follow } from "./stream.js";

const MOST_RECORDS = 20_000;
const HEALTH_KEPT = 900; // seconds
const FIRST_WAIT = 2000; // ms
const LONGEST_WAIT = 30_000;
const MOST_PAGES = 50; // of 100 incidents that stand

export const live = {
  scene: null,
  radii: new Map(), // of the classes, in the unit of distances; the scene's are in that of positions
  devices: new Map(),
  total: 0,
  incidents: new Map(),
  incidentsBefore: null, // cursor of the incidents that are older than those here
  incidentsKept: "database",
  records: [],
  leftOut: 0,
  health: null,
  healthHistory: [],
  connection: { state: "connecting", since: Date.now() / 1000 },
  loaded: false,
};

const listeners = new Map();

/** Listen to a topic: devices, records, scene, model, health, incidents, connection, loaded. */
export function on(topic, act) {
  if (!listeners.has(topic)) listeners.set(topic, new Set());
  listeners.get(topic).add(act);
  return () => listeners.get(topic).delete(act);
}

function tell(topic, detail) {
  for (const act of listeners.get(topic) ?? []) act(detail);
}

let end = null;
let filled = null;
let again = 0; // timer of the next try
let missing = new Set();
let wait = FIRST_WAIT;
let visit = 0; // counts who signs out
let moment = 0; // counts what is learned of incidents, and when it was asked for
let taken = 0; // moment at which the list of incidents that is here was asked for
const learned = new Map(); // moment at which each incident was learned of by itself

/** What the service answers; after a sign-out that is for nobody, and neither comes nor fails. */
function ask(path) {
  const mine = visit;
  return new Promise((resolve, reject) => {
    const ours = (act) => (what) => mine === visit && act(what);
    get(path).then(ours(resolve), ours(reject));
  });
}

export function start() {
  stop();
  // What happened between two streams is told by none of them, so that all is loaded when this one is live.
  connected("connecting");
  end = follow("live/events", { event: take, state: connected });
}

export function stop() {
  end?.();
  end = null;
  clearTimeout(again);
  again = 0;
  withdraw("loading");
}

/** Whoever signs out leaves nothing behind to be read. */
export function forget() {
  stop();
  visit += 1;
  filled = null;
  learned.clear();
  Object.assign(live, {
    scene: null, radii: new Map(), devices: new Map(), total: 0, incidents: new Map(), incidentsBefore: null, records: [], leftOut: 0, health: null, healthHistory: [],
    connection: { state: "connecting", since: Date.now() / 1000 }, loaded: false,
  });
}

function connected(state, status) {
  const before = live.connection.state;
  if (before !== state) live.connection = { state, since: Date.now() / 1000, status };
  if (state === "live" && before !== "live") load();
  if (before !== state) tell("connection", live.connection);
  if (status === 401) get("live/health").catch(() => {});
}

/** Take everything anew: after a start, a reset, or a lost connection; what fails, until it does not. */
export async function load() {
  missing = new Set([loadDevices, loadIncidents, loadScene, loadHealth]);
  if (filled) missing.add(loadRecords);
  wait = FIRST_WAIT;
  await loadMissing();
}

/** Load what is missing; what fails stays so, and is tried again. */
async function loadMissing() {
  clearTimeout(again);
  again = 0;
  const failures = await Promise.all([...missing].map((part) => part().then(() => missing.delete(part) && null, (failure) => failure)));
  if (!end) return; // signed out meanwhile
  // Without these two the page would say that there is no incident, or that nothing has come in.
  live.loaded ||= !missing.has(loadDevices) && !missing.has(loadIncidents);
  tell("loaded");
  const failed = failures.find((failure) => failure);
  if (!failed) withdraw("loading");
  else if (failed.status !== 401) {
    if (failed.status) notice(`Not everything could be loaded, which is tried again: ${failed.message}`, { kind: "bad", name: "loading", stays: true });
    wait = Math.min(wait * 2, LONGEST_WAIT);
    loadLater();
  }
}

function loadLater(...parts) {
  for (const part of parts) missing.add(part);
  if (end && !again) again = setTimeout(loadMissing, wait);
}

async function loadScene() {
  const [scene, { classes }] = await Promise.all([ask("live/scene"), ask("classes")]);
  live.scene = scene;
  live.radii = new Map(classes.filter(({ state }) => state === "active").map(({ name, radius }) => [name, radius]));
  tell("scene");
}

async function loadDevices() {
  const { devices, total } = await ask("live/devices");
  live.devices = new Map(devices.map((device) => [device.key, device]));
  live.total = total;
  tell("devices");
}

/** Incidents that stand, and the latest that have ended. */
export async function loadIncidents() {
  const began = (moment += 1);
  const [open, settled, latest] = await Promise.all([allOf("open"), allOf("settled"), ask("incidents?most=100")]);
  if (began < taken) return; // a list that was asked for later is here already
  taken = began;
  const found = new Map([...live.incidents].filter(([id]) => learned.get(id) > began));
  for (const incident of [...latest.incidents, ...settled, ...open]) {
    // The lists are of different moments, too: what closed between them is in two.
    if (!(found.get(incident.id)?.sequence > incident.sequence)) found.set(incident.id, notOlder(incident, began));
  }
  live.incidents = found;
  live.incidentsBefore = latest.next ?? null;
  live.incidentsKept = latest.kept;
  tell("incidents");
}

/** All incidents of a status, however many began since: each of them may be the worst. */
async function allOf(status) {
  const found = [];
  let next = null;
  for (let page = 0; page < MOST_PAGES && (next || !page); page += 1) {
    const answer = await ask(`incidents?status=${status}&most=100${next ? `&cursor=${encodeURIComponent(next)}` : ""}`);
    found.push(...answer.incidents);
    next = answer.next;
  }
  return found;
}

/** An incident of a list, or what was learned of it since that list was asked for. */
function notOlder(incident, began) {
  const known = live.incidents.get(incident.id);
  if (!known || known.sequence < incident.sequence) return incident;
  return known.sequence > incident.sequence || learned.get(incident.id) > began ? known : incident;
}

/** The next page of older incidents; they are here until the list is loaded anew. */
export async function loadOlder() {
  const began = (moment += 1);
  const cursor = live.incidentsBefore;
  if (cursor === null) return;
  const page = await ask(`incidents?most=100&cursor=${encodeURIComponent(cursor)}`);
  if (live.incidentsBefore !== cursor) return; // the list is another one by now
  live.incidentsBefore = page.next ?? null;
  for (const incident of page.incidents) live.incidents.set(incident.id, notOlder(incident, began));
  tell("incidents");
}

async function loadHealth() {
  const { history, ...health } = await ask("live/health");
  live.health = health;
  live.healthHistory = history;
  tell("health");
}

/** The latest records; later ones come by the stream. */
export function fillRecords() {
  return (filled ??= loadRecords());
}

async function loadRecords() {
  const latest = live.records.at(-1); // those before may be of another bundle, or of a service before: their numbers say nothing
  const { records } = await ask("live/records?limit=20000").catch(() => ask("live/records?limit=5000"));
  const last = records.at(-1)?.n ?? -1;
  const since = live.records.slice(live.records.lastIndexOf(latest) + 1);
  live.records = records.concat(since.filter((record) => record.n > last));
  tell("records", []);
}

/** Incidents that are not over, the worst first. */
export function standing() {
  return [...live.incidents.values()].filter((incident) => incident.status !== "closed");
}

/** What was learned of an incident by a request or an event. */
export function know(incident) {
  if (live.incidents.get(incident.id)?.sequence > incident.sequence) return; // a late answer
  learned.set(incident.id, (moment += 1));
  live.incidents.set(incident.id, incident);
  tell("incidents", incident.id);
}

const TAKERS = {
  records({ records, left_out: leftOut }) {
    for (const record of records) live.records.push(record);
    if (live.records.length > MOST_RECORDS * 1.1) live.records.splice(0, live.records.length - MOST_RECORDS);
    live.leftOut += leftOut;
    tell("records", records);
  },
  devices({ devices }) {
    for (const device of devices) live.devices.set(device.key, device);
    live.total = Math.max(live.total, live.devices.size);
    tell("devices", devices);
  },
  async incident({ id }) {
    know(await ask(`incidents/${encodeURIComponent(id)}`));
  },
  async model(detail) {
    await loadScene();
    tell("model", detail);
    if (filled) await loadRecords();
  },
  health(health) {
    live.health = health;
    const last = live.healthHistory.at(-1);
    if (!last || health.time - last.time >= 5) live.healthHistory.push(health);
    while (live.healthHistory.length && live.healthHistory[0].time < health.time - HEALTH_KEPT) live.healthHistory.shift();
    tell("health");
  },
  reset: load,
};

function take(kind, data) {
  Promise.resolve(TAKERS[kind]?.(data)).catch(({ status }) => status !== 401 && loadLater(kind === "model" ? loadScene : loadIncidents));
}

/** Time of the newest record: the clock of recorded traffic, which may not be that on the wall. */
export function newest() {
  let time = 0;
  for (let at = Math.max(0, live.records.length - 500); at < live.records.length; at += 1) time = Math.max(time, live.records[at].time);
  return time || Date.now() / 1000;
}

export const byStart = (one, other) => seconds(other.first) - seconds(one.first);
