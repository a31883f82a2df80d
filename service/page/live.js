// All that the page knows of the service, kept up to date by one stream; views listen to it.

import { get } from "./api.js";
import { seconds } from "./format.js";
import { notice, withdraw } from "./notices.js";
import { follow } from "./stream.js";

const MOST_RECORDS = 20_000;
const HEALTH_KEPT = 900; // seconds
const FIRST_WAIT = 2000; // ms
const LONGEST_WAIT = 30_000;

export const live = {
  scene: null,
  radii: new Map(), // of the classes, in the unit of distances; the scene's are in that of positions
  devices: new Map(),
  total: 0,
  incidents: new Map(),
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

export function start() {
  stop();
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
  filled = null;
  Object.assign(live, {
    scene: null, radii: new Map(), devices: new Map(), total: 0, incidents: new Map(), records: [], leftOut: 0, health: null, healthHistory: [],
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
  const [scene, { classes }] = await Promise.all([get("live/scene"), get("classes")]);
  live.scene = scene;
  live.radii = new Map(classes.filter(({ state }) => state === "active").map(({ name, radius }) => [name, radius]));
  tell("scene");
}

async function loadDevices() {
  const { devices, total } = await get("live/devices");
  live.devices = new Map(devices.map((device) => [device.key, device]));
  live.total = total;
  tell("devices");
}

/** Incidents that stand, and the latest that have ended. */
export async function loadIncidents() {
  const pages = await Promise.all([get("incidents?status=open&most=100"), get("incidents?status=settled&most=100"), get("incidents?most=100")]);
  live.incidents = new Map(pages.reverse().flatMap(({ incidents }) => incidents).map((incident) => [incident.id, incident]));
  live.incidentsKept = pages[0].kept;
  tell("incidents");
}

async function loadHealth() {
  const { history, ...health } = await get("live/health");
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
  const { records } = await get("live/records?limit=20000").catch(() => get("live/records?limit=5000"));
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
    know(await get(`incidents/${encodeURIComponent(id)}`));
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
