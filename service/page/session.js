// Who looks: whether a key is needed to read or to change, and signing in and out.

import { get, onKeyNeeded, post, change } from "./api.js";

export let session = { read: "open", change: "off" };
const listeners = new Set();

export function onSession(act) {
  listeners.add(act);
  return () => listeners.delete(act);
}

function become(next) {
  const before = session;
  session = next;
  if (before.read !== next.read || before.change !== next.change) for (const act of listeners) act(next);
  return next;
}

export const look = async () => become(await get("session"));
export const signIn = async (key) => become(await post("session", { key }));

export const signOut = async () => become(await change("DELETE", "session"));

export const mayRead = () => session.read !== "needed";
export const mayChange = () => session.change === "granted";

onKeyNeeded(() => {
  look().catch(() => {});
});
