/** The outbox's place in the browser: IndexedDB, or memory where that is forbidden. */

const DATABASE = "annotator";
const STORE = "outbox";

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** Resolves when it is on the disk. */
function write(database, change) {
  return new Promise((resolve, reject) => {
    const transaction = database.transaction(STORE, "readwrite", { durability: "strict" });
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error);
    change(transaction.objectStore(STORE));
    // Without this the browser asks the page once more before it commits, and a closing page does not answer.
    transaction.commit();
  });
}

function open() {
  const request = indexedDB.open(DATABASE, 1);
  request.onupgradeneeded = () => {
    const store = request.result.createObjectStore(STORE, { keyPath: "key" });
    store.createIndex("user", "user");
  };
  return done(request);
}

/** @returns {Promise<{all: Function, put: Function, remove: Function, isDurable: boolean}>} */
export async function openStorage() {
  let database;
  try {
    database = await open();
  } catch {
    return inMemory();
  }
  return {
    isDurable: true,
    all: (user) => done(database.transaction(STORE).objectStore(STORE).index("user").getAll(user)),
    put: (entry) => write(database, (store) => store.put(entry)),
    remove: (key) => write(database, (store) => store.delete(key)),
  };
}

/** Storage for private windows, where a closed tab forgets (and the page says so). */
export function inMemory() {
  const entries = new Map();
  return {
    isDurable: false,
    all: async (user) => [...entries.values()].filter((entry) => entry.user === user),
    put: async (entry) => void entries.set(entry.key, entry),
    remove: async (key) => void entries.delete(key),
  };
}
