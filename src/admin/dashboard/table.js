// table.js - a table that lives: sorted by any column, filtered by a word or by what needs attention, a page at a time.

const PAGE_ROWS = 50;

// A cell of plain text.
function textCell(textOf, titleOf = () => null) {
    return () => {
        const node = h("span", {});

        return {
            node,
            update(item) {
                setText(node, textOf(item));
                setAttribute(node, "title", titleOf(item));
            },
        };
    };
}

// A state, why it is so, and since when. thingOf: what of the item has them.
function stateCell(states, thingOf = (item) => item) {
    return () => {
        const state = stateView(states);
        const reason = h("span", {class: "reason"});

        return {
            node: h("span", {}, state.node, reason),
            update(item) {
                const {state: word, reason: why, since} = thingOf(item);

                state.update(word);
                setText(reason, [why, since && `for ${duration(secondsSince(since))}`].filter(Boolean).join(", "));
            },
        };
    };
}

// columns: {title, value: item => what it is sorted by, cell: () => view, number, help, main}
// options: caption, keyOf, textOf (what the filter looks in), isTroubled, actions: item => [{label, run, hidden}]
function tableView(columns, options) {
    const body = h("tbody", {role: "rowgroup"});
    const filter = h("input", {type: "search", autocomplete: "off", spellcheck: "false", input: restart});
    const troubled = h("input", {type: "checkbox", change: restart});
    const troubledCount = h("span", {});
    const shown = h("span", {class: "muted"});
    const previous = h("button", {type: "button", click: () => turn(-1)}, "Previous");
    const next = h("button", {type: "button", click: () => turn(1)}, "Next");
    const pager = h("span", {class: "pager"}, previous, next);
    const none = h("p", {class: "muted"});
    let items = [];
    let page = 0;
    let sorted = null;      // the column
    let down = false;

    const heads = columns.map((column) => {
        const button = h("button", {type: "button", title: column.help, click: () => sortBy(column)}, column.title);

        return h("th", {role: "columnheader", scope: "col", class: column.number ? "number" : null},
            column.value ? button : h("span", {title: column.help}, column.title));
    });
    const head = h("tr", {role: "row"}, ...heads,
        options.actions ? h("th", {role: "columnheader", scope: "col", class: "actions"}, "Actions") : null);
    const table = h("table", {role: "table"}, h("caption", {class: "unseen"}, options.caption),
        h("thead", {role: "rowgroup"}, head), body);
    const tools = h("div", {class: "tools"}, h("label", {}, "Filter ", filter),
        options.isTroubled ? h("label", {}, troubled, " needs attention ", troubledCount) : null, shown, pager);
    const scroller = h("div", {class: "scroller"}, table);

    function restart() {
        page = 0;
        show();
    }

    function turn(by) {
        page += by;
        show();
        if (document.activeElement?.disabled || document.activeElement === document.body)
            (previous.disabled ? next : previous).focus();
    }

    function sortBy(column) {
        down = sorted === column ? !down : Boolean(column.number);
        sorted = column;
        restart();
    }

    function compare(a, b) {
        const [x, y] = [sorted.value(a), sorted.value(b)];
        const order = (x === null || x === undefined) - (y === null || y === undefined) ||
            (typeof x === "string" ? x.localeCompare(y, "en", {numeric: true}) : x - y) || 0;

        return down ? -order : order;
    }

    function rowView(item) {
        const cells = columns.map((column) => column.cell());
        const actions = options.actions ? actionsView(options.actions) : null;
        const node = h("tr", {role: "row"}, ...cells.map((cell, i) => h("td", {
            role: "cell", "data-label": columns[i].title,
            class: columns[i].number ? "number" : columns[i].main ? "main" : null,
        }, cell.node)), actions && h("td", {role: "cell", class: "actions"}, actions.node));

        return {
            node,
            update(now) {
                cells.forEach((cell) => cell.update(now));
                actions?.update(now);
            },
        };
    }

    function chosen() {
        const word = filter.value.trim().toLowerCase();
        const found = items.filter((item) => (!troubled.checked || options.isTroubled(item)) &&
            (!word || options.textOf(item).toLowerCase().includes(word)));

        return sorted ? found.sort(compare) : found;
    }

    function show() {
        const found = chosen();
        const pages = Math.max(Math.ceil(found.length / PAGE_ROWS), 1);

        page = Math.min(page, pages - 1);
        const part = found.slice(page * PAGE_ROWS, (page + 1) * PAGE_ROWS);

        showList(body, part, options.keyOf, rowView);
        setText(troubledCount, options.isTroubled ? `(${count(items.filter(options.isTroubled).length)})` : "");
        setText(shown, pages > 1
            ? `${count(page * PAGE_ROWS + 1)} to ${count(page * PAGE_ROWS + part.length)} of ${count(found.length)}`
            : found.length < items.length ? `${count(found.length)} of ${count(items.length)}` : "");
        pager.hidden = pages === 1;
        previous.disabled = page === 0;
        next.disabled = page === pages - 1;
        none.hidden = part.length > 0;
        table.hidden = part.length === 0;
        setText(none, items.length ? "Nothing fits the filter." : options.none);
        heads.forEach((th, i) => setAttribute(th, "aria-sort",
            columns[i] === sorted ? down ? "descending" : "ascending" : null));
        // What is wider than its place is scrolled, and then it has to be reached by keyboard.
        setAttribute(scroller, "tabindex", scroller.scrollWidth > scroller.clientWidth ? "0" : null);
        setAttribute(scroller, "role", scroller.scrollWidth > scroller.clientWidth ? "region" : null);
        setAttribute(scroller, "aria-label", scroller.scrollWidth > scroller.clientWidth ? options.caption : null);
    }

    return {
        node: h("div", {class: "table"}, tools, none, scroller),
        filterBy(text) {
            filter.value = text;
            troubled.checked = false;
            restart();
        },
        update(now) {
            items = now;
            tools.hidden = items.length < 2;
            show();
        },
    };
}

// Buttons whose labels change with the state; the elements stay.
function actionsView(actionsOf) {
    const node = h("span", {class: "buttons"});

    return {
        node,
        update(item) {
            showList(node, actionsOf(item), (action) => action.key, () => {
                let run = null;
                const button = h("button", {type: "button", click: () => run()});

                return {node: button, update(action) {
                    run = action.run;
                    setText(button, action.label);
                    setAttribute(button, "aria-label", `${action.label.replace("…", "")} ${action.of}`);
                }};
            });
        },
    };
}
