// One visit of a page in a browser of its own, and ways to wait for what it shows.

import assert from "node:assert/strict";

import type { Browser, BrowserContextOptions, Page } from "playwright-core";

export type VisitArguments = [
  path: string,
  work: (page: Page) => Promise<void>,
  script?: string,
  options?: BrowserContextOptions,
];

/** Opens a page, fails the test on any script error, and closes it. `script` runs before the page's own. */
export async function visitPage(
  browser: Browser,
  url: string,
  work: (page: Page) => Promise<void>,
  script = "",
  options: BrowserContextOptions = {},
): Promise<void> {
  const context = await browser.newContext(options);
  try {
    const page = await context.newPage();
    const errors: string[] = [];
    page.on("pageerror", (error) => errors.push(error.message));
    page.on("console", (message) => {
      if (message.type() === "error" && /Content Security Policy|Uncaught/.test(message.text())) errors.push(message.text());
    });
    if (script !== "") await page.addInitScript(script);
    await page.goto(url);
    await work(page);
    assert.deepEqual(errors, []);
  } finally {
    await context.close();
  }
}

export const text = async (page: Page, id: string): Promise<string> => (await page.locator(`#${id}`).textContent()) ?? "";

/** Waits for a condition in the page. (`waitForFunction` evaluates in a way that the pages' security policy forbids.) */
export async function until(page: Page, condition: string, timeout = 10_000): Promise<void> {
  const deadline = performance.now() + timeout;
  while (!(await page.evaluate(condition))) {
    if (performance.now() > deadline) {
      assert.fail(`not within ${timeout} ms: ${condition}; the page says: ${await page.locator("main").textContent()}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
