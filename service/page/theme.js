// Dark or light: the system's, until somebody chooses. Canvases take their colours from here.

const root = document.documentElement;
const listeners = new Set();
let cached = null;

/** The value of a colour, for canvases. */
export function colors() {
  if (!cached) {
    const style = getComputedStyle(root);
    cached = new Proxy({}, { get: (known, name) => (known[name] ??= style.getPropertyValue(name).trim()) });
  }
  return cached;
}

/** Call when the theme changes; gives what ends it. */
export function onTheme(act) {
  listeners.add(act);
  return () => listeners.delete(act);
}

export function themeSwitch(button) {
  const say = () => {
    const other = root.dataset.theme === "light" ? "dark" : "light";
    button.textContent = other === "light" ? "Light" : "Dark";
    button.setAttribute("aria-label", `Use the ${other} theme`);
  };
  const use = (theme) => {
    root.dataset.theme = theme;
    cached = null;
    say();
    for (const act of listeners) act();
  };
  button.addEventListener("click", () => {
    const theme = root.dataset.theme === "light" ? "dark" : "light";
    try {
      localStorage.setItem("faultcube.theme", theme);
    } catch {
      // Not kept then.
    }
    use(theme);
  });
  matchMedia("(prefers-color-scheme: light)").addEventListener("change", (event) => {
    try {
      if (localStorage.getItem("faultcube.theme")) return;
    } catch {
      // Nothing is kept: the system's.
    }
    use(event.matches ? "light" : "dark");
  });
  say();
}
