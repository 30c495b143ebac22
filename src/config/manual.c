/* manual.c - the reference of the configuration file, as Markdown and as a manual page, from the rows of table.c.
 *
 * One walk over the tables; a format is a set of functions that write. */
#include <stdio.h>
#include <string.h>

#include "config/config.h"
#include "config/table.h"
#include "config/value.h"

static const char *const syntax[] = {
    "Sections are NAME TITLE { ... }, options NAME = VALUE, lists NAME = { VALUE, VALUE }. What follows a # "
    "is a "
    "comment. A value with spaces or one of # { } ( ) = + * , and quotes in it stands in \"double quotes\".",
    "Times have a unit: ms, s, m or h. Sizes are in bytes, or have a unit: k, m or g, powers of 1024. A "
    "plain 0 needs "
    "none.",
    "${NAME} stands for an environment variable, ${NAME:-VALUE} for it or a default. include(\"FILE\") puts "
    "another "
    "file in its place; FILE is relative to the file that includes it.",
    "An option that is unknown, given twice, out of bounds or without effect is an error.",
};

struct format {
    void (*start)(FILE *out);
    void (*paragraph)(FILE *out, const char *text);
    void (*section)(FILE *out, const struct config_table *table, const char *inside);
    void (*row)(FILE *out, const struct config_row *row);
};

static const char RESTART[] = " A reload does not change it; an upgrade does.";

/* "1ms to 24h; 0: off"; empty when the type has no bounds. */
static void bounds_text(const struct config_row *row, char *text, size_t bytes)
{
    char low[CONFIG_BOUND_TEXT_MAX], high[CONFIG_BOUND_TEXT_MAX];
    size_t used = 0;

    text[0] = '\0';
    if (row->high) {
        config_number_text(row->type, row->low, low);
        config_number_text(row->type, row->high, high);
        used = (size_t)snprintf(text, bytes, "%s to %s", low, high);
    }
    if (row->zero)
        snprintf(text + used, bytes - used, "%s0: %s", used ? "; " : "", row->zero);
    for (size_t i = 0; row->choices && row->choices[i]; i++)
        used += (size_t)snprintf(text + used, bytes - used, "%s%s", i ? ", " : "", row->choices[i]);
}

/* --- Markdown ------------------------------------------------------------------------------------- */

static void markdown_start(FILE *out)
{
    fputs("# The configuration file\n", out);
}

static void markdown_text(FILE *out, const char *text)
{
    for (; *text; text++) {
        if (strchr("*|_<>\\`", *text))
            fputc('\\', out);
        fputc(*text, out);
    }
}

static void markdown_paragraph(FILE *out, const char *text)
{
    fputc('\n', out);
    markdown_text(out, text);
    fputc('\n', out);
}

static void markdown_section(FILE *out, const struct config_table *table, const char *inside)
{
    if (*table->name)
        fprintf(out, "\n## %s%s%s\n\nStands in %s.", table->name, table->title ? " " : "",
                table->title ? table->title : "", inside);
    else
        fputs("\n## Top of the file\n", out);
    markdown_paragraph(out, table->help);
    fputs("\n| option | type | default | bounds | meaning |\n|---|---|---|---|---|\n", out);
}

static void markdown_row(FILE *out, const struct config_row *row)
{
    char bounds[256];

    bounds_text(row, bounds, sizeof bounds);
    fprintf(out, "| `%s` | %s%s | ", row->name, row->type->list ? "list of " : "", row->type->name);
    if (row->text)
        fprintf(out, "`%s`", row->text);
    else
        markdown_text(out, row->without);
    fputs(" | ", out);
    markdown_text(out, bounds);
    fputs(" | ", out);
    markdown_text(out, row->help);
    fprintf(out, "%s |\n", row->restart ? RESTART : "");
}

/* --- roff ----------------------------------------------------------------------------------------- */

static void roff_text(FILE *out, const char *text)
{
    if (*text == '.' || *text == '\'')
        fputs("\\&", out);
    for (; *text; text++)
        switch (*text) {
        case '\\':
            fputs("\\e", out);
            break;
        case '-':
            fputs("\\-", out);
            break;
        default:
            fputc(*text, out);
        }
}

static void roff_start(FILE *out)
{
    fputs(".TH MAITRED.CONF 5\n.SH NAME\nmaitred.conf \\- configuration of maitred\n.SH DESCRIPTION", out);
}

static void roff_paragraph(FILE *out, const char *text)
{
    fputs("\n.PP\n", out);
    roff_text(out, text);
}

static void roff_section(FILE *out, const struct config_table *table, const char *inside)
{
    if (*table->name)
        fprintf(out, "\n.SH %s%s%s\nStands in %s.", table->name, table->title ? " " : "",
                table->title ? table->title : "", inside);
    else
        fputs("\n.SH TOP OF THE FILE", out);
    roff_paragraph(out, table->help);
}

static void roff_row(FILE *out, const struct config_row *row)
{
    char bounds[256];

    bounds_text(row, bounds, sizeof bounds);
    fputs("\n.TP\n.B ", out);
    roff_text(out, row->name);
    fputc('\n', out);
    roff_text(out, row->help);
    fprintf(out, "%s\nA %s%s", row->restart ? RESTART : "", row->type->list ? "list of " : "",
            row->type->name);
    if (*bounds)
        fputs(", ", out);
    roff_text(out, bounds);
    fputs(". Default: ", out);
    roff_text(out, row->text ? row->text : row->without);
    fputc('.', out);
}

/* -------------------------------------------------------------------------------------------------- */

static void write_table(FILE *out, const struct format *format, const struct config_table *table,
                        const char *inside)
{
    format->section(out, table, inside);
    for (size_t i = 0; i < table->n_rows; i++)
        format->row(out, &table->rows[i]);
    for (size_t i = 0; table->inside[i]; i++)
        write_table(out, format, table->inside[i], *table->name ? table->name : "the file");
}

static void write_all(FILE *out, const struct format *format)
{
    format->start(out);
    for (size_t i = 0; i < sizeof syntax / sizeof *syntax; i++)
        format->paragraph(out, syntax[i]);
    write_table(out, format, &config_table_top, "");
}

void config_write_reference(FILE *out)
{
    static const struct format markdown = {markdown_start, markdown_paragraph, markdown_section,
                                           markdown_row};

    write_all(out, &markdown);
}

void config_write_manual(FILE *out)
{
    static const struct format roff = {roff_start, roff_paragraph, roff_section, roff_row};

    write_all(out, &roff);
    fputc('\n', out);
}
