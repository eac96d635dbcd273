// How many columns make the largest tiles. Pure.

/**
 * @param {number} count tiles
 * @param {number} width @param {number} height room in pixels
 * @param {object} [options]
 * @param {number} [options.gap] pixels between tiles. Default 8.
 * @param {number} [options.tallest] height of a tile by its width at most; a picture is 9/16, a narrow screen is better filled by 3/4. Default 9/16.
 * @param {number} [options.least] width in pixels that tiles keep even when they then need scrolling. Default 140.
 * @returns {{ columns: number, tileWidth: number, tileHeight: number }}
 */
export function fitGrid(count, width, height, { gap = 8, tallest = 9 / 16, least = 140 } = {}) {
  let best = { columns: 1, tileWidth: 0, tileHeight: 0 };
  for (let columns = 1; columns <= count; columns++) {
    const rows = Math.ceil(count / columns);
    const roomHeight = (height - gap * (rows - 1)) / rows;
    const tileWidth = Math.min((width - gap * (columns - 1)) / columns, (roomHeight * 16) / 9);
    const tileHeight = Math.min(roomHeight, tileWidth * tallest);
    if (tileWidth * tileHeight > best.tileWidth * best.tileHeight * 1.001) best = { columns, tileWidth, tileHeight };
  }
  if (best.tileWidth < least && count > 1) {
    const columns = Math.max(1, Math.min(count, Math.floor((width + gap) / (least + gap))));
    const tileWidth = (width - gap * (columns - 1)) / columns;
    best = { columns, tileWidth, tileHeight: tileWidth * tallest };
  }
  return { columns: best.columns, tileWidth: Math.floor(best.tileWidth), tileHeight: Math.floor(best.tileHeight) };
}
