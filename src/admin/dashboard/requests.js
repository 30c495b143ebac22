// requests.js - the live tail of requests: the last ones that fit the filter, newest first.

const TAIL_ROWS = 50;         // a page of the table

const REQUEST_COLUMNS = [
    {title: "Time", cell: textCell((r) => clock(r.time), (r) => r.time)},
    {title: "Status", number: true, cell: statusCell},
    {title: "Took", number: true, cell: textCell((r) => milliseconds(r.duration_ms))},
    {title: "Request", main: true, cell: textCell((r) => `${r.method} ${r.host ?? ""}${r.path}`)},
    {title: "Route", cell: textCell((r) => r.route ?? NONE)},
    {title: "Went to", cell: textCell(targetText)},
    {title: "Client", cell: textCell((r) => r.client ?? NONE)},
    {title: "Size", number: true, cell: textCell((r) => bytes(r.bytes))},
];

function targetText(request) {
    if (request.queue)
        return `queue ${request.queue}`;
    return [request.pool, request.server].filter(Boolean).join(" ") || NONE;
}

// What is asked for: a parameter of /api/requests each.
function requestFields() {
    const options = (...texts) => texts.map((text) => h("option", {value: text === "any" ? "" : text}, text));
    const word = (size) => h("input", {type: "search", size, autocomplete: "off", spellcheck: "false"});

    return [
        {name: "path", label: "Path has", element: word(16)},
        {name: "status", label: "Status", element: h("select", {}, ...options("any", "2xx", "3xx", "4xx", "5xx"))},
        {name: "route", label: "Route", element: word(10)},
        {name: "pool", label: "Pool", element: h("select", {})},
        {name: "slower", label: "Slower than, ms", element: h("input", {type: "number", min: 0, step: 1, size: 6})},
    ];
}

class RequestsSection {
    title = "Requests";
    rows = [];
    newest = null;      // the id that was seen last
    held = false;
    process = null;     // whose ids they are
    asked = 0;          // which filter an answer is for
    underWay = null;    // the one that an answer is to come for: the same twice would be the same rows twice

    constructor() {
        this.fields = requestFields();
        this.hold = h("button", {type: "button", "aria-pressed": "false", click: () => this.toggleHold()}, "Hold");
        this.form = h("form", {class: "tools", submit: (event) => event.preventDefault(), input: () => this.restart()},
            ...this.fields.map(({label, element}) => h("label", {}, `${label} `, element)), this.hold);
        this.trouble = h("p", {class: "error", role: "status"});
        this.table = new Table(REQUEST_COLUMNS, {caption: "Requests", keyOf: (r) => String(r.id), plain: true,
            none: "No request has come that fits. They are noted only while somebody looks."});
        this.node = h("div", {}, this.form, this.trouble, this.table.node);
    }

    filterBy() {}

    toggleHold() {
        this.held = !this.held;
        setAttribute(this.hold, "aria-pressed", String(this.held));
        setText(this.hold, this.held ? "Go on" : "Hold");
    }

    restart() {
        this.rows = [];
        this.newest = null;
        this.asked++;
        if (this.form.checkValidity())
            this.fetchMore();
    }

    async fetchMore() {
        const filter = Object.fromEntries(this.fields.map(({name, element}) => [name, element.value.trim()]));
        const mine = this.asked;

        if (this.underWay === mine)
            return;
        this.underWay = mine;
        try {
            const answer = await ask(pathOf(["requests"], {...filter, max: TAIL_ROWS, since: this.newest}));

            if (mine === this.asked)
                this.show(answer.requests);
        } catch (error) {
            if (error instanceof Refused && mine === this.asked)
                setText(this.trouble, error.message);
        } finally {
            if (this.underWay === mine)
                this.underWay = null;
        }
    }

    show(requests) {
        this.rows = [...requests, ...this.rows].slice(0, TAIL_ROWS);
        this.newest = this.rows.length ? this.rows[0].id : this.newest;
        setText(this.trouble, "");
        this.table.update(this.rows);
    }

    async update(state) {
        const pools = this.fields.find(({name}) => name === "pool").element;

        showList(pools, [{name: ""}, ...state.pools], (pool) => pool.name, ({name}) =>
            ({node: h("option", {value: name}, name || "any"), update() {}}));
        if (this.process !== state.started)
            this.restart();
        else if (!this.held && this.form.checkValidity())
            await this.fetchMore();
        this.process = state.started;
    }
}

function statusCell() {
    const node = h("span", {class: "word"});

    return {
        node,
        update(request) {
            setText(node, String(request.status));
            node.className = `word ${request.status >= 500 ? "bad" : request.status >= 400 ? "warn" : ""}`;
        },
    };
}
