// Bundles: which is served, what its card says, drift, the shadow, and the history of the classes.

import { get, post } from "../api.js";
import { h, put, replace, said, table } from "../dom.js";
import { count, figure, percent, plural, when } from "../format.js";
import { on } from "../live.js";
import { notice } from "../notices.js";
import { mayChange, onSession } from "../session.js";
import { kindOfIncident, state } from "../states.js";
import { driftPanel } from "./drift.js";

export function open(place) {
  const about = h("section", { class: "panel" });
  const bundles = h("section", { class: "panel" });
  const classes = h("section", { class: "panel" });
  const shadow = h("section", { class: "panel" });
  const revisions = h("section", { class: "panel" });
  const drift = driftPanel();
  put(place, h("div", { class: "page" }, h("h1", { class: "hidden-text" }, "Models"),
    h("div", { class: "columns" }, h("div", {}, about, bundles, drift.element, shadow), h("div", {}, classes, revisions))));
  let closed = false;

  const show = (element, path, draw) => get(path).then(
    (found) => closed || draw(element, found, look),
    (failure) => closed || replace(element, element.querySelector("h2") ?? "", h("p", { class: "dim" }, failure.message)));

  function look() {
    show(about, "model", drawAbout);
    show(bundles, "models", drawBundles);
    show(classes, "classes", drawClasses);
    show(revisions, "revisions?most=20", drawRevisions);
    get("models/shadow").then((found) => closed || drawShadow(shadow, found), (failure) => closed || drawNoShadow(shadow, failure));
  }

  const ends = [on("model", look), on("loaded", look), on("connection", ({ state: now }) => now === "live" && look()), onSession(look)];
  look();
  return {
    close() {
      closed = true;
      drift.close();
      for (const end of ends) end();
    },
  };
}

function drawAbout(place, { name, version, created, about, dimensions, fields, metrics }) {
  const test = metrics?.test ?? {};
  const served = test.served ?? {};
  const figures = [
    ["False alarms", percent(test.false_alarm_rate, 1), "of good records"], ["Missed faults", percent(test.missed_fault_rate, 1), "of faults"],
    ["Macro F1", figure(served.macro_f1), ""], ["Unknown in error", percent(test.false_unknown_rate, 1), "of known ones"],
  ].filter(([, value]) => value && value !== "–");
  replace(place, h("h2", {}, said(name), " is served"),
    h("p", { class: "said-wide" }, said(about)),
    h("dl", { class: "facts" },
      h("dt", {}, "Version"), h("dd", {}, h("code", {}, version)),
      h("dt", {}, "Trained"), h("dd", {}, when(created)),
      h("dt", {}, "Shape"), h("dd", {}, `${plural(fields.length, "field")}, ${plural(dimensions, "dimension")}`)),
    figures.length > 0 && [h("h3", { class: "section" }, `On ${count(test.records ?? 0)} test records it never saw`),
      h("dl", { class: "figures" }, figures.map(([title, value, of]) => h("div", {}, h("dt", {}, title), h("dd", {}, value, " ", h("small", {}, of)))))]);
}

function drawBundles(place, { models }, again) {
  const activate = (model) => async () => {
    if (!confirm(`Serve ${model.folder} (${model.version.slice(0, 8)}) from now on?`)) return;
    try {
      await post(`models/${encodeURIComponent(model.version)}/activate`);
      notice(`${model.folder} is served now.`, { kind: "good" });
    } catch (failure) {
      notice(`It was not done: ${failure.message}`, { kind: "bad" });
    }
    again();
  };
  const served = models.find((model) => model.served);
  const older = (model) => served?.created && model.created && model.created < served.created;
  replace(place, h("h2", {}, "Bundles at hand"), table("Bundles at hand", [["Folder"], ["Version"], ["Trained"], [""]], models.map((model) => [
    said(model.folder), h("code", {}, model.version?.slice(0, 8) ?? "–"), when(model.created),
    model.state === "refused" || !model.version ? h("span", { class: "error" }, said(model.reason)) : model.served ? h("span", { class: "tag", "data-kind": "accent" }, model.pinned ? "served, pinned" : "served")
      : mayChange() && h("button", { type: "button", on: { click: activate(model) } }, older(model) ? "Roll back" : "Activate")])),
  models.length < 2 && h("p", { class: "dim note" }, "There is no other to activate: a folder of bundles as FAULTCUBE_BUNDLE is watched, and what training writes there appears here."));
}

function drawClasses(place, { classes }) {
  replace(place, h("h2", {}, "Classes"), table("Classes", [["Class"], ["Severity"], ["From"], ["Records", true], ["Radius", true]], classes.map((each) => [
    state(each.good ? "good" : kindOfIncident({ label: each.name, severity: each.severity }), each.name), each.severity,
    each.state === "active" ? each.source : h("span", { title: each.reason ?? "" }, `${each.source}, ${each.state}`), count(each.records), figure(each.radius)])));
}

function drawRevisions(place, { revisions }, again) {
  const revert = (to, what) => async () => {
    const first = what === "profiles" ? "none" : "those of the bundle";
    if (!confirm(to ? `Take the ${what} back to revision ${to}?` : `Take the ${what} back to ${first}?`)) return;
    try {
      const { revision } = await post(`${what}/revert/${to}`);
      notice(`The ${what} are those of revision ${to} again; that is revision ${revision}.`, { kind: "good" });
    } catch (failure) {
      notice(`It was not done: ${failure.message}`, { kind: "bad" });
    }
    again();
  };
  replace(place, h("h2", {}, "History of the classes"), revisions.length ? table("History of the classes", [["Revision", true], ["When"], ["What"], ["Who"], [""]], revisions.map((entry) => [
    count(entry.revision), when(entry.at), said(whatOf(entry)), said(entry.who ?? "–"),
    mayChange() && h("button", { type: "button", on: { click: revert(entry.revision - 1, sitesOf(entry).length ? "profiles" : "classes") } }, "Undo")]))
    : h("p", { class: "dim" }, "Nothing was taught yet. An unknown incident can be taught from its page."));
}

// The sites whose profiles an entry touches.
const sitesOf = ({ profiles_before: before, profiles_after: after }) => Object.keys({ ...before, ...after });

// The names of the classes or sites that an entry touches, beside what was done.
function whatOf(entry) {
  const { action, before, after } = entry;
  const names = new Set([...Object.keys(before ?? {}), ...Object.keys(after ?? {}), ...sitesOf(entry)]);
  return names.size && ![...names].some((name) => action.includes(name)) ? `${action}: ${[...names].join(", ")}` : action;
}

function drawShadow(place, { bundle, against, refused, records, skipped, agreement, classes, disagreements }) {
  replace(place, h("h2", {}, "Shadow"), refused && h("p", { class: "error" }, said(refused)),
    bundle && h("p", {}, said(bundle.name), " ", h("code", {}, bundle.version.slice(0, 8)), against && [" beside ", h("code", {}, against.version.slice(0, 8))], agreement === null || agreement === undefined ? ": no record yet." : [": agrees on ", h("strong", {}, percent(agreement, 2)), ` of ${count(records)} records`, skipped > 0 && `, ${count(skipped)} skipped`, "."]),
    classes?.length > 0 && h("div", { class: "bars" }, classes.map((each) => [said(each.label),
      h("div", { class: "track" }, h("div", { class: "fill", css: { width: `${each.agreement * 100}%`, background: "var(--accent)" } })),
      h("span", { class: "value" }, `${percent(each.agreement, 1)} of ${count(each.records)}`)])),
    disagreements?.length > 0 && [h("h3", { class: "section" }, "Latest disagreements"), table("Latest disagreements", [["When"], ["Served"], ["Shadow"]], disagreements.slice(0, 5).map((each) => [when(each.time), said(each.label), said(each.shadow_label)]))]);
}

function drawNoShadow(place, { status, message }) {
  replace(place, h("h2", {}, "Shadow"), h("p", { class: "dim" }, status === 404 ? "No bundle runs in the shadow. With FAULTCUBE_SHADOW a second one judges the same records silently, and its agreement is shown here." : message));
}
