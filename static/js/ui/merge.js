/** Two people changed the same form: what each of them said, so that neither is lost. Pure. */

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

/**
 * @param {object} loaded what the form held when it was opened
 * @param {object} mine what it holds now
 * @param {object} theirs what the server has by now
 * @returns {{taken: string[], conflicts: string[]}} fields only they changed, and fields where both
 *   said something else
 */
export function merge(loaded, mine, theirs) {
  const changed = Object.keys(mine).filter((name) => name in theirs && !same(theirs[name], loaded[name]));
  return {
    taken: changed.filter((name) => same(mine[name], loaded[name])),
    conflicts: changed.filter((name) => !same(mine[name], loaded[name]) && !same(mine[name], theirs[name])),
  };
}
