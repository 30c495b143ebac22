// sections.js - the tables below the picture, one at a time: what there is of a layer, and what can be done with it.

const latencyColumns = ["p50", "p95", "p99"].map((name) => ({
    title: name, number: true, help: "over the last 10 seconds",
    value: (item) => figuresOf(item).latency?.[`${name}_ms`],
    cell: textCell((item) => milliseconds(figuresOf(item).latency?.[`${name}_ms`])),
}));

const figuresOf = (item) => item.server ?? item;

function numberColumn(title, value, format, help) {
    return {title, number: true, help, value, cell: textCell((item) => format(value(item)))};
}

function nameColumn(title, nameOf, detailOf = () => "") {
    return {title, main: true, value: nameOf, cell: () => {
        const name = h("span", {class: "name"});
        const detail = h("span", {class: "reason"});

        return {node: h("span", {}, name, detail), update(item) {
            setText(name, nameOf(item));
            setText(detail, detailOf(item));
        }};
    }};
}

function sparkColumn(title, what, format, seriesOf) {
    return {title, help: "over 15 minutes", cell: () => {
        const spark = sparkView(what, format);

        return {node: spark.node, update: (item) => spark.update(...seriesOf(item))};
    }};
}

// A section that is one table of what rowsOf finds in the state.
function tableSection(title, columns, options, rowsOf) {
    const table = new Table(columns, {caption: title, textOf: (item) => item.name, keyOf: (item) => item.name, ...options});

    return {title, node: table.node, filterBy: (text) => table.filterBy(text),
        update: (state) => table.update(rowsOf(state))};
}

// ---- servers ----

const errorsOf = (server) => sumOf(Object.values(server.errors ?? {}), (n) => n);

function errorsText(server) {
    return `${server.error_rate > 0 ? `${rate(server.error_rate)}, ` : ""}${count(errorsOf(server))}`;
}

function errorKinds(server) {
    const kinds = Object.entries(server.errors ?? {}).filter(([, n]) => n > 0);

    return kinds.length ? kinds.map(([kind, n]) => `${count(n)} ${kind.replace("_", " ")}`).join(", ") : null;
}

function weightText(server) {
    const now = isNumber(server.weight_now) && Math.abs(server.weight_now - server.weight) > 0.05
        ? ` (now ${number(server.weight_now)})` : "";

    return `${server.weight}${now}${server.by_hand?.weight ? ", by hand" : ""}`;
}

function serversSection() {
    const of = (member) => (row) => row.server[member];
    const columns = [
        nameColumn("Server", (row) => row.server.name,
            (row) => `pool ${row.pool.name}${row.server.backup ? ", backup" : ""}`),
        {title: "State", value: (row) => -toneWeight(row.server.state),
            cell: stateCell(STATES, (row) => row.server)},
        numberColumn("Rate", of("rate"), rate),
        ...latencyColumns,
        {title: "Errors", number: true, help: "per second, and since the start", value: of("error_rate"),
            cell: textCell(({server}) => errorsText(server), ({server}) => errorKinds(server))},
        numberColumn("Active", of("active"), count, "requests that are at it now; of a tcp listener, connections"),
        numberColumn("In line", of("waiting"), count, "requests that wait for a place at it"),
        numberColumn("Idle", of("idle"), count, "connections kept for the next request"),
        numberColumn("Total", of("requests"), count, "requests since the start, each try; of a tcp listener, connections"),
        {title: "Failed checks", number: true, value: ({server}) => server.checks?.failed,
            cell: textCell(({server}) => count(server.checks?.failed),
                ({server}) => `of ${count((server.checks?.ok ?? 0) + (server.checks?.failed ?? 0))} since the start`)},
        {title: "Weight", number: true, value: of("weight"), cell: textCell(({server}) => weightText(server))},
    ];

    return tableSection("Servers", columns, {
        keyOf: ({pool, server}) => `${pool.name} ${server.name}`,
        textOf: ({pool, server}) => `${pool.name} ${server.name} ${server.state}`,
        isTroubled: ({server}) => isTrouble(server.state) || server.error_rate > 0,
        actions: serverActions,
        none: "No pool is configured.",
    }, (state) => state.pools.flatMap((pool) => pool.servers.map((server) => ({pool, server}))));
}

// ---- listeners ----

// Nobody counts the requests of the others.
const isCounted = (row) => row.route || row.listener.kind === "http" || row.listener.kind === "tcp";

function listenersSection() {
    const columns = [
        nameColumn("Listener", (row) => row.listener.name, (row) => row.route ? `route ${row.name}` : row.listener.kind),
        {title: "Goes to", cell: textCell((row) => row.route ? row.action : row.pool ? `pool ${row.pool}` : "",
            (row) => row.place ?? null)},
        numberColumn("Rate", (row) => isCounted(row) ? row.rate : null, rate),
        ...latencyColumns,
        numberColumn("Errors", (row) => isCounted(row) ? row.error_rate : null, rate, "answers with 5xx; of a tcp listener, clients without a server"),
        {title: "Answers", help: "since the start", cell: textCell((row) => Object.entries(row.statuses ?? {})
            .filter(([, n]) => n > 0).map(([name, n]) => `${count(n)} ${name}`).join(", ") || NONE)},
        numberColumn("Clients", (row) => row.connections?.open, count),
    ];

    return tableSection("Listeners and routes", columns, {
        keyOf: (row) => `${row.listener.name} ${row.place ?? ""} ${row.route ? row.name : ""}`,
        textOf: (row) => `${row.listener.name} ${row.name} ${row.action ?? row.pool ?? ""}`,
        none: "No listener is configured.",
    }, (state) => state.listeners.flatMap((listener) => [{...listener, listener},
        ...(listener.routes ?? []).map((route) => ({...route, listener, route: true}))]));
}

// ---- queues ----

function readyCell() {
    const text = h("span", {});
    const bar = barView();

    return {node: h("span", {class: "filled"}, text, bar.node), update(queue) {
        const fill = fillOf(queue);

        setText(text, count(queue.ready));
        setAttribute(text, "title", fill.text);
        bar.update(fill.share, fill.tone);
    }};
}

function queuesSection() {
    let all = [];
    const rates = (name) => (queue) => queue.rates[name];
    const columns = [
        nameColumn("Queue", (queue) => queue.name, (queue) => [queue.workers && `workers ${queue.workers}`,
            queue.push && `pushed to pool ${queue.push}`, queue.dead_letter && `dead letters to ${queue.dead_letter}`]
            .filter(Boolean).join(", ")),
        {title: "State", value: (queue) => -toneWeight(queue.state), cell: stateCell(STATES)},
        {title: "Ready", number: true, value: (queue) => queue.ready, cell: readyCell},
        numberColumn("Unacked", (queue) => queue.in_flight, count, "delivered, and not answered for"),
        numberColumn("Later", (queue) => (queue.delayed ?? 0) + (queue.blocked ?? 0), count,
            "wait for their time, or for an older one of their key"),
        numberColumn("In", rates("published"), rate),
        numberColumn("Delivered", rates("delivered"), rate),
        numberColumn("Acked", rates("acked"), rate),
        numberColumn("Dead", rates("dead"), rate),
        numberColumn("Oldest", (queue) => queue.oldest_age, duration, "how long the oldest that is ready has waited"),
        {title: "Drains", number: true, value: drainsIn, cell: textCell((queue) => drainsText(queue).replace("drains ", ""))},
        numberColumn("Consumers", (queue) => queue.consumers, count),
        sparkColumn("Ready, 15 min", "ready", count, (queue) => [historyOf(`queue ${queue.name}`, "ready")]),
    ];

    return tableSection("Queues", columns, {
        isTroubled: (queue) => isTrouble(queue.state),
        actions: (queue) => queueActions(queue, all),
        none: "No queue is configured.",
    }, (state) => {
        all = state.queues;
        return all;
    });
}

// ---- workers ----

function decisionsView() {
    const list = h("ol", {class: "events plain"});
    const title = h("h3", {});
    const node = h("div", {hidden: true}, title, list);
    let asked = 0;      // when

    return {node, async update(workers) {
        const now = performance.now();

        node.hidden = !workers;
        if (!workers || (now - asked < HISTORY_PERIOD_MS && title.textContent === `Decisions about ${workers.name}`))
            return;
        asked = now;
        setText(title, `Decisions about ${workers.name}`);
        const answer = await ask(pathOf(["workers", workers.name, "decisions"])).catch(() => ({}));

        showList(list, answer.decisions ?? [], (decision) => `${decision.time} ${decision.from} ${decision.to}`, () => {
            const time = h("time", {});
            const text = h("span", {});

            return {node: h("li", {}, time, text), update(decision) {
                setText(time, clock(decision.time));
                setText(text, decisionText(decision));
            }};
        });
    }};
}

const WORKERS_COLUMNS = [
    nameColumn("Workers", (workers) => workers.name, (workers) => `of queue ${workers.queue}, ${workers.kind ?? ""}`),
    {title: "State", value: (workers) => -toneWeight(workers.state), cell: stateCell(STATES)},
    numberColumn("Running", (workers) => workers.running, count),
    {title: "Desired", number: true, value: (workers) => workers.desired,
        cell: textCell((workers) => `${count(workers.desired)} (${count(workers.min)} to ${count(workers.max)})`)},
    numberColumn("Busy", (workers) => workers.busy, count),
    numberColumn("Idle", (workers) => workers.idle, count),
    numberColumn("Unacked", (workers) => workers.in_flight, count, "messages that they hold"),
    numberColumn("Takes", (workers) => workers.service_time_ms, milliseconds, "a message, on average"),
    numberColumn("In", (workers) => workers.arrival_rate, rate),
    numberColumn("Handled", (workers) => workers.handled_rate, rate),
    numberColumn("Crashes", (workers) => workers.crashes, count),
    sparkColumn("15 min", "running and (dashed) desired", count, (workers) =>
        ["running", "desired"].map((series) => historyOf(`workers ${workers.name}`, series))),
];

const PROCESS_COLUMNS = [
    nameColumn("Process", (row) => `${row.workers.name} ${row.number}`, (row) => row.pid ? `pid ${row.pid}` : ""),
    {title: "State", value: (row) => row.state, cell: stateCell(PROCESS_STATES)},
    numberColumn("Unacked", (row) => row.in_flight, count),
    numberColumn("Handled", (row) => row.handled, count),
    numberColumn("Restarts", (row) => row.restarts, count),
];

function processesTable() {
    return new Table(PROCESS_COLUMNS, {
        caption: "Processes",
        keyOf: (row) => `${row.workers.name} ${row.number}`,
        textOf: (row) => `${row.workers.name} ${row.state}`,
        isTroubled: (row) => row.state === "backing-off",
        none: "No process runs.",
    });
}

function workersSection() {
    const groups = new Table(WORKERS_COLUMNS, {caption: "Workers", textOf: (workers) => workers.name,
        keyOf: (workers) => workers.name, actions: workersActions, isTroubled: (workers) => isTrouble(workers.state),
        none: "No workers are configured."});
    const processes = processesTable();
    const processesPart = h("div", {}, h("h3", {}, "Processes"), processes.node);
    const decisions = decisionsView();
    let wanted = "";

    return {
        title: "Workers",
        node: h("div", {}, groups.node, processesPart, decisions.node),
        filterBy(name) {
            wanted = name;
            groups.filterBy(name);
            processes.filterBy(name);
        },
        async update(state) {
            groups.update(state.workers);
            processesPart.hidden = !state.workers.length;
            processes.update(state.workers.flatMap((workers) =>
                (workers.processes ?? []).map((process) => ({...process, workers}))));
            await decisions.update(state.workers.find((workers) => workers.name === wanted) ?? state.workers[0]);
        },
    };
}

// ---- the database ----

function databaseSection() {
    const columns = [
        nameColumn("Gauge", (gauge) => gauge.name),
        {title: "State", value: (gauge) => -toneWeight(gauge.state), cell: stateCell(STATES)},
        {title: "Value", number: true, value: (gauge) => gauge.value,
            cell: textCell((gauge) => isNumber(gauge.value) ? `${number(gauge.value)} ${gauge.unit ?? ""}` : NONE)},
        numberColumn("Full at", (gauge) => gauge.full, number),
        numberColumn("Told", (gauge) => gauge.age, (age) => isNumber(age) ? `${duration(age)} ago` : "never"),
        sparkColumn("15 min", "value", number, (gauge) => [historyOf(`gauge ${gauge.name}`, "value")]),
    ];

    return tableSection("Database", columns, {isTroubled: (gauge) => gauge.state === "full",
        none: "No gauge is configured: what a database can take is told to maitred by POST /api/gauges/NAME."},
    (state) => state.gauges);
}

// ---- events ----

const EVENT_TONES = {
    bad: /^(server-down|reload-failed|upgrade-failed|log-failed|worker-failed|worker-killed|worker-stuck|keeper-lost)$/,
    warn: /^(server-ejected|server-drained|name-failed|limit|queue-paused|queue-purged|gauge-full|workers-(paused|set|held))$/,
};

// What a kind of event means, as a state with its shape.
function eventState(kind) {
    return EVENT_TONES.bad.test(kind) ? "down" : EVENT_TONES.warn.test(kind) ? "degraded" : "none";
}

function eventView() {
    const time = h("time", {});
    const mark = markView();
    const text = h("span", {});

    return {node: h("li", {}, time, mark.node, text), update(event) {
        setText(time, clock(event.time));
        setAttribute(time, "datetime", event.time);
        setAttribute(time, "title", event.time);
        mark.update(eventState(event.kind), event.kind);
        setText(text, event.text);
    }};
}

function showEvents(list, events) {
    showList(list, events, (event) => `${event.id} ${event.time}`, eventView);
}

function eventsSection() {
    const list = h("ol", {class: "events", reversed: true});

    return {title: "Events", node: h("div", {}, h("p", {class: "muted"}, "The last 50, newest first."), list), filterBy() {},
        update: (state) => showEvents(list, state.events.toReversed())};
}

// ---- the process ----

function processSection() {
    let last = null;
    const list = h("dl", {class: "facts"});
    const reload = h("button", {type: "button", click: () => reloadFile(last)}, "Reload the configuration…");

    function factsOf(state) {
        const {log} = state;

        return [
            ["version", `${state.version}, pid ${state.pid}`],
            ["up", `${duration(state.uptime)}, since ${clock(state.started)}`],
            ["configuration", `${state.config.file}, loaded ${clock(state.config.loaded)}`],
            ["reloads", `${count(state.config.reloads)} worked, ${count(state.config.reloads_failed)} failed`],
            ["older generations", plural(state.generations.length - 1, "configuration") + " still in use"],
            ["threads", count(state.threads)],
            ["clients", `${count(state.connections.open)} of ${count(state.connections.max)}`],
            ["descriptors", `${count(state.descriptors.open)} of ${count(state.descriptors.max)}`],
            ["memory", bytes(state.memory_bytes)],
            ...(log ? [["queue log", `${log.folder}: ${log.state}${log.reason ? `, ${log.reason}` : ""}`],
                ["log on disk", `${bytes(log.bytes)} in ${plural(log.segments, "segment")}`],
                ["commit to disk", `p50 ${milliseconds(log.commit?.p50_ms)}, p99 ${milliseconds(log.commit?.p99_ms)}`]] : []),
        ];
    }

    return {title: "Process", node: h("div", {}, list, h("p", {}, reload)), filterBy() {}, update(state) {
        last = state;
        showList(list, factsOf(state), ([name]) => name, ([name]) => {
            const text = h("dd", {});
            return {node: h("div", {}, h("dt", {}, name), text), update: ([, value]) => setText(text, value)};
        });
    }};
}

// ---- all of them ----

const SECTIONS = {
    servers: serversSection, queues: queuesSection, workers: workersSection, database: databaseSection,
    listeners: listenersSection, requests: () => new RequestsSection(), events: eventsSection, process: processSection,
};
