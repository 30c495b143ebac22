// base.js - elements, lists that change, numbers as text.
//
// What comes from the server reaches the page as text nodes and attribute values, by h(), setText() and setAttribute();
// nothing here parses HTML. A *view* is {node, update(value)}: it makes its elements once and changes what has changed,
// so that the focus, a selection and the scroll position stay where they are.

const $ = (id) => document.getElementById(id);

// An element: attributes by name (null and false leave one out, a function is a listener), then children or texts.
function h(name, attributes = {}, ...children) {
    const node = document.createElement(name);

    for (const [key, value] of Object.entries(attributes)) {
        if (typeof value === "function")
            node.addEventListener(key, value);
        else if (value !== null && value !== false)
            node.setAttribute(key, value === true ? "" : value);
    }
    node.append(...children.filter((child) => child !== null));
    return node;
}

function svg(name, attributes, ...children) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);

    for (const [key, value] of Object.entries(attributes))
        node.setAttribute(key, value);
    node.append(...children);
    return node;
}

// Changes the text in its node: a new node each second would be garbage, and would take a selection with it.
function setText(node, text) {
    const first = node.firstChild;

    if (first?.nodeType === Node.TEXT_NODE && first === node.lastChild) {
        if (first.data !== text)
            first.data = text;
    } else if (first || text) {
        node.textContent = text;
    }
}

function setAttribute(node, name, value) {
    if (value === null)
        node.removeAttribute(name);
    else if (node.getAttribute(name) !== value)
        node.setAttribute(name, value);
}

// ---- lists ----

const viewsOf = new WeakMap();      // parent -> Map of key -> view

// Makes parent's children the views of the items, in their order. Those that stay keep their elements, and the focus.
function showList(parent, items, keyOf, makeView) {
    const before = viewsOf.get(parent) ?? new Map();
    const after = new Map();
    const focused = document.activeElement;

    for (const item of items) {
        let key = keyOf(item);

        while (after.has(key))      // a listener that drains may have the name of one that serves
            key += "'";
        after.set(key, [before.get(key) ?? makeView(item), item]);
    }
    for (const [key, view] of before)
        if (!after.has(key))
            view.node.remove();
    let place = parent.firstElementChild;
    for (const [key, [view, item]] of after) {
        view.update(item);
        if (view.node === place)
            place = place.nextElementSibling;
        else
            parent.insertBefore(view.node, place);
        after.set(key, view);
    }
    viewsOf.set(parent, after);
    if (document.activeElement !== focused && focused.isConnected)
        focused.focus({preventScroll: true});       // it was moved
}

// ---- numbers ----

const NONE = "–";
const WHOLE = new Intl.NumberFormat("en", {maximumFractionDigits: 0});
const TENTHS = new Intl.NumberFormat("en", {maximumFractionDigits: 1});

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const sumOf = (items, valueOf) => items.reduce((sum, item) => sum + (valueOf(item) || 0), 0);

// The highest that somebody measured; null: nobody did.
function highestOf(items, valueOf) {
    const values = items.map(valueOf).filter(isNumber);

    return values.length ? Math.max(...values) : null;
}

function count(value) {
    return isNumber(value) ? WHOLE.format(value) : NONE;
}

function number(value) {
    return isNumber(value) ? (value < 10 ? TENTHS : WHOLE).format(value) : NONE;
}

function rate(value) {
    return isNumber(value) ? `${value > 0 && value < 0.05 ? "< 0.1" : number(value)}/s` : NONE;
}

function milliseconds(value) {
    if (!isNumber(value))
        return NONE;
    return value < 1000 ? `${number(value)} ms` : `${TENTHS.format(value / 1000)} s`;
}

// Two units at most: "14 s", "3 min 20 s", "2 h 5 min".
function duration(seconds) {
    const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

    if (!isNumber(seconds))
        return NONE;
    if (seconds < 10)
        return `${TENTHS.format(Math.max(seconds, 0))} s`;
    const first = units.findIndex(([, size]) => Math.round(seconds) >= size);
    const [name, size] = units[first];
    const whole = Math.floor(Math.round(seconds) / size);
    const [smaller, part] = units[first + 1] ?? ["", 0];
    const rest = part ? Math.floor((Math.round(seconds) - whole * size) / part) : 0;

    return `${whole} ${name}` + (rest ? ` ${rest} ${smaller}` : "");
}

function bytes(value) {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = 0;

    if (!isNumber(value))
        return NONE;
    while (value >= 1024 && unit < units.length - 1) {
        value /= 1024;
        unit++;
    }
    return `${number(value)} ${units[unit]}`;
}

function percent(part, whole) {
    return whole > 0 ? `${TENTHS.format(100 * part / whole)} %` : NONE;
}

// "1 server", "2 servers".
function plural(n, one, many = `${one}s`) {
    return `${count(n)} ${n === 1 ? one : many}`;
}

// The time of day where the reader is, with the date when that is another one.
function clock(time) {
    const date = new Date(time);
    const text = date.toLocaleTimeString("en-GB");

    if (Number.isNaN(date.getTime()))
        return NONE;
    return date.toDateString() === new Date().toDateString() ? text : `${date.toLocaleDateString("en-CA")} ${text}`;
}

const secondsSince = (time) => (Date.now() - new Date(time).getTime()) / 1000;
