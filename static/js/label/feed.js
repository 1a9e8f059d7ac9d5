/** Keeps this tab supplied: claims images ahead, follows new rankings, keeps the leases alive. */

const AHEAD = 5;
/** With a new order the image on the screen stays, and one that its person may get to before the answer. */
const STAY = 2;
const POLL_MS = 2000;
const POLL_HIDDEN_MS = 10_000;
const NOT_YOURS = "You are not a member of this project any more. What you had labelled before stays.";
/** An empty queue is asked again this often even when nothing seems to have changed. */
const LOOK_AGAIN_MS = 10_000;

/**
 * Events: `arrived` (images came; detail: whether there were none before), `nothing` (detail: why),
 * `status`, `ranking` (detail: status), `lost` (the image on the screen), `problem` (detail: text),
 * `login` (detail: whether the session is alive), `closed` (the project, to this person; detail: why).
 */
export class QueueFeed extends EventTarget {
  #leaseMinutes;
  #server;
  #outbox;
  #buffer;
  #prefetch;
  #ranking = null;
  #claiming = null;
  #empty = null;
  #lookAgainAt = 0;
  /** The lease on the screen that was lost: until its person does something, nothing more is claimed. */
  #lost = "";
  #closed = null;

  constructor({ leaseMinutes, server, outbox, buffer, prefetch }) {
    super();
    this.#leaseMinutes = leaseMinutes;
    this.#server = server;
    this.#outbox = outbox;
    this.#buffer = buffer;
    this.#prefetch = prefetch;
  }

  /** Poll the queue and prolong the leases until the page goes away. */
  run() {
    this.#pollForEver();
    setInterval(() => this.keepAlive(), (this.#leaseMinutes * 60_000) / 3);
  }

  /** Claim what is missing; calls that overlap share one claim. */
  async topUp() {
    this.#claiming ??= this.#claim().finally(() => (this.#claiming = null));
    await this.#claiming;
  }

  /** Claim when fewer images wait than should. */
  async topUpIfShort() {
    if (this.#buffer.size <= AHEAD) await this.topUp();
  }

  /** Have the images decoded that will be needed next. */
  prefetch() {
    const wanted = [this.#buffer.current, ...this.#buffer.ahead].filter(Boolean);
    this.#prefetch.want(wanted.map((lease) => lease.image));
  }

  /** Tell the page about a status, and follow the ranking when it is a new one. */
  notice(status) {
    this.#tell("status", status);
    const ranking = status.ranking?.number ?? null;
    const isNew = this.#ranking !== null && ranking !== this.#ranking;
    this.#ranking = ranking;
    if (isNew && !this.#isAway) this.#followRanking(status).catch((error) => this.#tell("problem", error.message));
  }

  /** One poll. An empty queue is claimed from again when something changed, or after a while. */
  async poll() {
    try {
      const status = await this.#server.status();
      this.#tell("login", true);
      this.#closed = null;
      // Before a new order is followed: who lost the image on the screen is not there.
      if (status?.n_held_by_you < this.#buffer.size) await this.keepAlive();
      if (status) this.notice(status);
      if (!this.#buffer.current && (status || Date.now() >= this.#lookAgainAt)) await this.topUp();
    } catch (error) {
      // Without a connection the next poll tries again; the outbox says that labels are waiting.
      if (error.needsLogin) this.#tell("login", false);
      this.#closeIf(error);
    }
  }

  /**
   * Prolong what is held. When the image on the screen was lost its person is not there: the others
   * go back too, and nothing is claimed until they do something.
   */
  async keepAlive() {
    if (!this.#buffer.size || this.#isAway) return;
    const before = new Set(this.#buffer.tokens);
    let answer;
    try {
      answer = await this.#server.prolong();
    } catch {
      // Offline: the leases run out, and late labels are kept by the server.
      return;
    }
    const lost = this.#buffer.renew(answer.leases).filter((item) => before.has(item.token));
    this.#buffer.drop(lost.map((lease) => lease.token));
    if (lost.includes(this.#buffer.current)) this.#loseCurrent();
    else await this.topUpIfShort();
  }

  /** The page goes away: others may have what was not labelled. */
  leave() {
    const unsent = new Set(this.#outbox.leases);
    this.#server.releaseOnLeave(this.#buffer.tokens.filter((token) => !unsent.has(token)));
  }

  /** Why there is nothing to show, as far as it is known. */
  get emptiness() {
    const sentence = "Your last labels are on their way, then the queue is asked for more.";
    return this.#closed ?? this.#empty ?? { reason: "sending", sentence };
  }

  /** Whether the image on the screen is nobody's, and the person has not moved since. */
  get #isAway() {
    return Boolean(this.#lost) && this.#buffer.current?.token === this.#lost;
  }

  #loseCurrent() {
    const { token } = this.#buffer.current;
    this.#lost = token;
    this.#giveBack(this.#buffer.ahead);
    this.#buffer.drop(this.#buffer.ahead.map((lease) => lease.token));
    this.#tell("lost");
  }

  /** Archived, or the person was removed: nothing more comes until that is taken back. */
  #closeIf(error) {
    if (![403, 404, 410].includes(error.status) || error.needsLogin || this.#closed) return;
    this.#closed = { reason: "closed", sentence: error.status === 410 ? error.message : NOT_YOURS };
    this.#buffer.clear();
    this.#tell("closed", this.#closed);
  }

  async #pollForEver() {
    await this.poll();
    setTimeout(() => this.#pollForEver(), document.hidden ? POLL_HIDDEN_MS : POLL_MS);
  }

  #wanted() {
    return AHEAD + 1 + this.#outbox.leases.length;
  }

  async #claim() {
    this.#lookAgainAt = Date.now() + LOOK_AGAIN_MS;
    let answer;
    try {
      answer = await this.#server.claim(this.#wanted());
    } catch (error) {
      if (error.needsLogin) this.#tell("login", false);
      this.#closeIf(error);
      const why = this.#closed ?? { reason: "error", sentence: error.message };
      if (!this.#buffer.current) this.#tell("nothing", why);
      return;
    }
    // Asked now and not before the claim: the last image may have been labelled meanwhile.
    const hadNone = !this.#buffer.current;
    this.#add(answer.leases);
    this.notice(answer.status);
    this.#empty = answer.empty;
    if (this.#buffer.current) this.#tell("arrived", hadNone);
    else this.#tell("nothing", this.emptiness);
  }

  /** Follow the new order: what is nearly on the screen stays, what is behind it is taken again. */
  async #followRanking(status) {
    // The answer to an earlier claim would bring images that are given back here.
    while (this.#claiming) await this.#claiming;
    // From now on others may have the rest: it must not get onto the screen while the answer is on its way.
    const keep = [...this.#buffer.cutTo(STAY), ...this.#outbox.leases];
    const asked = this.#server.claim(this.#wanted(), { fresh: true, keep });
    this.#claiming = asked.catch(() => null).finally(() => (this.#claiming = null));
    const answer = await asked;
    const hadNone = !this.#buffer.current;
    this.#giveBack(this.#buffer.replaceAhead(answer.leases));
    this.prefetch();
    if (this.#buffer.current) this.#tell("arrived", hadNone);
    this.#tell("ranking", status);
  }

  #add(leases) {
    this.#giveBack(this.#buffer.add(leases));
    this.prefetch();
  }

  #giveBack(spare) {
    for (const lease of spare) {
      // If it fails, the lease runs out by itself.
      this.#server.release(lease.token).catch(() => null);
    }
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
