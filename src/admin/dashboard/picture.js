// picture.js - users, load balancer, servers, message queue, workers, database, and what moves between them.

const ROWS_MAX = 8;         // of a node; the rest is one line, and in the tables

// ---- what belongs where ----

// The pools that requests are sent to; a pool that only takes a queue's messages is among the workers. The queues whose messages
// are pushed to one of the former, and the others.
function poolsByRole(state) {
    const pushed = new Set(state.queues.map((queue) => queue.push));
    const routed = new Set();

    for (const listener of state.listeners) {
        routed.add(listener.pool);
        for (const route of listener.routes ?? [])
            routed.add(/^pool ([^,]*)/.exec(route.action)?.[1]);
    }
    const isWorker = (pool) => pushed.has(pool.name) && !routed.has(pool.name);

    const servers = state.pools.filter((pool) => !isWorker(pool));
    const isPushed = (queue) => servers.some((pool) => pool.name === queue.push);

    return {servers, workers: state.pools.filter(isWorker),
        pushed: state.queues.filter(isPushed), taken: state.queues.filter((queue) => !isPushed(queue))};
}

// Worst first, then as they came; the order of those that are alike does not change.
function worstFirst(items, weightOf) {
    return items.map((item, i) => [weightOf(item), i, item]).sort((a, b) => b[0] - a[0] || a[1] - b[1])
        .map(([, , item]) => item);
}

const toneWeight = (state) => ({bad: 2, warn: 1})[toneOf(state)] ?? 0;

const STANDING = new Set(["unread", "paused"]);     // a queue from which nothing goes, whatever went a moment ago

// Seconds until a queue is empty: 0, null for never.
function drainsIn(queue) {
    if (STANDING.has(queue.state) && queue.ready > 0)
        return null;
    if (queue.drains_in !== undefined)
        return queue.drains_in;
    const net = queue.rates.acked + queue.rates.dead - queue.rates.published;

    if (queue.ready + queue.in_flight === 0)
        return 0;
    return net > 0 ? (queue.ready + queue.in_flight) / net : null;
}

function drainsText(queue) {
    const seconds = drainsIn(queue);
    const net = queue.rates.published - queue.rates.acked - queue.rates.dead;

    if (seconds === 0)
        return "empty";
    if (seconds !== null)
        return `drains in ${duration(seconds)}`;
    return net > 0.05 ? `grows by ${rate(net)}` : "does not drain";
}

// ---- edges ----

function edgeView(node, from, to) {
    const rateText = h("dd", {class: "rate"});
    const p95 = h("dd");
    const errors = h("dd", {class: "wrongs"});
    const what = [h("dt", {}, "rate"), h("dt", {}, "p95"), h("dt", {}, "errors")];
    const lines = [rateText, p95, errors].map((text, i) => h("div", {}, what[i], text));

    node.setAttribute("role", "group");
    node.setAttribute("aria-label", `From ${from} to ${to}`);
    node.append(h("span", {class: "arrow", "aria-hidden": "true"}),
        h("div", {}, h("p", {class: "ends", "aria-hidden": "true"}, `${from} to ${to}`), h("dl", {}, ...lines)));
    return {
        // {rate, p95 (ms), p95Name, errors (per second), errorsHelp}; null: nobody measured it, undefined: nobody can.
        update(flow, absent = false) {
            const wrong = isNumber(flow.errors) && flow.errors > 0;

            node.classList.toggle("absent", absent);
            node.classList.toggle("idle", !(flow.rate > 0));
            node.classList.toggle("wrong", wrong);
            setText(rateText, rate(flow.rate));
            setText(what[1], flow.p95Name ?? "p95");
            setText(p95, milliseconds(flow.p95));
            lines[1].hidden = flow.p95 === undefined;
            lines[2].hidden = flow.errors === undefined;
            setAttribute(what[2], "title", flow.errorsHelp ?? null);
            setText(errors, wrong ? `${rate(flow.errors)} ${shareText(flow)}` : isNumber(flow.errors) ? "0" : NONE);
        },
    };
}

const shareText = (flow) => flow.rate > 0 ? `(${percent(Math.min(flow.errors, flow.rate), flow.rate)})` : "";
const p95Of = (item) => item.latency?.p95_ms;

function flowOf(items) {
    return {
        rate: sumOf(items, (item) => item.rate),
        p95: highestOf(items, p95Of),
        errors: sumOf(items, (item) => item.error_rate),
    };
}

// To the servers: what clients want of them. A request that is tried twice is one here, and what a queue pushes there is none.
function serversFlow(state) {
    return flowOf(state.listeners.flatMap((listener) => listener.pool ? [listener]
        : (listener.routes ?? []).filter((route) => /^pool /.test(route.action))));
}

// Into the queue: what its clients wait for is the answer that it is on disk.
function storeFlow(state) {
    const routes = state.listeners.flatMap((listener) => listener.routes ?? [])
        .filter((route) => /^(queue|topic) /.test(route.action) && route.rate > 0);
    const stored = routes.length > 0;

    return {
        rate: sumOf(state.queues, (queue) => queue.rates.published),
        p95: stored ? highestOf(routes, p95Of) : state.log?.commit?.p99_ms ?? null,
        p95Name: stored ? "p95" : "to disk, p99",
        errors: stored ? sumOf(routes, (route) => route.error_rate) : null,
    };
}

// Out of queues.
function deliveryFlow(queues) {
    return {
        rate: sumOf(queues, (queue) => queue.rates.delivered),
        errors: sumOf(queues, (queue) => queue.rates.redelivered + queue.rates.dead),
        errorsHelp: "delivered again, or dead",
    };
}

function workFlow(state, pools) {
    const times = highestOf(state.workers, (workers) => workers.service_time_ms);

    return {
        ...deliveryFlow(pools.taken),
        p95: pools.workers.length ? highestOf(pools.workers, p95Of) : times,
        p95Name: pools.workers.length ? "p95" : "takes",
    };
}

function databaseFlow(state) {
    const known = state.workers.filter((workers) => isNumber(workers.handled_rate));

    return {rate: known.length ? sumOf(known, (workers) => workers.handled_rate) : null};
}

// ---- rows of nodes ----

// A name that leads to its place in the tables, a line of words, and what else the row has.
function rowOf(link, ...rest) {
    return h("div", {class: "row"}, h("div", {class: "top"}, ...link), ...rest);
}

function linkTo(section, name) {
    return h("a", {href: `#${section}/${encodeURIComponent(name)}`, class: "name"}, name);
}

// The rows that there is room for, and how many there are beside them.
function showRows(rows, items, keyOf, makeView, section, what) {
    const shown = items.length > ROWS_MAX ? items.slice(0, ROWS_MAX - 1) : items;
    const more = items.length - shown.length;

    showList(rows, more ? [...shown, {more}] : shown, (item) => item.more ? "more" : keyOf(item), (item) => {
        if (!item.more)
            return makeView(item);
        const link = h("a", {href: `#${section}`});

        return {node: h("div", {class: "row more"}, link),
            update: ({more: n}) => setText(link, `and ${plural(n, what)} more`)};
    });
}

// "2 of 3 up, 1 down"
function upText(servers) {
    const usable = servers.filter((server) => server.usable).length;
    const others = new Map();

    for (const server of servers)
        if (!server.usable)
            others.set(server.state, (others.get(server.state) ?? 0) + 1);
    return [`${count(usable)} of ${count(servers.length)} up`, ...[...others].map(([word, n]) => `${count(n)} ${word}`)]
        .join(", ");
}

function listenerRow(listener) {
    const kind = h("span", {class: "muted"});
    const words = h("p", {class: "words"});
    const spark = sparkView(`${listener.name}: rate`, rate);

    return {
        node: rowOf([linkTo("listeners", listener.name), kind], h("div", {class: "beside"}, words, spark.node)),
        update(now) {
            setText(kind, now.draining ? `${now.kind}, draining` : now.kind);
            setText(words, (now.kind === "amqp" ? "" : `${rate(now.rate)}, `) +
                plural(now.connections?.open, "client"));
            if (now.kind !== "amqp")
                spark.update(historyOf(`listener ${now.name}`, "rate"));
        },
    };
}

function poolRow(first) {
    const words = h("span", {class: "word"});
    const marks = marksView();
    const figures = h("p", {class: "words"});
    const spark = sparkView(`pool ${first.name}: rate`, rate);

    return {
        node: rowOf([linkTo("servers", first.name), words], marks.node,
            h("div", {class: "beside"}, figures, spark.node)),
        update(pool) {
            const waiting = pool.waiting ? `, ${count(pool.waiting)} in line` : "";

            setText(words, upText(pool.servers));
            words.className = `word ${toneOf(pool.state)}`;
            marks.update(pool.servers.map((server) => ({
                key: server.name, state: server.state,
                text: `${server.name}: ${server.state}${server.reason ? `, ${server.reason}` : ""}`,
            })));
            setText(figures, `${rate(pool.rate)}, p95 ${milliseconds(p95Of(pool))}${waiting}` +
                (pool.error_rate > 0 ? `, ${rate(pool.error_rate)} errors` : ""));
            spark.update(historyOf(`pool ${pool.name}`, "rate"));
        },
    };
}

// How full a queue is: of its limit, else of the most that it held in 15 minutes.
function fillOf(queue) {
    const waiting = queue.ready + (queue.delayed ?? 0) + (queue.blocked ?? 0);
    const {length = 0, bytes: most = 0} = queue.limits ?? {};
    const limited = Math.max(length ? waiting / length : 0, most ? queue.bytes / most : 0);
    const peak = Math.max(highestOf(historyOf(`queue ${queue.name}`, "ready") ?? [], (value) => value) ?? 0, queue.ready);

    if (length || most)
        return {share: limited, tone: limited >= 0.8 ? "bad" : "good", limited: true,
            text: `${TENTHS.format(100 * limited)} % of its limit`};
    return {share: peak ? queue.ready / peak : 0, tone: "off", text: peak ? `at most ${count(peak)} in 15 min` : ""};
}

function queueRow(first) {
    const state = stateView();
    const words = h("p", {class: "words"});
    const bar = barView();
    const spark = sparkView(`queue ${first.name}: ready`, count);

    return {
        node: rowOf([linkTo("queues", first.name), state.node],
            h("div", {class: "beside"}, h("div", {class: "filled"}, words, bar.node), spark.node)),
        update(queue) {
            const full = fillOf(queue);

            state.update(queue.state);
            setText(words, [`${count(queue.ready)} ready`, `${count(queue.in_flight)} in flight`,
                ...(isNumber(queue.oldest_age) ? [`oldest ${duration(queue.oldest_age)}`] : []),
                drainsText(queue), ...(full.limited && full.share >= 0.1 ? [full.text] : [])].join(", "));
            bar.update(full.share, full.tone);
            setAttribute(bar.node, "title", full.text || null);
            spark.update(historyOf(`queue ${queue.name}`, "ready"));
        },
    };
}

const decisionText = ({from, to, text}) => `${count(from)} → ${count(to)}: ${text}`;

// Why there are as many as there are; when something is wrong, that.
function whyText(workers) {
    if (isTrouble(workers.state))
        return workers.reason ?? "";
    return workers.decision ? decisionText(workers.decision) : "";
}

function processText(process) {
    return `process ${process.number}, pid ${process.pid}: ${process.state}${process.reason ? `, ${process.reason}` : ""}`;
}

function workersRow(first) {
    const state = stateView();
    const bounds = h("span", {class: "muted"});
    const marks = marksView(PROCESS_STATES);
    const words = h("p", {class: "words"});
    const why = h("p", {class: "why"});
    const spark = sparkView(`workers ${first.name}: running and (dashed) desired`, count);

    return {
        node: rowOf([h("span", {}, linkTo("workers", first.name), " ", bounds), state.node], marks.node,
            h("div", {class: "beside"}, words, spark.node), why),
        update(workers) {
            state.update(workers.state);
            marks.update((workers.processes ?? []).map((process) => ({
                key: String(process.number), state: process.state, text: processText(process),
            })));
            setText(bounds, `${count(workers.min)} to ${count(workers.max)}`);
            setText(words, `${count(workers.running)} running, ${count(workers.busy)} busy, ${count(workers.desired)} desired` +
                (workers.backing_off ? `, ${count(workers.backing_off)} backing off` : ""));
            setText(why, whyText(workers));
            spark.update(...["running", "desired"].map((series) => historyOf(`workers ${workers.name}`, series)));
        },
    };
}

// Who takes a queue's messages without being ours: clients of AMQP.
function readersRow(first) {
    const words = h("span", {class: "word"});

    return {
        node: rowOf([linkTo("queues", first.name), words]),
        update: (queue) => setText(words, `${plural(queue.consumers, "consumer")} of its own`),
    };
}

function workerRow(item) {
    if (item.workers)
        return wrapped(workersRow(item.workers), "workers");
    return item.pool ? wrapped(poolRow(item.pool), "pool") : wrapped(readersRow(item.queue), "queue");
}

const wrapped = (view, member) => ({node: view.node, update: (item) => view.update(item[member])});

function gaugeRow(first) {
    const state = stateView();
    const words = h("p", {class: "words"});
    const bar = barView();
    const spark = sparkView(`gauge ${first.name}`, number);

    return {
        node: rowOf([linkTo("database", first.name), state.node], words, h("div", {class: "beside"}, bar.node, spark.node)),
        update(gauge) {
            state.update(gauge.state);
            setText(words, isNumber(gauge.value)
                ? `${number(gauge.value)} ${gauge.unit ?? ""}`.trim() + `, full at ${number(gauge.full)}`
                : gauge.reason || "nobody has told its value");
            bar.update(isNumber(gauge.value) ? gauge.value / gauge.full : 0, toneOf(gauge.state));
            spark.update(historyOf(`gauge ${gauge.name}`, "value"));
        },
    };
}

// ---- the whole ----

function nodeView(id) {
    const node = $(id);
    const sum = node.querySelector(".sum");
    const rows = node.querySelector(".rows");
    const tag = h("p", {class: "tag", hidden: true});

    node.querySelector("h3").after(tag);
    node.addEventListener("click", (event) => {        // the whole node leads where its heading does
        if (!event.target.closest("a") && !String(getSelection()))
            node.querySelector("h3 a").click();
    });
    return {
        rows,
        // bottleneck: whether it is; isOver: it was, until a moment ago
        update(words, tone, absent, bottleneck, isOver) {
            setText(sum, words);
            sum.className = `sum ${tone}`;
            node.classList.toggle("absent", absent);
            node.classList.toggle("bottleneck", bottleneck);
            node.classList.toggle("past", bottleneck && isOver);
            setText(tag, isOver ? "was the bottleneck" : "the bottleneck");
            tag.hidden = !bottleneck;
        },
    };
}

// The node that is the bottleneck; a pool that only takes messages is drawn among the workers.
function bottleneckNode(found, pools) {
    if (found?.layer !== "servers" && found?.layer !== "server")
        return found?.layer;
    return pools.workers.some((pool) => pool.name === (found.pool ?? found.name)) ? "workers" : "servers";
}

const NODES = ["users", "balancer", "servers", "queue", "workers", "database"];

// By the node that an edge leads to, but for one; the picture in page.html has them.
const EDGES = {
    balancer: ["edge-users", "users", "load balancer"],
    servers: ["edge-servers", "load balancer", "servers"],
    queue: ["edge-queue", "load balancer", "message queue"],
    push: ["edge-push", "message queue", "servers"],        // leads back: what is pushed to those who serve requests, too
    workers: ["edge-workers", "message queue", "workers"],
    database: ["edge-database", "workers", "database"],
};

// What the queue node says in large letters, and its tone.
function queueWords(state) {
    if (state.log && state.log.state !== "ok")
        return [`the log has ${state.log.state === "failed" ? "failed" : "stopped answering"}: ${state.log.reason}`, "bad"];
    if (!state.queuesKnown)
        return ["the queue does not answer", "bad"];
    if (!state.queues.length)
        return ["no queue is configured", ""];
    return [`${count(sumOf(state.queues, (queue) => queue.ready))} ready in ${plural(state.queues.length, "queue")}`, ""];
}

// In steps, so that queues which are alike do not change places every second.
function queueWeight(queue) {
    return 100 * toneWeight(queue.state) + Math.floor(2 * Math.log10(1 + (queue.oldest_age ?? 0)));
}

// Who takes messages: workers of maitred's, pools that are pushed to, and clients of AMQP.
function workerRows(state, pools) {
    const theirs = new Set(state.workers.map((workers) => workers.queue));
    const readers = state.queues.filter((queue) => queue.consumers && !queue.push && !theirs.has(queue.name));

    return [
        ...worstFirst(state.workers, (workers) => toneWeight(workers.state))
            .map((workers) => ({key: `workers ${workers.name}`, workers})),
        ...pools.map((pool) => ({key: `pool ${pool.name}`, pool})),
        ...readers.map((queue) => ({key: `queue ${queue.name}`, queue})),
    ];
}

function workersWords(state, pools) {
    const crashing = state.workers.filter((workers) => workers.state === "crashing").length;
    const running = sumOf(state.workers, (workers) => workers.running);
    const desired = sumOf(state.workers, (workers) => workers.desired);

    if (state.workers.length)
        return `${count(running)} of ${count(desired)} running${crashing ? `, ${count(crashing)} crashing` : ""}`;
    if (pools.length)
        return upText(pools.flatMap((pool) => pool.servers));
    return plural(sumOf(state.queues, (queue) => queue.consumers), "consumer");
}

function gaugesWords(gauges) {
    const full = gauges.filter((gauge) => gauge.state === "full").length;

    return full ? [`${count(full)} of ${plural(gauges.length, "gauge")} full`, "bad"]
        : [plural(gauges.length, "gauge"), ""];
}

class Picture {
    constructor() {
        this.nodes = Object.fromEntries(NODES.map((name) => [name, nodeView(`node-${name}`)]));
        this.edges = Object.fromEntries(Object.entries(EDGES)
            .map(([name, [id, from, to]]) => [name, edgeView($(id), from, to)]));
        this.clients = barView();
        this.clientsText = h("p", {class: "words"});
        this.nodes.users.rows.append(this.clientsText, this.clients.node);
    }

    update(state) {
        const pools = poolsByRole(state);

        this.marked = bottleneckNode(state.bottleneck, pools);
        this.isOver = isNumber(state.bottleneck?.ended_s);
        this.showUsers(state.connections);
        this.showBalancer(state);
        this.showServers(state, pools.servers);
        this.showQueues(state);
        this.edges.push.update(deliveryFlow(pools.pushed), !pools.pushed.length);
        this.showWorkers(state, pools);
        this.showDatabase(state);
    }

    // A node and the edge that leads to it.
    show(name, flow, words, tone, absent) {
        this.edges[name].update(flow, absent);
        this.nodes[name].update(words, tone, absent, this.marked === name, this.isOver);
        return this.nodes[name].rows;
    }

    showUsers({open, max}) {
        const many = open >= 0.8 * max;

        this.nodes.users.update(plural(open, "client"), many ? "bad" : "", false, false);
        setText(this.clientsText, `of ${count(max)} that may be connected`);
        this.clients.update(open / max, many ? "bad" : "good");
    }

    showBalancer(state) {
        const fronts = state.listeners.filter((listener) => listener.kind !== "admin");
        const words = `${plural(fronts.length, "listener")}${state.draining ? ", draining" : ""}`;

        showRows(this.show("balancer", flowOf(fronts), words, "", false), fronts, (listener) => listener.name,
            listenerRow, "listeners", "listener");
    }

    showServers(state, pools) {
        const tone = ["", "warn", "bad"][highestOf(pools, (pool) => toneWeight(pool.state)) ?? 0];
        const words = upText(pools.flatMap((pool) => pool.servers));

        showRows(this.show("servers", serversFlow(state), words, tone, !pools.length),
            worstFirst(pools, (pool) => toneWeight(pool.state)), (pool) => pool.name, poolRow, "servers", "pool");
    }

    showQueues(state) {
        const [words, tone] = queueWords(state);

        showRows(this.show("queue", storeFlow(state), words, tone, !state.queues.length && !tone),
            worstFirst(state.queues, queueWeight), (queue) => queue.name, queueRow, "queues", "queue");
    }

    showWorkers(state, pools) {
        const rows = workerRows(state, pools.workers);
        const tone = [...state.workers, ...pools.workers].some((item) => isTrouble(item.state)) ? "warn" : "";

        showRows(this.show("workers", workFlow(state, pools), workersWords(state, pools.workers), tone, !rows.length),
            rows, (row) => row.key, workerRow, "workers", "row");
    }

    showDatabase(state) {
        const [words, tone] = gaugesWords(state.gauges);

        showRows(this.show("database", databaseFlow(state), words, tone, !state.gauges.length),
            state.gauges, (gauge) => gauge.name, gaugeRow, "database", "gauge");
    }
}
