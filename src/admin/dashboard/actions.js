// actions.js - what may be changed by hand. Each is asked for once more, in a dialog that says what will happen.

const doing = {action: null};

// action: {title, text: [paragraphs], fields: [{name, label, element}], button, send: values => path, danger}
function confirmAction(action) {
    doing.action = action;
    setText($("dialog-title"), action.title);
    $("dialog-text").replaceChildren(...action.text.filter(Boolean).map((text) => h("p", {}, text)));
    $("dialog-fields").replaceChildren(...(action.fields ?? []).map(({name, label, element}) => {
        element.id = `dialog-${name}`;
        return h("p", {class: "field"}, h("label", {for: element.id}, label), element);
    }));
    setText($("dialog-error"), "");
    setText($("dialog-do"), action.button);
    $("dialog-do").className = action.danger ? "danger" : "primary";
    $("dialog-do").disabled = false;
    $("dialog").showModal();
    (action.fields?.[0].element ?? $("dialog-cancel")).focus();
}

// What maitred said about it, until the next.
function say(text) {
    $("said").hidden = false;
    setText($("said"), `${clock(Date.now())} ${text}`);
}

// A line each, where there are several.
function textOfAnswer({text, changes, warnings = []}) {
    const done = changes ? changes.join("; ") || "there was nothing to take up" : "done";

    return [text ?? done, ...warnings.map((warning) => `warning: ${warning}`)].join("\n");
}

async function doAction(refresh) {
    const action = doing.action;
    const values = Object.fromEntries((action.fields ?? []).map(({name, element}) => [name, element.value]));

    $("dialog-do").disabled = true;
    setText($("dialog-error"), "");
    try {
        const answer = await ask(action.send(values), "POST");

        if (doing.action === action)
            $("dialog").close();
        say(textOfAnswer(answer));
    } catch (error) {
        setText($("dialog-error"), error instanceof Refused ? error.message
            : "maitred did not answer; it may have happened all the same");
    }
    $("dialog-do").disabled = false;
    refresh();
}

function prepareDialog(refresh) {
    $("dialog-form").addEventListener("submit", (event) => {
        event.preventDefault();
        doAction(refresh);
    });
    $("dialog-cancel").addEventListener("click", () => $("dialog").close());
    $("dialog").addEventListener("close", () => {
        doing.action = null;
    });
}

function numberField(name, label, value, min, max) {
    return {name, label, element: h("input", {type: "number", min, max, step: 1, value, required: value !== ""})};
}

// ---- servers ----

function othersText(pool, server) {
    const others = pool.servers.filter((other) => other !== server && other.usable).length;

    if (!server.usable)
        return null;
    return others
        ? `${plural(others, "other server")} of the pool ${others === 1 ? "is" : "are"} usable, and will take its ` +
            `${rate(server.rate)}.`
        : "It is the last usable server of its pool: what the pool is asked for will be answered 503.";
}

function activeText(server) {
    if (!server.active)
        return "Nothing is at it now.";
    const those = server.active === 1 ? "The one that is" : `The ${count(server.active)} that are`;

    return `${those} at it, and tunnels, end by themselves.`;
}

function drainServer(pool, server) {
    confirmAction({
        title: `Drain server ${server.name} of pool ${pool.name}?`,
        text: [`It gets no new requests. ${activeText(server)}`, othersText(pool, server),
        "That stands against the file, over reloads, until it is enabled or reset, or maitred starts anew."],
        button: "Drain it",
        send: () => pathOf(["pools", pool.name, "servers", server.name, "drain"]),
    });
}

function enableServer(pool, server) {
    confirmAction({
        title: `Enable server ${server.name} of pool ${pool.name}?`,
        text: ["It takes requests again, whatever the file says, as soon as its checks pass."],
        button: "Enable it",
        send: () => pathOf(["pools", pool.name, "servers", server.name, "enable"]),
    });
}

function weighServer(pool, server) {
    const total = sumOf(pool.servers, (other) => other.usable && other.weight);

    confirmAction({
        title: `Weight of server ${server.name} of pool ${pool.name}`,
        text: [`It is ${count(server.weight)} of ${count(total)} over the usable servers of the pool. A larger share of the ` +
            "requests follows a larger weight, from the next one on; how, is the pool's balance: " + `${pool.balance}.`],
        fields: [numberField("weight", "Weight, 1 to 256", server.weight, 1, 256)],
        button: "Set the weight",
        send: ({weight}) => pathOf(["pools", pool.name, "servers", server.name, "weight"], {weight}),
    });
}

function resetServer(pool, server) {
    confirmAction({
        title: `Reset server ${server.name} of pool ${pool.name}?`,
        text: ["What was set by hand is forgotten: it is as the file says."],
        button: "Reset it",
        send: () => pathOf(["pools", pool.name, "servers", server.name, "reset"]),
    });
}

function serverActions({pool, server}) {
    const of = `server ${server.name} of pool ${pool.name}`;
    const drained = server.state === "draining";
    const turn = drained ? enableServer : drainServer;

    if (server.state === "leaving")
        return [];
    return [
        {key: "drain", of, label: drained ? "Enable" : "Drain", run: () => turn(pool, server)},
        {key: "weight", of, label: "Weight…", run: () => weighServer(pool, server)},
        ...(server.by_hand ? [{key: "reset", of, label: "Reset", run: () => resetServer(pool, server)}] : []),
    ];
}

// ---- queues ----

function pauseQueue(queue) {
    confirmAction({
        title: `Pause queue ${queue.name}?`,
        text: [`Nothing is delivered from it until it is resumed, over restarts too. What comes in is stored: ` +
            `${rate(queue.rates.published)} at present.`,
        `What was delivered already (${count(queue.in_flight)}) may still be acknowledged.`],
        button: "Pause it",
        send: () => pathOf(["queues", queue.name, "pause"]),
    });
}

function resumeQueue(queue) {
    confirmAction({
        title: `Resume queue ${queue.name}?`,
        text: [`Deliveries begin at once, with the oldest of ${count(queue.ready)} that are ready.`],
        button: "Resume it",
        send: () => pathOf(["queues", queue.name, "resume"]),
    });
}

// Dead letters go back to the queue that they came from, where one is known.
function moveMessages(queue, queues) {
    const home = queues.find((other) => other.dead_letter === queue.name);
    const target = h("select", {required: true}, ...queues.filter((other) => other !== queue)
        .map((other) => h("option", {selected: other === home}, other.name)));

    confirmAction({
        title: `Move messages out of queue ${queue.name}`,
        text: [`${plural(queue.ready, "message")} ${queue.ready === 1 ? "is" : "are"} ready here. They are moved oldest first, ` +
            "and delivered there as new ones are. When the other queue is full, the rest stays here.",
        home ? `Queue ${home.name} sends its dead letters here.` : null],
        fields: [{name: "to", label: "To queue", element: target},
            numberField("max", "At most so many (empty: all)", "", 1, 1e9)],
        button: "Move them",
        send: ({to, max}) => pathOf(["queues", queue.name, "move"], {to, max}),
    });
}

function purgeQueue(queue) {
    const waiting = queue.ready + (queue.delayed ?? 0) + (queue.blocked ?? 0);

    confirmAction({
        title: `Purge queue ${queue.name}?`,
        text: [`${plural(waiting, "waiting message")} will be dropped. Nothing brings them back.`,
            `What is in flight (${count(queue.in_flight)}) stays.`],
        button: `Drop ${plural(waiting, "message")}`,
        danger: true,
        send: () => pathOf(["queues", queue.name, "purge"]),
    });
}

function queueActions(queue, queues) {
    const of = `queue ${queue.name}`;
    const paused = queue.state === "paused";

    return [
        {key: "pause", of, label: paused ? "Resume" : "Pause", run: () => (paused ? resumeQueue : pauseQueue)(queue)},
        ...(queues.length > 1 ? [{key: "move", of, label: "Move…", run: () => moveMessages(queue, queues)}] : []),
        {key: "purge", of, label: "Purge…", run: () => purgeQueue(queue)},
    ];
}

// ---- workers ----

function pauseWorkers(workers) {
    confirmAction({
        title: `Pause workers ${workers.name}?`,
        text: [`The ${count(workers.running)} that run get no new messages and end once they have finished what they hold ` +
            `(${count(workers.in_flight)}). Queue ${workers.queue} fills up meanwhile.`,
        "None is started until they are resumed."],
        button: "Pause them",
        send: () => pathOf(["workers", workers.name, "pause"]),
    });
}

function resumeWorkers(workers) {
    confirmAction({
        title: `Resume workers ${workers.name}?`,
        text: [`From now on there are as many as the queue needs, ${count(workers.min)} to ${count(workers.max)}.`],
        button: "Resume them",
        send: () => pathOf(["workers", workers.name, "resume"]),
    });
}

function setWorkers(workers) {
    confirmAction({
        title: `How many workers ${workers.name}?`,
        text: [`${count(workers.running)} run now. So many will, whatever waits, until they are resumed. ` +
            "Those that are too many finish what they hold first."],
        fields: [numberField("count", `Processes, 0 to ${count(workers.max)}`, workers.desired, 0, workers.max)],
        button: "Set it",
        send: (values) => pathOf(["workers", workers.name, "set"], values),
    });
}

function restartWorkers(workers) {
    confirmAction({
        title: `Restart workers ${workers.name}?`,
        text: [`Each of the ${count(workers.running)} processes is replaced by a new one, a few at a time, once it has ` +
            "finished what it holds."],
        button: "Restart them",
        send: () => pathOf(["workers", workers.name, "restart"]),
    });
}

function workersActions(workers) {
    const of = `workers ${workers.name}`;

    return [
        ...(workers.by_hand ? [{key: "resume", of, label: "Resume", run: () => resumeWorkers(workers)}] : []),
        ...(workers.by_hand === "paused" ? [] : [{key: "pause", of, label: "Pause", run: () => pauseWorkers(workers)}]),
        {key: "set", of, label: "Set…", run: () => setWorkers(workers)},
        {key: "restart", of, label: "Restart", run: () => restartWorkers(workers)},
    ];
}

// ---- the process ----

function reloadFile(state) {
    confirmAction({
        title: "Reload the configuration?",
        text: [`${state.config.file} is read again. When it has errors, nothing changes and they are told here. ` +
            "Otherwise what differs is taken up; requests that are under way end as they began."],
        button: "Reload it",
        send: () => "/api/reload",
    });
}
