/** The course of labeling: which image is up, what a key does to it, what is sent. */
import { ANY_KEY, Pace } from "./pace.js";

const SOMEBODY_ELSE =
  "Somebody else is signed in now, so labeling has stopped in this tab. Reload the page to go on.";
const RELOAD = "Reload the page to see the classes as they are now.";
const TIME_RAN_OUT =
  "This image is not reserved for you any more: the time ran out, or a lead released it. Somebody else may have it now. Your label will be kept all the same.";

export class LabelSession {
  #isSeveral;
  #user;
  #server;
  #outbox;
  #screen;
  #panel;
  #buffer;
  #history;
  #prefetch;
  #feed;
  #newKey;
  /** The lease whose image can be seen: no other may be labelled. */
  #seen = null;
  #seenAt = 0;
  #pace = new Pace();
  #showing = 0;
  #isBroken = false;
  /** Skips since the last label, the newest last: undo takes these back first. */
  #skips = [];
  #isUndoing = false;
  #isEditing = false;
  #isForeign = false;
  #isSignedOut = false;

  constructor({ config, server, outbox, screen, panel, buffer, history, prefetch, feed, newKey }) {
    this.#isSeveral = config.kind === "several_classes";
    this.#user = config.user_id;
    this.#server = server;
    this.#outbox = outbox;
    this.#screen = screen;
    this.#panel = panel;
    this.#buffer = buffer;
    this.#history = history;
    this.#prefetch = prefetch;
    this.#feed = feed;
    this.#newKey = newKey;
    this.#listen();
  }

  async start() {
    this.#showSaveState();
    const left = await this.#outbox.load();
    if (left) this.#screen.toast(`Sending ${left} label${left === 1 ? "" : "s"} kept in this browser`);
    await this.#feed.topUp();
    this.#feed.run();
    try {
      this.#history.fill(await this.#server.mine());
    } catch (error) {
      this.report(error);
    }
  }

  get canSkip() {
    return Boolean(this.#buffer.current) && !this.#history.isLookingBack;
  }

  // --- What a key does --------------------------------------------------------------------

  /**
   * A class key or button: labels at once, or toggles where an image can have several.
   * @param {number} [pressedAt] when the key was pressed
   * @param {string} [by] which key it was: the same one again may be a bounce
   */
  choose(id, pressedAt, by = `class ${id}`) {
    if (this.#isSeveral) {
      if (this.#buffer.current || this.#history.isLookingBack) this.#panel.toggle(id);
      return;
    }
    if (this.#decide([id], pressedAt, by)) this.#panel.flash(id);
  }

  /** Enter: what is chosen, else the suggestion. */
  enter(pressedAt, by = "enter") {
    if (this.#panel.chosen.length) this.submitChosen(pressedAt, by);
    else this.accept(pressedAt, by);
  }

  accept(pressedAt = performance.now(), by = "accept") {
    const suggestion = this.#history.isLookingBack ? null : this.#buffer.current?.suggestion;
    if (suggestion) this.#decide(suggestion.class_ids, pressedAt, by);
    else if (this.#pace.allows(by, pressedAt)) this.#screen.toast("Choose a class: there is no suggestion for this image");
  }

  submitChosen(pressedAt = performance.now(), by = "submit") {
    if (this.#panel.chosen.length) this.#decide(this.#panel.chosen, pressedAt, by);
    else if (this.#pace.allows(by, pressedAt)) this.#screen.toast("Nothing is chosen. Press 0 if none of the classes fits.");
  }

  submitNone(pressedAt, by = "none") {
    if (this.#isSeveral) this.#decide([], pressedAt, by);
  }

  /** @returns {boolean} whether the press counted */
  #decide(classIds, pressedAt = performance.now(), by = "") {
    if (this.#isForeign) return false;
    if (this.#history.isLookingBack) {
      if (this.#isEditing || !this.#pace.allows(by, pressedAt)) return false;
      this.#edit(classIds, by);
      return true;
    }
    const lease = this.#buffer.current;
    if (!lease) return false;
    if (this.#seen !== lease) {
      this.#screen.toast(this.#isBroken ? "This image did not load: try again, or skip it" : "The image is not on the screen yet");
      return false;
    }
    // Pressed before the person can have seen this image: a bounce, or meant for the one before.
    if (!this.#pace.allows(by, pressedAt)) return false;
    performance.mark("label:submit", { startTime: pressedAt });
    this.#screen.clearPassing();
    const seconds = Math.round((performance.now() - this.#seenAt) / 100) / 10;
    const key = this.#newKey();
    this.#buffer.finishCurrent();
    this.#history.push({ key, annotation: null, image: lease.image, classIds, lease });
    this.#skips = [];
    this.#pace.finished(by);
    this.#showCurrent();
    this.#outbox.add({ key, ...this.#server.submitRequest(lease.token, classIds, seconds) });
    return true;
  }

  skip(reason) {
    const lease = this.#buffer.current;
    if (!lease || this.#isForeign) return;
    this.#buffer.finishCurrent();
    const key = this.#newKey();
    this.#skips.push({ key, lease });
    this.#pace.finished(ANY_KEY);
    this.#showCurrent();
    this.#outbox.add({ key, ...this.#server.skipRequest(lease.token, reason) });
    this.#screen.toast("Skipped. Z brings it back.");
  }

  /** Take the last label or skip back: out of the outbox, or from the server. */
  async undo() {
    if (this.#isUndoing) return;
    const step = this.#history.newest;
    const skip = this.#skips.at(-1);
    if (!step && !skip) {
      this.#screen.toast("There is nothing to undo");
      return;
    }
    this.#isUndoing = true;
    try {
      await (skip ? this.#takeSkipBack(skip) : this.#takeBack(step));
    } finally {
      this.#isUndoing = false;
    }
  }

  async #takeBack(step) {
    if (step.lease && (await this.#outbox.takeBack(step.key))) {
      this.#buffer.putBack(step.lease);
    } else {
      await this.#answerOf(step);
      const answer = await this.#server.undo(step.annotation, this.#newKey());
      this.#buffer.putBack(answer.lease);
      this.#feed.notice(answer.status);
    }
    this.#history.remove(step);
    this.#showCurrent();
    if (this.#isSeveral) this.#panel.choose(step.classIds);
    this.#screen.toast("Label taken back");
  }

  async #takeSkipBack(skip) {
    if (await this.#outbox.takeBack(skip.key)) {
      this.#buffer.putBack(skip.lease);
    } else {
      await this.#until(() => !this.#outbox.holds(skip.key));
      let answer;
      try {
        answer = await this.#server.unskipOne(skip.lease.token);
      } catch (error) {
        // Somebody else has it: the next undo means the label before.
        if (error.status >= 400 && error.status < 500) this.#forget(skip);
        throw error;
      }
      this.#buffer.putBack(answer.lease);
      this.#feed.notice(answer.status);
    }
    this.#forget(skip);
    this.#showCurrent();
    this.#screen.toast("Skip taken back");
  }

  #forget(skip) {
    this.#skips = this.#skips.filter((other) => other !== skip);
  }

  /** Wait until the server has answered a label that is on its way. */
  #answerOf(step) {
    return this.#until(() => step.annotation !== null);
  }

  async #until(isAnswered) {
    for (let tries = 0; !isAnswered(); tries += 1) {
      if (tries > 50) throw new Error("The server has not answered yet; try again in a moment.");
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  previous() {
    if (this.#history.older()) this.#showStep();
    else this.#screen.toast("There are no earlier labels of yours");
  }

  next() {
    if (!this.#history.isLookingBack) return;
    this.#history.newer();
    if (this.#history.isLookingBack) this.#showStep();
    else this.#showCurrent();
  }

  async #edit(classIds, by) {
    const step = this.#history.shown;
    this.#isEditing = true;
    try {
      await this.#answerOf(step);
      const { annotation } = await this.#server.edit(step.annotation, classIds);
      Object.assign(step, { annotation: annotation.id, classIds });
      this.#screen.toast("Label changed");
      if (this.#history.shown === step) {
        this.#pace.finished(by);
        this.next();
      }
      this.#screen.clearPassing();
    } catch (error) {
      if (error.status === 412) this.#changedMeanwhile(step, classIds, error.body);
      else this.#screen.toast(error.message);
    } finally {
      this.#isEditing = false;
    }
  }

  /** A reviewer was faster: say what is there now, and keep what was chosen here. */
  #changedMeanwhile(step, classIds, { current, by }) {
    if (!current) {
      this.#history.remove(step);
      this.#showCurrent();
      this.#screen.showPassing(`The label of ${step.image.file_name} was withdrawn meanwhile; the image is asked again.`);
      return;
    }
    Object.assign(step, { annotation: current.id, classIds: current.class_ids });
    if (this.#history.shown === step) this.#panel.choose(this.#isSeveral ? classIds : current.class_ids);
    const [theirs, mine] = [current.class_ids, classIds].map((ids) => this.#panel.namesOf(ids));
    const again = this.#isSeveral ? "Submit again" : "Press it again";
    this.#screen.showPassing(`${by ?? "Somebody"} changed this label to ${theirs} meanwhile. ${again} to make it ${mine}.`);
  }

  async unskip() {
    const { n } = await this.#server.unskip();
    this.#skips = [];
    this.#buffer.reopenAll();
    this.#screen.toast(n === 1 ? "One image is back in your queue" : `${n} images are back in your queue`);
    await this.#feed.topUp();
  }

  checkAgain() {
    return this.#feed.topUp();
  }

  reloadImage() {
    return this.#history.isLookingBack ? this.#showStep() : this.#showCurrent();
  }

  /** The person comes back to this tab: somebody else may have signed in meanwhile. */
  async comeBack() {
    this.#outbox.retryNow();
    const user = await this.#server.whoAmI();
    const wasForeign = this.#isForeign;
    this.#isForeign = user !== this.#user;
    if (this.#isForeign) this.#screen.showProblem(SOMEBODY_ELSE);
    else if (wasForeign) this.#screen.showProblem("");
  }

  leave() {
    this.#feed.leave();
  }

  /** A command failed in a way that only needs saying. */
  report(error) {
    this.#screen.toast(error.message);
  }

  // --- What is on the screen --------------------------------------------------------------

  async #showCurrent() {
    this.#history.toQueue();
    this.#screen.showReview("");
    this.#panel.choose([]);
    const lease = this.#buffer.current;
    this.#feed.prefetch();
    if (!lease) {
      this.#seen = null;
      this.#showing += 1;
      this.#screen.showEmpty(this.#feed.emptiness);
      await this.#feed.topUp();
      return;
    }
    await this.#show(lease.image, () => {
      this.#screen.showImage(lease.image, lease.why, lease.suggestion);
      this.#seen = lease;
      this.#seenAt = performance.now();
      this.#screen.say(spoken(lease));
    });
  }

  #showStep() {
    const step = this.#history.shown;
    this.#screen.showReview(`Label ${this.#history.back} of your last ${this.#history.size}, counted from the newest.`);
    this.#panel.choose(step.classIds);
    return this.#show(step.image, () => {
      this.#screen.showImage(step.image, null, null);
      this.#screen.say(`Looking back at ${step.image.file_name}.`);
    });
  }

  /** Show an image at once when it is decoded, else as soon as it is and still wanted. */
  async #show(image, then) {
    const showing = ++this.#showing;
    this.#seen = null;
    this.#isBroken = false;
    if (!this.#prefetch.isReady(image)) {
      this.#screen.showLoading();
      const isGood = await this.#prefetch.ready(image);
      if (showing !== this.#showing) return;
      if (!isGood) {
        this.#isBroken = true;
        this.#screen.showBroken(image);
        return;
      }
    }
    then();
    afterPaint(() => {
      if (showing === this.#showing) this.#pace.painted(performance.now());
      if (image === this.#seen?.image) markPainted();
    });
  }

  // --- What comes in ----------------------------------------------------------------------

  #listen() {
    this.#on(this.#outbox, "state", () => this.#showSaveState());
    this.#on(this.#outbox, "sent", (detail) => this.#sent(detail));
    this.#on(this.#outbox, "refused", (detail) => this.#refused(detail));
    this.#on(this.#outbox, "not-kept", () => this.#screen.warnOfStorage());
    this.#on(this.#feed, "arrived", (hadNone) => {
      if (hadNone && !this.#history.isLookingBack) this.#showCurrent();
    });
    this.#on(this.#feed, "nothing", (empty) => {
      if (!this.#history.isLookingBack) this.#screen.showEmpty(empty);
    });
    this.#on(this.#feed, "status", (status) => this.#screen.showStatus(status));
    this.#on(this.#feed, "ranking", (status) => this.#screen.showRanking(status));
    this.#on(this.#feed, "problem", (text) => this.#screen.toast(text));
    this.#on(this.#feed, "lost", () => this.#screen.showPassing(TIME_RAN_OUT));
    this.#on(this.#feed, "closed", (why) => this.#closed(why));
    this.#on(this.#feed, "login", (isAlive) => {
      this.#isSignedOut = !isAlive;
      this.#showSaveState();
    });
  }

  #on(source, name, then) {
    source.addEventListener(name, (event) => then(event.detail));
  }

  #showSaveState() {
    const isIdle = this.#outbox.state === "saved" && this.#isSignedOut;
    this.#screen.showSaveState(isIdle ? "signed-out" : this.#outbox.state, this.#outbox.size);
  }

  #sent({ entry, answer }) {
    if (answer?.annotation) this.#history.answered(entry.key, answer.annotation.id);
    const outcome = answer?.annotation?.outcome;
    if (outcome === "orphaned") this.#screen.showProblem(`${answer.message} ${RELOAD}`);
    else if (outcome === "after_removal") this.#screen.showProblem(answer.message);
    else if (answer?.message) this.#screen.toast(answer.message);
    if (answer?.status) this.#feed.notice(answer.status);
    this.#feed.topUpIfShort();
  }

  /** The project is archived, or the person was removed: nothing more can be labelled here. */
  #closed(why) {
    this.#history.toQueue();
    this.#screen.showReview("");
    this.#panel.choose([]);
    this.#seen = null;
    this.#showing += 1;
    this.#screen.showEmpty(why);
  }

  /** The server cannot take a label, for example because its class was deleted. */
  #refused({ entry, error }) {
    const step = this.#history.find(entry.key);
    const what = step ? `The label of ${step.image.file_name}` : entry.body.reason ? "A skip" : "A label";
    if (step) this.#history.remove(step);
    const canRepeat = step?.lease && [400, 422].includes(error.status);
    if (canRepeat) this.#buffer.putNext(step.lease);
    if (canRepeat && !this.#seen && !this.#history.isLookingBack) this.#showCurrent();
    const advice = canRepeat ? ` The image comes again. ${RELOAD}` : "";
    this.#screen.showProblem(`${what} was not accepted: ${error.message}${advice}`);
    this.#feed.topUpIfShort();
  }
}

function spoken(lease) {
  const suggestion = lease.why.top_classes[0];
  const guess = lease.suggestion && suggestion ? ` The model suggests ${suggestion.name}.` : "";
  return `Next image, ${lease.image.file_name}.${guess}`;
}

/** Two frames later the image is on the glass. */
function afterPaint(then) {
  requestAnimationFrame(() => requestAnimationFrame(then));
}

/** Benchmarks read this measure. */
function markPainted() {
  performance.mark("label:painted");
  if (performance.getEntriesByName("label:submit").length) {
    performance.measure("label:next-image", "label:submit", "label:painted");
    performance.clearMarks("label:submit");
  }
}
