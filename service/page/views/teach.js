// Teach a class from the records of an incident: pick, name, look at what would change, confirm, undo.

import { post } from "../api.js";
import { h, replace, said } from "../dom.js";
import { count, plural, when } from "../format.js";
import { live } from "../live.js";
import { notice } from "../notices.js";
import { mayChange } from "../session.js";
import { drawReport } from "./report.js";

const SEVERITIES = ["critical", "major", "minor", "warning", "indeterminate"];

/** Open the dialog for an incident with its `records`. */
export function teach(incident) {
  // Echoes of a fault are not the fault: its own records are picked, as the service would.
  const own = incident.records.filter(({ label }) => label === incident.label);
  const picked = new Set(own.length ? own : incident.records);
  const entries = [...incident.records].sort((one, other) => picked.has(other) - picked.has(one));
  const boxes = entries.map((entry, at) => h("input", { type: "checkbox", id: `record-${at}`, checked: picked.has(entry), value: at }));
  const name = h("input", { id: "teach-name", required: true, maxlength: "200", autocomplete: "off", spellcheck: "false" });
  const severity = h("select", { id: "teach-severity" }, SEVERITIES.map((each) => h("option", { selected: each === "major" }, each)));
  const description = h("textarea", { id: "teach-description", rows: "2", maxlength: "1000" });
  const report = h("div", { "aria-live": "polite" });
  const dry = h("button", { class: "primary" }, "What would change?");
  const confirm = h("button", { type: "button", class: "primary", hidden: true, on: { click: enrol } }, "Teach it");
  const cancel = h("button", { type: "button", on: { click: () => dialog.close() } }, "Cancel");
  const form = h("form", { on: { submit: preview, input: stale } },
    h("h1", {}, "Teach this fault"),
    h("p", { class: "dim note" }, "The service learns a class from these records at once, without training. First see what would change."),
    h("div", { class: "columns teach" },
      h("div", {},
        h("div", { class: "fieldset" }, h("label", { for: "teach-name" }, "Name"), name),
        h("div", { class: "fieldset" }, h("label", { for: "teach-severity" }, "Severity"), severity),
        h("div", { class: "fieldset" }, h("label", { for: "teach-description" }, "Description, if any"), description)),
      h("fieldset", { class: "records" }, h("legend", {}, "Records it is learned from"), entries.map((entry, at) =>
        h("label", { for: `record-${at}` }, boxes[at], h("span", {}, when(entry.time), " ", said(entry.key), " ", h("span", { class: "dim" }, said(entry.label))))))),
    report, h("footer", {}, cancel, dry, confirm));
  const dialog = h("dialog", { "aria-label": "Teach this fault" }, form);
  let lesson = null;
  let force = false;

  function read() {
    const chosen = boxes.filter((box) => box.checked).map((box) => entries[Number(box.value)]);
    // By their places: an incident that goes on may have more records by now, at which nobody looked.
    return { name: name.value.trim(), severity: severity.value, description: description.value, records: chosen.map((entry) => incident.records.indexOf(entry)) };
  }

  const send = (option) => post(`incidents/${encodeURIComponent(incident.id)}/teach${option}`, lesson);

  // What was looked at is what is taught: after a change one has to look again.
  function stale() {
    confirm.hidden = true;
    dry.hidden = false;
    replace(report);
  }

  async function preview(event) {
    event.preventDefault();
    lesson = read();
    if (!lesson.records.length) return void replace(report, h("p", { class: "error" }, "Pick at least one record."));
    dry.disabled = true;
    try {
      const found = await send("?dry_run=true");
      showReport(found.report, null);
    } catch (failure) {
      refused(failure);
    } finally {
      dry.disabled = false;
    }
  }

  function refused({ message, problem }) {
    if (problem?.report) return showReport(problem.report, message);
    stale();
    replace(report, h("p", { class: "error", role: "alert" }, message));
  }

  function showReport(found, refusal) {
    force = refusal !== null;
    replace(report, refusal && h("p", { class: "error", role: "alert" }, refusal), drawReport(found));
    confirm.textContent = refusal ? "Teach it anyway" : "Teach it";
    confirm.hidden = false;
    dry.hidden = true;
    confirm.focus();
    report.scrollIntoView({ block: "nearest" });
  }

  async function enrol() {
    confirm.disabled = true;
    try {
      const { revision } = await send(force ? "?force=true" : "");
      dialog.close();
      offerUndo(lesson, revision);
    } catch (failure) {
      refused(failure);
    } finally {
      confirm.disabled = false;
    }
  }

  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  name.focus();
}

function offerUndo({ name, records }, revision) {
  const before = revision - 1;
  const say = (text, more) => mayChange() && notice(text, { name: "taught", ...more }); // not to whoever signed out meanwhile
  const undo = async () => {
    try {
      await post(`classes/revert/${before}`, undefined, { "If-Match": `"${revision}"` }); // not what others have changed since
      say(`${name} was taken back.`, { kind: "good" });
    } catch (failure) {
      say(`It was not undone: ${failure.message}`, { kind: "bad", actions: [["Try again", undo]], stays: true });
    }
  };
  const known = live.scene ? ` ${count(live.scene.classes.length + 1)} classes are known now.` : "";
  say(`${name} was taught from ${plural(records.length, "record")}: the next record like these gets its label.${known}`, { kind: "good", actions: [["Undo", undo]], stays: true });
}
