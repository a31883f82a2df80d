// Sign in with a key; the service answers with a cookie that no script can read.

import { h } from "../dom.js";
import { session, signIn } from "../session.js";

export function open(place) {
  const input = h("input", { id: "key", type: "password", autocomplete: "current-password", required: true, spellcheck: "false" });
  const error = h("p", { class: "error", role: "alert" });
  const button = h("button", { class: "primary" }, "Sign in");
  const submit = async (event) => {
    event.preventDefault();
    button.disabled = true;
    error.textContent = "";
    try {
      await signIn(input.value);
      location.hash = "#/network";
    } catch (failure) {
      error.textContent = failure.status === 401 ? "The service does not know this key." : failure.message;
      input.select();
    } finally {
      button.disabled = false;
    }
  };
  const needed = session.read === "needed";
  place.append(h("div", { class: "signin panel" }, h("h1", {}, "Sign in"),
    h("p", { class: "dim" }, needed ? "This service shows its network to those who have a key." : "Reading needs no key here; changing does: an admin key."),
    h("form", { on: { submit } },
      h("input", { type: "text", autocomplete: "username", value: "faultcube", hidden: true }), // for password managers
      h("div", { class: "fieldset" }, h("label", { for: "key" }, "Key"), input), error, button,
      h("p", { class: "dim" }, "Keys are made by ", h("code", {}, "faultcube key"), "; who runs the service has them."))));
  input.focus();
  return {};
}
