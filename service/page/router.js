// Hash routes, so that every view has an address behind any path prefix.

/** `#/network/leaf%201?x=1` is {view: "network", id: "leaf 1", query}. */
export function route(hash = location.hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?");
  const [view, ...rest] = path.split("/");
  let id = null;
  try {
    id = rest.length ? decodeURIComponent(rest.join("/")) : null;
  } catch {
    id = rest.join("/"); // not a good escape: as it stands
  }
  return { view: view || "network", id, query: new URLSearchParams(query) };
}

export function address(view, id = null, query = null) {
  const text = query ? `?${new URLSearchParams(query)}` : "";
  return `#/${view}${id === null ? "" : `/${encodeURIComponent(id)}`}${text}`;
}
