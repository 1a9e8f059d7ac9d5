/** The course of labeling: which image is up, what a key does to it, what is sent. */

const AHEAD = 5;
const POLL_MS = 2000;
const POLL_HIDDEN_MS = 10000;

export class LabelSession {
  #config;
  #server;
  #outbox;
  #screen;
  #buffer;
  #history;
  #prefetch;
  #newKey;
  #ranking = null;
  #shownAt = 0;
  #claiming = null;
  #empty = null;
  #undoing = false;

  constructor({ config, server, outbox, screen, panel, buffer, history, prefetch, newKey }) {
    this.#config = config;
    this.#server = server;
    this.#outbox = outbox;
    this.#screen = screen;
    this.panel = panel;
    this.#buffer = buffer;
    this.#history = history;
    this.#prefetch = prefetch;
    this.#newKey = newKey;
    outbox.addEventListener("state", () => screen.showSaveState(outbox.state, outbox.size));
    outbox.addEventListener("sent", (event) => this.#sent(event.detail));
    outbox.addEventListener("refused", (event) => this.#refused(event.detail));
  }

  async start() {
    this.#screen.showSaveState(this.#outbox.state, 0);
    const left = await this.#outbox.load();
    if (left) this.#screen.toast(`Sending ${left} labels that were kept in this browser`);
    await this.#topUp();
    this.#history.fill(await this.#server.mine().catch(() => []));
    this.#poll();
    setInterval(() => this.#keepAlive(), (this.#config.lease_minutes * 60_000) / 3);
  }

  get canSkip() {
    return Boolean(this.#buffer.current) && !this.#history.isLookingBack;
  }

  // --- What a key does --------------------------------------------------------------------

  /** A class key or button: labels at once, or toggles where an image can have several. */
  choose(id) {
    if (this.#config.kind === "several_classes") {
      if (this.#buffer.current || this.#history.isLookingBack) this.panel.toggle(id);
      return;
    }
    this.panel.flash(id);
    this.#decide([id]);
  }

  /** Enter: what is chosen, else the suggestion. */
  enter() {
    if (this.panel.chosen.length) this.submitChosen();
    else this.accept();
  }

  accept() {
    const suggestion = this.#history.isLookingBack ? null : this.#buffer.current?.suggestion;
    if (suggestion) this.#decide(suggestion.class_ids);
    else this.#screen.toast("Choose a class: there is no suggestion for this image");
  }

  submitChosen() {
    if (this.panel.chosen.length) this.#decide(this.panel.chosen);
    else this.#screen.toast("Nothing is chosen. Press 0 if none of the classes fits.");
  }

  submitNone() {
    if (this.#config.kind === "several_classes") this.#decide([]);
  }

  #decide(classIds) {
    if (this.#history.isLookingBack) return this.#edit(classIds);
    const lease = this.#buffer.current;
    if (!lease) return undefined;
    performance.mark("label:submit");
    const seconds = Math.round((performance.now() - this.#shownAt) / 100) / 10;
    const key = this.#newKey();
    this.#buffer.finishCurrent();
    this.#history.push({ key, annotation: null, image: lease.image, classIds, lease });
    this.#showCurrent();
    return this.#outbox.add({ key, ...this.#server.submitRequest(lease.token, classIds, seconds) });
  }

  skip(reason) {
    const lease = this.#buffer.current;
    if (!lease) return;
    this.#buffer.finishCurrent();
    this.#showCurrent();
    this.#outbox.add({ key: this.#newKey(), ...this.#server.skipRequest(lease.token, reason) });
    this.#screen.toast("Skipped");
  }

  /** Take the last label back: out of the outbox, or from the server. */
  async undo() {
    const step = this.#history.newest;
    if (this.#undoing) return;
    if (!step) {
      this.#screen.toast("There is nothing to undo");
      return;
    }
    this.#undoing = true;
    try {
      await this.#takeBack(step);
    } catch (error) {
      this.#screen.toast(error.message);
    } finally {
      this.#undoing = false;
    }
  }

  async #takeBack(step) {
    if (step.key && step.lease && (await this.#outbox.takeBack(step.key))) {
      this.#buffer.putBack(step.lease);
    } else {
      await this.#answerOf(step);
      const answer = await this.#server.undo(step.annotation);
      this.#buffer.putBack(answer.lease);
      this.#screen.showStatus(answer.status);
    }
    this.#history.remove(step);
    this.#showCurrent();
    this.#screen.toast("Label taken back");
  }

  /** Wait until the server has answered a label that is on its way. */
  async #answerOf(step) {
    for (let tries = 0; step.annotation === null; tries += 1) {
      if (tries > 50) throw new Error("The server has not answered yet; try again in a moment.");
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  previous() {
    if (!this.#history.older()) {
      this.#screen.toast("There are no earlier labels of yours");
      return;
    }
    this.#showShownStep();
  }

  next() {
    if (!this.#history.isLookingBack) return;
    this.#history.newer();
    if (this.#history.isLookingBack) this.#showShownStep();
    else this.#showCurrent();
  }

  async #edit(classIds) {
    const step = this.#history.shown;
    try {
      await this.#answerOf(step);
      const { annotation } = await this.#server.edit(step.annotation, classIds);
      this.#history.edited(annotation.id, classIds);
      this.#screen.toast("Label changed");
      this.next();
    } catch (error) {
      this.#screen.toast(error.message);
    }
  }

  async unskip() {
    const { n } = await this.#server.unskip();
    this.#screen.toast(`${n} images are back in your queue`);
    await this.checkAgain();
  }

  async checkAgain() {
    await this.#topUp();
  }

  async reloadImage() {
    const lease = this.#buffer.current;
    if (lease && (await this.#prefetch.again(lease))) this.#showCurrent();
  }

  // --- What is on the screen --------------------------------------------------------------

  async #showCurrent() {
    this.#history.toQueue();
    this.#screen.showReview("");
    this.panel.choose([]);
    const lease = this.#buffer.current;
    this.#prefetch.want([...(lease ? [lease] : []), ...this.#buffer.ahead]);
    if (!lease) {
      await this.#topUp();
      return;
    }
    if (!this.#prefetch.isReady(lease)) {
      const shown = await this.#prefetch.ready(lease);
      if (this.#buffer.current !== lease) return;
      if (!shown) {
        this.#screen.showImage(lease.image, lease.why, null);
        this.#screen.showBroken();
        return;
      }
    }
    this.#screen.showImage(lease.image, lease.why, lease.suggestion);
    this.#shownAt = performance.now();
    this.#screen.say(spoken(lease));
    markPainted();
  }

  #showShownStep() {
    const step = this.#history.shown;
    this.#screen.showImage(step.image, null, null);
    this.panel.choose(step.classIds);
    this.#screen.showReview(
      `${this.#history.back} of your last ${this.#history.size} labels. Choose another class to change it.`,
    );
  }

  // --- The queue --------------------------------------------------------------------------

  async #topUp() {
    this.#claiming ??= this.#claim().finally(() => (this.#claiming = null));
    await this.#claiming;
  }

  async #claim() {
    const hadNone = !this.#buffer.current;
    let answer;
    try {
      answer = await this.#server.claim(AHEAD + 1 + this.#outbox.leases.length);
    } catch (error) {
      if (hadNone) this.#screen.showEmpty({ reason: "error", sentence: error.message });
      return;
    }
    this.#screen.showProblem("");
    this.#take(answer, hadNone);
  }

  #take(answer, hadNone) {
    this.#buffer.add(answer.leases);
    this.#notice(answer.status);
    this.#prefetch.want([this.#buffer.current, ...this.#buffer.ahead].filter(Boolean));
    this.#empty = answer.empty;
    if (this.#buffer.current && hadNone) this.#showCurrent();
    else if (!this.#buffer.current) this.#showNothing();
  }

  #showNothing() {
    const sentence = "Your last labels are on their way; the queue is asked again at once.";
    this.#screen.showEmpty(this.#empty ?? { reason: "sending", sentence });
  }

  /** Follow the new order: the image on the screen stays, those behind it are taken again. */
  async #followRanking(status) {
    const current = this.#buffer.current;
    const keep = [...(current ? [current.token] : []), ...this.#outbox.leases];
    const answer = await this.#server.claim(AHEAD + 1 + this.#outbox.leases.length, { fresh: true, keep });
    this.#buffer.replaceAhead(answer.leases);
    this.#prefetch.want([this.#buffer.current, ...this.#buffer.ahead].filter(Boolean));
    if (!current && this.#buffer.current) this.#showCurrent();
    const of = status.model ? ` from model ${status.model.number}` : "";
    this.#screen.showRanking(`New order${of}: the images after this one follow it.`);
  }

  #notice(status) {
    this.#screen.showStatus(status);
    const ranking = status.ranking?.number ?? null;
    const isNew = this.#ranking !== null && ranking !== this.#ranking;
    this.#ranking = ranking;
    if (isNew) this.#followRanking(status).catch((error) => this.#screen.showProblem(error.message));
  }

  async #poll() {
    try {
      const status = await this.#server.status();
      if (status) this.#notice(status);
      if (!this.#buffer.current && !this.#history.isLookingBack) await this.#topUp();
    } catch {
      // The outbox shows that the connection is gone; the next poll tries again.
    } finally {
      setTimeout(() => this.#poll(), document.hidden ? POLL_HIDDEN_MS : POLL_MS);
    }
  }

  /** A claim prolongs what is held; what is missing in its answer was lost. */
  async #keepAlive() {
    if (!this.#buffer.size) return;
    try {
      const answer = await this.#server.claim(this.#buffer.size + this.#outbox.leases.length);
      const lost = this.#buffer.renew(answer.leases);
      if (lost.includes(this.#buffer.current)) {
        this.#screen.showProblem("The time for this image ran out and it may be with somebody else now. Your label will be kept all the same.");
      }
      this.#buffer.drop(lost.map((lease) => lease.token));
      this.#buffer.add(answer.leases);
    } catch {
      // Offline: the leases run out, and late labels are kept by the server.
    }
  }

  // --- Answers ----------------------------------------------------------------------------

  #sent({ entry, answer }) {
    if (answer?.annotation) this.#history.answered(entry.key, answer.annotation.id);
    if (answer?.message) this.#screen.toast(answer.message);
    this.#screen.showProblem("");
    if (answer?.status) this.#notice(answer.status);
    if (this.#buffer.size <= AHEAD) this.#topUp();
  }

  #refused({ entry, error }) {
    const step = this.#history.newest?.key === entry.key ? this.#history.newest : null;
    if (step) this.#history.remove(step);
    this.#screen.showProblem(`A label was not accepted: ${error.message}`);
    this.#topUp();
  }

  /** The page goes away: others may have what was not labelled. */
  leave() {
    const unsent = new Set(this.#outbox.leases);
    this.#server.releaseOnLeave(this.#buffer.tokens.filter((token) => !unsent.has(token)));
  }
}

function spoken(lease) {
  const suggestion = lease.why.top_classes[0];
  const guess = lease.suggestion && suggestion ? ` The model suggests ${suggestion.name}.` : "";
  return `Next image, ${lease.image.file_name}.${guess}`;
}

/** Two frames later the image is on the glass; benchmarks read this measure. */
function markPainted() {
  requestAnimationFrame(() =>
    requestAnimationFrame(() => {
      performance.mark("label:painted");
      if (performance.getEntriesByName("label:submit").length) {
        performance.measure("label:next-image", "label:submit", "label:painted");
        performance.clearMarks("label:submit");
      }
    }),
  );
}
