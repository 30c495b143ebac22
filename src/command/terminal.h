/* terminal.h - the terminal as a screen: raw, on its second page, and put back as it was whatever happens.
 *
 * Plain ANSI, as every terminal of the last decades has it. One screen per process; one thread. */
#ifndef COMMAND_TERMINAL_H
#define COMMAND_TERMINAL_H

#include <stdbool.h>

#include "base/slice.h"

/* Whether standard input and output are a terminal that can be a screen. */
bool terminal_is_there(void);

/* 0, or a negative errno and nothing has changed. Signals that are to end the screen are the caller's to catch;
 * SIGABRT puts it back by itself. */
int terminal_enter(void);
/* Puts everything back; also when it was done already. */
void terminal_leave(void);

/* 80x24 when the terminal does not know. */
void terminal_size(unsigned *columns, unsigned *lines);

/* Shows a frame: lines with a line feed between them. In one write, so that nothing flickers. False: the terminal is
 * gone. */
bool terminal_show(const char *frame);

/* Takes the next key off typed bytes: a byte, or TERMINAL_UP and so on. Sequences it does not know are skipped; -1: no
 * key is left. */
enum { TERMINAL_UP = 256, TERMINAL_DOWN, TERMINAL_ESCAPE };
int terminal_take_key(struct slice *typed);

#endif
