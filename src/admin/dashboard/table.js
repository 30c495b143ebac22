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
// options: caption, none (what is said when there is nothing), keyOf, textOf (what the filter looks in), isTroubled,
// actions: item => [{key, label, of, run}], plain: neither filtered nor turned
class Table {
    items = [];
    page = 0;
    sorted = null;      // the column
    down = false;

    constructor(columns, options) {
        this.columns = columns;
        this.options = options;
        this.body = h("tbody", {role: "rowgroup"});
        this.heads = columns.map((column) => this.headOf(column));
        this.table = h("table", {role: "table"}, h("caption", {class: "unseen"}, options.caption),
            h("thead", {role: "rowgroup"}, h("tr", {role: "row"}, ...this.heads, options.actions
                ? h("th", {role: "columnheader", scope: "col", class: "actions"}, "Actions") : null)), this.body);
        this.none = h("p", {class: "muted"});
        this.scroller = h("div", {class: "scroller"}, this.table);
        this.makeTools();
        this.node = h("div", {class: "table"}, options.plain ? null : this.tools, this.none, this.scroller);
    }

    makeTools() {
        const restart = () => this.restart();

        this.filter = h("input", {type: "search", autocomplete: "off", spellcheck: "false", input: restart});
        this.troubled = h("input", {type: "checkbox", change: restart});
        this.troubledCount = h("span", {});
        this.shown = h("span", {class: "muted"});
        this.previous = h("button", {type: "button", click: () => this.turn(-1)}, "Previous");
        this.next = h("button", {type: "button", click: () => this.turn(1)}, "Next");
        this.pager = h("span", {class: "pager"}, this.previous, this.next);
        this.tools = h("div", {class: "tools"}, h("label", {}, "Filter ", this.filter), this.options.isTroubled
            ? h("label", {}, this.troubled, " needs attention ", this.troubledCount) : null, this.shown, this.pager);
    }

    headOf(column) {
        const button = h("button", {type: "button", title: column.help, click: () => this.sortBy(column)}, column.title);

        return h("th", {role: "columnheader", scope: "col", class: column.number ? "number" : null},
            column.value ? button : h("span", {title: column.help}, column.title));
    }

    rowView(item) {
        const cells = this.columns.map((column) => column.cell());
        const actions = this.options.actions ? actionsView(this.options.actions) : null;
        const node = h("tr", {role: "row"}, ...cells.map((cell, i) => {
            const {title, number: isNumber, main} = this.columns[i];

            return h("td", {role: "cell", "data-label": title, class: isNumber ? "number" : main ? "main" : null}, cell.node);
        }), actions && h("td", {role: "cell", class: "actions"}, actions.node));

        return {node, update(now) {
            cells.forEach((cell) => cell.update(now));
            actions?.update(now);
        }};
    }

    // ---- what is chosen ----

    restart() {
        this.page = 0;
        this.show();
    }

    turn(by) {
        this.page += by;
        this.show();
        if (document.activeElement?.disabled || document.activeElement === document.body)
            (this.previous.disabled ? this.next : this.previous).focus();
    }

    sortBy(column) {
        this.down = this.sorted === column ? !this.down : Boolean(column.number);
        this.sorted = column;
        this.restart();
    }

    filterBy(text) {
        this.filter.value = text;
        this.troubled.checked = false;
        this.restart();
    }

    compare(a, b) {
        const [x, y] = [this.sorted.value(a), this.sorted.value(b)];
        const order = (x === null || x === undefined) - (y === null || y === undefined) ||
            (typeof x === "string" ? x.localeCompare(y, "en", {numeric: true}) : x - y) || 0;

        return this.down ? -order : order;
    }

    chosen() {
        const word = this.filter.value.trim().toLowerCase();
        const found = this.items.filter((item) => (!this.troubled.checked || this.options.isTroubled(item)) &&
            (!word || this.options.textOf(item).toLowerCase().includes(word)));

        return this.sorted ? found.sort((a, b) => this.compare(a, b)) : found;
    }

    // ---- what is shown ----

    update(items) {
        this.items = items;
        this.tools.hidden = items.length < 2;
        this.show();
    }

    show() {
        const found = this.chosen();

        this.page = Math.min(this.page, Math.max(Math.ceil(found.length / PAGE_ROWS), 1) - 1);
        const part = found.slice(this.page * PAGE_ROWS, (this.page + 1) * PAGE_ROWS);

        showList(this.body, part, this.options.keyOf, (item) => this.rowView(item));
        this.none.hidden = part.length > 0;
        this.table.hidden = part.length === 0;
        setText(this.none, this.items.length ? "Nothing fits the filter." : this.options.none);
        this.heads.forEach((th, i) => setAttribute(th, "aria-sort",
            this.columns[i] === this.sorted ? this.down ? "descending" : "ascending" : null));
        this.showTools(found.length, part.length);
        this.showScroller();
    }

    showTools(found, shown) {
        const first = this.page * PAGE_ROWS;

        if (this.options.isTroubled)
            setText(this.troubledCount, `(${count(this.items.filter(this.options.isTroubled).length)})`);
        setText(this.shown, found > PAGE_ROWS ? `${count(first + 1)} to ${count(first + shown)} of ${count(found)}`
            : found < this.items.length ? `${count(found)} of ${count(this.items.length)}` : "");
        this.pager.hidden = found <= PAGE_ROWS;
        this.previous.disabled = this.page === 0;
        this.next.disabled = first + shown === found;
    }

    // What is wider than its place is scrolled, and then it has to be reached by keyboard.
    showScroller() {
        const scrolls = this.scroller.scrollWidth > this.scroller.clientWidth;

        setAttribute(this.scroller, "tabindex", scrolls ? "0" : null);
        setAttribute(this.scroller, "role", scrolls ? "region" : null);
        setAttribute(this.scroller, "aria-label", scrolls ? this.options.caption : null);
    }
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
