/** Draws the image and lets the person zoom, move and brighten it. Owns no label. */
import { fitted, moved, zoomedAt } from "./viewport.js";

const STEP = 1.25;

export class Stage {
  #view = { scale: 1, x: 0, y: 0 };
  #size = { width: 1, height: 1 };
  #isFitted = true;
  #pointers = new Map();
  #light = { brightness: 100, contrast: 100 };
  #window;
  #image;
  #onZoom;
  #settings;

  /**
   * @param {HTMLElement} window
   * @param {HTMLImageElement} image
   * @param {{user: number, onZoom: (percent: number) => void}} parts brightness and contrast are
   *   remembered for each user
   */
  constructor(window, image, { user, onZoom }) {
    this.#window = window;
    this.#image = image;
    this.#onZoom = onZoom;
    this.#settings = `stage-${user}`;
    this.#light = { ...this.#light, ...remembered(this.#settings) };
    window.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    window.addEventListener("pointerdown", (event) => this.#down(event));
    window.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
      window.addEventListener(end, (event) => this.#up(event));
    }
    new ResizeObserver(() => (this.#isFitted ? this.fit() : this.#draw())).observe(window);
    this.#applyLight();
  }

  get light() {
    return { ...this.#light };
  }

  /** Show an image that is decoded already. */
  show(url, width, height) {
    this.#size = { width, height };
    this.#image.src = url;
    this.#image.width = width;
    this.#image.height = height;
    this.fit();
  }

  clear() {
    this.#image.removeAttribute("src");
  }

  fit() {
    this.#isFitted = true;
    this.#view = fitted(this.#size, this.#box());
    this.#draw();
  }

  zoom(direction) {
    const box = this.#box();
    this.#zoomAt(direction > 0 ? STEP : 1 / STEP, { x: box.width / 2, y: box.height / 2 });
  }

  pan(dx, dy) {
    this.#isFitted = false;
    this.#view = moved(this.#view, dx, dy, this.#size, this.#box());
    this.#draw();
  }

  /** Change brightness or contrast by some points. */
  adjust(name, change) {
    this.setLight(name, Math.min(Math.max(this.#light[name] + change, 30), 250));
  }

  setLight(name, value) {
    this.#light[name] = value;
    this.#applyLight();
    remember(this.#settings, this.#light);
  }

  reset() {
    this.#light = { brightness: 100, contrast: 100 };
    this.#applyLight();
    remember(this.#settings, this.#light);
    this.fit();
  }

  #box() {
    return { width: this.#window.clientWidth, height: this.#window.clientHeight };
  }

  #zoomAt(factor, point) {
    this.#isFitted = false;
    this.#view = zoomedAt(this.#view, factor, point, fitted(this.#size, this.#box()).scale);
    this.#view = moved(this.#view, 0, 0, this.#size, this.#box());
    this.#draw();
  }

  #draw() {
    const { scale, x, y } = this.#view;
    this.#image.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    this.#image.classList.toggle("is-pixelated", scale >= 4);
    this.#onZoom(Math.round(scale * 100));
  }

  #applyLight() {
    const { brightness, contrast } = this.#light;
    const plain = brightness === 100 && contrast === 100;
    this.#image.style.filter = plain ? "" : `brightness(${brightness}%) contrast(${contrast}%)`;
  }

  #wheel(event) {
    event.preventDefault();
    this.#zoomAt(wheelFactor(event), this.#point(event));
  }

  #point(event) {
    const box = this.#window.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  #down(event) {
    if (event.button > 1) return;
    this.#window.setPointerCapture(event.pointerId);
    this.#pointers.set(event.pointerId, this.#point(event));
    this.#window.classList.add("is-panning");
  }

  #move(event) {
    const before = this.#pointers.get(event.pointerId);
    if (!before) return;
    const now = this.#point(event);
    const other = [...this.#pointers.entries()].find(([id]) => id !== event.pointerId)?.[1];
    this.#pointers.set(event.pointerId, now);
    if (other) {
      const factor = distance(now, other) / Math.max(distance(before, other), 1);
      this.#zoomAt(factor, { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 });
    } else {
      this.pan(now.x - before.x, now.y - before.y);
    }
  }

  #up(event) {
    this.#pointers.delete(event.pointerId);
    if (!this.#pointers.size) this.#window.classList.remove("is-panning");
  }
}

/** Wheels count in pixels, lines or pages; a pinch on a touchpad comes as small steps with Ctrl. */
function wheelFactor({ deltaY, deltaMode, ctrlKey }) {
  const pixels = deltaY * [1, 30, 300][deltaMode];
  return Math.exp(-pixels / (ctrlKey ? 100 : 400));
}

function distance(a, b) {
  return Math.hypot(a.x - b.x, a.y - b.y);
}

function remembered(name) {
  try {
    return JSON.parse(localStorage.getItem(name) ?? "{}");
  } catch {
    return {};
  }
}

function remember(name, light) {
  try {
    localStorage.setItem(name, JSON.stringify(light));
  } catch {
    // Forbidden storage only means that the setting ends with the page.
    return;
  }
}
