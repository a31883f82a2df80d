// Before the first paint: the chosen theme, else the system's, so that nobody is blinded at night.
{
  let chosen = null;
  try {
    chosen = localStorage.getItem("faultcube.theme");
  } catch {
    // Storage may be forbidden; then the system's theme it is.
  }
  const light = matchMedia("(prefers-color-scheme: light)").matches;
  document.documentElement.dataset.theme = chosen || (light ? "light" : "dark");
}
