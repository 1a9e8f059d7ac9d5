/** The labeling page: puts its parts together. What is legal when: docs/labeling.md. */
import { ClassPanel } from "../label/class_panel.js";
import { clientId, newKey } from "../label/client_id.js";
import { LabelHistory } from "../label/history.js";
import { LabelScreen } from "../label/screen.js";
import { Outbox } from "../label/outbox.js";
import { openStorage } from "../label/outbox_storage.js";
import { Prefetch } from "../label/prefetch.js";
import { QueueBuffer } from "../label/queue_buffer.js";
import { LabelServer } from "../label/server.js";
import { LabelSession } from "../label/session.js";
import { bindKeys } from "../label/bindings.js";

const config = JSON.parse(document.getElementById("label-config").textContent);
const client = await clientId();
const storage = await openStorage();
const server = new LabelServer({ ...config.urls, client });
const outbox = new Outbox({
  user: config.user_id,
  send: (entry) => server.send(entry),
  whoAmI: () => server.whoAmI(),
  storage,
});
const screen = new LabelScreen(document, config);
const panel = new ClassPanel(screen.classPlaces, config.classes, (id) => session.choose(id));
const session = new LabelSession({
  config,
  server,
  outbox,
  screen,
  panel,
  newKey,
  buffer: new QueueBuffer(),
  history: new LabelHistory(),
  prefetch: new Prefetch(),
});
bindKeys(document, session, screen, config.classes);

window.addEventListener("pagehide", () => session.leave());
window.addEventListener("pageshow", (event) => {
  if (event.persisted) window.location.reload();
});
window.addEventListener("online", () => outbox.retryNow());
window.addEventListener("focus", () => outbox.retryNow());
window.addEventListener("beforeunload", (event) => {
  if (outbox.size && !storage.isDurable) event.preventDefault();
});

await session.start();
