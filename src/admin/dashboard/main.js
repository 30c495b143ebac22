// main.js - what is shown when: the state once a second, its history, the section that the address names, the login, the
// silence of a server that does not answer.

const EVENTS_SHOWN = 6;

let history = {};               // name -> {series: [values]}, of the last 15 minutes
let state = null;               // the last that came
let heardMs = null;             // when that was
let refresh = () => {};

const historyOf = (name, series) => history[name]?.[series];

// Members that an older maitred, or one without these layers, does not tell.
function completed(answer) {
    return {
        listeners: [], pools: [], workers: [], gauges: [], events: [], reasons: [], generations: [], topics: [],
        connections: {}, descriptors: {}, config: {}, log: null, ...answer,
        queues: answer.queues ?? [], queuesKnown: answer.queues !== null,
    };
}

// ---- what is said once ----

// For those who hear the page: only what has changed.
const spoken = new Map();

// about: what has to change for it; text: what is said then.
function announce(subject, about, text = about) {
    const before = spoken.get(subject);

    spoken.set(subject, about);
    if (before !== about && (before !== undefined || subject === "silence"))
        setText($("announcer"), text);
}

// ---- the top of the page ----

const overall = stateView();

function showOverall() {
    const reasons = state.reasons.filter(Boolean);

    overall.update(state.state, state.draining ? `${state.state}, draining` : state.state);
    document.title = `${state.state === "up" ? "" : `${state.state}: `}maitred`;
    setText($("process"), `${state.version}, up ${duration(state.uptime)}, ${plural(state.threads, "thread")}, ` +
        `${bytes(state.memory_bytes)}, ${state.config.file}`);
    $("reasons-section").hidden = !reasons.length;
    $("reasons-section").className = `notice ${state.state === "down" ? "bad" : "warn"}`;
    showTexts($("reasons"), reasons);
    announce("state", [`maitred is ${state.state}`, ...reasons].join(". "));
}

function showTexts(list, texts) {
    showList(list, texts.map((text, i) => ({key: String(i), text})), (item) => item.key, () => {
        const node = h("li", {});

        return {node, update: ({text}) => setText(node, text)};
    });
}

function showBottleneck() {
    const found = state.bottleneck;
    const none = found?.layer === "none";
    const isOver = isNumber(found?.ended_s);

    $("bottleneck").hidden = !found;
    if (!found)
        return;
    const subject = [found.layer, found.name, found.pool && found.pool !== found.name && `of pool ${found.pool}`]
        .filter(Boolean).join(" ");
    const title = none ? "No bottleneck" : `${isOver ? "It was the bottleneck" : "The bottleneck"}: ${subject}`;

    $("bottleneck").className = `notice ${none ? "calm" : isOver ? "past" : "tight"}`;
    announce("bottleneck", subject, `${title}. ${found.text}`);
    setText($("bottleneck-title"), title);
    setText($("bottleneck-text"), isOver ? `until ${duration(found.ended_s)} ago: ${found.text}` : found.text);
    showTexts($("bottleneck-figures"), found.figures ?? []);
    showTexts($("bottleneck-others"), (found.others ?? []).map((other) => `Also: ${other}`));
    showTexts($("bottleneck-relief"), found.relief ?? []);
    $("bottleneck-relief-part").hidden = !found.relief?.length;
}

// ---- sections ----

const sections = {};        // name -> section, once it was looked at
let current = "servers";

function makeTabs() {
    for (const [name, make] of Object.entries(SECTIONS)) {
        sections[name] = make();
        $("tabs").append(h("li", {}, h("a", {href: `#${name}`, id: `tab-${name}`}, sections[name].title)));
    }
}

// "#servers/web": the section servers, filtered by web. One that there is not is the first; a place on the page is none.
function goToSection(moveFocus) {
    const [name, filter] = location.hash.slice(1).split("/");

    const isSection = Object.hasOwn(sections, name);

    if (name && !isSection && $(name) && $("section-body").hasChildNodes())
        return;
    current = isSection ? name : "servers";
    setText($("section-title"), sections[current].title);
    $("section-body").replaceChildren(sections[current].node);
    for (const tab of $("tabs").querySelectorAll("a"))
        setAttribute(tab, "aria-current", tab.id === `tab-${current}` ? "page" : null);
    sections[current].filterBy(textOfHash(filter ?? ""));
    showSection();
    if (moveFocus && !$("tabs").contains(document.activeElement))
        $("section-title").focus();
}

function textOfHash(text) {
    try {
        return decodeURIComponent(text);
    } catch {
        return text;        // no percent-encoding: somebody typed it
    }
}

// A tab for each layer that there is, and for the one that is shown.
function showTabs() {
    const has = {servers: state.pools.length, queues: state.queues.length, database: state.gauges.length,
        workers: state.workers.length};

    for (const name of Object.keys(SECTIONS))
        $(`tab-${name}`).parentNode.hidden = has[name] === 0 && name !== current;
}

function showSection() {
    if (!state)
        return null;
    showTabs();
    return sections[current].update(state);
}

// ---- the state, again and again ----

const picture = new Picture();

async function readState() {
    try {
        state = completed(await ask("/api/state"));
    } catch (error) {
        showTrouble(error);
        return;
    }
    heardMs = Date.now();
    showLogin(false);
    showSilence(false);
    $("live").hidden = false;
    setText($("as-of"), `as of ${clock(heardMs)}`);
    showOverall();
    showBottleneck();
    picture.update(state);
    showEvents($("latest"), state.events.slice(-EVENTS_SHOWN).reverse());
    await showSection();
}

async function readHistory() {
    const answer = await ask("/api/history").catch(() => null);

    if (answer)
        history = answer.series ?? {};
}

// ---- when it goes wrong ----

function showTrouble(error) {
    if (error instanceof Refused && error.status === 401)
        showLogin(true);
    else if (error instanceof Refused)
        showSilence(true, `maitred refuses to tell its state: ${error.message}.`);
    else
        showSilence(true);
}

function showSilence(silent, text) {
    const long = heardMs === null || Date.now() - heardMs > SILENCE_MS;
    const since = heardMs === null ? "yet" : `since ${clock(heardMs)} (${duration(Math.round((Date.now() - heardMs) / 1000))})`;

    $("silence").hidden = !silent || !(text || long);
    $("live").classList.toggle("old", !$("silence").hidden);
    if (!silent) {
        if (spoken.get("silence"))
            announce("silence", "");
        return;
    }
    if ($("silence").hidden)
        return;
    setText($("silence"), (text ?? `maitred does not answer ${since}.`) +
        (heardMs === null ? "" : " What is below is as it was then.") + " Asking again every second.");
    document.title = "no answer: maitred";
    announce("silence", text ?? "maitred does not answer");
}

function showLogin(needed) {
    const given = sessionStorage.getItem(TOKEN_KEY);

    $("sign-out").hidden = !given || needed;
    if (needed === !$("login").hidden)
        return;
    $("login").hidden = !needed;
    if (!needed)
        return;
    $("live").hidden = true;
    setText($("login-error"), given ? "That is not the token." : "");
    sessionStorage.removeItem(TOKEN_KEY);
    $("token").focus();
}

function signIn(event) {
    event.preventDefault();
    sessionStorage.setItem(TOKEN_KEY, $("token").value.trim());
    $("token").value = "";
    setText($("login-error"), "");
    $("login").hidden = true;
    refresh();
}

function signOut() {
    sessionStorage.removeItem(TOKEN_KEY);
    refresh();
}

// ---- colours ----

function applyTheme(theme) {
    setAttribute(document.documentElement, "data-theme", theme || null);
    $("theme").value = theme;
}

function prepareTheme() {
    applyTheme(localStorage.getItem("maitred-theme") ?? "");
    $("theme").addEventListener("change", () => {
        localStorage.setItem("maitred-theme", $("theme").value);
        applyTheme($("theme").value);
    });
}

function makeLegend() {
    const line = (title, states, names) => h("p", {}, `${title}: `, ...names.map((name) => {
        const view = stateView(states);

        view.update(name);
        return view.node;
    }));

    $("legend").append(line("A server", STATES, ["up", "starting", "draining", "ejected", "down"]),
        line("A queue", STATES, ["running", "resting", "unread", "paused", "full", "left"]),
        line("Workers", STATES, ["running", "growing", "shrinking", "idle", "held", "paused", "crashing"]),
        line("A worker's process", PROCESS_STATES, Object.keys(PROCESS_STATES)),
        h("p", {}, "An edge is dashed while nothing moves along it, and red while something goes wrong."));
}

// ---- beginning ----

prepareTheme();
makeLegend();
makeTabs();
$("overall").append(overall.node);
$("login").addEventListener("submit", signIn);
$("sign-out").addEventListener("click", signOut);
addEventListener("hashchange", () => goToSection(true));
goToSection(false);
repeat(readHistory, HISTORY_PERIOD_MS);
refresh = repeat(readState, PERIOD_MS);
prepareDialog(() => refresh());
