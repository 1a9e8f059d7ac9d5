/** The labeling page: puts its parts together. What is legal when: docs/labeling.md. */
import { ClassPanel } from "../label/class_panel.js";
import { clientId, newKey } from "../label/client_id.js";
import { QueueFeed } from "../label/feed.js";
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
const panel = new ClassPanel(screen.classPlaces, config.classes, (id, at, by) => session.choose(id, at, by));
const buffer = new QueueBuffer();
const prefetch = new Prefetch();
const feed = new QueueFeed({ leaseMinutes: config.lease_minutes, server, outbox, buffer, prefetch });
const session = new LabelSession({
  config,
  server,
  outbox,
  screen,
  panel,
  newKey,
  buffer,
  prefetch,
  feed,
  history: new LabelHistory(),
});
bindKeys(document, { session, screen, panel, classes: config.classes });

window.addEventListener("pagehide", () => session.leave());
window.addEventListener("pageshow", (event) => {
  if (event.persisted) window.location.reload();
});
window.addEventListener("online", () => outbox.retryNow());
window.addEventListener("focus", () => session.comeBack().catch((error) => session.report(error)));
window.addEventListener("beforeunload", (event) => {
  if (outbox.hasUnkept) event.preventDefault();
});

await session.start();
