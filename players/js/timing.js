// Waiting that can be cut short.

/**
 * Resolves after `ms`, or when the signal aborts, or when what `onReady` was given is called.
 *
 * @param {number} ms @param {AbortSignal} signal @param {(end: () => void) => void} [onReady]
 * @returns {Promise<void>}
 */
export function sleep(ms, signal, onReady) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener("abort", end);
    onReady?.(end);
  });
}

/** Runs a request that ends with the signal, or with a TimeoutError. (AbortSignal.any is too young for some browsers.) */
export async function within(ms, signal, request) {
  const either = new AbortController();
  const onAbort = () => either.abort(signal.reason);
  const timer = setTimeout(() => either.abort(new DOMException("no answer", "TimeoutError")), ms);
  signal.addEventListener("abort", onAbort);
  try {
    return await request(either.signal);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
  }
}
