// talk.js - asks maitred: with the token if it wants one, once a second while somebody looks, and again until it answers.

const PERIOD_MS = 1000;
const HISTORY_PERIOD_MS = 10_000;
const PATIENCE_MS = 5000;           // for an answer
const SILENCE_MS = 3000;            // without one: the page says so
const SHARE_OF_TIME = 0.1;          // a large state is asked for less often, so that asking stays this much of the time

const TOKEN_KEY = "maitred-token";

// What it said no to, in its own words; those of a configuration are a line each.
class Refused extends Error {
    constructor(status, text) {
        super(text);
        this.status = status;
    }
}

async function ask(path, method = "GET") {
    const token = sessionStorage.getItem(TOKEN_KEY);
    const response = await fetch(path, {
        method,
        cache: "no-store",
        credentials: "omit",
        headers: token ? {Authorization: `Bearer ${token}`} : {},
        signal: AbortSignal.timeout(method === "GET" ? PATIENCE_MS : 6 * PATIENCE_MS),
    });
    const answer = await response.json().catch(() => ({}));

    if (!response.ok)
        throw new Refused(response.status, [answer.error ?? `it answered ${response.status}`, ...answer.problems ?? []].join("\n"));
    return answer;
}

// A path of names and a query; each part is encoded.
function pathOf(names, query = {}) {
    const text = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== "" && value !== null));

    return `/api/${names.map(encodeURIComponent).join("/")}${[...text].length ? `?${text}` : ""}`;
}

// Calls work() now, then again and again while the page is visible, also after one that has failed.
function repeat(work, periodMs) {
    let timer = null;
    let running = false;

    async function turn() {
        const began = performance.now();

        timer = null;
        running = true;
        await work().catch(console.error);
        running = false;
        const took = performance.now() - began;
        if (!document.hidden && timer === null)
            timer = setTimeout(turn, Math.max(periodMs - took, took * (1 / SHARE_OF_TIME - 1), 0));
    }

    function now() {
        clearTimeout(timer);
        timer = null;
        if (!running)
            turn();
    }

    document.addEventListener("visibilitychange", () => {
        if (document.hidden)
            clearTimeout(timer);
        else
            now();
    });
    now();
    return now;
}
