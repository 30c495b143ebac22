/* words.c - see words.h. One pass over the text. What is written is never longer than what was read. */
#include "base/words.h"

#include <string.h>

static const char BLANKS[] = " \t\r\n";
static const char FOR_A_SHELL[] = "|&;<>()$`";

struct splitter {
    const char *at;
    char *to;
    const char *why;
};

/* At the opening quote. */
static void take_quoted(struct splitter *s)
{
    char quote = *s->at++;

    while (*s->at && *s->at != quote) {
        if (quote == '"' && *s->at == '\\' && s->at[1] && strchr("\"\\$`", s->at[1]))
            s->at++;
        else if (quote == '"' && (*s->at == '$' || *s->at == '`'))
            s->why =
                "has a $ or ` that only a shell would follow; put it in single quotes, or run sh -c '...'";
        *s->to++ = *s->at++;
    }
    if (*s->at)
        s->at++;
    else
        s->why = "has a quote that is never closed; close it";
}

static void take_word(struct splitter *s)
{
    while (*s->at && !strchr(BLANKS, *s->at) && !s->why) {
        if (*s->at == '\'' || *s->at == '"') {
            take_quoted(s);
            continue;
        }
        if (strchr(FOR_A_SHELL, *s->at))
            s->why =
                "has one of | & ; < > ( ) $ ` outside of quotes, and no shell runs it; quote that, or run "
                "sh -c '...'";
        if (*s->at == '\\' && !s->at[1])
            s->why = "ends in a backslash; remove it";
        else if (*s->at == '\\')
            s->at++;
        *s->to++ = *s->at++;
    }
    *s->to++ = '\0';
}

size_t words_split(const char *text, char *room, char **words, const char **why)
{
    struct splitter s = {text, room, NULL};
    size_t n = 0;

    for (s.at += strspn(s.at, BLANKS); *s.at && !s.why; s.at += strspn(s.at, BLANKS)) {
        words[n++] = s.to;
        take_word(&s);
    }
    *why = s.why;
    return s.why ? 0 : n;
}
