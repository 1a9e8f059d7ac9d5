/** Where the image stands in its window: pure maths, in CSS pixels. */

/** An image is made no smaller than a quarter of its fitted size. */
const BELOW_FIT = 4;
const MAX_ZOOM = 16;

/** @typedef {{scale: number, x: number, y: number}} View `x`, `y`: the image's top left corner */

/** @returns {View} the whole image, as large as the window allows, in its middle */
export function fitted(image, window) {
  const scale = Math.min(window.width / image.width, window.height / image.height);
  return {
    scale,
    x: (window.width - image.width * scale) / 2,
    y: (window.height - image.height * scale) / 2,
  };
}

/**
 * @param {number} fit the scale at which the whole image fills the window
 * @returns {View} zoomed so that the point under the pointer stays where it is
 */
export function zoomedAt(view, factor, point, fit) {
  // Of a tiny image the fitted size itself may be beyond the usual limit.
  const scale = Math.min(Math.max(view.scale * factor, fit / BELOW_FIT), Math.max(MAX_ZOOM, fit));
  const real = scale / view.scale;
  return {
    scale,
    x: point.x - (point.x - view.x) * real,
    y: point.y - (point.y - view.y) * real,
  };
}

/** @returns {View} moved, but never so far that the image cannot be found again */
export function moved(view, dx, dy, image, window) {
  const keep = 60;
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  return {
    scale: view.scale,
    x: clamp(view.x + dx, keep - image.width * view.scale, window.width - keep),
    y: clamp(view.y + dy, keep - image.height * view.scale, window.height - keep),
  };
}
