// The name that somebody used last, where the browser keeps such things.

/** @returns {string | undefined} */
export function rememberedName() {
  try {
    return window.localStorage.getItem("sluice-display") ?? undefined;
  } catch {
    return undefined;
  }
}

/** @param {string} display */
export function rememberName(display) {
  try {
    window.localStorage.setItem("sluice-display", display);
  } catch {
    // asked for again next time
  }
}

export function guestName() {
  return `Guest ${Math.floor(Math.random() * 9000) + 1000}`;
}
