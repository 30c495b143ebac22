/* clean.c - see clean.h. A walk over the text, token by token, by the rules of libConfuse's own lexer. */
#include "config/clean.h"

#include <stdlib.h>
#include <string.h>

struct cleaner {
    char *at;
    struct config_place place;
    struct config_problems *problems;
    bool ok;
    int opened[CONFIG_NESTING_MAX]; /* lines of the braces that are open */
    int depth;
    char
        before; /* the last token: its punctuation, 'w' for words and strings, '[' for the brace that opens a list */
};

#define report(cleaner, ...) \
    ((cleaner)->ok = false, config_problem((cleaner)->problems, (cleaner)->place, __VA_ARGS__))

/* Nothing after this can be understood. */
static void give_up(struct cleaner *c)
{
    c->at += strlen(c->at);
    c->depth = 0;
}

static void blank(char *from, const char *to)
{
    for (; from < to; from++)
        if (*from != '\n')
            *from = ' ';
}

static void skip_line_comment(struct cleaner *c)
{
    char *end = c->at + strcspn(c->at, "\n");

    blank(c->at, end);
    c->at = end;
}

static void skip_long_comment(struct cleaner *c)
{
    char *end = strstr(c->at + 2, "*/");

    if (!end) {
        report(c, "this comment is never closed; end it with */");
        give_up(c);
        return;
    }
    end += 2;
    for (char *p = c->at; p < end; p++)
        c->place.line += *p == '\n';
    blank(c->at, end);
    c->at = end;
}

/* At "${". What stands in it is checked, not replaced: libConfuse does that. */
static void skip_variable(struct cleaner *c)
{
    size_t len = strcspn(c->at, "}\n");
    char name[128];

    if (c->at[len] != '}') {
        report(c, "\"${\" is not closed on its line; write ${NAME} or ${NAME:-default}");
        c->at += 2;
        return;
    }
    c->at += 2;
    len -= 2;
    if (len >= sizeof name) {
        report(c, "the name of an environment variable is at most %zu letters long", sizeof name - 1);
    } else if (!memmem(c->at, len, ":-", 2)) {
        memcpy(name, c->at, len);
        name[len] = '\0';
        if (!getenv(name))
            report(c, "the environment variable \"%s\" is not set; set it, or write ${%s:-default}", name,
                   name);
    }
    c->at += len + 1;
}

/* Whether what follows a backslash is a NUL: nothing but zeros, up to two after an x, else up to three. */
static bool is_nul_escape(const char *p)
{
    bool hex = *p == 'x';
    const char *digits = p + hex;
    size_t n = strspn(digits, hex ? "0123456789abcdefABCDEF" : "01234567");
    size_t most = hex ? 2 : 3;

    return n && strspn(digits, "0") >= (n < most ? n : most);
}

/* At a backslash in double quotes. */
static void skip_escape(struct cleaner *c)
{
    c->at++;
    if (is_nul_escape(c->at))
        report(c, "a text cannot contain a NUL; remove the escape that makes one");
    c->place.line += *c->at == '\n';
    c->at += *c->at ? 1 : 0;
}

static void skip_quoted(struct cleaner *c)
{
    struct config_place opened = c->place;
    char quote = *c->at++;

    while (*c->at && *c->at != quote) {
        if (quote == '"' && *c->at == '\\') {
            skip_escape(c);
        } else if (quote == '"' && c->at[0] == '$' && c->at[1] == '{') {
            skip_variable(c);
        } else {
            c->at += *c->at == '\\' && c->at[1] && c->at[1] != '\n' ? 1 : 0; /* what it escapes is no quote */
            c->place.line += *c->at == '\n';
            c->at++;
        }
    }
    if (!*c->at) {
        c->place = opened;
        report(c, "this quote is never closed; end the text with %c", quote);
        give_up(c);
        return;
    }
    c->at++;
}

static void skip_word(struct cleaner *c)
{
    size_t len = strcspn(c->at, " \t\r\n#\"'={}()+,*");

    c->at += len;
    if (c->at[-1] == '$' && *c->at == '{')
        report(c, "a value with ${NAME} inside needs quotes: \"...${NAME}...\"");
}

/* Parentheses are for include("FILE") only. libConfuse forgets to free what it read of a wrong one. */
static void note_token(struct cleaner *c, char token)
{
    if ((c->before == '(' && token != 'w') || (c->before == 'f' && token != ')'))
        report(c, "parentheses are for one file; write include(\"FILE\")");
    if (token == 'w' && c->before == '(')
        token = 'f';
    if (token == '{' && c->before == '=')
        token = '[';
    c->before = token;
}

static void open_brace(struct cleaner *c)
{
    note_token(c, '{');
    c->at++;
    if (c->depth == CONFIG_NESTING_MAX) {
        report(c, "sections are nested more than %d deep; close some with '}'", CONFIG_NESTING_MAX);
        give_up(c);
        return;
    }
    c->opened[c->depth++] = c->place.line;
}

static void close_brace(struct cleaner *c)
{
    if (c->before == '[')
        report(c, "this list is empty; name something, or remove the option");
    note_token(c, '}');
    c->at++;
    if (!c->depth) {
        report(c, "this '}' closes nothing; remove it, or look for a '}' too many before it");
        give_up(c);
        return;
    }
    c->depth--;
}

/* Takes one token, or one byte between tokens. */
static void step(struct cleaner *c)
{
    switch (*c->at) {
    case '\n':
        c->place.line++;
        c->at++;
        return;
    case ' ':
    case '\t':
    case '\r':
        c->at++;
        return;
    case '#':
        skip_line_comment(c);
        return;
    case '{':
        open_brace(c);
        return;
    case '}':
        close_brace(c);
        return;
    case '"':
    case '\'':
        note_token(c, 'w');
        skip_quoted(c);
        return;
    case '=':
    case ',':
    case '(':
    case ')':
        note_token(c, *c->at++);
        return;
    case '*':
    case '+':
        if (c->at[0] != '+' || c->at[1] != '=')
            report(c, "a value with %c inside needs quotes: \"...%c...\"", *c->at, *c->at);
        note_token(c, 'w');
        c->at++;
        return;
    default:
        break;
    }
    if (c->at[0] == '/' && c->at[1] == '/') {
        skip_line_comment(c);
    } else if (c->at[0] == '/' && c->at[1] == '*') {
        skip_long_comment(c);
    } else {
        note_token(c, 'w');
        if (c->at[0] == '$' && c->at[1] == '{')
            skip_variable(c);
        else
            skip_word(c);
    }
}

bool config_clean(char *text, const char *file, struct config_problems *problems)
{
    struct cleaner c = {.at = text, .place = {file, 1}, .problems = problems, .ok = true};

    while (*c.at)
        step(&c);
    note_token(&c, '\0');
    while (c.depth) {
        c.place.line = c.opened[--c.depth];
        report(&c, "this '{' is never closed; add a '}'");
    }
    return c.ok;
}
