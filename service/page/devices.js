// Devices in the order of trouble: the worst first, and alike ones by name.

import { count, plural } from "./format.js";
import { live } from "./live.js";
import { kindOf, ORDER } from "./states.js";

const NAMES = new Intl.Collator("en", { numeric: true });
let keys = [];
let known = null;

// Sorting ten thousand names takes long, so it is done only when there are new ones.
function names() {
  if (known !== live.devices || keys.length !== live.devices.size) {
    known = live.devices;
    keys = [...live.devices.keys()].sort(NAMES.compare);
  }
  return keys;
}

/** Lists of devices by kind, in the order of trouble. */
export function byKind({ search = "", kinds = null } = {}) {
  const wanted = search.toLowerCase();
  const lists = new Map(ORDER.map((kind) => [kind, []]));
  for (const key of names()) {
    const device = live.devices.get(key);
    if (wanted && !key.toLowerCase().includes(wanted) && !device.label.toLowerCase().includes(wanted)) continue;
    lists.get(kindOf(device)).push(device);
  }
  if (kinds?.size) for (const kind of ORDER) if (!kinds.has(kind)) lists.set(kind, []);
  return lists;
}

/** Whether there are more devices than the service shows: FAULTCUBE_LIVE_DEVICES limits them. */
export const areLeftOut = () => live.total > live.devices.size;

/** How many there are, in words. */
export function howMany() {
  const shown = live.devices.size;
  return areLeftOut() ? `${count(shown)} of ${plural(live.total, "device")} ${shown === 1 ? "is" : "are"} shown` : plural(shown, "device");
}

/** How many there are of each kind. */
export function counts() {
  const found = new Map(ORDER.map((kind) => [kind, 0]));
  for (const device of live.devices.values()) found.set(kindOf(device), found.get(kindOf(device)) + 1);
  return found;
}
