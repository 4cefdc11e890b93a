/* SPDX-License-Identifier: Apache-2.0 */
/* The file is read once at the start into a tree of the keys that are in it. */
#include "effects.h"

#include <errno.h>
#include <search.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct effects {
    FILE *file;
    void *seen; /* "source id" */
};

static volatile sig_atomic_t stop;

static void on_signal(int signal)
{
    (void)signal;
    stop = 1;
}

int stopping(void)
{
    static int asked;
    const struct sigaction action = { .sa_handler = on_signal };

    if (!asked++) {
        sigaction(SIGINT, &action, NULL);
        sigaction(SIGTERM, &action, NULL);
    }
    return stop;
}

void die(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

static int compare(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* True: it was not there before. Takes the key. */
static int remember(struct effects *fx, char *key)
{
    char **at = tsearch(key, &fx->seen, compare);

    if (!at)
        die("out of memory");
    if (*at == key)
        return 1;
    free(key);
    return 0;
}

struct effects *effects_open(const char *path)
{
    struct effects *fx = calloc(1, sizeof *fx);
    char *line = NULL;
    size_t size = 0;
    ssize_t n;
    long good = 0;

    if (!fx || !(fx->file = fopen(path, "a+")))
        die("%s: %s", path, strerror(errno));
    rewind(fx->file);
    while ((n = getline(&line, &size, fx->file)) > 0 && line[n - 1] == '\n') {
        char *type = strrchr(line, ' ');
        good += n;
        if (type)
            remember(fx, strndup(line, (size_t)(type - line)));
    }
    free(line);
    /* A last line without its end was being written when the power went: it has had no effect. */
    if (ferror(fx->file) || ftruncate(fileno(fx->file), good) || fseek(fx->file, 0, SEEK_END))
        die("%s: %s", path, strerror(errno));
    return fx;
}

/* One word a field: blanks and control characters become %20 and so on. */
static void word(FILE *out, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];
        if (c <= ' ' || c == '%' || c == 127)
            fprintf(out, "%%%02X", c);
        else
            fputc(c, out);
    }
}

void effects_add(struct effects *fx, const char *source, size_t source_n, const char *id,
                 size_t id_n, const char *type, size_t type_n)
{
    char *key;
    size_t n;
    FILE *text = open_memstream(&key, &n);

    if (!text)
        die("out of memory");
    word(text, source, source_n);
    fputc(' ', text);
    word(text, id, id_n);
    if (fclose(text))
        die("out of memory");
    if (!remember(fx, key))
        return;
    fprintf(fx->file, "%s ", key); /* the tree keeps it */
    word(fx->file, type, type_n);
    fputc('\n', fx->file);
    if (fflush(fx->file))
        die("the effect could not be written: %s", strerror(errno));
}

void effects_sync(struct effects *fx)
{
    if (fdatasync(fileno(fx->file)))
        die("the effect could not be synced: %s", strerror(errno));
}

void effects_close(struct effects *fx)
{
    tdestroy(fx->seen, free);
    fclose(fx->file);
    free(fx);
}
