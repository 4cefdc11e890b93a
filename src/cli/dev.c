/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "buf.h"
#include "crypto.h"
#include "serve.h"

#define DIR_NAME "hookline-data"
#define SECRET_NAME DIR_NAME "/demo.secret"

/* whsec_ and 32 random bytes in base64, readable by nobody else. */
static int make_secret(struct err *e)
{
    uint8_t raw[32];
    struct buf text = BUF_INIT;
    int fd = open(SECRET_NAME, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600), rc = 0;

    if (fd < 0)
        return errno == EEXIST ? 0 : err_errno(e, EXIT_IO, "create %s", SECRET_NAME);
    crypto_random(raw, sizeof raw);
    buf_adds(&text, "whsec_");
    buf_base64(&text, span_of(raw, sizeof raw));
    buf_addc(&text, '\n');
    if (write(fd, text.p, text.n) != (ssize_t)text.n)
        rc = err_errno(e, EXIT_IO, "write %s", SECRET_NAME);
    close(fd);
    buf_free(&text);
    return rc;
}

char *dev_configuration(const char *listen, const char *admin, struct err *e)
{
    struct buf b = BUF_INIT;

    if (mkdir(DIR_NAME, 0750) && errno != EEXIST) {
        err_errno(e, EXIT_IO, "create ./%s", DIR_NAME);
        return NULL;
    }
    if (make_secret(e))
        return NULL;
    buf_adds(&b, "listen: ");
    buf_json_string(&b, span_str(listen ? listen : "127.0.0.1:8080"));
    if (admin) {
        buf_adds(&b, "\nadmin: { listen: ");
        buf_json_string(&b, span_str(admin));
        buf_adds(&b, " }");
    }
    buf_adds(&b,
             "\nlog: { dir: " DIR_NAME ", allow_volatile: true }\n"
             "sources:\n  demo:\n    provider: gemini\n    secrets: { file: " SECRET_NAME " }\n");
    return buf_take(&b);
}

void dev_hint(const char *url, const char *admin)
{
    const char *self = program_invocation_name; /* as typed: it may not be in PATH */
    bool other = strcmp(admin, "http://127.0.0.1:9180") != 0;

    printf("\nhookline is running. In another terminal, in this folder:\n\n"
           "  %s send --provider gemini --secret @" SECRET_NAME
           " --type video.generated --job video-1 %s/hooks/demo\n"
           "  %s tail%s%s\n\n"
           "or look at it in a browser: %s/\n\n",
           self, url, self, other ? " --admin " : "", other ? admin : "", admin);
    fflush(stdout);
}
