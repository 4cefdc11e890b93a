/* SPDX-License-Identifier: Apache-2.0 */
/* hookline top: what a running bridge does, looked at each second. On a terminal the screen is
 * drawn anew and q or Ctrl-C ends it; else one line a second. However it ends, the terminal is as
 * it was. A bridge that goes away is waited for; one that was never there is an error at once. */
#include "top.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "cli.h"
#include "clock.h"

#define USAGE "top [--admin URL] [--token-file FILE]\non a terminal q ends it"
#define EVERY_MS 1000
#define ENTER "\033[?1049h\033[?25l" /* the other screen, no cursor */
#define LEAVE "\033[?25h\033[?1049l"

struct top {
    struct admin_client client;
    struct top_shot shots[2]; /* in turn */
    unsigned n;               /* looks that went well */
    bool terminal, keys;      /* stdout is one; so is stdin */
    struct termios before;
};

static volatile sig_atomic_t ended;

static void on_signal(int number)
{
    if (number != SIGWINCH) /* which only wakes who waits: the size is asked for at each drawing */
        ended = number;
}

/* --- the terminal
 * ------------------------------------------------------------------------------------------ */

static void write_all(const struct buf *b)
{
    fwrite(b->p, 1, b->n, stdout);
    fflush(stdout);
}

static void terminal_enter(struct top *t)
{
    struct termios raw;

    t->terminal = isatty(STDOUT_FILENO);
    t->keys = t->terminal && isatty(STDIN_FILENO) && !tcgetattr(STDIN_FILENO, &t->before);
    if (t->keys) {
        raw = t->before;
        raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        raw.c_cc[VSUSP] = _POSIX_VDISABLE; /* a stopped top would leave the terminal like this */
        tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
    if (t->terminal) {
        fputs(ENTER, stdout);
        fflush(stdout);
    }
}

static void terminal_leave(struct top *t)
{
    if (t->terminal) {
        fputs(LEAVE, stdout);
        fflush(stdout);
    }
    if (t->keys)
        tcsetattr(STDIN_FILENO, TCSANOW, &t->before);
}

static struct top_size terminal_size(void)
{
    struct winsize w;

    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) || !w.ws_col || !w.ws_row)
        return (struct top_size){ 80, 24, true };
    return (struct top_size){ w.ws_col, w.ws_row, true };
}

/* --- looking and showing
 * ------------------------------------------------------------------------------------------ */

static int fetch(struct top *t, const char *path, struct buf *into)
{
    bool quiet = t->n > 0;
    int rc = admin_client_call(&t->client, "GET", xstrdup(path), SPAN_NONE, quiet);

    into->n = 0;
    if (!rc)
        buf_span(into, buf_as_span(&t->client.call.text));
    return rc;
}

/* 0, or an exit code. */
static int look(struct top *t)
{
    struct top_shot *s = &t->shots[t->n % 2];
    int rc = fetch(t, "/metrics", &s->metrics);

    s->at_ms = clock_mono_ms();
    if (!rc)
        rc = fetch(t, "/status", &s->status);
    t->n += !rc;
    return rc;
}

static void put_screen(const struct top *t, bool away)
{
    const struct top_shot *now = &t->shots[(t->n - 1) % 2];
    struct buf text = BUF_INIT, out = BUF_INIT;
    struct top_size size = terminal_size();
    struct span rest, line, gone = S("the bridge does not answer; this is how it was");

    top_screen(t->n > 1 ? &t->shots[t->n % 2] : NULL, now, client_admin(t->client.admin), &size,
               &text);
    buf_adds(&out, "\033[H");
    rest = buf_as_span(&text);
    while (rest.p) {
        line = span_cut(&rest, '\n');
        if (away && line.p == text.p)
            line = span_of(gone.p, MIN(gone.n, (size_t)size.columns));
        buf_span(&out, line);
        buf_adds(&out, rest.p ? "\033[K\r\n" : "\033[K\033[J");
    }
    write_all(&out);
    buf_free(&text);
    buf_free(&out);
}

static void put_line(const struct top *t, bool away)
{
    char time[CLOCK_TEXT_MAX];
    struct buf out = BUF_INIT;

    clock_text(clock_wall_ms(), time);
    if (away)
        buf_printf(&out, "%s the bridge does not answer\n", time);
    else if (t->n > 1)
        top_line(&t->shots[t->n % 2], &t->shots[(t->n - 1) % 2], time, &out);
    write_all(&out);
    buf_free(&out);
}

/* Until a time on the clock that does not jump, a key, a signal. False: it is to end. */
static bool pause_until(const struct top *t, int64_t until_ms)
{
    struct pollfd p = { .fd = t->keys ? STDIN_FILENO : -1, .events = POLLIN };
    int64_t left = until_ms - clock_mono_ms();
    char key = 0;

    if (ended)
        return false;
    if (poll(&p, 1, (int)MAX(left, 0)) > 0 && read(STDIN_FILENO, &key, 1) < 1)
        return errno == EINTR;
    return !ended && key != 'q' && key != 'Q';
}

static int run(struct top *t)
{
    int rc = look(t);

    if (rc)
        return rc;
    terminal_enter(t);
    for (int64_t next = clock_mono_ms();;) {
        if (t->terminal)
            put_screen(t, rc);
        else
            put_line(t, rc);
        if (ferror(stdout) || !pause_until(t, next + EVERY_MS))
            break;
        if (clock_mono_ms() < next + EVERY_MS)
            continue; /* another size: draw what is known */
        next = clock_mono_ms();
        rc = look(t);
    }
    terminal_leave(t);
    return EXIT_OK;
}

int cmd_top(int argc, char **argv)
{
    struct top t = { .client.command = "top" };
    const struct option_row rows[] = { { "--admin", NULL, &t.client.admin, NULL },
                                       { "--token-file", NULL, &t.client.token_file, NULL },
                                       { 0 } };
    static const int caught[] = { SIGINT, SIGTERM, SIGHUP, SIGWINCH };
    const struct sigaction act = { .sa_handler = on_signal }; /* calls are interrupted */
    int left = options_take(argc, argv, rows, USAGE), rc;

    if (left == -2)
        return EXIT_OK;
    if (left) {
        if (left > 0)
            fprintf(stderr, "usage: hookline %s\n", USAGE);
        return EXIT_BAD_USAGE;
    }
    for (size_t i = 0; i < ARRAY_LEN(caught); i++)
        sigaction(caught[i], &act, NULL);
    signal(SIGPIPE, SIG_IGN); /* `| head` ends it by the failed write */
    rc = admin_client_init(&t.client);
    t.client.call.timeout_s = 5;
    if (!rc)
        rc = run(&t);
    admin_client_free(&t.client);
    for (size_t i = 0; i < ARRAY_LEN(t.shots); i++) {
        buf_free(&t.shots[i].metrics);
        buf_free(&t.shots[i].status);
    }
    return rc;
}
