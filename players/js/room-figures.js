// The table of a room's connections: one row for what I send, one for everybody else.

import { bitrateText, fpsText, lossText, millisecondsText, setText, sizeText } from "./page-parts.js";

/**
 * @param {HTMLTableSectionElement} body
 * @param {readonly { name: string, state: string, stats?: any }[]} rows
 */
export function showFigures(body, rows) {
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach(({ name, state, stats = {} }, index) => {
    const row = body.rows[index] ?? body.insertRow();
    const texts = [
      name,
      sizeText(stats) ?? state,
      fpsText(stats.framesPerSecond),
      bitrateText(stats.bitrate),
      lossText(stats.loss, stats.lost),
      millisecondsText(stats.roundTrip),
      millisecondsText(stats.jitterBuffer),
      stats.codecs,
    ];
    texts.forEach((text, column) => {
      const cell = row.cells[column] ?? row.insertCell();
      setText(cell, text ?? "–");
    });
  });
}
