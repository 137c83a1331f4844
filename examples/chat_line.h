/* Lines of the user's: with an editor and a history in a terminal, as they are in a pipe. */
#ifndef EXAMPLES_CHAT_LINE_H
#define EXAMPLES_CHAT_LINE_H

/* Read the history of earlier runs, which later lines are added to:
 * $XDG_STATE_HOME/minke/history, or ~/.local/state/minke/history. */
void history_open(void);
void history_close(void);

/* A line in fresh memory, without its end; NULL when there are no more.  In a terminal, prompt
 * stands in front; Ctrl-C there drops the line, and Ctrl-D in an empty one ends. */
char *read_line(const char *prompt);

/* Whether there is a terminal that the editor can use. */
int lines_are_edited(void);

#endif
