// What the page asks the server: with its token, again when it is busy, and problems as words.

const MOST_TRIES = 8;
const MOST_UNTOLD = 3; // where a refusal does not say when to come again
const LONGEST_WAIT = 30; // seconds before another try, whatever Retry-After says

export class Problem extends Error {
  constructor(title, detail, status = 0) {
    super(detail);
    this.title = title;
    this.status = status;
  }
}

export class Server {
  #asking = null; // the token's dialog, shared by all requests that wait for it

  constructor(askForToken) {
    this.askForToken = askForToken;
  }

  get token() {
    return sessionStorage.getItem("token") ?? "";
  }

  forgetToken() {
    sessionStorage.removeItem("token");
  }

  // The JSON of an answer; `onWait(seconds, reason)` is told of each pause.
  // Throws Problem, or AbortError when cancelled.
  async ask(path, { method = "GET", body, type, signal, onWait = () => {} } = {}) {
    for (let tries = 1; ; tries++) {
      const sent = this.token;
      const headers = { Accept: "application/json" };
      if (sent) headers.Authorization = `Bearer ${sent}`;
      if (type) headers["Content-Type"] = type;
      const response = await this.#fetch(path, { method, body, headers, signal, cache: "no-store", redirect: "error" });
      if (response.status === 401) {
        await this.#renewToken(sent, await problemOf(response));
        signal?.throwIfAborted();
        tries--;
        continue;
      }
      if (response.ok) return this.#json(response, signal);
      const problem = await problemOf(response);
      const isBusy = response.status === 429 || response.status === 503;
      const told = retryAfter(response);
      if (!isBusy || tries >= (told === null ? MOST_UNTOLD : MOST_TRIES)) throw problem;
      const seconds = Math.min(told ?? 2 ** (tries - 1), LONGEST_WAIT);
      onWait(seconds, problem.message);
      await pause(seconds, signal);
    }
  }

  async #fetch(path, options) {
    try {
      return await fetch(path, options);
    } catch (error) {
      options.signal?.throwIfAborted();
      throw new Problem("No connection", "The server does not answer. Is it running, and is this device online?");
    }
  }

  async #json(response, signal) {
    try {
      return await response.json();
    } catch (error) {
      signal?.throwIfAborted();
      throw new Problem("No answer", "What the server sent is cut off or no JSON.", response.status);
    }
  }

  async #renewToken(sent, problem) {
    if (this.token !== sent) return; // another request has asked meanwhile
    const reason = sent ? "The server does not take this token." : "";
    this.#asking ??= this.askForToken(reason).finally(() => (this.#asking = null));
    const token = await this.#asking;
    if (!token) throw problem;
    sessionStorage.setItem("token", token);
  }
}

async function problemOf(response) {
  let details = {};
  try {
    details = await response.json();
  } catch {
    // a proxy's page instead of problem details
  }
  const title = typeof details?.title === "string" ? details.title : `The server answered ${response.status}`;
  const detail = typeof details?.detail === "string" ? details.detail : response.statusText;
  return new Problem(title, detail, response.status);
}

function retryAfter(response) {
  const text = response.headers.get("Retry-After");
  if (text === null) return null;
  const seconds = /^\s*\d+\s*$/.test(text) ? Number(text) : (Date.parse(text) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.max(seconds, 0.2) : null;
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(done, 1000 * seconds);
    function done() {
      signal?.removeEventListener("abort", cancel);
      resolve();
    }
    function cancel() {
      clearTimeout(timer);
      reject(signal.reason);
    }
    if (signal?.aborted) cancel();
    else signal?.addEventListener("abort", cancel, { once: true });
  });
}
