/* SPDX-License-Identifier: Apache-2.0 */
/* Main thread, before any other: threads inherit all of it.
 *
 * Landlock leaves: writing in the log's folder and in those of our Unix sockets; running programs
 * nowhere; and where the sandbox is strict, reading of the system's folders and of those of all
 * files that the configuration names. A file that a later configuration names in another folder
 * cannot be read then, so that configuration is rejected, and a restart takes it: which is why
 * that is not the default. */
#include "harden.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "log.h"

#define READING (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define WRITING                                                                                    \
    (LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |                               \
     LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |  \
     LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK | \
     LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_SYM)
/* The second version of it asks before a file goes from one folder to another, the third before it
 * is cut; headers of Debian 12 may be older than the kernel. */
#define MOVING (UINT64_C(1) << 13)
#define TRUNCATING (UINT64_C(1) << 14)

struct sandbox {
    int rules;
    uint64_t handled;
};

/* What is not there is not granted. */
static void grant(const struct sandbox *s, const char *path, uint64_t access)
{
    struct landlock_path_beneath_attr at = { .allowed_access = access & s->handled };
    struct stat st;

    at.parent_fd = open(path, O_PATH | O_CLOEXEC);
    if (at.parent_fd < 0)
        return;
    if (!fstat(at.parent_fd, &st) && !S_ISDIR(st.st_mode))
        at.allowed_access &=
            LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | TRUNCATING;
    syscall(SYS_landlock_add_rule, s->rules, LANDLOCK_RULE_PATH_BENEATH, &at, 0);
    close(at.parent_fd);
}

static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    return !slash          ? xstrdup(".")
           : slash == path ? xstrdup("/")
                           : span_dup(span_of(path, (size_t)(slash - path)));
}

/* Its whole folder, since a link in it may lead to another file tomorrow; of the root only itself.
 */
static void grant_file(const char *path, void *arg)
{
    struct stat st;
    char *folder;

    if (stat(path, &st) || !S_ISREG(st.st_mode))
        return;
    folder = folder_of(path);
    grant(arg, strcmp(folder, "/") ? folder : path, READING);
    free(folder);
}

/* At the first start it is made here: what is made later would need its parent open. Where it
 * cannot be made, opening the log says why. */
static void grant_log(const struct sandbox *s, const char *dir)
{
    if (mkdir(dir, 0750) && errno != EEXIST)
        return;
    grant(s, dir, READING | WRITING | MOVING | TRUNCATING);
}

static void grant_socket(const struct sandbox *s, const char *address)
{
    char *folder;

    if (!address || strncmp(address, "unix:", 5) != 0)
        return;
    folder = folder_of(address + 5);
    grant(s, folder, READING | LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REMOVE_FILE);
    free(folder);
}

static void grant_all(struct sandbox *s, const struct conf *c)
{
    static const char *const system[] = { "/etc", "/usr", "/lib",     "/lib64", "/proc",
                                          "/sys", "/run", "/var/run", "/opt" };

    for (size_t i = 0; i < ARRAY_LEN(system); i++)
        grant(s, system[i], READING);
    grant(s, "/dev", READING | LANDLOCK_ACCESS_FS_WRITE_FILE);
    grant_file(c->file, s);
    cfg_paths(conf_keys(), c, grant_file, s);
    grant_log(s, c->log.dir);
    for (size_t i = 0; i < c->listen.n; i++)
        grant_socket(s, ((const struct net_listen_cfg *)c->listen.v[i])->address);
    grant_socket(s, c->admin.listen);
    grant_socket(s, c->admin.probes);
}

/* 0: done, 1: the kernel has it not, -1: it went wrong. */
static int enter_sandbox(const struct conf *c)
{
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    struct sandbox s = { .handled = LANDLOCK_ACCESS_FS_EXECUTE | WRITING };
    struct landlock_ruleset_attr attr;
    long rc;

    if (version < 1)
        return 1;
    if (c->process.sandbox == SANDBOX_STRICT)
        s.handled |= READING;
    if (version >= 2)
        s.handled |= MOVING;
    if (version >= 3)
        s.handled |= TRUNCATING;
    memset(&attr, 0, sizeof attr);
    attr.handled_access_fs = s.handled;
    s.rules = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0);
    if (s.rules < 0)
        return -1;
    grant_all(&s, c);
    rc = syscall(SYS_landlock_restrict_self, s.rules, 0);
    close(s.rules);
    return rc ? -1 : 0;
}

int harden(const struct conf *c, struct err *e)
{
    struct rlimit none = { 0, 0 };
    int rc;

    if (!c->process.core_dumps) {
        if (setrlimit(RLIMIT_CORE, &none) || prctl(PR_SET_DUMPABLE, 0))
            log_warn("core dumps could not be switched off", KERRNO());
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        log_warn("new privileges could not be given up", KERRNO());
    if (c->process.sandbox == SANDBOX_OFF)
        return 0;
    if (c->jobs.fallback.command.n) { /* what it starts would inherit the sandbox */
        if (c->process.sandbox == SANDBOX_STRICT)
            return err_set(e, EXIT_BAD_CONFIG,
                           "process.sandbox: strict, and jobs.fallback.command runs a program");
        log_info("no sandbox: jobs.fallback.command runs a program");
        return 0;
    }
    rc = enter_sandbox(c);
    if (rc == 0)
        return 0;
    if (c->process.sandbox == SANDBOX_STRICT)
        return err_set(e, EXIT_BAD_CONFIG, "process.sandbox: this kernel has no Landlock%s%s",
                       rc < 0 ? " that works: " : "", rc < 0 ? strerrordesc_np(errno) : "");
    log_info("no sandbox: this kernel has no Landlock");
    return 0;
}
