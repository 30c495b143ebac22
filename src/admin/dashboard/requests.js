// requests.js - the live tail of requests: the last ones that fit the filter, newest first.

const TAIL_ROWS = 50;         // a page of the table

function requestsSection() {
    const field = (name, label, element) => ({name, element, node: h("label", {}, `${label} `, element)});
    const options = (...texts) => texts.map((text) => h("option", {value: text === "any" ? "" : text}, text));
    const fields = [
        field("path", "Path has", h("input", {type: "search", size: 16, autocomplete: "off", spellcheck: "false"})),
        field("status", "Status", h("select", {}, ...options("any", "2xx", "3xx", "4xx", "5xx"))),
        field("route", "Route", h("input", {type: "search", size: 10, autocomplete: "off", spellcheck: "false"})),
        field("pool", "Pool", h("select", {}, ...options("any"))),
        field("slower", "Slower than, ms", h("input", {type: "number", min: 0, step: 1, size: 6})),
    ];
    const pools = fields[3].element;
    const hold = h("button", {type: "button", "aria-pressed": "false", click: toggleHold}, "Hold");
    const trouble = h("p", {class: "error", role: "status"});
    const columns = [
        {title: "Time", cell: textCell((r) => clock(r.time), (r) => r.time)},
        {title: "Status", number: true, cell: statusCell},
        {title: "Took", number: true, cell: textCell((r) => milliseconds(r.duration_ms))},
        {title: "Request", main: true, cell: textCell((r) => `${r.method} ${r.host ?? ""}${r.path}`)},
        {title: "Route", cell: textCell((r) => r.route ?? NONE)},
        {title: "Went to", cell: textCell((r) => r.queue ? `queue ${r.queue}` : r.server ? `${r.pool} ${r.server}` : r.pool ?? NONE)},
        {title: "Client", cell: textCell((r) => r.client ?? NONE)},
        {title: "Size", number: true, cell: textCell((r) => bytes(r.bytes))},
    ];
    const table = tableView(columns, {caption: "Requests", keyOf: (r) => String(r.id), textOf: (r) => r.path,
        none: "No request has come that fits."});
    let rows = [];
    let newest = null;      // the id that was seen last
    let held = false;
    let process = null;     // whose ids they are
    let asked = 0;          // which filter an answer is for

    table.node.querySelector(".tools").remove();
    const form = h("form", {class: "tools", submit: (event) => event.preventDefault(), input: restart},
        ...fields.map((each) => each.node), hold);

    function toggleHold() {
        held = !held;
        setAttribute(hold, "aria-pressed", String(held));
        setText(hold, held ? "Go on" : "Hold");
    }

    function restart() {
        rows = [];
        newest = null;
        asked++;
        if (form.checkValidity())
            fetchMore();
    }

    async function fetchMore() {
        const filter = Object.fromEntries(fields.map(({name, element}) => [name, element.value.trim()]));
        const mine = asked;

        try {
            const answer = await ask(pathOf(["requests"], {...filter, max: TAIL_ROWS, since: newest}));

            if (mine !== asked)
                return;
            rows = [...answer.requests, ...rows].slice(0, TAIL_ROWS);
            newest = rows.length ? rows[0].id : newest;
            setText(trouble, "");
            table.update(rows);
        } catch (error) {
            if (error instanceof Refused && mine === asked)
                setText(trouble, error.message);
        }
    }

    return {
        title: "Requests",
        node: h("div", {}, form, trouble, table.node),
        filterBy() {},
        async update(state) {
            showList(pools, [{name: ""}, ...state.pools], (pool) => pool.name, ({name}) => {
                const node = h("option", {value: name}, name || "any");
                return {node, update() {}};
            });
            if (process !== state.started)
                restart();
            else if (!held && form.checkValidity())
                await fetchMore();
            process = state.started;
        },
    };
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
