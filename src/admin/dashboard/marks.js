// marks.js - what a state looks like: a tone (colour), a shape that tells it without colour, and its word, which always
// stands beside or in the name of the shape. Bars and sparklines.

// Paths in a square of 12. Those of `outline` are drawn, the others filled.
const SHAPES = {
    disc: {path: "M6 1a5 5 0 1 0 0 10a5 5 0 1 0 0-10z"},
    ring: {path: "M6 2a4 4 0 1 0 0 8a4 4 0 1 0 0-8z", outline: true},
    half: {path: "M6 1a5 5 0 1 0 0 10a5 5 0 1 0 0-10zM6 2.7a3.3 3.3 0 0 1 0 6.6z"},
    triangle: {path: "M6 0.8L11.6 11H0.4z"},
    cross: {path: "M2 2L10 10M10 2L2 10", outline: true},
    bars: {path: "M2 1.5h3v9H2zM7 1.5h3v9H7z"},
    square: {path: "M1 1h10v10H1z"},
    frame: {path: "M2 2h8v8H2z", outline: true},
    corner: {path: "M1 1h10L1 11z"},
    points: {path: "M1 1h3v3H1zM8 1h3v3H8zM1 8h3v3H1zM8 8h3v3H8z"},
    minus: {path: "M1.5 6h9", outline: true},
};

// [shape, tone] of every state that maitred tells.
const STATES = {
    up: ["disc", "good"], ok: ["disc", "good"], running: ["disc", "good"],
    starting: ["half", "good"], growing: ["half", "good"], shrinking: ["ring", "off"], idle: ["ring", "off"],
    draining: ["ring", "off"], leaving: ["ring", "off"], left: ["ring", "off"], unknown: ["ring", "off"],
    none: ["minus", "off"],
    degraded: ["triangle", "warn"], ejected: ["triangle", "warn"], held: ["triangle", "warn"],
    unread: ["triangle", "warn"], late: ["triangle", "warn"], resting: ["triangle", "warn"],
    paused: ["bars", "warn"],
    down: ["cross", "bad"], full: ["cross", "bad"], failed: ["cross", "bad"], crashing: ["cross", "bad"],
};

// Those of a worker's process, which is a square.
const PROCESS_STATES = {
    busy: ["square", "good"], idle: ["frame", "good"], starting: ["points", "off"], draining: ["corner", "off"],
    "backing-off": ["cross", "bad"],
};

const TROUBLE = new Set(["warn", "bad"]);
const toneOf = (state) => (STATES[state] ?? ["ring", "off"])[1];
const isTrouble = (state) => TROUBLE.has(toneOf(state));

// A shape alone. What it says stands in words beside it; title is for whoever points at it.
function markView(states = STATES) {
    const path = svg("path", {});
    const title = svg("title", {});
    const node = svg("svg", {viewBox: "0 0 12 12", class: "mark", "aria-hidden": "true"}, title, path);

    return {
        node,
        update(state, text = "") {
            const [shape, tone] = states[state] ?? ["ring", "off"];

            setAttribute(node, "class", `mark ${tone}${SHAPES[shape].outline ? " outline" : ""}`);
            setAttribute(path, "d", SHAPES[shape].path);
            setText(title, text);
        },
    };
}

// A shape and the word.
function stateView(states = STATES) {
    const mark = markView(states);
    const word = h("span", {class: "word"});

    return {
        node: h("span", {class: "state"}, mark.node, word),
        update(state, text = state) {
            mark.update(state);
            setText(word, text);
            word.className = `word ${(states[state] ?? ["", "off"])[1]}`;
        },
    };
}

// Shapes in a row, one for each thing; above so many, how many of each state.
const MARKS_MAX = 100;

function marksView(states = STATES) {
    const node = h("span", {class: "marks"});

    return {
        node,
        // things: [{key, state, text}]
        update(things) {
            const groups = new Map();

            if (things.length <= MARKS_MAX) {
                showList(node, things, (thing) => thing.key, () => {
                    const mark = markView(states);
                    return {node: mark.node, update: (thing) => mark.update(thing.state, thing.text)};
                });
                return;
            }
            for (const {state} of things)
                groups.set(state, (groups.get(state) ?? 0) + 1);
            showList(node, [...groups], ([state]) => `group ${state}`, () => {
                const state = stateView(states);
                return {node: state.node, update: ([name, n]) => state.update(name, `${count(n)} ${name}`)};
            });
        },
    };
}

// How full something is. The words beside it say the same.
function barView() {
    const fill = h("span", {class: "fill"});

    return {
        node: h("span", {class: "bar", "aria-hidden": "true"}, fill),
        update(share, tone) {
            fill.style.width = `${100 * Math.min(Math.max(share || 0, 0), 1)}%`;
            fill.className = `fill ${tone}`;
        },
    };
}

// ---- the last 15 minutes ----

const SPARK_HEIGHT = 20;

// Lines with gaps where nothing was measured. The second series is dashed.
function sparkPath(values, highest) {
    let path = "";
    let drawing = false;

    values.forEach((value, i) => {
        if (isNumber(value)) {
            path += `${drawing ? "L" : "M"}${i} ${(SPARK_HEIGHT - 1 - (SPARK_HEIGHT - 2) * value / highest).toFixed(1)}`;
            path += drawing ? "" : "h0.5";      // a value with gaps on both sides is a point
        }
        drawing = isNumber(value);
    });
    return path;
}

function sparkView(what, format) {
    const lines = [svg("path", {class: "line"}), svg("path", {class: "line second"})];
    const node = svg("svg", {class: "spark empty", role: "img", preserveAspectRatio: "none"}, ...lines);
    let drawn = null;

    return {
        node,
        // Arrays of the same length, or undefined where there is no history yet.
        update(...series) {
            const known = series.filter(Array.isArray);
            const highest = highestOf(known.flat(), (value) => value);

            if (known[0] === drawn)
                return;
            drawn = known[0];
            node.classList.toggle("empty", highest === null);
            if (highest === null)
                return;
            setAttribute(node, "viewBox", `0 0 ${Math.max(known[0].length - 1, 1)} ${SPARK_HEIGHT}`);
            lines.forEach((line, i) => setAttribute(line, "d", sparkPath(known[i] ?? [], highest || 1)));
            setAttribute(node, "aria-label", `${what}, 15 minutes: highest ${format(highest)}`);
            showTitle(node, `${what}, 15 minutes: highest ${format(highest)}`);
        },
    };
}

function showTitle(node, text) {
    const title = node.querySelector("title") ?? node.insertBefore(svg("title", {}), node.firstChild);

    setText(title, text);
}
