// Server-sent events by fetch, which unlike EventSource can back off and say why it failed.

const FIRST_WAIT = 500;
const LONGEST_WAIT = 10_000;
const SILENCE = 40_000; // the service sends a comment every 15 s
const SHORT = 1000; // ms; a service that ends streams sooner than this is not asked at once

/** Keep a stream open: `event(kind, data)`, `state("live" | "lost", detail)`. Gives what ends it. */
export function follow(path, { event, state }) {
  let ended = false;
  let lastId = null;
  let wait = FIRST_WAIT;
  let opened = null; // when the stream was, if it was
  let abort = null;
  let wake = () => {};

  async function once() {
    opened = null;
    abort = new AbortController();
    const headers = { Accept: "text/event-stream" };
    if (lastId !== null) headers["Last-Event-ID"] = lastId;
    const response = await fetch(path, { headers, signal: abort.signal, cache: "no-store", credentials: "same-origin" });
    if (!response.ok) throw new Error(String(response.status), { cause: response.status });
    if (ended) return;
    opened = performance.now();
    state("live");
    await read(response.body, abort, (kind, data, id) => {
      if (id !== null) lastId = id;
      event(kind, data);
    });
  }

  async function forever() {
    while (!ended) {
      let status = null;
      let lost = false;
      try {
        await once();
      } catch (error) {
        lost = true;
        status = error.cause ?? null;
      }
      if (ended) return;
      const long = opened !== null && performance.now() - opened > SHORT;
      if (long) wait = FIRST_WAIT;
      // The service ends every stream after an hour: then nothing is lost, unless it does not open the next one.
      if (lost) state("lost", status);
      else if (long) continue;
      await pause();
    }
  }

  // Many pages that lost the same service do not come back in the same moment.
  async function pause() {
    await new Promise((resolve) => {
      wake = resolve;
      setTimeout(resolve, wait * (0.75 + Math.random() / 2));
    });
    wait = Math.min(wait * 2, LONGEST_WAIT);
  }

  const hurry = () => wake();
  addEventListener("online", hurry);
  forever();
  return () => {
    ended = true;
    removeEventListener("online", hurry);
    abort?.abort();
    wake();
  };
}

async function read(body, abort, act) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let timer = null;
  try {
    for (;;) {
      clearTimeout(timer);
      timer = setTimeout(() => abort.abort(), SILENCE);
      const { done, value } = await reader.read();
      if (done) return;
      const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) tell(block, act);
    }
  } finally {
    clearTimeout(timer);
  }
}

function tell(block, act) {
  let kind = "message";
  let id = null;
  const data = [];
  for (const line of block.split("\n")) {
    const at = line.indexOf(":");
    if (at <= 0) continue;
    const value = line.slice(at + 1).replace(/^ /, "");
    const name = line.slice(0, at);
    if (name === "event") kind = value;
    else if (name === "data") data.push(value);
    else if (name === "id") id = value;
  }
  if (data.length || kind !== "message") act(kind, data.length ? JSON.parse(data.join("\n")) : null, id);
}
