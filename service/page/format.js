// Numbers with units, and times in the local zone with UTC on hover.

import { h } from "./dom.js";

const SHORT = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const LONG = new Intl.DateTimeFormat(undefined, {
  year: "numeric", month: "short", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
});
const WHOLE = new Intl.NumberFormat("en");

/** Seconds since the epoch of what the service wrote: a number, or an ISO text. */
export function seconds(time) {
  return typeof time === "number" ? time : Date.parse(time) / 1000;
}

/** A time of today as a clock shows it, an older one with its date. */
export function clock(time) {
  const at = new Date(seconds(time) * 1000);
  const today = at.toDateString() === new Date().toDateString();
  return (today ? SHORT : LONG).format(at);
}

export function utc(time) {
  return `${new Date(seconds(time) * 1000).toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

/** A time element: local, UTC in its title. */
export function when(time) {
  if (time === null || time === undefined) return "–";
  const at = new Date(seconds(time) * 1000);
  return h("time", { datetime: at.toISOString(), title: utc(time) }, clock(time));
}

/** A length of time with its two largest units: 4 min 12 s. */
export function duration(length) {
  const whole = Math.max(0, Math.round(length));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min${whole < 600 && whole % 60 ? ` ${whole % 60} s` : ""}`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

export function ago(time) {
  return `${duration(Date.now() / 1000 - seconds(time))} ago`;
}

export function count(number) {
  return WHOLE.format(number);
}

/** Three significant digits, without the noise behind them. */
export function figure(value) {
  if (typeof value !== "number") return value === null || value === undefined ? "–" : String(value);
  if (!Number.isFinite(value)) return String(value);
  if (Number.isInteger(value)) return WHOLE.format(value);
  const size = Math.abs(value);
  if (size >= 1000) return WHOLE.format(Math.round(value));
  if (size >= 1e-5 || !size) return String(Number(value.toPrecision(3)));
  return value.toExponential(1);
}

export function percent(share, digits = 0) {
  return share === null || share === undefined ? "–" : `${(share * 100).toFixed(digits)} %`;
}

/** A value of a field with its unit; "1" is no unit. */
export function withUnit(value, unit) {
  const text = figure(value);
  if (!unit || unit === "1" || text === "–") return text;
  return unit.startsWith("1/") ? `${text}/${unit.slice(2)}` : `${text} ${unit}`;
}

export function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}
