// Requests to the service this page came from; every failure is one sentence.

export class Refused extends Error {
  constructor(status, detail, problem) {
    super(detail);
    this.status = status;
    this.problem = problem;
  }
}

let needKey = () => {};

/** Call when an answer says that a key is needed. */
export function onKeyNeeded(act) {
  needKey = act;
}

export async function get(path, options = {}) {
  return answer(await send(path, { headers: { Accept: "application/json" }, ...options }), path);
}

/** Change something; repeated sends of one call change it once. */
export async function change(method, path, body, more = {}) {
  const headers = { Accept: "application/json", "Idempotency-Key": unique(), ...more };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  return answer(await send(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) }), path);
}

export const post = (path, body, more) => change("POST", path, body, more);

async function send(path, options) {
  try {
    return await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The service does not answer.");
  }
}

async function answer(response, path) {
  const body = response.status === 204 ? null : await response.json().catch(() => null);
  if (response.ok) return body;
  if (response.status === 401 && path !== "session") needKey();
  throw new Refused(response.status, body?.detail || body?.title || `The service answered ${response.status}.`, body);
}

// crypto.randomUUID is missing where the page is not served by https or from loopback.
function unique() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
