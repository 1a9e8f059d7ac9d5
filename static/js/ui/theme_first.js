// Loaded before the page is painted (and therefore no module): no flash of the other theme.
(function () {
  "use strict";
  var chosen = null;
  try {
    chosen = window.localStorage.getItem("theme");
  } catch (error) {
    // Storage may be forbidden; the system's theme is used then.
    chosen = null;
  }
  var dark = chosen ? chosen === "dark" : window.matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
})();
