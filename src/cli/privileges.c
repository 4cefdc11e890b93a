/* SPDX-License-Identifier: Apache-2.0 */
/* Main thread, before any other: root becomes the user of process.user, for good. What only root
 * may do is done before: the configuration has been read, with its secrets and private keys; the
 * addresses are bound; the log's folder is made. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "harden.h"
#include "log.h"

struct identity {
    const char *name;
    uid_t uid;
    gid_t gid;
};

static int find_user(const char *name, struct identity *out, struct err *e)
{
    struct passwd *found;

    *out = (struct identity){ .name = name };
    errno = 0;
    found = getpwnam(name);
    if (!found)
        return err_set(e, EXIT_BAD_CONFIG, "process.user: this machine has no user %s%s%s", name,
                       errno ? ": " : "", errno ? strerrordesc_np(errno) : "");
    if (!found->pw_uid)
        return err_set(e, EXIT_BAD_CONFIG,
                       "process.user: %s is root: name a user that has no rights of its own", name);
    out->uid = found->pw_uid;
    out->gid = found->pw_gid;
    return 0;
}

int check_user(const char *name, struct err *e)
{
    struct identity ignored;

    return name ? find_user(name, &ignored, e) : 0;
}

/* Each intake thread has a socket of its own. */
static int reserve(const struct conf *c, bool drain, struct err *e)
{
    unsigned threads = c->threads ? (unsigned)c->threads : intake_default_threads();

    if (c->admin.probes[0] && net_reserve(c->admin.probes, 1, e))
        return err_wrap(e, "admin.probes");
    if (net_reserve(c->admin.listen, 1, e))
        return err_wrap(e, "admin");
    for (size_t i = 0; i < c->listen.n && !drain; i++)
        if (net_reserve(((const struct net_listen_cfg *)c->listen.v[i])->address, threads, e))
            return -1;
    return 0;
}

/* Only a folder that is made here is given away: of one that is there, opening the log says what is
 * wrong with it. */
static int make_log_folder(const char *dir, const struct identity *user, struct err *e)
{
    int fd, rc = 0;

    if (mkdir(dir, 0750))
        return errno == EEXIST ? 0 : err_errno(e, EXIT_IO, "wal: create folder %s", dir);
    fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fchown(fd, user->uid, user->gid))
        rc = err_errno(e, EXIT_IO, "wal: give folder %s to %s", dir, user->name);
    if (fd >= 0)
        close(fd);
    return rc;
}

/* A promise that is tried out: nothing of root is left, and nothing brings it back. */
static bool is_dropped(const struct identity *user)
{
    struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct caps[2] = { { 0 } };
    uid_t r, e, s;
    gid_t gr, ge, gs;

    if (getresuid(&r, &e, &s) || getresgid(&gr, &ge, &gs) || syscall(SYS_capget, &head, caps))
        return false;
    return r == user->uid && e == r && s == r && gr == user->gid && ge == gr && gs == gr &&
           !caps[0].permitted && !caps[1].permitted && setuid(0) && seteuid(0);
}

static int drop(const struct identity *user, struct err *e)
{
    if (initgroups(user->name, user->gid) || setgid(user->gid) || setuid(user->uid))
        return err_errno(e, EXIT_BAD_CONFIG,
                         "process.user: become %s (it takes CAP_SETUID and CAP_SETGID)",
                         user->name);
    if (!is_dropped(user))
        return err_set(e, EXIT_BAD_CONFIG,
                       "process.user: the rights of root could not be given up for good");
    return 0;
}

static void warn_of_file(const char *path, void *arg)
{
    if (access(path, R_OK) && errno == EACCES)
        log_warn("process.user cannot read this file: what is read of it from now on fails, so a "
                 "reload is rejected, and only a restart takes what changes",
                 KS("file", path), KS("user", arg));
}

int become_user(const struct conf *c, bool drain, struct err *e)
{
    struct identity user;

    if (!c->process.user)
        return 0;
    if (geteuid())
        return err_set(e, EXIT_BAD_CONFIG,
                       "process.user: only root can become %s, and this process is user %u: start "
                       "it as root, or leave process.user out",
                       c->process.user, (unsigned)geteuid());
    if (find_user(c->process.user, &user, e) || reserve(c, drain, e) ||
        make_log_folder(c->log.dir, &user, e) || drop(&user, e))
        return -1;
    if (c->process.core_dumps) /* the change of the user took them away */
        prctl(PR_SET_DUMPABLE, 1);
    log_info("root's rights are given up", KS("user", user.name), KU("uid", user.uid),
             KU("gid", user.gid));
    warn_of_file(c->file, c->process.user);
    cfg_files(conf_keys(), c, warn_of_file, c->process.user);
    return 0;
}
