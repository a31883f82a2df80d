// One incident: what it is, what one can do about it, its members over time, evidence, comments and history.

import { get, post } from "../api.js";
import { h, redraw, replace, said, table } from "../dom.js";
import { count, duration, percent, plural, seconds, when, withUnit } from "../format.js";
import { live, on } from "../live.js";
import { notice } from "../notices.js";
import { address } from "../router.js";
import { mayChange, session } from "../session.js";
import { glyph, kindOfIncident, meaning, state } from "../states.js";
import { teach } from "./teach.js";

const DEEDS = {
  acknowledged: "acknowledged it", commented: "commented", closed: "closed it", not_a_fault: "said that it was no fault", taught: "taught it as a class",
  new_normal: "called it normal",
};

/** Show an incident in a place; `know` takes what a change answers. */
export function showIncident(place, id, know) {
  let closed = false;
  const path = `incidents/${encodeURIComponent(id)}`;

  async function look() {
    try {
      const incident = await get(path);
      if (!closed) draw(incident);
    } catch (failure) {
      if (!closed) replace(place, back(), h("p", { class: "dim" }, failure.status === 404 ? "This incident is not known." : failure.message));
    }
  }

  function draw(incident) {
    const typed = place.querySelector("textarea")?.value ?? "";
    const focused = place.contains(document.activeElement) ? document.activeElement.dataset.act : null;
    redraw(place, back(), head(incident), actions(incident, act), members(incident), evidence(incident), comments(incident, act, typed), history(incident));
    if (focused) place.querySelector(`[data-act="${focused}"]`)?.focus();
  }

  async function act(what, body) {
    try {
      const incident = await post(`${path}/${what}`, body);
      know(incident);
      if (!closed) draw(incident);
      return true;
    } catch (failure) {
      notice(`It was not done: ${failure.message}`, { kind: "bad" });
      return false;
    }
  }

  const ends = [on("incidents", (changed) => changed === id && look()), on("loaded", look)];
  look();
  return {
    close() {
      closed = true;
      for (const end of ends) end();
    },
  };
}

const back = () => h("a", { class: "back", href: address("incidents") }, "Close");

function head(incident) {
  const { label, root, status, stale, severity, first, last, ended, keys, counts, acknowledged, acknowledged_by: by } = incident;
  const length = (ended ? seconds(ended) : Math.max(seconds(last), Date.now() / 1000)) - seconds(first);
  return [
    h("h1", {}, glyph(kindOfIncident(incident), 20), " ", said(label), root ? [" at ", said(root)] : ""),
    h("dl", { class: "facts" },
      h("dt", {}, "State"), h("dd", {}, status, stale && ", stale: nothing has changed for long", status === "settled" && ": it has become the normal level; acknowledge it to end it", `, ${severity}`),
      h("dt", {}, "Began"), h("dd", {}, when(first), ended ? [", ended ", when(ended)] : "", ` (${ended ? "lasted" : "for"} ${duration(length)})`),
      h("dt", {}, "Root"), h("dd", {}, root ? h("a", { href: address("network", root) }, said(root)) : "not known"),
      h("dt", {}, "Seen on"), h("dd", {}, plural(keys.length, "device")),
      h("dt", {}, "Bad records"), h("dd", {}, Object.entries(counts).map(([name, number], at) => [at ? ", " : "", said(name), ` ${count(number)}`])),
      acknowledged && [h("dt", {}, "Acknowledged"), h("dd", {}, when(acknowledged), by && ` by ${by}`)]),
  ];
}

function actions(incident, act) {
  const { id, status, acknowledged, label, records } = incident;
  if (!mayChange()) {
    return h("p", { class: "dim actions" }, session.change === "off" ? "Nothing can be changed here: the service has no admin key." : [h("a", { href: "#/signin" }, "Sign in"), " with an admin key to acknowledge, close or teach."]);
  }
  const button = (what, title, sure) => h("button", { type: "button", "data-act": what, on: { click: () => (!sure || confirm(sure)) && act(what) } }, title);
  return h("div", { class: "row actions" },
    label === "unknown" && records.length > 0 && h("button", { type: "button", class: "primary", "data-act": "teach", on: { click: () => teach(incident) } }, "Teach this"),
    !acknowledged && button("acknowledge", "Acknowledge"),
    status !== "closed" && button("close", "Close"),
    status !== "closed" && button("new-normal", "New normal", "Close it, and learn the levels of its devices anew, from what they send now?"),
    button("not-a-fault", "Not a fault", "Close it, and keep its first records as good traffic for the next training?"),
    label !== "unknown" && records.length > 0 && h("button", { type: "button", "data-act": "teach", on: { click: () => teach(incident) } }, "Teach as another class"),
    h("span", { class: "hidden-text" }, `Incident ${id}`));
}

function members({ members: all, root, first, last }) {
  const [from, to] = [seconds(first), Math.max(seconds(last), seconds(first) + 1)];
  return [h("h2", { class: "section" }, "Members"), h("ul", { class: "members" }, [...all].sort((one, other) => (other.key === root) - (one.key === root) || seconds(one.first) - seconds(other.first)).map((member) => {
    const left = ((seconds(member.first) - from) / (to - from)) * 100;
    const width = Math.max(1, ((seconds(member.last) - seconds(member.first)) / (to - from)) * 100);
    const kind = kindOfIncident({ label: member.labels[0], severity: severityOf(member.labels[0]) });
    return h("li", {},
      h("span", { class: "who" }, h("a", { href: address("network", member.key) }, said(member.key)), member.key === root && [" ", h("span", { class: "tag", "data-kind": "accent" }, "root")]),
      h("span", { class: "track", title: `from ${new Date(seconds(member.first) * 1000).toISOString()}` }, h("span", { css: { left: `${Math.min(left, 99)}%`, width: `${Math.min(width, 100 - left)}%`, background: `var(${meaning(kind).color})` } })),
      h("span", { class: "dim" }, member.labels.map((label, at) => [at ? ", " : "", said(label)]), ` · ${plural(member.records, "record")}${member.active ? "" : " · well again"}`));
  }))];
}

const severityOf = (label) => live.scene?.classes.find(({ name }) => name === label)?.severity;

function evidence({ evidence: all }) {
  if (!all.length) return null;
  const units = new Map(live.scene?.fields.map(({ name, unit }) => [name, unit]));
  return [h("h2", { class: "section" }, "Why"), all.map(({ key, time, label, fields }) => h("div", { class: "evidence" },
    h("p", {}, state(kindOfIncident({ label, severity: severityOf(label) }), label), " at ", said(key), ", ", when(time)),
    !fields.length ? h("p", { class: "dim" }, "No field stands out.") : table(`Fields that drove the verdict on ${key}`, [["Field"], ["Value", true], ["Typical", true], ["Share", true]], fields.map(({ field, value, typical, share }) => [
      said(field), withUnit(value, units.get(field)), withUnit(typical, units.get(field)), percent(share)]))))];
}

function comments({ comments: all }, act, typed) {
  const text = h("textarea", { rows: "2", maxlength: "1000", id: "comment", "data-act": "text" });
  text.value = typed;
  const submit = async (event) => {
    event.preventDefault();
    if (!text.value.trim()) return;
    const written = text.value;
    text.value = "";
    if (!(await act("comment", { text: written }))) text.value = written;
  };
  return [h("h2", { class: "section" }, "Comments"),
    all.length ? h("ul", { class: "comments" }, all.map((comment) => h("li", {}, h("span", { class: "dim" }, when(comment.at), " ", said(comment.who ?? "somebody")), said(comment.text, "p")))) : h("p", { class: "dim" }, "None."),
    mayChange() && h("form", { class: "row comment", on: { submit } }, h("label", { class: "hidden-text", for: "comment" }, "Comment"), text, h("button", { "data-act": "comment" }, "Comment"))];
}

function history({ history: all }) {
  return [h("h2", { class: "section" }, "History"), h("ol", { class: "history" }, all.map(({ kind, time, at, note, who }) =>
    h("li", {}, h("span", { class: "dim" }, when(time ?? at)), " ", h("strong", {}, who ? `${who} ${DEEDS[kind] ?? kind}` : kind), note && [": ", said(note)])))];
}
